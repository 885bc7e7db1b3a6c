"""What the clock brings about: deadlines that pass, chats that are looked after before them, kitchens that are reminded."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import orjson
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.clients import Clients
from app.context import Context
from app.dev.telegram.chats import Chat, Membership
from app.dev.telegram.faults import Failure, FailureKind
from app.events.messages import UnlinkReason
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
from app.resolvers import cafes, deadlines, links, notifications, orders
from app.settings import Settings
from app.telegram import texts
from app.telegram.sender import make_bot
from app.workers.deadlines import announce_passed, check_chats, remind, tell_forgotten
from tests.conftest import USER_TGID, Lunch, add_cafe, add_lunch, event_types, free_port
from tests.servers import DEADLINE_S, POLL_S
from tests.telegram.conftest import TOKEN, World, served_world

WEDNESDAY, THURSDAY = date(2026, 3, 4), date(2026, 3, 5)
CLOSING = datetime.combine(WEDNESDAY, time(10, 30), UTC)
"""When ordering for Thursday closes."""

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MANAGERS = -1009
PATIENCE = timedelta(minutes=15)
"""The default of ACK_REMINDER_MINUTES."""


@pytest.fixture(scope="module")
async def shared_world() -> AsyncIterator[World]:
    async with served_world() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> World:
    shared_world.state.reset()
    return shared_world


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a managers' chat."""
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
    """A cafe that delivers on one day of the week."""
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


async def announced(clients: Clients) -> list[tuple[int, date]]:
    """The cafes and dates of the events that wait for Kafka."""
    async with clients.db() as session:
        rows = await session.execute(sa.select(Outbox.c.headers, Outbox.c.payload).order_by(Outbox.c.id))
        values = [orjson.loads(payload) for headers, payload in rows if headers["ce_type"] == "deadline.passed"]
    return [(value["cafe_id"], date.fromisoformat(value["date"])) for value in values]


async def until_somebody_waits_for_a_lock(clients: Clients) -> None:
    """Wait until a transaction cannot go on before another has ended."""
    query = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with clients.db() as session:
                if await session.scalar(query):
                    return
            await asyncio.sleep(POLL_S)


async def test_a_deadline_that_has_passed_is_announced(clients: Clients) -> None:
    """Everybody is told of the cafe and the date."""
    cafe = await add_scheduled(clients)

    assert await announce_passed(clients, CLOSING) == 1

    assert await announced(clients) == [(cafe.id, THURSDAY)]


async def test_a_day_is_closed_when_its_deadline_is_announced(clients: Clients) -> None:
    """That it was announced, and when, is known ever after."""
    cafe = await add_scheduled(clients)

    await announce_passed(clients, CLOSING + MINUTE)

    async with clients.db() as session:
        day = await session.get_one(DeliveryDay, (cafe.id, THURSDAY))
    assert day.announced_at == CLOSING + MINUTE


async def test_a_deadline_is_not_announced_before_its_time(clients: Clients) -> None:
    """A second earlier one can still order."""
    await add_scheduled(clients)

    assert await announce_passed(clients, CLOSING - timedelta(seconds=1)) == 0


async def test_a_deadline_is_announced_once(clients: Clients) -> None:
    """Whoever looks again finds it done."""
    await add_scheduled(clients)
    await announce_passed(clients, CLOSING)

    assert await announce_passed(clients, CLOSING + MINUTE) == 0

    assert await event_types(clients) == ["deadline.passed"]


@pytest.mark.parametrize(("late", "found"), [(DAY - MINUTE, 1), (DAY + MINUTE, 0)])
async def test_what_passed_while_nothing_ran_is_announced(clients: Clients, late: timedelta, found: int) -> None:
    """A deadline that was missed is made up for, up to a day later: after that the lunch is eaten."""
    await add_scheduled(clients)

    assert await announce_passed(clients, CLOSING + late) == found


async def test_what_was_missed_is_announced_in_its_order(clients: Clients) -> None:
    """The deadline that was first is announced first."""
    late = await add_scheduled(clients, at=time(10, 30))
    early = await add_scheduled(clients, "Green Fork", at=time(9))

    await announce_passed(clients, CLOSING + HOUR)

    assert await announced(clients) == [(early.id, THURSDAY), (late.id, THURSDAY)]


