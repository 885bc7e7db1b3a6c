"""Migrations of a database that is in use."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.clients import Clients
from app.migrate import TRIES, MigrationBlocked, migrate
from tests.conftest import downgraded
from tests.database import until_a_lock_is_awaited
from tests.servers import POLL_S

READ = sa.text("SELECT count(*) FROM recommendation_runs")
REVISION = sa.text("SELECT version_num FROM alembic_version")


@pytest.fixture
async def behind(clients: Clients) -> AsyncIterator[AsyncEngine]:
    """A database without the migration 0006 and those after it. 0006 renames columns of `recommendation_runs`."""
    async with downgraded(clients, "0005"):
        yield clients.direct_engine


@pytest.fixture
async def reader(behind: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that has read `recommendation_runs` and stays open."""
    async with behind.connect() as connection:
        await connection.execute(READ)
        yield connection


async def test_readers_go_on_while_a_migration_is_blocked(behind: AsyncEngine, reader: AsyncConnection) -> None:
    """The reads of a table that a migration waits for succeed, until the migration gives up and has changed nothing."""
    migration = asyncio.create_task(migrate(behind))
    reads = 0
    while not migration.done():
        async with behind.connect() as connection:
            await connection.execute(READ)
        reads += not migration.done()
        await asyncio.sleep(POLL_S)

    async with behind.connect() as connection:
        revision = await connection.scalar(REVISION)
    assert (type(migration.exception()), revision) == (MigrationBlocked, "0005")
    assert reads > TRIES


async def test_a_migration_goes_on_when_the_table_is_free(behind: AsyncEngine, reader: AsyncConnection) -> None:
    """A migration that was blocked tries again, and succeeds after the other transaction has ended."""
    migration = asyncio.create_task(migrate(behind))
    await until_a_lock_is_awaited(behind)
    await reader.rollback()

    await migration
    async with behind.connect() as connection:
        assert await connection.scalar(REVISION) != "0005"
