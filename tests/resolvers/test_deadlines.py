"""Deadlines, the availability of ordering, and the closing of a day."""

import asyncio
import datetime as dt
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.auth.context import Context
from app.clients import Clients
from app.errors import BadInput, Forbidden, NotFound, Unauthenticated
from app.models import Cafe, Deadline, DeadlineInput, DeliveryDay, Notification, NotificationKind
from app.resolvers import cafes, deadlines, orders
from app.services.deadlines import Availability, Refusal
from app.settings import Settings
from app.telegram import notification_texts
from tests.conftest import Lunch, add_cafe, add_lunch
from tests.ordering import BEFORE, CLOSES_AT, DATE, at, change, close

WEDNESDAY = 2
MICROSECOND = dt.timedelta(microseconds=1)
DAY, WEEK = dt.timedelta(days=1), dt.timedelta(weeks=1)
MANAGERS = -1009


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a managers' chat."""
    return settings.model_copy(update={"telegram_manager_chat_id": MANAGERS})


def deadline(weekday: int, hour: int = 9, advance_days: int = 1, *, is_enabled: bool = True) -> DeadlineInput:
    """A deadline; its values may be invalid."""
    return DeadlineInput.collect(
        weekday=weekday, deadline_time=dt.time(hour), advance_days=advance_days, is_enabled=is_enabled
    )


async def schedule_of(ctx: Context, cafe: Cafe) -> list[tuple[int, dt.time, int, bool]]:
    """Return a cafe's deadlines as rows."""
    return [
        (found.weekday, found.deadline_time, found.advance_days, found.is_enabled)
        for found in (await deadlines.list_deadlines(ctx, [cafe.id]))[0]
    ]


async def orders_without_delivery(ctx: Context, cafe: Cafe) -> list[tuple[dt.date, int]]:
    """Return the days with their numbers of orders."""
    [days] = await deadlines.list_orders_without_delivery(ctx, [cafe.id])
    return [(day.date, day.orders_count) for day in days]


async def alerts(clients: Clients) -> list[str]:
    """Return the texts of the alerts to the managers' chat."""
    async with clients.db() as session:
        query = select(Notification).where(Notification.kind == NotificationKind.ALERT)
        return [alert.text for alert in await session.scalars(query) if alert.tg_chat_id == MANAGERS]


async def test_new_deadlines_replace_the_old_ones(manager: Context, lunch: Lunch) -> None:
    """New deadlines replace all deadlines of a cafe. They are listed Monday first."""
    await deadlines.set_deadlines(
        manager, lunch.cafe.id, [deadline(4, 8, 0), deadline(0, 9, 14), deadline(2, is_enabled=False)]
    )

    assert await schedule_of(manager, lunch.cafe) == [
        (0, dt.time(9), 14, True),
        (2, dt.time(9), 1, False),
        (4, dt.time(8), 0, True),
    ]


async def test_a_cafe_may_have_no_deadlines(manager: Context, lunch: Lunch) -> None:
    """A cafe may have no deadlines."""
    await deadlines.set_deadlines(manager, lunch.cafe.id, [])

    assert await schedule_of(manager, lunch.cafe) == []


REMOVED = {
    "no delivery on that weekday": [deadline(weekday) for weekday in range(7) if weekday != WEDNESDAY],
    "a disabled weekday": [deadline(weekday, is_enabled=weekday != WEDNESDAY) for weekday in range(7)],
    "no delivery at all": [],
}


@pytest.mark.parametrize("week", REMOVED.values(), ids=REMOVED)
async def test_managers_see_the_orders_of_a_removed_weekday(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, week: list[DeadlineInput]
) -> None:
    """When a weekday is removed, the managers' chat gets one alert with its days and numbers of orders."""
    for date in (DATE, DATE + WEEK):
        await orders.place_order(at(user, BEFORE), lunch.cafe.id, date, lunch.meal)
    await orders.place_order(at(manager, BEFORE), lunch.cafe.id, DATE, lunch.meal)

    await deadlines.set_deadlines(at(manager, BEFORE), lunch.cafe.id, week)

    assert await orders_without_delivery(at(manager, BEFORE), lunch.cafe) == [(DATE, 2), (DATE + WEEK, 1)]
    assert await alerts(clients) == [
        notification_texts.orders_without_delivery(lunch.cafe, days=[(DATE, 2), (DATE + WEEK, 1)], locale="en")
    ]


