"""The outbox: events and tasks, written in the transaction of the change that they belong to."""

import logging
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Self
from urllib.parse import quote, unquote, unquote_to_bytes
from uuid import uuid4

from faststream_outbox import OutboxBroker, OutboxMessage
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.cloudevents import headers_of
from app.events.types import Event, Topic
from app.models import DeadLetter, Outbox
from app.redaction import redact

library_log = logging.getLogger("faststream.outbox")

KAFKA_QUEUE = "kafka"
"""The queue whose rows the relay publishes to Kafka."""

TOPIC, KEY = "lunch-bot-topic", "lunch-bot-key"
"""The headers of a row that say where it goes. No other producer uses these names."""

PRINTABLE = "".join(character for character in map(chr, range(0x20, 0x7F)) if character != "%")

outbox = OutboxBroker(outbox_table=Outbox, logger=None)
"""Writes rows in the caller's session. It has no engine, so it has no connection and no state."""


class Task(BaseModel):
    """Work for a process, in a queue of the outbox."""

    model_config = ConfigDict(frozen=True)

    queue: ClassVar[str]

    @classmethod
    def parse(cls, message: OutboxMessage) -> Self:
        return cls.model_validate_json(message.body)


def outbox_broker(clients: Clients, graceful_timeout_s: float) -> OutboxBroker:
    """Make a broker for subscribers to the outbox.

    Args:
        graceful_timeout_s: How long a stop waits for rows in progress.
    """
    return OutboxBroker(
        clients.direct_engine,
        outbox_table=Outbox,
        dlq_table=DeadLetter,
        apply_types=False,
        logger=library_log,
        graceful_timeout=graceful_timeout_s,
        last_exception_renderer=lambda error: redact(repr(error)),
    )


async def record(session: AsyncSession, event: Event) -> None:
    """Publish `event` when the caller's transaction is committed."""
    headers = headers_of(str(uuid4()), event, datetime.now(UTC))
    await record_raw(session, event.topic, event.key.encode(), event.model_dump_json().encode(), headers)


async def record_raw(session: AsyncSession, topic: Topic, key: bytes, value: bytes, headers: dict[str, str]) -> None:
    """Write a message for Kafka into the outbox, in the caller's transaction.

    Key and headers are text in the outbox. Text in PostgreSQL is UTF-8 without zero bytes, which a message of another
    producer need not be. So everything but printable ASCII is percent-encoded.
    """
    row_headers = {percent_encode(name.encode()): percent_encode(value.encode()) for name, value in headers.items()}
    await outbox.publish(
        value, queue=KAFKA_QUEUE, session=session, headers={**row_headers, TOPIC: topic, KEY: percent_encode(key)}
    )


async def enqueue(session: AsyncSession, task: Task, delay: timedelta | None = None) -> None:
    """Give `task` to a process when the caller's transaction is committed, and `delay` is over."""
    await outbox.publish(task.model_dump_json().encode(), queue=type(task).queue, session=session, activate_in=delay)


def destination(message: OutboxMessage) -> tuple[str, bytes, dict[str, str]]:
    """Return the topic, the key and the headers of a row that `record_raw` wrote."""
    headers = dict(message.headers)
    topic, key = headers.pop(TOPIC), unquote_to_bytes(headers.pop(KEY))
    return topic, key, {unquote(name): unquote(value) for name, value in headers.items()}


def percent_encode(text: bytes) -> str:
    return quote(text, safe=PRINTABLE)


async def raw_message(message: OutboxMessage) -> OutboxMessage:
    """Decode nothing: the subscriber gets the row as it is."""
    return message
