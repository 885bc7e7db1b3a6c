"""Notifications on their way to Telegram, and what becomes of them when it does not take them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import select

from app.clients import Clients
from app.dev.telegram.chats import Chat
from app.dev.telegram.faults import FailureKind
from app.events.log import outbox
from app.models import Cafe, DeadLetter, Notification, NotificationKind, NotificationStatus, Outbox
from app.resolvers.notifications import DELIVERY_QUEUE, queue
from app.workers.deliveries import delivery_broker
from tests.events.conftest import until_carried
from tests.servers import POLL_S
from tests.telegram.conftest import World, read_in, served_world

RETRY_DEADLINE_S = 15.0
"""A row that waits for another attempt is looked for every few seconds."""


@pytest.fixture(scope="module")
async def shared_world() -> AsyncIterator[World]:
    async with served_world() as world:
        yield world


@pytest.fixture
async def world(shared_world: World, clients: Clients) -> AsyncIterator[World]:
    """A Telegram with nothing in it, and a process that delivers to it."""
    shared_world.state.reset()
    broker = delivery_broker(clients, shared_world.bot)
    await broker.start()
    yield shared_world
    await broker.stop()


@pytest.fixture
def chat(world: World) -> Chat:
    return world.group()


async def tell(clients: Clients, cafe: Cafe, chat_id: int, text: str = "<b>Soup</b> &amp; salad") -> int:
    """Queue a notification, and return its id."""
    async with clients.db() as session:
        return (await queue(session, NotificationKind.LINK_APPROVED, cafe.id, chat_id, text)).id


async def queue_again(clients: Clients, notification_id: int) -> None:
    """Put a row for a notification into the outbox that has had one."""
    async with clients.db() as session:
        await outbox.publish(str(notification_id).encode(), queue=DELIVERY_QUEUE, session=session)


async def notification(clients: Clients, notification_id: int) -> Notification:
    async with clients.db() as session:
        return await session.get_one(Notification, notification_id)


async def until_it_is(
    clients: Clients, notification_id: int, condition: Callable[[Notification], bool]
) -> Notification:
    async with asyncio.timeout(RETRY_DEADLINE_S):
        while not condition(found := await notification(clients, notification_id)):
            await asyncio.sleep(POLL_S)
    return found


async def until_status(clients: Clients, notification_id: int, status: NotificationStatus) -> Notification:
    return await until_it_is(clients, notification_id, lambda found: found.status is status)


async def until_put_off(clients: Clients) -> sa.Row[*tuple[Any, ...]]:
    """Wait until a row waits for its second attempt, and return it."""
    async with asyncio.timeout(RETRY_DEADLINE_S):
        while True:
            async with clients.db() as session:
                row = (await session.execute(sa.select(Outbox).where(Outbox.c.attempts_count > 0))).one_or_none()
            if row is not None:
                return row
            await asyncio.sleep(POLL_S)


async def test_a_notification_is_sent(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """What is queued is read in the chat, as HTML."""
    await tell(clients, cafe, chat.id)

    await until_carried(clients, DELIVERY_QUEUE)

    assert read_in(chat) == ["<b>Soup</b> &amp; salad"]


async def test_a_notification_remembers_its_message(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """What was sent is found in Telegram by its message id."""
    sent = await until_status(clients, await tell(clients, cafe, chat.id), NotificationStatus.SENT)

    assert sent.tg_message_ids == list(chat.messages)


async def test_a_notification_knows_when_it_was_sent(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """`sent_at` is the time of the sending."""
    sent = await until_status(clients, await tell(clients, cafe, chat.id), NotificationStatus.SENT)

    assert sent.created_at <= (sent.sent_at or sent.created_at - timedelta(1)) <= datetime.now(UTC)


async def test_what_is_rolled_back_is_not_sent(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A notification belongs to its transaction."""
    async with clients.db() as session:
        await queue(session, NotificationKind.UNLINKED, cafe.id, chat.id, "no")
        await session.rollback()

    await tell(clients, cafe, chat.id, "yes")
    await until_carried(clients, DELIVERY_QUEUE)

    assert read_in(chat) == ["yes"]


@pytest.mark.parametrize("kind", [FailureKind.BLOCKED, FailureKind.KICKED, FailureKind.BAD_ENTITIES])
async def test_what_telegram_refuses_has_failed(
    clients: Clients, cafe: Cafe, world: World, chat: Chat, kind: FailureKind
) -> None:
    """A chat that does not want us, or a text that Telegram does not take, is a failure."""
    world.fail(kind)
    told = await tell(clients, cafe, chat.id)

    await until_carried(clients, DELIVERY_QUEUE)

    assert (await notification(clients, told)).status is NotificationStatus.FAILED


