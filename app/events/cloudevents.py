"""CloudEvents 1.0 in Kafka: the attributes are headers, the data is the value as JSON (binary mode).

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import orjson
from pydantic import ValidationError

from app.events.types import EVENTS, Event
from app.validation import bad_input

SOURCE = "lunch-bot"
SPEC_VERSION = "1.0"

_BY_TYPE: Mapping[str, type[Event]] = {event.type: event for event in EVENTS}


class UnreadableEvent(Exception):
    """The headers or the value of a message do not describe one of our events."""


@dataclass(frozen=True)
class ReceivedEvent:
    """An event from Kafka with its id."""

    id: str
    event: Event


def headers_of(event_id: str, event: Event, at: datetime) -> dict[str, str]:
    """Return the CloudEvents attributes of `event` as Kafka headers."""
    return {
        "ce_id": event_id,
        "ce_type": event.type,
        "ce_source": SOURCE,
        "ce_specversion": SPEC_VERSION,
        "ce_time": at.isoformat(),
        "content-type": "application/json",
    }


def parse_event(headers: Mapping[str, object], value: bytes) -> ReceivedEvent:
    """Read an event of ours or of another producer.

    Raises UnreadableEvent.
    """
    if "ce_id" not in headers and "ce_type" not in headers:
        event = _parse_value(_plain_type(value), value)
        if event.natural_id is None:
            raise UnreadableEvent(f"there is no ce_id header, which {event.type} needs")
        return ReceivedEvent(event.natural_id, event)
    event_id = headers.get("ce_id")
    if not isinstance(event_id, str) or not event_id:
        raise UnreadableEvent("there is no ce_id header")
    return ReceivedEvent(event_id, _parse_value(headers.get("ce_type"), value))


def _parse_value(event_type: object, value: bytes) -> Event:
    kind = _BY_TYPE.get(event_type) if isinstance(event_type, str) else None
    if kind is None:
        raise UnreadableEvent(f"unknown type {event_type!r}")
    try:
        return kind.model_validate_json(value)
    except ValidationError as error:
        raise UnreadableEvent(bad_input(error).message) from None


def _plain_type(value: bytes) -> object:
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UnreadableEvent(f"there is no ce_id header, and the value is not JSON: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise UnreadableEvent("there is no ce_id header, and the value is not a JSON object")
    return parsed.get("type")