async def test_orders_that_are_not_lost_make_no_alert(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """Cancelled orders, announced days, days that are over and days with a new deadline need no manager."""
    cancelled = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch.meal)
    await orders.cancel_order(at(user, BEFORE), cancelled.id)
    await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE + WEEK, lunch.meal)
    await close(clients, lunch.cafe, DATE + WEEK, BEFORE)
    await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE + 2 * WEEK + DAY, lunch.meal)
    await orders.place_order(at(manager, BEFORE), lunch.cafe.id, (BEFORE - DAY).date(), lunch.meal)

    await deadlines.set_deadlines(at(manager, BEFORE), lunch.cafe.id, [deadline(WEDNESDAY + 1, 23, 0)])

    assert await orders_without_delivery(at(manager, BEFORE), lunch.cafe) == []
    assert await alerts(clients) == []


async def test_an_unchanged_week_makes_no_second_alert(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """Orders of a removed weekday stay visible; they make an alert when it is removed, not with each new week."""
    await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch.meal)

    for week in ([], [deadline(0)], []):
        await deadlines.set_deadlines(at(manager, BEFORE), lunch.cafe.id, week)

    assert await orders_without_delivery(at(manager, BEFORE), lunch.cafe) == [(DATE, 1)]
    assert len(await alerts(clients)) == 1


async def test_today_is_the_cafes(clients: Clients, user: Context, manager: Context) -> None:
    """Orders without delivery are shown until the day is over in the time zone of the cafe."""
    lunch = await add_lunch(clients, timezone="America/New_York")
    await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch.meal)
    await deadlines.set_deadlines(at(manager, BEFORE), lunch.cafe.id, [])
    midnight = dt.datetime(2026, 6, 11, 4, tzinfo=dt.UTC)

    assert await orders_without_delivery(at(manager, midnight - MICROSECOND), lunch.cafe) == [(DATE, 1)]
    assert await orders_without_delivery(at(manager, midnight), lunch.cafe) == []


async def test_deadlines_are_listed_by_cafe(clients: Clients, manager: Context, lunch: Lunch, cafe: Cafe) -> None:
    """The deadlines of several cafes come in the order of the given ids, also for a cafe without any."""
    other = await add_lunch(clients)

    found = await deadlines.list_deadlines(manager, [other.cafe.id, cafe.id, lunch.cafe.id])

    assert [[row.cafe_id for row in week] for week in found] == [[other.cafe.id] * 7, [], [lunch.cafe.id] * 7]


@pytest.mark.parametrize(
    "week",
    [
        [deadline(-1)],
        [deadline(7)],
        [deadline(0, advance_days=-1)],
        [deadline(0, advance_days=15)],
        [deadline(0), deadline(0)],
        [deadline(0), DeadlineInput.collect(weekday=1, deadline_time=dt.time(9, tzinfo=dt.UTC))],
    ],
    ids=["weekday -1", "weekday 7", "advance days -1", "advance days 15", "twice", "an offset"],
)
async def test_one_wrong_deadline_changes_nothing(
    manager: Context, lunch: Lunch, week: Sequence[DeadlineInput]
) -> None:
    """If one deadline is wrong, all deadlines stay as they are."""
    before = await schedule_of(manager, lunch.cafe)

    with pytest.raises(BadInput) as refused:
        await deadlines.set_deadlines(manager, lunch.cafe.id, week)

    assert refused.value.field == "deadlines"
    assert await schedule_of(manager, lunch.cafe) == before


async def test_every_wrong_deadline_is_named(manager: Context, lunch: Lunch) -> None:
    """One error names every wrong value of the deadlines."""
    week = [deadline(7), deadline(0), deadline(1, advance_days=15)]

    with pytest.raises(BadInput) as refused:
        await deadlines.set_deadlines(manager, lunch.cafe.id, week)

    assert [(problem.field, problem.detail.partition(":")[0]) for problem in refused.value.problems] == [
        ("deadlines", "[0].weekday"),
        ("deadlines", "[2].advance_days"),
    ]


