"""Alembic's environment: it uses the given connection, or connects with the settings."""

import asyncio
from typing import Literal

from alembic import context
from sqlalchemy import Connection
from sqlmodel import AutoString

from app.database import open_direct_engine
from app.models import metadata
from app.settings import Settings

MIGRATION_LOCK = 0x6D696772
"""An advisory lock: of two simultaneous migrations one waits, and then has nothing to do."""

LOCK_TIMEOUT_MS = 500
"""How long a migration waits for a table. Meanwhile the table's readers wait behind it, so this must be short."""

LIMITS = (
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "SET LOCAL lock_timeout = 0",
    f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})",
    f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}",
)
"""Another migration may take long, and so may this one."""


def render_item(kind: str, item: object, _context: object) -> str | Literal[False]:
    """Write SQLModel's string type as SQLAlchemy's, so that migrations depend on SQLAlchemy alone."""
    if kind == "type" and isinstance(item, AutoString):
        return "sa.String()" if item.length is None else f"sa.String(length={item.length})"
    return False


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=metadata, compare_server_default=True, render_item=render_item
    )
    with context.begin_transaction():
        for statement in LIMITS:
            connection.exec_driver_sql(statement)
        context.run_migrations()


async def migrate_from_settings() -> None:
    engine = open_direct_engine(Settings.load())
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    asyncio.run(migrate_from_settings())
