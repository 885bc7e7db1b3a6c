"""Operations on deadlines and on the availability of ordering."""

import datetime as dt
from collections.abc import Collection, Sequence
from typing import Annotated

import sqlalchemy as sa
from pydantic import AfterValidator
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.auth.access import allow
from app.auth.context import Context
from app.models import Cafe, Deadline, DeadlineInput, Role
from app.models.deadlines import DAYS_PER_WEEK
from app.services.deadlines import (
    Availability,
    OrdersWithoutDelivery,
    find_availabilities,
    find_orders_without_delivery,
    pass_deadline,
    today_in,
)
from app.services.notifications import alert
from app.services.pagination import SortOrder
from app.services.rows import FOR_KEY_SHARE, FOR_UPDATE, get_row, group_by_cafe
from app.telegram import notification_texts
from app.validation import Date

BY_WEEKDAY: SortOrder[Deadline] = SortOrder(
    "deadlines", (col(Deadline.weekday),), (int,), lambda deadline: (deadline.weekday,)
)

BY_DATE: SortOrder[Availability] = SortOrder("availabilities", (), (dt.date,), lambda day: (day.date,))


def _validate_week(deadlines: Sequence[DeadlineInput]) -> Sequence[DeadlineInput]:
    if len({deadline.weekday for deadline in deadlines}) < len(deadlines):
        raise ValueError("each weekday may be there once")
    return deadlines


@allow(Role.MANAGER)
async def list_deadlines(ctx: Context, cafe_ids: Sequence[int]) -> list[Sequence[Deadline]]:
    """A cafe's deadlines, one for each weekday of delivery, Monday first.

    One statement for any number of cafes.
    """
    query = select(Deadline).where(col(Deadline.cafe_id).in_(cafe_ids)).order_by(*BY_WEEKDAY.order_by())
    async with ctx.clients.db() as session:
        return group_by_cafe(cafe_ids, await session.scalars(query))


@allow(Role.MANAGER)
async def set_deadlines(
    ctx: Context, cafe_id: int, deadlines: Annotated[Sequence[DeadlineInput], AfterValidator(_validate_week)]
) -> Cafe:
    """Replace all deadlines of a cafe. A weekday without a deadline has no delivery.

    Of two simultaneous calls, the second to lock the cafe replaces the deadlines of the first. Managers are alerted of
    orders for weekdays that have no delivery any more.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        cafe = await get_row(session, Cafe, cafe_id, lock=FOR_UPDATE)
        old = sa.delete(Deadline).where(col(Deadline.cafe_id) == cafe_id)
        replaced = await session.execute(old.returning(col(Deadline.weekday), col(Deadline.is_enabled)))
        session.add_all(Deadline(cafe_id=cafe_id, **deadline.model_dump()) for deadline in deadlines)
        removed = {weekday for weekday, is_enabled in replaced if is_enabled}
        removed -= {deadline.weekday for deadline in deadlines if deadline.is_enabled}
        await _alert_of_orders(ctx, session, cafe, removed)
        return cafe


async def _alert_of_orders(ctx: Context, session: AsyncSession, cafe: Cafe, removed: Collection[int]) -> None:
    """Alert the managers if there are orders for weekdays that were removed: no deadline will announce them."""
    found = await find_orders_without_delivery(session, [cafe.id], ctx.now()) if removed else []
    days = [(day.date, day.orders_count) for day in found if day.date.weekday() in removed]
    if days:
        await alert(ctx.clients, session, cafe, notification_texts.orders_without_delivery, days=days)


@allow(Role.MANAGER)
async def list_orders_without_delivery(ctx: Context, cafe_ids: Sequence[int]) -> list[Sequence[OrdersWithoutDelivery]]:
    """The days from today on that have orders, although the cafe does not deliver on that weekday any more.

    No deadline announces them. One statement for any number of cafes.
    """
    async with ctx.clients.db() as session:
        return group_by_cafe(cafe_ids, await find_orders_without_delivery(session, cafe_ids, ctx.now()))


@allow(Role.USER)
async def get_order_availability(ctx: Context, cafe_id: int, date: Date) -> Availability:
    """Return whether ordering from a cafe for a date is possible, when it closes, and the reason if it is not possible.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db() as session:
        cafe = await get_row(session, Cafe, cafe_id)
        return (await find_availabilities(session, cafe, [date], ctx.now()))[0]


@allow(Role.USER)
async def list_order_week(ctx: Context, cafe_id: int) -> list[Availability]:
    """Whether ordering from a cafe is possible for each of seven days, from the cafe's today on.

    Raises NotFound.
    """
    async with ctx.clients.db() as session:
        cafe = await get_row(session, Cafe, cafe_id)
        today = today_in(cafe.timezone, ctx.now())
        dates = [today + dt.timedelta(days=days) for days in range(DAYS_PER_WEEK)]
        return await find_availabilities(session, cafe, dates, ctx.now())


@allow(Role.MANAGER)
async def announce_deadline(ctx: Context, cafe_id: int, date: Date) -> bool:
    """Close ordering from a cafe for a date now, and send the orders to the cafe. False if the day is closed already.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        await get_row(session, Cafe, cafe_id, lock=FOR_KEY_SHARE)
        return await pass_deadline(session, cafe_id, date, ctx.now())
