"""What a cafe is told about its orders: once, then what has changed, until somebody has read it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import orjson
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.clients import Clients
from app.context import Context
from app.errors import BadInput, CafeNotLinked, Forbidden, NotFound, Unauthenticated
from app.events.log import TOPIC
from app.events.messages import Topic
from app.models import (
    Cafe,
    Notification,
    NotificationKind,
    NotificationStatus,
    Order,
    OrderStatus,
    Outbox,
    User,
)
from app.resolvers import deadlines, links, notifications, orders
from app.resolvers.notifications import CORRECTION_DELAY, CORRECTION_QUEUE, DELIVERY_QUEUE, acknowledge, correct
from app.resolvers.order_lines import Extra
from app.resolvers.paging import PageRequest
from tests.conftest import Lunch, add_lunch, event_types

CHAT, OTHER_CHAT = -1001, -1002
OLGA = 3003


@pytest.fixture
async def lunch(clients: Clients, people: None) -> Lunch:
    """A cafe with a chat, and somebody else who eats there."""
    async with clients.db() as session:
        session.add(User(tgid=OLGA, name="Olga"))
    return await add_lunch(clients, tg_chat_id=CHAT, linked_at=datetime.now(UTC))


@pytest.fixture
async def ordered(user: Context, lunch: Lunch) -> Order:
    """Ivan's order."""
    return await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)


async def announce(clients: Clients, lunch: Lunch) -> Notification | None:
    """Let the deadline pass, and have the cafe told."""
    async with clients.db() as session:
        await deadlines.pass_deadline(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
        return await notifications.announce(session, lunch.cafe.id, lunch.open_date, is_correction=False)


async def corrected(clients: Clients, lunch: Lunch) -> Notification | None:
    """Look for changes, as it is done a minute after one."""
    async with clients.db() as session:
        return await correct(session, lunch.cafe.id, lunch.open_date)


@pytest.fixture
async def announced(clients: Clients, lunch: Lunch, ordered: Order) -> Notification:
    """What the cafe was told when the deadline had passed."""
    told = await announce(clients, lunch)
    assert told is not None
    return told


async def queued(clients: Clients, queue: str) -> list[bytes]:
    async with clients.db() as session:
        rows = await session.scalars(sa.select(Outbox.c.payload).where(Outbox.c.queue == queue).order_by(Outbox.c.id))
        return list(rows)


async def all_told(clients: Clients) -> list[Notification]:
    async with clients.db() as session:
        return list(await session.scalars(select(Notification).order_by(col(Notification.id))))


async def change(clients: Clients, notification: Notification, **fields: object) -> None:
    """Let something have happened to a notification."""
    async with clients.db() as session:
        row = await session.get_one(Notification, notification.id)
        for name, value in fields.items():
            setattr(row, name, value)


async def test_a_cafe_is_told_its_orders(announced: Notification) -> None:
    """The first version is the list, for the cafe's chat."""
    assert (announced.kind, announced.version, announced.tg_chat_id) == (NotificationKind.ORDERS, 1, CHAT)
    assert "Borscht" in announced.text


async def test_what_is_told_is_queued(clients: Clients, announced: Notification) -> None:
    """A message waits to be sent, and dashboards hear of it."""
    assert await queued(clients, DELIVERY_QUEUE) == [f"{announced.id} 0".encode()]
    assert (await event_types(clients))[-1] == "notification.queued"


async def test_a_cafe_is_told_once(clients: Clients, lunch: Lunch, announced: Notification) -> None:
    """However often a deadline is announced, there is one message."""
    assert await announce(clients, lunch) is None

    assert len(await all_told(clients)) == 1


async def test_two_who_announce_at_once_make_one_message(clients: Clients, lunch: Lunch, ordered: Order) -> None:
    """The unique constraint lets one through, whoever is at it."""

    async def tell() -> Notification | None:
        async with clients.db() as session:
            return await notifications.announce(session, lunch.cafe.id, lunch.open_date, is_correction=False)

    told = await asyncio.gather(*(tell() for _ in range(5)))

    assert len([one for one in told if one is not None]) == 1
    assert len(await queued(clients, DELIVERY_QUEUE)) == 1


async def test_a_cafe_without_orders_is_not_told(clients: Clients, lunch: Lunch) -> None:
    """Nobody needs an empty list."""
    assert await announce(clients, lunch) is None


async def test_cancelled_orders_are_not_told(clients: Clients, user: Context, lunch: Lunch, ordered: Order) -> None:
    """Who has cancelled in time is not on the list."""
    await orders.cancel_order(user, ordered.id)

    assert await announce(clients, lunch) is None


@pytest.mark.parametrize(
    "state",
    [
        {"tg_chat_id": None, "linked_at": None},
        {"notifications_enabled": False},
        {"is_active": False},
    ],
)
async def test_who_is_not_told(clients: Clients, lunch: Lunch, ordered: Order, state: dict[str, object]) -> None:
    """A cafe without a chat, or that is switched off, or whose notifications are, gets nothing."""
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(**state))

    assert await announce(clients, lunch) is None


