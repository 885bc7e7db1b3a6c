"""Delivery of notifications to Telegram, and its failures."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.auth.context import Context
from app.clients import Clients, open_clients
from app.dev.telegram.chats import Chat
from app.dev.telegram.faults import Failure, FailureKind
from app.events.outbox import enqueue
from app.handlers.notifications import delivery_broker
from app.models import Cafe, DeadLetter, LinkRequest, Notification, NotificationKind, NotificationStatus, Outbox
from app.resolvers import links, orders
from app.resolvers.notifications import retry_notification
from app.services import deadlines, notifications
from app.services.notification_kinds import Text
from app.services.notifications import DELIVERY_TIMEOUT, CorrectionTask, DeliveryTask, notify
from app.settings import Settings
from app.telegram import notification_texts
from app.telegram.limiter import Busy, Limiter
from app.telegram.notification_texts import NamedCafe
from app.telegram.sender import RetryAfter
from tests.conftest import add_cafe, add_lunch, event_types
from tests.events.conftest import until_empty
from tests.servers import POLL_S, until
from tests.telegram_standin import World, limited_bot, read_in, read_in_topic

pytestmark = pytest.mark.slow

RETRY_DEADLINE_S = 15.0
"""The outbox looks every second for rows that wait for another attempt."""

THURSDAY = date(2026, 3, 5)
MANAGERS = -1009


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a managers' chat."""
    return settings.model_copy(update={"telegram_manager_chat_id": MANAGERS})


@pytest.fixture
async def world(shared_world: World, clients: Clients) -> AsyncIterator[World]:
    """The stand-in with the managers' chat, and a process that delivers to it."""
    shared_world.state.reset()
    shared_world.state.add_chat(Chat(MANAGERS, "group", "Managers"))
    async with limited_bot(shared_world, clients) as bot:
        broker = delivery_broker(clients, bot)
        await broker.start()
        yield shared_world
        await broker.stop()


@pytest.fixture
def chat(world: World) -> Chat:
    """A group."""
    return world.group()


@pytest.fixture
async def linked_cafe(clients: Clients, chat: Chat) -> Cafe:
    """A cafe whose chat is the group."""
    return await add_cafe(clients, tg_chat_id=chat.id, linked_at=datetime.now(UTC))


