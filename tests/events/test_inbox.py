"""From Kafka to an effect: once for each event, whatever else is on the topic."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import NamedTuple

import orjson
import pytest
import sqlalchemy as sa
import stamina
from aiokafka import AIOKafkaProducer, ConsumerRecord
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.clients import Clients
from app.context import Context
from app.dev.embedded import Kafka
from app.events import messages
from app.events.handlers import register, start_task, tell_chats
from app.events.inbox import HANDLER_ATTEMPTS, handle_once
from app.events.log import TOPIC
from app.events.messages import (
    CafeUnlinked,
    DeadlinePassed,
    Event,
    GenerateRecommendations,
    LinkRequestCreated,
    LinkRequestRejected,
    Topic,
    UnlinkReason,
)
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
from app.resolvers import links, runs
from app.resolvers.notifications import DELIVERY_QUEUE
from app.resolvers.order_lines import OrderFields
from app.resolvers.orders import place_order
from app.resolvers.runs import JOB
from app.telegram import texts
from tests.conftest import Lunch, add_cafe, add_lunch
from tests.diners import add_diners
from tests.events.conftest import CHAT, headers, length, producing, reading, relaying
from tests.servers import DEADLINE_S, POLL_S, until

CONSUMER = "test"
MANAGERS = -1009
MORE_THAN_ANY_ATTEMPTS = 1000
NOW = datetime(2026, 3, 4, 10, 30, tzinfo=UTC)


tell = partial(tell_chats, managers_chat_id=None)
"""With no managers' chat."""

tell_managers_too = partial(tell_chats, managers_chat_id=MANAGERS)


@pytest.fixture
def unlinked(linked: Cafe) -> CafeUnlinked:
    """An event that has an effect: the former chat is told."""
    return CafeUnlinked.of(linked, CHAT, UnlinkReason.MANAGER)


@pytest.fixture
def without_waiting() -> Iterator[None]:
    """Retries come at once. The limits of those that have one stay as they are: the cap is above them."""
    with stamina.set_testing(True, attempts=MORE_THAN_ANY_ATTEMPTS, cap=True):
        yield


def record_of(event: Event, event_id: str = "1") -> ConsumerRecord:
    """An event as a consumer gets it."""
    value = event.model_dump_json().encode()
    attributes = messages.headers(event_id, event, datetime.now(UTC))
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
    """JSON with no headers, as another producer sends it."""
    return replace(
        record_of(DeadlinePassed.of(1, date(2026, 3, 5), NOW)), topic=topic, value=orjson.dumps(value), headers=[]
    )


