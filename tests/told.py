"""A cafe that is told its orders: what tests of notifications start from."""

from datetime import UTC, datetime

import pytest

from app.clients import Clients
from app.context import Context
from app.events.messages import NotificationEvent, NotificationQueued
from app.models import Notification, Order
from app.resolvers import notifications, orders
from app.resolvers.deadlines import close_day
from tests.conftest import Lunch, add_lunch
from tests.doors import CHAT


async def close_and_tell(clients: Clients, lunch: Lunch) -> Notification:
    """Let a deadline pass, and queue what the cafe is to be told of it."""
    async with clients.db() as session:
        await close_day(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
    return await tell(clients, lunch)


async def tell(clients: Clients, lunch: Lunch, *, is_correction: bool = False) -> Notification:
    """Queue what a cafe is to be told, as the events process does when it hears of a deadline, or of changes."""
    async with clients.db() as session:
        told = await notifications.announce(session, lunch.cafe.id, lunch.open_date, is_correction=is_correction)
    assert told is not None
    return told


async def change(clients: Clients, notification: Notification, **fields: object) -> None:
    """Let something have happened to a notification."""
    async with clients.db() as session:
        row = await session.get_one(Notification, notification.id)
        for name, value in fields.items():
            setattr(row, name, value)


@pytest.fixture
async def linked_lunch(clients: Clients) -> Lunch:
    """A cafe where one can order, and that has a chat."""
    return await add_lunch(clients, tg_chat_id=CHAT, linked_at=datetime.now(UTC))


@pytest.fixture
async def ordered(user: Context, linked_lunch: Lunch) -> Order:
    """Ivan's order from it."""
    return await orders.place_order(user, linked_lunch.cafe.id, linked_lunch.open_date, linked_lunch.meal)


@pytest.fixture
async def announced(clients: Clients, linked_lunch: Lunch, ordered: Order) -> Notification:
    """What it is told after the deadline: queued, for nobody delivers here."""
    return await close_and_tell(clients, linked_lunch)


@pytest.fixture
def news(announced: Notification) -> NotificationEvent:
    """What is told of that message."""
    return NotificationQueued.of(announced)
