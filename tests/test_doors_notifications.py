"""Deadlines that are announced by hand, and what chats are told, through both doors."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from app.clients import Clients
from app.models import Cafe, Notification, NotificationKind, NotificationStatus, Order, Outbox
from app.resolvers.notifications import DELIVERY_QUEUE
from tests.conftest import USER_TGID, Lunch, add_lunch, event_types
from tests.doors import CHAT, OTHER_CHAT, Answer, Door, an_order, rows, walk
from tests.told import change, tell

T0 = datetime(2026, 3, 4, 10, 31, tzinfo=UTC)


async def ask(door: Door, operation: str, lunch: Lunch) -> Answer:
    """Ask about a cafe and its open date."""
    return await door(operation, cafe_id=lunch.cafe.id, date=lunch.open_date)


async def test_a_deadline_is_announced_once(manager_door: Door, linked_lunch: Lunch) -> None:
    """The second time there is nothing to do."""
    answers = [await ask(manager_door, "announce_deadline", linked_lunch) for _ in range(2)]

    assert [answer.data for answer in answers] == [True, False]


async def test_everybody_is_told_once_that_a_deadline_has_passed(
    manager_door: Door, clients: Clients, linked_lunch: Lunch
) -> None:
    """One event, however often it is announced."""
    for _ in range(2):
        await ask(manager_door, "announce_deadline", linked_lunch)

    assert await event_types(clients) == ["deadline.passed"]


async def test_a_cafe_without_a_chat_may_close(manager_door: Door, lunch: Lunch) -> None:
    """Ordering ends for people, whether the cafe is told or not."""
    assert (await ask(manager_door, "announce_deadline", lunch)).data is True


async def test_orders_are_confirmed_when_their_deadline_is_announced(manager_door: Door, linked_lunch: Lunch) -> None:
    """Those of that cafe and day that are not cancelled."""
    next_day = {"date": linked_lunch.open_date + timedelta(days=1)}
    orders = [
        (await manager_door("place_order", **an_order(linked_lunch, **others))).data["id"]
        for others in ({}, {"tgid": USER_TGID}, next_day)
    ]
    await manager_door("cancel_order", id=orders[1])

    await ask(manager_door, "announce_deadline", linked_lunch)

    answers = [await manager_door("order", id=id_) for id_ in orders]
    assert [answer.data["status"] for answer in answers] == ["confirmed", "cancelled", "pending"]


async def test_users_change_nothing_after_an_announcement(
    manager_door: Door, user_door: Door, linked_lunch: Lunch, ordered: Order
) -> None:
    """Ordering is closed, and the refusal says since when."""
    begin = datetime.now(UTC).replace(microsecond=0)
    await ask(manager_door, "announce_deadline", linked_lunch)
    end = datetime.now(UTC)

    answers = [
        await user_door("place_order", **an_order(linked_lunch)),
        await user_door("update_order", id=ordered.id, notes="Hot"),
        await user_door("cancel_order", id=ordered.id),
    ]

    assert [answer.code for answer in answers] == ["DEADLINE_PASSED"] * 3
    assert all(begin <= datetime.fromisoformat(answer.details["closed_at"]) <= end for answer in answers)


async def test_availability_knows_of_an_announcement(manager_door: Door, user_door: Door, linked_lunch: Lunch) -> None:
    """Whoever asks is told not to try."""
    await ask(manager_door, "announce_deadline", linked_lunch)

    availability = (await ask(user_door, "order_availability", linked_lunch)).data

    assert (availability["can_order"], availability["refusal"]) == (False, "deadline_passed")


async def test_a_preview_is_what_is_sent(
    manager_door: Door, clients: Clients, linked_lunch: Lunch, ordered: Order
) -> None:
    """To the letter; and looking is not sending."""
    before = await rows(clients)
    preview = (await ask(manager_door, "notification_preview", linked_lunch)).data
    assert await rows(clients) == before

    await ask(manager_door, "announce_deadline", linked_lunch)
    await tell(clients, linked_lunch)

    [sent] = (await manager_door("notifications")).data["items"]
    assert preview.startswith(f"📋 <b>Basil &amp; Thyme</b> — order for {linked_lunch.open_date}")
    assert preview == sent["text"]


async def test_a_preview_after_a_change_is_the_correction(
    manager_door: Door, clients: Clients, linked_lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """To the letter, too."""
    await manager_door("update_order", id=ordered.id, dish_ids=[linked_lunch.other_soup.id, linked_lunch.main.id])

    preview = (await ask(manager_door, "notification_preview", linked_lunch)).data

    correction = await tell(clients, linked_lunch, is_correction=True)
    assert "−1 Borscht (Ivan)\n+1 Solyanka (Ivan)" in preview
    assert preview == correction.text


async def test_what_a_cafe_knows_has_no_preview(
    manager_door: Door, linked_lunch: Lunch, announced: Notification
) -> None:
    """There is an answer, and it is null."""
    answer = await ask(manager_door, "notification_preview", linked_lunch)

    assert (answer.response.status_code, answer.code, answer.data) == (200, None, None)


async def test_without_orders_there_is_no_preview(
    manager_door: Door, user_door: Door, linked_lunch: Lunch, ordered: Order
) -> None:
    """An order that is cancelled is none."""
    await user_door("cancel_order", id=ordered.id)

    assert (await ask(manager_door, "notification_preview", linked_lunch)).data is None


async def test_a_cafe_without_a_chat_has_a_preview(manager_door: Door, lunch: Lunch) -> None:
    """A manager may look before the cafe is linked."""
    await manager_door("place_order", **an_order(lunch))

    assert "Borscht" in (await ask(manager_door, "notification_preview", lunch)).data


async def test_a_message_has_everything_that_is_known_of_it(
    manager_door: Door, clients: Clients, announced: Notification
) -> None:
    """From when it was queued until somebody has read it."""
    queued = await manager_door("notifications")
    await change(
        clients,
        announced,
        parts=["<b>Soup</b>", "and more"],
        status=NotificationStatus.SENT,
        attempts=2,
        sent_at=T0,
        acknowledged_at=T0 + timedelta(minutes=1),
        acknowledged_by="Анна",
    )
    sent = await manager_door("notifications")

    known = {
        "id": "1",
        "cafe_id": "1",
        "cafe_name": "Basil & Thyme",
        "kind": "orders",
        "date": str(announced.date),
        "version": 1,
        "tg_chat_id": CHAT,
        "text": announced.text,
        "status": "queued",
        "attempts": 0,
        "error": None,
        "created_at": announced.created_at.astimezone(UTC).isoformat(),
        "sent_at": None,
        "acknowledged_at": None,
        "acknowledged_by": None,
    }
    assert queued.data["items"] == [known]
    assert sent.data["items"] == [
        known
        | {
            "text": "<b>Soup</b>\n\nand more",
            "status": "sent",
            "attempts": 2,
            "sent_at": "2026-03-04T10:31:00+00:00",
            "acknowledged_at": "2026-03-04T10:32:00+00:00",
            "acknowledged_by": "Анна",
        }
    ]


async def test_what_is_about_no_day_has_no_date(manager_door: Door, clients: Clients, linked_lunch: Lunch) -> None:
    """Such as the news that a chat is linked; a failure says why."""
    async with clients.db() as session:
        session.add(
            Notification(
                cafe_id=linked_lunch.cafe.id,
                kind=NotificationKind.LINK_APPROVED,
                tg_chat_id=CHAT,
                parts=["Linked"],
                status=NotificationStatus.FAILED,
                error="the bot was kicked",
            )
        )

    [told] = (await manager_door("notifications")).data["items"]

    assert (told["kind"], told["date"], told["version"]) == ("link_approved", None, 1)
    assert (told["status"], told["error"]) == ("failed", "the bot was kicked")


@pytest.fixture
async def messages(clients: Clients, people: None) -> None:
    """Six messages of two cafes; the last three were queued at the same time."""
    for name in ("Basil & Thyme", "Green Fork"):
        await add_lunch(clients, name)
    day, next_day = T0.date(), T0.date() + timedelta(days=1)
    told: list[tuple[dict[str, Any], int]] = [
        ({"cafe_id": 1, "kind": NotificationKind.ORDERS, "date": day, "status": NotificationStatus.SENT}, 0),
        ({"cafe_id": 2, "kind": NotificationKind.ORDERS, "date": day, "status": NotificationStatus.FAILED}, 2),
        ({"cafe_id": 1, "kind": NotificationKind.CORRECTION, "date": day, "version": 2}, 1),
        ({"cafe_id": 1, "kind": NotificationKind.ORDERS, "date": next_day, "status": NotificationStatus.SENDING}, 3),
        ({"cafe_id": 2, "kind": NotificationKind.LINK_APPROVED, "status": NotificationStatus.SENT}, 3),
        ({"cafe_id": 1, "kind": NotificationKind.ALERT, "status": NotificationStatus.SENT}, 3),
    ]
    async with clients.db() as session:
        for fields, minutes in told:
            created_at = T0 + timedelta(minutes=minutes)
            session.add(Notification(tg_chat_id=CHAT, parts=["Soup"], created_at=created_at, **fields))
            await session.flush()


async def test_the_newest_message_comes_first(manager_door: Door, messages: None) -> None:
    """On pages of whatever size; of those of one moment the last."""
    walks = {first: await walk(manager_door, "notifications", first=first) for first in (1, 2, 5, 100)}

    newest_first = ["6", "5", "4", "2", "3", "1"]
    assert walks == dict.fromkeys(walks, newest_first)


async def test_messages_are_filtered(manager_door: Door, messages: None) -> None:
    """Filters go together, and the total counts what they leave."""
    day = T0.date()
    filters: list[tuple[dict[str, object], list[int]]] = [
        ({}, [6, 5, 4, 2, 3, 1]),
        ({"cafe_id": 2}, [5, 2]),
        ({"cafe_id": 999}, []),
        ({"date": day}, [2, 3, 1]),
        ({"date": day + timedelta(days=2)}, []),
        ({"status": "queued"}, [3]),
        ({"status": "sending"}, [4]),
        ({"status": "sent"}, [6, 5, 1]),
        ({"status": "failed"}, [2]),
        ({"cafe_id": 1, "status": "sent"}, [6, 1]),
        ({"cafe_id": 1, "date": day, "status": "sent"}, [1]),
        ({"cafe_id": 2, "date": day, "status": "sent"}, []),
    ]

    answers = [await manager_door("notifications", **wanted) for wanted, _ in filters]

    found = [([int(told["id"]) for told in answer.data["items"]], answer.data["total"]) for answer in answers]
    assert found == [(ids, len(ids)) for _, ids in filters]


async def test_pages_of_filtered_messages(manager_door: Door, messages: None) -> None:
    """A cursor goes on where a filtered list was left."""
    assert await walk(manager_door, "notifications", cafe_id=1, first=1) == ["6", "4", "3", "1"]


async def test_messages_may_be_skipped(manager_door: Door, messages: None) -> None:
    """The total counts them all the same."""
    answer = await manager_door("notifications", first=2, skip=3)

    assert [told["id"] for told in answer.data["items"]] == ["2", "3"]
    assert (answer.data["total"], answer.data["page_info"]["has_next_page"]) == (6, True)


@pytest.fixture
async def failed(clients: Clients, announced: Notification) -> Notification:
    """The cafe's orders, which could not be sent after the first part."""
    await change(
        clients,
        announced,
        status=NotificationStatus.FAILED,
        error="it was no good",
        attempts=7,
        parts=["Soup", "and more"],
        tg_message_ids=[1],
    )
    return announced