@pytest.mark.parametrize("fields", [{"is_enabled": False}, {"delivery": THURSDAY + DAY}])
async def test_a_day_without_a_deadline_is_not_announced(clients: Clients, fields: dict[str, object]) -> None:
    """Where there is no delivery there is nothing to announce."""
    await add_scheduled(clients, **fields)  # type: ignore[arg-type]

    assert await announce_passed(clients, CLOSING) == 0


@pytest.mark.parametrize("advance_days", [0, 3, 14])
async def test_a_deadline_may_be_days_ahead(clients: Clients, advance_days: int) -> None:
    """The deadline falls on the day that the cafe wants, and is told with the date of delivery."""
    delivery = WEDNESDAY + timedelta(days=advance_days)
    cafe = await add_scheduled(clients, delivery=delivery, advance_days=advance_days)

    await announce_passed(clients, CLOSING)

    assert await announced(clients) == [(cafe.id, delivery)]


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
    "the first minute of a day that has not begun in UTC": (
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
async def test_clocks_that_change(clients: Clients, timezone: str, day: date, at: time, passes: str) -> None:
    """A deadline passes at the cafe's own time, once, whatever its clocks do."""
    cafe = await add_scheduled(clients, timezone=timezone, delivery=day + DAY, at=at)
    passed = datetime.fromisoformat(passes)

    assert await announce_passed(clients, passed - MINUTE) == 0
    assert await announce_passed(clients, passed) == 1
    for hours in range(1, 4):
        assert await announce_passed(clients, passed + hours * HOUR) == 0

    assert await announced(clients) == [(cafe.id, day + DAY)]


async def test_orders_are_confirmed(clients: Clients, user: Context, manager: Context) -> None:
    """When the deadline is announced the orders of that cafe and date are what they are."""
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


async def test_an_order_that_races_the_deadline_is_in_it(clients: Clients, user: Context) -> None:
    """Who announces waits for the order that is being written, and confirms it."""
    lunch = await add_lunch(clients)
    closing = datetime.combine(lunch.open_date - DAY, time(10, 30), UTC)
    placed = await orders.place_order(user, lunch.cafe.id, lunch.open_date, {**lunch.meal, "notes": "old"})
    async with clients.db() as session:
        await deadlines.lock_day(user, session, await cafes.found(session, lunch.cafe.id), lunch.open_date)
        announcing = asyncio.create_task(announce_passed(clients, closing))
        await until_somebody_waits_for_a_lock(clients)
        order = await session.get_one(Order, placed.id)
        order.notes = "new"
    await announcing

    async with clients.db() as session:
        order = await session.get_one(Order, placed.id)
    assert (order.status, order.notes) == (OrderStatus.CONFIRMED, "new")


async def test_two_workers_at_once_announce_once(clients: Clients) -> None:
    """The day's row lets one of them announce."""
    for index in range(5):
        cafe = await add_scheduled(clients, f"Cafe {index}")
        async with clients.db() as session:
            session.add(DeliveryDay(cafe_id=cafe.id, date=THURSDAY))

    counts = await asyncio.gather(*(announce_passed(clients, CLOSING) for _ in range(4)))

    assert sum(counts) == 5
    assert len(set(await announced(clients))) == len(await announced(clients)) == 5


async def test_a_worker_that_dies_leaves_the_others_to_the_next(clients: Clients) -> None:
    """What was announced is announced for good, what was not is announced a minute later, and nothing twice."""
    first, second, third = [await add_scheduled(clients, f"Cafe {index}") for index in range(3)]
    async with clients.db() as session:
        session.add(DeliveryDay(cafe_id=second.id, date=THURSDAY))
    async with clients.db() as session:
        await session.get_one(DeliveryDay, (second.id, THURSDAY), with_for_update=True)
        dying = asyncio.create_task(announce_passed(clients, CLOSING))
        await until_somebody_waits_for_a_lock(clients)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        before = await announced(clients)

    assert await announce_passed(clients, CLOSING + MINUTE) == 2

    assert before == [(first.id, THURSDAY)]
    assert await announced(clients) == [(cafe.id, THURSDAY) for cafe in (first, second, third)]


async def test_what_was_announced_by_hand_is_not_announced_again(clients: Clients, manager: Context) -> None:
    """A day that a manager has closed early stays closed."""
    cafe = await add_scheduled(clients)
    await deadlines.announce_deadline(manager, cafe.id, THURSDAY)

    assert await announce_passed(clients, CLOSING) == 0

    assert await event_types(clients) == ["deadline.passed"]


async def test_a_deadline_that_is_moved_after_it_passed_is_not_announced_again(clients: Clients) -> None:
    """A schedule that changes afterwards does not open the day again."""
    await add_scheduled(clients)
    await announce_passed(clients, CLOSING)
    async with clients.db() as session:
        await session.execute(sa.update(Deadline).values(deadline_time=time(12)))

    assert await announce_passed(clients, CLOSING + 2 * HOUR) == 0


async def add_kitchen(clients: Clients, chat: Chat, name: str = "Basil & Thyme") -> Cafe:
    """A cafe whose orders go to a chat, with a deadline at `CLOSING`."""
    return await add_scheduled(clients, name, tg_chat_id=chat.id, linked_at=CLOSING - DAY)


async def chat_of(clients: Clients, cafe: Cafe) -> int | None:
    async with clients.db() as session:
        return (await session.get_one(Cafe, cafe.id)).tg_chat_id


async def unlinkings(clients: Clients) -> list[tuple[int, str]]:
    """The cafes that were unlinked, and why, as events tell it."""
    async with clients.db() as session:
        rows = await session.execute(sa.select(Outbox.c.headers, Outbox.c.payload).order_by(Outbox.c.id))
        values = [orjson.loads(payload) for headers, payload in rows if headers["ce_type"] == "cafe.unlinked"]
    return [(value["id"], value["reason"]) for value in values]


async def was_checked(clients: Clients, cafe: Cafe) -> bool:
    async with clients.db() as session:
        day = await session.get(DeliveryDay, (cafe.id, THURSDAY))
        return day is not None and day.chat_checked_at is not None


@pytest.mark.parametrize("kind", ["group", "person"])
async def test_a_chat_that_can_be_reached_stays(clients: Clients, world: World, kind: str) -> None:
    """If all is well nobody hears of it."""
    chat = world.group() if kind == "group" else world.person()
    cafe = await add_kitchen(clients, chat)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await was_checked(clients, cafe)
    assert await chat_of(clients, cafe) == chat.id
    assert await event_types(clients) == []
    assert chat.messages == {}


@pytest.mark.parametrize(("kind", "membership"), [("group", "left"), ("group", "kicked"), ("person", "kicked")])
async def test_a_chat_that_cannot_be_reached_is_unlinked(
    clients: Clients, world: World, kind: str, membership: Membership
) -> None:
    """A group that the bot has left, or a person who has blocked it, is found before the deadline."""
    chat = world.group() if kind == "group" else world.person()
    chat.membership = membership
    cafe = await add_kitchen(clients, chat)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await chat_of(clients, cafe) is None
    assert await unlinkings(clients) == [(cafe.id, UnlinkReason.CHAT_GONE)]


async def test_a_chat_that_telegram_does_not_know_is_unlinked(clients: Clients, world: World) -> None:
    """A chat that is not there any more cannot be told either."""
    cafe = await add_kitchen(clients, Chat(-404, "group", "Nowhere"))

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await unlinkings(clients) == [(cafe.id, UnlinkReason.CHAT_GONE)]


@pytest.mark.parametrize(
    "kind",
    [FailureKind.RATE_LIMIT, FailureKind.SERVER_ERROR, FailureKind.BAD_GATEWAY, FailureKind.DROP_BEFORE],
)
async def test_while_telegram_is_away_chats_stay(clients: Clients, world: World, kind: FailureKind) -> None:
    """A check that has found nothing out is made again the next minute."""
    chat = world.group()
    cafe = await add_kitchen(clients, chat)
    world.fail(kind, method="getChat")

    await check_chats(clients, world.bot, CLOSING - HOUR)
    after_one, checked = await chat_of(clients, cafe), await was_checked(clients, cafe)
    await check_chats(clients, world.bot, CLOSING - HOUR + MINUTE)

    assert (after_one, checked) == (chat.id, False)
    assert await was_checked(clients, cafe)


async def test_where_telegram_cannot_be_reached_chats_stay(clients: Clients, world: World) -> None:
    """That we have no connection says nothing about a chat."""
    chat = world.group()
    cafe = await add_kitchen(clients, chat)
    async with make_bot(TOKEN, f"http://127.0.0.1:{free_port()}").context() as bot:
        await check_chats(clients, bot, CLOSING - HOUR)

    assert await chat_of(clients, cafe) == chat.id
    assert not await was_checked(clients, cafe)


async def test_a_chat_is_looked_after_once(clients: Clients, world: World) -> None:
    """Once it is known that a chat can be reached, nobody asks again before the deadline."""
    chat = world.group()
    cafe = await add_kitchen(clients, chat)
    await check_chats(clients, world.bot, CLOSING - HOUR)
    chat.membership = "left"

    await check_chats(clients, world.bot, CLOSING - HOUR + MINUTE)

    assert await chat_of(clients, cafe) == chat.id


@pytest.mark.parametrize("now", [CLOSING - HOUR - MINUTE, CLOSING, CLOSING + MINUTE])
async def test_chats_are_looked_after_in_the_hour_before(clients: Clients, world: World, now: datetime) -> None:
    """Not earlier, as much may still change; and not later, as the orders themselves will tell."""
    cafe = await add_kitchen(clients, world.group())

    await check_chats(clients, world.bot, now)

    assert not await was_checked(clients, cafe)


@pytest.mark.parametrize("state", [{"is_active": False}, {"notifications_enabled": False}])
async def test_chats_that_are_not_told_are_not_looked_after(
    clients: Clients, world: World, state: dict[str, object]
) -> None:
    """Where no orders will go, it does not matter whether they could."""
    chat = world.group()
    chat.membership = "left"
    cafe = await add_kitchen(clients, chat)
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(**state))

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await chat_of(clients, cafe) == chat.id


