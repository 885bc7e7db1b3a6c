"""From Kafka to an effect: once for each event, with any other messages in the topic."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import NamedTuple
from urllib.parse import unquote

import orjson
import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaProducer
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.auth.context import Context
from app.clients import Clients
from app.dev.embedded import Kafka
from app.events import cloudevents
from app.events.inbox import ERROR_MAX_CHARACTERS, HANDLER_ATTEMPTS, handle_once
from app.events.types import CafeUnlinked, Event, Topic
from app.handlers.subscribers import register
from app.models import Cafe, Inbox, Notification, NotificationKind, Order, Outbox
from app.resolvers import links
from app.services.notifications import DeliveryTask
from tests.conftest import MAX_ATTEMPTS, add_lunch
from tests.events.conftest import CHAT, headers_of, producing, reading, relaying, topic_length
from tests.events.records import (
    CONSUMER,
    dead_letters,
    deadline_value,
    find_run,
    handle,
    notification_kinds,
    plain_record,
    record_of,
    structured_record,
    task_value,
    with_keys,
)
from tests.servers import DEADLINE_S, POLL_S, until
from tests.user_factory import add_ordering_users


class FailingHandler:
    """A handler that raises the given errors, and then succeeds. It notifies the chat each time."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, clients: Clients, session: AsyncSession, event: Event) -> None:
        self.calls += 1
        await handle(clients, session, event)
        if self.errors:
            raise self.errors.pop(0)


async def test_an_event_is_handled(clients: Clients, unlinked: CafeUnlinked) -> None:
    """The handler's changes are committed."""
    await handle_once(clients, CONSUMER, record_of(unlinked), handle)

    assert await notification_kinds(clients) == [NotificationKind.UNLINKED]


async def test_a_repeated_event_has_no_second_effect(clients: Clients, unlinked: CafeUnlinked) -> None:
    """A second message with the same id has no effect."""
    for _ in range(2):
        await handle_once(clients, CONSUMER, record_of(unlinked), handle)

    assert await notification_kinds(clients) == [NotificationKind.UNLINKED]


async def test_equal_events_with_different_ids_are_two(clients: Clients, unlinked: CafeUnlinked) -> None:
    """The id counts: the same change may happen twice."""
    for event_id in ("1", "2"):
        await handle_once(clients, CONSUMER, record_of(unlinked, event_id), handle)

    assert await notification_kinds(clients) == [NotificationKind.UNLINKED, NotificationKind.UNLINKED]


async def test_equal_ids_of_different_sources_are_two_events(clients: Clients, unlinked: CafeUnlinked) -> None:
    """The source and the id together are the identity of an event, in every mode."""
    records = [
        record_of(unlinked, "7", "//erp"),
        structured_record(unlinked, "7", "//crm"),
        record_of(unlinked, "7"),
        structured_record(unlinked, "7", "//erp"),
        record_of(unlinked, "7", "//crm"),
        structured_record(unlinked, "7"),
    ]

    for record in records:
        await handle_once(clients, CONSUMER, record, handle)

    assert await notification_kinds(clients) == [NotificationKind.UNLINKED] * 3


@pytest.mark.parametrize("source", [cloudevents.SOURCE, "//erp"])
async def test_an_event_that_an_older_version_handled_is_repeated(
    clients: Clients, unlinked: CafeUnlinked, source: str
) -> None:
    """A row without a source, as older versions write it, counts for every source."""
    assert await handle_as_older_version(clients, "7")

    await handle_once(clients, CONSUMER, record_of(unlinked, "7", source), handle)

    assert await notification_kinds(clients) == []


@pytest.mark.parametrize("source", [cloudevents.SOURCE, "//erp"])
async def test_an_older_version_finds_an_event_that_is_handled(
    clients: Clients, unlinked: CafeUnlinked, source: str
) -> None:
    """During an upgrade a consumer of the older version, which looks for the id alone, does not handle an event again."""
    await handle_once(clients, CONSUMER, record_of(unlinked, "7", source), handle)

    assert not await handle_as_older_version(clients, "7")


