"""Waiting for what other connections do in the database."""

import asyncio

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.servers import DEADLINE_S, POLL_S

LOCK_WAITS = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def until_scalar(engine: AsyncEngine, query: sa.Executable, value: object) -> None:
    """Wait until a query has this value."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with engine.connect() as connection:
                if await connection.scalar(query) == value:
                    return
            await asyncio.sleep(POLL_S)


async def until_a_lock_is_awaited(engine: AsyncEngine) -> None:
    """Wait until a transaction waits for the lock of another one."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with engine.connect() as connection:
                if await connection.scalar(LOCK_WAITS):
                    return
            await asyncio.sleep(POLL_S)