async def test_a_day_that_is_closed_already_is_not_looked_after(
    clients: Clients, manager: Context, world: World
) -> None:
    """After an early announcement there is nothing to look forward to."""
    cafe = await add_kitchen(clients, world.group())
    await deadlines.announce_deadline(manager, cafe.id, THURSDAY)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert not await was_checked(clients, cafe)


async def test_a_group_that_has_moved_is_followed(clients: Clients, world: World) -> None:
    """A group that has become a supergroup is found before the deadline, and its cafe goes with it."""
    new_id = world.state.free_id("supergroup")
    world.state.failures.add(Failure(method="getChat", kind=FailureKind.MIGRATE, migrate_to_chat_id=new_id))
    group = world.state.add_chat(Chat(world.state.free_id("group"), "group", "Kitchen"))
    cafe = await add_kitchen(clients, group)

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await chat_of(clients, cafe) == new_id
    assert await was_checked(clients, cafe)


async def test_one_chat_does_not_keep_others_from_being_looked_after(clients: Clients, world: World) -> None:
    """Among many chats those that fail are dealt with one by one."""
    chats = [world.group() for _ in range(7)]
    kitchens = [await add_kitchen(clients, chat, f"Cafe {index}") for index, chat in enumerate(chats)]
    chats[1].membership = "left"
    world.state.failures.add(Failure(method="getChat", chat_id=chats[2].id, kind=FailureKind.DROP_BEFORE))

    await check_chats(clients, world.bot, CLOSING - HOUR)

    assert await unlinkings(clients) == [(kitchens[1].id, UnlinkReason.CHAT_GONE)]
    assert [await was_checked(clients, kitchen) for kitchen in kitchens] == [index != 2 for index in range(7)]


