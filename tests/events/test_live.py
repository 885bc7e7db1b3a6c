"""From Kafka to those who listen on this replica: each event once, and nobody holds up the others."""

import asyncio
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import pytest
from aiokafka import AIOKafkaProducer

from app.clients import Clients, open_clients
from app.context import Context
from app.dev.embedded import Kafka
from app.errors import SlowConsumer
from app.events import messages
from app.events.live import QUEUE_EVENTS, REMEMBERED_EVENTS, Live, Subscription, feed
from app.events.log import connect
from app.events.messages import CafeEvent, CafeNotificationsChanged, Event, LinkRequestEvent, Topic
from app.models import Cafe
from app.resolvers import links
from app.settings import Settings
from tests.events.conftest import CHAT, OUTAGE_DEADLINE_S, producing, relaying, running, until_started
from tests.servers import DEADLINE_S


@pytest.fixture
def live() -> Live:
    return Live()


@pytest.fixture
def event(linked: Cafe) -> CafeNotificationsChanged:
    return CafeNotificationsChanged.of(linked)


def everything(event: Event) -> Event:
    return event


def publish(live: Live, event: Event, times: int) -> None:
    """Let something happen so many times, each with an id of its own."""
    for n in range(times):
        live.publish(f"{id(event)} {n}", event)


async def taken[T](subscription: Subscription[T], count: int, within_s: float = DEADLINE_S) -> list[T]:
    async with asyncio.timeout(within_s):
        return [await anext(subscription) for _ in range(count)]


async def test_an_event_reaches_everybody(live: Live, event: CafeNotificationsChanged) -> None:
    """Everybody who listens gets an event."""
    subscriptions = [live.subscribe(everything) for _ in range(3)]

    live.publish("1", event)

    assert [await taken(subscription, 1) for subscription in subscriptions] == [[event]] * 3


async def test_an_event_that_comes_again_is_not_shown_again(live: Live, event: CafeNotificationsChanged) -> None:
    """What Kafka gives twice, with one id, a subscriber gets once."""
    subscription = live.subscribe(lambda event: event if isinstance(event, CafeEvent) else None)
    later = event.model_copy(update={"name": "later"})

    for event_id, happened in (("1", event), ("1", event), ("2", later)):
        live.publish(event_id, happened)

    assert [shown.name for shown in await taken(subscription, 2)] == [event.name, "later"]


async def test_ids_are_not_remembered_for_ever(live: Live, event: CafeNotificationsChanged) -> None:
    """Memory stays flat, however many events there were."""
    publish(live, event, REMEMBERED_EVENTS + 10)

    assert len(live._seen) == REMEMBERED_EVENTS


async def test_a_subscriber_gets_what_it_selects(live: Live, event: CafeNotificationsChanged) -> None:
    """What the selection has nothing for is not given."""
    subscription = live.subscribe(lambda event: event.id if isinstance(event, CafeEvent) and event.id > 1 else None)

    for cafe_id in (1, 2, 3):
        live.publish(str(cafe_id), event.model_copy(update={"id": cafe_id}))

    assert await taken(subscription, 2) == [2, 3]


async def test_a_subscription_begins_when_it_is_made(live: Live, event: CafeNotificationsChanged) -> None:
    """What was before is not given."""
    live.publish("1", event.model_copy(update={"name": "before"}))
    subscription = live.subscribe(lambda event: event.name if isinstance(event, CafeEvent) else None)

    live.publish("2", event.model_copy(update={"name": "after"}))

    assert await taken(subscription, 1) == ["after"]


async def test_events_wait_for_who_is_slow(live: Live, event: CafeNotificationsChanged) -> None:
    """One who does not look for a while gets everything that fits."""
    subscription = live.subscribe(everything)

    publish(live, event, QUEUE_EVENTS)

    assert len(await taken(subscription, QUEUE_EVENTS)) == QUEUE_EVENTS


async def test_who_falls_too_far_behind_is_told(live: Live, event: CafeNotificationsChanged) -> None:
    """After the events that did fit the stream of a slow consumer ends."""
    subscription = live.subscribe(everything)
    publish(live, event, QUEUE_EVENTS + 1)
    await taken(subscription, QUEUE_EVENTS)

    with pytest.raises(SlowConsumer):
        await taken(subscription, 1)


async def test_who_fell_too_far_behind_stays_behind(live: Live, event: CafeNotificationsChanged) -> None:
    """A stream that has ended does not begin again: a gap would not show."""
    subscription = live.subscribe(everything)
    publish(live, event, QUEUE_EVENTS + 1)
    await taken(subscription, QUEUE_EVENTS)

    live.publish("another", event)

    for _ in range(2):
        with pytest.raises(SlowConsumer):
            await taken(subscription, 1)


async def test_who_fell_too_far_behind_costs_nothing(live: Live, event: CafeNotificationsChanged) -> None:
    """A slow consumer is no subscriber any more."""
    live.subscribe(everything)

    publish(live, event, QUEUE_EVENTS + 1)

    assert not live.subscriptions


async def test_nobody_suffers_from_who_is_slow(live: Live, event: CafeNotificationsChanged) -> None:
    """One who reads along gets everything, whoever else falls behind."""
    live.subscribe(everything)
    quick = live.subscribe(everything)
    got = 0

    for n in range(QUEUE_EVENTS * 2):
        live.publish(str(n), event)
        got += len(await taken(quick, 1))

    assert got == QUEUE_EVENTS * 2


async def test_a_closed_subscription_listens_no_more(live: Live) -> None:
    """After it is closed there is no subscriber."""
    subscription = live.subscribe(everything)

    await subscription.aclose()

    assert not live.subscriptions