async def test_a_user_with_a_wrong_deadline_is_forbidden(user: Context, anonymous: Context, lunch: Lunch) -> None:
    """The caller is authorized before the deadlines are validated."""
    for ctx, refusal in ((user, Forbidden), (anonymous, Unauthenticated)):
        with pytest.raises(refusal):
            await deadlines.set_deadlines(ctx, lunch.cafe.id, [deadline(7)])


async def test_simultaneous_schedules_are_not_mixed(manager: Context, lunch: Lunch) -> None:
    """Of two simultaneous schedules of a cafe, one remains as a whole."""
    early, late = (
        [(weekday, dt.time(hour), 1, True) for weekday in days] for hour, days in ((8, range(5)), (11, (0,)))
    )

    for _ in range(5):
        await asyncio.gather(
            *(
                deadlines.set_deadlines(manager, lunch.cafe.id, [deadline(row[0], row[1].hour) for row in week])
                for week in (early, late)
            )
        )
        assert await schedule_of(manager, lunch.cafe) in (early, late)


async def test_an_unknown_cafe_is_not_found(manager: Context) -> None:
    """The deadlines of an unknown cafe can be neither read nor set."""
    for operation in (
        deadlines.set_deadlines(manager, 999, []),
        deadlines.get_order_availability(manager, 999, DATE),
        deadlines.list_order_week(manager, 999),
    ):
        with pytest.raises(NotFound):
            await operation


async def test_only_managers_see_and_set_deadlines(user: Context, anonymous: Context, lunch: Lunch) -> None:
    """Users and callers without a token may neither read nor set deadlines."""
    for ctx, refusal in ((user, Forbidden), (anonymous, Unauthenticated)):
        with pytest.raises(refusal):
            await deadlines.list_deadlines(ctx, [lunch.cafe.id])
        with pytest.raises(refusal):
            await deadlines.list_orders_without_delivery(ctx, [lunch.cafe.id])
        with pytest.raises(refusal):
            await deadlines.set_deadlines(ctx, lunch.cafe.id, [])


async def test_an_open_day_has_the_seconds_left(user: Context, lunch: Lunch) -> None:
    """Before the deadline a day is open, with the whole seconds that are left."""
    now = CLOSES_AT - dt.timedelta(seconds=90, milliseconds=500)

    assert await deadlines.get_order_availability(at(user, now), lunch.cafe.id, DATE) == Availability(
        lunch.cafe.id, DATE, CLOSES_AT, seconds_left=90, refusal=None
    )


@pytest.mark.parametrize(("early", "seconds_left"), [(MICROSECOND, 0), (dt.timedelta(0), None), (-MICROSECOND, None)])
async def test_ordering_closes_at_the_deadline(
    user: Context, lunch: Lunch, early: dt.timedelta, seconds_left: int | None
) -> None:
    """A day is open until a microsecond before the deadline, and closed at the deadline."""
    day = await deadlines.get_order_availability(at(user, CLOSES_AT - early), lunch.cafe.id, DATE)

    assert (day.can_order, day.seconds_left) == (seconds_left is not None, seconds_left)
    assert day.refusal is (None if day.can_order else Refusal.DEADLINE_PASSED)
    assert day.closes_at == CLOSES_AT