class Failing:
    """An effect that fails as it is told, and then succeeds. It tells the chat each time."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, session: AsyncSession, event: Event) -> None:
        self.calls += 1
        await tell(session, event)
        if self.errors:
            raise self.errors.pop(0)


async def told(clients: Clients) -> list[NotificationKind]:
    """What chats are to be told."""
    async with clients.db() as session:
        return list(await session.scalars(select(col(Notification.kind)).order_by(col(Notification.id))))


async def dead_letters(clients: Clients) -> list[dict[str, str]]:
    """The headers of the dead letters that wait for Kafka."""
    async with clients.db() as session:
        found = await session.scalars(
            sa.select(Outbox.c.headers).where(Outbox.c.headers[TOPIC].astext == Topic.DEAD_LETTERS)
        )
        return list(found)


async def test_an_event_has_its_effect(clients: Clients, unlinked: CafeUnlinked) -> None:
    """What an event calls for is done."""
    await handle_once(clients, CONSUMER, record_of(unlinked), tell)

    assert await told(clients) == [NotificationKind.UNLINKED]


async def test_an_event_that_comes_again_has_no_second_effect(clients: Clients, unlinked: CafeUnlinked) -> None:
    """A second message with the same id does nothing."""
    for _ in range(2):
        await handle_once(clients, CONSUMER, record_of(unlinked), tell)

    assert await told(clients) == [NotificationKind.UNLINKED]


async def test_events_that_look_alike_are_two(clients: Clients, unlinked: CafeUnlinked) -> None:
    """What counts is the id: the same thing may happen twice."""
    for event_id in ("1", "2"):
        await handle_once(clients, CONSUMER, record_of(unlinked, event_id), tell)

    assert await told(clients) == [NotificationKind.UNLINKED, NotificationKind.UNLINKED]


async def test_each_consumer_handles_an_event(clients: Clients, unlinked: CafeUnlinked) -> None:
    """That one consumer has handled an event does not keep another from it."""
    for consumer in ("one", "other"):
        await handle_once(clients, consumer, record_of(unlinked), tell)

    assert await told(clients) == [NotificationKind.UNLINKED, NotificationKind.UNLINKED]


@pytest.mark.usefixtures("without_waiting")
async def test_an_effect_that_fails_is_tried_again(clients: Clients, unlinked: CafeUnlinked) -> None:
    """What a failed attempt did is undone, and the next attempt does it."""
    await handle_once(clients, CONSUMER, record_of(unlinked), Failing(ValueError("once")))

    assert await told(clients) == [NotificationKind.UNLINKED]


@pytest.mark.usefixtures("without_waiting")
async def test_an_effect_that_always_fails_is_given_up(clients: Clients, unlinked: CafeUnlinked) -> None:
    """After so many attempts nobody tries again."""
    effect = Failing(*(ValueError("always") for _ in range(MORE_THAN_ANY_ATTEMPTS)))

    await handle_once(clients, CONSUMER, record_of(unlinked), effect)

    assert effect.calls == HANDLER_ATTEMPTS


@pytest.mark.usefixtures("without_waiting")
async def test_an_event_that_is_given_up_is_put_aside(clients: Clients, unlinked: CafeUnlinked) -> None:
    """A dead letter says why, whence, and after how many attempts."""
    effect = Failing(*(ValueError("always") for _ in range(MORE_THAN_ANY_ATTEMPTS)))

    await handle_once(clients, CONSUMER, record_of(unlinked), effect)

    [letter] = await dead_letters(clients)
    assert {name: letter[name] for name in ("x-error", "x-topic", "x-attempts")} == {
        "x-error": "ValueError: always",
        "x-topic": Topic.LINK_REQUESTS,
        "x-attempts": "5",
    }


@pytest.mark.usefixtures("without_waiting")
async def test_an_outage_is_waited_out(clients: Clients, unlinked: CafeUnlinked) -> None:
    """While a service is away an event is tried again as often as it takes."""
    effect = Failing(*(ConnectionRefusedError() for _ in range(10 * HANDLER_ATTEMPTS)))

    await handle_once(clients, CONSUMER, record_of(unlinked), effect)

    assert await told(clients) == [NotificationKind.UNLINKED]


async def test_a_request_is_not_told(clients: Clients, anybody: Context, cafe: Cafe) -> None:
    """The chat that asks knows it itself; and where managers have no chat, nobody else is there to be told."""
    request = await links.link_request(anybody, cafe.id, CHAT)

    await handle_once(clients, CONSUMER, record_of(LinkRequestCreated.of(request)), tell)

    assert await told(clients) == []


async def test_managers_are_told_of_a_request(clients: Clients, anybody: Context, cafe: Cafe) -> None:
    """The managers' chat gets a message that belongs to the request, to decide about it."""
    request = await links.link_request(anybody, cafe.id, CHAT)

    await handle_once(clients, CONSUMER, record_of(LinkRequestCreated.of(request)), tell_managers_too)

    async with clients.db() as session:
        [queued] = await session.scalars(select(Notification))
    assert (queued.tg_chat_id, queued.kind, queued.link_request_id) == (
        MANAGERS,
        NotificationKind.LINK_REQUESTED,
        request.id,
    )


@pytest.mark.parametrize(
    ("reason", "chats"),
    [
        (UnlinkReason.MANAGER, [CHAT]),
        (UnlinkReason.CHAT, [CHAT, MANAGERS]),
        (UnlinkReason.CHAT_GONE, [MANAGERS]),
    ],
)
async def test_who_is_told_of_an_unlinking(
    clients: Clients, linked: Cafe, reason: UnlinkReason, chats: list[int]
) -> None:
    """A chat that is gone cannot be told, and managers know what one of them has done."""
    await handle_once(clients, CONSUMER, record_of(CafeUnlinked.of(linked, CHAT, reason)), tell_managers_too)

    async with clients.db() as session:
        assert list(await session.scalars(select(Notification.tg_chat_id).order_by(col(Notification.id)))) == chats


