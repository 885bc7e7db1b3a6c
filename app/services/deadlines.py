"""Deadlines: whether ordering for a date is open, and how a day closes."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import ForUpdateArg
from sqlmodel import col, select

from app.events.outbox import record
from app.events.types import DeadlinePassed
from app.models import Cafe, Combo, Deadline, DeliveryDay, MenuItem, Order, OrderStatus
from app.models.deadlines import ADVANCE_DAYS_MAX
from app.services.failures import contain_failure
from app.services.rows import FOR_SHARE, FOR_UPDATE, get_row

DAYS_AHEAD_MAX = 90
"""How many days ahead users may order: no cafe knows its menu beyond that."""

OLDEST_DEADLINE = dt.timedelta(days=ADVANCE_DAYS_MAX + 2)
"""How long ago the deadline of a day that is not over may be: the day itself, and a day for the time zones."""

MISSED_WITHIN = dt.timedelta(hours=24)
"""How old the deadline of a day that is over may be. A deadline just before midnight passes when its day is over."""


class Refusal(StrEnum):
    """Why ordering is not possible."""

    CAFE_DEACTIVATED = "cafe_deactivated"
    NO_DELIVERY = "no_delivery"
    DEADLINE_PASSED = "deadline_passed"
    TOO_FAR_AHEAD = "too_far_ahead"
    NOTHING_ON_THE_MENU = "nothing_on_the_menu"


@dataclass(frozen=True)
class Availability:
    """Whether ordering from a cafe for a date is possible.

    Args:
        closes_at: When ordering closes or closed; None if there is no delivery on that date.
        seconds_left: Whole seconds until then; None if ordering is not possible.
        refusal: Why ordering is not possible; None if it is.
        announced_at: When the day was announced to the cafe; None if it was not yet.
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
        return self.announced_at is not None


@dataclass(frozen=True)
class Closing:
    """The deadline of a cafe for a delivery date."""

    cafe_id: int
    date: dt.date
    closes_at: dt.datetime


@dataclass(frozen=True)
class OrdersWithoutDelivery:
    """The orders of a cafe for a date on which it does not deliver any more."""

    cafe_id: int
    date: dt.date
    orders_count: int


async def find_availabilities(
    session: AsyncSession, cafe: Cafe, dates: Sequence[dt.date], now: dt.datetime
) -> list[Availability]:
    """Find out for each date whether ordering is possible."""
    schedule = await _schedule(session, cafe.id)
    announced: dict[dt.date, dt.datetime | None] = {
        day.date: day.announced_at
        for day in await session.scalars(
            select(DeliveryDay).where(DeliveryDay.cafe_id == cafe.id, col(DeliveryDay.date).in_(dates))
        )
    }
    has_menu = await session.scalar(sa.select(_has_menu(cafe.id)))
    found = [_availability(cafe, date, schedule.get(date.weekday()), announced.get(date), now) for date in dates]
    if has_menu:
        return found
    return [
        replace(day, seconds_left=None, refusal=Refusal.NOTHING_ON_THE_MENU) if day.can_order else day for day in found
    ]


async def lock_day(session: AsyncSession, cafe_id: int, date: dt.date, lock: ForUpdateArg = FOR_SHARE) -> DeliveryDay:
    """Keep others from announcing the day until the caller's transaction ends.

    Take the time after this call. Then an order of the caller is part of the announcement, or the caller sees that the
    day is announced.
    """
    await session.execute(insert(DeliveryDay).values(cafe_id=cafe_id, date=date).on_conflict_do_nothing())
    return await get_row(session, DeliveryDay, (cafe_id, date), lock=lock)


async def locked_availability(session: AsyncSession, cafe: Cafe, day: DeliveryDay, now: dt.datetime) -> Availability:
    """Find out whether ordering for a locked day is possible."""
    schedule = await _schedule(session, cafe.id)
    return _availability(cafe, day.date, schedule.get(day.date.weekday()), day.announced_at, now)