async def test_the_deadline_is_local_to_the_cafe(clients: Clients, user: Context) -> None:
    """A deadline at 10:30 in Auckland is at 22:30 of the evening before in UTC."""
    lunch = await add_lunch(clients, timezone="Pacific/Auckland")

    day = await deadlines.get_order_availability(at(user, BEFORE), lunch.cafe.id, DATE)

    assert day.closes_at == dt.datetime(2026, 6, 8, 22, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize("week", [[deadline(1), deadline(3)], [deadline(WEDNESDAY, is_enabled=False)]])
async def test_a_weekday_without_an_enabled_deadline_has_no_delivery(
    user: Context, manager: Context, lunch: Lunch, week: list[DeadlineInput]
) -> None:
    """A weekday with no deadline, or with a disabled one, has no delivery."""
    await deadlines.set_deadlines(manager, lunch.cafe.id, week)

    assert await deadlines.get_order_availability(at(user, BEFORE), lunch.cafe.id, DATE) == Availability(
        lunch.cafe.id, DATE, closes_at=None, seconds_left=None, refusal=Refusal.NO_DELIVERY
    )


async def test_a_deactivated_cafe_takes_no_orders(user: Context, manager: Context, lunch: Lunch) -> None:
    """A deactivated cafe takes no orders; the availability has the reason and the deadline."""
    await cafes.set_cafe_status(manager, lunch.cafe.id, is_active=False)

    assert await deadlines.get_order_availability(at(user, BEFORE), lunch.cafe.id, DATE) == Availability(
        lunch.cafe.id, DATE, CLOSES_AT, seconds_left=None, refusal=Refusal.CAFE_DEACTIVATED
    )


async def test_users_order_at_most_ninety_days_ahead(clients: Clients, user: Context) -> None:
    """The 90 days are counted from the cafe's today, which begins at noon UTC in Auckland."""
    lunch = await add_lunch(clients, timezone="Pacific/Auckland")
    last = dt.date(2026, 6, 9) + dt.timedelta(days=90)
    midnight = dt.datetime(2026, 6, 9, 12, tzinfo=dt.UTC)

    async def refusal(date: dt.date, now: dt.datetime) -> Refusal | None:
        return (await deadlines.get_order_availability(at(user, now), lunch.cafe.id, date)).refusal

    assert await refusal(last, midnight - MICROSECOND) is None
    assert await refusal(last + dt.timedelta(days=1), midnight - MICROSECOND) is Refusal.TOO_FAR_AHEAD
    assert await refusal(last + dt.timedelta(days=1), midnight) is None


@pytest.mark.parametrize("date", [dt.date(1999, 12, 31), dt.date(2100, 1, 1), dt.date.min, dt.date.max])
async def test_a_date_of_another_century_is_refused(user: Context, lunch: Lunch, date: dt.date) -> None:
    """A date outside this century is refused, because its year is mistyped."""
    with pytest.raises(BadInput) as refused:
        await deadlines.get_order_availability(user, lunch.cafe.id, date)

    assert refused.value.field == "date"


@pytest.mark.parametrize(
    ("unavailable", "refusal"),
    [
        ([], None),
        (["light"], None),
        (["light", "soup"], None),
        (["light", "soup", "other_soup"], Refusal.NOTHING_ON_THE_MENU),
        (["light", "main"], Refusal.NOTHING_ON_THE_MENU),
        (["light", "combo"], Refusal.NOTHING_ON_THE_MENU),
        (["combo"], None),
        (["combo", "salad"], Refusal.NOTHING_ON_THE_MENU),
        (["soup", "other_soup", "main"], None),
        (["cola", "cake"], None),
    ],
    ids=lambda names: " ".join(names) if isinstance(names, list) else "",
)
async def test_a_menu_needs_a_combo_with_its_dishes(
    clients: Clients, user: Context, lunch: Lunch, unavailable: list[str], refusal: Refusal | None
) -> None:
    """Ordering is possible if an available combo has an available dish of each of its categories."""
    for name in unavailable:
        await change(clients, getattr(lunch, name), is_available=False)

    day = await deadlines.get_order_availability(at(user, BEFORE), lunch.cafe.id, DATE)

    assert (day.refusal, day.seconds_left) == (refusal, None if refusal else 86400)


async def test_another_cafes_menu_does_not_count(clients: Clients, user: Context, manager: Context) -> None:
    """The menu of another cafe does not make ordering possible."""
    await add_lunch(clients)
    empty = await add_cafe(clients, "Empty")
    await deadlines.set_deadlines(manager, empty.id, [deadline(WEDNESDAY)])

    day = await deadlines.get_order_availability(at(user, BEFORE), empty.id, DATE)

    assert day.refusal is Refusal.NOTHING_ON_THE_MENU


async def test_the_week_begins_with_the_cafes_today(clients: Clients, user: Context) -> None:
    """The week begins with the cafe's today: at noon UTC it is Tuesday in Auckland, but Monday in New York."""
    now = dt.datetime(2026, 6, 8, 12, tzinfo=dt.UTC)
    for timezone, today in (("Pacific/Auckland", dt.date(2026, 6, 9)), ("America/New_York", dt.date(2026, 6, 8))):
        lunch = await add_lunch(clients, timezone=timezone)

        week = await deadlines.list_order_week(at(user, now), lunch.cafe.id)

        assert [day.date for day in week] == [today + dt.timedelta(days=days) for days in range(7)]


async def test_the_week_equals_its_single_days(clients: Clients, user: Context, manager: Context, lunch: Lunch) -> None:
    """The availability of a day is the same in the week and alone."""
    ctx = at(user, dt.datetime(2026, 6, 8, 12, tzinfo=dt.UTC))
    await deadlines.set_deadlines(manager, lunch.cafe.id, [deadline(weekday) for weekday in (0, 1, 2, 4)])
    await close(clients, lunch.cafe, DATE, ctx.now())

    week = await deadlines.list_order_week(ctx, lunch.cafe.id)

    assert week == [await deadlines.get_order_availability(ctx, lunch.cafe.id, day.date) for day in week]
    assert [day.refusal for day in week] == [
        Refusal.DEADLINE_PASSED,  # Monday: the deadline was yesterday
        Refusal.DEADLINE_PASSED,  # Tuesday: the deadline was this morning
        Refusal.DEADLINE_PASSED,  # Wednesday: it is announced
        Refusal.NO_DELIVERY,
        None,
        Refusal.NO_DELIVERY,
        Refusal.NO_DELIVERY,
    ]


@pytest.mark.parametrize("week", [[], [deadline(WEDNESDAY, 23, 0)]], ids=["no delivery", "later"])
async def test_an_announced_day_stays_closed(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, week: list[DeadlineInput]
) -> None:
    """A change of the schedule neither opens an announced day nor changes its closing time."""
    announced_at = CLOSES_AT - dt.timedelta(hours=3)
    await close(clients, lunch.cafe, DATE, announced_at)
    await deadlines.set_deadlines(manager, lunch.cafe.id, week)

    assert await deadlines.get_order_availability(at(user, BEFORE), lunch.cafe.id, DATE) == Availability(
        lunch.cafe.id, DATE, announced_at, seconds_left=None, refusal=Refusal.DEADLINE_PASSED, announced_at=announced_at
    )


async def test_a_day_is_closed_once(clients: Clients, lunch: Lunch) -> None:
    """Of several simultaneous and later calls, one closes the day, and its time stays."""
    async with clients.db() as session:
        session.add(DeliveryDay(cafe_id=lunch.cafe.id, date=DATE))

    closed = await asyncio.gather(*(close(clients, lunch.cafe, DATE, CLOSES_AT) for _ in range(8)))

    assert sorted(closed) == [False] * 7 + [True]
    assert not await close(clients, lunch.cafe, DATE, CLOSES_AT + dt.timedelta(hours=1))
    async with clients.db() as session:
        assert (await session.get_one(DeliveryDay, (lunch.cafe.id, DATE))).announced_at == CLOSES_AT


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ({"weekday": 7}, "deadlines_weekday_check"),
        ({"weekday": -1}, "deadlines_weekday_check"),
        ({"advance_days": 15}, "deadlines_advance_days_check"),
        ({"weekday": 0}, "deadlines_pkey"),
    ],
)
async def test_the_database_refuses_an_impossible_deadline(
    clients: Clients, lunch: Lunch, wrong: dict[str, int], check: str
) -> None:
    """The database refuses an eighth day, a second Monday, and a deadline three weeks ahead."""
    async with clients.db() as session:
        await session.execute(sa.delete(Deadline).where(col(Deadline.weekday) > 0))
        with pytest.raises(sa.exc.IntegrityError, match=check):
            await session.execute(
                sa.insert(Deadline).values(
                    {"cafe_id": lunch.cafe.id, "weekday": 3, "deadline_time": dt.time(9)} | wrong
                )
            )
        await session.rollback()
