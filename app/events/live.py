"""From Kafka to the live subscriptions of this replica.

Every replica reads the topics for itself, with no shared group, and hands each event to whoever listens. Nothing is
kept: a subscription sees what happens from then on.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Self, override

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from prometheus_client import Gauge

from app.clients import Clients
from app.errors import SlowConsumer
from app.events.inbox import headers_of, lenient, raw_record
from app.events.log import connect
from app.events.messages import Event, Topic, UnreadableEvent, read
from app.log import get_log
from app.viewer import Viewer

log = get_log(__name__)

SUBSCRIPTIONS = Gauge("lunch_bot_subscriptions", "Live subscriptions on this replica.")

TOPICS = (Topic.LINK_REQUESTS, Topic.NOTIFICATIONS, Topic.RECOMMENDATIONS)

QUEUE_EVENTS = 1_000
"""How many events may wait for one subscriber. Beyond that its stream ends, so that memory stays flat."""

REMEMBERED_EVENTS = 10_000
"""How many event ids are remembered, so that one that Kafka gives us twice is shown once."""

CLOCK_SKEW = timedelta(minutes=1)
"""How far our clock may be ahead of that of the relay, whose time the records carry."""

MS_PER_S = 1000


class Subscription[T](AsyncIterator[T]):
    """The events for one subscriber, from the moment it is made.

    Raises SlowConsumer, after the events that did fit, when more than `QUEUE_EVENTS` were waiting, or what it is ended
    with.
    """

    def __init__(self, live: "Live", select: Callable[[Event], T | None], viewer: Viewer | None) -> None:
        self.viewer = viewer
        self._live = live
        self._select = select
        self._waiting: asyncio.Queue[T | None] = asyncio.Queue(QUEUE_EVENTS + 1)  # the last place is for the end
        self._end: Exception | None = None
        live.subscriptions.add(self)

    def offer(self, event: Event) -> None:
        """Queue what this subscriber wants of `event`, if anything; never waits."""
        if (selected := self._select(event)) is None:
            return
        if self._waiting.qsize() < QUEUE_EVENTS:
            self._waiting.put_nowait(selected)
        else:
            self.end(SlowConsumer())

    def refuse(self, end: Exception) -> None:
        """Give nothing more, not even what is waiting: the subscriber has no right to it any more."""
        while not self._waiting.empty():
            self._waiting.get_nowait()
        self.end(end)

    def end(self, end: Exception) -> None:
        """Give nothing more. The subscriber gets what is waiting, and then `end`."""
        self._end = end
        self._live.subscriptions.discard(self)
        self._waiting.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    @override
    async def __anext__(self) -> T:
        item = await self._waiting.get()
        if item is None:
            self._waiting.put_nowait(None)
            raise self._end or StopAsyncIteration
        return item

    def map[R](self, change: Callable[[T], R]) -> "Subscription[R]":
        """Return this subscription with `change` done to what it gives."""
        select = self._select
        self._live.subscriptions.discard(self)
        return Subscription(
            self._live, lambda event: None if (item := select(event)) is None else change(item), self.viewer
        )

    async def aclose(self) -> None:
        """Stop listening; whoever waits for more is told that there is no more."""
        self.refuse(StopAsyncIteration())


class Live:
    """The events of this replica, and those who listen to them."""

    def __init__(self) -> None:
        self.subscriptions: set[Subscription[Any]] = set()
        self._seen: OrderedDict[str, None] = OrderedDict()
        SUBSCRIPTIONS.set_function(lambda: len(self.subscriptions))

    def subscribe[T](self, select: Callable[[Event], T | None], viewer: Viewer | None = None) -> Subscription[T]:
        """Listen from now on. `select` says what of an event the subscriber gets, None for nothing."""
        return Subscription(self, select, viewer)

    def publish(self, event_id: str, event: Event) -> None:
        """Hand an event to every subscriber, unless it has been handed out before."""
        if event_id in self._seen:
            return
        self._seen[event_id] = None
        if len(self._seen) > REMEMBERED_EVENTS:
            self._seen.popitem(last=False)
        for subscription in tuple(self.subscriptions):
            subscription.offer(event)


async def feed(live: Live, clients: Clients) -> None:
    """Have the topics read into `live`, beginning with what happened since now.

    Kafka may be away now and come later: then reading begins at the time of this call, so that subscribers who were
    here before Kafka miss nothing. `earliest` matters only to find a place again if the log is gone; what is older
    than this call is left out.
    """
    since_ms = int((datetime.now(UTC) - CLOCK_SKEW).timestamp() * MS_PER_S)

    @clients.kafka.subscriber(
        *TOPICS,
        ack_policy=AckPolicy.ACK_FIRST,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=clients.settings.kafka_fetch_max_wait_ms,
        parser=lenient,
        no_reply=True,
        decoder=raw_record,
    )
    async def hand_out(record: ConsumerRecord) -> None:
        if record.timestamp < since_ms:
            return
        try:
            received = read(headers_of(record), record.value or b"")
        except UnreadableEvent as error:
            log.warning("live.unreadable", topic=record.topic, offset=record.offset, error=str(error))
            return
        live.publish(received.id, received.event)

    await connect(clients.settings, clients.kafka, lambda kafka: _seek(kafka, since_ms))


async def _seek(kafka: KafkaBroker, since_ms: int) -> None:
    """Skip what is older than `since_ms` (milliseconds since 1970) instead of reading it all."""
    for subscriber in kafka.subscribers:
        consumer: AIOKafkaConsumer = subscriber.consumer  # type: ignore[attr-defined]
        partitions = consumer.assignment()
        ends = await consumer.end_offsets(partitions)  # first: what comes after it must not be skipped
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, since_ms))
        for partition in partitions:
            place = found.get(partition)
            # Nothing so new is None from Apache Kafka, and a time of -1 from some that speak its protocol.
            consumer.seek(partition, ends[partition] if place is None or place.timestamp < 0 else place.offset)
