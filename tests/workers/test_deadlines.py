"""Scheduled jobs of deadlines: their announcements, and order lists that were missed."""

import asyncio
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.auth.context import Context
from app.clients import Clients
from app.models import (
    Cafe,
    Deadline,
    DeadlineInput,
    DeliveryDay,
    Notification,
    NotificationKind,
    Order,
    OrderStatus,
    Outbox,
)
from app.resolvers import deadlines, orders
from app.services import deadlines as deadlines_service
from app.settings import Settings
from app.workers.deadlines import announce_missed, announce_passed
from tests.conftest import USER_TGID, Lunch, add_lunch, event_types
from tests.database import until_a_lock_is_awaited
from tests.workers.failures import RefuseRows, failures
from tests.workers.schedule import CHAT, CLOSING, DAY, HOUR, MANAGERS, MINUTE, THURSDAY, WEDNESDAY, add_scheduled


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a managers' chat."""
    return settings.model_copy(update={"telegram_manager_chat_id": MANAGERS})


async def announced_days(clients: Clients) -> list[tuple[int, date]]:
    """Return the cafes and dates of the deadline events that wait for Kafka."""
    async with clients.db() as session:
        rows = await session.execute(sa.select(Outbox.c.headers, Outbox.c.payload).order_by(Outbox.c.id))
        values = [orjson.loads(payload) for headers, payload in rows if headers.get("ce_type") == "deadline.passed"]
    return [(value["cafe_id"], date.fromisoformat(value["date"])) for value in values]


async def announced_by(clients: Clients, now: str) -> list[date]:
    """Run the job, and return all dates that are announced by then."""
    await announce_passed(clients, datetime.fromisoformat(now))
    return [day for _, day in await announced_days(clients)]


async def set_week(manager: Context, cafe: Cafe, deadlines_of_a_day: list[tuple[time, int]]) -> None:
    """Give all weekdays of a cafe this deadline and its days in advance, or none."""
    week = [
        DeadlineInput(weekday=weekday, deadline_time=at, advance_days=advance_days)
        for weekday in range(7)
        for at, advance_days in deadlines_of_a_day
    ]
    await deadlines.set_deadlines(manager, cafe.id, week)


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


NOT_OVER = {
    "the next day": ("UTC", 1, "2026-03-05T23:59Z", 1),
    "the day is over": ("UTC", 1, "2026-03-06T00:00Z", 0),
    "two weeks later": ("UTC", 14, "2026-03-18T23:59Z", 1),
    "two weeks later, and over": ("UTC", 14, "2026-03-19T00:00Z", 0),
    "over in UTC only": ("America/New_York", 3, "2026-03-08T03:59Z", 1),
    "over in the cafe only": ("Pacific/Auckland", 3, "2026-03-07T11:00Z", 0),
    "a day before the clocks go forward": ("Europe/Berlin", 14, "2026-03-18T22:59Z", 1),
}


@pytest.mark.parametrize(("timezone", "advance_days", "now", "announced"), NOT_OVER.values(), ids=NOT_OVER)
async def test_a_missed_deadline_is_announced_until_the_day_is_over(
    clients: Clients, timezone: str, advance_days: int, now: str, announced: int
) -> None:
    """A deadline that passed while no worker ran is announced until the delivery day is over in the cafe's time zone."""
    delivery = WEDNESDAY + advance_days * DAY
    await add_scheduled(clients, timezone=timezone, delivery=delivery, advance_days=advance_days)

    found = [day for day in await announced_by(clients, now) if day == delivery]

    assert len(found) == announced


@pytest.mark.parametrize(("late", "announced"), [(DAY - MINUTE, 1), (DAY + MINUTE, 0)])
async def test_a_deadline_at_the_end_of_its_day_is_announced_within_a_day(
    clients: Clients, late: timedelta, announced: int
) -> None:
    """A deadline in the last minute of the delivery day is announced after midnight, within a day."""
    await add_scheduled(clients, delivery=WEDNESDAY, at=time(23, 59, 30), advance_days=0)

    assert len(await announced_by(clients, str(datetime(2026, 3, 4, 23, 59, 30, tzinfo=UTC) + late))) == announced


WEEKS = {
    "an earlier deadline": [[(time(12), 5)]],
    "no delivery, then an earlier deadline": [[], [(time(9), 4)]],
}


@pytest.mark.parametrize("weeks", WEEKS.values(), ids=WEEKS)
async def test_a_deadline_that_is_moved_to_the_past_is_announced(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, weeks: list[list[tuple[time, int]]]
) -> None:
    """If a new week moves a deadline days back, the next tick announces the day and confirms its orders."""
    await set_week(manager, lunch.cafe, [(time(23, 59), 0)])
    order = await orders.place_order(user, lunch.cafe.id, datetime.now(UTC).date() + 2 * DAY, lunch.meal)
    for week in weeks:
        await set_week(manager, lunch.cafe, week)

    await announce_passed(clients, datetime.now(UTC))

    async with clients.db() as session:
        assert (await session.get_one(Order, order.id)).status is OrderStatus.CONFIRMED
    assert (lunch.cafe.id, order.date) in await announced_days(clients)


