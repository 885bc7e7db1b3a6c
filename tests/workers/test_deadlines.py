"""Scheduled jobs: announcements of deadlines, checks of chats before them, and reminders."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import orjson
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.dev.ports import free_port
from app.dev.telegram.chats import Chat, Membership
from app.dev.telegram.faults import Failure, FailureKind
from app.events.types import UnlinkReason
from app.models import (
    Cafe,
    Deadline,
    DeliveryDay,
    Notification,
    NotificationKind,
    NotificationStatus,
    Order,
    OrderStatus,
    Outbox,
)
from app.resolvers import deadlines, links, notifications, orders
from app.services import deadlines as deadlines_service
from app.settings import Settings
from app.telegram import notification_texts
from app.telegram.sender import make_bot
from app.workers.deadlines import announce_missed, announce_passed, check_chats, send_reminders
from tests.conftest import USER_TGID, Lunch, add_cafe, add_lunch, event_types
from tests.servers import DEADLINE_S, POLL_S
from tests.telegram_standin import TOKEN, World

WEDNESDAY, THURSDAY = date(2026, 3, 4), date(2026, 3, 5)
CLOSING = datetime.combine(WEDNESDAY, time(10, 30), UTC)
"""When ordering for Thursday closes."""

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MANAGERS = -1009
PATIENCE = timedelta(minutes=15)
"""The default of ACK_REMINDER_MINUTES."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a managers' chat."""
    return settings.model_copy(update={"telegram_manager_chat_id": MANAGERS})


async def add_scheduled(
    clients: Clients,
    name: str = "Basil & Thyme",
    *,
    delivery: date = THURSDAY,
    at: time = time(10, 30),
    advance_days: int = 1,
    is_enabled: bool = True,
    **fields: object,
) -> Cafe:
    """Add a cafe that delivers on one weekday."""
    cafe = await add_cafe(clients, name, **fields)
    async with clients.db() as session:
        session.add(
            Deadline(
                cafe_id=cafe.id,
                weekday=delivery.weekday(),
                deadline_time=at,
                advance_days=advance_days,
                is_enabled=is_enabled,
            )
        )
    return cafe


async def announced_days(clients: Clients) -> list[tuple[int, date]]:
    """Return the cafes and dates of the deadline events that wait for Kafka."""
    async with clients.db() as session:
        rows = await session.execute(sa.select(Outbox.c.headers, Outbox.c.payload).order_by(Outbox.c.id))
        values = [orjson.loads(payload) for headers, payload in rows if headers["ce_type"] == "deadline.passed"]
    return [(value["cafe_id"], date.fromisoformat(value["date"])) for value in values]


