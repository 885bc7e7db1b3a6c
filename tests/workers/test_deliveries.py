"""Notifications on their way to Telegram, and what becomes of them when it does not take them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.clients import Clients, open_clients
from app.context import Context
from app.dev.telegram.chats import Chat
from app.dev.telegram.faults import Failure, FailureKind
from app.events.log import outbox
from app.models import (
    Cafe,
    DeadLetter,
    LinkRequest,
    Notification,
    NotificationKind,
    NotificationStatus,
    Outbox,
)
from app.resolvers import deadlines, links, notifications, orders
from app.resolvers.notifications import CORRECTION_QUEUE, DELIVERY_QUEUE, queue, retry_notification
from app.settings import Settings
from app.telegram import texts
from app.telegram.limiter import Busy, Limiter
from app.workers.deliveries import GIVE_UP_AFTER, delivery_broker
from tests.conftest import add_cafe, add_lunch, event_types
from tests.events.conftest import until_carried
from tests.servers import POLL_S, until
from tests.telegram.conftest import World, read_in, served_world

RETRY_DEADLINE_S = 15.0
"""A row that waits for another attempt is looked for every second."""

THURSDAY = date(2026, 3, 5)
MANAGERS = -1009


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a managers' chat."""
    return settings.model_copy(update={"telegram_manager_chat_id": MANAGERS})


@pytest.fixture(scope="module")
async def shared_world() -> AsyncIterator[World]:
    async with served_world() as world:
        yield world


@pytest.fixture
async def world(shared_world: World, clients: Clients) -> AsyncIterator[World]:
    """A Telegram with the managers' chat in it, and a process that delivers to it."""
    shared_world.state.reset()
    shared_world.state.add_chat(Chat(MANAGERS, "group", "Managers"))
    broker = delivery_broker(clients, shared_world.bot)
    await broker.start()
    yield shared_world
    await broker.stop()


@pytest.fixture
def chat(world: World) -> Chat:
    return world.group()


@pytest.fixture
async def kitchen(clients: Clients, chat: Chat) -> Cafe:
    """A cafe whose orders go to the chat."""
    return await add_cafe(clients, tg_chat_id=chat.id, linked_at=datetime.now(UTC))


async def tell(clients: Clients, cafe: Cafe, chat_id: int, text: str = "<b>Soup</b> &amp; salad") -> int:
    """Queue a notification, and return its id."""
    async with clients.db() as session:
        return await queued(queue(session, NotificationKind.LINK_APPROVED, cafe.id, chat_id, [text]))


async def tell_orders(clients: Clients, cafe: Cafe, *parts: str) -> int:
    """Queue what the kitchen is to cook, and return the notification's id."""
    async with clients.db() as session:
        chat_id = cafe.tg_chat_id or 0
        told = queue(session, NotificationKind.ORDERS, cafe.id, chat_id, parts or ["soup"], date=THURSDAY, snapshot={})
        return await queued(told)


async def queued(told: Any) -> int:
    notification: Notification | None = await told
    assert notification is not None
    return notification.id


async def queue_again(clients: Clients, notification_id: int) -> None:
    """Put a row for a notification into the outbox that has had one."""
    async with clients.db() as session:
        await outbox.publish(f"{notification_id} 0".encode(), queue=DELIVERY_QUEUE, session=session)


async def notification(clients: Clients, notification_id: int) -> Notification:
    async with clients.db() as session:
        return await session.get_one(Notification, notification_id)


async def chat_of(clients: Clients, cafe: Cafe) -> int | None:
    async with clients.db() as session:
        return (await session.get_one(Cafe, cafe.id)).tg_chat_id


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
                query = sa.select(Outbox).where(Outbox.c.attempts_count > 0, Outbox.c.acquired_at.is_(None))
                row = (await session.execute(query)).one_or_none()
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


