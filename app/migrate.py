"""Migration of the database to the newest schema."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

PACKAGED = Path(__file__).parent / "migrations"
IN_REPOSITORY = Path(__file__).parent.parent / "migrations"


def alembic_config() -> Config:
    """Alembic's configuration, with the migrations of the repository or of the installed package."""
    config = Config()
    config.set_main_option("script_location", str(PACKAGED if PACKAGED.is_dir() else IN_REPOSITORY))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    return config


async def migrate(engine: AsyncEngine) -> None:
    """Migrate the database to the newest schema. Of two simultaneous calls one waits, and then has nothing to do."""

    def upgrade(connection: Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")

    async with engine.connect() as connection:
        await connection.run_sync(upgrade)