def closed_since(cafe: Cafe, availability: Availability, now: dt.datetime) -> dt.datetime | None:
    """Return when changes by users closed; None if they are open.

    A date without a deadline closes when it begins: users may have ordered for it while it had a deadline.
    """
    midnight = dt.datetime.combine(availability.date, dt.time(), ZoneInfo(cafe.timezone))
    closes_at = availability.closes_at or midnight.astimezone(dt.UTC)
    return closes_at if availability.is_announced or closes_at <= now else None


async def close_day(session: AsyncSession, cafe_id: int, date: dt.date, at: dt.datetime) -> bool:
    """Close ordering for good and confirm the orders. Return False if the day was closed before.

    It waits for orders that are being written. Later orders find the day closed.
    """
    day = await lock_day(session, cafe_id, date, FOR_UPDATE)
    if day.announced_at is not None:
        return False
    day.announced_at = at
    await session.execute(
        sa.update(Order)
        .where(col(Order.cafe_id) == cafe_id, col(Order.date) == date, col(Order.status) == OrderStatus.PENDING)
        .values(status=OrderStatus.CONFIRMED)
    )
    return True


async def pass_deadline(session: AsyncSession, cafe_id: int, date: dt.date, at: dt.datetime) -> bool:
    """Close the day and publish it. Return False if the day was closed before."""
    closed = await close_day(session, cafe_id, date, at)
    if closed:
        await record(session, DeadlinePassed(cafe_id=cafe_id, date=date, timestamp=at))
    return closed


async def find_closings(
    session: AsyncSession, begin: dt.datetime, end: dt.datetime, cafe_id: int | None = None
) -> list[Closing]:
    """Find the deadlines after `begin` and not after `end`, the earliest first, without announced days.

    Two statements, for any number of cafes.
    """
    return await _not_announced(session, [closing for closing, _ in await _scheduled(session, begin, end, cafe_id)])


async def find_passed(session: AsyncSession, now: dt.datetime) -> list[Closing]:
    """Find the deadlines that have passed, the earliest first, of days that are neither announced nor over.

    It does not matter how long ago they passed: no worker ran, or the week or the cafe's time zone has changed. A day
    that is over counts for a while (see `MISSED_WITHIN`). Two statements, for any number of cafes.
    """
    return await _not_announced(
        session,
        [
            closing
            for closing, timezone in await _scheduled(session, now - OLDEST_DEADLINE, now)
            if closing.date >= today_in(timezone, now) or closing.closes_at > now - MISSED_WITHIN
        ],
    )


async def find_orders_without_delivery(
    session: AsyncSession, cafe_ids: Collection[int], now: dt.datetime
) -> list[OrdersWithoutDelivery]:
    """Find days from today on that have orders, but no enabled deadline, the earliest first, without announced days.

    Their weekday was taken out of the week, so no deadline will announce them. One statement, for any number of cafes.
    """
    delivers = sa.exists().where(
        col(Deadline.cafe_id) == Order.cafe_id,
        col(Deadline.weekday) == sa.func.extract("isodow", col(Order.date)) - 1,
        col(Deadline.is_enabled),
    )
    is_announced = sa.exists().where(
        col(DeliveryDay.cafe_id) == Order.cafe_id,
        col(DeliveryDay.date) == Order.date,
        col(DeliveryDay.announced_at).is_not(None),
    )
    day = col(Order.cafe_id), col(Order.date), col(Cafe.timezone)
    query = (
        sa.select(*day, sa.func.count())
        .join_from(Order, Cafe)
        .where(
            col(Order.cafe_id).in_(cafe_ids),
            col(Order.date) >= earliest_today(now),
            col(Order.status) != OrderStatus.CANCELLED,
            ~delivers,
            ~is_announced,
        )
        .group_by(*day)
        .order_by(col(Order.date), col(Order.cafe_id))
    )
    return [
        OrdersWithoutDelivery(cafe_id, date, orders_count)
        for cafe_id, date, timezone, orders_count in await session.execute(query)
        if date >= today_in(timezone, now)
    ]


