"""From Kafka to an effect, once.

Kafka may give us a message again, and anything may be in it. So a handler takes the raw record, and what it does is
one transaction that begins by noting the event's id: a second reading finds the note and does nothing.
"""

from collections.abc import Awaitable, Callable

import stamina
from aiokafka import ConsumerRecord
from faststream.kafka import KafkaMessage
from prometheus_client import Counter
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from app.clients import Clients
from app.errors import ServiceUnavailable, as_lunchbot_error
from app.events.log import record_raw
from app.events.messages import Event, Topic, UnreadableEvent, read
from app.log import get_log, log_context
from app.models import Inbox

log = get_log(__name__)

DEAD_LETTERS = Counter("lunch_bot_dead_letters_total", "Messages that could not be read or handled.", ["topic"])

HANDLER_ATTEMPTS = 5
"""How often a handler may fail on a message for a reason of its own, before the message is put aside."""

RETRY_MAX_S = 30.0
"""Well under Kafka's `max.poll.interval.ms` of 5 minutes, after which the partition is given to somebody else."""

type Effect = Callable[[AsyncSession, Event], Awaitable[None]]
type Parser = Callable[[ConsumerRecord], Awaitable[KafkaMessage]]


async def lenient(record: ConsumerRecord, parse: Parser) -> KafkaMessage:
    """Parse a record whoever made it: header values may be missing, or no UTF-8.

    The stock parser raises on these, and its message never reaches a handler.
    """
    record.headers = [(name, (value or b"").decode(errors="replace").encode()) for name, value in record.headers]
    return await parse(record)


async def raw_record(message: KafkaMessage) -> ConsumerRecord:
    """Decode nothing: the handler takes the record as it is, and judges it itself."""
    return message.raw_message


def headers_of(record: ConsumerRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


async def handle_once(clients: Clients, consumer: str, record: ConsumerRecord, effect: Effect) -> None:
    """Do `effect` for the event in `record`, unless `consumer` has done it before. Never raises.

    While a service is away it waits and tries again, for ever: the messages behind it would fare no better. What
    cannot be read, or fails for a reason of its own, goes to the dead letters, and the next message is taken.
    """
    headers = headers_of(record)
    with log_context(
        topic=record.topic, partition=record.partition, offset=record.offset, event_id=headers.get("ce_id")
    ):
        try:
            received = read(headers, record.value or b"")
        except UnreadableEvent as error:
            await _put_aside(clients, record, error, attempts=1)
            return
        try:
            async for attempt in stamina.retry_context(
                on=_may_be_tried_again, attempts=HANDLER_ATTEMPTS, timeout=None, wait_max=RETRY_MAX_S
            ):
                with attempt:
                    await _while_services_are_away(
                        lambda: _apply(clients, consumer, received.id, received.event, effect)
                    )
        except UnreadableEvent as error:
            await _put_aside(clients, record, error, attempts=1)
        except Exception as error:
            log.exception("event.failed", consumer=consumer)
            await _put_aside(clients, record, error, attempts=HANDLER_ATTEMPTS)


async def _apply(clients: Clients, consumer: str, event_id: str, event: Event, effect: Effect) -> None:
    async with clients.db() as session:
        noted = await session.scalar(
            insert(Inbox)
            .values(consumer=consumer, event_id=event_id)
            .on_conflict_do_nothing()
            .returning(col(Inbox.event_id))
        )
        if noted is None:
            log.info("event.duplicate", consumer=consumer)
            return
        await effect(session, event)


async def _put_aside(clients: Clients, record: ConsumerRecord, error: Exception, attempts: int) -> None:
    log.warning("event.dead_letter", error=str(error))
    DEAD_LETTERS.labels(record.topic).inc()
    headers = headers_of(record) | {
        "x-error": f"{type(error).__name__}: {error}",
        "x-topic": record.topic,
        "x-attempts": str(attempts),
    }

    async def keep() -> None:
        async with clients.db() as session:
            await record_raw(session, Topic.DEAD_LETTERS, record.key or b"", record.value or b"", headers)

    await _while_services_are_away(keep)


async def _while_services_are_away(action: Callable[[], Awaitable[None]]) -> None:
    async for attempt in stamina.retry_context(on=_is_passing, attempts=None, timeout=None, wait_max=RETRY_MAX_S):
        with attempt:
            await action()


def _may_be_tried_again(error: Exception) -> bool:
    return not isinstance(error, UnreadableEvent) and not _is_passing(error)


def _is_passing(error: Exception) -> bool:
    return isinstance(as_lunchbot_error(error), ServiceUnavailable)
