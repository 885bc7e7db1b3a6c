"""A cafe with a chat, an order, and its order list: fixtures for tests of notifications."""

from datetime import UTC, datetime

import pytest

from app.auth.context import Context
from app.clients import Clients
from app.events.types import NotificationEvent, NotificationQueued
from app.models import Notification, Order
from app.resolvers import orders
from app.services.deadlines import close_day
from app.services.notifications import announce_day
from tests.apis import CHAT
from tests.conftest import Lunch, add_lunch


async def close_and_announce(clients: Clients, lunch: Lunch) -> Notification:
    """Close the day, and queue its order list."""
    async with clients.db() as session:
        await close_day(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
    return await announce(clients, lunch)


async def announce(clients: Clients, lunch: Lunch, *, is_correction: bool = False) -> Notification:
    """Queue an order list or a correction, as the events process does after a deadline or a change."""
    async with clients.db() as session:
        notification = await announce_day(clients, session, lunch.cafe.id, lunch.open_date, is_correction=is_correction)
    assert notification is not None
    return notification


async def change(clients: Clients, notification: Notification, **fields: object) -> None:
    """Change the stored fields of a notification."""
    async with clients.db() as session:
        row = await session.get_one(Notification, notification.id)
        for name, value in fields.items():
            setattr(row, name, value)


@pytest.fixture
async def linked_lunch(clients: Clients) -> Lunch:
    """A cafe with a menu, deadlines and a chat."""
    return await add_lunch(clients, tg_chat_id=CHAT, linked_at=datetime.now(UTC))


@pytest.fixture
async def ordered(user: Context, linked_lunch: Lunch) -> Order:
    """Ivan's order from that cafe."""
    return await orders.place_order(user, linked_lunch.cafe.id, linked_lunch.open_date, linked_lunch.meal)


@pytest.fixture
async def announced(clients: Clients, linked_lunch: Lunch, ordered: Order) -> Notification:
    """The order list of that cafe. It stays queued, because no process delivers it."""
    return await close_and_announce(clients, linked_lunch)


@pytest.fixture
def notification_event(announced: Notification) -> NotificationEvent:
    """The event of that order list."""
    return NotificationQueued.of(announced)
