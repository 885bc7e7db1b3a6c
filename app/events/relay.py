"""The relay: publishes the outbox to Kafka, in order. One relay is active at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import sqlalchemy as sa
import stamina
from aiokafka.errors import MessageSizeTooLargeError
from faststream.exceptions import RejectMessage
from faststream_outbox import ExponentialRetry, OutboxBroker, OutboxMessage
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clients import Clients
from app.events.kafka import KAFKA_RETRY_MAX_S
from app.events.outbox import KAFKA_QUEUE, destination, outbox_broker, percent_encode, raw_message
from app.log import get_log
from app.models import Outbox

log = get_log(__name__)

RELAY_LOCK = 0x6C756E6368
"""The advisory lock of the active relay: `lunch` in ASCII."""

RELAY_LEASE_S = 3600.0
"""Longer than any outage that the relay waits for with a row in progress. After a crash the next relay releases the
leases before it starts, so rows do not wait that long."""

RELAY_CHECK_S = 2.0
"""How often the active relay checks its lock, and a standby relay tries to get it."""


async def relay(clients: Clients) -> None:
    """Publish the outbox to Kafka. Runs until it is cancelled.

    Two active relays would lose no row, but the order. So the active relay holds a PostgreSQL advisory lock, which ends
    with its connection, and the others stand by. A relay that loses the lock during a send finishes that row: consumers
    accept an event twice.
    """
    while True:
        try:
            async with _leadership(clients.direct_engine) as lost:
                await _release_leases(clients.direct_engine)
                broker = _relay_broker(clients)
                await broker.start()
                log.info("relay.started")
                try:
                    await lost
                finally:
                    await broker.stop()
        except (OSError, TimeoutError, sa.exc.SQLAlchemyError) as error:
            log.warning("relay.lost", error=repr(error))
        await asyncio.sleep(RELAY_CHECK_S)


def _relay_broker(clients: Clients) -> OutboxBroker:
    broker = outbox_broker(clients, graceful_timeout_s=5)

    @broker.subscriber(
        KAFKA_QUEUE,
        max_workers=1,
        fetch_batch_size=100,
        terminal_flush_batch_size=50,
        lease_ttl_seconds=RELAY_LEASE_S,
        retry_strategy=ExponentialRetry(initial_delay_seconds=1, max_delay_seconds=60),
        decoder=raw_message,
    )
    async def send(message: OutboxMessage) -> None:
        """Publish one row. While Kafka is unavailable the rows behind it wait, so that the order stays."""
        async for attempt in stamina.retry_context(
            on=_is_retryable, attempts=None, timeout=None, wait_max=KAFKA_RETRY_MAX_S
        ):
            with attempt:
                await _publish(clients, message)

    return broker


async def _publish(clients: Clients, message: OutboxMessage) -> None:
    topic, key, headers = destination(message)
    try:
        await clients.kafka.publish(message.body, topic, key=key, headers=headers)
    except MessageSizeTooLargeError as error:
        log.exception("relay.rejected", topic=topic, key=percent_encode(key))
        raise RejectMessage from error


def _is_retryable(error: Exception) -> bool:
    return not isinstance(error, RejectMessage)


@asynccontextmanager
async def _leadership(engine: AsyncEngine) -> AsyncIterator[asyncio.Task[None]]:
    """Wait for the relay lock and hold it for the block. The given task raises when the lock is lost."""
    async with engine.connect() as opened:
        connection = await opened.execution_options(isolation_level="AUTOCOMMIT")
        try:
            while not await connection.scalar(sa.select(sa.func.pg_try_advisory_lock(RELAY_LOCK))):
                await asyncio.sleep(RELAY_CHECK_S)

            ended = asyncio.Event()
            driver_connection = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver_connection, asyncpg.Connection)
            driver_connection.add_termination_listener(lambda _connection: ended.set())

            async def watch() -> None:
                """Notice a broken connection before another relay gets the lock: now, or if it is silent, by asking."""
                while True:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), RELAY_CHECK_S)
                        raise ConnectionError("the connection with the relay lock has ended")
                    async with asyncio.timeout(RELAY_CHECK_S):
                        await connection.execute(sa.select(1))

            lost = asyncio.create_task(watch())
            try:
                yield lost
            finally:
                lost.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await lost
        finally:
            await connection.invalidate()  # closes the connection and so releases the lock; the pool would keep both


async def _release_leases(engine: AsyncEngine) -> None:
    """Release the rows of a relay that crashed. The holder of the lock is alone, so this is safe."""
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(Outbox)
            .where(Outbox.c.queue == KAFKA_QUEUE, Outbox.c.acquired_token.is_not(None))
            .values(acquired_token=None, acquired_at=None)
        )
