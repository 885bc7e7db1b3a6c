"""Until when one may order, whatever the schedule, the clock and the cafe say; and closing a day for good."""

import asyncio
import datetime as dt
from collections.abc import Sequence

import pytest
import sqlalchemy as sa
from sqlmodel import col

from app.clients import Clients
from app.context import Context
from app.errors import BadInput, Forbidden, NotFound, Unauthenticated
from app.models import Cafe, Deadline, DeliveryDay
from app.resolvers import cafes, deadlines
from app.resolvers.deadlines import Availability, Refusal
from tests.conftest import Lunch, add_cafe, add_lunch
from tests.resolvers.ordering import BEFORE, CLOSES_AT, DATE, at, change, close

WEDNESDAY = 2
MICROSECOND = dt.timedelta(microseconds=1)


def deadline(weekday: int, hour: int = 9, advance_days: int = 1, *, is_enabled: bool = True) -> Deadline:
    time = dt.time(hour)
    return Deadline(weekday=weekday, deadline_time=time, advance_days=advance_days, is_enabled=is_enabled)


async def schedule_of(ctx: Context, cafe: Cafe) -> list[tuple[int, dt.time, int, bool]]:
    """A cafe's week as rows."""
    return [
        (it.weekday, it.deadline_time, it.advance_days, it.is_enabled)
        for it in (await deadlines.deadlines(ctx, [cafe.id]))[0]
    ]


async def test_a_week_replaces_the_week_before(manager: Context, lunch: Lunch) -> None:
    """What is set is the whole week: Monday first, and other weekdays have no deadline any more."""
    await deadlines.set_deadlines(
        manager, lunch.cafe.id, [deadline(4, 8, 0), deadline(0, 9, 14), deadline(2, is_enabled=False)]
    )

    assert await schedule_of(manager, lunch.cafe) == [
        (0, dt.time(9), 14, True),
        (2, dt.time(9), 1, False),
        (4, dt.time(8), 0, True),
    ]


async def test_an_empty_week_ends_deliveries(manager: Context, lunch: Lunch) -> None:
    """A cafe may have no deadline at all."""
    await deadlines.set_deadlines(manager, lunch.cafe.id, [])

    assert await schedule_of(manager, lunch.cafe) == []


async def test_the_deadlines_of_many_cafes_come_in_their_order(
    clients: Clients, manager: Context, lunch: Lunch, cafe: Cafe
) -> None:
    """Each cafe gets its own, also one that has none."""
    other = await add_lunch(clients)

    found = await deadlines.deadlines(manager, [other.cafe.id, cafe.id, lunch.cafe.id])

    assert [[it.cafe_id for it in week] for week in found] == [[other.cafe.id] * 7, [], [lunch.cafe.id] * 7]


@pytest.mark.parametrize(
    "week",
    [
        [deadline(-1)],
        [deadline(7)],
        [deadline(0, advance_days=-1)],
        [deadline(0, advance_days=15)],
        [deadline(0), deadline(0)],
        [deadline(0), Deadline(weekday=1, deadline_time=dt.time(9, tzinfo=dt.UTC))],
    ],
    ids=["weekday -1", "weekday 7", "advance days -1", "advance days 15", "twice", "an offset"],
)
async def test_a_bad_week_changes_nothing(manager: Context, lunch: Lunch, week: Sequence[Deadline]) -> None:
    """A week is taken as a whole, or not at all."""
    before = await schedule_of(manager, lunch.cafe)

    with pytest.raises(BadInput) as refused:
        await deadlines.set_deadlines(manager, lunch.cafe.id, week)

    assert refused.value.field == "deadlines"
    assert await schedule_of(manager, lunch.cafe) == before


async def test_of_two_weeks_at_once_one_is_left_as_a_whole(manager: Context, lunch: Lunch) -> None:
    """Two managers who set the week at once do not mix theirs."""
    early, late = (
        [(weekday, dt.time(hour), 1, True) for weekday in days] for hour, days in ((8, range(5)), (11, (0,)))
    )

    for _ in range(5):
        await asyncio.gather(
            *(
                deadlines.set_deadlines(manager, lunch.cafe.id, [deadline(it[0], it[1].hour) for it in week])
                for week in (early, late)
            )
        )
        assert await schedule_of(manager, lunch.cafe) in (early, late)


async def test_an_unknown_cafe_is_not_found(manager: Context) -> None:
    """One cannot ask for the deadlines of a cafe that is not there, nor set them."""
    for asked in (
        deadlines.set_deadlines(manager, 999, []),
        deadlines.order_availability(manager, 999, DATE),
        deadlines.order_week(manager, 999),
    ):
        with pytest.raises(NotFound):
            await asked


