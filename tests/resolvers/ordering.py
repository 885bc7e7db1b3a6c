"""What tests of ordering share: a day with its deadline, what one orders, and transactions that wait for each other."""

import asyncio
import datetime as dt
from collections.abc import Awaitable
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.clients import Clients
from app.context import Context
from app.errors import BadInput
from app.models import Cafe, Combo, MenuItem
from app.resolvers import deadlines
from app.resolvers.order_lines import Extra, OrderFields
from tests.conftest import Lunch
from tests.servers import DEADLINE_S, POLL_S

DATE = dt.date(2026, 6, 10)
"""A Wednesday."""
CLOSES_AT = dt.datetime(2026, 6, 9, 10, 30, tzinfo=dt.UTC)
"""What the schedule of `lunch` says of that date."""
BEFORE = CLOSES_AT - dt.timedelta(days=1)

LOCK_WAITS = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


def at(ctx: Context, now: dt.datetime) -> Context:
    """The same person at that time."""
    return replace(ctx, clock=lambda: now)


def lunch_with(lunch: Lunch, *extras: Extra) -> OrderFields:
    """Borscht and pelmeni, and extras."""
    return {"combo_id": lunch.combo.id, "dish_ids": [lunch.soup.id, lunch.main.id], "extras": extras}


async def field_of(operation: Awaitable[object]) -> str:
    """The field for which `operation` is refused."""
    with pytest.raises(BadInput) as refused:
        await operation
    return refused.value.field


async def change(clients: Clients, row: MenuItem | Combo, **values: object) -> None:
    """Change something of the menu."""
    async with clients.db() as session:
        await session.execute(sa.update(type(row)).where(col(type(row).id) == row.id).values(**values))


async def close(clients: Clients, cafe: Cafe, date: dt.date = DATE, now: dt.datetime = CLOSES_AT) -> bool:
    """Announce the deadline of a day."""
    async with clients.db() as session:
        return await deadlines.close_day(session, cafe.id, date, now)


async def until_waiting(clients: Clients, *tasks: asyncio.Task[object]) -> None:
    """Wait until each of these tasks either waits for a lock or is done, and fail if they do not come to it."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with clients.db() as session:
                waits = await session.scalar(LOCK_WAITS) or 0
            if waits + sum(task.done() for task in tasks) >= len(tasks):
                return
            await asyncio.sleep(POLL_S)