async def test_an_unlinking_is_told_to_the_former_chat(clients: Clients, unlinked: CafeUnlinked) -> None:
    """The chat that a cafe had hears that it has it no more."""
    await handle_once(clients, CONSUMER, record_of(unlinked), tell)

    async with clients.db() as session:
        assert await session.scalar(select(Notification.tg_chat_id)) == CHAT


async def test_a_chat_is_told_in_its_cafes_language(clients: Clients, anybody: Context, manager: Context) -> None:
    """What a chat reads is in the language of the cafe that it asked for."""
    cafe = await add_cafe(clients, language=Language.RU)
    request = await links.link_request(anybody, cafe.id, CHAT)
    rejected = await links.reject(manager, request.id, "Нет такой кухни")

    await handle_once(clients, CONSUMER, record_of(LinkRequestRejected.of(rejected)), tell)

    async with clients.db() as session:
        parts = await session.scalar(select(Notification.parts))
    assert parts == [texts.rejected(cafe.name, "Нет такой кухни", "ru")]


@pytest.fixture
async def ordered(clients: Clients, user: Context) -> Order:
    """An order from a cafe that has a chat."""
    lunch = await add_lunch(clients, tg_chat_id=CHAT, linked_at=NOW)
    return await place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)


def passed(order: Order, **other: object) -> dict[str, object]:
    """What another producer says about the deadline of an order's day."""
    return {
        "type": "deadline.passed",
        "cafe_id": order.cafe_id,
        "date": order.date.isoformat(),
        "timestamp": NOW.isoformat(),
        **other,
    }


async def test_a_deadline_is_told_to_the_cafe(clients: Clients, ordered: Order) -> None:
    """When a deadline has passed the cafe's chat is to get its orders."""
    await handle_once(clients, CONSUMER, record_of(DeadlinePassed.of(ordered.cafe_id, ordered.date, NOW)), tell)

    async with clients.db() as session:
        [queued] = await session.scalars(select(Notification))
    assert (queued.kind, queued.tg_chat_id, queued.date) == (NotificationKind.ORDERS, CHAT, ordered.date)


async def test_another_producer_needs_no_headers(clients: Clients, ordered: Order) -> None:
    """Plain JSON tells of a deadline as well as an event of ours does."""
    await handle_once(clients, CONSUMER, plain_record(passed(ordered)), tell)

    assert await told(clients) == [NotificationKind.ORDERS]


async def test_another_producer_closes_the_day(clients: Clients, ordered: Order) -> None:
    """After a deadline that somebody else announces, ordering is closed and the orders are confirmed."""
    await handle_once(clients, CONSUMER, plain_record(passed(ordered)), tell)

    async with clients.db() as session:
        day = await session.get_one(DeliveryDay, (ordered.cafe_id, ordered.date))
        order = await session.get_one(Order, ordered.id)
    assert (day.announced_at, order.status) == (NOW, OrderStatus.CONFIRMED)


async def test_the_same_deadline_has_no_second_effect(clients: Clients, ordered: Order) -> None:
    """What counts for a deadline is the cafe and the date: whoever says it, and however often."""
    event = DeadlinePassed.of(ordered.cafe_id, ordered.date, NOW)
    for record in (
        plain_record(passed(ordered)),
        plain_record(passed(ordered, timestamp=(NOW + timedelta(hours=1)).isoformat())),
        record_of(event, "1"),
        record_of(event, "2"),
    ):
        await handle_once(clients, CONSUMER, record, tell)

    assert await told(clients) == [NotificationKind.ORDERS]
    assert await dead_letters(clients) == []


