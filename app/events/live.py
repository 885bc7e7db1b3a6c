"""Live events: from Kafka to the subscriptions of this replica.

Every replica reads the topics itself, without a consumer group, and gives each event to its subscriptions. Nothing is
kept: a subscription gets the events that follow it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable
from datetime import UTC, datetime, timedelta
from typing import Any, Self, override

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from faststream.kafka import KafkaBroker
from prometheus_client import Gauge

from app.clients import Clients
from app.errors import SlowConsumer
from app.events.cloudevents import UnreadableEvent, parse_event
from app.events.kafka import connect, headers_of_record, subscribe
from app.events.types import LIVE_TOPICS, Event
from app.log import get_log

log = get_log(__name__)

SUBSCRIPTIONS = Gauge("lunch_bot_subscriptions", "Live subscriptions on this replica.")

QUEUE_EVENTS = 1_000
"""How many events may wait for one subscriber. Beyond that its stream ends, so that memory stays flat."""

REMEMBERED_EVENTS = 10_000
"""How many event ids are remembered: an event that Kafka delivers twice is published once."""

CLOCK_SKEW = timedelta(minutes=1)
"""How far this clock may be ahead of the relay's clock, which gives the records their time."""

MS_PER_S = 1000


class Subscription[T](AsyncIterator[T]):
    """The events for one subscriber, from its creation on.

    Raises SlowConsumer, after the events that fit, when more than `QUEUE_EVENTS` wait; or the error given to `end`.

    Args:
        select: Returns what the subscriber gets of an event, or None.
        viewer: Whose rights the subscription has.
    """

    def __init__(self, live: "Live", select: Callable[[Event], T | None], viewer: object) -> None:
        self.viewer = viewer
        self._live = live
        self._select = select
        self._queue: asyncio.Queue[T | None] = asyncio.Queue(QUEUE_EVENTS + 1)  # the last place is for the end
        self._error: Exception | None = None
        live.subscriptions.add(self)

    def offer(self, event: Event) -> None:
        """Queue what this subscriber gets of `event`, if anything. Never waits."""
        if (selected := self._select(event)) is None:
            return
        if self._queue.qsize() < QUEUE_EVENTS:
            self._queue.put_nowait(selected)
        else:
            self.end(SlowConsumer())

    def revoke(self, error: Exception) -> None:
        """End with `error`, without the events that wait: the subscriber has no right to them any more."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self.end(error)

    def end(self, error: Exception) -> None:
        """End with `error`, after the events that wait."""
        self._error = error
        self._live.subscriptions.discard(self)
        self._queue.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    @override
    async def __anext__(self) -> T:
        item = await self._queue.get()
        if item is None:
            self._queue.put_nowait(None)
            raise self._error or StopAsyncIteration
        return item

    async def aclose(self) -> None:
        """Unsubscribe. A pending `__anext__` ends."""
        self.revoke(StopAsyncIteration())


class Live:
    """The live events of this replica, and their subscriptions."""

    def __init__(self) -> None:
        self.subscriptions: set[Subscription[Any]] = set()
        self._published: OrderedDict[Hashable, None] = OrderedDict()
        SUBSCRIPTIONS.set_function(lambda: len(self.subscriptions))

    def subscribe[T](self, select: Callable[[Event], T | None], viewer: object = None) -> Subscription[T]:
        """Subscribe from now on, with the rights of `viewer`."""
        return Subscription(self, select, viewer)

    def publish(self, identity: Hashable, event: Event) -> None:
        """Offer an event to every subscription, unless it was published before."""
        if identity in self._published:
            return
        self._published[identity] = None
        if len(self._published) > REMEMBERED_EVENTS:
            self._published.popitem(last=False)
        for subscription in tuple(self.subscriptions):
            subscription.offer(event)


async def feed(live: Live, clients: Clients) -> None:
    """Publish the events of the live topics to `live`, from now on.

    Kafka may be unavailable now. Reading then begins at the time of this call, so that early subscribers miss nothing.
    Older events are left out; `earliest` matters only if the log is lost.
    """
    since_ms = int((datetime.now(UTC) - CLOCK_SKEW).timestamp() * MS_PER_S)

    async def publish(record: ConsumerRecord) -> None:
        if record.timestamp < since_ms:
            return
        try:
            received = parse_event(headers_of_record(record), record.value or b"")
        except UnreadableEvent as error:
            log.warning("live.unreadable", topic=record.topic, offset=record.offset, error=str(error))
            return
        live.publish((received.source, received.id), received.event)

    subscribe(clients, LIVE_TOPICS, group=None, handler=publish)
    await connect(clients.settings, clients.kafka, lambda kafka: _seek(kafka, since_ms))


async def _seek(kafka: KafkaBroker, since_ms: int) -> None:
    """Skip the records before `since_ms` (milliseconds since 1970)."""
    for subscriber in kafka.subscribers:
        consumer: AIOKafkaConsumer = subscriber.consumer  # type: ignore[attr-defined]
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)  # first, so that no later record is skipped
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        for partition in partitions:
            place = found.get(partition)
            # Apache Kafka returns None if there is no such record; some other brokers return a time of -1.
            consumer.seek(partition, ends[partition] if place is None or place.timestamp < 0 else place.offset)
