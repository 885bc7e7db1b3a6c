"""From a passed deadline, of any producer, to the order list: once for each cafe and date."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest
from sqlmodel import col, select

from app.auth.context import Context
from app.clients import Clients
from app.events.inbox import handle_once
from app.events.types import DeadlinePassed, Topic
from app.models import DeliveryDay, Notification, NotificationKind, Order, OrderStatus
from app.models.orders import OrderInput
from app.resolvers.orders import place_order
from tests.events.conftest import CHAT
from tests.events.records import (
    CONSUMER,
    NOW,
    dead_letters,
    deadline_value,
    handle,
    notification_kinds,
    plain_record,
    record_of,
)


async def test_a_deadline_queues_the_order_list(clients: Clients, ordered: Order) -> None:
    """After a deadline the cafe's chat gets its order list."""
    await handle_once(
        clients, CONSUMER, record_of(DeadlinePassed(cafe_id=ordered.cafe_id, date=ordered.date, timestamp=NOW)), handle
    )

    async with clients.db() as session:
        [queued] = await session.scalars(select(Notification))
    assert (queued.kind, queued.tg_chat_id, queued.date) == (NotificationKind.ORDERS, CHAT, ordered.date)


async def test_another_producer_needs_no_headers(clients: Clients, ordered: Order) -> None:
    """Plain JSON about a deadline has the same effect as our event."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered)), handle)

    assert await notification_kinds(clients) == [NotificationKind.ORDERS]


async def test_another_producer_closes_the_day(clients: Clients, ordered: Order) -> None:
    """The deadline of another producer closes ordering, and confirms the orders."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered)), handle)

    async with clients.db() as session:
        day = await session.get_one(DeliveryDay, (ordered.cafe_id, ordered.date))
        order = await session.get_one(Order, ordered.id)
    assert (day.announced_at, order.status) == (NOW, OrderStatus.CONFIRMED)


async def test_the_same_deadline_has_no_second_effect(clients: Clients, ordered: Order) -> None:
    """The cafe and the date identify a deadline, with any producer, time and id."""
    event = DeadlinePassed(cafe_id=ordered.cafe_id, date=ordered.date, timestamp=NOW)
    for record in (
        plain_record(deadline_value(ordered)),
        plain_record(deadline_value(ordered, timestamp=(NOW + timedelta(hours=1)).isoformat())),
        record_of(event, "1"),
        record_of(event, "2"),
    ):
        await handle_once(clients, CONSUMER, record, handle)

    assert await notification_kinds(clients) == [NotificationKind.ORDERS]
    assert await dead_letters(clients) == []


async def test_two_deadlines_of_a_cafe_are_two(clients: Clients, user: Context, ordered: Order) -> None:
    """Each date has a separate order list."""
    fields = OrderInput.collect(combo_id=ordered.combo_id, dish_ids=[dish.menu_item_id for dish in ordered.dishes])
    other = await place_order(user, ordered.cafe_id, ordered.date + timedelta(days=1), fields)

    for order in (ordered, other):
        await handle_once(clients, CONSUMER, plain_record(deadline_value(order)), handle)

    async with clients.db() as session:
        dates = [queued.date for queued in await session.scalars(select(Notification).order_by(col(Notification.id)))]
    assert dates == [ordered.date, other.date]


@pytest.mark.usefixtures("without_waiting")
async def test_a_deadline_of_an_unknown_cafe_becomes_a_dead_letter(clients: Clients, ordered: Order) -> None:
    """A deadline of an unknown cafe is dead-lettered, and does not block the next message."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered, cafe_id=999)), handle)

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent: cafe_id")
    assert letter["x-topic"] == Topic.DEADLINES


UNREADABLE_DEADLINES = {
    "not JSON": b"deadline.passed",
    "not an object": b'["deadline.passed"]',
    "no type": b'{"cafe_id": 1, "date": "2026-03-05", "timestamp": "2026-03-04T10:30:00Z"}',
    "an unknown type": b'{"type": "deadline.missed"}',
    "no date": b'{"type": "deadline.passed", "cafe_id": 1, "timestamp": "2026-03-04T10:30:00Z"}',
    "an impossible date": b'{"type": "deadline.passed", "cafe_id": 1, "date": "2026-02-30", "timestamp": "2026-03-04T10:30:00Z"}',
    "not a number": b'{"type": "deadline.passed", "cafe_id": "one", "date": "2026-03-05", "timestamp": "2026-03-04T10:30:00Z"}',
}


@pytest.mark.parametrize("value", UNREADABLE_DEADLINES.values(), ids=UNREADABLE_DEADLINES)
async def test_an_unreadable_deadline_becomes_a_dead_letter(clients: Clients, value: bytes) -> None:
    """A value that is not a deadline is unreadable, and is not retried."""
    await handle_once(clients, CONSUMER, replace(plain_record(None), value=value), handle)

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent")


MISSPELLED_DATES: dict[str, Callable[[date], object]] = {
    "without hyphens": lambda day: f"{day:%Y%m%d}",
    "of a week": lambda day: f"{day:%G-W%V-%u}",
    "the day of the year": lambda day: f"{day:%Y-%j}",
    "with a time": lambda day: f"{day}T00:00:00",
    "seconds since 1970": lambda day: int(datetime.combine(day, time(), UTC).timestamp()),
    "seconds since 1970 as text": lambda day: str(int(datetime.combine(day, time(), UTC).timestamp())),
}


@pytest.mark.parametrize("spell", MISSPELLED_DATES.values(), ids=MISSPELLED_DATES)
async def test_a_date_has_one_spelling(clients: Clients, ordered: Order, spell: Callable[[date], object]) -> None:
    """A date that is not YYYY-MM-DD makes a dead letter that names the field."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered, date=spell(ordered.date))), handle)

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent: date")
    assert await notification_kinds(clients) == []


async def test_a_time_without_an_offset_is_utc(clients: Clients, ordered: Order) -> None:
    """Another producer may leave out the offset."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered, timestamp="2026-03-04T10:30:00")), handle)

    async with clients.db() as session:
        day = await session.get_one(DeliveryDay, (ordered.cafe_id, ordered.date))
    assert day.announced_at == NOW