async def test_two_deadlines_of_a_cafe_are_two(clients: Clients, user: Context, ordered: Order) -> None:
    """Each date's orders are told."""
    fields: OrderFields = {"combo_id": ordered.combo_id, "dish_ids": [dish.menu_item_id for dish in ordered.dishes]}
    other = await place_order(user, ordered.cafe_id, ordered.date + timedelta(days=1), fields)

    for order in (ordered, other):
        await handle_once(clients, CONSUMER, plain_record(passed(order)), tell)

    async with clients.db() as session:
        dates = [told.date for told in await session.scalars(select(Notification).order_by(col(Notification.id)))]
    assert dates == [ordered.date, other.date]


@pytest.mark.usefixtures("without_waiting")
async def test_a_deadline_of_an_unknown_cafe_is_put_aside(clients: Clients, ordered: Order) -> None:
    """A cafe that is not there is a dead letter, and does not block what is behind it."""
    await handle_once(clients, CONSUMER, plain_record(passed(ordered, cafe_id=999)), tell)

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent: cafe_id")
    assert letter["x-topic"] == Topic.DEADLINES


NO_DEADLINES = {
    "no JSON": b"deadline.passed",
    "no object": b'["deadline.passed"]',
    "no type": b'{"cafe_id": 1, "date": "2026-03-05", "timestamp": "2026-03-04T10:30:00Z"}',
    "an unknown type": b'{"type": "deadline.missed"}',
    "no date": b'{"type": "deadline.passed", "cafe_id": 1, "timestamp": "2026-03-04T10:30:00Z"}',
    "no such date": b'{"type": "deadline.passed", "cafe_id": 1, "date": "2026-02-30", "timestamp": "2026-03-04T10:30:00Z"}',
    "no number": b'{"type": "deadline.passed", "cafe_id": "one", "date": "2026-03-05", "timestamp": "2026-03-04T10:30:00Z"}',
}


@pytest.mark.parametrize("value", NO_DEADLINES.values(), ids=NO_DEADLINES)
async def test_plain_json_that_says_nothing_is_put_aside(clients: Clients, value: bytes) -> None:
    """What is no deadline cannot be read, and is tried once."""
    await handle_once(clients, CONSUMER, replace(plain_record(None), value=value), tell)

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent")


async def test_a_time_without_an_offset_is_utc(clients: Clients, ordered: Order) -> None:
    """Another producer may leave the offset out."""
    await handle_once(clients, CONSUMER, plain_record(passed(ordered, timestamp="2026-03-04T10:30:00")), tell)

    async with clients.db() as session:
        day = await session.get_one(DeliveryDay, (ordered.cafe_id, ordered.date))
    assert day.announced_at == NOW


async def test_only_open_events_come_as_plain_json(clients: Clients, unlinked: CafeUnlinked) -> None:
    """Nobody else can say that a cafe is unlinked."""
    value = {"type": "cafe.unlinked", **orjson.loads(unlinked.model_dump_json())}

    await handle_once(clients, CONSUMER, plain_record(value, Topic.LINK_REQUESTS), tell)

    [letter] = await dead_letters(clients)
    assert letter["x-error"] == "UnreadableEvent: there is no ce_id header, which cafe.unlinked needs"


def keyed(clients: Clients) -> Clients:
    """Clients with a key for Gemini."""
    return replace(clients, settings=clients.settings.model_copy(update={"gemini_api_keys": (SecretStr("key"),)}))


async def handle_task(clients: Clients, record: ConsumerRecord) -> None:
    await handle_once(clients, CONSUMER, record, partial(start_task, clients=clients))


def task(**other: object) -> dict[str, object]:
    """What another producer says to have recommendations made."""
    return {"type": "generate_recommendations", "timestamp": NOW.isoformat(), **other}


async def run_there_is(clients: Clients) -> RecommendationRun | None:
    async with clients.db() as session:
        return await session.scalar(select(RecommendationRun))


TASKS = {
    "plain JSON": plain_record(task(), Topic.DAILY_TASKS),
    "plain JSON with what is new to us": plain_record(task(why="because"), Topic.DAILY_TASKS),
    "an event": record_of(GenerateRecommendations(timestamp=NOW)),
}


