"""A scheduled job of links: checks of chats before a deadline."""

import asyncio
from dataclasses import replace
from datetime import datetime

import orjson
import pytest
import sqlalchemy as sa
from sqlmodel import select

from app.auth.context import Context
from app.clients import Clients
from app.dev.ports import free_port
from app.dev.telegram.chats import GENERAL, Chat, Membership, TopicState
from app.dev.telegram.faults import Failure, FailureKind
from app.events.types import UnlinkReason
from app.models import Cafe, DeliveryDay, Notification, NotificationKind, Outbox
from app.resolvers import deadlines
from app.telegram import notification_texts
from app.telegram.sender import make_bot
from app.workers.links import MAX_CHECKS, check_chats
from tests.conftest import event_types
from tests.telegram_standin import TOKEN, World
from tests.workers.failures import RefuseRows
from tests.workers.schedule import CLOSING, DAY, HOUR, MANAGERS, MINUTE, THURSDAY, add_scheduled


@pytest.fixture
def managed(clients: Clients) -> Clients:
    """Clients with a managers' chat in the settings."""
    return replace(clients, settings=clients.settings.model_copy(update={"telegram_manager_chat_id": MANAGERS}))


async def add_linked_cafe(clients: Clients, chat: Chat, name: str = "Basil & Thyme", topic: int | None = None) -> Cafe:
    """Add a cafe with this chat and a deadline at `CLOSING`."""
    return await add_scheduled(clients, name, tg_chat_id=chat.id, tg_thread_id=topic, linked_at=CLOSING - DAY)


async def chat_of(clients: Clients, cafe: Cafe) -> int | None:
    """Return the present chat of a cafe."""
    async with clients.db() as session:
        return (await session.get_one(Cafe, cafe.id)).tg_chat_id


async def unlinkings(clients: Clients) -> list[tuple[int, str]]:
    """Return the unlinked cafes with the reasons, from the events."""
    async with clients.db() as session:
        rows = await session.execute(sa.select(Outbox.c.headers, Outbox.c.payload).order_by(Outbox.c.id))
        values = [orjson.loads(payload) for headers, payload in rows if headers["ce_type"] == "cafe.unlinked"]
    return [(value["id"], value["reason"]) for value in values]


async def was_checked(clients: Clients, cafe: Cafe) -> bool:
    """Whether the chat of a cafe was checked for Thursday."""
    async with clients.db() as session:
        day = await session.get(DeliveryDay, (cafe.id, THURSDAY))
        return day is not None and day.chat_checked_at is not None


@pytest.mark.parametrize("kind", ["group", "person"])
async def test_a_reachable_chat_stays_linked(clients: Clients, world: World, kind: str) -> None:
    """The check of a reachable chat makes neither a message nor an event."""
    chat = world.group() if kind == "group" else world.person()
    cafe = await add_linked_cafe(clients, chat)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await was_checked(clients, cafe)
    assert await chat_of(clients, cafe) == chat.id
    assert await event_types(clients) == []
    assert chat.messages == {}


@pytest.mark.parametrize(("kind", "membership"), [("group", "left"), ("group", "kicked"), ("person", "kicked")])
async def test_an_unreachable_chat_is_unlinked(
    clients: Clients, world: World, kind: str, membership: Membership
) -> None:
    """A group that the bot has left, or a person who has blocked it, is unlinked before the deadline."""
    chat = world.group() if kind == "group" else world.person()
    chat.membership = membership
    cafe = await add_linked_cafe(clients, chat)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await chat_of(clients, cafe) is None
    assert await unlinkings(clients) == [(cafe.id, UnlinkReason.CHAT_GONE)]


RIGHTS: dict[str, tuple[dict[str, object], bool]] = {
    "member": ({}, True),
    "administrator": ({"membership": "administrator"}, True),
    "administrator of a silent group": ({"membership": "administrator", "members_may_write": False}, True),
    "member of a silent group": ({"members_may_write": False}, False),
    "restricted": ({"membership": "restricted"}, False),
    "closed": ({"topics": {GENERAL: "closed"}}, False),
    "channel": ({"type": "channel", "membership": "administrator"}, True),
    "channel without posting": ({"type": "channel", "membership": "administrator", "may_post": False}, False),
}


