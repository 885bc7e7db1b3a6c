"""From a transaction to Kafka: every committed event, no other event, and in order."""

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from faststream_outbox import NoRetry, OutboxMessage

from app.auth.context import Context
from app.clients import Clients, open_clients
from app.dev.embedded import Kafka
from app.events.kafka import _create_missing_topics, connect
from app.events.outbox import KAFKA_QUEUE, Task, enqueue, outbox_broker, raw_message, record, record_raw
from app.events.relay import RELAY_LOCK
from app.events.types import CafeNotificationsChanged, Topic
from app.models import Cafe, DeadLetter, Outbox
from app.resolvers import links
from app.settings import Settings
from tests.database import until_scalar
from tests.events.conftest import CHAT, headers_of, reading, relaying, until_empty
from tests.servers import DEADLINE_S, POLL_S, until

TOO_LARGE_BYTES = 2_000_000
"""Kafka accepts a megabyte."""


async def toggle_notifications(manager: Context, cafe: Cafe, times: int, *, first: bool = False) -> None:
    """Make `times` events of one cafe: each enables or disables its notifications, in turns."""
    for n in range(times):
        await links.set_notifications(manager, cafe.id, enabled=first if n % 2 == 0 else not first)


def enabled_values(records: list[ConsumerRecord]) -> list[bool]:
    """Return the values of the events, in the order in which each event was first read."""
    events = {headers_of(record)["ce_id"]: json.loads(record.value) for record in records}
    return [event["notifications_enabled"] for event in events.values()]


def alternating(times: int, *, first: bool = False) -> list[bool]:
    """Return the values of the events of `toggle_notifications`."""
    return [first if n % 2 == 0 else not first for n in range(times)]


async def test_an_event_has_the_request_at_its_time(
    kafka: Kafka, kafka_clients: Clients, anonymous: Context, cafe: Cafe
) -> None:
    """The value is the link request as JSON, with its cafe."""
    request = await links.link_request(anonymous, cafe.id, CHAT, "basil_cafe")

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert json.loads(records[0].value) == {
        "id": request.id,
        "cafe_id": cafe.id,
        "cafe_name": cafe.name,
        "cafe": {
            "id": cafe.id,
            "name": cafe.name,
            "description": "",
            "is_active": True,
            "tg_chat_id": None,
            "tg_username": None,
            "notifications_enabled": True,
            "linked_at": None,
            "timezone": "UTC",
            "language": "en",
            "created_at": cafe.created_at.isoformat().replace("+00:00", "Z"),
        },
        "tg_chat_id": CHAT,
        "tg_username": "basil_cafe",
        "status": "pending",
        "reason": None,
        "created_at": request.created_at.isoformat().replace("+00:00", "Z"),
        "processed_at": None,
        "processed_by": None,
    }


async def test_an_event_is_a_cloud_event_in_binary_mode(
    kafka: Kafka, kafka_clients: Clients, anonymous: Context, cafe: Cafe
) -> None:
    """The attributes of CloudEvents 1.0 are in the headers, and say that the value is JSON."""
    await links.link_request(anonymous, cafe.id, CHAT)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    attributes = headers_of(records[0])
    assert {name: attributes[name] for name in ("ce_type", "ce_source", "ce_specversion", "content-type")} == {
        "ce_type": "link_request.created",
        "ce_source": "lunch-bot",
        "ce_specversion": "1.0",
        "content-type": "application/json",
    }


async def test_an_event_has_the_time_of_its_operation(
    kafka: Kafka, kafka_clients: Clients, anonymous: Context, cafe: Cafe
) -> None:
    """`ce_time` is the time of the operation with its offset, and not that of the relay."""
    before = datetime.now(UTC)
    await links.link_request(anonymous, cafe.id, CHAT)
    after = datetime.now(UTC)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert before <= datetime.fromisoformat(headers_of(records[0])["ce_time"]) <= after


async def test_each_event_has_a_different_id(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """No two events have the same `ce_id`."""
    await toggle_notifications(manager, linked, times=5)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: len(records) == 5)

    assert len({headers_of(record)["ce_id"] for record in records}) == 5


async def test_an_event_is_keyed_by_its_cafe(
    kafka: Kafka, kafka_clients: Clients, anonymous: Context, cafe: Cafe
) -> None:
    """The key is the cafe's id, so that the events of one cafe stay in one partition."""
    await links.link_request(anonymous, cafe.id, CHAT)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert records[0].key == str(cafe.id).encode()