@pytest.mark.parametrize("record", TASKS.values(), ids=TASKS)
async def test_recommendations_are_started(clients: Clients, lunch: Lunch, record: ConsumerRecord) -> None:
    """Whoever says so, and in whatever form, today's run is there, and workers are to work on it."""
    await add_diners(clients, lunch, 2)

    await handle_task(keyed(clients), record)

    run = await run_there_is(clients)
    assert run is not None
    assert (run.status, run.total, run.started_by) == (RunStatus.RUNNING, 2, None)
    queued = [(job.function, list(job.args)) for job in await clients.jobs.queued_jobs()]
    assert queued == [(JOB, [str(run.date)])] * 2


@pytest.mark.parametrize(
    ("again", "status"),
    [
        (plain_record(task(), Topic.DAILY_TASKS), RunStatus.PAUSED),
        (plain_record(task(timestamp="2026-03-04T10:31:00Z"), Topic.DAILY_TASKS), RunStatus.RUNNING),
        (record_of(GenerateRecommendations(timestamp=NOW)), RunStatus.RUNNING),
    ],
    ids=["the same", "a minute later", "an event by itself"],
)
async def test_recommendations_that_are_asked_for_again(
    clients: Clients, lunch: Lunch, again: ConsumerRecord, status: RunStatus
) -> None:
    """The same message does nothing the second time; another one has a run go on that was paused."""
    await add_diners(clients, lunch, 2)
    await handle_task(keyed(clients), plain_record(task(), Topic.DAILY_TASKS))
    async with clients.db() as session:
        [run] = await session.scalars(select(RecommendationRun))
        await runs.pause(session, run.date, PauseReason.KEYS_SET_ASIDE, datetime.now(UTC))

    await handle_task(keyed(clients), again)

    found = await run_there_is(clients)
    assert found is not None
    assert found.status is status


async def test_an_event_that_comes_again_starts_nothing(clients: Clients, lunch: Lunch) -> None:
    """What counts for an event is its id."""
    await add_diners(clients, lunch, 2)
    await handle_task(keyed(clients), record_of(GenerateRecommendations(timestamp=NOW)))
    async with clients.db() as session:
        await session.execute(sa.delete(RecommendationRun))

    await handle_task(keyed(clients), record_of(GenerateRecommendations(timestamp=NOW + timedelta(hours=1))))

    assert await run_there_is(clients) is None


NO_TASKS = {
    "no time": b'{"type": "generate_recommendations"}',
    "no such time": b'{"type": "generate_recommendations", "timestamp": "tonight"}',
    "an unknown type": b'{"type": "generate_menus", "timestamp": "2026-03-04T10:30:00Z"}',
    "no JSON": b"generate_recommendations",
    "nothing": b"",
}


@pytest.mark.parametrize("value", NO_TASKS.values(), ids=NO_TASKS)
async def test_a_task_that_cannot_be_read_is_put_aside(clients: Clients, value: bytes) -> None:
    """It starts nothing, and is kept with its topic."""
    await handle_task(keyed(clients), replace(plain_record(None, Topic.DAILY_TASKS), value=value))

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent")
    assert letter["x-topic"] == Topic.DAILY_TASKS
    assert await run_there_is(clients) is None


async def test_without_keys_nothing_is_started(clients: Clients) -> None:
    """Where there are no recommendations the message is read, and is no dead letter."""
    await handle_task(clients, plain_record(task(), Topic.DAILY_TASKS))

    assert await run_there_is(clients) is None
    assert await dead_letters(clients) == []


@pytest.fixture
async def handling(kafka_clients: Clients) -> AsyncIterator[None]:
    """The Kafka handlers and the relay, as in the events process."""
    register(kafka_clients)
    async with relaying(kafka_clients):
        yield


