"""From an event of a link to the notifications of the cafe's chat and the managers."""

from dataclasses import replace

import pytest
from sqlmodel import col, select

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.events.inbox import handle_once
from app.events.types import (
    CafeUnlinked,
    Event,
    LinkRequestApproved,
    LinkRequestCreated,
    LinkRequestRejected,
    UnlinkReason,
)
from app.models import Cafe, Language, Notification, NotificationKind
from app.resolvers import links
from app.telegram import notification_texts
from tests.conftest import add_cafe
from tests.events.conftest import CHAT
from tests.events.records import CONSUMER, handle, notification_kinds, record_of

MANAGERS_CHAT = -1009


def with_managers_chat(clients: Clients) -> Clients:
    """Return the clients with a managers' chat in the settings."""
    return replace(clients, settings=clients.settings.model_copy(update={"telegram_manager_chat_id": MANAGERS_CHAT}))


async def test_a_request_without_a_managers_chat_notifies_no_chat(
    clients: Clients, anonymous: Context, cafe: Cafe
) -> None:
    """The requesting chat gets no notification, and without a managers' chat there is no other."""
    request = await links.link_request(anonymous, cafe.id, CHAT)

    await handle_once(clients, CONSUMER, record_of(LinkRequestCreated.of(request)), handle)

    assert await notification_kinds(clients) == []


async def test_managers_are_notified_of_a_request(clients: Clients, anonymous: Context, cafe: Cafe) -> None:
    """The managers' chat gets a notification that belongs to the request."""
    request = await links.link_request(anonymous, cafe.id, CHAT)

    await handle_once(with_managers_chat(clients), CONSUMER, record_of(LinkRequestCreated.of(request)), handle)

    async with clients.db() as session:
        [queued] = await session.scalars(select(Notification))
    assert (queued.tg_chat_id, queued.kind, queued.link_request_id) == (
        MANAGERS_CHAT,
        NotificationKind.LINK_REQUESTED,
        request.id,
    )


@pytest.mark.parametrize(
    ("reason", "chats"),
    [
        (UnlinkReason.MANAGER, [CHAT]),
        (UnlinkReason.CHAT, [CHAT, MANAGERS_CHAT]),
        (UnlinkReason.CHAT_GONE, [MANAGERS_CHAT]),
    ],
)
async def test_an_unlinking_notifies_chat_and_managers(
    clients: Clients, linked: Cafe, reason: UnlinkReason, chats: list[int]
) -> None:
    """The chat is notified unless it is unreachable, and the managers unless one of them unlinked the cafe."""
    event = CafeUnlinked.of_cafe(linked, CHAT, reason)
    await handle_once(with_managers_chat(clients), CONSUMER, record_of(event), handle)

    async with clients.db() as session:
        assert list(await session.scalars(select(Notification.tg_chat_id).order_by(col(Notification.id)))) == chats


async def test_an_unlinking_notifies_the_former_chat(clients: Clients, unlinked: CafeUnlinked) -> None:
    """The notification goes to the chat that the cafe had."""
    await handle_once(clients, CONSUMER, record_of(unlinked), handle)

    async with clients.db() as session:
        assert await session.scalar(select(Notification.tg_chat_id)) == CHAT


TOPIC = 77


async def threads(clients: Clients) -> list[int | None]:
    """Return the topics of the queued notifications."""
    async with clients.db() as session:
        return list(await session.scalars(select(Notification.tg_thread_id).order_by(col(Notification.id))))


@pytest.mark.parametrize("is_approved", [True, False])
async def test_a_decision_goes_to_the_topic_of_the_request(
    clients: Clients, manager: Context, cafe: Cafe, is_approved: bool
) -> None:
    """The chat reads the decision where it has asked."""
    topic = Context(clients, source="test", caller=Caller(telegram_chat=CHAT, telegram_thread=TOPIC))
    request = await links.link_request(topic, cafe.id, CHAT)
    event: Event
    if is_approved:
        event = LinkRequestApproved.of(await links.approve(manager, request.id))
    else:
        event = LinkRequestRejected.of(await links.reject(manager, request.id))

    await handle_once(clients, CONSUMER, record_of(event), handle)

    assert await threads(clients) == [TOPIC]


async def test_an_unlinking_notifies_the_former_topic(clients: Clients, linked: Cafe) -> None:
    """The notification goes to the topic that the cafe had."""
    event = CafeUnlinked.of_cafe(linked, CHAT, UnlinkReason.MANAGER, TOPIC)

    await handle_once(clients, CONSUMER, record_of(event), handle)

    assert await threads(clients) == [TOPIC]


async def test_an_event_without_a_topic_is_that_of_an_older_version(clients: Clients, linked: Cafe) -> None:
    """An event without a topic has no field for it, and its notification goes to the chat itself."""
    record = record_of(CafeUnlinked.of_cafe(linked, CHAT, UnlinkReason.MANAGER))

    await handle_once(clients, CONSUMER, record, handle)

    assert "thread" not in (record.value or b"").decode()
    assert await threads(clients) == [None]


async def test_managers_are_notified_in_their_topic(clients: Clients, anonymous: Context, cafe: Cafe) -> None:
    """The managers' chat may have a topic for the bot."""
    request = await links.link_request(anonymous, cafe.id, CHAT)
    settings = {"telegram_manager_chat_id": MANAGERS_CHAT, "telegram_manager_chat_thread_id": 5}
    managed = replace(clients, settings=clients.settings.model_copy(update=settings))

    await handle_once(managed, CONSUMER, record_of(LinkRequestCreated.of(request)), handle)

    assert await threads(clients) == [5]


async def test_a_notification_is_in_the_cafes_language(clients: Clients, anonymous: Context, manager: Context) -> None:
    """A chat reads a notification in the language of the requested cafe."""
    cafe = await add_cafe(clients, language=Language.RU)
    request = await links.link_request(anonymous, cafe.id, CHAT)
    rejected = await links.reject(manager, request.id, "Нет такого кафе")

    await handle_once(clients, CONSUMER, record_of(LinkRequestRejected.of(rejected)), handle)

    async with clients.db() as session:
        parts = await session.scalar(select(Notification.parts))
    assert parts == [notification_texts.link_rejected(cafe, reason="Нет такого кафе", locale="ru")]