async def test_a_change_is_told(clients: Clients, manager: Context, lunch: Lunch, announced: Notification) -> None:
    """What a manager changes after the deadline is the next version, and says what has changed."""
    [order] = (await orders.orders(manager, PageRequest(), orders.OrderFilter())).items
    await orders.update_order(manager, order.id, {"dish_ids": [lunch.other_soup.id, lunch.main.id]})

    told = await corrected(clients, lunch)

    assert told is not None
    assert (told.kind, told.version, told.tg_chat_id) == (NotificationKind.CORRECTION, 2, CHAT)
    assert "Correction 1" in told.text
    assert "−1 Borscht (Ivan)" in told.text
    assert "+1 Solyanka (Ivan)" in told.text


async def test_a_cancelled_order_is_told(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """An order that a manager cancels after the deadline is a correction, also if it was the last one."""
    await orders.cancel_order(manager, ordered.id)

    told = await corrected(clients, lunch)

    assert told is not None
    assert "−1 Borscht (Ivan)" in told.text


async def test_a_late_order_is_told(clients: Clients, manager: Context, lunch: Lunch, announced: Notification) -> None:
    """An order that a manager places after the deadline is confirmed, and a correction."""
    late = await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal, OLGA)

    told = await corrected(clients, lunch)

    assert late.status is OrderStatus.CONFIRMED
    assert told is not None
    assert "+1 Borscht (Olga)" in told.text


