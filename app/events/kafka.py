"""The connection to Kafka: topics, and records as they are."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import stamina
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code
from faststream import AckPolicy
from faststream.kafka import KafkaBroker, KafkaMessage

from app.clients import Clients
from app.events.types import Topic
from app.log import get_log
from app.settings import Settings

log = get_log(__name__)

KAFKA_RETRY_MAX_S = 5.0

CONNECT_TIMEOUT_S = 60
"""More than a group join takes. aiokafka waits for it without a limit."""

HEARTBEATS_PER_SESSION = 3
"""A consumer may miss two before it counts as dead, as Kafka recommends for `heartbeat.interval.ms`."""

type Parser = Callable[[ConsumerRecord], Awaitable[KafkaMessage]]


async def connect(
    settings: Settings, kafka: KafkaBroker, prepare: Callable[[KafkaBroker], Awaitable[None]] | None = None
) -> None:
    """Start `kafka` and its subscribers as soon as Kafka is available. Afterwards aiokafka reconnects by itself.

    Args:
        prepare: Runs after the start. If it fails, the start is repeated.
    """
    async for attempt in stamina.retry_context(on=Exception, attempts=None, timeout=None, wait_max=KAFKA_RETRY_MAX_S):
        with attempt:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await _create_missing_topics(settings)
                    await kafka.start()
                    if prepare is not None:
                        await prepare(kafka)
            except BaseException:
                with suppress(Exception):
                    await kafka.stop()
                raise
    log.info("kafka.connected")


def subscribe(
    clients: Clients, topics: tuple[Topic, ...], group: str | None, handler: Callable[[ConsumerRecord], Awaitable[None]]
) -> None:
    """Make `clients.kafka` call `handler` with each record, one after the other, from the earliest on.

    Partitions and replicas scale it.

    Args:
        group: The consumer group, which shares the topics. Without one, every process reads all records.
    """
    settings = clients.settings
    options: dict[str, Any] = (
        {"ack_policy": AckPolicy.ACK_FIRST}
        if group is None
        else {
            "group_id": group,
            "ack_policy": AckPolicy.ACK,
            "max_workers": 1,
            "session_timeout_ms": settings.kafka_session_timeout_ms,
            "heartbeat_interval_ms": settings.kafka_session_timeout_ms // HEARTBEATS_PER_SESSION,
        }
    )
    clients.kafka.subscriber(
        *topics,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=settings.kafka_fetch_max_wait_ms,
        parser=_tolerant_parser,
        decoder=_raw_record,
        no_reply=True,
        **options,
    )(handler)


def headers_of_record(record: ConsumerRecord) -> dict[str, str]:
    """Return the headers as text, with any bytes in them."""
    return {name: (value or b"").decode(errors="replace") for name, value in record.headers}


async def _tolerant_parser(record: ConsumerRecord, parse: Parser) -> KafkaMessage:
    """Parse a record of any producer: header values may be missing, or not UTF-8.

    The library's parser raises on these, and their message never reaches a handler.
    """
    record.headers = [(name, (value or b"").decode(errors="replace").encode()) for name, value in record.headers]
    return await parse(record)


async def _raw_record(message: KafkaMessage) -> ConsumerRecord:
    """Decode nothing: the handler gets the record and validates it."""
    return message.raw_message


async def _create_missing_topics(settings: Settings) -> None:
    """Create missing topics. Another process may create the same topic at the same time."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka_broker_url.split(","), request_timeout_ms=10_000)
    try:
        await admin.start()
        missing = set(Topic) - set(await admin.list_topics())
        answer = await admin.create_topics(
            [NewTopic(topic, settings.kafka_partitions, settings.kafka_replication_factor) for topic in sorted(missing)]
        )
        for topic, code, *_ in answer.topic_errors:
            error = for_code(code)
            if error not in {NoError, TopicAlreadyExistsError}:
                raise error(f"topic {topic} cannot be created")
    finally:
        await admin.close()
