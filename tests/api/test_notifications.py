"""Announcements by a manager, and notifications, in both APIs."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from app.clients import Clients
from app.models import Cafe, Notification, NotificationKind, NotificationStatus, Order, Outbox
from app.services.notifications import DeliveryTask
from tests.apis import CHAT, OTHER_CHAT, Answer, ApiClient, an_order, rows, walk
from tests.conftest import USER_TGID, Lunch, add_lunch, event_types
from tests.notification_fixtures import announce, change

T0 = datetime(2026, 3, 4, 10, 31, tzinfo=UTC)


async def ask(api_client: ApiClient, operation: str, lunch: Lunch) -> Answer:
    """Call an operation with the cafe and its open date."""
    return await api_client(operation, cafe_id=lunch.cafe.id, date=lunch.open_date)


async def test_a_deadline_is_announced_once(manager_client: ApiClient, linked_lunch: Lunch) -> None:
    """The second call changes nothing and returns false."""
    answers = [await ask(manager_client, "announce_deadline", linked_lunch) for _ in range(2)]

    assert [answer.data for answer in answers] == [True, False]


async def test_an_announcement_is_one_event(manager_client: ApiClient, clients: Clients, linked_lunch: Lunch) -> None:
    """A repeated announcement records no second event."""
    for _ in range(2):
        await ask(manager_client, "announce_deadline", linked_lunch)

    assert await event_types(clients) == ["deadline.passed"]


async def test_a_cafe_without_a_chat_can_be_announced(manager_client: ApiClient, lunch: Lunch) -> None:
    """Ordering closes for users, also if the cafe has no chat."""
    assert (await ask(manager_client, "announce_deadline", lunch)).data is True


async def test_an_announcement_confirms_the_orders_of_the_day(manager_client: ApiClient, linked_lunch: Lunch) -> None:
    """The orders of that cafe and date that are not cancelled become confirmed."""
    next_day = {"date": linked_lunch.open_date + timedelta(days=1)}
    orders = [
        (await manager_client("place_order", **an_order(linked_lunch, **others))).data["id"]
        for others in ({}, {"tgid": USER_TGID}, next_day)
    ]
    await manager_client("cancel_order", id=orders[1])

    await ask(manager_client, "announce_deadline", linked_lunch)

    answers = [await manager_client("order", id=id_) for id_ in orders]
    assert [answer.data["status"] for answer in answers] == ["confirmed", "cancelled", "pending"]


async def test_ordering_is_closed_after_an_announcement(
    manager_client: ApiClient, user_client: ApiClient, linked_lunch: Lunch, ordered: Order
) -> None:
    """A user can change no order, and the refusal says when ordering closed."""
    begin = datetime.now(UTC).replace(microsecond=0)
    await ask(manager_client, "announce_deadline", linked_lunch)
    end = datetime.now(UTC)

    answers = [
        await user_client("place_order", **an_order(linked_lunch)),
        await user_client("update_order", id=ordered.id, notes="Hot"),
        await user_client("cancel_order", id=ordered.id),
    ]

    assert [answer.code for answer in answers] == ["DEADLINE_PASSED"] * 3
    assert all(begin <= datetime.fromisoformat(answer.details["closed_at"]) <= end for answer in answers)


async def test_a_day_that_is_announced_is_not_available(
    manager_client: ApiClient, user_client: ApiClient, linked_lunch: Lunch
) -> None:
    """After an announcement the availability says that the deadline has passed."""
    await ask(manager_client, "announce_deadline", linked_lunch)

    availability = (await ask(user_client, "order_availability", linked_lunch)).data

    assert (availability["can_order"], availability["refusal"]) == (False, "deadline_passed")


async def test_a_preview_is_equal_to_the_message(
    manager_client: ApiClient, clients: Clients, linked_lunch: Lunch, ordered: Order
) -> None:
    """The preview has the text of the later message, and sends nothing."""
    before = await rows(clients)
    preview = (await ask(manager_client, "notification_preview", linked_lunch)).data
    assert await rows(clients) == before

    await ask(manager_client, "announce_deadline", linked_lunch)
    await announce(clients, linked_lunch)

    [sent] = (await manager_client("notifications")).data["items"]
    assert preview.startswith(f"📋 <b>Basil &amp; Thyme</b> — order for {linked_lunch.open_date}")
    assert preview == sent["text"]


async def test_a_preview_after_a_change_is_the_correction(
    manager_client: ApiClient, clients: Clients, linked_lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """After a change the preview has the text of the later correction."""
    await manager_client("update_order", id=ordered.id, dish_ids=[linked_lunch.other_soup.id, linked_lunch.main.id])

    preview = (await ask(manager_client, "notification_preview", linked_lunch)).data

    correction = await announce(clients, linked_lunch, is_correction=True)
    assert "−1 Borscht (Ivan)\n+1 Solyanka (Ivan)" in preview
    assert preview == correction.text


async def test_without_changes_there_is_no_preview(
    manager_client: ApiClient, linked_lunch: Lunch, announced: Notification
) -> None:
    """The preview is null if the cafe knows all orders."""
    answer = await ask(manager_client, "notification_preview", linked_lunch)

    assert (answer.response.status_code, answer.code, answer.data) == (200, None, None)


async def test_without_orders_there_is_no_preview(
    manager_client: ApiClient, user_client: ApiClient, linked_lunch: Lunch, ordered: Order
) -> None:
    """The preview is null if all orders are cancelled."""
    await user_client("cancel_order", id=ordered.id)

    assert (await ask(manager_client, "notification_preview", linked_lunch)).data is None


async def test_a_cafe_without_a_chat_has_a_preview(manager_client: ApiClient, lunch: Lunch) -> None:
    """A manager may see a preview before the cafe is linked."""
    await manager_client("place_order", **an_order(lunch))

    assert "Borscht" in (await ask(manager_client, "notification_preview", lunch)).data


async def test_a_notification_has_all_fields(
    manager_client: ApiClient, clients: Clients, announced: Notification
) -> None:
    """A notification shows its state from the queue to the acknowledgement."""
    queued = await manager_client("notifications")
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
    sent = await manager_client("notifications")

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


async def test_a_notification_without_a_day_has_no_date(
    manager_client: ApiClient, clients: Clients, linked_lunch: Lunch
) -> None:
    """A notification about a link has no date; a failed one has the error."""
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

    [notification] = (await manager_client("notifications")).data["items"]

    assert (notification["kind"], notification["date"], notification["version"]) == ("link_approved", None, 1)
    assert (notification["status"], notification["error"]) == ("failed", "the bot was kicked")


@pytest.fixture
async def messages(clients: Clients, people: None) -> None:
    """Six messages of two cafes; the last three were queued at the same time."""
    for name in ("Basil & Thyme", "Green Fork"):
        await add_lunch(clients, name)
    day, next_day = T0.date(), T0.date() + timedelta(days=1)
    notifications: list[tuple[dict[str, Any], int]] = [
        ({"cafe_id": 1, "kind": NotificationKind.ORDERS, "date": day, "status": NotificationStatus.SENT}, 0),
        ({"cafe_id": 2, "kind": NotificationKind.ORDERS, "date": day, "status": NotificationStatus.FAILED}, 2),
        ({"cafe_id": 1, "kind": NotificationKind.CORRECTION, "date": day, "version": 2}, 1),
        ({"cafe_id": 1, "kind": NotificationKind.ORDERS, "date": next_day, "status": NotificationStatus.SENDING}, 3),
        ({"cafe_id": 2, "kind": NotificationKind.LINK_APPROVED, "status": NotificationStatus.SENT}, 3),
        ({"cafe_id": 1, "kind": NotificationKind.ALERT, "status": NotificationStatus.SENT}, 3),
    ]
    async with clients.db() as session:
        for fields, minutes in notifications:
            created_at = T0 + timedelta(minutes=minutes)
            session.add(Notification(tg_chat_id=CHAT, parts=["Soup"], created_at=created_at, **fields))
            await session.flush()


async def test_the_newest_message_comes_first(manager_client: ApiClient, messages: None) -> None:
    """The list begins with the newest message, or with the highest id at the same time, with any page size."""
    walks = {first: await walk(manager_client, "notifications", first=first) for first in (1, 2, 5, 100)}

    newest_first = ["6", "5", "4", "2", "3", "1"]
    assert walks == dict.fromkeys(walks, newest_first)


async def test_messages_are_filtered(manager_client: ApiClient, messages: None) -> None:
    """Several filters apply together, and the total counts the matches."""
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

    answers = [await manager_client("notifications", **wanted) for wanted, _ in filters]

    found = [
        ([int(notification["id"]) for notification in answer.data["items"]], answer.data["total"]) for answer in answers
    ]
    assert found == [(ids, len(ids)) for _, ids in filters]


async def test_pages_of_filtered_messages(manager_client: ApiClient, messages: None) -> None:
    """A cursor works in a filtered list."""
    assert await walk(manager_client, "notifications", cafe_id=1, first=1) == ["6", "4", "3", "1"]


async def test_skip_leaves_messages_out(manager_client: ApiClient, messages: None) -> None:
    """The total counts the skipped messages as well."""
    answer = await manager_client("notifications", first=2, skip=3)

    assert [notification["id"] for notification in answer.data["items"]] == ["2", "3"]
    assert (answer.data["total"], answer.data["page_info"]["has_next_page"]) == (6, True)


@pytest.fixture
async def failed(clients: Clients, announced: Notification) -> Notification:
    """The order list of the cafe, which failed after the first part."""
    await change(
        clients,
        announced,
        status=NotificationStatus.FAILED,
        error="no such chat",
        attempts=7,
        parts=["Soup", "and more"],
        tg_message_ids=[1],
    )
    return announced


async def deliveries(clients: Clients) -> list[tuple[int, int]]:
    """Return the tasks that wait for delivery: the id of a notification, and its next part."""
    async with clients.db() as session:
        query = sa.select(Outbox.c.payload).where(Outbox.c.queue == DeliveryTask.queue).order_by(Outbox.c.id)
        tasks = [DeliveryTask.model_validate_json(payload) for payload in await session.scalars(query)]
    return [(task.notification_id, task.part) for task in tasks]


async def test_a_failed_notification_is_queued_again(
    manager_client: ApiClient, clients: Clients, failed: Notification
) -> None:
    """The delivery continues after the last sent part, and the number of attempts stays."""
    [before] = (await manager_client("notifications")).data["items"]

    answer = await manager_client("retry_notification", id=failed.id)

    assert answer.data == before | {"status": "queued", "error": None}
    assert answer.data["attempts"] == 7
    assert (await manager_client("notifications")).data["items"] == [answer.data]
    assert await deliveries(clients) == [(1, 0), (1, 1)]
    assert (await event_types(clients))[-1] == "notification.queued"


async def test_a_retry_goes_to_the_current_chat(
    manager_client: ApiClient, clients: Clients, failed: Notification
) -> None:
    """A new chat gets the message from the first part."""
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(tg_chat_id=OTHER_CHAT))

    answer = await manager_client("retry_notification", id=failed.id)

    assert answer.data["tg_chat_id"] == OTHER_CHAT
    assert await deliveries(clients) == [(1, 0), (1, 0)]


async def test_a_failed_order_list_has_a_preview(
    manager_client: ApiClient, clients: Clients, linked_lunch: Lunch, announced: Notification
) -> None:
    """After a failure the next message is the whole order list."""
    await change(clients, announced, status=NotificationStatus.FAILED)

    assert (await ask(manager_client, "notification_preview", linked_lunch)).data == announced.text


async def test_a_retry_requires_a_failure(manager_client: ApiClient, clients: Clients, announced: Notification) -> None:
    """A notification that is queued, in progress or sent is refused."""
    for status in (NotificationStatus.QUEUED, NotificationStatus.SENDING, NotificationStatus.SENT):
        await change(clients, announced, status=status)
        before = await rows(clients)

        answer = await manager_client("retry_notification", id=announced.id)

        assert (answer.code, answer.fields) == ("BAD_INPUT", ("id",))
        assert await rows(clients) == before


async def test_a_second_retry_is_refused(manager_client: ApiClient, failed: Notification) -> None:
    """A manager who retries twice gets an error."""
    answers = [await manager_client("retry_notification", id=failed.id) for _ in range(2)]

    assert [answer.code for answer in answers] == [None, "BAD_INPUT"]


async def test_a_retry_of_orders_requires_a_chat(
    manager_client: ApiClient, clients: Clients, linked_lunch: Lunch, failed: Notification
) -> None:
    """A manager must link the cafe first."""
    await manager_client("unlink", cafe_id=linked_lunch.cafe.id)
    before = await rows(clients)

    answer = await manager_client("retry_notification", id=failed.id)

    assert answer.code == "CAFE_NOT_LINKED"
    assert await rows(clients) == before


async def test_a_retry_of_another_kind_keeps_its_chat(
    manager_client: ApiClient, clients: Clients, linked_lunch: Lunch, failed: Notification
) -> None:
    """The former chat gets the message that the cafe is unlinked."""
    await manager_client("unlink", cafe_id=linked_lunch.cafe.id)
    await change(clients, failed, kind=NotificationKind.UNLINKED, date=None)

    answer = await manager_client("retry_notification", id=failed.id)

    assert (answer.data["status"], answer.data["tg_chat_id"]) == ("queued", CHAT)
