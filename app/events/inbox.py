"""The inbox: handles each event from Kafka once.

Kafka may deliver a message again, with anything in it. So the effect of an event is one transaction that begins with
its source and id in the inbox table: a second delivery finds them and has no effect.
"""

import hashlib
from collections.abc import Awaitable, Callable

import orjson
import stamina
from aiokafka import ConsumerRecord
from prometheus_client import Counter
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.clients import Clients
from app.errors import ServiceUnavailable, as_lunchbot_error
from app.events.cloudevents import ReceivedEvent, UnreadableEvent, parse_event
from app.events.kafka import headers_of_record
from app.events.outbox import record_raw
from app.events.types import Event, Topic
from app.log import get_log, log_context
from app.models import Inbox
from app.redaction import redact

log = get_log(__name__)

DEAD_LETTERS = Counter("lunch_bot_dead_letters_total", "Messages that could not be read or handled.", ["topic"])

ERROR_MAX_CHARACTERS = 1000
"""Of an error in a header: the headers and the value of a dead letter must fit into one message."""

HANDLER_ATTEMPTS = 5
"""How often a handler may fail on a message, outages not counted, before the message becomes a dead letter."""

RETRY_MAX_S = 30.0
"""Well under Kafka's `max.poll.interval.ms` of 5 minutes, after which another consumer gets the partition."""

type Handler = Callable[[Clients, AsyncSession, Event], Awaitable[None]]


async def handle_once(clients: Clients, consumer: str, record: ConsumerRecord, handler: Handler) -> None:
    """Call `handler` with the event in `record`, unless `consumer` has handled it before. Never raises.

    While a service is unavailable, it retries until the service is back: skipping ahead would fail as well. A message
    that is unreadable, or whose handler fails for another reason, becomes a dead letter.
    """
    headers = headers_of_record(record)
    with log_context(
        topic=record.topic, partition=record.partition, offset=record.offset, event_id=headers.get("ce_id")
    ):
        try:
            received = parse_event(headers, record.value or b"")
        except UnreadableEvent as error:
            await _dead_letter(clients, record, error, attempts=1)
            return
        try:
            async for attempt in stamina.retry_context(
                on=_is_retryable, attempts=HANDLER_ATTEMPTS, timeout=None, wait_max=RETRY_MAX_S
            ):
                with attempt:
                    await _retry_while_unavailable(lambda: _apply(clients, consumer, received, handler))
        except UnreadableEvent as error:
            await _dead_letter(clients, record, error, attempts=1)
        except Exception as error:
            log.exception("event.failed", consumer=consumer)
            await _dead_letter(clients, record, error, attempts=HANDLER_ATTEMPTS)


async def _apply(clients: Clients, consumer: str, received: ReceivedEvent, handler: Handler) -> None:
    async with clients.db() as session:
        if await _record_handled(session, consumer, received):
            await handler(clients, session, received.event)
        else:
            log.info("event.duplicate", consumer=consumer)


async def _record_handled(session: AsyncSession, consumer: str, received: ReceivedEvent) -> bool:
    """Record that `consumer` handles the event. Return False if it was recorded before.

    Two simultaneous transactions meet at the primary key; the second one waits, and finds the row of the first one.
    """
    for key in (received.id, _key_with_source(received)):
        row = {"consumer": consumer, "event_id": key, "source": received.source}
        if await session.scalar(insert(Inbox).values(row).on_conflict_do_nothing().returning(col(Inbox.event_id))):
            return True
        source = await session.scalar(select(Inbox.source).where(Inbox.consumer == consumer, Inbox.event_id == key))
        if source in {None, received.source}:
            return False
    return False


def _key_with_source(received: ReceivedEvent) -> str:
    """Return the key of an event whose id another source has used before: of a fixed length, as sources may be long."""
    return hashlib.sha256(orjson.dumps([received.source, received.id])).hexdigest()


async def _dead_letter(clients: Clients, record: ConsumerRecord, error: Exception, attempts: int) -> None:
    reason = (
        redact(f"{type(error).__name__}: {error}")[:ERROR_MAX_CHARACTERS].encode(errors="backslashreplace").decode()
    )
    log.warning("event.dead_letter", error=reason)
    DEAD_LETTERS.labels(record.topic).inc()
    headers = headers_of_record(record) | {
        "x-error": reason,
        "x-topic": record.topic,
        "x-attempts": str(attempts),
    }

    async def write() -> None:
        async with clients.db() as session:
            await record_raw(session, Topic.DEAD_LETTERS, record.key or b"", record.value or b"", headers)

    await _retry_while_unavailable(write)


async def _retry_while_unavailable(action: Callable[[], Awaitable[None]]) -> None:
    async for attempt in stamina.retry_context(on=_is_outage, attempts=None, timeout=None, wait_max=RETRY_MAX_S):
        with attempt:
            await action()


def _is_retryable(error: Exception) -> bool:
    return not isinstance(error, UnreadableEvent) and not _is_outage(error)


def _is_outage(error: Exception) -> bool:
    return isinstance(as_lunchbot_error(error), ServiceUnavailable)
