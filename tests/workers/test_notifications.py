"""A scheduled job of notifications: reminders of messages that are not marked as received."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.models import Cafe, Notification, NotificationKind, NotificationStatus
from app.resolvers import links, notifications
from app.settings import Settings
from app.telegram import notification_texts
from app.workers.notifications import send_reminders
from tests.conftest import add_cafe
from tests.workers.failures import RefuseRows
from tests.workers.schedule import CHAT, CLOSING, DAY, MANAGERS, MINUTE, THURSDAY

PATIENCE = timedelta(minutes=15)
"""The default of ACK_REMINDER_MINUTES."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a managers' chat."""
    return settings.model_copy(update={"telegram_manager_chat_id": MANAGERS})


SENT_AT = CLOSING + MINUTE


@pytest.fixture
def chat(clients: Clients) -> Context:
    """A caller in the cafe's chat."""
    return Context(clients, source="test", caller=Caller(telegram_chat=CHAT))


@pytest.fixture
async def linked_cafe(clients: Clients) -> Cafe:
    """A cafe with a chat."""
    return await add_cafe(clients, tg_chat_id=CHAT, linked_at=CLOSING - DAY)


async def add_sent(
    clients: Clients,
    linked_cafe: Cafe,
    *,
    version: int = 1,
    status: NotificationStatus = NotificationStatus.SENT,
    sent_at: datetime | None = SENT_AT,
    tg_chat_id: int = CHAT,
) -> Notification:
    """Add a message about Thursday: an order list, or a later version."""
    kind = NotificationKind.ORDERS if version == 1 else NotificationKind.CORRECTION
    async with clients.db() as session:
        notification = Notification(
            cafe_id=linked_cafe.id,
            kind=kind,
            date=THURSDAY,
            version=version,
            tg_chat_id=tg_chat_id,
            parts=["soup"],
            status=status,
            sent_at=sent_at,
        )
        session.add(notification)
    return notification


async def test_a_reminder_goes_to_the_topic_of_the_link(clients: Clients) -> None:
    """A cafe is reminded in the topic that gets its orders."""
    cafe = await add_cafe(clients, tg_chat_id=CHAT, tg_thread_id=77, linked_at=CLOSING - DAY)
    await add_sent(clients, cafe)

    await send_reminders(clients, SENT_AT + PATIENCE)

    async with clients.db() as session:
        reminder = select(Notification.tg_thread_id).where(Notification.kind == NotificationKind.REMINDER)
        assert (await session.scalars(reminder)).all() == [77]


async def reminders(clients: Clients) -> list[tuple[NotificationKind, int, int]]:
    """Return kind, version and chat of all reminders and alerts."""
    async with clients.db() as session:
        found = await session.scalars(
            select(Notification)
            .where(col(Notification.kind).in_([NotificationKind.REMINDER, NotificationKind.ALERT]))
            .order_by(col(Notification.id))
        )
        return [(notification.kind, notification.version, notification.tg_chat_id) for notification in found]


TO_CAFE, TO_MANAGERS = (NotificationKind.REMINDER, 1, CHAT), (NotificationKind.ALERT, 1, MANAGERS)


@pytest.mark.parametrize(
    ("after", "reminded"),
    [
        (PATIENCE - MINUTE, []),
        (PATIENCE, [TO_CAFE]),
        (2 * PATIENCE - MINUTE, [TO_CAFE]),
        (2 * PATIENCE, [TO_CAFE, TO_MANAGERS]),
    ],
)
async def test_the_cafe_is_reminded_before_the_managers_are_alerted(
    clients: Clients, linked_cafe: Cafe, after: timedelta, reminded: list[tuple[NotificationKind, int, int]]
) -> None:
    """The cafe gets a reminder after a while, and the managers an alert after twice that time."""
    await add_sent(clients, linked_cafe)

    await send_reminders(clients, SENT_AT + after)

    assert await reminders(clients) == reminded


async def test_there_is_one_reminder_and_one_alert(clients: Clients, linked_cafe: Cafe) -> None:
    """A message makes one reminder and one alert, however often the job runs."""
    await add_sent(clients, linked_cafe)

    for minutes in range(0, 90, 5):
        await send_reminders(clients, SENT_AT + minutes * MINUTE)

    assert await reminders(clients) == [TO_CAFE, TO_MANAGERS]


async def test_simultaneous_workers_remind_once(clients: Clients, linked_cafe: Cafe) -> None:
    """Simultaneous workers make one reminder, because they skip rows that are locked."""
    await add_sent(clients, linked_cafe)

    await asyncio.gather(*(send_reminders(clients, SENT_AT + 2 * PATIENCE) for _ in range(4)))

    assert await reminders(clients) == [TO_CAFE, TO_MANAGERS]