async def test_a_failure_is_explained(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A notification that failed says why, in Telegram's words."""
    world.fail(FailureKind.BLOCKED)

    failed = await until_status(clients, await tell(clients, cafe, chat.id), NotificationStatus.FAILED)

    assert failed.error == "Forbidden: bot was blocked by the user"


@pytest.mark.usefixtures("world")
async def test_a_chat_that_is_not_there_is_a_failure(clients: Clients, cafe: Cafe) -> None:
    """One cannot write to a chat that Telegram does not know."""
    failed = await until_status(clients, await tell(clients, cafe, -404), NotificationStatus.FAILED)

    assert failed.error == "Bad Request: chat not found"


async def test_what_has_failed_is_not_sent_later(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A failure is final: who lets the bot in again does not get old news."""
    world.fail(FailureKind.BLOCKED)
    told = await tell(clients, cafe, chat.id)
    await until_status(clients, told, NotificationStatus.FAILED)

    await queue_again(clients, told)
    await until_carried(clients, DELIVERY_QUEUE)

    assert read_in(chat) == []


async def test_what_was_sent_is_not_sent_again(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A second row for a notification does nothing."""
    told = await tell(clients, cafe, chat.id)
    await until_status(clients, told, NotificationStatus.SENT)

    await queue_again(clients, told)
    await until_carried(clients, DELIVERY_QUEUE)

    assert len(read_in(chat)) == 1


async def test_telegrams_wait_is_kept(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """After a 429 a notification does not go out before the time that Telegram named."""
    world.fail(FailureKind.RATE_LIMIT, after=60)
    await tell(clients, cafe, chat.id)

    row = await until_put_off(clients)

    assert timedelta(seconds=59) < row.next_attempt_at - row.last_attempt_at < timedelta(seconds=61)


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.RATE_LIMIT,
        FailureKind.BAD_GATEWAY,
        FailureKind.SERVER_ERROR,
        FailureKind.DROP_BEFORE,
        FailureKind.DROP_AFTER,
    ],
)
async def test_what_may_pass_is_tried_again(
    clients: Clients, cafe: Cafe, world: World, chat: Chat, kind: FailureKind
) -> None:
    """A call that fails for a reason of Telegram's is made again, and the notification is sent."""
    world.fail(kind, after=1)

    sent = await until_status(clients, await tell(clients, cafe, chat.id), NotificationStatus.SENT)

    assert sent.attempts == 2


async def test_one_chat_does_not_hold_up_the_others(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """While a notification waits for its next attempt, others are sent."""
    world.fail(FailureKind.RATE_LIMIT, after=60)
    waiting = await tell(clients, cafe, chat.id)
    await until_it_is(clients, waiting, lambda found: found.attempts == 1)

    await until_status(clients, await tell(clients, cafe, world.person().id), NotificationStatus.SENT)

    assert (await notification(clients, waiting)).status is NotificationStatus.SENDING


async def test_what_a_dead_process_was_sending_is_sent(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A notification that was left in the middle of its sending is sent, perhaps again."""
    async with clients.db() as session:
        left = Notification(
            kind=NotificationKind.UNLINKED,
            cafe_id=cafe.id,
            tg_chat_id=chat.id,
            text="soup",
            status=NotificationStatus.SENDING,
            attempts=1,
        )
        session.add(left)
        await session.flush()
        await outbox.publish(str(left.id).encode(), queue=DELIVERY_QUEUE, session=session)

    await until_status(clients, left.id, NotificationStatus.SENT)

    assert read_in(chat) == ["soup"]


async def test_sending_is_written_down_before_the_call(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """While Telegram has not answered, everybody can see that its answer is not known."""
    world.fail(FailureKind.HANG)
    told = await tell(clients, cafe, chat.id)

    hanging = await until_it_is(clients, told, lambda found: found.status is not NotificationStatus.QUEUED)
    with world.dropping_calls_that_hang():
        await until_put_off(clients)

    assert hanging.status is NotificationStatus.SENDING


async def test_what_is_given_up_has_failed(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A notification that could not be sent for a day is a failure, and not for ever on its way."""
    world.fail(FailureKind.SERVER_ERROR)
    async with clients.db() as session:
        told = await queue(session, NotificationKind.UNLINKED, cafe.id, chat.id, "soup")
        told.created_at = datetime.now(UTC) - timedelta(days=2)

    await until_carried(clients, DELIVERY_QUEUE)

    assert (await notification(clients, told.id)).status is NotificationStatus.FAILED


async def test_two_processes_send_each_notification_once(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """Any number of processes may deliver: each notification is one message."""
    other = delivery_broker(clients, world.bot)
    await other.start()
    for n in range(50):
        await tell(clients, cafe, chat.id, str(n))
    await until_carried(clients, DELIVERY_QUEUE)
    await other.stop()

    assert sorted(read_in(chat), key=int) == [str(n) for n in range(50)]


async def test_nothing_is_put_aside(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A notification that Telegram refuses is in its row, and no dead letter."""
    world.fail(FailureKind.BLOCKED)
    await tell(clients, cafe, chat.id)

    await until_carried(clients, DELIVERY_QUEUE)

    async with clients.db() as session:
        assert await session.scalar(select(sa.func.count()).select_from(DeadLetter)) == 0