async def test_a_closed_subscription_is_over(live: Live) -> None:
    """One who asks a closed subscription for more is not kept waiting."""
    subscription = live.subscribe(everything)
    await subscription.aclose()

    with pytest.raises(StopAsyncIteration):
        await taken(subscription, 1, within_s=1)


async def test_a_subscription_is_mapped(live: Live, event: CafeNotificationsChanged) -> None:
    """A mapped subscription gives what the change makes of each event that the first would have given."""
    subscription = live.subscribe(lambda event: event.id if isinstance(event, CafeEvent) and event.id > 1 else None)
    mapped = subscription.map(lambda cafe_id: f"cafe {cafe_id}")

    for cafe_id in (1, 2, 3):
        live.publish(str(cafe_id), event.model_copy(update={"id": cafe_id}))

    assert await taken(mapped, 2) == ["cafe 2", "cafe 3"]


async def test_a_mapped_subscription_is_one(live: Live) -> None:
    """What was mapped does not listen beside its map."""
    mapped = live.subscribe(everything).map(str)

    assert live.subscriptions == {mapped}


def replica(live: Live, clients: Clients) -> AbstractAsyncContextManager[None]:
    """Have events fed beside the block, as an API process does."""
    return running(feed(live, clients))


def requests(live: Live) -> Subscription[LinkRequestEvent]:
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
        headers=[(name, text.encode()) for name, text in messages.headers(event_id, event, at).items()],
    )


async def test_what_happens_is_shown_on_every_replica(
    kafka_clients: Clients, kafka_settings: Settings, anybody: Context, cafe: Cafe
) -> None:
    """What one process commits, the subscribers of every replica see."""
    here, there = Live(), Live()
    subscriptions = [requests(here), requests(there)]

    async with (
        open_clients(kafka_settings) as events,
        open_clients(kafka_settings) as other,
        relaying(events),
        replica(here, kafka_clients),
        replica(there, other),
    ):
        request = await links.link_request(anybody, cafe.id, CHAT)
        shown = [await taken(subscription, 1) for subscription in subscriptions]

    assert [[event.id for event in events] for events in shown] == [[request.id], [request.id]]


async def test_what_happened_while_kafka_was_away_is_shown(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, live: Live, anybody: Context, cafe: Cafe
) -> None:
    """A replica that begins without Kafka catches up by itself when it comes, and its subscribers miss nothing."""
    await kafka.stop()
    subscription = requests(live)

    async with open_clients(kafka_settings) as events, relaying(events), replica(live, kafka_clients):
        request = await links.link_request(anybody, cafe.id, CHAT)
        await kafka.start()
        [shown] = await taken(subscription, 1, OUTAGE_DEADLINE_S)

    assert shown.id == request.id


async def test_what_was_on_the_topic_before_the_replica_is_not_shown(
    kafka: Kafka, kafka_clients: Clients, live: Live, event: CafeNotificationsChanged
) -> None:
    """Subscribers of a new replica do not get what happened long ago."""
    subscription = cafe_names(live)
    async with producing(kafka) as producer, replica(live, kafka_clients):
        await until_started(kafka_clients)
        long_ago = datetime.now(UTC) - timedelta(minutes=5)
        await send(producer, event.model_copy(update={"name": "before"}), "1", long_ago)
        await send(producer, event.model_copy(update={"name": "after"}), "2")
        [shown] = await taken(subscription, 1)

    assert shown == "after"


async def test_the_old_part_of_the_topic_is_skipped(
    kafka: Kafka, kafka_clients: Clients, kafka_settings: Settings, live: Live, event: CafeNotificationsChanged
) -> None:
    """A new replica leaves out what is old, however much, and loses nothing of what comes while it connects."""
    subscription = cafe_names(live)
    async with producing(kafka) as producer, open_clients(kafka_settings) as other:
        await connect(kafka_settings, other.kafka)
        for n in range(100):
            await send(producer, event.model_copy(update={"name": "before"}), str(n), datetime.now(UTC) - timedelta(1))
        async with replica(live, kafka_clients):
            await send(producer, event.model_copy(update={"name": "after"}), "after")
            [shown] = await taken(subscription, 1)

    assert shown == "after"


async def test_a_replica_that_was_cut_off_shows_all_partitions(
    kafka: Kafka, kafka_clients: Clients, live: Live, event: CafeNotificationsChanged
) -> None:
    """One that gets minutes of events late, partition after partition, shows those of the second too."""
    subscription = cafe_names(live)
    now = datetime.now(UTC)
    async with producing(kafka) as producer, replica(live, kafka_clients):
        await until_started(kafka_clients)
        await send(producer, event.model_copy(update={"name": "new"}), "1", now + timedelta(minutes=5), partition=1)
        assert await taken(subscription, 1) == ["new"]
        await send(producer, event.model_copy(update={"name": "old"}), "2", now, partition=2)
        shown = await taken(subscription, 1, within_s=3)

    assert shown == ["old"]


async def test_what_cannot_be_read_is_left_out(
    kafka: Kafka, kafka_clients: Clients, live: Live, event: CafeNotificationsChanged
) -> None:
    """The message behind one that is no event of ours is shown."""
    subscription = cafe_names(live)
    async with producing(kafka) as producer, replica(live, kafka_clients):
        await until_started(kafka_clients)
        for name, value in (("ce_type", b"\xff"), ("ce_type", b"cafe.unlinked"), ("ce_id", None)):
            await producer.send_and_wait(Topic.LINK_REQUESTS, b"{", partition=0, headers=[(name, value)])
        await send(producer, event, "1")
        [shown] = await taken(subscription, 1)

    assert shown == event.name