async def test_a_deadline_that_a_new_time_zone_moves_to_the_past_is_announced(clients: Clients) -> None:
    """If a cafe moves to a time zone where the deadline passed long ago, the next tick announces the day."""
    delivery = WEDNESDAY + 14 * DAY
    await add_scheduled(clients, timezone="Pacific/Niue", delivery=delivery, advance_days=14)
    before = await announced_by(clients, "2026-03-04T21:00Z")
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).values(timezone="Pacific/Kiritimati"))

    after = await announced_by(clients, "2026-03-04T21:00Z")

    assert (delivery in before, delivery in after) == (False, True)


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

    assert (await announced_days(clients))[-1] == (cafe.id, delivery)


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
        await until_a_lock_is_awaited(clients.engine)
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
        await until_a_lock_is_awaited(clients.engine)
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


@pytest.mark.parametrize(("after_its_end", "kinds"), [(-MINUTE, [NotificationKind.ORDERS]), (timedelta(0), [])])
async def test_a_late_order_list_is_sent_until_the_day_is_over(
    clients: Clients, user: Context, lunch: Lunch, after_its_end: timedelta, kinds: list[NotificationKind]
) -> None:
    """A cafe whose day was closed days ago gets its order list when it has a chat, until the day is over there."""
    await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
    async with clients.db() as session:
        await deadlines_service.close_day(session, lunch.cafe.id, lunch.open_date, datetime.now(UTC) - 2 * DAY)
        cafe = await session.get_one(Cafe, lunch.cafe.id)
        cafe.tg_chat_id, cafe.linked_at, cafe.timezone = CHAT, CLOSING, "America/New_York"
    midnight = datetime.combine(lunch.open_date + DAY, time(), ZoneInfo("America/New_York"))

    await announce_missed(clients, midnight.astimezone(UTC) + after_its_end)

    async with clients.db() as session:
        assert list(await session.scalars(select(Notification.kind))) == kinds


async def add_closed_lunches(clients: Clients, user: Context, number: int, closed_at: datetime) -> list[Lunch]:
    """Add cafes with chats, each with an order for a day that was closed."""
    lunches = [
        await add_lunch(clients, f"Cafe {index}", tg_chat_id=CHAT - index, linked_at=CLOSING) for index in range(number)
    ]
    for lunch in lunches:
        await orders.place_order(user, lunch.cafe.id, lunch.open_date, lunch.meal)
        async with clients.db() as session:
            await deadlines_service.close_day(session, lunch.cafe.id, lunch.open_date, closed_at)
    return lunches


async def test_a_failure_of_one_cafe_does_not_stop_the_order_lists_of_others(
    clients: Clients, user: Context, refuse_rows: RefuseRows
) -> None:
    """If the order list of one cafe fails, the cafes behind it get theirs, and the failure is counted."""
    now = datetime.now(UTC)
    lunches = await add_closed_lunches(clients, user, 3, now - HOUR)
    await refuse_rows(Notification, cafe_id=lunches[0].cafe.id)
    before = failures("orders.not_queued")

    await announce_missed(clients, now)

    async with clients.db() as session:
        assert set(await session.scalars(select(Notification.tg_chat_id))) == {CHAT - 1, CHAT - 2}
    assert failures("orders.not_queued") == before + 1


async def test_a_failure_of_one_cafe_does_not_stop_the_announcements_of_others(
    clients: Clients, refuse_rows: RefuseRows
) -> None:
    """If the announcement of one cafe fails, the cafes behind it are announced."""
    cafes = [await add_scheduled(clients, f"Cafe {number}") for number in range(3)]
    await refuse_rows(DeliveryDay, cafe_id=cafes[0].id)

    assert await announce_passed(clients, CLOSING) == 2

    assert await announced_days(clients) == [(cafe.id, THURSDAY) for cafe in cafes[1:]]


async def test_a_cafe_without_a_time_zone_does_not_stop_the_others(clients: Clients, user: Context) -> None:
    """A cafe whose time zone does not exist any more is left out; the others are announced and get their lists."""
    now = datetime.now(UTC)
    lunches = await add_closed_lunches(clients, user, 2, now - HOUR)
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).where(col(Cafe.id) == lunches[0].cafe.id).values(timezone="Mars/Olympus"))

    await announce_passed(clients, now)
    await announce_missed(clients, now)

    assert {cafe_id for cafe_id, _ in await announced_days(clients)} == {lunches[1].cafe.id}
    async with clients.db() as session:
        assert list(await session.scalars(select(Notification.tg_chat_id))) == [CHAT - 1]