async def alerts(clients: Clients) -> list[str]:
    """Return the texts of the alerts to the managers."""
    async with clients.db() as session:
        found = select(Notification.parts).where(Notification.kind == NotificationKind.ALERT)
        return [text for parts in await session.scalars(found) for text in parts]


@pytest.mark.parametrize(("properties", "may_write"), RIGHTS.values(), ids=RIGHTS)
async def test_managers_are_alerted_of_a_chat_that_refuses_messages(
    managed: Clients, world: World, properties: dict[str, object], may_write: bool
) -> None:
    """The managers know before the deadline that the bot may not write, and the cafe stays linked."""
    chat = world.group()
    for name, value in properties.items():
        setattr(chat, name, value)
    cafe = await add_linked_cafe(managed, chat)

    await check_chats(managed, world.bot, CLOSING - HOUR)

    expected = [] if may_write else [notification_texts.may_not_write(cafe, day=THURSDAY, locale="en")]
    assert await alerts(managed) == expected
    assert await chat_of(managed, cafe) == chat.id
    assert await was_checked(managed, cafe)
    assert chat.messages == {}


@pytest.mark.parametrize("state", ["open", "closed", None])
async def test_managers_are_alerted_of_a_topic_that_refuses_messages(
    managed: Clients, world: World, state: TopicState | None
) -> None:
    """The managers know that the orders go to the chat itself. A link keeps a closed topic, which may open again."""
    chat = world.forum(77)
    world.state.set_topic(chat, 77, state)
    cafe = await add_linked_cafe(managed, chat, topic=77)

    await check_chats(managed, world.bot, CLOSING - HOUR)

    text = notification_texts.topic_unavailable(cafe, day=THURSDAY, locale="en")
    assert await alerts(managed) == ([] if state == "open" else [text])
    async with managed.db() as session:
        assert (await session.get_one(Cafe, cafe.id)).tg_thread_id == (77 if state else None)


async def test_simultaneous_workers_alert_once(managed: Clients, world: World) -> None:
    """Simultaneous workers make one alert about a chat."""
    chat = world.group()
    chat.membership = "restricted"
    await add_linked_cafe(managed, chat)

    await asyncio.gather(*(check_chats(managed, world.bot, CLOSING - HOUR) for _ in range(3)))

    assert len(await alerts(managed)) == 1


async def test_a_public_group_that_the_bot_has_left_is_unlinked(clients: Clients, world: World) -> None:
    """Telegram shows a public group to every bot. The membership says that the bot is not there."""
    chat = world.group()
    chat.username, chat.membership = "lunch_group", "left"
    cafe = await add_linked_cafe(clients, chat)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await unlinkings(clients) == [(cafe.id, UnlinkReason.CHAT_GONE)]


async def test_an_unknown_chat_is_unlinked(clients: Clients, world: World) -> None:
    """A chat that Telegram does not know is unlinked before the deadline."""
    cafe = await add_linked_cafe(clients, Chat(-404, "group", "Nowhere"))

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await unlinkings(clients) == [(cafe.id, UnlinkReason.CHAT_GONE)]


@pytest.mark.parametrize(
    "kind",
    [FailureKind.RATE_LIMIT, FailureKind.SERVER_ERROR, FailureKind.BAD_GATEWAY, FailureKind.DROP_BEFORE],
)
async def test_a_failed_check_is_repeated(clients: Clients, world: World, kind: FailureKind) -> None:
    """A check that fails with a temporary error is repeated in the next minute."""
    chat = world.group()
    cafe = await add_linked_cafe(clients, chat)
    world.fail(kind, method="getChat")

    await check_chats(clients, world.bot, CLOSING - HOUR)
    after_one, checked = await chat_of(clients, cafe), await was_checked(clients, cafe)
    await check_chats(clients, world.bot, CLOSING - HOUR + MINUTE)

    assert (after_one, checked) == (chat.id, False)
    assert await was_checked(clients, cafe)


async def test_while_telegram_is_unavailable_chats_stay_linked(clients: Clients, world: World) -> None:
    """A chat stays linked while Telegram is unavailable."""
    chat = world.group()
    cafe = await add_linked_cafe(clients, chat)
    async with make_bot(TOKEN, f"http://127.0.0.1:{free_port()}").context() as bot:
        await check_chats(clients, bot, CLOSING - HOUR)

    assert await chat_of(clients, cafe) == chat.id
    assert not await was_checked(clients, cafe)


