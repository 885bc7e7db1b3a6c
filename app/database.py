"""Connections to PostgreSQL. Every engine is made here."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import asyncpg
import orjson
import sqlalchemy as sa
from asyncpg.exceptions import CannotConnectNowError, TargetServerAttributeNotMatched
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine

from app.addresses import DatabaseAddress, parse_database_url
from app.errors import ServiceUnavailable
from app.settings import Settings

CONNECT_TIMEOUT_S = 5
POOL_TIMEOUT_S = 5

DRIVER = "postgresql+asyncpg"

SESSION = {"application_name": "lunch-bot", "timezone": "UTC"}
"""Settings of each session that PgBouncer knows as well."""

KEEP_ALIVE = {"tcp_keepalives_idle": "5", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3"}
"""A crashed host keeps its locks until PostgreSQL notices: after 20 s, not after two hours."""

READ_ONLY = "25006"
"""PostgreSQL's code for a change on a standby. After a failover a connection may lead to one."""

SET_TIMEOUTS = sa.text(
    "SELECT set_config('lock_timeout', :lock_timeout, true), set_config('statement_timeout', :statement_timeout, true),"
    " set_config('idle_in_transaction_session_timeout', :idle_in_transaction_session_timeout, true)"
)


def open_engine(settings: Settings) -> AsyncEngine:
    """Make the engine for transactions. It connects when it is used.

    If there is a direct address, this engine connects to PgBouncer in transaction mode. There each transaction may have
    another session of PostgreSQL, so the engine keeps no prepared statements, and sets its time-outs in each transaction.
    """
    if settings.database_direct_url is None:
        return open_direct_engine(settings)
    engine = _create_engine(
        settings, settings.database_url, {}, statement_cache_size=0, prepared_statement_cache_size=0
    )

    @sa.event.listens_for(engine.sync_engine, "begin")
    def set_timeouts(connection: sa.Connection) -> None:
        connection.execute(SET_TIMEOUTS, _timeouts(settings))

    return engine


def open_direct_engine(settings: Settings) -> AsyncEngine:
    """Make an engine whose connections are sessions of PostgreSQL, for session locks, LISTEN and migrations."""
    url = settings.database_direct_url or settings.database_url
    return _create_engine(settings, url, KEEP_ALIVE | _timeouts(settings))


def _create_engine(settings: Settings, url: SecretStr, session: Mapping[str, str], **arguments: Any) -> AsyncEngine:
    address = parse_database_url(url.get_secret_value())
    timeout_s = CONNECT_TIMEOUT_S if address.connect_timeout_s is None else address.connect_timeout_s or None
    dsn = address.dsn(**SESSION, **session)
    engine = create_async_engine(
        # faststream-outbox makes its connection for LISTEN from the engine's URL.
        sa.URL.create(DRIVER, address.user, address.password, database=address.database, query={"dsn": dsn}),
        pool_size=settings.database_pool_size,
        max_overflow=settings.database_pool_size,
        pool_pre_ping=True,
        pool_timeout=POOL_TIMEOUT_S,
        hide_parameters=True,  # errors are logged, and the parameters are names and notes of people
        connect_args={"async_creator_fn": partial(_connect, address), "timeout": timeout_s, **arguments},
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
    )

    @sa.event.listens_for(engine.sync_engine, "handle_error")
    def leave_standby(context: sa.engine.ExceptionContext) -> None:
        if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
            context.is_disconnect = True

    return engine


async def _connect(address: DatabaseAddress, **arguments: Any) -> asyncpg.Connection:
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


def _timeouts(settings: Settings) -> dict[str, str]:
    """The time-outs of the settings, as PostgreSQL names them, in milliseconds."""
    times = {
        "lock_timeout": settings.database_lock_timeout,
        "statement_timeout": settings.database_statement_timeout,
        "idle_in_transaction_session_timeout": settings.database_idle_in_transaction_timeout,
    }
    return {name: str(time // timedelta(milliseconds=1)) for name, time in times.items()}


async def remove_timeouts(transaction: AsyncSession | AsyncConnection) -> None:
    """Let the caller's transaction take as long as it needs, and wait for locks without limit."""
    none = dict.fromkeys(("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"), "0")
    await transaction.execute(SET_TIMEOUTS, none)


class CafeTurns:
    """Bounds the simultaneous transactions of each cafe in this process.

    A transaction that waits for a lock keeps its connection meanwhile. Without a bound, one cafe whose row is locked takes
    all connections of the pool, and the operations of all cafes fail. The others wait here, without a connection.

    A cafe may use a quarter of the connections. That does not slow it down: a process has one core.
    """

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.database_pool_size // 2  # the pool may open as many again
        self._patience_s = max(settings.database_lock_timeout.total_seconds(), POOL_TIMEOUT_S)
        self._cafes: WeakValueDictionary[int, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def take(self, cafe_id: int) -> AsyncIterator[None]:
        """Wait for a turn, and keep it for the block.

        Raises ServiceUnavailable.
        """
        turns = self._cafes.setdefault(cafe_id, asyncio.Semaphore(self._limit))
        try:
            async with asyncio.timeout(self._patience_s):
                await turns.acquire()
        except TimeoutError:
            raise ServiceUnavailable("This cafe has too many operations at the moment. Try again shortly.") from None
        try:
            yield
        finally:
            turns.release()
