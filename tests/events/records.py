"""Records of events as a consumer gets them, and what their handlers leave in the database."""

import codecs
from dataclasses import replace
from datetime import UTC, date, datetime

import orjson
import sqlalchemy as sa
from aiokafka import ConsumerRecord
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.clients import Clients
from app.events import cloudevents
from app.events.outbox import TOPIC
from app.events.types import DeadlinePassed, Event, Topic
from app.handlers.deadlines import handle_deadline
from app.handlers.links import handle_link_event
from app.models import Notification, NotificationKind, Order, Outbox, RecommendationRun

CONSUMER = "test"
NOW = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)


async def handle(clients: Clients, session: AsyncSession, event: Event) -> None:
    """Call the handlers of links and deadlines, as the events process does."""
    await handle_link_event(clients, session, event)
    await handle_deadline(clients, session, event)


def record_of(event: Event, event_id: str = "1", source: str = cloudevents.SOURCE) -> ConsumerRecord:
    """Return the record of an event, as a consumer gets it."""
    value = event.model_dump_json().encode()
    attributes = cloudevents.headers_of(event_id, event, datetime.now(UTC)) | {"ce_source": source}
    return ConsumerRecord(
        topic=event.topic,
        partition=0,
        offset=0,
        timestamp=0,
        timestamp_type=0,
        key=event.key.encode(),
        value=value,
        checksum=None,
        serialized_key_size=len(event.key),
        serialized_value_size=len(value),
        headers=[(name, text.encode()) for name, text in attributes.items()],
    )


def structured_record(event: Event, event_id: str = "1", source: str = cloudevents.SOURCE) -> ConsumerRecord:
    """Return the record of an event in structured mode, with a byte order mark."""
    attributes = {"specversion": "1.0", "id": event_id, "source": source, "type": event.type}
    value = orjson.dumps({**attributes, "datacontenttype": "application/json", "data": event.model_dump(mode="json")})
    content_type = b"application/cloudevents+json; charset=UTF-8"
    return replace(record_of(event), value=codecs.BOM_UTF8 + value, headers=[("content-type", content_type)])


def plain_record(value: object, topic: Topic = Topic.DEADLINES) -> ConsumerRecord:
    """Return a record of another producer: JSON without headers."""
    return replace(
        record_of(DeadlinePassed(cafe_id=1, date=date(2026, 3, 5), timestamp=NOW)),
        topic=topic,
        value=orjson.dumps(value),
        headers=[],
    )


async def notification_kinds(clients: Clients) -> list[NotificationKind]:
    """Return the kinds of the notifications, in order."""
    async with clients.db() as session:
        return list(await session.scalars(select(col(Notification.kind)).order_by(col(Notification.id))))


async def dead_letters(clients: Clients) -> list[dict[str, str]]:
    """Return the headers of the dead letters in the outbox."""
    async with clients.db() as session:
        found = await session.scalars(
            sa.select(Outbox.c.headers).where(Outbox.c.headers[TOPIC].astext == Topic.DEAD_LETTERS)
        )
        return list(found)


def deadline_value(order: Order, **other: object) -> dict[str, object]:
    """Return another producer's value for the deadline of an order's day."""
    return {
        "type": "deadline.passed",
        "cafe_id": order.cafe_id,
        "date": order.date.isoformat(),
        "timestamp": NOW.isoformat(),
        **other,
    }


def with_keys(clients: Clients) -> Clients:
    """Return the clients with a Gemini key."""
    return replace(clients, settings=clients.settings.model_copy(update={"gemini_api_keys": (SecretStr("key"),)}))


def task_value(**other: object) -> dict[str, object]:
    """Return another producer's request for recommendations."""
    return {"type": "generate_recommendations", "timestamp": NOW.isoformat(), **other}


async def find_run(clients: Clients) -> RecommendationRun | None:
    """Return the run, if there is one."""
    async with clients.db() as session:
        return await session.scalar(select(RecommendationRun))
