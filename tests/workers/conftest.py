"""A fixture of failures."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from app.clients import Clients
from tests.workers.failures import RefuseRows


@pytest.fixture
async def refuse_rows(clients: Clients) -> AsyncIterator[RefuseRows]:
    """Make the database refuse rows: `await refuse_rows(Notification, cafe_id=1)`, for this test."""
    tables: list[str] = []

    async def refuse(table: type[Any], **values: object) -> None:
        tables.append(table.__tablename__)
        condition = " AND ".join(f"{name} = '{value}'" for name, value in values.items())
        async with clients.db() as session:
            await session.execute(
                sa.text(f"ALTER TABLE {table.__tablename__} ADD CONSTRAINT refused CHECK (NOT ({condition})) NOT VALID")
            )

    yield refuse
    for name in tables:
        async with clients.db() as session:
            await session.execute(sa.text(f"ALTER TABLE {name} DROP CONSTRAINT refused"))