async def deliveries(clients: Clients) -> list[bytes]:
    """What waits for Telegram: each time a message, and the part to begin with."""
    async with clients.db() as session:
        query = sa.select(Outbox.c.payload).where(Outbox.c.queue == DELIVERY_QUEUE).order_by(Outbox.c.id)
        return list(await session.scalars(query))


async def test_what_has_failed_is_sent_again(manager_door: Door, clients: Clients, failed: Notification) -> None:
    """It is queued like a new one, but goes on where it was broken off, and what was tried is not forgotten."""
    [before] = (await manager_door("notifications")).data["items"]

    answer = await manager_door("retry_notification", id=failed.id)

    assert answer.data == before | {"status": "queued", "error": None}
    assert answer.data["attempts"] == 7
    assert (await manager_door("notifications")).data["items"] == [answer.data]
    assert await deliveries(clients) == [b"1 0", b"1 1"]
    assert (await event_types(clients))[-1] == "notification.queued"


async def test_what_is_sent_again_goes_to_the_chat_of_now(
    manager_door: Door, clients: Clients, failed: Notification
) -> None:
    """From the beginning, for that chat has not seen the first part."""
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(tg_chat_id=OTHER_CHAT))

    answer = await manager_door("retry_notification", id=failed.id)

    assert answer.data["tg_chat_id"] == OTHER_CHAT
    assert await deliveries(clients) == [b"1 0", b"1 0"]