async def test_an_event_of_a_rollback_is_not_published(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """An event of a transaction that is rolled back is not published, and the next event is."""
    async with kafka_clients.db() as session:
        await record(session, CafeNotificationsChanged.of(linked))
        await session.rollback()
    await links.unlink(manager, linked.id)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert [headers_of(record)["ce_type"] for record in records] == ["cafe.unlinked"]


async def test_simultaneous_changes_of_a_cafe_stay_in_order(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """The events of simultaneous changes of one cafe are in the order of the changes."""
    async with relaying(kafka_clients), reading(kafka) as records:
        await asyncio.gather(*(links.set_notifications(manager, linked.id, enabled=n % 2 == 1) for n in range(50)))
        await links.unlink(manager, linked.id)
        await until(lambda: records and headers_of(records[-1])["ce_type"] == "cafe.unlinked")

    values = enabled_values(records[:-1])
    assert values == alternating(len(values))


async def test_events_are_in_the_order_of_the_row_lock(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """The transaction that locks the cafe first comes first, even if the other transaction began earlier."""
    async with kafka_clients.db() as early:
        await early.execute(sa.select(1))
        await links.set_notifications(manager, linked.id, enabled=False)
        cafe = await early.get_one(Cafe, linked.id, with_for_update=True)
        cafe.set_notifications(enabled=True)
        await record(early, CafeNotificationsChanged.of(cafe))

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: len(records) == 2)

    assert enabled_values(records) == [False, True]


async def test_events_wait_for_kafka(kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe) -> None:
    """Events during an outage of Kafka are published after it, in order."""
    await kafka.stop()

    async with relaying(kafka_clients):
        await toggle_notifications(manager, linked, times=5)
        await kafka.start()
        await until_empty(kafka_clients, KAFKA_QUEUE)
        async with reading(kafka) as records:
            await until(lambda: len(records) == 5)

    assert enabled_values(records) == alternating(5)


@pytest.fixture
def restart(kafka: Kafka, kafka_settings: Settings) -> Iterator[Callable[[], None]]:
    """Restart the broker with all topics: Kafka keeps its topics, but the embedded broker forgets them.

    The embedded broker loses messages to an unknown topic. So nothing else runs in this event loop until the topics
    exist. The broker ends with the thread that has started it.
    """

    async def start() -> None:
        await kafka.start()
        await _create_missing_topics(kafka_settings)

    with ThreadPoolExecutor(1) as thread:
        yield lambda: thread.submit(asyncio.run, start()).result(DEADLINE_S)


async def test_events_survive_a_crash_of_kafka(
    kafka: Kafka, restart: Callable[[], None], kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """Events after a crash of Kafka are published after its restart, in order."""
    async with relaying(kafka_clients):
        await toggle_notifications(manager, linked, times=2)
        await until_empty(kafka_clients, KAFKA_QUEUE)
        kafka.kill()
        await toggle_notifications(manager, linked, times=5)
        restart()
        await until_empty(kafka_clients, KAFKA_QUEUE)
        async with reading(kafka) as records:
            await until(lambda: len(enabled_values(records)) == 5)

    assert enabled_values(records) == alternating(5)


async def test_two_relays_keep_the_order(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, manager: Context, linked: Cafe
) -> None:
    """Of two relays one is active and the other stands by: each event is published once, and in order."""
    async with (
        open_clients(kafka_settings) as other_clients,
        relaying(kafka_clients),
        relaying(other_clients),
        reading(kafka) as records,
    ):
        await toggle_notifications(manager, linked, times=100)
        await until(lambda: len(records) >= 100)
        await until_empty(kafka_clients, KAFKA_QUEUE)

    assert [json.loads(record.value)["notifications_enabled"] for record in records] == alternating(100)


async def test_the_standby_relay_takes_over(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, manager: Context, linked: Cafe
) -> None:
    """When the active relay ends during its work, the standby relay continues: no event is lost or out of order."""
    async with open_clients(kafka_settings) as other_clients, reading(kafka) as records, AsyncExitStack() as active:
        await active.enter_async_context(relaying(kafka_clients))
        first = await until_active(kafka_clients)
        async with relaying(other_clients):
            toggling = asyncio.create_task(toggle_notifications(manager, linked, times=200))
            await until(lambda: len(records) > 20)
            await active.aclose()
            await until_active(other_clients, other_than=first)
            await toggling
            await until(lambda: len(enabled_values(records)) == 200)

    assert enabled_values(records) == alternating(200)


async def test_a_relay_that_loses_its_lock_is_replaced(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, manager: Context, linked: Cafe
) -> None:
    """When the connection with the relay lock breaks, another relay becomes active, and the order stays."""
    async with (
        open_clients(kafka_settings) as other_clients,
        reading(kafka) as records,
        relaying(kafka_clients),
        relaying(other_clients),
    ):
        first = await until_active(kafka_clients)
        async with kafka_clients.engine.begin() as connection:
            await connection.execute(sa.select(sa.func.pg_terminate_backend(first)))
        count = 0
        while await active_relay(kafka_clients) in {None, first}:
            await toggle_notifications(manager, linked, times=2)
            count += 2
        await toggle_notifications(manager, linked, times=20)
        await until(lambda: len(enabled_values(records)) == count + 20)

    assert enabled_values(records) == alternating(count + 20)


async def test_rows_of_a_dead_relay_are_published_immediately(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """The next relay publishes the leased rows of a dead relay at its start, and not after the lease of an hour."""
    await toggle_notifications(manager, linked, times=3)
    async with kafka_clients.db() as session:
        await session.execute(sa.update(Outbox).values(acquired_token=uuid4(), acquired_at=sa.func.now()))

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: len(records) == 3)

    assert enabled_values(records) == alternating(3)


async def test_a_relay_that_is_stopped_during_an_outage_loses_nothing(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, manager: Context, linked: Cafe
) -> None:
    """A relay that stops with leased rows during an outage of Kafka leaves them to the next relay."""
    await kafka.stop()
    await toggle_notifications(manager, linked, times=3)
    async with relaying(kafka_clients):
        await until_leased(kafka_clients, 3)

    await kafka.start()
    async with open_clients(kafka_settings) as other_clients, relaying(other_clients), reading(kafka) as records:
        await until(lambda: len(records) == 3)

    assert enabled_values(records) == alternating(3)


@pytest.fixture
async def too_large(kafka_clients: Clients, linked: Cafe) -> bytes:
    """The outbox has an event that is too large for Kafka."""
    value = b"x" * TOO_LARGE_BYTES
    async with kafka_clients.db() as session:
        await record_raw(session, Topic.LINK_REQUESTS, str(linked.id).encode(), value, {"ce_id": "large"})
    return value


@pytest.mark.usefixtures("too_large")
async def test_a_refused_event_does_not_block(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """The event after one that is too large for Kafka is published."""
    await toggle_notifications(manager, linked, times=1)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert enabled_values(records) == [False]


async def test_a_refused_event_is_a_dead_letter(kafka_clients: Clients, too_large: bytes) -> None:
    """An event that is too large for Kafka is unchanged among the dead letters of the database."""
    async with relaying(kafka_clients):
        await until_empty(kafka_clients, KAFKA_QUEUE)

    async with kafka_clients.db() as session:
        letters = (await session.execute(sa.select(DeadLetter.c.failure_reason, DeadLetter.c.payload))).all()
    assert letters == [("rejected", too_large)]


async def test_connecting_creates_the_topics(kafka: Kafka, kafka_clients: Clients) -> None:
    """A new Kafka gets every topic, with the number of partitions of the settings."""
    await connect(kafka_clients.settings, kafka_clients.kafka)

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    topics = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(list(Topic))}
    await admin.close()
    assert topics == dict.fromkeys(Topic, kafka_clients.settings.kafka_partitions)


async def active_relay(clients: Clients) -> int | None:
    """Return the PostgreSQL process of the active relay's connection."""
    async with clients.db() as session:
        pid: int | None = await session.scalar(
            sa.text(
                "SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database "
                "WHERE locktype = 'advisory' AND granted AND d.datname = current_database() "
                "AND (classid::bigint << 32) + objid::bigint = :lock"
            ),
            {"lock": RELAY_LOCK},
        )
        return pid


async def until_active(clients: Clients, other_than: int | None = None) -> int:
    """Wait until a relay is active, and return the PostgreSQL process of its connection."""
    async with asyncio.timeout(DEADLINE_S):
        while (pid := await active_relay(clients)) in {None, other_than}:
            await asyncio.sleep(POLL_S)
    assert pid is not None
    return pid


async def until_leased(clients: Clients, rows: int) -> None:
    """Wait until a relay has leased so many rows."""
    leased = sa.select(sa.func.count()).where(Outbox.c.acquired_token.is_not(None))
    await until_scalar(clients.engine, leased, rows)


class Failing(Task):
    """A task whose work fails."""

    queue = "failing"


async def test_a_dead_letter_shows_no_secret(clients: Clients) -> None:
    """The reason of a dead letter is the error, without the token that an address in it contains."""
    broker = outbox_broker(clients, graceful_timeout_s=1)

    @broker.subscriber(Failing.queue, retry_strategy=NoRetry(), decoder=raw_message)
    async def fail(message: OutboxMessage) -> None:
        raise ValueError("POST https://api.telegram.org/bot42:the-token/sendMessage")

    async with clients.db() as session:
        await enqueue(session, Failing())
    await broker.start()
    await until_empty(clients, Failing.queue)
    await broker.stop()

    async with clients.db() as session:
        reason = await session.scalar(sa.select(DeadLetter.c.last_exception))
    assert reason == "ValueError('POST https://api.telegram.org/bot<redacted>/sendMessage')"
