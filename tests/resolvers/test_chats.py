"""What a chat may know of itself."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.clients import Clients
from app.context import Context
from app.models import LinkRequest, Notification, NotificationKind, NotificationStatus
from app.resolvers import links
from app.resolvers.chats import LinkedChat, chat_status
from tests.conftest import add_lunch

CHAT = -1001
NOW = datetime(2026, 3, 4, 9, tzinfo=UTC)


@pytest.fixture
def chat(clients: Clients) -> Context:
    """Somebody in a chat, on a Wednesday morning."""
    return Context(clients, source="test", clock=lambda: NOW)


async def linked_chat(clients: Clients, chat: Context, timezone: str = "UTC") -> LinkedChat:
    """What a chat knows whose cafe takes orders until 10:30 of the day before."""
    await add_lunch(clients, tg_chat_id=CHAT, linked_at=NOW, timezone=timezone)
    found = await chat_status(chat, CHAT)
    assert isinstance(found, LinkedChat)
    return found


async def test_a_chat_knows_its_cafe(clients: Clients, chat: Context) -> None:
    """A linked chat may ask what it is linked to."""
    assert (await linked_chat(clients, chat)).cafe.tg_chat_id == CHAT


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Vladivostok", "America/New_York"])
async def test_a_chat_knows_its_next_deadline(clients: Clients, chat: Context, timezone: str) -> None:
    """The next deadline is told in the cafe's time."""
    deadline = (await linked_chat(clients, chat, timezone)).next_deadline

    assert deadline is not None
    assert NOW < deadline <= NOW + timedelta(days=1)
    assert f"{deadline:%R} {deadline.tzinfo}" == f"10:30 {ZoneInfo(timezone)}"


async def test_a_chat_that_got_nothing_yet_knows_so(clients: Clients, chat: Context) -> None:
    """Before its first orders a chat has no last delivery."""
    assert (await linked_chat(clients, chat)).last_sent is None


async def test_a_chat_knows_when_it_was_last_told(clients: Clients, chat: Context) -> None:
    """The last delivery is that of the last orders, or of a correction; a reminder is none."""
    cafe = (await linked_chat(clients, chat)).cafe
    times = {NotificationKind.ORDERS: 3, NotificationKind.CORRECTION: 2, NotificationKind.REMINDER: 1}
    async with clients.db() as session:
        session.add_all(
            Notification(
                cafe_id=cafe.id,
                kind=kind,
                tg_chat_id=CHAT,
                parts=["soup"],
                status=NotificationStatus.SENT,
                sent_at=NOW - timedelta(hours=hours),
            )
            for kind, hours in times.items()
        )

    found = await chat_status(chat, CHAT)

    assert isinstance(found, LinkedChat)
    assert found.last_sent == NOW - timedelta(hours=2)


async def test_a_chat_knows_its_pending_request(clients: Clients, chat: Context) -> None:
    """A chat that has asked may ask how it stands."""
    lunch = await add_lunch(clients)
    request = await links.link_request(chat, lunch.cafe.id, CHAT)

    found = await chat_status(chat, CHAT)

    assert isinstance(found, LinkRequest)
    assert found.id == request.id


async def test_a_strange_chat_knows_nothing(chat: Context) -> None:
    """A chat that never asked has nothing."""
    assert await chat_status(chat, CHAT) is None
