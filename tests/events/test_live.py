"""From Kafka to the subscriptions of this replica: each event once, and independent of slow subscribers."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer

from app.auth.context import Context
from app.clients import Clients, open_clients
from app.dev.embedded import Kafka
from app.errors import Forbidden, SlowConsumer
from app.events import cloudevents
from app.events.kafka import connect
from app.events.live import QUEUE_EVENTS, REMEMBERED_EVENTS, Live, Subscription, feed
from app.events.types import CafeEvent, CafeNotificationsChanged, Event, LinkRequestEvent, Topic
from app.models import Cafe
from app.resolvers import links
from app.settings import Settings
from tests.events.conftest import CHAT, producing, relaying, running, until_started
from tests.servers import DEADLINE_S


@pytest.fixture
def live() -> Live:
    """The live events of a replica."""
    return Live()


@pytest.fixture
def event(linked: Cafe) -> CafeNotificationsChanged:
    """An event of a cafe."""
    return CafeNotificationsChanged.of(linked)


def select_all(event: Event) -> Event:
    return event


def publish(live: Live, event: Event, times: int) -> None:
    """Publish the event so many times, with different ids."""
    for n in range(times):
        live.publish(f"{id(event)} {n}", event)


async def next_events[T](subscription: Subscription[T], count: int) -> list[T]:
    """Return the next `count` events of a subscription."""
    async with asyncio.timeout(DEADLINE_S):
        return [await anext(subscription) for _ in range(count)]


async def test_an_event_reaches_every_subscription(live: Live, event: CafeNotificationsChanged) -> None:
    """Every subscription gets an event."""
    subscriptions = [live.subscribe(select_all) for _ in range(3)]

    live.publish("1", event)

    assert [await next_events(subscription, 1) for subscription in subscriptions] == [[event]] * 3


async def test_a_repeated_event_is_published_once(live: Live, event: CafeNotificationsChanged) -> None:
    """A subscriber gets an event once, even if Kafka delivers it twice."""
    subscription = live.subscribe(lambda event: event if isinstance(event, CafeEvent) else None)
    later = event.model_copy(update={"name": "later"})

    for event_id, published in (("1", event), ("1", event), ("2", later)):
        live.publish(event_id, published)

    assert [selected.name for selected in await next_events(subscription, 2)] == [event.name, "later"]


async def test_the_number_of_remembered_ids_is_limited(live: Live, event: CafeNotificationsChanged) -> None:
    """Memory stays flat after any number of events."""
    publish(live, event, REMEMBERED_EVENTS + 10)

    assert len(live._published) == REMEMBERED_EVENTS


async def test_a_subscription_selects_events(live: Live, event: CafeNotificationsChanged) -> None:
    """A subscription leaves out an event for which its selection returns None."""
    subscription = live.subscribe(lambda event: event.id if isinstance(event, CafeEvent) and event.id > 1 else None)

    for cafe_id in (1, 2, 3):
        live.publish(str(cafe_id), event.model_copy(update={"id": cafe_id}))

    assert await next_events(subscription, 2) == [2, 3]


async def test_a_subscription_begins_at_its_creation(live: Live, event: CafeNotificationsChanged) -> None:
    """A subscription leaves out the events before its creation."""
    live.publish("1", event.model_copy(update={"name": "before"}))
    subscription = live.subscribe(lambda event: event.name if isinstance(event, CafeEvent) else None)

    live.publish("2", event.model_copy(update={"name": "after"}))

    assert await next_events(subscription, 1) == ["after"]


async def test_events_wait_for_a_slow_subscriber(live: Live, event: CafeNotificationsChanged) -> None:
    """A slow subscriber gets all events that fit into its queue."""
    subscription = live.subscribe(select_all)

    publish(live, event, QUEUE_EVENTS)

    assert len(await next_events(subscription, QUEUE_EVENTS)) == QUEUE_EVENTS


async def test_a_slow_consumer_gets_an_error(live: Live, event: CafeNotificationsChanged) -> None:
    """The stream of a slow consumer ends with an error after the events that fit."""
    subscription = live.subscribe(select_all)
    publish(live, event, QUEUE_EVENTS + 1)
    await next_events(subscription, QUEUE_EVENTS)

    with pytest.raises(SlowConsumer):
        await next_events(subscription, 1)


async def test_the_stream_of_a_slow_consumer_stays_closed(live: Live, event: CafeNotificationsChanged) -> None:
    """An ended stream does not continue, because a gap would be invisible."""
    subscription = live.subscribe(select_all)
    publish(live, event, QUEUE_EVENTS + 1)
    await next_events(subscription, QUEUE_EVENTS)

    live.publish("another", event)

    for _ in range(2):
        with pytest.raises(SlowConsumer):
            await next_events(subscription, 1)


async def test_a_slow_consumer_is_unsubscribed(live: Live, event: CafeNotificationsChanged) -> None:
    """A slow consumer is no longer among the subscriptions."""
    live.subscribe(select_all)

    publish(live, event, QUEUE_EVENTS + 1)

    assert not live.subscriptions


async def test_a_slow_consumer_does_not_affect_others(live: Live, event: CafeNotificationsChanged) -> None:
    """A fast subscriber gets all events, even if another one is slow."""
    live.subscribe(select_all)
    fast = live.subscribe(select_all)
    count = 0

    for n in range(QUEUE_EVENTS * 2):
        live.publish(str(n), event)
        count += len(await next_events(fast, 1))

    assert count == QUEUE_EVENTS * 2


async def test_a_closed_subscription_is_unsubscribed(live: Live) -> None:
    """A closed subscription is no longer among the subscriptions."""
    subscription = live.subscribe(select_all)

    await subscription.aclose()

    assert not live.subscriptions


async def test_a_closed_subscription_ends(live: Live) -> None:
    """A closed subscription ends immediately."""
    subscription = live.subscribe(select_all)
    await subscription.aclose()

    with pytest.raises(StopAsyncIteration):
        await next_events(subscription, 1)


async def test_a_revoked_subscription_drops_its_events(live: Live, event: CafeNotificationsChanged) -> None:
    """A subscriber that has lost its rights gets the error immediately, and not the events that wait."""
    subscription = live.subscribe(select_all)
    publish(live, event, 3)

    subscription.revoke(Forbidden())

    assert not live.subscriptions
    with pytest.raises(Forbidden):
        await next_events(subscription, 1)


def run_replica(live: Live, clients: Clients) -> AbstractAsyncContextManager[None]:
    """Feed events to `live` during the block, as an api process does."""
    return running(feed(live, clients))


def request_events(live: Live) -> Subscription[LinkRequestEvent]:
    return live.subscribe(lambda event: event if isinstance(event, LinkRequestEvent) else None)


def cafe_names(live: Live) -> Subscription[str]:
    return live.subscribe(lambda event: event.name if isinstance(event, CafeEvent) else None)


async def send(
    producer: AIOKafkaProducer, event: Event, event_id: str, at: datetime | None = None, partition: int = 0
) -> None:
    """Put an event on its topic, as the relay does."""
    at = at or datetime.now(UTC)
    await producer.send_and_wait(
        event.topic,
        event.model_dump_json().encode(),
        partition=partition,
        timestamp_ms=int(at.timestamp() * 1000),
        headers=[(name, text.encode()) for name, text in cloudevents.headers_of(event_id, event, at).items()],
    )


async def test_an_event_reaches_every_replica(
    kafka_clients: Clients, kafka_settings: Settings, anonymous: Context, cafe: Cafe
) -> None:
    """The subscribers of every replica get an event of any process."""
    here, there = Live(), Live()
    subscriptions = [request_events(here), request_events(there)]

    async with (
        open_clients(kafka_settings) as events,
        open_clients(kafka_settings) as other,
        relaying(events),
        run_replica(here, kafka_clients),
        run_replica(there, other),
    ):
        request = await links.link_request(anonymous, cafe.id, CHAT)
        received = [await next_events(subscription, 1) for subscription in subscriptions]

    assert [[event.id for event in events] for events in received] == [[request.id], [request.id]]


async def test_events_of_an_outage_reach_subscribers(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, live: Live, anonymous: Context, cafe: Cafe
) -> None:
    """A replica that starts during an outage of Kafka gets the missed events after it."""
    await kafka.stop()
    subscription = request_events(live)

    async with open_clients(kafka_settings) as events, relaying(events), run_replica(live, kafka_clients):
        request = await links.link_request(anonymous, cafe.id, CHAT)
        await kafka.start()
        [received] = await next_events(subscription, 1)

    assert received.id == request.id


async def test_old_events_are_left_out(
    kafka: Kafka, kafka_clients: Clients, live: Live, event: CafeNotificationsChanged
) -> None:
    """The subscribers of a new replica do not get old events."""
    subscription = cafe_names(live)
    async with producing(kafka) as producer, run_replica(live, kafka_clients):
        await until_started(kafka_clients)
        long_ago = datetime.now(UTC) - timedelta(minutes=5)
        await send(producer, event.model_copy(update={"name": "before"}), "1", long_ago)
        await send(producer, event.model_copy(update={"name": "after"}), "2")
        [received] = await next_events(subscription, 1)

    assert received == "after"


async def test_the_old_part_of_the_topic_is_skipped(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, live: Live, event: CafeNotificationsChanged
) -> None:
    """A new replica skips old records, however many, and loses no record that arrives during its start."""
    subscription = cafe_names(live)
    async with producing(kafka) as producer, open_clients(kafka_settings) as other:
        await connect(kafka_settings, other.kafka)
        for n in range(100):
            await send(producer, event.model_copy(update={"name": "before"}), str(n), datetime.now(UTC) - timedelta(1))
        async with run_replica(live, kafka_clients):
            await send(producer, event.model_copy(update={"name": "after"}), "after")
            [received] = await next_events(subscription, 1)

    assert received == "after"


async def test_a_late_replica_reads_all_partitions(
    kafka: Kafka, kafka_clients: Clients, live: Live, event: CafeNotificationsChanged
) -> None:
    """A replica that gets the events of several minutes late, partition after partition, leaves out none."""
    subscription = cafe_names(live)
    now = datetime.now(UTC)
    async with producing(kafka) as producer, run_replica(live, kafka_clients):
        await until_started(kafka_clients)
        await send(producer, event.model_copy(update={"name": "new"}), "1", now + timedelta(minutes=5), partition=1)
        assert await next_events(subscription, 1) == ["new"]
        await send(producer, event.model_copy(update={"name": "old"}), "2", now, partition=2)
        received = await next_events(subscription, 1)

    assert received == ["old"]


async def test_an_unreadable_message_is_left_out(
    kafka: Kafka, kafka_clients: Clients, live: Live, event: CafeNotificationsChanged
) -> None:
    """The message after an unreadable one reaches the subscribers."""
    subscription = cafe_names(live)
    async with producing(kafka) as producer, run_replica(live, kafka_clients):
        await until_started(kafka_clients)
        for name, value in (("ce_type", b"\xff"), ("ce_type", b"cafe.unlinked"), ("ce_id", None)):
            await producer.send_and_wait(Topic.LINK_REQUESTS, b"{", partition=0, headers=[(name, value)])
        await send(producer, event, "1")
        [received] = await next_events(subscription, 1)

    assert received == event.name