async def test_simultaneous_deliveries_have_one_effect(clients: Clients, unlinked: CafeUnlinked) -> None:
    """Of simultaneous deliveries of two events with one id, each event has one effect."""
    records = [record_of(unlinked, "7", source) for source in ("//erp", "//crm") * 4]

    await asyncio.gather(*(handle_once(clients, CONSUMER, record, handle) for record in records))

    assert await notification_kinds(clients) == [NotificationKind.UNLINKED] * 2


async def test_a_message_that_breaks_the_reader_is_a_dead_letter(clients: Clients) -> None:
    """A time that does not exist in UTC makes a dead letter with the reason, and is counted."""
    before = REGISTRY.get_sample_value("lunch_bot_dead_letters_total", {"topic": Topic.DAILY_TASKS}) or 0

    await handle_once(
        clients, CONSUMER, plain_record(task_value(timestamp="0001-01-01T00:00:00+03:00"), Topic.DAILY_TASKS), handle
    )

    [letter] = await dead_letters(clients)
    assert {name: letter[name] for name in ("x-error", "x-topic", "x-attempts")} == {
        "x-error": "UnreadableEvent: timestamp: is out of range",
        "x-topic": Topic.DAILY_TASKS,
        "x-attempts": "1",
    }
    assert REGISTRY.get_sample_value("lunch_bot_dead_letters_total", {"topic": Topic.DAILY_TASKS}) == before + 1


async def test_a_long_reason_is_cut(clients: Clients, unlinked: CafeUnlinked) -> None:
    """The reason of a dead letter is short enough for a header, and is text in any case."""
    record = replace(record_of(unlinked), headers=[("ce_id", b"7"), ("ce_type", b"\xff" * 10_000)])

    await handle_once(clients, CONSUMER, record, handle)

    [letter] = await dead_letters(clients)
    assert len(unquote(letter["x-error"])) == ERROR_MAX_CHARACTERS


