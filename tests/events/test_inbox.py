"""From Kafka to an effect: once for each event, with any other messages in the topic."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import orjson
import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaProducer, ConsumerRecord
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.auth.context import Context
from app.clients import Clients
from app.dev.embedded import Kafka
from app.events import cloudevents
from app.events.inbox import HANDLER_ATTEMPTS, handle_once
from app.events.outbox import TOPIC
from app.events.types import (
    CafeUnlinked,
    DeadlinePassed,
    Event,
    GenerateRecommendations,
    LinkRequestCreated,
    LinkRequestRejected,
    Topic,
    UnlinkReason,
)
from app.handlers.deadlines import handle_deadline
from app.handlers.links import handle_link_event
from app.handlers.recommendations import handle_daily_task
from app.handlers.subscribers import register
from app.models import (
    Cafe,
    DeliveryDay,
    Language,
    Notification,
    NotificationKind,
    Order,
    OrderStatus,
    Outbox,
    PauseReason,
    RecommendationRun,
    RunStatus,
)
from app.models.orders import OrderInput
from app.resolvers import links
from app.resolvers.orders import place_order
from app.services import runs
from app.services.notifications import DeliveryTask
from app.services.runs import JOB
from app.telegram import notification_texts
from tests.conftest import MAX_ATTEMPTS, Lunch, add_cafe, add_lunch
from tests.events.conftest import CHAT, headers_of, producing, reading, relaying, topic_length
from tests.servers import DEADLINE_S, POLL_S, until
from tests.user_factory import add_ordering_users

CONSUMER = "test"
MANAGERS_CHAT = -1009
NOW = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)


async def handle(clients: Clients, session: AsyncSession, event: Event) -> None:
    """Call the handlers of links and deadlines, as the events process does."""
    await handle_link_event(clients, session, event)
    await handle_deadline(clients, session, event)


def with_managers_chat(clients: Clients) -> Clients:
    """Return the clients with a managers' chat in the settings."""
    return replace(clients, settings=clients.settings.model_copy(update={"telegram_manager_chat_id": MANAGERS_CHAT}))


@pytest.fixture
def unlinked(linked: Cafe) -> CafeUnlinked:
    """An event with an effect: its handler notifies the former chat."""
    return CafeUnlinked.of_cafe(linked, CHAT, UnlinkReason.MANAGER)


def record_of(event: Event, event_id: str = "1") -> ConsumerRecord:
    """Return the record of an event, as a consumer gets it."""
    value = event.model_dump_json().encode()
    attributes = cloudevents.headers_of(event_id, event, datetime.now(UTC))
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


def plain_record(value: object, topic: Topic = Topic.DEADLINES) -> ConsumerRecord:
    """Return a record of another producer: JSON without headers."""
    return replace(
        record_of(DeadlinePassed(cafe_id=1, date=date(2026, 3, 5), timestamp=NOW)),
        topic=topic,
        value=orjson.dumps(value),
        headers=[],
    )


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


async def test_a_request_without_a_managers_chat_notifies_no_chat(
    clients: Clients, anonymous: Context, cafe: Cafe
) -> None:
    """The requesting chat gets no notification, and without a managers' chat there is no other."""
    request = await links.link_request(anonymous, cafe.id, CHAT)

    await handle_once(clients, CONSUMER, record_of(LinkRequestCreated.of(request)), handle)

    assert await notification_kinds(clients) == []


async def test_managers_are_notified_of_a_request(clients: Clients, anonymous: Context, cafe: Cafe) -> None:
    """The managers' chat gets a notification that belongs to the request."""
    request = await links.link_request(anonymous, cafe.id, CHAT)

    await handle_once(with_managers_chat(clients), CONSUMER, record_of(LinkRequestCreated.of(request)), handle)

    async with clients.db() as session:
        [queued] = await session.scalars(select(Notification))
    assert (queued.tg_chat_id, queued.kind, queued.link_request_id) == (
        MANAGERS_CHAT,
        NotificationKind.LINK_REQUESTED,
        request.id,
    )


