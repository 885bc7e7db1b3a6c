"""Connections to PostgreSQL. Every engine is made here."""

from functools import partial
from typing import Any

import asyncpg
import orjson
import sqlalchemy as sa
from asyncpg.exceptions import CannotConnectNowError, TargetServerAttributeNotMatched
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.addresses import DatabaseAddress, parse_database_url
from app.settings import Settings

CONNECT_TIMEOUT_S = 5

DRIVER = "postgresql+asyncpg"

SESSION = {"application_name": "lunch-bot", "timezone": "UTC"}

KEEP_ALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""A crashed host keeps its locks until PostgreSQL notices: after 20 s, not after two hours."""


def open_engine(settings: Settings) -> AsyncEngine:
    """Make the engine of a process. It connects when it is used."""
    address = parse_database_url(settings.database_url.get_secret_value())
    timeout_s = CONNECT_TIMEOUT_S if address.connect_timeout_s is None else address.connect_timeout_s or None
    return create_async_engine(
        # The outbox connects for LISTEN with what this address says.
        sa.URL.create(
            DRIVER,
            address.user,
            address.password,
            database=address.database,
            query={"dsn": address.dsn(**SESSION, **KEEP_ALIVE)},
        ),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_pre_ping=True,
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args={"async_creator_fn": partial(connect, address), "timeout": timeout_s},
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )


async def connect(address: DatabaseAddress, **arguments: Any) -> asyncpg.Connection:
    """Connect to the first host that answers and has the right role, each within `timeout` s, as libpq does.

    asyncpg's own time-out is for all hosts together: a host that has vanished would use it up.

    Raises OSError if no host can be used.
    """
    error: Exception | None = None
    for host, port in address.hosts:
        try:
            connection: asyncpg.Connection = await asyncpg.connect(host=host, port=port, **arguments)
        except TargetServerAttributeNotMatched:
            error = ConnectionError(f"{host}:{port} is a standby")
        except (OSError, CannotConnectNowError) as unavailable:
            error = unavailable
        else:
            return connection
    assert error is not None, "an address has a host"
    raise error