@settings_of_hypothesis(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.none() | st.binary(max_size=20),
    value=st.none() | st.binary() | st.text().map(str.encode),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["ce_id", "ce_type", "ce_source", "content-type"]) | st.text(max_size=9),
            st.none() | st.binary(max_size=20) | st.sampled_from([b"cafe.unlinked", b"application/cloudevents+json"]),
        )
    ),
)
async def test_any_message_becomes_a_dead_letter(
    clients: Clients, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    """Any bytes make exactly one dead letter."""
    record = replace(plain_record(None), key=key, value=value, headers=headers)
    before = len(await dead_letters(clients))

    await handle_once(clients, CONSUMER, record, handle)

    assert len(await dead_letters(clients)) == before + 1


async def test_each_consumer_handles_an_event(clients: Clients, unlinked: CafeUnlinked) -> None:
    """Each consumer has its own inbox, and handles an event once."""
    for consumer in ("one", "other"):
        await handle_once(clients, consumer, record_of(unlinked), handle)

    assert await notification_kinds(clients) == [NotificationKind.UNLINKED, NotificationKind.UNLINKED]


@pytest.mark.usefixtures("without_waiting")
async def test_a_failed_handler_is_retried(clients: Clients, unlinked: CafeUnlinked) -> None:
    """A failed attempt is rolled back, and the next attempt succeeds."""
    await handle_once(clients, CONSUMER, record_of(unlinked), FailingHandler(ValueError("once")))

    assert await notification_kinds(clients) == [NotificationKind.UNLINKED]


@pytest.mark.usefixtures("without_waiting")
async def test_the_attempts_of_a_handler_are_limited(clients: Clients, unlinked: CafeUnlinked) -> None:
    """A handler that always fails is called a limited number of times."""
    handler = FailingHandler(*(ValueError("always") for _ in range(MAX_ATTEMPTS)))

    await handle_once(clients, CONSUMER, record_of(unlinked), handler)

    assert handler.calls == HANDLER_ATTEMPTS


@pytest.mark.usefixtures("without_waiting")
async def test_a_failed_event_becomes_a_dead_letter(clients: Clients, unlinked: CafeUnlinked) -> None:
    """A dead letter has the error, the topic, and the number of attempts."""
    handler = FailingHandler(*(ValueError("always") for _ in range(MAX_ATTEMPTS)))

    await handle_once(clients, CONSUMER, record_of(unlinked), handler)

    [letter] = await dead_letters(clients)
    assert {name: letter[name] for name in ("x-error", "x-topic", "x-attempts")} == {
        "x-error": "ValueError: always",
        "x-topic": Topic.LINK_REQUESTS,
        "x-attempts": "5",
    }


@pytest.mark.usefixtures("without_waiting")
async def test_an_outage_is_retried_until_it_ends(clients: Clients, unlinked: CafeUnlinked) -> None:
    """While a service is unavailable the handler is called again without a limit."""
    handler = FailingHandler(*(ConnectionRefusedError() for _ in range(10 * HANDLER_ATTEMPTS)))

    await handle_once(clients, CONSUMER, record_of(unlinked), handler)

    assert await notification_kinds(clients) == [NotificationKind.UNLINKED]


async def test_only_open_events_may_be_plain_json(clients: Clients, unlinked: CafeUnlinked) -> None:
    """Another producer cannot say that a cafe is unlinked."""
    value = {"type": "cafe.unlinked", **orjson.loads(unlinked.model_dump_json())}

    await handle_once(clients, CONSUMER, plain_record(value, Topic.LINK_REQUESTS), handle)

    [letter] = await dead_letters(clients)
    assert letter["x-error"] == "UnreadableEvent: there is no ce_id header, which cafe.unlinked needs"


@pytest.fixture
async def running_handlers(kafka_clients: Clients) -> AsyncIterator[None]:
    """The Kafka handlers and the relay, as in the events process."""
    register(kafka_clients)
    async with relaying(kafka_clients):
        yield


@pytest.mark.usefixtures("running_handlers")
async def test_a_repeated_approval_is_one_notification(
    kafka: Kafka, kafka_clients: Clients, anonymous: Context, manager: Context, cafe: Cafe
) -> None:
    """An approval that Kafka delivers twice makes one notification with one delivery task."""
    request = await links.link_request(anonymous, cafe.id, CHAT)
    await links.approve(manager, request.id)

    async with reading(kafka) as records, producing(kafka) as producer:
        await until(lambda: len(records) == 2)
        for record in records * 2:
            await producer.send_and_wait(record.topic, record.value, record.key, headers=list(record.headers))
        await links.unlink(manager, cafe.id)
        await until_notified(kafka_clients, NotificationKind.UNLINKED)

    async with kafka_clients.db() as session:
        queued = list(
            await session.scalars(
                sa.select(Outbox.c.payload).where(Outbox.c.queue == DeliveryTask.queue).order_by(Outbox.c.id)
            )
        )
        made = list(await session.scalars(select(Notification).order_by(col(Notification.id))))
    assert [notification.kind for notification in made] == [NotificationKind.LINK_APPROVED, NotificationKind.UNLINKED]
    assert [DeliveryTask.model_validate_json(payload) for payload in queued] == [
        DeliveryTask(notification_id=notification.id, part=0) for notification in made
    ]


@pytest.mark.usefixtures("running_handlers")
async def test_a_deadline_from_kafka_is_handled(kafka: Kafka, kafka_clients: Clients, ordered: Order) -> None:
    """Plain JSON in the topic of deadlines reaches the cafe."""
    async with producing(kafka) as producer:
        await producer.send_and_wait(Topic.DEADLINES, orjson.dumps(deadline_value(ordered)))

    await until_notified(kafka_clients, NotificationKind.ORDERS)


@pytest.mark.usefixtures("running_handlers")
async def test_an_event_in_structured_mode_is_handled(
    kafka: Kafka, kafka_clients: Clients, unlinked: CafeUnlinked
) -> None:
    """An event in structured mode has the same effect as ours."""
    record = structured_record(unlinked)
    async with producing(kafka) as producer:
        await send(producer, RawMessage(record.key, record.value, dict(record.headers)))

    await until_notified(kafka_clients, NotificationKind.UNLINKED)


async def test_a_task_from_kafka_is_handled(kafka: Kafka, kafka_clients: Clients) -> None:
    """Plain JSON in the topic of daily tasks starts the run."""
    clients = with_keys(kafka_clients)
    register(clients)
    await add_ordering_users(clients, await add_lunch(clients), 1)
    async with relaying(clients), producing(kafka) as producer:
        await producer.send_and_wait(Topic.DAILY_TASKS, orjson.dumps(task_value()))

        async with asyncio.timeout(DEADLINE_S):
            while await find_run(clients) is None:
                await asyncio.sleep(POLL_S)


class RawMessage(NamedTuple):
    """A message of another producer."""

    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes | None]


