"""Operations on orders."""

import datetime as dt
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload
from sqlmodel import col, select

from app.auth.access import Self, allow
from app.auth.context import Context
from app.errors import AlreadyExists, BadInput, DeadlinePassed, Forbidden
from app.models import Cafe, Order, OrderChanges, OrderInput, OrderStatus, Role, User
from app.services.deadlines import (
    DAYS_AHEAD_MAX,
    Availability,
    Refusal,
    closed_since,
    lock_day,
    locked_availability,
)
from app.services.notifications import schedule_correction
from app.services.orders import apply_contents
from app.services.pagination import Page, PageRequest, SortOrder, paginate
from app.services.rows import FOR_KEY_SHARE, FOR_NO_KEY_UPDATE, get_row
from app.validation import Date, Input

NEWEST_FIRST: SortOrder[Order] = SortOrder(
    "orders",
    (col(Order.date), col(Order.id)),
    (dt.date, int),
    lambda order: (order.date, order.id),
    descending=True,
)

PARTS: dict[str, Any] = {
    "user": joinedload(Order.user),  # type: ignore[arg-type]
    "cafe": joinedload(Order.cafe),  # type: ignore[arg-type]
    "items": selectinload(Order.items),  # type: ignore[arg-type]
}
"""The parts of an order in other tables: users and cafes are read with the order, items in one more statement."""

ALL_PARTS = frozenset(PARTS)


class OrderFilter(Input):
    """A filter of orders. None accepts all. Dates include both ends."""

    cafe_id: int | None = None
    from_date: Date | None = None
    to_date: Date | None = None
    status: OrderStatus | None = None


@allow(Self("tgid"))
async def list_orders(
    ctx: Context, page: PageRequest, wanted: OrderFilter, tgid: int | None = None, parts: Collection[str] = ALL_PARTS
) -> Page[Order]:
    """Orders, the latest date first. Users get their own, managers those of all users.

    Args:
        tgid: Only the orders of this user.
        parts: Which of `PARTS` to read with them.

    Raises BadInput, Forbidden.
    """
    if not ctx.is_manager:
        tgid = ctx.viewer.tgid
    query = select(Order).options(*(PARTS[part] for part in parts))
    if tgid is not None:
        query = query.where(Order.user_tgid == tgid)
    if wanted.cafe_id is not None:
        query = query.where(Order.cafe_id == wanted.cafe_id)
    if wanted.from_date is not None:
        query = query.where(Order.date >= wanted.from_date)
    if wanted.to_date is not None:
        query = query.where(Order.date <= wanted.to_date)
    if wanted.status is not None:
        query = query.where(Order.status == wanted.status)
    async with ctx.clients.db() as session:
        return await paginate(session, query, NEWEST_FIRST, page)


@allow(Role.USER)
async def get_order(ctx: Context, order_id: int, parts: Collection[str] = ALL_PARTS) -> Order:
    """One order: your own, or any order for a manager.

    Raises NotFound, Forbidden.
    """
    async with ctx.clients.db() as session:
        order = await get_row(session, Order, order_id, options=[PARTS[part] for part in parts])
    _require_owner(ctx, order)
    return order


@allow(Self("tgid"))
async def place_order(ctx: Context, cafe_id: int, date: Date, contents: OrderInput, tgid: int | None = None) -> Order:
    """Order lunch from a cafe for a date, before its deadline. A manager may order for others, and after the deadline.

    Two simultaneous orders make one order: the unique index refuses the other. An order that races the deadline is part
    of the announcement, or it is refused (see `lock_day`).

    Raises BadInput, NotFound, Forbidden, DeadlinePassed, AlreadyExists.
    """
    if tgid is None:
        tgid = ctx.viewer.tgid
    try:
        async with ctx.clients.db(cafe_id) as session:
            cafe = await get_row(session, Cafe, cafe_id, lock=FOR_KEY_SHARE)
            availability = await _lock_open_day(ctx, session, cafe, date)
            _require_orderable(cafe, availability.refusal)
            now = ctx.now()
            order = Order(
                user=await _lock_active_user(session, tgid),
                cafe=cafe,
                date=date,
                status=OrderStatus.CONFIRMED if availability.is_announced else OrderStatus.PENDING,
                notes=contents.values().get("notes", ""),
                items=[],
                created_at=now,
                updated_at=now,
            )
            await apply_contents(session, order, contents)
            session.add(order)
            await session.flush()
            if availability.is_announced:
                await schedule_correction(session, cafe_id, date)
            return order
    except IntegrityError as error:
        if "orders_active_key" not in str(error.orig):
            raise
    existing = await _find_existing(ctx, tgid, cafe_id, date)
    raise AlreadyExists("An order for that day already exists. Change it.", **existing)