async def _scheduled(
    session: AsyncSession, begin: dt.datetime, end: dt.datetime, cafe_id: int | None = None
) -> list[tuple[Closing, str]]:
    """Find the deadlines after `begin` and not after `end`, with the time zones of their cafes.

    A cafe whose time zone does not exist any more is left out.
    """
    query = select(Deadline, Cafe.timezone).join(Cafe).where(Deadline.is_enabled).order_by(col(Deadline.cafe_id))
    rows = await session.execute(query if cafe_id is None else query.where(Cafe.id == cafe_id))
    found: list[tuple[Closing, str]] = []
    for cafe, schedule in groupby(rows, lambda row: row[0].cafe_id):
        with contain_failure("cafe.skipped", cafe=cafe):
            found += [
                (Closing(cafe, date, closes_at), timezone)
                for deadline, timezone in schedule
                for date in _dates_between(deadline, ZoneInfo(timezone), begin, end)
                if begin < (closes_at := deadline.closes_at(date, timezone)) <= end
            ]
    return found


async def _not_announced(session: AsyncSession, closings: Sequence[Closing]) -> list[Closing]:
    """Leave out announced days, and sort by time."""
    dates = [closing.date for closing in closings]
    announced = sa.select(col(DeliveryDay.cafe_id), col(DeliveryDay.date)).where(
        col(DeliveryDay.date).between(min(dates, default=None), max(dates, default=None)),
        col(DeliveryDay.announced_at).is_not(None),
    )
    done = {(cafe_id, date) for cafe_id, date in await session.execute(announced)} if closings else set()
    return sorted(
        (closing for closing in closings if (closing.cafe_id, closing.date) not in done),
        key=lambda closing: (closing.closes_at, closing.cafe_id),
    )


def today_in(timezone: str, now: dt.datetime) -> dt.date:
    """Return the date in a time zone."""
    return now.astimezone(ZoneInfo(timezone)).date()


def earliest_today(now: dt.datetime) -> dt.date:
    """Return the date in the time zone where it is earliest.

    It is for statements: PostgreSQL need not know all time zones that Python knows.
    """
    return now.astimezone(dt.UTC).date() - dt.timedelta(days=1)


def _dates_between(deadline: Deadline, zone: ZoneInfo, begin: dt.datetime, end: dt.datetime) -> list[dt.date]:
    """Return the delivery dates whose deadline is on a day from `begin` to `end`."""
    first, last = begin.astimezone(zone).date(), end.astimezone(zone).date()
    days = (first + dt.timedelta(days=days + deadline.advance_days) for days in range((last - first).days + 1))
    return [date for date in days if date.weekday() == deadline.weekday]


async def _schedule(session: AsyncSession, cafe_id: int) -> Mapping[int, Deadline]:
    enabled = select(Deadline).where(Deadline.cafe_id == cafe_id, Deadline.is_enabled)
    return {deadline.weekday: deadline for deadline in await session.scalars(enabled)}


def _availability(
    cafe: Cafe, date: dt.date, deadline: Deadline | None, announced_at: dt.datetime | None, now: dt.datetime
) -> Availability:
    """An announced day stays closed, even if the schedule has changed since."""
    closes_at = announced_at
    if closes_at is None and deadline is not None:
        closes_at = deadline.closes_at(date, cafe.timezone)
    refusal = None
    if closes_at is None:
        refusal = Refusal.NO_DELIVERY
    elif announced_at is not None or closes_at <= now:
        refusal = Refusal.DEADLINE_PASSED
    elif not cafe.is_active:
        refusal = Refusal.CAFE_DEACTIVATED
    elif date > today_in(cafe.timezone, now) + dt.timedelta(days=DAYS_AHEAD_MAX):
        refusal = Refusal.TOO_FAR_AHEAD
    seconds_left = int((closes_at - now).total_seconds()) if closes_at is not None and refusal is None else None
    return Availability(cafe.id, date, closes_at, seconds_left, refusal, announced_at)


def _has_menu(cafe_id: int) -> sa.ColumnElement[bool]:
    """Whether there is an available combo with an available dish of each of its categories."""
    available = (
        sa.select(sa.func.array_agg(col(MenuItem.category).distinct()))
        .where(col(MenuItem.cafe_id) == cafe_id, col(MenuItem.is_available))
        .scalar_subquery()
    )
    return sa.exists().where(
        col(Combo.cafe_id) == cafe_id,
        col(Combo.is_available),
        col(Combo.categories).op("<@", is_comparison=True)(available),
    )