async def test_a_new_note_is_told(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """What a person wants is as important as what they eat."""
    await orders.update_order(manager, ordered.id, {"notes": "No dill"})

    told = await corrected(clients, lunch)

    assert told is not None
    assert "No dill" in told.text


async def test_several_changes_are_one_correction(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """What is changed before somebody looks is told in one message."""
    await orders.update_order(manager, ordered.id, {"extras": [Extra(lunch.cola.id, 2)]})
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal, OLGA)

    told = [await corrected(clients, lunch) for _ in range(2)]

    assert [one is not None for one in told] == [True, False]
    assert told[0] is not None
    assert "+2 Cola (Ivan)" in told[0].text
    assert "+1 Borscht (Olga)" in told[0].text


async def test_each_change_is_looked_for_a_minute_later(
    clients: Clients, manager: Context, ordered: Order, announced: Notification
) -> None:
    """So long other changes may join it."""
    await orders.cancel_order(manager, ordered.id)

    async with clients.db() as session:
        query = sa.select(Outbox.c.next_attempt_at).where(Outbox.c.queue == CORRECTION_QUEUE)
        due = (await session.scalars(query)).one()
    assert due - datetime.now(UTC) == pytest.approx(CORRECTION_DELAY, abs=timedelta(seconds=10))


async def test_changes_before_the_deadline_are_no_corrections(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """As long as the cafe knows nothing there is nothing to correct."""
    await orders.update_order(user, ordered.id, {"notes": "No dill"})
    await orders.cancel_order(user, ordered.id)

    assert await queued(clients, CORRECTION_QUEUE) == []


async def test_what_is_changed_back_is_not_told(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """If in the end nothing has changed, there is no message."""
    await orders.update_order(manager, ordered.id, {"dish_ids": [lunch.other_soup.id, lunch.main.id]})
    await orders.update_order(manager, ordered.id, {"dish_ids": [lunch.soup.id, lunch.main.id]})

    assert await corrected(clients, lunch) is None


async def test_a_correction_says_what_is_new_since_the_last(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """The second correction is compared with the first, and has the next number."""
    await orders.update_order(manager, ordered.id, {"extras": [Extra(lunch.cola.id, 2)]})
    await corrected(clients, lunch)
    await orders.update_order(manager, ordered.id, {"extras": [Extra(lunch.cola.id, 3)]})

    told = await corrected(clients, lunch)

    assert told is not None
    assert told.version == 3
    assert "Correction 2" in told.text
    assert "+1 Cola (Ivan)" in told.text


async def test_two_who_correct_at_once_make_one_correction(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """The day's lock lets one look after the other: the second finds nothing new."""
    await orders.cancel_order(manager, ordered.id)

    told = await asyncio.gather(*(corrected(clients, lunch) for _ in range(5)))

    assert len([one for one in told if one is not None]) == 1


async def test_a_cafe_that_had_no_orders_gets_the_list(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """If the first order comes after the deadline, there is nothing to correct: the cafe gets its orders."""
    assert await announce(clients, lunch) is None
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal, OLGA)

    told = await corrected(clients, lunch)

    assert told is not None
    assert (told.kind, told.version) == (NotificationKind.ORDERS, 1)


async def test_a_late_order_that_is_on_the_list_is_not_corrected(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """An order between the deadline and the list stands on the list, and is no change."""
    async with clients.db() as session:
        await deadlines.pass_deadline(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal, OLGA)
    await announce(clients, lunch)

    assert await corrected(clients, lunch) is None


async def test_a_cafe_that_is_switched_off_meanwhile_is_not_corrected(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """Whoever is not told of orders is not told of changes either."""
    await orders.cancel_order(manager, ordered.id)
    await links.set_notifications(manager, lunch.cafe.id, enabled=False)

    assert await corrected(clients, lunch) is None


async def test_a_preview_is_what_would_be_sent(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """What a manager looks at is what the cafe gets."""
    preview = await notifications.notification_preview(manager, lunch.cafe.id, lunch.open_date)

    told = await announce(clients, lunch)
    assert told is not None
    assert preview == told.text


async def test_a_preview_of_a_change_is_the_correction(
    manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """After the deadline a manager sees what the cafe would be told of the change."""
    await orders.cancel_order(manager, ordered.id)

    preview = await notifications.notification_preview(manager, lunch.cafe.id, lunch.open_date)

    assert preview is not None
    assert "−1 Borscht (Ivan)" in preview


async def test_without_news_there_is_no_preview(manager: Context, lunch: Lunch, announced: Notification) -> None:
    """What the cafe knows already is not sent."""
    assert await notifications.notification_preview(manager, lunch.cafe.id, lunch.open_date) is None


async def test_a_preview_keeps_nothing(clients: Clients, manager: Context, lunch: Lunch, ordered: Order) -> None:
    """Looking is not sending."""
    await notifications.notification_preview(manager, lunch.cafe.id, lunch.open_date)

    assert await all_told(clients) == []


async def test_what_is_read_is_acknowledged(anybody: Context, announced: Notification) -> None:
    """Somebody in the chat has read the message, and it is known who and when."""
    at = datetime(2026, 3, 4, 10, 31, tzinfo=UTC)

    read, is_news = await acknowledge(replace(anybody, clock=lambda: at), announced.id, CHAT, "Anna")

    assert is_news
    assert (read.acknowledged_by, read.acknowledged_at) == ("Anna", at)


async def test_an_acknowledgement_is_told(clients: Clients, anybody: Context, announced: Notification) -> None:
    """Dashboards hear who has read it."""
    await acknowledge(anybody, announced.id, CHAT, "Anna")

    async with clients.db() as session:
        of_notifications = Outbox.c.headers[TOPIC].astext == Topic.NOTIFICATIONS
        query = sa.select(Outbox.c.payload).where(of_notifications).order_by(Outbox.c.id.desc()).limit(1)
        payload = orjson.loads(await session.scalar(query) or b"")
    assert (await event_types(clients))[-1] == "notification.acknowledged"
    assert (payload["id"], payload["version"], payload["acknowledged_by"]) == (announced.id, 1, "Anna")


async def test_a_second_acknowledgement_is_no_news(clients: Clients, anybody: Context, announced: Notification) -> None:
    """Who was first counts, and nobody is told again."""
    await acknowledge(anybody, announced.id, CHAT, "Anna")

    read, is_news = await acknowledge(anybody, announced.id, CHAT, "Boris")

    assert not is_news
    assert read.acknowledged_by == "Anna"
    assert (await event_types(clients)).count("notification.acknowledged") == 1


async def test_two_who_acknowledge_at_once_are_one(clients: Clients, anybody: Context, announced: Notification) -> None:
    """Of many who press the button at once, one is the first."""
    answers = await asyncio.gather(*(acknowledge(anybody, announced.id, CHAT, str(n)) for n in range(5)))

    assert sum(is_news for _, is_news in answers) == 1
    assert (await event_types(clients)).count("notification.acknowledged") == 1


async def test_another_chat_cannot_acknowledge(anybody: Context, announced: Notification) -> None:
    """A button that was forwarded, or made up, does nothing."""
    with pytest.raises(NotFound):
        await acknowledge(anybody, announced.id, OTHER_CHAT, "Eve")


async def test_what_is_not_there_cannot_be_acknowledged(anybody: Context) -> None:
    """There is no such message."""
    with pytest.raises(NotFound):
        await acknowledge(anybody, 999, CHAT, "Eve")


@pytest.mark.parametrize("kind", [NotificationKind.REMINDER, NotificationKind.LINK_APPROVED, NotificationKind.ALERT])
async def test_only_orders_are_acknowledged(
    clients: Clients, anybody: Context, lunch: Lunch, kind: NotificationKind
) -> None:
    """Other messages have no such button."""
    async with clients.db() as session:
        told = await notifications.queue(session, kind, lunch.cafe.id, CHAT, ["soup"])
    assert told is not None

    with pytest.raises(NotFound):
        await acknowledge(anybody, told.id, CHAT, "Anna")


async def test_each_version_is_acknowledged_by_itself(
    clients: Clients, anybody: Context, manager: Context, lunch: Lunch, ordered: Order, announced: Notification
) -> None:
    """Who has read the list has not read the correction."""
    await orders.cancel_order(manager, ordered.id)
    await corrected(clients, lunch)

    await acknowledge(anybody, announced.id, CHAT, "Anna")

    assert [told.acknowledged_by for told in await all_told(clients)] == ["Anna", None]


@pytest.fixture
async def failed(clients: Clients, announced: Notification) -> Notification:
    """What could not be sent."""
    await change(clients, announced, status=NotificationStatus.FAILED, error="it was no good", attempts=7)
    return announced


async def test_what_has_failed_can_be_sent_again(clients: Clients, manager: Context, failed: Notification) -> None:
    """A manager puts it back into the queue, and dashboards hear of it."""
    again = await notifications.retry_notification(manager, failed.id)

    assert again.status is NotificationStatus.QUEUED
    assert await queued(clients, DELIVERY_QUEUE) == [f"{failed.id} 0".encode()] * 2
    assert (await event_types(clients))[-1] == "notification.queued"


async def test_what_is_sent_again_has_an_hour(manager: Context, failed: Notification) -> None:
    """The time until it is given up begins anew."""
    later = failed.queued_at + timedelta(hours=3)

    again = await notifications.retry_notification(replace(manager, clock=lambda: later), failed.id)

    assert again.queued_at == later


@pytest.mark.parametrize("status", [NotificationStatus.QUEUED, NotificationStatus.SENDING, NotificationStatus.SENT])
async def test_what_has_not_failed_cannot_be_sent_again(
    clients: Clients, manager: Context, announced: Notification, status: NotificationStatus
) -> None:
    """What is on its way, or there, is left alone."""
    await change(clients, announced, status=status)

    with pytest.raises(BadInput):
        await notifications.retry_notification(manager, announced.id)


async def test_of_two_who_send_again_one_does(clients: Clients, manager: Context, failed: Notification) -> None:
    """The row's lock lets one through; the other finds it queued."""
    answers = await asyncio.gather(
        *(notifications.retry_notification(manager, failed.id) for _ in range(4)), return_exceptions=True
    )

    assert sum(isinstance(answer, Notification) for answer in answers) == 1
    assert len(await queued(clients, DELIVERY_QUEUE)) == 2


async def test_what_is_sent_again_goes_to_the_chat_of_now(
    clients: Clients, manager: Context, failed: Notification
) -> None:
    """A cafe that has another chat by now gets its orders there, and from the first part."""
    await change(clients, failed, tg_message_ids=[1])
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(tg_chat_id=OTHER_CHAT))

    again = await notifications.retry_notification(manager, failed.id)

    assert (again.tg_chat_id, again.tg_message_ids) == (OTHER_CHAT, [])


async def test_what_is_sent_again_to_the_same_chat_goes_on(
    clients: Clients, manager: Context, failed: Notification
) -> None:
    """Parts that have arrived are not sent again."""
    await change(clients, failed, tg_message_ids=[1])

    assert (await notifications.retry_notification(manager, failed.id)).tg_message_ids == [1]


async def test_without_a_chat_nothing_can_be_sent_again(manager: Context, lunch: Lunch, failed: Notification) -> None:
    """A cafe that was unlinked has to be linked first."""
    await links.unlink(manager, lunch.cafe.id)

    with pytest.raises(CafeNotLinked):
        await notifications.retry_notification(manager, failed.id)


async def test_what_is_not_there_cannot_be_sent_again(manager: Context) -> None:
    """There is no such message."""
    with pytest.raises(NotFound):
        await notifications.retry_notification(manager, 999)


async def test_notifications_are_found_by_what_they_are_about(
    clients: Clients, manager: Context, lunch: Lunch, failed: Notification
) -> None:
    """By cafe, date, and how far they have come."""
    other = await add_lunch(clients, "Green Fork", tg_chat_id=OTHER_CHAT, linked_at=datetime.now(UTC))
    async with clients.db() as session:
        await notifications.queue(session, NotificationKind.LINK_APPROVED, other.cafe.id, OTHER_CHAT, ["soup"])

    async def found(**wanted: object) -> list[int]:
        page = await notifications.notifications(manager, PageRequest(), **wanted)  # type: ignore[arg-type]
        return [notification.cafe_id for notification in page.items]

    assert await found() == [other.cafe.id, lunch.cafe.id]
    assert await found(cafe_id=other.cafe.id) == [other.cafe.id]
    assert await found(date=lunch.open_date) == [lunch.cafe.id]
    assert await found(status=NotificationStatus.FAILED) == [lunch.cafe.id]


async def test_announcing_by_hand_closes_the_day(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """A manager may close ordering before the deadline: everybody is told, and the orders are confirmed."""
    assert await deadlines.announce_deadline(manager, lunch.cafe.id, lunch.open_date)

    async with clients.db() as session:
        order = await session.get_one(Order, ordered.id)
    assert order.status is OrderStatus.CONFIRMED
    assert await event_types(clients) == ["deadline.passed"]


async def test_announcing_by_hand_twice_is_once(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """Who is second learns that it was done before, and nobody is told again."""
    answers = await asyncio.gather(
        *(deadlines.announce_deadline(manager, lunch.cafe.id, lunch.open_date) for _ in range(4))
    )

    assert sorted(answers) == [False, False, False, True]
    assert await event_types(clients) == ["deadline.passed"]


async def test_an_unknown_cafe_has_no_deadline(manager: Context, lunch: Lunch) -> None:
    """There is no such cafe."""
    with pytest.raises(NotFound):
        await deadlines.announce_deadline(manager, 999, lunch.open_date)


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx, _: notifications.notifications(ctx, PageRequest()),
        lambda ctx, day: notifications.notification_preview(ctx, 1, day),
        lambda ctx, _: notifications.retry_notification(ctx, 1),
        lambda ctx, _: notifications.notification_updates(ctx),
        lambda ctx, day: deadlines.announce_deadline(ctx, 1, day),
    ],
)
async def test_only_managers_look_after_messages(
    anybody: Context, user: Context, lunch: Lunch, operation: Callable[..., Awaitable[object]]
) -> None:
    """What chats are told is for managers."""
    with pytest.raises(Forbidden):
        await operation(user, lunch.open_date)
    with pytest.raises(Unauthenticated):
        await operation(anybody, lunch.open_date)


async def test_a_list_that_has_failed_is_no_base_of_corrections(
    clients: Clients, manager: Context, lunch: Lunch, announced: Notification, ordered: Order
) -> None:
    """A kitchen that has got nothing gets the whole list, and not what has changed in it."""
    await change(clients, announced, status=NotificationStatus.FAILED)
    await orders.update_order(manager, ordered.id, {"notes": "No onions"})

    again = await corrected(clients, lunch)

    assert again is not None
    assert (again.kind, again.version) == (NotificationKind.ORDERS, 2)


async def test_a_new_chat_gets_the_whole_list(
    clients: Clients, manager: Context, lunch: Lunch, announced: Notification, ordered: Order
) -> None:
    """What another chat was told the present one does not know."""
    async with clients.db() as session:
        (await session.get_one(Cafe, lunch.cafe.id)).tg_chat_id = CHAT - 1
    await orders.update_order(manager, ordered.id, {"notes": "No onions"})

    told = await corrected(clients, lunch)

    assert told is not None
    assert (told.kind, told.tg_chat_id) == (NotificationKind.ORDERS, CHAT - 1)


async def test_a_correction_that_has_failed_is_made_up_for(
    clients: Clients, manager: Context, lunch: Lunch, announced: Notification, ordered: Order
) -> None:
    """The next one tells its changes too, under its number."""
    await orders.update_order(manager, ordered.id, {"notes": "No onions"})
    first = await corrected(clients, lunch)
    assert first is not None
    await change(clients, first, status=NotificationStatus.FAILED)
    await orders.cancel_order(manager, ordered.id)

    second = await corrected(clients, lunch)

    assert second is not None
    assert (second.version, "Correction 1" in second.text, "Borscht" in second.text) == (3, True, True)


async def test_days_of_which_nobody_was_told_are_found(clients: Clients, lunch: Lunch, ordered: Order) -> None:
    """A closed day with orders is untold until the kitchen's list is made."""
    now = datetime.now(UTC)
    async with clients.db() as session:
        await deadlines.close_day(session, lunch.cafe.id, lunch.open_date, now)

    async def untold() -> list[tuple[int, date]]:
        async with clients.db() as session:
            return await notifications.untold_days(session, now - timedelta(hours=1), now)

    assert await untold() == [(lunch.cafe.id, lunch.open_date)]
    await announce(clients, lunch)
    assert await untold() == []