async def until_a_transaction_waits(clients: Clients) -> None:
    """Wait until a transaction waits for the lock of another."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with clients.db() as session:
                if await session.scalar(query):
                    return
            await asyncio.sleep(POLL_S)


async def test_a_passed_deadline_is_announced(clients: Clients) -> None:
    """A passed deadline makes an event with the cafe and the date."""
    cafe = await add_scheduled(clients)

    assert await announce_passed(clients, CLOSING) == 1

    assert await announced_days(clients) == [(cafe.id, THURSDAY)]


async def test_an_announcement_closes_the_day(clients: Clients) -> None:
    """An announcement records on the day that it is closed, and when."""
    cafe = await add_scheduled(clients)

    await announce_passed(clients, CLOSING + MINUTE)

    async with clients.db() as session:
        day = await session.get_one(DeliveryDay, (cafe.id, THURSDAY))
    assert day.announced_at == CLOSING + MINUTE


async def test_a_deadline_is_not_announced_before_its_time(clients: Clients) -> None:
    """A deadline is not announced a second early."""
    await add_scheduled(clients)

    assert await announce_passed(clients, CLOSING - timedelta(seconds=1)) == 0


async def test_a_deadline_is_announced_once(clients: Clients) -> None:
    """A deadline is announced once, however often the job runs."""
    await add_scheduled(clients)
    await announce_passed(clients, CLOSING)

    assert await announce_passed(clients, CLOSING + MINUTE) == 0

    assert await event_types(clients) == ["deadline.passed"]


@pytest.mark.parametrize(("late", "announced"), [(DAY - MINUTE, 1), (DAY + MINUTE, 0)])
async def test_a_missed_deadline_is_announced_within_a_day(clients: Clients, late: timedelta, announced: int) -> None:
    """A deadline that passed while no worker ran is announced up to a day later."""
    await add_scheduled(clients)

    assert await announce_passed(clients, CLOSING + late) == announced


async def test_missed_deadlines_are_announced_in_order(clients: Clients) -> None:
    """The earliest of the missed deadlines is announced first."""
    late = await add_scheduled(clients, at=time(10, 30))
    early = await add_scheduled(clients, "Green Fork", at=time(9))

    await announce_passed(clients, CLOSING + HOUR)

    assert await announced_days(clients) == [(early.id, THURSDAY), (late.id, THURSDAY)]


@pytest.mark.parametrize("fields", [{"is_enabled": False}, {"delivery": THURSDAY + DAY}])
async def test_a_day_without_a_deadline_is_not_announced(clients: Clients, fields: dict[str, object]) -> None:
    """A day without an enabled deadline is not announced."""
    await add_scheduled(clients, **fields)  # type: ignore[arg-type]

    assert await announce_passed(clients, CLOSING) == 0


@pytest.mark.parametrize("advance_days", [0, 3, 14])
async def test_a_deadline_may_be_days_ahead(clients: Clients, advance_days: int) -> None:
    """A deadline may be days before the delivery; the event has the delivery date."""
    delivery = WEDNESDAY + timedelta(days=advance_days)
    cafe = await add_scheduled(clients, delivery=delivery, advance_days=advance_days)

    await announce_passed(clients, CLOSING)

    assert await announced_days(clients) == [(cafe.id, delivery)]


DST = {
    "a time that the clocks skip": ("Europe/Berlin", date(2026, 3, 29), time(2, 30), "2026-03-29T01:30Z"),
    "a time that they repeat": ("Europe/Berlin", date(2026, 10, 25), time(2, 30), "2026-10-25T00:30Z"),
    "the morning after they went forward": ("Europe/Berlin", date(2026, 3, 29), time(10), "2026-03-29T08:00Z"),
    "the morning after they went back": ("Europe/Berlin", date(2026, 10, 25), time(10), "2026-10-25T09:00Z"),
    "the last minute of a day that is over in UTC": (
        "America/New_York",
        date(2026, 3, 8),
        time(23, 59),
        "2026-03-09T03:59Z",
    ),
    "the first minute of a day that begins later in UTC": (
        "Pacific/Chatham",
        date(2026, 4, 5),
        time(0),
        "2026-04-04T10:15Z",
    ),
    "a clock that goes half an hour forward": (
        "Australia/Lord_Howe",
        date(2026, 10, 4),
        time(2, 15),
        "2026-10-03T15:45Z",
    ),
}


@pytest.mark.parametrize(("timezone", "day", "at", "passes"), DST.values(), ids=DST)
async def test_a_deadline_passes_once_when_clocks_change(
    clients: Clients, timezone: str, day: date, at: time, passes: str
) -> None:
    """A deadline passes once, at the local time of the cafe, also when its clocks change."""
    cafe = await add_scheduled(clients, timezone=timezone, delivery=day + DAY, at=at)
    passed = datetime.fromisoformat(passes)

    assert await announce_passed(clients, passed - MINUTE) == 0
    assert await announce_passed(clients, passed) == 1
    for hours in range(1, 4):
        assert await announce_passed(clients, passed + hours * HOUR) == 0

    assert await announced_days(clients) == [(cafe.id, day + DAY)]


async def test_an_announcement_confirms_the_orders(clients: Clients, user: Context, manager: Context) -> None:
    """An announcement confirms the pending orders of that cafe and date only."""
    lunch, other = await add_lunch(clients), await add_lunch(clients, "Green Fork")
    today = lunch.open_date - 2 * DAY
    dates = [today, today, today, today + DAY]
    placed = [
        await orders.place_order(manager, place.cafe.id, day, place.meal, tgid)
        for place, day, tgid in zip(
            (lunch, lunch, other, lunch), dates, (USER_TGID, manager.viewer.tgid, USER_TGID, USER_TGID), strict=True
        )
    ]
    await orders.cancel_order(manager, placed[1].id)
    async with clients.db() as session:
        await session.execute(
            sa.update(Deadline).where(col(Deadline.cafe_id) == other.cafe.id).values(is_enabled=False)
        )

    await announce_passed(clients, datetime.combine(today - DAY, time(10, 30), UTC))

    async with clients.db() as session:
        found = list(await session.scalars(select(Order.status).order_by(col(Order.id))))
    assert found == [OrderStatus.CONFIRMED, OrderStatus.CANCELLED, OrderStatus.PENDING, OrderStatus.PENDING]


async def test_an_order_that_races_the_deadline_is_announced(clients: Clients, user: Context) -> None:
    """An announcement waits for an order that is being written, and confirms it."""
    lunch = await add_lunch(clients)
    closing = datetime.combine(lunch.open_date - DAY, time(10, 30), UTC)
    placed = await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.order(notes="old"))
    async with clients.db() as session:
        await deadlines_service.lock_day(session, lunch.cafe.id, lunch.open_date)
        announcing = asyncio.create_task(announce_passed(clients, closing))
        await until_a_transaction_waits(clients)
        order = await session.get_one(Order, placed.id)
        order.notes = "new"
    await announcing

    async with clients.db() as session:
        order = await session.get_one(Order, placed.id)
    assert (order.status, order.notes) == (OrderStatus.CONFIRMED, "new")


async def test_simultaneous_workers_announce_each_day_once(clients: Clients) -> None:
    """Simultaneous workers announce each day once, because of the lock on its row."""
    for index in range(5):
        cafe = await add_scheduled(clients, f"Cafe {index}")
        async with clients.db() as session:
            session.add(DeliveryDay(cafe_id=cafe.id, date=THURSDAY))

    counts = await asyncio.gather(*(announce_passed(clients, CLOSING) for _ in range(4)))

    assert sum(counts) == 5
    assert len(set(await announced_days(clients))) == len(await announced_days(clients)) == 5


async def test_the_next_run_continues_after_a_worker_dies(clients: Clients) -> None:
    """The days that a dead worker has announced stay, and the next run announces the others."""
    first, second, third = [await add_scheduled(clients, f"Cafe {index}") for index in range(3)]
    async with clients.db() as session:
        session.add(DeliveryDay(cafe_id=second.id, date=THURSDAY))
    async with clients.db() as session:
        await session.get_one(DeliveryDay, (second.id, THURSDAY), with_for_update=True)
        dying = asyncio.create_task(announce_passed(clients, CLOSING))
        await until_a_transaction_waits(clients)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        before = await announced_days(clients)

    assert await announce_passed(clients, CLOSING + MINUTE) == 2

    assert before == [(first.id, THURSDAY)]
    assert await announced_days(clients) == [(cafe.id, THURSDAY) for cafe in (first, second, third)]


async def test_a_day_that_a_manager_closed_is_not_announced_again(clients: Clients, manager: Context) -> None:
    """A day that a manager has closed early is not announced again."""
    cafe = await add_scheduled(clients)
    await deadlines.announce_deadline(manager, cafe.id, THURSDAY)

    assert await announce_passed(clients, CLOSING) == 0

    assert await event_types(clients) == ["deadline.passed"]


async def test_a_moved_deadline_does_not_open_an_announced_day(clients: Clients) -> None:
    """A changed schedule does not open an announced day again."""
    await add_scheduled(clients)
    await announce_passed(clients, CLOSING)
    async with clients.db() as session:
        await session.execute(sa.update(Deadline).values(deadline_time=time(12)))

    assert await announce_passed(clients, CLOSING + 2 * HOUR) == 0


async def add_linked_cafe(clients: Clients, chat: Chat, name: str = "Basil & Thyme") -> Cafe:
    """Add a cafe with this chat and a deadline at `CLOSING`."""
    return await add_scheduled(clients, name, tg_chat_id=chat.id, linked_at=CLOSING - DAY)


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


SENT_AT = CLOSING + MINUTE
CHAT = -1001


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
) -> Notification:
    """Add a message about Thursday: an order list, or a later version."""
    kind = NotificationKind.ORDERS if version == 1 else NotificationKind.CORRECTION
    async with clients.db() as session:
        notification = Notification(
            cafe_id=linked_cafe.id,
            kind=kind,
            date=THURSDAY,
            version=version,
            tg_chat_id=CHAT,
            parts=["soup"],
            status=status,
            sent_at=sent_at,
        )
        session.add(notification)
    return notification


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


async def test_a_lost_deadline_event_makes_a_late_order_list(clients: Clients, user: Context, lunch: Lunch) -> None:
    """If the event of a deadline is lost, the order list is queued later, once."""
    async with clients.db() as session:
        cafe = await session.get_one(Cafe, lunch.cafe.id)
        cafe.tg_chat_id, cafe.linked_at = CHAT, CLOSING
    await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    now = datetime.now(UTC)
    async with clients.db() as session:
        await deadlines_service.close_day(session, lunch.cafe.id, lunch.open_date, now - timedelta(hours=1))

    for _ in range(2):
        await announce_missed(clients, now)

    async with clients.db() as session:
        made = list(await session.scalars(select(Notification)))
    assert [(row.kind, row.tg_chat_id) for row in made] == [(NotificationKind.ORDERS, CHAT)]


async def test_managers_are_alerted_of_orders_without_a_recipient(
    clients: Clients, user: Context, lunch: Lunch
) -> None:
    """If the cafe has no chat, the managers get one alert, and the cafe gets its list when it has a chat."""
    await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    now = datetime.now(UTC)
    async with clients.db() as session:
        await deadlines_service.close_day(session, lunch.cafe.id, lunch.open_date, now - timedelta(hours=1))
    for _ in range(2):
        await announce_missed(clients, now)
    async with clients.db() as session:
        cafe = await session.get_one(Cafe, lunch.cafe.id)
        cafe.tg_chat_id, cafe.linked_at = CHAT, CLOSING

    await announce_missed(clients, now)

    async with clients.db() as session:
        made = list(await session.scalars(select(Notification).order_by(col(Notification.id))))
    assert [(row.kind, row.tg_chat_id) for row in made] == [
        (NotificationKind.ALERT, MANAGERS),
        (NotificationKind.ORDERS, CHAT),
    ]