@allow(Role.USER)
async def update_order(ctx: Context, order_id: int, changes: OrderChanges) -> Order:
    """Change the given contents of an order, before the deadline. A manager may do so after it.

    Items that stay keep their price, even if they are unavailable now. New items have their current price.

    Raises BadInput, NotFound, Forbidden, DeadlinePassed.
    """
    async with _locked_order(ctx, order_id) as (session, order, availability):
        if order.status is OrderStatus.CANCELLED:
            raise BadInput("id", "this order is cancelled; place another")
        values = changes.values()
        if values:
            _require_orderable(order.cafe, availability.refusal)
            await apply_contents(session, order, changes)
            order.notes = values.get("notes", order.notes)
            order.updated_at = ctx.now()
            if availability.is_announced:
                await schedule_correction(session, order.cafe_id, order.date)
        return order


@allow(Role.USER)
async def cancel_order(ctx: Context, order_id: int) -> Order:
    """Cancel an order, before the deadline. A manager may do so after it. A cancelled order stays cancelled.

    Raises NotFound, Forbidden, DeadlinePassed.
    """
    async with _locked_order(ctx, order_id) as (session, order, availability):
        if order.status is not OrderStatus.CANCELLED:
            order.status = OrderStatus.CANCELLED
            order.updated_at = ctx.now()
            if availability.is_announced:
                await schedule_correction(session, order.cafe_id, order.date)
        return order


def _require_owner(ctx: Context, order: Order) -> None:
    """Raises Forbidden for another user's order, except for managers."""
    if order.user_tgid != ctx.viewer.tgid and not ctx.is_manager:
        raise Forbidden("This order belongs to another user.")


async def _lock_active_user(session: AsyncSession, tgid: int) -> User:
    user = await get_row(session, User, tgid, lock=FOR_KEY_SHARE)
    if not user.is_active:
        raise BadInput("tgid", "this account is deactivated")
    return user


async def _find_existing(ctx: Context, tgid: int, cafe_id: int, date: dt.date) -> dict[str, str]:
    """The details of an error: the existing order, unless it was cancelled meanwhile."""
    query = select(Order.id).where(
        Order.user_tgid == tgid, Order.cafe_id == cafe_id, Order.date == date, Order.status != OrderStatus.CANCELLED
    )
    async with ctx.clients.db() as session:
        order_id = await session.scalar(query)
    return {} if order_id is None else {"order_id": str(order_id)}


@asynccontextmanager
async def _locked_order(ctx: Context, order_id: int) -> AsyncIterator[tuple[AsyncSession, Order, Availability]]:
    """Open a transaction, and lock an order's cafe, its day, then the order.

    The locks have always this sequence, so that no two operations deadlock.

    The lock on the order lets a deletion of its combo check the order (`FOR NO KEY UPDATE`): the caller may be about to
    wait for that combo.
    """
    async with ctx.clients.db() as session:
        unlocked = await get_row(session, Order, order_id)
    _require_owner(ctx, unlocked)
    async with ctx.clients.db(unlocked.cafe_id) as session:
        cafe = await get_row(session, Cafe, unlocked.cafe_id, lock=FOR_KEY_SHARE)
        availability = await _lock_open_day(ctx, session, cafe, unlocked.date)
        parts = [selectinload(Order.items), selectinload(Order.user), selectinload(Order.cafe)]  # type: ignore[arg-type]
        yield session, await get_row(session, Order, order_id, lock=FOR_NO_KEY_UPDATE, options=parts), availability


async def _lock_open_day(ctx: Context, session: AsyncSession, cafe: Cafe, date: dt.date) -> Availability:
    """Lock the day and look at the clock.

    Raises DeadlinePassed, except for managers.
    """
    day = await lock_day(session, cafe.id, date)
    now = ctx.now()
    availability = await locked_availability(session, cafe, day, now)
    closed_at = closed_since(cafe, availability, now)
    if closed_at is not None and not ctx.is_manager:
        raise DeadlinePassed(closed_at)
    return availability


def _require_orderable(cafe: Cafe, refusal: Refusal | None) -> None:
    """Raises BadInput if the cafe takes no orders for the date, apart from the deadline."""
    if not cafe.is_active:
        raise BadInput("cafe_id", "this cafe is deactivated and takes no orders")
    match refusal:
        case Refusal.NO_DELIVERY:
            raise BadInput("date", "this cafe does not deliver on that day")
        case Refusal.TOO_FAR_AHEAD:
            raise BadInput("date", f"is more than {DAYS_AHEAD_MAX} days ahead")
        case _:  # after the deadline only managers get here
            pass
