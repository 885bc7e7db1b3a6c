"""Until when one may order: each cafe's schedule, and what follows from it for a date."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app import errors
from app.auth import allow
from app.context import Context
from app.errors import BadInput
from app.events.log import record
from app.events.messages import DeadlinePassed
from app.models import Cafe, Combo, Deadline, DeliveryDay, MenuItem, Order, OrderStatus, Role
from app.models.deadlines import ADVANCE_DAYS_MAX, DAYS_OF_A_WEEK
from app.resolvers import cafes
from app.resolvers.inputs import checked_date
from app.resolvers.paging import SortOrder
from app.resolvers.removal import KEEP

BY_WEEKDAY: SortOrder[Deadline] = SortOrder(
    "deadlines", (col(Deadline.weekday),), (int,), lambda deadline: (deadline.weekday,)
)

BY_DATE: "SortOrder[Availability]" = SortOrder("availabilities", (), (dt.date,), lambda day: (day.date,))
"""Of a list that is in memory, so without columns."""

DAYS_AHEAD_MAX = 90
"""How far ahead one may order: nobody knows a menu beyond that."""


class Refusal(StrEnum):
    """Why one cannot order."""

    CAFE_SWITCHED_OFF = "cafe_switched_off"
    NO_DELIVERY = "no_delivery"
    DEADLINE_PASSED = "deadline_passed"
    TOO_FAR_AHEAD = "too_far_ahead"
    NOTHING_ON_THE_MENU = "nothing_on_the_menu"


@dataclass(frozen=True)
class Availability:
    """Whether one can order from a cafe for a date.

    Args:
        closes_at: When ordering closes or closed; None if there is no delivery on that date.
        seconds_left: How long one can still order, in whole seconds; None if one cannot.
        refusal: Why one cannot; None if one can.
        announced_at: When the deadline was announced to the cafe; None if it was not yet.
    """

    cafe_id: int
    date: dt.date
    closes_at: dt.datetime | None
    seconds_left: int | None
    refusal: Refusal | None
    announced_at: dt.datetime | None = None

    @property
    def can_order(self) -> bool:
        return self.refusal is None

    @property
    def is_announced(self) -> bool:
        """Whether the cafe was told, or is being told, what to cook."""
        return self.announced_at is not None


@allow(Role.MANAGER)
async def deadlines(ctx: Context, cafe_ids: Sequence[int]) -> list[Sequence[Deadline]]:
    """A cafe's deadlines, one for each weekday of delivery, Monday first.

    Many cafes' are one statement.
    """
    query = select(Deadline).where(col(Deadline.cafe_id).in_(cafe_ids)).order_by(*BY_WEEKDAY.sorted())
    async with ctx.clients.db() as session:
        return cafes.by_cafe(cafe_ids, await session.scalars(query))


@allow(Role.MANAGER)
async def set_deadlines(ctx: Context, cafe_id: int, week: Sequence[Deadline]) -> Cafe:
    """Replace a cafe's deadlines by these. A weekday that is not among them has no delivery.

    Of two who do so at once, the second to lock the cafe replaces what the first has set.

    Raises BadInput, NotFound.
    """
    _check_week(week)
    async with ctx.clients.db() as session:
        cafe = await cafes.found(session, cafe_id, lock=True)
        await session.execute(sa.delete(Deadline).where(col(Deadline.cafe_id) == cafe_id))
        for deadline in week:
            deadline.cafe_id = cafe_id
        session.add_all(week)
        return cafe


@allow(Role.USER)
async def order_availability(ctx: Context, cafe_id: int, date: dt.date) -> Availability:
    """Whether one can order from a cafe for a date: until when, how long still, or why not.

    Raises BadInput, NotFound.
    """
    checked_date("date", date)
    async with ctx.clients.db() as session:
        cafe = await cafes.found(session, cafe_id)
        return (await _availabilities(session, cafe, [date], ctx.now()))[0]


@allow(Role.USER)
async def order_week(ctx: Context, cafe_id: int) -> list[Availability]:
    """Whether one can order from a cafe for each of the seven days that begin with its today.

    Raises NotFound.
    """
    async with ctx.clients.db() as session:
        cafe = await cafes.found(session, cafe_id)
        today = ctx.now().astimezone(ZoneInfo(cafe.timezone)).date()
        days = [today + dt.timedelta(days=days) for days in range(DAYS_OF_A_WEEK)]
        return await _availabilities(session, cafe, days, ctx.now())


async def lock_day(ctx: Context, session: AsyncSession, cafe: Cafe, date: dt.date) -> Availability:
    """Keep the deadline of `cafe` and `date` from being announced until the caller's transaction ends.

    The clock is looked at when the lock is held. So what the caller writes is there when the deadline is announced, or
    the caller sees that it was.

    Raises DeadlinePassed for all but managers.
    """
    await session.execute(insert(DeliveryDay).values(cafe_id=cafe.id, date=date).on_conflict_do_nothing())
    day = await session.get_one(DeliveryDay, (cafe.id, date), with_for_update={"read": True})
    schedule = await _schedule(session, cafe.id)
    availability = _availability(cafe, date, schedule.get(date.weekday()), day.announced_at, ctx.now())
    closed_at = availability.closes_at or _begin_of(date, cafe)
    is_closed = availability.is_announced or closed_at <= ctx.now()
    if is_closed and not ctx.viewer.is_manager:
        raise errors.DeadlinePassed(closed_at)
    return availability


def _begin_of(date: dt.date, cafe: Cafe) -> dt.datetime:
    """When a day without a deadline is over for those who have ordered for it while it had one: as soon as it begins."""
    return dt.datetime.combine(date, dt.time(), ZoneInfo(cafe.timezone)).astimezone(dt.UTC)


async def close_day(session: AsyncSession, cafe_id: int, date: dt.date, at: dt.datetime) -> bool:
    """Close ordering for good and confirm the orders, unless that was done before: say whether it was done now.

    It waits for orders that are being written, and those that come later find the day closed.
    """
    await session.execute(insert(DeliveryDay).values(cafe_id=cafe_id, date=date).on_conflict_do_nothing())
    day = await session.get_one(DeliveryDay, (cafe_id, date), with_for_update=True)
    if day.announced_at is not None:
        return False
    day.announced_at = at
    await session.execute(
        sa.update(Order)
        .where(col(Order.cafe_id) == cafe_id, col(Order.date) == date, col(Order.status) == OrderStatus.PENDING)
        .values(status=OrderStatus.CONFIRMED)
    )
    return True


@allow(Role.MANAGER)
async def announce_deadline(ctx: Context, cafe_id: int, date: dt.date) -> bool:
    """Close ordering from a cafe for a date now, and send it its orders. False if that was done before.

    Raises BadInput, NotFound.
    """
    checked_date("date", date)
    async with ctx.clients.db() as session:
        await cafes.found(session, cafe_id, lock=KEEP)
        return await pass_deadline(session, cafe_id, date, ctx.now())


async def pass_deadline(session: AsyncSession, cafe_id: int, date: dt.date, at: dt.datetime) -> bool:
    """Close ordering and tell everybody so, unless that was done before: say whether it was done now."""
    closed = await close_day(session, cafe_id, date, at)
    if closed:
        await record(session, DeadlinePassed.of(cafe_id, date, at))
    return closed


@dataclass(frozen=True)
class Closing:
    """A deadline of a cafe: for which date, and when."""

    cafe_id: int
    date: dt.date
    closes_at: dt.datetime


async def closing_between(
    session: AsyncSession, begin: dt.datetime, end: dt.datetime, cafe_id: int | None = None
) -> list[Closing]:
    """Find the deadlines after `begin` and not after `end`, the earliest first: two statements, however many cafes.

    Those that were announced already are left out.
    """
    query = select(Deadline, Cafe.timezone).join(Cafe).where(Deadline.is_enabled)
    schedule = await session.execute(query if cafe_id is None else query.where(Cafe.id == cafe_id))
    found = [
        Closing(deadline.cafe_id, date, closes_at)
        for deadline, timezone in schedule
        for date in _dates_between(deadline, ZoneInfo(timezone), begin, end)
        if begin < (closes_at := deadline.closes_at(date, timezone)) <= end
    ]
    dates = [closing.date for closing in found]
    announced = select(DeliveryDay).where(
        col(DeliveryDay.date).between(min(dates, default=None), max(dates, default=None)),
        col(DeliveryDay.announced_at).is_not(None),
    )
    done = {(day.cafe_id, day.date) for day in await session.scalars(announced)} if found else set()
    return sorted(
        (closing for closing in found if (closing.cafe_id, closing.date) not in done),
        key=lambda closing: (closing.closes_at, closing.cafe_id),
    )


def _dates_between(deadline: Deadline, zone: ZoneInfo, begin: dt.datetime, end: dt.datetime) -> list[dt.date]:
    """Return the dates of delivery whose deadline falls on a day from `begin` to `end`."""
    first, last = begin.astimezone(zone).date(), end.astimezone(zone).date()
    days = (first + dt.timedelta(days=days + deadline.advance_days) for days in range((last - first).days + 1))
    return [date for date in days if date.weekday() == deadline.weekday]


async def _availabilities(
    session: AsyncSession, cafe: Cafe, dates: Sequence[dt.date], now: dt.datetime
) -> list[Availability]:
    schedule = await _schedule(session, cafe.id)
    announced: dict[dt.date, dt.datetime | None] = {
        day.date: day.announced_at
        for day in await session.scalars(
            select(DeliveryDay).where(DeliveryDay.cafe_id == cafe.id, col(DeliveryDay.date).in_(dates))
        )
    }
    has_menu = await session.scalar(sa.select(_something_to_order(cafe.id)))
    found = [_availability(cafe, date, schedule.get(date.weekday()), announced.get(date), now) for date in dates]
    if has_menu:
        return found
    return [
        replace(day, seconds_left=None, refusal=Refusal.NOTHING_ON_THE_MENU) if day.can_order else day for day in found
    ]


async def _schedule(session: AsyncSession, cafe_id: int) -> Mapping[int, Deadline]:
    enabled = select(Deadline).where(Deadline.cafe_id == cafe_id, Deadline.is_enabled)
    return {deadline.weekday: deadline for deadline in await session.scalars(enabled)}


def _availability(
    cafe: Cafe, date: dt.date, deadline: Deadline | None, announced_at: dt.datetime | None, now: dt.datetime
) -> Availability:
    """Work out whether one can order. A deadline that was announced stays so, whatever the schedule says since."""
    closes_at = announced_at
    if closes_at is None and deadline is not None:
        closes_at = deadline.closes_at(date, cafe.timezone)
    refusal = None
    if closes_at is None:
        refusal = Refusal.NO_DELIVERY
    elif announced_at is not None or closes_at <= now:
        refusal = Refusal.DEADLINE_PASSED
    elif not cafe.is_active:
        refusal = Refusal.CAFE_SWITCHED_OFF
    elif date > now.astimezone(ZoneInfo(cafe.timezone)).date() + dt.timedelta(days=DAYS_AHEAD_MAX):
        refusal = Refusal.TOO_FAR_AHEAD
    seconds_left = int((closes_at - now).total_seconds()) if closes_at is not None and refusal is None else None
    return Availability(cafe.id, date, closes_at, seconds_left, refusal, announced_at)


def _something_to_order(cafe_id: int) -> sa.ColumnElement[bool]:
    """There is an available combo with an available dish of each of its categories."""
    there = (
        sa.select(sa.func.array_agg(col(MenuItem.category).distinct()))
        .where(col(MenuItem.cafe_id) == cafe_id, col(MenuItem.is_available))
        .scalar_subquery()
    )
    return sa.exists().where(
        col(Combo.cafe_id) == cafe_id,
        col(Combo.is_available),
        col(Combo.categories).op("<@", is_comparison=True)(there),
    )


def _check_week(week: Sequence[Deadline]) -> None:
    for deadline in week:
        if not 0 <= deadline.weekday < DAYS_OF_A_WEEK:
            raise BadInput("deadlines", "a weekday must be from 0, Monday, to 6, Sunday")
        if not 0 <= deadline.advance_days <= ADVANCE_DAYS_MAX:
            raise BadInput("deadlines", f"the days in advance must be from 0 to {ADVANCE_DAYS_MAX}")
        if deadline.deadline_time.tzinfo is not None:
            raise BadInput("deadlines", "a time is local to the cafe and has no offset")
    if len({deadline.weekday for deadline in week}) < len(week):
        raise BadInput("deadlines", "no weekday may be there twice")
