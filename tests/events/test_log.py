"""From a transaction to Kafka: everything that was committed, nothing else, and in order."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa
from aiokafka import ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient

from app.clients import Clients, open_clients
from app.context import Context
from app.dev.embedded import Kafka
from app.events.log import KAFKA_QUEUE, RELAY_LOCK, connect, record, record_raw
from app.events.messages import CafeNotificationsChanged, Topic
from app.models import Cafe, DeadLetter, Outbox
from app.resolvers import links
from app.settings import Settings
from tests.events.conftest import CHAT, OUTAGE_DEADLINE_S, headers, reading, relaying, until_carried
from tests.servers import DEADLINE_S, POLL_S, until

TOO_LARGE_BYTES = 2_000_000
"""Kafka takes a megabyte."""


async def switch(manager: Context, cafe: Cafe, times: int, *, first: bool = False) -> None:
    """Make `times` events of one cafe, each the opposite of the one before."""
    for n in range(times):
        await links.set_notifications(manager, cafe.id, enabled=first if n % 2 == 0 else not first)


def switches(records: list[ConsumerRecord]) -> list[bool]:
    """To what notifications were switched, in the order in which each event was first read."""
    events = {headers(record)["ce_id"]: json.loads(record.value) for record in records}
    return [event["notifications_enabled"] for event in events.values()]


def alternating(times: int, *, first: bool = False) -> list[bool]:
    return [first if n % 2 == 0 else not first for n in range(times)]


async def test_an_event_carries_the_request_as_of_then(
    kafka: Kafka, kafka_clients: Clients, anybody: Context, cafe: Cafe
) -> None:
    """The value is the link request as JSON, with its cafe."""
    request = await links.link_request(anybody, cafe.id, CHAT, "kitchen")

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
        "tg_username": "kitchen",
        "status": "pending",
        "reason": None,
        "created_at": request.created_at.isoformat().replace("+00:00", "Z"),
        "processed_at": None,
        "processed_by": None,
    }


async def test_an_event_is_a_cloud_event_in_binary_mode(
    kafka: Kafka, kafka_clients: Clients, anybody: Context, cafe: Cafe
) -> None:
    """The attributes of CloudEvents 1.0 are in the headers, and say that the value is JSON."""
    await links.link_request(anybody, cafe.id, CHAT)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    attributes = headers(records[0])
    assert {name: attributes[name] for name in ("ce_type", "ce_source", "ce_specversion", "content-type")} == {
        "ce_type": "link_request.created",
        "ce_source": "lunch-bot",
        "ce_specversion": "1.0",
        "content-type": "application/json",
    }


async def test_an_event_says_when_it_happened(
    kafka: Kafka, kafka_clients: Clients, anybody: Context, cafe: Cafe
) -> None:
    """`ce_time` is the time of the operation, with its offset, and not that of the relay."""
    before = datetime.now(UTC)
    await links.link_request(anybody, cafe.id, CHAT)
    after = datetime.now(UTC)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert before <= datetime.fromisoformat(headers(records[0])["ce_time"]) <= after


async def test_each_event_has_an_id_of_its_own(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """No two events have one `ce_id`."""
    await switch(manager, linked, times=5)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: len(records) == 5)

    assert len({headers(record)["ce_id"] for record in records}) == 5


async def test_an_event_is_keyed_by_its_cafe(
    kafka: Kafka, kafka_clients: Clients, anybody: Context, cafe: Cafe
) -> None:
    """The key is the cafe's id, so that what happens to one cafe stays in one partition."""
    await links.link_request(anybody, cafe.id, CHAT)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert records[0].key == str(cafe.id).encode()