READABLE = {"ce_id": b"7", "ce_type": b"cafe.unlinked"}


UNREADABLE = [
    RawMessage(b"no headers", b"{}", {}),
    RawMessage(b"no type", b"{}", {"ce_id": b"7"}),
    RawMessage(b"no id", b"{}", {"ce_type": b"cafe.unlinked"}),
    RawMessage(b"an unknown type", b"{}", {"ce_id": b"7", "ce_type": b"cafe.painted"}),
    RawMessage(b"a type that is not UTF-8", b"{}", {"ce_id": b"7", "ce_type": b"\xff"}),
    RawMessage(b"headers without values", b"{}", {"ce_id": None, "ce_type": None}),
    RawMessage(b"JSON of another schema", b'{"id": "one"}', READABLE),
    RawMessage(b"JSON that is not an object", b"[1]", READABLE),
    RawMessage(b"not JSON", b"\xff\0", READABLE),
    RawMessage(b"no value", None, READABLE),
    RawMessage(None, b"no key", READABLE),
]


UNUSUAL = {
    "a header with a zero byte": RawMessage(b"1", b"{}", {"ce_id": b"7", "ce_type": b"\0"}),
    "a key that is not UTF-8": RawMessage(b"\xff", b"{}", READABLE),
    "a number as a key": RawMessage((7).to_bytes(8), b"{}", READABLE),
}
"""Kafka accepts them. The outbox has headers and keys as JSON in PostgreSQL, which does not."""


@pytest.mark.usefixtures("running_handlers")
async def test_unreadable_messages_become_dead_letters(kafka: Kafka) -> None:
    """The dead letters of unreadable messages have the same keys and values."""
    async with producing(kafka) as producer, reading(kafka, Topic.DEAD_LETTERS) as letters:
        for message in UNREADABLE:
            await send(producer, message)
        await until(lambda: len(letters) == len(UNREADABLE))

    received = {(letter.key or None, letter.value or None) for letter in letters}
    assert received == {(message.key, message.value) for message in UNREADABLE}


@pytest.mark.usefixtures("running_handlers")
async def test_a_dead_letter_has_the_reason(kafka: Kafka) -> None:
    """A dead letter has the headers of its message, every wrong field, the topic, and the number of attempts."""
    async with producing(kafka) as producer, reading(kafka, Topic.DEAD_LETTERS) as letters:
        await send(producer, RawMessage(b"1", b'{"id": "one"}', READABLE))
        await until(lambda: letters)

    described = headers_of(letters[0])
    assert {name: described[name] for name in ("ce_id", "ce_type", "x-error", "x-topic", "x-attempts")} == {
        "ce_id": "7",
        "ce_type": "cafe.unlinked",
        "x-error": (
            "UnreadableEvent: name: field required; description: field required; is_active: field required; "
            "tg_chat_id: field required; tg_username: field required; notifications_enabled: field required; "
            "linked_at: field required; timezone: field required; language: field required; "
            "created_at: field required; id: input should be a valid integer, unable to parse string as an integer; "
            "former_tg_chat_id: field required"
        ),
        "x-topic": Topic.LINK_REQUESTS,
        "x-attempts": "1",
    }