async def test_a_chat_is_checked_once(clients: Clients, world: World) -> None:
    """A chat is checked once before a deadline."""
    chat = world.group()
    cafe = await add_linked_cafe(clients, chat)
    await check_chats(clients, world.bot, CLOSING - HOUR)
    chat.membership = "left"

    await check_chats(clients, world.bot, CLOSING - HOUR + MINUTE)

    assert await chat_of(clients, cafe) == chat.id


@pytest.mark.parametrize("now", [CLOSING - HOUR - MINUTE, CLOSING, CLOSING + MINUTE])
async def test_chats_are_checked_in_the_hour_before_the_deadline(clients: Clients, world: World, now: datetime) -> None:
    """A chat is checked neither more than an hour before the deadline nor after it."""
    cafe = await add_linked_cafe(clients, world.group())

    await check_chats(clients, world.bot, now)

    assert not await was_checked(clients, cafe)


@pytest.mark.parametrize("state", [{"is_active": False}, {"notifications_enabled": False}])
async def test_chats_of_cafes_without_notifications_are_not_checked(
    clients: Clients, world: World, state: dict[str, object]
) -> None:
    """The chat of a cafe that gets no notifications is not checked."""
    chat = world.group()
    chat.membership = "left"
    cafe = await add_linked_cafe(clients, chat)
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(**state))

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await chat_of(clients, cafe) == chat.id


async def test_the_chat_is_not_checked_for_an_announced_day(clients: Clients, manager: Context, world: World) -> None:
    """The chat is not checked for a day that is announced already."""
    cafe = await add_linked_cafe(clients, world.group())
    await deadlines.announce_deadline(manager, cafe.id, THURSDAY)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert not await was_checked(clients, cafe)


async def test_a_link_follows_a_group_to_the_supergroup(clients: Clients, world: World) -> None:
    """The check finds a group that became a supergroup, and the link follows."""
    new_id = world.state.free_id("supergroup")
    world.state.failures.add(Failure(method="getChat", kind=FailureKind.MIGRATE, migrate_to_chat_id=new_id))
    group = world.state.add_chat(Chat(world.state.free_id("group"), "group", "Cafe"))
    cafe = await add_linked_cafe(clients, group)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await chat_of(clients, cafe) == new_id
    assert await was_checked(clients, cafe)


async def test_a_failed_check_does_not_affect_other_chats(clients: Clients, world: World) -> None:
    """Among several chats an unreachable one and a failed check do not affect the others."""
    chats = [world.group() for _ in range(7)]
    cafes = [await add_linked_cafe(clients, chat, f"Cafe {index}") for index, chat in enumerate(chats)]
    chats[1].membership = "left"
    world.state.failures.add(Failure(method="getChat", chat_id=chats[2].id, kind=FailureKind.DROP_BEFORE))

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await unlinkings(clients) == [(cafes[1].id, UnlinkReason.CHAT_GONE)]
    assert [await was_checked(clients, cafe) for cafe in cafes] == [index != 2 for index in range(7)]


async def test_simultaneous_workers_unlink_a_chat_once(clients: Clients, world: World) -> None:
    """Simultaneous workers make one event for an unreachable chat."""
    chat = world.group()
    chat.membership = "left"
    cafe = await add_linked_cafe(clients, chat)

    await asyncio.gather(*(check_chats(clients, world.bot, CLOSING - HOUR) for _ in range(3)))

    assert await unlinkings(clients) == [(cafe.id, UnlinkReason.CHAT_GONE)]


async def test_a_failure_of_one_cafe_does_not_stop_the_checks_of_others(
    clients: Clients, world: World, refuse_rows: RefuseRows
) -> None:
    """If the check of one cafe's chat fails, the other chats are checked, more than at the same time."""
    cafes = [await add_linked_cafe(clients, world.group(), f"Cafe {number}") for number in range(MAX_CHECKS + 2)]
    await refuse_rows(DeliveryDay, cafe_id=cafes[0].id)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert [await was_checked(clients, cafe) for cafe in cafes] == [False, *[True] * (len(cafes) - 1)]