async def test_only_managers_see_and_set_deadlines(user: Context, anybody: Context, lunch: Lunch) -> None:
    """Colleagues are told until when they may order, not how that comes about."""
    for ctx, refusal in ((user, Forbidden), (anybody, Unauthenticated)):
        with pytest.raises(refusal):
            await deadlines.deadlines(ctx, [lunch.cafe.id])
        with pytest.raises(refusal):
            await deadlines.set_deadlines(ctx, lunch.cafe.id, [])


async def test_an_open_day_says_how_long_still(user: Context, lunch: Lunch) -> None:
    """Before the deadline one can order, for so many whole seconds."""
    now = CLOSES_AT - dt.timedelta(seconds=90, milliseconds=500)

    assert await deadlines.order_availability(at(user, now), lunch.cafe.id, DATE) == Availability(
        lunch.cafe.id, DATE, CLOSES_AT, seconds_left=90, refusal=None
    )


@pytest.mark.parametrize(("early", "seconds_left"), [(MICROSECOND, 0), (dt.timedelta(0), None), (-MICROSECOND, None)])
async def test_ordering_closes_at_the_deadline(
    user: Context, lunch: Lunch, early: dt.timedelta, seconds_left: int | None
) -> None:
    """A microsecond before it is open, at the deadline itself closed."""
    day = await deadlines.order_availability(at(user, CLOSES_AT - early), lunch.cafe.id, DATE)

    assert (day.can_order, day.seconds_left) == (seconds_left is not None, seconds_left)
    assert day.refusal is (None if day.can_order else Refusal.DEADLINE_PASSED)
    assert day.closes_at == CLOSES_AT