@pytest.mark.usefixtures("running_handlers")
@pytest.mark.parametrize("message", UNUSUAL.values(), ids=UNUSUAL)
async def test_any_bytes_become_a_dead_letter(kafka: Kafka, message: RawMessage) -> None:
    """A key or a header of any bytes reaches the dead letters unchanged."""
    async with producing(kafka) as producer, reading(kafka, Topic.DEAD_LETTERS) as letters:
        await send(producer, message)
        await until(lambda: letters)

    assert (letters[0].key, letters[0].value) == (message.key, message.value)


@pytest.mark.usefixtures("running_handlers")
@pytest.mark.parametrize(
    "header", [("topic", b"soup"), ("key", b"soup"), ("a%41", b"100%41"), ("\N{POT OF FOOD}", b"\0")]
)
async def test_a_dead_letter_keeps_its_headers(kafka: Kafka, header: tuple[str, bytes]) -> None:
    """A dead letter has all headers of its message, with any names and values."""
    async with producing(kafka) as producer, reading(kafka, Topic.DEAD_LETTERS) as letters:
        await send(producer, RawMessage(b"1", b"{}", dict([header])))
        await until(lambda: letters)

    assert header in letters[0].headers


@pytest.mark.usefixtures("running_handlers")
async def test_unreadable_messages_do_not_block(kafka: Kafka, kafka_clients: Clients, unlinked: CafeUnlinked) -> None:
    """The message after the unreadable ones is handled."""
    async with producing(kafka) as producer:
        for message in (*UNREADABLE, *UNUSUAL.values(), message_of(unlinked)):
            await send(producer, message)

    await until_notified(kafka_clients, NotificationKind.UNLINKED)


@pytest.mark.usefixtures("running_handlers")
async def test_an_event_without_a_key_is_handled(kafka: Kafka, kafka_clients: Clients, unlinked: CafeUnlinked) -> None:
    """The key is needed only for the order."""
    async with producing(kafka) as producer:
        await send(producer, message_of(unlinked)._replace(key=None))

    await until_notified(kafka_clients, NotificationKind.UNLINKED)


@pytest.mark.usefixtures("running_handlers")
async def test_there_are_no_replies(kafka: Kafka, kafka_clients: Clients, unlinked: CafeUnlinked) -> None:
    """A `reply_to` header of another producer does not make the process write to that topic."""
    with_reply, other = message_of(unlinked, "1"), message_of(unlinked, "2")
    async with producing(kafka) as producer:
        await send(
            producer, with_reply._replace(headers={**with_reply.headers, "reply_to": Topic.DEAD_LETTERS.encode()})
        )
        await send(producer, other)
    await until_notified(kafka_clients, NotificationKind.UNLINKED, times=2)

    assert await topic_length(kafka, Topic.DEAD_LETTERS) == 0


async def handle_as_older_version(clients: Clients, event_id: str) -> bool:
    """Record an event in the inbox as versions without sources do. Return whether they would handle it."""
    async with clients.db() as session:
        row = insert(Inbox).values(consumer=CONSUMER, event_id=event_id).on_conflict_do_nothing()
        return await session.scalar(row.returning(col(Inbox.event_id))) is not None


def message_of(event: Event, event_id: str = "1") -> RawMessage:
    record = record_of(event, event_id)
    return RawMessage(record.key, record.value, dict(record.headers))


async def send(producer: AIOKafkaProducer, message: RawMessage) -> None:
    """Send a message into the first partition, so that all messages are in order."""
    await producer.send_and_wait(
        Topic.LINK_REQUESTS, message.value, message.key, partition=0, headers=list(message.headers.items())
    )


async def until_notified(clients: Clients, kind: NotificationKind, times: int = 1) -> None:
    """Wait until there are so many notifications of this kind."""
    async with asyncio.timeout(DEADLINE_S):
        while (await notification_kinds(clients)).count(kind) < times:
            await asyncio.sleep(POLL_S)
