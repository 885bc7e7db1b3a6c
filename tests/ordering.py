"""Shared by the tests of orders: a delivery date with its deadline, extras, and operations that wait for locks."""

import asyncio
import datetime as dt
from collections.abc import Awaitable
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.auth.context import Context
from app.clients import Clients
from app.errors import BadInput
from app.models import Cafe, Combo, ExtraInput, MenuItem
from app.services import deadlines
from tests.database import LOCK_WAITS
from tests.servers import DEADLINE_S, POLL_S

DATE = dt.date(2026, 6, 10)
"""A Wednesday."""
CLOSES_AT = dt.datetime(2026, 6, 9, 10, 30, tzinfo=dt.UTC)
"""The deadline for that date in the schedule of `lunch`."""
BEFORE = CLOSES_AT - dt.timedelta(days=1)


def at(ctx: Context, now: dt.datetime) -> Context:
    """The same caller at that time."""
    return replace(ctx, clock=lambda: now)


def extra(menu_item_id: int, quantity: int = 1) -> ExtraInput:
    """A quantity of an extra, which need not be valid."""
    return ExtraInput.collect(menu_item_id=menu_item_id, quantity=quantity)


async def field_of(operation: Awaitable[object]) -> str:
    """Expect that `operation` raises BadInput, and return the first wrong field."""
    with pytest.raises(BadInput) as refused:
        await operation
    return refused.value.field


async def change(clients: Clients, row: MenuItem | Combo, **values: object) -> None:
    """Change a menu item or a combo in the database."""
    async with clients.db() as session:
        await session.execute(sa.update(type(row)).where(col(type(row).id) == row.id).values(**values))


async def close(clients: Clients, cafe: Cafe, date: dt.date = DATE, now: dt.datetime = CLOSES_AT) -> bool:
    """Close ordering for a delivery date and confirm its orders."""
    async with clients.db() as session:
        return await deadlines.close_day(session, cafe.id, date, now)


async def until_waiting(clients: Clients, *tasks: asyncio.Task[object]) -> None:
    """Wait until each task waits for a lock or is done."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with clients.db() as session:
                waits = await session.scalar(LOCK_WAITS) or 0
            if waits + sum(task.done() for task in tasks) >= len(tasks):
                return
            await asyncio.sleep(POLL_S)
