"""Operations for the users of a chat, through the bot."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.errors import Forbidden
from app.models import LinkRequest, Notification, NotificationKind, NotificationStatus
from app.resolvers import links
from app.resolvers.links import LinkedChat, get_chat_status
from tests.conftest import add_lunch

CHAT = -1001
NOW = datetime(2026, 3, 4, 9, tzinfo=UTC)


@pytest.fixture
def chat(clients: Clients) -> Context:
    """A caller in a chat, on a Wednesday morning."""
    return Context(clients, source="test", caller=Caller(telegram_chat=CHAT), clock=lambda: NOW)


async def linked_chat(clients: Clients, chat: Context, timezone: str = "UTC") -> LinkedChat:
    """Link the chat to a cafe whose deadline is at 10:30 on the day before, and return its status."""
    await add_lunch(clients, tg_chat_id=CHAT, linked_at=NOW, timezone=timezone)
    found = await get_chat_status(chat)
    assert isinstance(found, LinkedChat)
    return found


async def test_the_status_has_the_cafe(clients: Clients, chat: Context) -> None:
    """The status of a linked chat has its cafe."""
    assert (await linked_chat(clients, chat)).cafe.tg_chat_id == CHAT


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Vladivostok", "America/New_York"])
async def test_the_status_has_the_next_deadline(clients: Clients, chat: Context, timezone: str) -> None:
    """The next deadline is in the cafe's time zone."""
    deadline = (await linked_chat(clients, chat, timezone)).next_deadline

    assert deadline is not None
    assert NOW < deadline <= NOW + timedelta(days=1)
    assert f"{deadline:%R} {deadline.tzinfo}" == f"10:30 {ZoneInfo(timezone)}"


async def test_before_the_first_order_list_there_is_no_last_delivery(clients: Clients, chat: Context) -> None:
    """Before the first order list there is no last delivery."""
    assert (await linked_chat(clients, chat)).last_sent is None


async def test_the_status_has_the_last_delivery(clients: Clients, chat: Context) -> None:
    """The last delivery is that of an order list or a correction, not of a reminder."""
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

    found = await get_chat_status(chat)

    assert isinstance(found, LinkedChat)
    assert found.last_sent == NOW - timedelta(hours=2)


async def test_the_status_has_the_pending_request(clients: Clients, chat: Context) -> None:
    """The status of a chat that is not linked is its pending request."""
    lunch = await add_lunch(clients)
    request = await links.link_request(chat, lunch.cafe.id, CHAT)

    found = await get_chat_status(chat)

    assert isinstance(found, LinkRequest)
    assert found.id == request.id


async def test_a_chat_without_a_request_has_no_status(chat: Context) -> None:
    """A chat without a cafe and without a request has no status."""
    assert await get_chat_status(chat) is None


async def test_a_caller_without_a_chat_has_no_status(anonymous: Context, manager: Context) -> None:
    """A caller without a chat may not read the status of a chat, not even a manager."""
    for ctx in (anonymous, manager):
        with pytest.raises(Forbidden):
            await get_chat_status(ctx)