@pytest.mark.parametrize(
    ("reason", "chats"),
    [
        (UnlinkReason.MANAGER, [CHAT]),
        (UnlinkReason.CHAT, [CHAT, MANAGERS_CHAT]),
        (UnlinkReason.CHAT_GONE, [MANAGERS_CHAT]),
    ],
)
async def test_an_unlinking_notifies_chat_and_managers(
    clients: Clients, linked: Cafe, reason: UnlinkReason, chats: list[int]
) -> None:
    """The chat is notified unless it is unreachable, and the managers unless one of them unlinked the cafe."""
    event = CafeUnlinked.of_cafe(linked, CHAT, reason)
    await handle_once(with_managers_chat(clients), CONSUMER, record_of(event), handle)

    async with clients.db() as session:
        assert list(await session.scalars(select(Notification.tg_chat_id).order_by(col(Notification.id)))) == chats


async def test_an_unlinking_notifies_the_former_chat(clients: Clients, unlinked: CafeUnlinked) -> None:
    """The notification goes to the chat that the cafe had."""
    await handle_once(clients, CONSUMER, record_of(unlinked), handle)

    async with clients.db() as session:
        assert await session.scalar(select(Notification.tg_chat_id)) == CHAT


async def test_a_notification_is_in_the_cafes_language(clients: Clients, anonymous: Context, manager: Context) -> None:
    """A chat reads a notification in the language of the requested cafe."""
    cafe = await add_cafe(clients, language=Language.RU)
    request = await links.link_request(anonymous, cafe.id, CHAT)
    rejected = await links.reject(manager, request.id, "Нет такого кафе")

    await handle_once(clients, CONSUMER, record_of(LinkRequestRejected.of(rejected)), handle)

    async with clients.db() as session:
        parts = await session.scalar(select(Notification.parts))
    assert parts == [notification_texts.link_rejected(cafe, reason="Нет такого кафе", locale="ru")]


@pytest.fixture
async def ordered(clients: Clients, user: Context) -> Order:
    """An order from a linked cafe."""
    lunch = await add_lunch(clients, tg_chat_id=CHAT, linked_at=NOW)
    return await place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)


def deadline_value(order: Order, **other: object) -> dict[str, object]:
    """Return another producer's value for the deadline of an order's day."""
    return {
        "type": "deadline.passed",
        "cafe_id": order.cafe_id,
        "date": order.date.isoformat(),
        "timestamp": NOW.isoformat(),
        **other,
    }


async def test_a_deadline_queues_the_order_list(clients: Clients, ordered: Order) -> None:
    """After a deadline the cafe's chat gets its order list."""
    await handle_once(
        clients, CONSUMER, record_of(DeadlinePassed(cafe_id=ordered.cafe_id, date=ordered.date, timestamp=NOW)), handle
    )

    async with clients.db() as session:
        [queued] = await session.scalars(select(Notification))
    assert (queued.kind, queued.tg_chat_id, queued.date) == (NotificationKind.ORDERS, CHAT, ordered.date)


async def test_another_producer_needs_no_headers(clients: Clients, ordered: Order) -> None:
    """Plain JSON about a deadline has the same effect as our event."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered)), handle)

    assert await notification_kinds(clients) == [NotificationKind.ORDERS]


async def test_another_producer_closes_the_day(clients: Clients, ordered: Order) -> None:
    """The deadline of another producer closes ordering, and confirms the orders."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered)), handle)

    async with clients.db() as session:
        day = await session.get_one(DeliveryDay, (ordered.cafe_id, ordered.date))
        order = await session.get_one(Order, ordered.id)
    assert (day.announced_at, order.status) == (NOW, OrderStatus.CONFIRMED)


async def test_the_same_deadline_has_no_second_effect(clients: Clients, ordered: Order) -> None:
    """The cafe and the date identify a deadline, with any producer, time and id."""
    event = DeadlinePassed(cafe_id=ordered.cafe_id, date=ordered.date, timestamp=NOW)
    for record in (
        plain_record(deadline_value(ordered)),
        plain_record(deadline_value(ordered, timestamp=(NOW + timedelta(hours=1)).isoformat())),
        record_of(event, "1"),
        record_of(event, "2"),
    ):
        await handle_once(clients, CONSUMER, record, handle)

    assert await notification_kinds(clients) == [NotificationKind.ORDERS]
    assert await dead_letters(clients) == []