async def test_that_a_notification_is_sent_is_told(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """Dashboards hear of it, once."""
    await until_status(clients, await tell(clients, cafe, chat.id), NotificationStatus.SENT)

    assert await event_types(clients) == ["notification.queued", "notification.sent"]


async def test_what_is_rolled_back_is_not_sent(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A notification belongs to its transaction."""
    async with clients.db() as session:
        await queue(session, NotificationKind.UNLINKED, cafe.id, chat.id, ["no"])
        await session.rollback()

    await tell(clients, cafe, chat.id, "yes")
    await until_carried(clients, DELIVERY_QUEUE)

    assert read_in(chat) == ["yes"]


async def test_orders_have_a_button(clients: Clients, kitchen: Cafe, chat: Chat) -> None:
    """What a kitchen cooks by can be marked as received, in that version."""
    told = await tell_orders(clients, kitchen)
    await until_carried(clients, DELIVERY_QUEUE)

    assert [message.has_button(f"received:{told}") for message in chat.messages.values()] == [True]


async def test_other_messages_have_no_button(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """Nothing is to be done about them."""
    await tell(clients, cafe, chat.id)
    await until_carried(clients, DELIVERY_QUEUE)

    assert [message.content.keyboard for message in chat.messages.values()] == [None]


async def test_managers_can_decide_about_a_request(clients: Clients, cafe: Cafe, world: World) -> None:
    """A request comes with buttons to approve and to reject it."""
    async with clients.db() as session:
        request = LinkRequest(cafe_id=cafe.id, tg_chat_id=-1, created_at=datetime.now(UTC))
        session.add(request)
        await session.flush()
        await queue(session, NotificationKind.LINK_REQUESTED, cafe.id, MANAGERS, ["please"], link_request_id=request.id)
    await until_carried(clients, DELIVERY_QUEUE)

    [message] = world.state.chats[MANAGERS].messages.values()
    assert message.has_button(f"decide:{request.id}:1")
    assert message.has_button(f"decide:{request.id}:0")


@pytest.mark.parametrize("kind", [FailureKind.BLOCKED, FailureKind.KICKED])
async def test_a_chat_that_is_gone_is_unlinked(
    clients: Clients, kitchen: Cafe, world: World, chat: Chat, kind: FailureKind
) -> None:
    """A chat that does not want us is a failure, and no cafe's chat any more; by the event managers are told."""
    world.fail(kind)
    told = await tell_orders(clients, kitchen)

    await until_carried(clients, DELIVERY_QUEUE)

    assert (await notification(clients, told)).status is NotificationStatus.FAILED
    assert await chat_of(clients, kitchen) is None
    assert (await event_types(clients))[:3] == ["notification.queued", "notification.failed", "cafe.unlinked"]


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


async def test_markup_that_cannot_be_parsed_does_not_keep_a_kitchen_from_its_orders(
    clients: Clients, kitchen: Cafe, world: World, chat: Chat
) -> None:
    """Orders that Telegram does not take as HTML are sent as plain text, once, with their button."""
    world.fail(FailureKind.BAD_ENTITIES)
    told = await tell_orders(clients, kitchen, "<b>Soup</b> &amp; salad")

    sent = await until_status(clients, told, NotificationStatus.SENT)

    assert read_in(chat) == ["Soup & salad"]
    assert chat.messages[sent.tg_message_ids[0]].has_button(f"received:{told}")


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


async def test_telegrams_wait_is_kept_by_everybody(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """After a 429 no process writes to that chat."""
    world.fail(FailureKind.RATE_LIMIT, after=60)
    await tell(clients, cafe, chat.id)
    await until_put_off(clients)

    answer = await Limiter(clients.redis).acquire(chat.id, patience_s=2)

    assert isinstance(answer, Busy)
    assert 50 < answer.wait_s <= 60


async def test_after_a_second_chats_429_nothing_is_sent(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """Two chats at once that are to wait mean the bot: a message to a third one waits, too."""
    world.fail(FailureKind.RATE_LIMIT, after=60, times=2)
    for chat_id in (chat.id, world.group().id):
        told = await tell(clients, cafe, chat_id)
        await until_it_is(
            clients, told, lambda found: found.attempts == 1 and found.status is NotificationStatus.QUEUED
        )

    third = world.person()
    await tell(clients, cafe, third.id)
    async with asyncio.timeout(RETRY_DEADLINE_S):
        while await not_put_off(clients):
            await asyncio.sleep(POLL_S)

    assert read_in(third) == []


async def not_put_off(clients: Clients) -> int:
    """How many rows nobody has tried to deliver yet."""
    query = sa.select(sa.func.count()).where(
        Outbox.c.queue == DELIVERY_QUEUE,
        (Outbox.c.attempts_count == 0) | (Outbox.c.next_attempt_at < sa.func.now() + timedelta(seconds=30)),
    )
    async with clients.db() as session:
        return (await session.scalars(query)).one()


async def test_what_may_pass_is_tried_again(clients: Clients, cafe: Cafe, world: World) -> None:
    """A call that fails for a reason of Telegram's is made again, and the notification is sent."""
    told = {}
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
        told[kind] = await tell(clients, cafe, chat_id)

    sent = {kind: await until_status(clients, id_, NotificationStatus.SENT) for kind, id_ in told.items()}

    assert {kind: one.attempts for kind, one in sent.items()} == dict.fromkeys(told, 2)


async def test_pauses_become_longer(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A Telegram that is away is not stormed: about a second, then about two, with jitter."""
    world.fail(FailureKind.SERVER_ERROR, times=2)
    told = await tell(clients, cafe, chat.id)

    pauses = []
    for attempts in (1, 2):
        await until_it_is(clients, told, lambda found, n=attempts: found.attempts == n)  # type: ignore[misc]
        row = await until_put_off(clients)
        pauses.append((row.next_attempt_at - row.last_attempt_at).total_seconds())

    assert 0.7 < pauses[0] < 1.5 < pauses[1] < 3


MARK = texts.repeated("en").split()[0]


async def test_what_may_have_arrived_is_marked_when_it_is_repeated(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """Where nobody knows whether a message arrived it is sent again, and says so."""
    world.fail(FailureKind.DROP_AFTER)

    await until_status(clients, await tell(clients, cafe, chat.id, "soup"), NotificationStatus.SENT)

    assert read_in(chat) == ["soup", f"{texts.repeated('en')}\nsoup"]


@pytest.mark.parametrize("kind", [FailureKind.RATE_LIMIT, FailureKind.MIGRATE])
async def test_what_has_surely_not_arrived_is_not_marked(
    clients: Clients, cafe: Cafe, world: World, chat: Chat, kind: FailureKind
) -> None:
    """A message that was refused comes as the first that it is."""
    world.fail(kind, after=1)

    sent = await until_status(clients, await tell(clients, cafe, chat.id, "soup"), NotificationStatus.SENT)

    assert read_in(world.state.chats[sent.tg_chat_id]) == ["soup"]


async def test_a_repeat_that_is_refused_first_is_still_marked(
    clients: Clients, cafe: Cafe, world: World, chat: Chat
) -> None:
    """That a later call has surely failed says nothing of the first one."""
    world.fail(FailureKind.DROP_AFTER)
    world.fail(FailureKind.RATE_LIMIT, after=1)

    await until_status(clients, await tell(clients, cafe, chat.id, "soup"), NotificationStatus.SENT)

    assert [MARK in text for text in read_in(chat)] == [False, True]


async def test_one_chat_does_not_hold_up_the_others(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """While a notification waits for its next attempt, others are sent."""
    world.fail(FailureKind.RATE_LIMIT, after=60)
    waiting = await tell(clients, cafe, chat.id)
    await until_put_off(clients)

    await until_status(clients, await tell(clients, cafe, world.person().id), NotificationStatus.SENT)

    assert (await notification(clients, waiting)).status is NotificationStatus.QUEUED


async def test_what_a_dead_process_was_sending_is_repeated(clients: Clients, cafe: Cafe, chat: Chat) -> None:
    """A notification that was left in the middle of its sending may have arrived: it is sent again, and marked."""
    async with clients.db() as session:
        left = Notification(
            kind=NotificationKind.UNLINKED,
            cafe_id=cafe.id,
            tg_chat_id=chat.id,
            parts=["soup"],
            status=NotificationStatus.SENDING,
            is_uncertain=True,
            attempts=1,
        )
        session.add(left)
        await session.flush()
        await outbox.publish(f"{left.id} 0".encode(), queue=DELIVERY_QUEUE, session=session)

    await until_status(clients, left.id, NotificationStatus.SENT)

    assert read_in(chat) == [f"{texts.repeated('en')}\nsoup"]


async def test_sending_is_written_down_before_the_call(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """While Telegram has not answered, everybody can see that its answer is not known."""
    world.fail(FailureKind.HANG)
    told = await tell(clients, cafe, chat.id)

    hanging = await until_it_is(clients, told, lambda found: found.status is not NotificationStatus.QUEUED)
    await until(lambda: not world.state.failures.pending())
    with world.dropping_calls_that_hang():
        await until_put_off(clients)

    assert hanging.status is NotificationStatus.SENDING


async def test_each_part_is_sent_once_and_in_order(clients: Clients, kitchen: Cafe, chat: Chat) -> None:
    """A long list is several messages; the button is under the last."""
    told = await tell_orders(clients, kitchen, "one", "two", "three")

    sent = await until_status(clients, told, NotificationStatus.SENT)

    assert read_in(chat) == ["one", "two", "three"]
    assert sent.tg_message_ids == list(chat.messages)
    assert [message.has_button(f"received:{told}") for message in chat.messages.values()] == [False, False, True]


async def test_only_the_part_that_may_have_arrived_is_repeated(
    clients: Clients, kitchen: Cafe, world: World, chat: Chat
) -> None:
    """What is known to have arrived does not come again, and what follows is no repeat."""
    told = await tell_orders(clients, kitchen, "one", "two", "three")
    await until(lambda: read_in(chat) == ["one"])
    world.fail(FailureKind.DROP_AFTER)

    await until_status(clients, told, NotificationStatus.SENT)

    assert read_in(chat) == ["one", "two", f"{texts.repeated('en')}\ntwo", "three"]


@pytest.fixture
def group(world: World) -> Chat:
    """A group that is no supergroup yet."""
    return world.state.add_chat(Chat(world.state.free_id("group"), "group", "Kitchen"))


async def test_a_group_that_has_moved_is_followed(clients: Clients, world: World, group: Chat) -> None:
    """The cafe gets its orders in the supergroup that its group has become, once."""
    kitchen = await add_cafe(clients, tg_chat_id=group.id, linked_at=datetime.now(UTC))
    world.fail(FailureKind.MIGRATE)

    sent = await until_status(clients, await tell_orders(clients, kitchen), NotificationStatus.SENT)

    assert sent.tg_chat_id != group.id
    assert await chat_of(clients, kitchen) == sent.tg_chat_id
    assert (read_in(group), read_in(world.state.chats[sent.tg_chat_id])) == ([], ["soup"])


async def test_what_else_waits_for_a_group_that_has_moved_follows_it(
    clients: Clients, world: World, group: Chat
) -> None:
    """Whatever is still to be told goes to the supergroup, too, and pending requests become its own."""
    kitchen = await add_cafe(clients, tg_chat_id=group.id, linked_at=datetime.now(UTC))
    other = await add_cafe(clients, "Green Fork")
    async with clients.db() as session:
        request = LinkRequest(cafe_id=other.id, tg_chat_id=group.id, created_at=datetime.now(UTC))
        session.add(request)
    world.state.failures.add(Failure(chat_id=group.id, kind=FailureKind.MIGRATE, times=None))
    first, second = await tell_orders(clients, kitchen), await tell(clients, kitchen, group.id, "cake")

    sent = [await until_status(clients, told, NotificationStatus.SENT) for told in (first, second)]

    [new_id] = {told.tg_chat_id for told in sent}
    assert sorted(read_in(world.state.chats[new_id])) == ["cake", "soup"]
    async with clients.db() as session:
        assert (await session.get_one(LinkRequest, request.id)).tg_chat_id == new_id


async def test_parts_that_have_arrived_before_a_group_has_moved_are_not_repeated(
    clients: Clients, world: World, group: Chat
) -> None:
    """A supergroup has the history of its group: the list goes on where it was."""
    kitchen = await add_cafe(clients, tg_chat_id=group.id, linked_at=datetime.now(UTC))
    told = await tell_orders(clients, kitchen, "one", "two")
    await until(lambda: read_in(group) == ["one"])
    world.fail(FailureKind.MIGRATE)

    sent = await until_status(clients, told, NotificationStatus.SENT)

    assert read_in(world.state.chats[sent.tg_chat_id]) == ["two"]


async def after(clients: Clients, told: int, by: timedelta) -> Notification:
    """Let a notification that is put off have waited for so long, and come again."""
    await until_put_off(clients)
    async with clients.db() as session:
        row = await session.get_one(Notification, told)
        row.created_at -= by
        row.queued_at -= by
        await session.execute(sa.update(Outbox).values(next_attempt_at=sa.func.now()))
    return await until_it_is(clients, told, lambda found: found.attempts > 1 or found.is_finished)


A_LITTLE = timedelta(minutes=1)


async def test_what_cannot_be_sent_within_an_hour_is_given_up(
    clients: Clients, kitchen: Cafe, world: World, chat: Chat
) -> None:
    """A notification is not for ever on its way; what was the matter is kept."""
    world.fail(FailureKind.SERVER_ERROR, times=None)
    told = await tell_orders(clients, kitchen)

    await after(clients, told, GIVE_UP_AFTER + A_LITTLE)

    failed = await until_status(clients, told, NotificationStatus.FAILED)
    assert "Internal Server Error" in (failed.error or "")


async def test_before_the_hour_is_over_nothing_is_given_up(
    clients: Clients, kitchen: Cafe, world: World, chat: Chat
) -> None:
    """An outage of almost an hour is waited out."""
    world.fail(FailureKind.SERVER_ERROR, times=None)
    told = await tell_orders(clients, kitchen)

    await after(clients, told, GIVE_UP_AFTER - A_LITTLE)

    await until_put_off(clients)
    assert not (await notification(clients, told)).is_finished


async def test_managers_are_told_of_orders_that_are_given_up(
    clients: Clients, kitchen: Cafe, world: World, chat: Chat
) -> None:
    """While there is time to telephone, managers hear that a kitchen has not got its orders, and why."""
    world.state.failures.add(Failure(chat_id=chat.id, kind=FailureKind.SERVER_ERROR, times=None))

    told = await tell_orders(clients, kitchen)
    await after(clients, told, GIVE_UP_AFTER + A_LITTLE)
    failed = await until_status(clients, told, NotificationStatus.FAILED)
    await until_carried(clients, DELIVERY_QUEUE)

    alert = texts.not_delivered(kitchen.name, kitchen.id, "2026-03-05", failed.error or "", "en")
    assert read_in(world.state.chats[MANAGERS]) == [alert]


async def test_managers_are_told_of_orders_that_are_refused(clients: Clients, world: World, chat: Chat) -> None:
    """What can never be sent is told at once."""
    kitchen = await add_cafe(clients, tg_chat_id=-404, linked_at=datetime.now(UTC))

    await until_status(clients, await tell_orders(clients, kitchen), NotificationStatus.FAILED)
    await until_carried(clients, DELIVERY_QUEUE)

    [alert] = read_in(world.state.chats[MANAGERS])
    assert "chat not found" in alert


async def test_managers_are_not_told_of_less(clients: Clients, cafe: Cafe, world: World) -> None:
    """That a chat did not hear of its rejection is in the log."""
    await until_status(clients, await tell(clients, cafe, -404), NotificationStatus.FAILED)
    await until_carried(clients, DELIVERY_QUEUE)

    assert read_in(world.state.chats[MANAGERS]) == []


async def test_what_was_given_up_can_be_sent_again(
    clients: Clients, manager: Context, kitchen: Cafe, world: World, chat: Chat
) -> None:
    """A manager has it sent again, and it arrives."""
    world.fail(FailureKind.SERVER_ERROR, times=2)
    told = await tell_orders(clients, kitchen)
    await after(clients, told, GIVE_UP_AFTER + A_LITTLE)
    await until_status(clients, told, NotificationStatus.FAILED)

    await retry_notification(manager, told)

    sent = await until_status(clients, told, NotificationStatus.SENT)
    assert sent.error is None
    assert len(read_in(chat)) == 1


@pytest.fixture
async def other_process(settings: Settings, world: World) -> AsyncIterator[None]:
    """A second process that delivers, with clients of its own."""
    async with open_clients(settings) as clients:
        broker = delivery_broker(clients, world.bot)
        await broker.start()
        yield
        await broker.stop()


@pytest.mark.usefixtures("other_process")
async def test_two_processes_send_each_notification_once(clients: Clients, cafe: Cafe, world: World) -> None:
    """Any number of processes may deliver: each notification is one message."""
    chats = [world.group() for _ in range(50)]
    for index, chat in enumerate(chats):
        await tell(clients, cafe, chat.id, str(index))
    await until_carried(clients, DELIVERY_QUEUE)

    assert [read_in(chat) for chat in chats] == [[str(index)] for index in range(50)]


@pytest.fixture
def limits(world: World) -> Iterator[None]:
    """The limits that Telegram keeps."""
    world.state.has_limits = True
    yield
    world.state.has_limits = False


@pytest.mark.usefixtures("limits", "other_process")
async def test_telegrams_limits_are_kept(clients: Clients, cafe: Cafe, world: World) -> None:
    """Two processes with much to say, to chats that get several messages, never meet a 429."""
    chats = [world.group() for _ in range(20)]
    for index in range(60):
        await tell(clients, cafe, chats[index % len(chats)].id, str(index))
    await until_carried(clients, DELIVERY_QUEUE)

    assert sum(len(read_in(chat)) for chat in chats) == 60
    assert world.state.refusals[429] == 0


async def test_nothing_is_put_aside(clients: Clients, cafe: Cafe, world: World, chat: Chat) -> None:
    """A notification that Telegram refuses is in its row, and no dead letter."""
    world.fail(FailureKind.BLOCKED)
    await tell(clients, cafe, chat.id)

    await until_carried(clients, DELIVERY_QUEUE)

    async with clients.db() as session:
        assert await session.scalar(select(sa.func.count()).select_from(DeadLetter)) == 0


async def test_changes_are_told_together(clients: Clients, user: Context, manager: Context, chat: Chat) -> None:
    """Two changes that are looked for at the same time are one message."""
    lunch = await add_lunch(clients, tg_chat_id=chat.id, linked_at=datetime.now(UTC))
    order = await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    async with clients.db() as session:
        await deadlines.pass_deadline(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
        await notifications.announce(session, lunch.cafe.id, lunch.open_date, is_correction=False)
    await until_carried(clients, DELIVERY_QUEUE)
    await orders.place_order(manager, lunch.cafe.id, lunch.open_date, lunch.meal)
    await orders.cancel_order(manager, order.id)

    await a_minute_passes(clients)

    [_, correction] = read_in(chat)
    assert "−1 Borscht (Ivan)" in correction
    assert "+1 Borscht (Maria)" in correction


async def a_minute_passes(clients: Clients) -> None:
    """Let what is to be looked for in a minute be looked for now, and told."""
    async with clients.db() as session:
        await session.execute(
            sa.update(Outbox).where(Outbox.c.queue == CORRECTION_QUEUE).values(next_attempt_at=sa.func.now())
        )
    await until_carried(clients, CORRECTION_QUEUE)
    await until_carried(clients, DELIVERY_QUEUE)


async def test_a_cafe_that_is_unlinked_gets_no_correction(
    clients: Clients, user: Context, manager: Context, chat: Chat
) -> None:
    """Changes for a cafe without a chat are told to nobody, and are no failure."""
    lunch = await add_lunch(clients, tg_chat_id=chat.id, linked_at=datetime.now(UTC))
    order = await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    async with clients.db() as session:
        await deadlines.pass_deadline(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC))
    await orders.cancel_order(manager, order.id)
    await links.unlink(manager, lunch.cafe.id)

    await a_minute_passes(clients)

    async with clients.db() as session:
        assert list(await session.scalars(select(col(Notification.id)))) == []