@pytest.mark.usefixtures("handling")
async def test_an_approval_is_told_once(
    kafka: Kafka, kafka_clients: Clients, anybody: Context, manager: Context, cafe: Cafe
) -> None:
    """An approval that Kafka gives twice makes one notification, and puts it into the queue once."""
    request = await links.link_request(anybody, cafe.id, CHAT)
    await links.approve(manager, request.id)

    async with reading(kafka) as records, producing(kafka) as producer:
        await until(lambda: len(records) == 2)
        for record in records * 2:
            await producer.send_and_wait(record.topic, record.value, record.key, headers=list(record.headers))
        await links.unlink(manager, cafe.id)
        await until_told(kafka_clients, NotificationKind.UNLINKED)

    async with kafka_clients.db() as session:
        queued = list(
            await session.scalars(
                sa.select(Outbox.c.payload).where(Outbox.c.queue == DELIVERY_QUEUE).order_by(Outbox.c.id)
            )
        )
        made = list(await session.scalars(select(Notification).order_by(col(Notification.id))))
    assert [notification.kind for notification in made] == [NotificationKind.LINK_APPROVED, NotificationKind.UNLINKED]
    assert queued == [f"{notification.id} 0".encode() for notification in made]


@pytest.mark.usefixtures("handling")
async def test_a_deadline_comes_from_kafka(kafka: Kafka, kafka_clients: Clients, ordered: Order) -> None:
    """Plain JSON that somebody puts on the topic of the deadlines reaches the cafe."""
    async with producing(kafka) as producer:
        await producer.send_and_wait(Topic.DEADLINES, orjson.dumps(passed(ordered)))

    await until_told(kafka_clients, NotificationKind.ORDERS)


async def test_a_task_comes_from_kafka(kafka: Kafka, kafka_clients: Clients) -> None:
    """Plain JSON that somebody puts on the topic of the daily tasks starts the run."""
    with_key = keyed(kafka_clients)
    register(with_key)
    await add_diners(with_key, await add_lunch(with_key), 1)
    async with relaying(with_key), producing(kafka) as producer:
        await producer.send_and_wait(Topic.DAILY_TASKS, orjson.dumps(task()))

        async with asyncio.timeout(DEADLINE_S):
            while await run_there_is(with_key) is None:
                await asyncio.sleep(POLL_S)


class Message(NamedTuple):
    """What somebody else puts on our topic."""

    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes | None]


READABLE = {"ce_id": b"7", "ce_type": b"cafe.unlinked"}

UNREADABLE = [
    Message(b"no headers", b"{}", {}),
    Message(b"no type", b"{}", {"ce_id": b"7"}),
    Message(b"no id", b"{}", {"ce_type": b"cafe.unlinked"}),
    Message(b"an unknown type", b"{}", {"ce_id": b"7", "ce_type": b"cafe.painted"}),
    Message(b"a type that is no UTF-8", b"{}", {"ce_id": b"7", "ce_type": b"\xff"}),
    Message(b"headers without values", b"{}", {"ce_id": None, "ce_type": None}),
    Message(b"JSON that does not fit", b'{"id": "one"}', READABLE),
    Message(b"JSON that is no object", b"[1]", READABLE),
    Message(b"no JSON", b"\xff\0", READABLE),
    Message(b"no value", None, READABLE),
    Message(None, b"no key", READABLE),
]

AWKWARD = {
    "a header with a zero byte": Message(b"1", b"{}", {"ce_id": b"7", "ce_type": b"\0"}),
    "a key that is no UTF-8": Message(b"\xff", b"{}", READABLE),
    "a number as a key": Message((7).to_bytes(8), b"{}", READABLE),
}
"""Kafka takes them; the outbox keeps headers and keys as JSON in PostgreSQL, which does not."""


@pytest.mark.usefixtures("handling")
async def test_what_cannot_be_read_is_put_aside(kafka: Kafka) -> None:
    """Messages that are no events of ours go to the dead letters as they came."""
    async with producing(kafka) as producer, reading(kafka, Topic.DEAD_LETTERS) as letters:
        for message in UNREADABLE:
            await send(producer, message)
        await until(lambda: len(letters) == len(UNREADABLE))

    came = {(letter.key or None, letter.value or None) for letter in letters}
    assert came == {(message.key, message.value) for message in UNREADABLE}