async def test_two_deadlines_of_a_cafe_are_two(clients: Clients, user: Context, ordered: Order) -> None:
    """Each date has a separate order list."""
    fields = OrderInput.collect(combo_id=ordered.combo_id, dish_ids=[dish.menu_item_id for dish in ordered.dishes])
    other = await place_order(user, ordered.cafe_id, ordered.date + timedelta(days=1), fields)

    for order in (ordered, other):
        await handle_once(clients, CONSUMER, plain_record(deadline_value(order)), handle)

    async with clients.db() as session:
        dates = [queued.date for queued in await session.scalars(select(Notification).order_by(col(Notification.id)))]
    assert dates == [ordered.date, other.date]


@pytest.mark.usefixtures("without_waiting")
async def test_a_deadline_of_an_unknown_cafe_becomes_a_dead_letter(clients: Clients, ordered: Order) -> None:
    """A deadline of an unknown cafe is dead-lettered, and does not block the next message."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered, cafe_id=999)), handle)

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent: cafe_id")
    assert letter["x-topic"] == Topic.DEADLINES


UNREADABLE_DEADLINES = {
    "not JSON": b"deadline.passed",
    "not an object": b'["deadline.passed"]',
    "no type": b'{"cafe_id": 1, "date": "2026-03-05", "timestamp": "2026-03-04T10:30:00Z"}',
    "an unknown type": b'{"type": "deadline.missed"}',
    "no date": b'{"type": "deadline.passed", "cafe_id": 1, "timestamp": "2026-03-04T10:30:00Z"}',
    "an impossible date": b'{"type": "deadline.passed", "cafe_id": 1, "date": "2026-02-30", "timestamp": "2026-03-04T10:30:00Z"}',
    "not a number": b'{"type": "deadline.passed", "cafe_id": "one", "date": "2026-03-05", "timestamp": "2026-03-04T10:30:00Z"}',
}


@pytest.mark.parametrize("value", UNREADABLE_DEADLINES.values(), ids=UNREADABLE_DEADLINES)
async def test_an_unreadable_deadline_becomes_a_dead_letter(clients: Clients, value: bytes) -> None:
    """A value that is not a deadline is unreadable, and is not retried."""
    await handle_once(clients, CONSUMER, replace(plain_record(None), value=value), handle)

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent")


async def test_a_time_without_an_offset_is_utc(clients: Clients, ordered: Order) -> None:
    """Another producer may leave out the offset."""
    await handle_once(clients, CONSUMER, plain_record(deadline_value(ordered, timestamp="2026-03-04T10:30:00")), handle)

    async with clients.db() as session:
        day = await session.get_one(DeliveryDay, (ordered.cafe_id, ordered.date))
    assert day.announced_at == NOW


async def test_only_open_events_may_be_plain_json(clients: Clients, unlinked: CafeUnlinked) -> None:
    """Another producer cannot say that a cafe is unlinked."""
    value = {"type": "cafe.unlinked", **orjson.loads(unlinked.model_dump_json())}

    await handle_once(clients, CONSUMER, plain_record(value, Topic.LINK_REQUESTS), handle)

    [letter] = await dead_letters(clients)
    assert letter["x-error"] == "UnreadableEvent: there is no ce_id header, which cafe.unlinked needs"


def with_keys(clients: Clients) -> Clients:
    """Return the clients with a Gemini key."""
    return replace(clients, settings=clients.settings.model_copy(update={"gemini_api_keys": (SecretStr("key"),)}))


async def handle_task(clients: Clients, record: ConsumerRecord) -> None:
    """Handle a record of the daily tasks."""
    await handle_once(clients, CONSUMER, record, handle_daily_task)


def task_value(**other: object) -> dict[str, object]:
    """Return another producer's request for recommendations."""
    return {"type": "generate_recommendations", "timestamp": NOW.isoformat(), **other}