async def test_two_workers_at_once_unlink_once(clients: Clients, world: World) -> None:
    """Managers are told once of a chat that is gone."""
    chat = world.group()
    chat.membership = "left"
    cafe = await add_kitchen(clients, chat)

    await asyncio.gather(*(check_chats(clients, world.bot, CLOSING - HOUR) for _ in range(3)))

    assert await unlinkings(clients) == [(cafe.id, UnlinkReason.CHAT_GONE)]


SENT_AT = CLOSING + MINUTE
CHAT = -1001


@pytest.fixture
async def kitchen(clients: Clients) -> Cafe:
    return await add_cafe(clients, tg_chat_id=CHAT, linked_at=CLOSING - DAY)


async def add_sent(
    clients: Clients,
    kitchen: Cafe,
    *,
    version: int = 1,
    status: NotificationStatus = NotificationStatus.SENT,
    sent_at: datetime | None = SENT_AT,
) -> Notification:
    """What a kitchen was told about Thursday."""
    kind = NotificationKind.ORDERS if version == 1 else NotificationKind.CORRECTION
    async with clients.db() as session:
        told = Notification(
            cafe_id=kitchen.id,
            kind=kind,
            date=THURSDAY,
            version=version,
            tg_chat_id=CHAT,
            parts=["soup"],
            status=status,
            sent_at=sent_at,
        )
        session.add(told)
    return told


