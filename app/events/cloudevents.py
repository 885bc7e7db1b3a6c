"""CloudEvents 1.0 in Kafka. Ours are in binary mode: the attributes are headers, the data is the value as JSON. Those of other
producers may also be in structured mode: the value is JSON with the attributes and the data.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Base64Bytes, BaseModel, Field, ValidationError

from app.events.types import EVENTS, Event
from app.validation import bad_input, text_rule

SOURCE = "lunch-bot"
SPEC_VERSION = "1.0"

MEDIA_TYPES = "application/cloudevents"
STRUCTURED_MEDIA_TYPE = f"{MEDIA_TYPES}+json"

ID_MAX_CHARACTERS = 255
"""The length of the inbox's column."""

SOURCE_MAX_CHARACTERS = 2048

PREFIX = "ce_"

_BY_TYPE: Mapping[str, type[Event]] = {event.type: event for event in EVENTS}


class UnreadableEvent(Exception):
    """The headers or the value of a message do not describe one of our events."""


@dataclass(frozen=True)
class ReceivedEvent:
    """An event from Kafka. `source` and `id` together are its identity; the source is empty if the producer gives none."""

    source: str
    id: str
    event: Event


def _validate_utf8(text: str) -> str:
    """Refuse the replacement character: with it, different bytes would be equal."""
    if "\N{REPLACEMENT CHARACTER}" in text:
        raise ValueError("is not UTF-8")
    return text


class _Attributes(BaseModel):
    """The attributes of a CloudEvent that we use."""

    id: Annotated[str, Field(min_length=1), text_rule(ID_MAX_CHARACTERS), AfterValidator(_validate_utf8)]
    source: Annotated[str, text_rule(SOURCE_MAX_CHARACTERS), AfterValidator(_validate_utf8)] = ""
    type: str


class _StructuredEvent(_Attributes):
    """A CloudEvent in structured mode. JSON data are in `data`, or as bytes in `data_base64`."""

    data: Any = None
    data_base64: Base64Bytes | None = None


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


def parse_event(headers: Mapping[str, str], value: bytes) -> ReceivedEvent:
    """Read an event of ours or of another producer.

    Raises UnreadableEvent, and no other error: a message may contain anything.
    """
    try:
        return _parse({name.lower(): text for name, text in headers.items()}, _decode(value))
    except UnreadableEvent:
        raise
    except ValidationError as error:
        raise UnreadableEvent(bad_input(error).message) from None
    except Exception as error:
        raise UnreadableEvent(f"{type(error).__name__}: {error}") from error


def _parse(headers: Mapping[str, str], text: str) -> ReceivedEvent:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == STRUCTURED_MEDIA_TYPE:
        structured = _StructuredEvent.model_validate_json(text)
        data = structured.data_base64
        return _received(structured, json.dumps(structured.data) if data is None else _decode(data))
    if media_type.startswith(MEDIA_TYPES):
        raise UnreadableEvent(f"{media_type} is not supported: send each event in its own message, as JSON")
    attributes = {name.removeprefix(PREFIX): text for name, text in headers.items() if name.startswith(PREFIX)}
    if "id" in attributes or "type" in attributes:
        return _received(_Attributes.model_validate(attributes), text)
    event = _parse_data(_plain_type(text), text)
    if event.natural_id is None:
        raise UnreadableEvent(f"there is no ce_id header, which {event.type} needs")
    return ReceivedEvent("", event.natural_id, event)


def _received(attributes: _Attributes, data: str) -> ReceivedEvent:
    return ReceivedEvent(attributes.source, attributes.id, _parse_data(attributes.type, data))


def _parse_data(event_type: object, data: str) -> Event:
    kind = _BY_TYPE.get(event_type) if isinstance(event_type, str) else None
    if kind is None:
        raise UnreadableEvent(f"unknown type {event_type!r}")
    return kind.model_validate_json(data)


def _plain_type(text: str) -> object:
    try:
        parsed = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnreadableEvent(f"there is no ce_id header, and the value is not JSON: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise UnreadableEvent("there is no ce_id header, and the value is not a JSON object")
    return parsed.get("type")


def _decode(value: bytes) -> str:
    """Decode JSON. A byte order mark, which some producers write, is not part of the text."""
    return value.decode(json.detect_encoding(value))