@pytest.mark.usefixtures("handling")
async def test_a_dead_letter_says_what_was_wrong(kafka: Kafka) -> None:
    """Beside the headers that it came with there are why, whence, and how often it was tried."""
    async with producing(kafka) as producer, reading(kafka, Topic.DEAD_LETTERS) as letters:
        await send(producer, Message(b"1", b'{"id": "one"}', READABLE))
        await until(lambda: letters)

    described = headers(letters[0])
    assert {name: described[name] for name in ("ce_id", "ce_type", "x-error", "x-topic", "x-attempts")} == {
        "ce_id": "7",
        "ce_type": "cafe.unlinked",
        "x-error": "UnreadableEvent: id: Input should be a valid integer, unable to parse string as an integer",
        "x-topic": Topic.LINK_REQUESTS,
        "x-attempts": "1",
    }


@pytest.mark.usefixtures("handling")
@pytest.mark.parametrize("message", AWKWARD.values(), ids=AWKWARD)
async def test_what_the_outbox_cannot_keep_as_it_is_is_put_aside_too(kafka: Kafka, message: Message) -> None:
    """Bytes of any kind reach the dead letters as they came."""
    async with producing(kafka) as producer, reading(kafka, Topic.DEAD_LETTERS) as letters:
        await send(producer, message)
        await until(lambda: letters, within_s=3)

    assert (letters[0].key, letters[0].value) == (message.key, message.value)


@pytest.mark.usefixtures("handling")
@pytest.mark.parametrize(
    "header", [("topic", b"soup"), ("key", b"soup"), ("a%41", b"100%41"), ("\N{POT OF FOOD}", b"\0")]
)
async def test_a_dead_letter_keeps_its_headers(kafka: Kafka, header: tuple[str, bytes]) -> None:
    """Whatever a message that cannot be read has in its headers, its dead letter has too."""
    async with producing(kafka) as producer, reading(kafka, Topic.DEAD_LETTERS) as letters:
        await send(producer, Message(b"1", b"{}", dict([header])))
        await until(lambda: letters, within_s=3)

    assert header in letters[0].headers


@pytest.mark.usefixtures("handling")
async def test_what_cannot_be_read_does_not_block(kafka: Kafka, kafka_clients: Clients, unlinked: CafeUnlinked) -> None:
    """The message behind those that cannot be read is handled."""
    async with producing(kafka) as producer:
        for message in (*UNREADABLE, *AWKWARD.values(), message_of(unlinked)):
            await send(producer, message)

    await until_told(kafka_clients, NotificationKind.UNLINKED)


@pytest.mark.usefixtures("handling")
async def test_an_event_without_a_key_is_handled(kafka: Kafka, kafka_clients: Clients, unlinked: CafeUnlinked) -> None:
    """A key decides about the order only."""
    async with producing(kafka) as producer:
        await send(producer, message_of(unlinked)._replace(key=None))

    await until_told(kafka_clients, NotificationKind.UNLINKED)


@pytest.mark.usefixtures("handling")
async def test_nobody_is_replied_to(kafka: Kafka, kafka_clients: Clients, unlinked: CafeUnlinked) -> None:
    """A header of somebody else does not make us write to a topic that it names."""
    asking, other = message_of(unlinked, "1"), message_of(unlinked, "2")
    async with producing(kafka) as producer:
        await send(producer, asking._replace(headers={**asking.headers, "reply_to": Topic.DEAD_LETTERS.encode()}))
        await send(producer, other)
    await until_told(kafka_clients, NotificationKind.UNLINKED, times=2)

    assert await length(kafka, Topic.DEAD_LETTERS) == 0


def message_of(event: Event, event_id: str = "1") -> Message:
    record = record_of(event, event_id)
    return Message(record.key, record.value, dict(record.headers))


async def send(producer: AIOKafkaProducer, message: Message) -> None:
    """All into one partition, so that each is behind the one before."""
    await producer.send_and_wait(
        Topic.LINK_REQUESTS, message.value, message.key, partition=0, headers=list(message.headers.items())
    )


async def until_told(clients: Clients, kind: NotificationKind, times: int = 1) -> None:
    """Wait until chats are to be told of this so many times."""
    async with asyncio.timeout(DEADLINE_S):
        while (await told(clients)).count(kind) < times:
            await asyncio.sleep(POLL_S)