async def test_orders_go_to_the_topic_of_the_link(world: World, clients: Clients, manager: Context) -> None:
    """The order list of a cafe that was linked in a topic goes to that topic."""
    forum = world.forum(77)
    lunch = await add_lunch(clients, tg_chat_id=forum.id, tg_thread_id=77, linked_at=datetime.now(UTC))
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal)
    async with clients.db() as session:
        await deadlines.close_day(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
    async with clients.db() as session:
        await notifications.announce_day(clients, session, lunch.cafe.id, lunch.open_date)

    await until(lambda: read_in(forum))

    assert "Borscht" in read_in_topic(forum, 77)[0]


def fixed_text(*parts: str) -> Text:
    """Return a text function that makes these parts."""

    def make(_cafe: NamedCafe, *, locale: str) -> Sequence[str]:
        return parts

    return make


async def queue_message(clients: Clients, cafe: Cafe, chat_id: int, text: str = "<b>Soup</b> &amp; salad") -> int:
    """Queue a notification without buttons, and return its id."""
    async with clients.db() as session:
        notification = await notify(
            clients, session, NotificationKind.LINK_APPROVED, cafe, chat_id=chat_id, text=fixed_text(text)
        )
    assert notification is not None
    return notification.id


async def queue_order_list(clients: Clients, cafe: Cafe, *parts: str) -> int:
    """Queue an order list in these parts, and return its id."""
    async with clients.db() as session:
        notification = await notify(
            clients,
            session,
            NotificationKind.ORDERS,
            cafe,
            chat_id=cafe.tg_chat_id,
            date=THURSDAY,
            snapshot={},
            text=fixed_text(*(parts or ["soup"])),
        )
    assert notification is not None
    return notification.id


async def enqueue_again(clients: Clients, notification_id: int) -> None:
    """Enqueue another delivery of the first part."""
    async with clients.db() as session:
        await enqueue(session, DeliveryTask(notification_id=notification_id, part=0))


async def stored(clients: Clients, notification_id: int) -> Notification:
    """Return the stored notification."""
    async with clients.db() as session:
        return await session.get_one(Notification, notification_id)


async def chat_of(clients: Clients, cafe: Cafe) -> int | None:
    """Return the present chat of a cafe."""
    async with clients.db() as session:
        return (await session.get_one(Cafe, cafe.id)).tg_chat_id


async def until_it_is(
    clients: Clients, notification_id: int, condition: Callable[[Notification], bool]
) -> Notification:
    """Wait until a notification meets a condition, and return it."""
    async with asyncio.timeout(RETRY_DEADLINE_S):
        while not condition(found := await stored(clients, notification_id)):
            await asyncio.sleep(POLL_S)
    return found


async def until_status(clients: Clients, notification_id: int, status: NotificationStatus) -> Notification:
    """Wait until a notification has a status, and return it."""
    return await until_it_is(clients, notification_id, lambda found: found.status is status)


async def until_deferred(clients: Clients) -> sa.Row[*tuple[Any, ...]]:
    """Wait until a row waits for its second attempt, and return the row."""
    return await until_row(clients, Outbox.c.attempts_count > 0, Outbox.c.acquired_at.is_(None))


async def until_waiting(clients: Clients) -> sa.Row[*tuple[Any, ...]]:
    """Wait until a delivery waits for its turn, without an attempt, and return its row."""
    return await until_row(clients, Outbox.c.queue == DeliveryTask.queue, Outbox.c.next_attempt_at > sa.func.now())


async def until_row(clients: Clients, *conditions: sa.ColumnElement[bool]) -> sa.Row[*tuple[Any, ...]]:
    """Wait until one row of the outbox meets the conditions, and return it."""
    async with asyncio.timeout(RETRY_DEADLINE_S):
        while True:
            async with clients.db() as session:
                row = (await session.execute(sa.select(Outbox).where(*conditions))).one_or_none()
            if row is not None:
                return row
            await asyncio.sleep(POLL_S)


async def make_due(clients: Clients, queue: str) -> None:
    """Let all waiting rows of a queue have their next attempt."""
    async with clients.db() as session:
        await session.execute(sa.update(Outbox).where(Outbox.c.queue == queue).values(next_attempt_at=sa.func.now()))


async def test_a_notification_is_sent(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A queued notification arrives in the chat as HTML."""
    await queue_message(clients, cafe, chat.id)

    await until_empty(clients, DeliveryTask.queue)

    assert read_in(chat) == ["<b>Soup</b> &amp; salad"]


async def test_a_sent_notification_has_its_message_ids(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A sent notification has the ids of its messages in Telegram."""
    sent = await until_status(clients, await queue_message(clients, cafe, chat.id), NotificationStatus.SENT)

    assert sent.tg_message_ids == list(chat.messages)


async def test_a_sent_notification_has_the_time_of_its_delivery(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A sent notification has the time of its delivery."""
    sent = await until_status(clients, await queue_message(clients, cafe, chat.id), NotificationStatus.SENT)

    assert sent.created_at <= (sent.sent_at or sent.created_at - timedelta(1)) <= datetime.now(UTC)


async def test_a_delivery_is_an_event(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A delivery is one event."""
    await until_status(clients, await queue_message(clients, cafe, chat.id), NotificationStatus.SENT)

    assert await event_types(clients) == ["notification.queued", "notification.sent"]


async def test_a_notification_of_a_rolled_back_transaction_is_not_sent(
    clients: Clients, cafe: Cafe, chat: Chat
) -> None:
    """A notification is not sent if its transaction is rolled back."""
    async with clients.db() as session:
        await notify(clients, session, NotificationKind.UNLINKED, cafe, chat_id=chat.id, text=fixed_text("no"))
        await session.rollback()

    await queue_message(clients, cafe, chat.id, "yes")
    await until_empty(clients, DeliveryTask.queue)

    assert read_in(chat) == ["yes"]


async def test_an_order_list_has_a_received_button(clients: Clients, linked_cafe: Cafe, chat: Chat) -> None:
    """An order list has a button to acknowledge its version."""
    notification_id = await queue_order_list(clients, linked_cafe)
    await until_empty(clients, DeliveryTask.queue)

    assert [message.has_button(f"received:{notification_id}") for message in chat.messages.values()] == [True]


async def test_other_messages_have_no_button(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A notification that needs no answer has no button."""
    await queue_message(clients, cafe, chat.id)
    await until_empty(clients, DeliveryTask.queue)

    assert [message.content.keyboard for message in chat.messages.values()] == [None]


async def test_a_link_request_has_buttons_for_the_decision(clients: Clients, cafe: Cafe, world: World) -> None:
    """A link request has buttons to approve and to reject it."""
    async with clients.db() as session:
        request = LinkRequest(cafe_id=cafe.id, tg_chat_id=-1, created_at=datetime.now(UTC))
        session.add(request)
        await session.flush()
        await notify(
            clients,
            session,
            NotificationKind.LINK_REQUESTED,
            cafe,
            link_request_id=request.id,
            facts={"chat_id": request.tg_chat_id, "username": None},
        )
    await until_empty(clients, DeliveryTask.queue)

    [message] = world.state.chats[MANAGERS].messages.values()
    assert message.has_button(f"decide:{request.id}:1")
    assert message.has_button(f"decide:{request.id}:0")


@pytest.mark.parametrize("kind", [FailureKind.BLOCKED, FailureKind.KICKED])
async def test_an_unreachable_chat_is_unlinked(
    clients: Clients, linked_cafe: Cafe, world: World, chat: Chat, kind: FailureKind
) -> None:
    """If the chat blocks the bot, the delivery fails and the cafe is unlinked, with an event."""
    world.fail(kind)
    notification_id = await queue_order_list(clients, linked_cafe)

    await until_empty(clients, DeliveryTask.queue)

    assert (await stored(clients, notification_id)).status is NotificationStatus.FAILED
    assert await chat_of(clients, linked_cafe) is None
    assert (await event_types(clients))[:3] == ["notification.queued", "notification.failed", "cafe.unlinked"]


async def test_a_failed_notification_has_the_error_of_telegram(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """A failed notification has the error message of Telegram."""
    world.fail(FailureKind.BLOCKED)

    failed = await until_status(clients, await queue_message(clients, cafe, chat.id), NotificationStatus.FAILED)

    assert failed.error == "Forbidden: bot was blocked by the user"


@pytest.mark.usefixtures("world")
async def test_an_unknown_chat_is_a_failure(clients: Clients, cafe: Cafe) -> None:
    """A notification to a chat that Telegram does not know fails."""
    failed = await until_status(clients, await queue_message(clients, cafe, -404), NotificationStatus.FAILED)

    assert failed.error == "Bad Request: chat not found"


async def test_an_order_list_with_invalid_markup_is_sent_as_plain_text(
    clients: Clients, linked_cafe: Cafe, world: World, chat: Chat
) -> None:
    """If Telegram refuses the HTML of an order list, it is sent once as plain text, with its button."""
    world.fail(FailureKind.BAD_ENTITIES)
    notification_id = await queue_order_list(clients, linked_cafe, "<b>Soup</b> &amp; salad")

    sent = await until_status(clients, notification_id, NotificationStatus.SENT)

    assert read_in(chat) == ["Soup & salad"]
    assert chat.messages[sent.tg_message_ids[0]].has_button(f"received:{notification_id}")


async def test_a_failed_notification_is_not_sent_later(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A failed notification is not sent later, even if the chat accepts messages again."""
    world.fail(FailureKind.BLOCKED)
    notification_id = await queue_message(clients, cafe, chat.id)
    await until_status(clients, notification_id, NotificationStatus.FAILED)

    await enqueue_again(clients, notification_id)
    await until_empty(clients, DeliveryTask.queue)

    assert read_in(chat) == []


async def test_a_sent_notification_is_not_sent_again(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A second task for a sent notification does nothing."""
    notification_id = await queue_message(clients, cafe, chat.id)
    await until_status(clients, notification_id, NotificationStatus.SENT)

    await enqueue_again(clients, notification_id)
    await until_empty(clients, DeliveryTask.queue)

    assert len(read_in(chat)) == 1


async def test_retry_after_is_respected(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """After a 429 a notification waits as long as Telegram asks."""
    world.fail(FailureKind.RATE_LIMIT, after=60)
    await queue_message(clients, cafe, chat.id)

    row = await until_deferred(clients)

    assert timedelta(seconds=59) < row.next_attempt_at - row.last_attempt_at < timedelta(seconds=61)


async def test_retry_after_is_respected_by_all_processes(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """After a 429 the chat has no slot for any process."""
    world.fail(FailureKind.RATE_LIMIT, after=60)
    await queue_message(clients, cafe, chat.id)
    await until_deferred(clients)

    answer = await Limiter(clients.redis).acquire(chat.id, patience_s=2)

    assert isinstance(answer, Busy)
    assert 50 < answer.wait_s <= 60


async def test_two_simultaneous_429s_pause_all_chats(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A 429 in two chats within a short time is the bot's limit, so a third chat waits as well."""
    world.fail(FailureKind.RATE_LIMIT, after=60, times=2)
    for chat_id in (chat.id, world.group().id):
        notification_id = await queue_message(clients, cafe, chat_id)
        await until_it_is(
            clients, notification_id, lambda found: found.attempts == 1 and found.status is NotificationStatus.QUEUED
        )

    third = world.person()
    await queue_message(clients, cafe, third.id)
    async with asyncio.timeout(RETRY_DEADLINE_S):
        while await count_not_deferred(clients):
            await asyncio.sleep(POLL_S)

    assert read_in(third) == []


async def count_not_deferred(clients: Clients) -> int:
    """Count the deliveries that have an attempt soon."""
    query = sa.select(sa.func.count()).where(
        Outbox.c.queue == DeliveryTask.queue,
        Outbox.c.next_attempt_at < sa.func.now() + timedelta(seconds=30),
    )
    async with clients.db() as session:
        return (await session.scalars(query)).one()


async def test_temporary_errors_are_retried(clients: Clients, cafe: Cafe, world: World) -> None:
    """A call with a temporary error is repeated, and the notification is sent."""
    queued = {}
    for kind in (
        FailureKind.RATE_LIMIT,
        FailureKind.BAD_GATEWAY,
        FailureKind.SERVER_ERROR,
        FailureKind.DROP_BEFORE,
        FailureKind.DROP_AFTER,
    ):
        chat_id = world.group().id
        retry_after = 1 if kind is FailureKind.RATE_LIMIT else None
        world.state.failures.add(Failure(chat_id=chat_id, kind=kind, retry_after=retry_after))
        queued[kind] = await queue_message(clients, cafe, chat_id)

    sent = {kind: await until_status(clients, id_, NotificationStatus.SENT) for kind, id_ in queued.items()}

    assert {kind: notification.attempts for kind, notification in sent.items()} == dict.fromkeys(queued, 2)


async def test_pauses_become_longer(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """The pauses between attempts are about a second, then about two, with jitter."""
    world.fail(FailureKind.SERVER_ERROR, times=2)
    notification_id = await queue_message(clients, cafe, chat.id)

    pauses = []
    for attempts in (1, 2):
        await until_it_is(clients, notification_id, lambda found, n=attempts: found.attempts == n)  # type: ignore[misc]
        row = await until_deferred(clients)
        pauses.append((row.next_attempt_at - row.last_attempt_at).total_seconds())

    assert 0.7 < pauses[0] < 1.5 < pauses[1] < 3


MARK = notification_texts.sent_again("en").split()[0]


async def test_a_repeat_after_an_unknown_delivery_is_marked(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """A message whose delivery is unknown is sent again, marked as a repeat."""
    world.fail(FailureKind.DROP_AFTER)

    await until_status(clients, await queue_message(clients, cafe, chat.id, "soup"), NotificationStatus.SENT)

    assert read_in(chat) == ["soup", f"{notification_texts.sent_again('en')}\nsoup"]


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMIT, FailureKind.MIGRATE])
async def test_a_repeat_after_a_refusal_is_not_marked(
    clients: Clients, cafe: Cafe, world: World, chat: Chat, kind: FailureKind
) -> None:
    """A message that Telegram has refused is sent again without the mark."""
    world.fail(kind, after=1)

    sent = await until_status(clients, await queue_message(clients, cafe, chat.id, "soup"), NotificationStatus.SENT)

    assert read_in(world.state.chats[sent.tg_chat_id]) == ["soup"]


async def test_a_refused_repeat_is_still_marked(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A refused repeat of an unknown delivery keeps its mark."""
    world.fail(FailureKind.DROP_AFTER)
    world.fail(FailureKind.RATE_LIMIT, after=1)

    await until_status(clients, await queue_message(clients, cafe, chat.id, "soup"), NotificationStatus.SENT)

    assert [MARK in text for text in read_in(chat)] == [False, True]


async def test_a_deferred_chat_does_not_delay_the_others(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """Other notifications are sent while one waits for its next attempt."""
    world.fail(FailureKind.RATE_LIMIT, after=60)
    waiting = await queue_message(clients, cafe, chat.id)
    await until_deferred(clients)

    await until_status(clients, await queue_message(clients, cafe, world.person().id), NotificationStatus.SENT)

    assert (await stored(clients, waiting)).status is NotificationStatus.QUEUED


async def test_a_message_of_a_dead_process_is_repeated_and_marked(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """The delivery of a process that died is unknown: the message is sent again, marked."""
    async with clients.db() as session:
        interrupted = Notification(
            kind=NotificationKind.UNLINKED,
            cafe_id=cafe.id,
            tg_chat_id=chat.id,
            parts=["soup"],
            status=NotificationStatus.SENDING,
            is_uncertain=True,
            attempts=1,
        )
        session.add(interrupted)
        await session.flush()
        await enqueue(session, DeliveryTask(notification_id=interrupted.id, part=0))

    await until_status(clients, interrupted.id, NotificationStatus.SENT)

    assert read_in(chat) == [f"{notification_texts.sent_again('en')}\nsoup"]


async def test_an_attempt_is_recorded_before_the_call(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """The status is `sending` while Telegram has not answered."""
    world.fail(FailureKind.HANG)
    notification_id = await queue_message(clients, cafe, chat.id)

    hanging = await until_it_is(clients, notification_id, lambda found: found.status is not NotificationStatus.QUEUED)
    await until(lambda: not world.state.failures.pending())
    with world.dropping_calls_that_hang():
        await until_deferred(clients)

    assert hanging.status is NotificationStatus.SENDING


async def test_each_part_is_sent_once_and_in_order(clients: Clients, linked_cafe: Cafe, chat: Chat) -> None:
    """Each part is sent once and in order, with the button under the last part."""
    notification_id = await queue_order_list(clients, linked_cafe, "one", "two", "three")

    sent = await until_status(clients, notification_id, NotificationStatus.SENT)

    assert read_in(chat) == ["one", "two", "three"]
    assert sent.tg_message_ids == list(chat.messages)
    assert [message.has_button(f"received:{notification_id}") for message in chat.messages.values()] == [
        False,
        False,
        True,
    ]


async def test_only_the_part_with_an_unknown_delivery_is_repeated(
    clients: Clients, linked_cafe: Cafe, world: World, chat: Chat
) -> None:
    """Only the part whose delivery is unknown is repeated and marked."""
    notification_id = await queue_order_list(clients, linked_cafe, "one", "two", "three")
    await until(lambda: read_in(chat) == ["one"])
    world.fail(FailureKind.DROP_AFTER)

    await until_status(clients, notification_id, NotificationStatus.SENT)

    assert read_in(chat) == ["one", "two", f"{notification_texts.sent_again('en')}\ntwo", "three"]


@pytest.fixture
def group(world: World) -> Chat:
    """A group that is not a supergroup."""
    return world.state.add_chat(Chat(world.state.free_id("group"), "group", "Cafe"))


async def test_a_notification_follows_a_group_to_the_supergroup(clients: Clients, world: World, group: Chat) -> None:
    """An order list for a group that became a supergroup is sent there once, and the link follows."""
    linked_cafe = await add_cafe(clients, tg_chat_id=group.id, linked_at=datetime.now(UTC))
    world.fail(FailureKind.MIGRATE)

    sent = await until_status(clients, await queue_order_list(clients, linked_cafe), NotificationStatus.SENT)

    assert sent.tg_chat_id != group.id
    assert await chat_of(clients, linked_cafe) == sent.tg_chat_id
    assert (read_in(group), read_in(world.state.chats[sent.tg_chat_id])) == ([], ["soup"])


async def test_all_notifications_and_requests_follow_a_group(clients: Clients, world: World, group: Chat) -> None:
    """All waiting notifications and pending requests of a group follow it to the supergroup."""
    linked_cafe = await add_cafe(clients, tg_chat_id=group.id, linked_at=datetime.now(UTC))
    other = await add_cafe(clients, "Green Fork")
    async with clients.db() as session:
        request = LinkRequest(cafe_id=other.id, tg_chat_id=group.id, created_at=datetime.now(UTC))
        session.add(request)
    world.state.failures.add(Failure(chat_id=group.id, kind=FailureKind.MIGRATE, times=None))
    first, second = (
        await queue_order_list(clients, linked_cafe),
        await queue_message(clients, linked_cafe, group.id, "cake"),
    )

    sent = [await until_status(clients, queued, NotificationStatus.SENT) for queued in (first, second)]

    [new_id] = {notification.tg_chat_id for notification in sent}
    assert sorted(read_in(world.state.chats[new_id])) == ["cake", "soup"]
    async with clients.db() as session:
        assert (await session.get_one(LinkRequest, request.id)).tg_chat_id == new_id


async def test_parts_before_a_migration_are_not_repeated(clients: Clients, world: World, group: Chat) -> None:
    """The parts that arrived in the group are not repeated in the supergroup."""
    linked_cafe = await add_cafe(clients, tg_chat_id=group.id, linked_at=datetime.now(UTC))
    notification_id = await queue_order_list(clients, linked_cafe, "one", "two")
    await until(lambda: read_in(group) == ["one"])
    world.fail(FailureKind.MIGRATE)

    sent = await until_status(clients, notification_id, NotificationStatus.SENT)

    assert read_in(world.state.chats[sent.tg_chat_id]) == ["two"]


async def attempt_after(clients: Clients, notification_id: int, by: timedelta) -> Notification:
    """Make a deferred notification older by some time, and let it have its next attempt."""
    await until_deferred(clients)
    async with clients.db() as session:
        row = await session.get_one(Notification, notification_id)
        row.created_at -= by
        row.queued_at -= by
        await session.execute(sa.update(Outbox).values(next_attempt_at=sa.func.now()))
    return await until_it_is(clients, notification_id, lambda found: found.attempts > 1 or found.is_finished)


A_LITTLE = timedelta(minutes=1)


async def test_a_delivery_fails_after_an_hour(clients: Clients, linked_cafe: Cafe, world: World, chat: Chat) -> None:
    """A delivery fails after an hour of temporary errors, and the last error is recorded."""
    world.fail(FailureKind.SERVER_ERROR, times=None)
    notification_id = await queue_order_list(clients, linked_cafe)

    await attempt_after(clients, notification_id, DELIVERY_TIMEOUT + A_LITTLE)

    failed = await until_status(clients, notification_id, NotificationStatus.FAILED)
    assert "Internal Server Error" in (failed.error or "")


async def test_a_delivery_is_retried_for_an_hour(clients: Clients, linked_cafe: Cafe, world: World, chat: Chat) -> None:
    """A delivery is retried for almost an hour."""
    world.fail(FailureKind.SERVER_ERROR, times=None)
    notification_id = await queue_order_list(clients, linked_cafe)

    await attempt_after(clients, notification_id, DELIVERY_TIMEOUT - A_LITTLE)

    await until_deferred(clients)
    assert not (await stored(clients, notification_id)).is_finished


async def test_managers_are_alerted_of_a_failed_order_list(
    clients: Clients, linked_cafe: Cafe, world: World, chat: Chat
) -> None:
    """If the delivery of an order list fails, the managers get an alert with the error."""
    world.state.failures.add(Failure(chat_id=chat.id, kind=FailureKind.SERVER_ERROR, times=None))

    notification_id = await queue_order_list(clients, linked_cafe)
    await attempt_after(clients, notification_id, DELIVERY_TIMEOUT + A_LITTLE)
    failed = await until_status(clients, notification_id, NotificationStatus.FAILED)
    await until_empty(clients, DeliveryTask.queue)

    alert = notification_texts.not_delivered(linked_cafe, day=THURSDAY, error=failed.error or "", locale="en")
    assert read_in(world.state.chats[MANAGERS]) == [alert]


async def test_managers_are_alerted_of_a_refused_order_list(clients: Clients, world: World, chat: Chat) -> None:
    """If Telegram refuses an order list, the managers get an alert immediately."""
    linked_cafe = await add_cafe(clients, tg_chat_id=-404, linked_at=datetime.now(UTC))

    await until_status(clients, await queue_order_list(clients, linked_cafe), NotificationStatus.FAILED)
    await until_empty(clients, DeliveryTask.queue)

    [alert] = read_in(world.state.chats[MANAGERS])
    assert "chat not found" in alert


async def test_managers_are_not_alerted_of_other_failures(clients: Clients, cafe: Cafe, world: World) -> None:
    """The failure of another notification makes no alert."""
    await until_status(clients, await queue_message(clients, cafe, -404), NotificationStatus.FAILED)
    await until_empty(clients, DeliveryTask.queue)

    assert read_in(world.state.chats[MANAGERS]) == []


async def test_managers_are_alerted_of_a_long_pause(
    clients: Clients, linked_cafe: Cafe, world: World, chat: Chat
) -> None:
    """If Telegram lets an order list wait for more than an hour, the managers get an alert immediately."""
    world.state.failures.add(Failure(chat_id=chat.id, kind=FailureKind.RATE_LIMIT, retry_after=5000))

    notification_id = await queue_order_list(clients, linked_cafe)
    await until(lambda: bool(read_in(world.state.chats[MANAGERS])))

    waiting = await stored(clients, notification_id)
    [alert] = read_in(world.state.chats[MANAGERS])
    assert alert == notification_texts.delayed(linked_cafe, day=THURSDAY, until=waiting.queued_at, locale="en")


async def test_managers_are_alerted_of_an_order_list_during_a_pause(
    clients: Clients, linked_cafe: Cafe, world: World, chat: Chat
) -> None:
    """If the chat is paused before its order list is queued, the managers get one alert."""
    await Limiter(clients.redis).pause(chat.id, 5000)

    await queue_order_list(clients, linked_cafe)
    await until(lambda: bool(read_in(world.state.chats[MANAGERS])))
    await until_waiting(clients)
    await make_due(clients, DeliveryTask.queue)
    await until_waiting(clients)

    assert len(read_in(world.state.chats[MANAGERS])) == 1


async def test_an_order_list_is_sent_after_a_long_pause(
    clients: Clients, linked_cafe: Cafe, world: World, chat: Chat
) -> None:
    """After a pause of more than an hour the order list is sent."""
    world.state.failures.add(Failure(chat_id=chat.id, kind=FailureKind.RATE_LIMIT, retry_after=5000))
    notification_id = await queue_order_list(clients, linked_cafe)
    await until(lambda: bool(read_in(world.state.chats[MANAGERS])))
    await until_deferred(clients)

    async with clients.db() as session:
        row = await session.get_one(Notification, notification_id)
        row.created_at -= timedelta(seconds=5000)
        row.queued_at -= timedelta(seconds=5000)
    await clients.redis.flushdb()
    await make_due(clients, DeliveryTask.queue)

    await until_status(clients, notification_id, NotificationStatus.SENT)
    assert read_in(chat) == ["soup"]


async def test_a_429_of_another_call_pauses_the_chat(clients: Clients, world: World, chat: Chat) -> None:
    """A 429 for any call to a chat pauses its messages for all processes."""
    world.fail(FailureKind.RATE_LIMIT, method="sendChatAction", after=60)

    async with limited_bot(world, clients) as bot:
        with pytest.raises(RetryAfter):
            await bot.send_chat_action(chat.id, "typing")

    assert isinstance(await Limiter(clients.redis).acquire(chat.id, patience_s=2), Busy)


async def test_a_429_of_a_call_without_a_chat_pauses_the_bot(clients: Clients, world: World, chat: Chat) -> None:
    """A 429 for a call without a chat pauses all chats for all processes."""
    world.fail(FailureKind.RATE_LIMIT, method="getMe", after=60)

    async with limited_bot(world, clients) as bot:
        with pytest.raises(RetryAfter):
            await bot.get_me()

    assert isinstance(await Limiter(clients.redis).acquire(chat.id, patience_s=2), Busy)


async def test_an_answer_of_the_bot_that_gets_a_429_pauses_the_chat(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """After a 429 for an answer to a command, an order list to the same chat waits as long."""
    world.fail(FailureKind.RATE_LIMIT, after=60)
    async with limited_bot(world, clients, answers=True) as bot:
        with pytest.raises(RetryAfter):
            await bot.send_message(chat.id, "status")

    await queue_message(clients, cafe, chat.id)
    row = await until_waiting(clients)

    assert row.next_attempt_at - datetime.now(UTC) > timedelta(seconds=50)


async def test_no_call_is_made_during_a_pause(clients: Clients, world: World, chat: Chat) -> None:
    """During a pause the bot does not call Telegram for that chat at all."""
    await Limiter(clients.redis).pause(chat.id, 60)

    async with limited_bot(world, clients) as bot:
        with pytest.raises(RetryAfter):
            await bot.send_message(chat.id, "soup")
        with pytest.raises(RetryAfter):
            await bot.send_chat_action(chat.id, "typing")

    assert read_in(chat) == []


async def test_a_chat_gets_its_messages_in_order(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """Messages of a chat that wait for their turn arrive in the order in which they were queued."""
    for number in range(6):
        await queue_message(clients, cafe, chat.id, str(number))

    await until_empty(clients, DeliveryTask.queue)

    assert read_in(chat) == ["0", "1", "2", "3", "4", "5"]


async def test_a_message_does_not_wait_for_one_that_fails(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """A message whose call has failed does not stop the messages behind it."""
    world.fail(FailureKind.SERVER_ERROR, times=1)
    failing = await queue_message(clients, cafe, chat.id, "soup")
    await until_it_is(clients, failing, lambda found: found.error is not None)
    async with clients.db() as session:
        await session.execute(
            sa.update(Outbox)
            .where(Outbox.c.queue == DeliveryTask.queue)
            .values(next_attempt_at=sa.func.now() + timedelta(hours=1))
        )

    await until_status(clients, await queue_message(clients, cafe, chat.id, "salad"), NotificationStatus.SENT)

    assert read_in(chat) == ["salad"]


async def test_an_alert_goes_ahead_of_link_requests(clients: Clients, cafe: Cafe, world: World) -> None:
    """An alert does not wait behind many link requests, which strangers make, but behind other alerts."""
    await Limiter(clients.redis).pause(MANAGERS, 60)
    async with clients.db() as session:
        requests = [
            Notification(kind=NotificationKind.LINK_REQUESTED, cafe_id=cafe.id, tg_chat_id=MANAGERS, parts=["asks"])
            for _ in range(5)
        ]
        alerts = [
            Notification(kind=NotificationKind.ALERT, cafe_id=cafe.id, tg_chat_id=MANAGERS, parts=["alert"])
            for _ in range(2)
        ]
        session.add_all([*requests, *alerts])
        await session.flush()
        ahead = [await notifications.count_ahead(session, notification) for notification in (requests[4], *alerts)]

    assert ahead == [4, 0, 1]


async def test_a_message_with_a_mistake_of_ours_stops_no_other(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A message whose delivery fails unexpectedly has the error, and the messages behind it are sent."""
    async with clients.db() as session:
        broken = Notification(
            kind=NotificationKind.LINK_REQUESTED, cafe_id=cafe.id, tg_chat_id=chat.id, parts=["without a request"]
        )
        session.add(broken)
        await session.flush()
        await enqueue(session, DeliveryTask(notification_id=broken.id, part=0))

    await until_status(clients, await queue_message(clients, cafe, chat.id, "salad"), NotificationStatus.SENT)

    assert "AssertionError" in ((await stored(clients, broken.id)).error or "")


async def test_waiting_is_no_error(
    clients: Clients,
    cafe: Cafe,
    chat: Chat,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Messages that wait for their turn make no line in the log but the one for their delivery."""
    for number in range(4):
        await queue_message(clients, cafe, chat.id, str(number))
    await until_empty(clients, DeliveryTask.queue)

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["event='notification.sent'"] * 4
    assert len(read_in(chat)) == 4


async def test_a_backlog_does_not_delay_other_chats(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """While many messages wait for one chat, the messages of other chats are sent before most of them."""
    for number in range(100):
        await queue_message(clients, cafe, chat.id, str(number))
    others = [world.group() for _ in range(20)]
    sent = [await queue_message(clients, cafe, other.id, "soup") for other in others]

    for notification_id in sent:
        await until_status(clients, notification_id, NotificationStatus.SENT)

    assert len(read_in(chat)) < 50


async def test_a_failed_delivery_can_be_retried(
    clients: Clients, manager: Context, linked_cafe: Cafe, world: World, chat: Chat
) -> None:
    """A manager can retry a failed delivery, and the message arrives."""
    world.fail(FailureKind.SERVER_ERROR, times=2)
    notification_id = await queue_order_list(clients, linked_cafe)
    await attempt_after(clients, notification_id, DELIVERY_TIMEOUT + A_LITTLE)
    await until_status(clients, notification_id, NotificationStatus.FAILED)

    await retry_notification(manager, notification_id)

    sent = await until_status(clients, notification_id, NotificationStatus.SENT)
    assert sent.error is None
    assert len(read_in(chat)) == 1


@pytest.fixture
async def other_process(settings: Settings, world: World) -> AsyncIterator[None]:
    """A second process that delivers, with separate clients."""
    async with open_clients(settings) as clients, limited_bot(world, clients) as bot:
        broker = delivery_broker(clients, bot)
        await broker.start()
        yield
        await broker.stop()


@pytest.mark.usefixtures("other_process")
async def test_two_processes_send_each_notification_once(clients: Clients, cafe: Cafe, world: World) -> None:
    """Two processes send each notification once."""
    chats = [world.group() for _ in range(50)]
    for index, chat in enumerate(chats):
        await queue_message(clients, cafe, chat.id, str(index))
    await until_empty(clients, DeliveryTask.queue)

    assert [read_in(chat) for chat in chats] == [[str(index)] for index in range(50)]


@pytest.fixture
def limits(world: World) -> Iterator[None]:
    """Telegram with its rate limits."""
    world.state.has_limits = True
    yield
    world.state.has_limits = False


@pytest.mark.usefixtures("limits", "other_process")
async def test_rate_limits_are_respected(clients: Clients, cafe: Cafe, world: World) -> None:
    """Two processes with many messages to the same chats get no 429."""
    chats = [world.group() for _ in range(20)]
    for index in range(60):
        await queue_message(clients, cafe, chats[index % len(chats)].id, str(index))
    await until_empty(clients, DeliveryTask.queue)

    assert sum(len(read_in(chat)) for chat in chats) == 60
    assert world.state.refusals[429] == 0


async def test_a_refused_notification_is_no_dead_letter(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A notification that Telegram refuses makes no dead letter."""
    world.fail(FailureKind.BLOCKED)
    await queue_message(clients, cafe, chat.id)

    await until_empty(clients, DeliveryTask.queue)

    async with clients.db() as session:
        assert await session.scalar(select(sa.func.count()).select_from(DeadLetter)) == 0


async def test_two_changes_are_one_correction(clients: Clients, user: Context, manager: Context, chat: Chat) -> None:
    """Two corrections that are due at the same time make one message."""
    lunch = await add_lunch(clients, tg_chat_id=chat.id, linked_at=datetime.now(UTC))
    order = await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    async with clients.db() as session:
        await deadlines.pass_deadline(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
        await notifications.announce_day(clients, session, lunch.cafe.id, lunch.open_date)
    await until_empty(clients, DeliveryTask.queue)
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal)
    await orders.cancel_order(manager, order.id)

    await deliver_corrections(clients)

    [_, correction] = read_in(chat)
    assert "−1 Borscht (Ivan)" in correction
    assert "+1 Borscht (Maria)" in correction


async def deliver_corrections(clients: Clients) -> None:
    """Make all scheduled corrections due, and wait for their delivery."""
    await make_due(clients, CorrectionTask.queue)
    await until_empty(clients, CorrectionTask.queue)
    await until_empty(clients, DeliveryTask.queue)


async def test_an_unlinked_cafe_gets_no_correction(
    clients: Clients, user: Context, manager: Context, chat: Chat
) -> None:
    """A correction for an unlinked cafe makes no notification and is no failure."""
    lunch = await add_lunch(clients, tg_chat_id=chat.id, linked_at=datetime.now(UTC))
    order = await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    async with clients.db() as session:
        await deadlines.pass_deadline(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
    await orders.cancel_order(manager, order.id)
    await links.unlink(manager, lunch.cafe.id)

    await deliver_corrections(clients)

    async with clients.db() as session:
        assert list(await session.scalars(select(col(Notification.id)))) == []
