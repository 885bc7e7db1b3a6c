"""From the outbox to Kafka.

An event is recorded in the transaction that made it happen. One relay at a time carries the rows to Kafka, in order.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from urllib.parse import quote, unquote, unquote_to_bytes
from uuid import uuid4

import sqlalchemy as sa
import stamina
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import MessageSizeTooLargeError, NoError, TopicAlreadyExistsError, for_code
from faststream.exceptions import RejectMessage
from faststream.kafka import KafkaBroker
from faststream_outbox import ExponentialRetry, OutboxBroker, OutboxMessage
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from app.clients import Clients
from app.events.messages import Event, Topic, headers
from app.log import get_log
from app.models import DeadLetter, Outbox
from app.settings import Settings

log = get_log(__name__)
library_log = logging.getLogger("faststream.outbox")

KAFKA_QUEUE = "kafka"
"""The outbox queue whose rows go to Kafka."""

RELAY_LOCK = 0x6C756E6368
"""The advisory lock that the active relay holds: `lunch` in ASCII."""

RELAY_LEASE_S = 3600.0
"""Longer than any outage that the relay waits out with a row in hand. A relay that died does not keep its rows so
long: the next one gives them back before it begins."""

RELAY_CHECK_S = 2.0
"""How often the relay makes sure that it still holds its lock, and a stand-by one asks for it."""

KAFKA_RETRY_MAX_S = 5.0

TOPIC, KEY = "lunch-bot-topic", "lunch-bot-key"
"""Where a row goes, among the headers that go with it; no header of somebody else's has these names."""

PRINTABLE = "".join(character for character in map(chr, range(0x20, 0x7F)) if character != "%")

CONNECT_TIMEOUT_S = 60
"""More than a group join takes, which aiokafka waits for without a limit of its own."""

outbox = OutboxBroker(outbox_table=Outbox, logger=None)
"""Writes rows on the caller's session. It has no engine, so no connection and no state."""


def outbox_broker(clients: Clients, graceful_timeout_s: float) -> OutboxBroker:
    """Make a broker for subscribers to the outbox. When it is stopped, it waits so long for what is in hand."""
    return OutboxBroker(
        clients.engine,
        outbox_table=Outbox,
        dlq_table=DeadLetter,
        apply_types=False,
        logger=library_log,
        graceful_timeout=graceful_timeout_s,
    )


async def record(session: AsyncSession, event: Event) -> None:
    """Tell everybody about `event`, if and when the caller's transaction is committed."""
    attributes = headers(str(uuid4()), event, datetime.now(UTC))
    await record_raw(session, event.topic, event.key.encode(), event.model_dump_json().encode(), attributes)


async def record_raw(session: AsyncSession, topic: Topic, key: bytes, value: bytes, headers: dict[str, str]) -> None:
    """Put a message for Kafka into the outbox, in the caller's transaction.

    Its key and headers are text there, and text in PostgreSQL has no zero bytes and is UTF-8; a message of somebody
    else's may be otherwise. So whatever is not printable ASCII is percent-encoded.
    """
    row_headers = {quoted(name.encode()): quoted(value.encode()) for name, value in headers.items()}
    await outbox.publish(
        value, queue=KAFKA_QUEUE, session=session, headers={**row_headers, TOPIC: topic, KEY: quoted(key)}
    )


async def relay(clients: Clients) -> None:
    """Carry the outbox to Kafka, for ever.

    Two relays at once would keep each row but lose their order. So the active one holds a PostgreSQL advisory lock,
    which ends with its connection; the others stand by. One that loses the lock while it sends finishes that row:
    consumers do not mind reading an event twice.
    """
    while True:
        try:
            async with _leadership(clients.engine) as lost:
                await _give_back_leases(clients.engine)
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
        decoder=whole_message,
    )
    async def send(message: OutboxMessage) -> None:
        """Give one row to Kafka, however long Kafka is away: the rows behind it wait, so that order is kept."""
        row_headers = dict(message.headers)
        topic, key = row_headers.pop(TOPIC), unquote_to_bytes(row_headers.pop(KEY))
        row_headers = {unquote(name): unquote(value) for name, value in row_headers.items()}
        async for attempt in stamina.retry_context(
            on=_may_pass, attempts=None, timeout=None, wait_max=KAFKA_RETRY_MAX_S
        ):
            with attempt:
                await _publish(clients.kafka, message.body, topic, key, row_headers)

    return broker


async def _publish(kafka: KafkaBroker, value: bytes, topic: str, key: bytes, row_headers: dict[str, str]) -> None:
    try:
        await kafka.publish(value, topic, key=key, headers=row_headers)
    except MessageSizeTooLargeError as error:
        log.exception("relay.rejected", topic=topic, key=quoted(key))
        raise RejectMessage from error


def quoted(text: bytes) -> str:
    return quote(text, safe=PRINTABLE)


def _may_pass(error: Exception) -> bool:
    return not isinstance(error, RejectMessage)


async def whole_message(message: OutboxMessage) -> OutboxMessage:
    """Decode nothing: the handler takes the row as it is."""
    return message


@asynccontextmanager
async def _leadership(engine: AsyncEngine) -> AsyncIterator[asyncio.Task[None]]:
    """Wait for the relay lock, hold it for the block, and hand it a task that ends (by raising) if it is lost."""
    async with engine.connect() as opened:
        connection = await opened.execution_options(isolation_level="AUTOCOMMIT")
        try:
            while not await connection.scalar(sa.select(sa.func.pg_try_advisory_lock(RELAY_LOCK))):
                await asyncio.sleep(RELAY_CHECK_S)

            async def watch() -> None:
                while True:
                    await asyncio.sleep(RELAY_CHECK_S)
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
            await connection.invalidate()  # closes it, and so gives back the lock; the pool would keep both


async def _give_back_leases(engine: AsyncEngine) -> None:
    """Free the rows that a relay had in hand when it died: whoever holds the lock is alone."""
    async with engine.begin() as connection:
        await connection.execute(
            sa.update(Outbox)
            .where(Outbox.c.queue == KAFKA_QUEUE, Outbox.c.acquired_token.is_not(None))
            .values(acquired_token=None, acquired_at=None)
        )


async def connect(
    settings: Settings, kafka: KafkaBroker, prepare: Callable[[KafkaBroker], Awaitable[None]] | None = None
) -> None:
    """Start `kafka` and its subscribers as soon as it can be reached. Afterwards aiokafka reconnects by itself.

    Args:
        prepare: What is to be done once it is started; if that fails, all begins anew.
    """
    async for attempt in stamina.retry_context(on=Exception, attempts=None, timeout=None, wait_max=KAFKA_RETRY_MAX_S):
        with attempt:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await _ensure_topics(settings)
                    await kafka.start()
                    if prepare is not None:
                        await prepare(kafka)
            except BaseException:
                with suppress(Exception):
                    await kafka.stop()
                raise
    log.info("kafka.connected")


async def _ensure_topics(settings: Settings) -> None:
    """Make the topics that are not there yet. One that another process has just made is no error."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_broker_url.split(","), request_timeout_ms=10_000)
    await admin.start()
    try:
        missing = set(Topic) - set(await admin.list_topics())
        answer = await admin.create_topics(
            [NewTopic(topic, settings.kafka_partitions, settings.kafka_replication_factor) for topic in sorted(missing)]
        )
        for topic, code, *_ in answer.topic_errors:
            error = for_code(code)
            if error not in {NoError, TopicAlreadyExistsError}:
                raise error(f"topic {topic} cannot be made")
    finally:
        await admin.close()
