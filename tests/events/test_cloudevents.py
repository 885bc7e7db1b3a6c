"""From the headers and the value of a message to an event: in each mode, and with any bytes."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st

from app.events.cloudevents import ID_MAX_CHARACTERS, ReceivedEvent, UnreadableEvent, parse_event
from app.events.types import EVENTS, DeadlinePassed, GenerateRecommendations

EVENT = DeadlinePassed(cafe_id=7, date=date(2026, 3, 5), timestamp=datetime(2026, 3, 4, 10, 30, tzinfo=UTC))
DATA = {"cafe_id": 7, "date": "2026-03-05", "timestamp": "2026-03-04T10:30:00Z"}
BINARY = {"ce_id": "1", "ce_source": "//erp", "ce_type": "deadline.passed", "ce_specversion": "1.0"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
ATTRIBUTES = {"id": "1", "source": "//erp", "type": "deadline.passed", "specversion": "1.0"}


def to_json(value: object) -> bytes:
    return json.dumps(value).encode()


def structured(**changes: object) -> bytes:
    """Return an event in structured mode. A change to None leaves the attribute out."""
    attributes = {**ATTRIBUTES, "data": DATA, **changes}
    return to_json({name: value for name, value in attributes.items() if value is not None})


READABLE: dict[str, tuple[dict[str, str], bytes]] = {
    "binary": (BINARY, to_json(DATA)),
    "binary with a content type": (BINARY | {"content-type": "application/json; charset=utf-8"}, to_json(DATA)),
    "binary with other cases": ({name.title(): text for name, text in BINARY.items()}, to_json(DATA)),
    "structured": (STRUCTURED, structured()),
    "structured with a charset": ({"content-type": "application/cloudevents+json; charset=UTF-8"}, structured()),
    "structured in another case": ({"Content-Type": "Application/CloudEvents+JSON ;charset=utf-8"}, structured()),
    "structured with a content type of the data": (STRUCTURED, structured(datacontenttype="application/json")),
    "structured with extensions": (STRUCTURED, structured(traceparent="00-1", subject="cafe", dataschema="//schema")),
    "structured with bytes": (
        STRUCTURED,
        structured(data=None, data_base64=base64.b64encode(to_json(DATA)).decode(), datacontenttype="application/json"),
    ),
    "structured and binary": (STRUCTURED | {"ce_id": "2", "ce_type": "cafe.unlinked"}, structured()),
}


@pytest.mark.parametrize(("headers", "value"), READABLE.values(), ids=READABLE)
@pytest.mark.parametrize("mark", ["", "utf-8-sig", "utf-16"])
def test_an_event_is_read(headers: Mapping[str, str], value: bytes, mark: str) -> None:
    """Both modes are read, with and without a byte order mark."""
    written = value.decode().encode(mark) if mark else value

    assert parse_event(headers, written) == ReceivedEvent("//erp", "1", EVENT)


def test_plain_json_may_have_a_byte_order_mark() -> None:
    """Plain JSON of another producer may begin with a byte order mark."""
    value = to_json({"type": "deadline.passed", **DATA}).decode().encode("utf-8-sig")

    assert parse_event({}, value).event == EVENT


def test_a_source_may_be_missing() -> None:
    """An event without a source has an empty source."""
    headers = {name: text for name, text in BINARY.items() if name != "ce_source"}

    assert parse_event(headers, to_json(DATA)) == ReceivedEvent("", "1", EVENT)


def test_a_time_is_converted_to_utc() -> None:
    """The same instant with another offset is the same plain message."""
    messages = [
        {"type": "generate_recommendations", "timestamp": f"2026-03-04T{time}"} for time in ("10:30Z", "13:30+03:00")
    ]

    first, second = (parse_event({}, to_json(message)) for message in messages)

    assert first == second


BATCH = "application/cloudevents-batch+json"

UNREADABLE: dict[str, tuple[dict[str, str], bytes, str]] = {
    "a batch": ({"content-type": BATCH}, b"[%s]" % structured(), "batch.json is not supported"),
    "another format": ({"content-type": "application/cloudevents+avro"}, b"\0", "avro is not supported"),
    "a list in structured mode": (STRUCTURED, b"[]", "should be an object"),
    "no id in structured mode": (STRUCTURED, structured(id=None), "id: field required"),
    "no type in structured mode": (STRUCTURED, structured(type=None), "type: field required"),
    "no data": (STRUCTURED, structured(data=None), "value: must not be null"),
    "data that are text": (STRUCTURED, structured(data="soup", datacontenttype="text/plain"), "should be an object"),
    "bytes that are not base64": (STRUCTURED, structured(data_base64="A"), "data_base64: "),
    "bytes that are not JSON": (
        STRUCTURED,
        structured(data_base64=base64.b64encode(b"<xml/>").decode()),
        "invalid JSON",
    ),
    "an id with a zero byte": (BINARY | {"ce_id": "\0"}, to_json(DATA), "id: has a character that is not allowed"),
    "an id that is not UTF-8": (BINARY | {"ce_id": "\ufffd"}, to_json(DATA), "id: is not UTF-8"),
    "an empty id": (BINARY | {"ce_id": ""}, to_json(DATA), "id: "),
    "a long id": (BINARY | {"ce_id": "7" * 256}, to_json(DATA), "id: has 256 characters"),
    "a source with a zero byte": (BINARY | {"ce_source": "\0"}, to_json(DATA), "source: has a character"),
    "a time before the first year": (
        BINARY,
        to_json(DATA | {"timestamp": "0001-01-01T00:00:00+03:00"}),
        "timestamp: is out of",
    ),
    "a time after the last year": (
        BINARY,
        to_json(DATA | {"timestamp": "9999-12-31T23:00:00-03:00"}),
        "timestamp: is out of",
    ),
    "a cafe beyond 64 bits": (BINARY, to_json(DATA | {"cafe_id": 2**63}), "cafe_id: "),
    "a number of 5,000 digits": (BINARY, b'{"cafe_id": %s}' % (b"9" * 5000), "number out of range"),
    "deep JSON": (BINARY, b'{"cafe_id": ' * 100_000, "recursion"),
    "deep plain JSON": ({}, b"[" * 100_000, "depth limit"),
    "deep JSON in structured mode": (STRUCTURED, b'{"data": ' * 100_000, "recursion"),
    "a lone surrogate": (BINARY, b'{"cafe_id": "\\ud800"}', "hex escape"),
    "a lone surrogate in plain JSON": ({}, b'{"type": "\\ud800"}', "not JSON"),
    "half a UTF-16 character": ({}, b"\xff\xfe{", "UnicodeDecodeError"),
    "a type that is a list": ({}, b'{"type": []}', "unknown type"),
    "nothing": ({}, b"", "not JSON"),
}


@pytest.mark.parametrize(("headers", "value", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_an_unreadable_message_has_a_reason(headers: Mapping[str, str], value: bytes, reason: str) -> None:
    """The error for an unreadable message says what is wrong."""
    with pytest.raises(UnreadableEvent, match=f"(?i){reason}"):
        parse_event(headers, value)


NAMES = ["ce_id", "ce_source", "ce_type", "content-type", "CE_ID"]
TEXTS = st.one_of(
    st.text(max_size=300),
    st.sampled_from([event.type for event in EVENTS]),
    st.sampled_from(["application/cloudevents+json", BATCH, "application/json"]),
)
TIMES = st.one_of(
    st.datetimes(timezones=st.timezones() | st.none()).map(datetime.isoformat),
    st.sampled_from(["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "24:00", "-1", "1e999"]),
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | TIMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "type": TEXTS,
        "id": VALUES | TEXTS,
        "source": VALUES | TEXTS,
        "data": VALUES | st.fixed_dictionaries({"cafe_id": VALUES, "date": TIMES, "timestamp": TIMES}),
        "data_base64": VALUES | st.binary().map(lambda data: base64.b64encode(data).decode()),
        "timestamp": TIMES | VALUES,
        "date": TIMES | VALUES,
        "cafe_id": st.integers() | VALUES,
    },
)
BYTES = st.one_of(
    st.binary(),
    OBJECTS.map(to_json),
    st.tuples(OBJECTS, st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "utf-16-be"])).map(
        lambda pair: json.dumps(pair[0]).encode(pair[1])
    ),
)


@settings_of_hypothesis(max_examples=500, deadline=None)
@given(headers=st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=9), TEXTS, max_size=5), value=BYTES)
def test_any_message_is_an_event_or_unreadable(headers: dict[str, str], value: bytes) -> None:
    """Any headers and bytes are either an event, whose identity the inbox can store, or an UnreadableEvent."""
    try:
        received = parse_event(headers, value)
    except UnreadableEvent:
        return
    assert 0 < len(received.id) <= ID_MAX_CHARACTERS
    assert "\0" not in received.id + received.source
    f"{received.source}{received.id}".encode()


@settings_of_hypothesis(max_examples=200, deadline=None)
@given(timestamp=TIMES, extra=VALUES)
def test_any_time_has_an_identity(timestamp: Any, extra: object) -> None:
    """A plain message with any time is either an event with an identity, or an UnreadableEvent."""
    try:
        received = parse_event(
            {}, to_json({"type": "generate_recommendations", "timestamp": timestamp, "extra": extra})
        )
    except UnreadableEvent:
        return
    assert isinstance(received.event, GenerateRecommendations)
    assert received.event.timestamp.utcoffset() == UTC.utcoffset(None)
