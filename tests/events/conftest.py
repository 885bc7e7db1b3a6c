"""Shared parts of the tests of events: a running relay, readers and producers of Kafka, and what events are about."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord

from app.auth.context import Context
from app.clients import Clients
from app.dev.embedded import Kafka
from app.events.kafka import connect
from app.events.relay import relay
from app.events.types import CafeUnlinked, Topic, UnlinkReason
from app.models import Cafe, Order, Outbox
from app.resolvers.orders import place_order
from tests.conftest import add_cafe, add_lunch
from tests.events.records import NOW
from tests.servers import POLL_S, until

CHAT = -1001
OUTAGE_DEADLINE_S = 60.0
"""After an outage a client may wait for up to 5 s before its next attempt, and the first send may fail."""


@asynccontextmanager
async def running(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `coroutines` during the block. If one of them fails, the test fails."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


def relaying(clients: Clients) -> AbstractAsyncContextManager[None]:
    """Run the relay during the block, as the events process does."""
    return running(connect(clients.settings, clients.kafka), relay(clients))


@asynccontextmanager
async def reading(kafka: Kafka, topic: Topic = Topic.LINK_REQUESTS) -> AsyncIterator[list[ConsumerRecord]]:
    """Read a topic from its beginning during the block, into a list that grows with the topic."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=kafka.url, auto_offset_reset="earliest", fetch_max_wait_ms=5, metadata_max_age_ms=100
    )
    await consumer.start()
    records: list[ConsumerRecord] = []

    async def read() -> None:
        async for record in consumer:
            records.append(record)  # noqa: PERF401 - the test reads the list meanwhile

    try:
        async with running(read()):
            yield records
    finally:
        await consumer.stop()


@asynccontextmanager
async def producing(kafka: Kafka) -> AsyncIterator[AIOKafkaProducer]:
    """Another producer."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.url, metadata_max_age_ms=100)
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def topic_length(kafka: Kafka, topic: Topic) -> int:
    """Return the number of records of a topic."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=kafka.url)
    await consumer.start()
    try:
        return sum((await consumer.end_offsets(consumer.assignment())).values())
    finally:
        await consumer.stop()


def headers_of(record: ConsumerRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


async def until_empty(clients: Clients, queue: str, within_s: float = OUTAGE_DEADLINE_S) -> None:
    """Wait until the outbox has no row of `queue`."""
    remaining = sa.select(sa.func.count()).select_from(Outbox).where(Outbox.c.queue == queue)
    async with asyncio.timeout(within_s):
        while True:
            async with clients.db() as session:
                if not await session.scalar(remaining):
                    return
            await asyncio.sleep(POLL_S)


async def until_started(clients: Clients) -> None:
    """Wait until Kafka is connected, and its subscribers run."""
    await until(lambda: clients.kafka.running and all(subscriber.running for subscriber in clients.kafka.subscribers))


@pytest.fixture
async def linked(clients: Clients) -> Cafe:
    """A cafe with a chat and enabled notifications, without an event."""
    return await add_cafe(clients, tg_chat_id=CHAT, linked_at=datetime.now(UTC))


@pytest.fixture
def unlinked(linked: Cafe) -> CafeUnlinked:
    """An event with an effect: its handler notifies the former chat."""
    return CafeUnlinked.of_cafe(linked, CHAT, UnlinkReason.MANAGER)


@pytest.fixture
async def ordered(clients: Clients, user: Context) -> Order:
    """An order from a linked cafe."""
    lunch = await add_lunch(clients, tg_chat_id=CHAT, linked_at=NOW)
    return await place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