async def reminders(clients: Clients) -> list[tuple[NotificationKind, int, int]]:
    """Kind, version and chat of what was queued to remind somebody."""
    async with clients.db() as session:
        found = await session.scalars(
            select(Notification)
            .where(col(Notification.kind).in_([NotificationKind.REMINDER, NotificationKind.ALERT]))
            .order_by(col(Notification.id))
        )
        return [(told.kind, told.version, told.tg_chat_id) for told in found]


TO_KITCHEN, TO_MANAGERS = (NotificationKind.REMINDER, 1, CHAT), (NotificationKind.ALERT, 1, MANAGERS)


@pytest.mark.parametrize(
    ("after", "reminded"),
    [
        (PATIENCE - MINUTE, []),
        (PATIENCE, [TO_KITCHEN]),
        (2 * PATIENCE - MINUTE, [TO_KITCHEN]),
        (2 * PATIENCE, [TO_KITCHEN, TO_MANAGERS]),
    ],
)
async def test_who_is_reminded_when(
    clients: Clients, kitchen: Cafe, after: timedelta, reminded: list[tuple[NotificationKind, int, int]]
) -> None:
    """The kitchen after a while, the managers after twice that, and nobody before."""
    await add_sent(clients, kitchen)

    await remind(clients, SENT_AT + after)

    assert await reminders(clients) == reminded


async def test_nobody_is_reminded_twice(clients: Clients, kitchen: Cafe) -> None:
    """Who looks each minute reminds once, and alerts once."""
    await add_sent(clients, kitchen)

    for minutes in range(0, 90, 5):
        await remind(clients, SENT_AT + minutes * MINUTE)

    assert await reminders(clients) == [TO_KITCHEN, TO_MANAGERS]


async def test_two_workers_at_once_remind_once(clients: Clients, kitchen: Cafe) -> None:
    """Rows that somebody else has in hand are left to them."""
    await add_sent(clients, kitchen)

    await asyncio.gather(*(remind(clients, SENT_AT + 2 * PATIENCE) for _ in range(4)))

    assert await reminders(clients) == [TO_KITCHEN, TO_MANAGERS]