async def test_what_is_rolled_back_never_happened(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """An event of a transaction that is rolled back is not told, and the one behind it is."""
    async with kafka_clients.db() as session:
        await record(session, CafeNotificationsChanged.of(linked))
        await session.rollback()
    await links.unlink(manager, linked.id)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert [headers(record)["ce_type"] for record in records] == ["cafe.unlinked"]


async def test_what_happens_to_a_cafe_at_once_arrives_as_it_happened(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """Of many who switch one cafe at once each undoes what the one before did, and so the events say."""
    async with relaying(kafka_clients), reading(kafka) as records:
        await asyncio.gather(*(links.set_notifications(manager, linked.id, enabled=n % 2 == 1) for n in range(50)))
        await links.unlink(manager, linked.id)
        await until(lambda: records and headers(records[-1])["ce_type"] == "cafe.unlinked")

    told = switches(records[:-1])
    assert told == alternating(len(told))


async def test_who_began_first_but_waited_does_not_overtake(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """Of two transactions the one that had the cafe first comes first, whichever began first."""
    async with kafka_clients.db() as early:
        await early.execute(sa.select(1))
        await links.set_notifications(manager, linked.id, enabled=False)
        cafe = await early.get_one(Cafe, linked.id, with_for_update=True)
        cafe.switch_notifications(enabled=True)
        await record(early, CafeNotificationsChanged.of(cafe))

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: len(records) == 2)

    assert switches(records) == [False, True]


async def test_events_wait_for_kafka(kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe) -> None:
    """What happens while Kafka is away is told when it comes, in order."""
    await kafka.stop()

    async with relaying(kafka_clients):
        await switch(manager, linked, times=5)
        await kafka.start()
        async with reading(kafka) as records:
            await until(lambda: len(records) == 5, OUTAGE_DEADLINE_S)

    assert switches(records) == alternating(5)


async def test_events_outlive_a_kafka_that_dies(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """What happens while Kafka is dead is told when it is back, in order."""
    async with relaying(kafka_clients):
        await switch(manager, linked, times=2)
        await until_carried(kafka_clients, KAFKA_QUEUE)
        kafka.kill()
        await switch(manager, linked, times=5)
        await kafka.start()
        async with reading(kafka) as records:
            await until(lambda: len(switches(records)) == 5, OUTAGE_DEADLINE_S)

    assert switches(records) == alternating(5)


async def test_two_relays_keep_the_order(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, manager: Context, linked: Cafe
) -> None:
    """Of two relays one works and the other stands by: each event is told once, and in order."""
    async with (
        open_clients(kafka_settings) as others,
        relaying(kafka_clients),
        relaying(others),
        reading(kafka) as records,
    ):
        await switch(manager, linked, times=100)
        await until(lambda: len(records) >= 100)
        await until_carried(kafka_clients, KAFKA_QUEUE)

    assert [json.loads(record.value)["notifications_enabled"] for record in records] == alternating(100)


async def test_the_relay_that_stands_by_takes_over(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, manager: Context, linked: Cafe
) -> None:
    """When the active relay ends in the middle of its work, the other goes on: nothing is lost or out of order."""
    async with open_clients(kafka_settings) as others, reading(kafka) as records, AsyncExitStack() as active:
        await active.enter_async_context(relaying(kafka_clients))
        first = await until_active(kafka_clients)
        async with relaying(others):
            switching = asyncio.create_task(switch(manager, linked, times=200))
            await until(lambda: len(records) > 20)
            await active.aclose()
            await until_active(others, other_than=first)
            await switching
            await until(lambda: len(switches(records)) == 200)

    assert switches(records) == alternating(200)


async def test_a_relay_that_loses_its_lock_makes_way(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, manager: Context, linked: Cafe
) -> None:
    """When the connection that makes a relay the active one breaks, another is active, and the order stays."""
    async with (
        open_clients(kafka_settings) as others,
        reading(kafka) as records,
        relaying(kafka_clients),
        relaying(others),
    ):
        first = await until_active(kafka_clients)
        async with kafka_clients.engine.begin() as connection:
            await connection.execute(sa.select(sa.func.pg_terminate_backend(first)))
        made = 0
        while await active_relay(kafka_clients) in {None, first}:
            await switch(manager, linked, times=2)
            made += 2
        await switch(manager, linked, times=20)
        await until(lambda: len(switches(records)) == made + 20)

    assert switches(records) == alternating(made + 20)


async def test_rows_of_a_dead_relay_are_sent_at_once(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """What a relay had in hand when it died is sent when the next one begins, not when its lease of an hour ends."""
    await switch(manager, linked, times=3)
    async with kafka_clients.db() as session:
        await session.execute(sa.update(Outbox).values(acquired_token=uuid4(), acquired_at=sa.func.now()))

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: len(records) == 3)

    assert switches(records) == alternating(3)


async def test_a_relay_that_is_stopped_during_an_outage_loses_nothing(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, manager: Context, linked: Cafe
) -> None:
    """A relay that ends with rows in hand, for want of Kafka, leaves them to the next."""
    await kafka.stop()
    await switch(manager, linked, times=3)
    async with relaying(kafka_clients):
        await until_leased(kafka_clients, 3)

    await kafka.start()
    async with open_clients(kafka_settings) as others, relaying(others), reading(kafka) as records:
        await until(lambda: len(records) == 3)

    assert switches(records) == alternating(3)


@pytest.fixture
async def too_large(kafka_clients: Clients, linked: Cafe) -> bytes:
    """An event that Kafka will not take waits in the outbox."""
    value = b"x" * TOO_LARGE_BYTES
    async with kafka_clients.db() as session:
        await record_raw(session, Topic.LINK_REQUESTS, str(linked.id).encode(), value, {"ce_id": "large"})
    return value


@pytest.mark.usefixtures("too_large")
async def test_what_kafka_refuses_does_not_block(
    kafka: Kafka, kafka_clients: Clients, manager: Context, linked: Cafe
) -> None:
    """The event behind one that is too large for Kafka is told."""
    await switch(manager, linked, times=1)

    async with relaying(kafka_clients), reading(kafka) as records:
        await until(lambda: records)

    assert switches(records) == [False]


async def test_what_kafka_refuses_is_kept(kafka_clients: Clients, too_large: bytes) -> None:
    """An event that is too large for Kafka is found among the dead letters of the database, as it was."""
    async with relaying(kafka_clients):
        await until_carried(kafka_clients, KAFKA_QUEUE)

    async with kafka_clients.db() as session:
        kept = (await session.execute(sa.select(DeadLetter.c.failure_reason, DeadLetter.c.payload))).all()
    assert kept == [("rejected", too_large)]


async def test_connecting_makes_the_topics(kafka: Kafka, kafka_clients: Clients) -> None:
    """A fresh Kafka gets every topic, with as many partitions as the settings say."""
    await connect(kafka_clients.settings, kafka_clients.kafka)

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    topics = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics(list(Topic))}
    await admin.close()
    assert topics == dict.fromkeys(Topic, kafka_clients.settings.kafka_partitions)


async def active_relay(clients: Clients) -> int | None:
    """The PostgreSQL process of the connection that makes a relay the active one."""
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
    async with asyncio.timeout(DEADLINE_S):
        while (pid := await active_relay(clients)) in {None, other_than}:
            await asyncio.sleep(POLL_S)
    assert pid is not None
    return pid


async def until_leased(clients: Clients, rows: int) -> None:
    """Wait until a relay has so many rows in hand."""
    leased = sa.select(sa.func.count()).where(Outbox.c.acquired_token.is_not(None))
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with clients.db() as session:
                if await session.scalar(leased) == rows:
                    return
            await asyncio.sleep(POLL_S)