async def test_an_acknowledged_message_makes_no_reminder(clients: Clients, chat: Context, linked_cafe: Cafe) -> None:
    """An acknowledged message makes neither a reminder nor an alert."""
    notification = await add_sent(clients, linked_cafe)
    await notifications.acknowledge(chat, notification.id, "Anna")

    await send_reminders(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == []


async def test_an_acknowledgement_after_the_reminder_prevents_the_alert(
    clients: Clients, chat: Context, linked_cafe: Cafe
) -> None:
    """A message that is acknowledged after the reminder makes no alert."""
    notification = await add_sent(clients, linked_cafe)
    await send_reminders(clients, SENT_AT + PATIENCE)
    await notifications.acknowledge(chat, notification.id, "Anna")

    await send_reminders(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == [TO_CAFE]


async def test_an_acknowledged_later_version_makes_no_reminder(
    clients: Clients, chat: Context, linked_cafe: Cafe
) -> None:
    """If a later version is acknowledged, the earlier one makes no reminder."""
    await add_sent(clients, linked_cafe)
    later = await add_sent(clients, linked_cafe, version=2, sent_at=SENT_AT + MINUTE)
    await notifications.acknowledge(chat, later.id, "Anna")

    await send_reminders(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == []


async def test_an_unacknowledged_later_version_makes_a_reminder(
    clients: Clients, chat: Context, linked_cafe: Cafe
) -> None:
    """A correction makes a reminder, even if the order list is acknowledged."""
    first = await add_sent(clients, linked_cafe)
    await add_sent(clients, linked_cafe, version=2)
    await notifications.acknowledge(chat, first.id, "Anna")

    await send_reminders(clients, SENT_AT + PATIENCE)

    assert await reminders(clients) == [(NotificationKind.REMINDER, 2, CHAT)]


@pytest.mark.parametrize("status", [NotificationStatus.QUEUED, NotificationStatus.SENDING, NotificationStatus.FAILED])
async def test_an_undelivered_message_makes_no_reminder(
    clients: Clients, linked_cafe: Cafe, status: NotificationStatus
) -> None:
    """A message that is not delivered makes neither a reminder nor an alert."""
    await add_sent(clients, linked_cafe, status=status, sent_at=None)

    await send_reminders(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == []


async def test_an_old_message_makes_no_reminder(clients: Clients, linked_cafe: Cafe) -> None:
    """A message that was sent more than a day ago makes no reminder."""
    await add_sent(clients, linked_cafe)

    await send_reminders(clients, SENT_AT + DAY + 3 * PATIENCE)

    assert await reminders(clients) == []


async def test_an_unlinked_chat_is_not_reminded(clients: Clients, manager: Context, linked_cafe: Cafe) -> None:
    """An unlinked chat gets no reminder, but the managers get an alert."""
    await add_sent(clients, linked_cafe)
    await links.unlink(manager, linked_cafe.id)

    await send_reminders(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == [TO_MANAGERS]


async def test_a_former_chat_is_not_reminded(clients: Clients, linked_cafe: Cafe) -> None:
    """A former chat of the cafe gets no reminder."""
    await add_sent(clients, linked_cafe)
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(tg_chat_id=-1002))

    await send_reminders(clients, SENT_AT + PATIENCE)

    assert await reminders(clients) == []


async def test_a_reminder_is_in_the_language_of_the_cafe(clients: Clients) -> None:
    """A reminder is in the language of the cafe, and names the delivery date."""
    linked_cafe = await add_cafe(clients, tg_chat_id=CHAT, linked_at=CLOSING - DAY, language="ru")
    await add_sent(clients, linked_cafe)

    await send_reminders(clients, SENT_AT + PATIENCE)

    async with clients.db() as session:
        parts = await session.scalar(select(Notification.parts).where(Notification.kind == NotificationKind.REMINDER))
    assert parts == [notification_texts.reminder(linked_cafe, day=THURSDAY, locale="ru")]


async def test_without_a_managers_chat_there_is_no_alert(
    settings: Settings, clients: Clients, linked_cafe: Cafe
) -> None:
    """Without a managers' chat there is a reminder, but no alert."""
    await add_sent(clients, linked_cafe)
    without_managers = replace(clients, settings=settings.model_copy(update={"telegram_manager_chat_id": None}))

    await send_reminders(without_managers, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == [TO_CAFE]


@pytest.mark.parametrize("refused_kind", [NotificationKind.REMINDER, NotificationKind.ALERT])
async def test_a_failure_of_one_cafe_does_not_stop_the_reminders_of_others(
    clients: Clients, refuse_rows: RefuseRows, refused_kind: NotificationKind
) -> None:
    """If the reminder or the alert of one cafe fails, the other cafes and their managers get theirs."""
    cafes = [
        await add_cafe(clients, f"Cafe {number}", tg_chat_id=CHAT - number, linked_at=CLOSING) for number in range(3)
    ]
    for cafe in cafes:
        await add_sent(clients, cafe, tg_chat_id=cafe.tg_chat_id or 0)
    await refuse_rows(Notification, cafe_id=cafes[0].id, kind=refused_kind)

    await send_reminders(clients, SENT_AT + 2 * PATIENCE)

    expected = [
        *((NotificationKind.REMINDER, cafe.id) for cafe in cafes),
        *((NotificationKind.ALERT, cafe.id) for cafe in cafes),
    ]
    expected.remove((refused_kind, cafes[0].id))
    async with clients.db() as session:
        query = select(Notification.kind, Notification.cafe_id).where(col(Notification.kind) != NotificationKind.ORDERS)
        assert [tuple(row) for row in await session.execute(query.order_by(col(Notification.id)))] == expected