async def test_the_deadline_is_local_to_the_cafe(clients: Clients, user: Context) -> None:
    """Half past ten in Auckland is half past ten of the evening before in UTC."""
    lunch = await add_lunch(clients, timezone="Pacific/Auckland")

    day = await deadlines.order_availability(at(user, BEFORE), lunch.cafe.id, DATE)

    assert day.closes_at == dt.datetime(2026, 6, 8, 22, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize("week", [[deadline(1), deadline(3)], [deadline(WEDNESDAY, is_enabled=False)]])
async def test_a_weekday_without_an_enabled_deadline_has_no_delivery(
    user: Context, manager: Context, lunch: Lunch, week: list[Deadline]
) -> None:
    """Whether it has none or one that is off, nothing closes and nobody can order."""
    await deadlines.set_deadlines(manager, lunch.cafe.id, week)

    assert await deadlines.order_availability(at(user, BEFORE), lunch.cafe.id, DATE) == Availability(
        lunch.cafe.id, DATE, closes_at=None, seconds_left=None, refusal=Refusal.NO_DELIVERY
    )


async def test_a_switched_off_cafe_takes_no_orders(user: Context, manager: Context, lunch: Lunch) -> None:
    """A cafe that is off says so, and when it would have closed."""
    await cafes.set_cafe_status(manager, lunch.cafe.id, is_active=False)

    assert await deadlines.order_availability(at(user, BEFORE), lunch.cafe.id, DATE) == Availability(
        lunch.cafe.id, DATE, CLOSES_AT, seconds_left=None, refusal=Refusal.CAFE_SWITCHED_OFF
    )


async def test_one_orders_at_most_ninety_days_ahead(clients: Clients, user: Context) -> None:
    """The days are counted from the cafe's today, which in Auckland begins at noon in UTC."""
    lunch = await add_lunch(clients, timezone="Pacific/Auckland")
    last = dt.date(2026, 6, 9) + dt.timedelta(days=90)
    midnight = dt.datetime(2026, 6, 9, 12, tzinfo=dt.UTC)

    async def refusal(date: dt.date, now: dt.datetime) -> Refusal | None:
        return (await deadlines.order_availability(at(user, now), lunch.cafe.id, date)).refusal

    assert await refusal(last, midnight - MICROSECOND) is None
    assert await refusal(last + dt.timedelta(days=1), midnight - MICROSECOND) is Refusal.TOO_FAR_AHEAD
    assert await refusal(last + dt.timedelta(days=1), midnight) is None


@pytest.mark.parametrize("date", [dt.date(1999, 12, 31), dt.date(2100, 1, 1), dt.date.min, dt.date.max])
async def test_a_date_of_another_century_is_refused(user: Context, lunch: Lunch, date: dt.date) -> None:
    """Somebody has mistyped the year."""
    with pytest.raises(BadInput) as refused:
        await deadlines.order_availability(user, lunch.cafe.id, date)

    assert refused.value.field == "date"


@pytest.mark.parametrize(
    ("off", "refusal"),
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
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
async def test_a_menu_needs_a_combo_with_its_dishes(
    clients: Clients, user: Context, lunch: Lunch, off: list[str], refusal: Refusal | None
) -> None:
    """One can order if some available combo has an available dish of each of its categories."""
    for name in off:
        await change(clients, getattr(lunch, name), is_available=False)

    day = await deadlines.order_availability(at(user, BEFORE), lunch.cafe.id, DATE)

    assert (day.refusal, day.seconds_left) == (refusal, None if refusal else 86400)


async def test_another_cafes_menu_does_not_count(clients: Clients, user: Context, manager: Context) -> None:
    """A cafe with deadlines and without a menu has nothing to order, whatever others offer."""
    await add_lunch(clients)
    empty = await add_cafe(clients, "Empty")
    await deadlines.set_deadlines(manager, empty.id, [deadline(WEDNESDAY)])

    day = await deadlines.order_availability(at(user, BEFORE), empty.id, DATE)

    assert day.refusal is Refusal.NOTHING_ON_THE_MENU


async def test_the_week_begins_with_the_cafes_today(clients: Clients, user: Context) -> None:
    """At noon in UTC on Monday it is Tuesday in Auckland, and Monday still in New York."""
    now = dt.datetime(2026, 6, 8, 12, tzinfo=dt.UTC)
    for timezone, today in (("Pacific/Auckland", dt.date(2026, 6, 9)), ("America/New_York", dt.date(2026, 6, 8))):
        lunch = await add_lunch(clients, timezone=timezone)

        week = await deadlines.order_week(at(user, now), lunch.cafe.id)

        assert [day.date for day in week] == [today + dt.timedelta(days=days) for days in range(7)]


async def test_the_days_of_the_week_are_what_each_is_alone(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """The week says of a day what one is told who asks for that day: closed, announced, open or without delivery."""
    ctx = at(user, dt.datetime(2026, 6, 8, 12, tzinfo=dt.UTC))
    await deadlines.set_deadlines(manager, lunch.cafe.id, [deadline(weekday) for weekday in (0, 1, 2, 4)])
    await close(clients, lunch.cafe, DATE, ctx.now())

    week = await deadlines.order_week(ctx, lunch.cafe.id)

    assert week == [await deadlines.order_availability(ctx, lunch.cafe.id, day.date) for day in week]
    assert [day.refusal for day in week] == [
        Refusal.DEADLINE_PASSED,  # Monday: since yesterday
        Refusal.DEADLINE_PASSED,  # Tuesday: since this morning
        Refusal.DEADLINE_PASSED,  # Wednesday: announced
        Refusal.NO_DELIVERY,
        None,
        Refusal.NO_DELIVERY,
        Refusal.NO_DELIVERY,
    ]


@pytest.mark.parametrize("week", [[], [deadline(WEDNESDAY, 23, 0)]], ids=["no delivery any more", "later"])
async def test_an_announced_day_stays_closed(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, week: list[Deadline]
) -> None:
    """Once the cafe was told what to cook, no change of the schedule opens the day again, nor changes when it closed."""
    announced_at = CLOSES_AT - dt.timedelta(hours=3)
    await close(clients, lunch.cafe, DATE, announced_at)
    await deadlines.set_deadlines(manager, lunch.cafe.id, week)

    assert await deadlines.order_availability(at(user, BEFORE), lunch.cafe.id, DATE) == Availability(
        lunch.cafe.id, DATE, announced_at, seconds_left=None, refusal=Refusal.DEADLINE_PASSED, announced_at=announced_at
    )


async def test_a_day_is_closed_once(clients: Clients, lunch: Lunch) -> None:
    """Of many who close a day, at once and later, one is told that it did so; and the first time stays."""
    async with clients.db() as session:
        session.add(DeliveryDay(cafe_id=lunch.cafe.id, date=DATE))

    told = await asyncio.gather(*(close(clients, lunch.cafe, DATE, CLOSES_AT) for _ in range(8)))

    assert sorted(told) == [False] * 7 + [True]
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
async def test_the_database_keeps_a_week(clients: Clients, lunch: Lunch, wrong: dict[str, int], check: str) -> None:
    """Even without our code there is no eighth day, no second Monday, and no deadline three weeks ahead."""
    async with clients.db() as session:
        await session.execute(sa.delete(Deadline).where(col(Deadline.weekday) > 0))
        with pytest.raises(sa.exc.IntegrityError, match=check):
            await session.execute(
                sa.insert(Deadline).values(
                    {"cafe_id": lunch.cafe.id, "weekday": 3, "deadline_time": dt.time(9)} | wrong
                )
            )
        await session.rollback()