async def test_what_is_read_is_not_reminded_of(clients: Clients, anybody: Context, kitchen: Cafe) -> None:
    """Somebody has pressed the button: all is well."""
    told = await add_sent(clients, kitchen)
    await notifications.acknowledge(anybody, told.id, CHAT, "Anna")

    await remind(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == []


async def test_what_is_read_after_the_reminder_is_no_alert(clients: Clients, anybody: Context, kitchen: Cafe) -> None:
    """A kitchen that reacts to the reminder is not reported."""
    told = await add_sent(clients, kitchen)
    await remind(clients, SENT_AT + PATIENCE)
    await notifications.acknowledge(anybody, told.id, CHAT, "Anna")

    await remind(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == [TO_KITCHEN]


async def test_who_has_read_a_later_version_is_not_reminded(clients: Clients, anybody: Context, kitchen: Cafe) -> None:
    """A kitchen that has marked the correction as received knows of the list above it."""
    await add_sent(clients, kitchen)
    later = await add_sent(clients, kitchen, version=2, sent_at=SENT_AT + MINUTE)
    await notifications.acknowledge(anybody, later.id, CHAT, "Anna")

    await remind(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == []


async def test_who_has_read_an_earlier_version_is_reminded(clients: Clients, anybody: Context, kitchen: Cafe) -> None:
    """Of a correction that nobody has read the kitchen is reminded, though it has read the list."""
    first = await add_sent(clients, kitchen)
    await add_sent(clients, kitchen, version=2)
    await notifications.acknowledge(anybody, first.id, CHAT, "Anna")

    await remind(clients, SENT_AT + PATIENCE)

    assert await reminders(clients) == [(NotificationKind.REMINDER, 2, CHAT)]


@pytest.mark.parametrize("status", [NotificationStatus.QUEUED, NotificationStatus.SENDING, NotificationStatus.FAILED])
async def test_what_has_not_arrived_is_not_reminded_of(
    clients: Clients, kitchen: Cafe, status: NotificationStatus
) -> None:
    """Nobody can read what was not sent; that it was not is told to the managers otherwise."""
    await add_sent(clients, kitchen, status=status, sent_at=None)

    await remind(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == []


async def test_lunch_that_is_eaten_is_not_reminded_of(clients: Clients, kitchen: Cafe) -> None:
    """After a day without a worker nobody is bothered with what is over."""
    await add_sent(clients, kitchen)

    await remind(clients, SENT_AT + DAY + 3 * PATIENCE)

    assert await reminders(clients) == []


async def test_a_chat_that_is_unlinked_is_not_reminded(clients: Clients, manager: Context, kitchen: Cafe) -> None:
    """A chat that is no cafe's any more is left in peace; managers have to know all the same."""
    await add_sent(clients, kitchen)
    await links.unlink(manager, kitchen.id)

    await remind(clients, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == [TO_MANAGERS]


async def test_a_former_chat_is_not_reminded(clients: Clients, kitchen: Cafe) -> None:
    """Nor is a chat whose cafe has another one by now."""
    await add_sent(clients, kitchen)
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(tg_chat_id=-1002))

    await remind(clients, SENT_AT + PATIENCE)

    assert await reminders(clients) == []


async def test_a_reminder_is_in_the_kitchens_language(clients: Clients) -> None:
    """It says of which date the orders are."""
    kitchen = await add_cafe(clients, tg_chat_id=CHAT, linked_at=CLOSING - DAY, language="ru")
    await add_sent(clients, kitchen)

    await remind(clients, SENT_AT + PATIENCE)

    async with clients.db() as session:
        parts = await session.scalar(select(Notification.parts).where(Notification.kind == NotificationKind.REMINDER))
    assert parts == [texts.reminder("2026-03-05", "ru")]


async def test_without_a_managers_chat_nobody_is_alerted(settings: Settings, clients: Clients, kitchen: Cafe) -> None:
    """Where managers have no chat the log has to do."""
    await add_sent(clients, kitchen)
    alone = replace(clients, settings=settings.model_copy(update={"telegram_manager_chat_id": None}))

    await remind(alone, SENT_AT + 2 * PATIENCE)

    assert await reminders(clients) == [TO_KITCHEN]


async def test_a_kitchen_that_heard_nothing_is_told_late(clients: Clients, user: Context, lunch: Lunch) -> None:
    """The event of a deadline may be lost: the list is made all the same, once."""
    async with clients.db() as session:
        cafe = await session.get_one(Cafe, lunch.cafe.id)
        cafe.tg_chat_id, cafe.linked_at = CHAT, CLOSING
    await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    now = datetime.now(UTC)
    async with clients.db() as session:
        await deadlines.close_day(session, lunch.cafe.id, lunch.open_date, now - timedelta(hours=1))

    for _ in range(2):
        await tell_forgotten(clients, now)

    async with clients.db() as session:
        told = list(await session.scalars(select(Notification)))
    assert [(row.kind, row.tg_chat_id) for row in told] == [(NotificationKind.ORDERS, CHAT)]


async def test_managers_hear_of_orders_that_nobody_can_be_told(clients: Clients, user: Context, lunch: Lunch) -> None:
    """A cafe without a chat cannot be told; the managers are, once, and the cafe when it has one."""
    await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    now = datetime.now(UTC)
    async with clients.db() as session:
        await deadlines.close_day(session, lunch.cafe.id, lunch.open_date, now - timedelta(hours=1))
    for _ in range(2):
        await tell_forgotten(clients, now)
    async with clients.db() as session:
        cafe = await session.get_one(Cafe, lunch.cafe.id)
        cafe.tg_chat_id, cafe.linked_at = CHAT, CLOSING

    await tell_forgotten(clients, now)

    async with clients.db() as session:
        told = list(await session.scalars(select(Notification).order_by(col(Notification.id))))
    assert [(row.kind, row.tg_chat_id) for row in told] == [
        (NotificationKind.ALERT, MANAGERS),
        (NotificationKind.ORDERS, CHAT),
    ]