async def test_what_a_cafe_has_not_got_has_a_preview(
    manager_door: Door, clients: Clients, linked_lunch: Lunch, announced: Notification
) -> None:
    """After a failure it would be told the whole list, not what has changed."""
    await change(clients, announced, status=NotificationStatus.FAILED)

    assert (await ask(manager_door, "notification_preview", linked_lunch)).data == announced.text


async def test_what_has_not_failed_is_not_sent_again(
    manager_door: Door, clients: Clients, announced: Notification
) -> None:
    """It is on its way, or there."""
    for status in (NotificationStatus.QUEUED, NotificationStatus.SENDING, NotificationStatus.SENT):
        await change(clients, announced, status=status)
        before = await rows(clients)

        answer = await manager_door("retry_notification", id=announced.id)

        assert (answer.code, answer.fields) == ("BAD_INPUT", ("id",))
        assert await rows(clients) == before


async def test_what_has_failed_is_sent_again_once(manager_door: Door, failed: Notification) -> None:
    """Whoever presses the button twice is told so."""
    answers = [await manager_door("retry_notification", id=failed.id) for _ in range(2)]

    assert [answer.code for answer in answers] == [None, "BAD_INPUT"]


async def test_orders_are_not_sent_again_without_a_chat(
    manager_door: Door, clients: Clients, linked_lunch: Lunch, failed: Notification
) -> None:
    """A cafe that was unlinked is to be linked first."""
    await manager_door("unlink", cafe_id=linked_lunch.cafe.id)
    before = await rows(clients)

    answer = await manager_door("retry_notification", id=failed.id)

    assert answer.code == "CAFE_NOT_LINKED"
    assert await rows(clients) == before


async def test_what_is_not_about_orders_goes_where_it_was_to_go(
    manager_door: Door, clients: Clients, linked_lunch: Lunch, failed: Notification
) -> None:
    """That a cafe is unlinked is told to the chat that it had."""
    await manager_door("unlink", cafe_id=linked_lunch.cafe.id)
    await change(clients, failed, kind=NotificationKind.UNLINKED, date=None)

    answer = await manager_door("retry_notification", id=failed.id)

    assert (answer.data["status"], answer.data["tg_chat_id"]) == ("queued", CHAT)
