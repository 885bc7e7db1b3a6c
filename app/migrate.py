"""Migration of the database to the newest schema."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

PACKAGED = Path(__file__).parent / "migrations"
IN_REPOSITORY = Path(__file__).parent.parent / "migrations"

TRIES = 5
PAUSE_S = 2.0
"""Between the tries the table's readers go on."""

BLOCKED = {"55P03", "40P01"}
"""PostgreSQL's codes for a wait for a lock that took too long, and for a deadlock with another transaction."""


class MigrationBlocked(Exception):
    """Another transaction keeps a table in use that a migration changes.

    Args:
        statement: The statement that had to wait.
    """

    def __init__(self, statement: str) -> None:
        super().__init__(
            "nothing was migrated, because another transaction keeps a table in use; "
            f"find it in pg_stat_activity, end it, and run lunch-bot migrate again (blocked: {statement})"
        )


def alembic_config() -> Config:
    """Alembic's configuration, with the migrations of the repository or of the installed package."""
    config = Config()
    config.set_main_option("script_location", str(PACKAGED if PACKAGED.is_dir() else IN_REPOSITORY))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


async def migrate(engine: AsyncEngine) -> None:
    """Migrate the database to the newest schema. Of two simultaneous calls one waits, and then has nothing to do.

    A migration waits only shortly for a table that another transaction uses, and tries again after a pause: everything
    that comes after it would wait behind it.

    Raises MigrationBlocked after `TRIES` tries, with the schema unchanged.
    """

    def upgrade(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    for tries_left in reversed(range(TRIES)):
        try:
            async with engine.connect() as connection:
                await connection.run_sync(upgrade)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in BLOCKED:
                raise
            if not tries_left:
                raise MigrationBlocked(" ".join(str(error.statement).split())) from error
            await asyncio.sleep(PAUSE_S)
        else:
            return