async def find_run(clients: Clients) -> RecommendationRun | None:
    """Return the run, if there is one."""
    async with clients.db() as session:
        return await session.scalar(select(RecommendationRun))


TASKS = {
    "plain JSON": plain_record(task_value(), Topic.DAILY_TASKS),
    "plain JSON with an unknown field": plain_record(task_value(why="because"), Topic.DAILY_TASKS),
    "an event": record_of(GenerateRecommendations(timestamp=NOW)),
}


@pytest.mark.parametrize("record", TASKS.values(), ids=TASKS)
async def test_a_task_starts_a_run(clients: Clients, lunch: Lunch, record: ConsumerRecord) -> None:
    """In each form, a task starts today's run, with jobs for the workers."""
    await add_ordering_users(clients, lunch, 2)

    await handle_task(with_keys(clients), record)

    run = await find_run(clients)
    assert run is not None
    assert (run.status, run.total, run.started_by) == (RunStatus.RUNNING, 2, None)
    queued = [(job.function, list(job.args)) for job in await clients.jobs.queued_jobs()]
    assert queued == [(JOB, [str(run.date)])] * 2


@pytest.mark.parametrize(
    ("again", "status"),
    [
        (plain_record(task_value(), Topic.DAILY_TASKS), RunStatus.PAUSED),
        (plain_record(task_value(timestamp="2026-03-04T10:31:00Z"), Topic.DAILY_TASKS), RunStatus.RUNNING),
        (record_of(GenerateRecommendations(timestamp=NOW)), RunStatus.RUNNING),
    ],
    ids=["the same", "a minute later", "an event"],
)
async def test_a_repeated_task(clients: Clients, lunch: Lunch, again: ConsumerRecord, status: RunStatus) -> None:
    """The same message has no second effect; another message resumes a paused run."""
    await add_ordering_users(clients, lunch, 2)
    await handle_task(with_keys(clients), plain_record(task_value(), Topic.DAILY_TASKS))
    async with clients.db() as session:
        [paused] = await session.scalars(select(RecommendationRun))
        await runs.pause_run(session, paused.date, PauseReason.KEYS_DISABLED, datetime.now(UTC))

    await handle_task(with_keys(clients), again)

    run = await find_run(clients)
    assert run is not None
    assert run.status is status


async def test_a_repeated_task_event_starts_no_run(clients: Clients, lunch: Lunch) -> None:
    """The id of an event counts, and not its time."""
    await add_ordering_users(clients, lunch, 2)
    await handle_task(with_keys(clients), record_of(GenerateRecommendations(timestamp=NOW)))
    async with clients.db() as session:
        await session.execute(sa.delete(RecommendationRun))

    await handle_task(with_keys(clients), record_of(GenerateRecommendations(timestamp=NOW + timedelta(hours=1))))

    assert await find_run(clients) is None


UNREADABLE_TASKS = {
    "no time": b'{"type": "generate_recommendations"}',
    "not a time": b'{"type": "generate_recommendations", "timestamp": "tonight"}',
    "an unknown type": b'{"type": "generate_menus", "timestamp": "2026-03-04T10:30:00Z"}',
    "not JSON": b"generate_recommendations",
    "empty": b"",
}


@pytest.mark.parametrize("value", UNREADABLE_TASKS.values(), ids=UNREADABLE_TASKS)
async def test_an_unreadable_task_becomes_a_dead_letter(clients: Clients, value: bytes) -> None:
    """An unreadable task starts no run, and its dead letter has the topic."""
    await handle_task(with_keys(clients), replace(plain_record(None, Topic.DAILY_TASKS), value=value))

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent")
    assert letter["x-topic"] == Topic.DAILY_TASKS
    assert await find_run(clients) is None


async def test_without_keys_a_task_starts_no_run(clients: Clients) -> None:
    """Without Gemini keys a task is handled without an effect, and is not a dead letter."""
    await handle_task(clients, plain_record(task_value(), Topic.DAILY_TASKS))

    assert await find_run(clients) is None
    assert await dead_letters(clients) == []


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
