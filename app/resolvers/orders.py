"""Orders: who eats what, from which cafe, on which day."""

import datetime as dt
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload
from sqlmodel import col, select

from app.auth import allow
from app.context import Context
from app.errors import AlreadyExists, BadInput, Forbidden, NotFound
from app.models import Cafe, Order, OrderStatus, Role, User
from app.resolvers import cafes, deadlines, notifications
from app.resolvers.deadlines import Availability, Refusal
from app.resolvers.inputs import checked_date
from app.resolvers.order_lines import OrderFields, checked, fill
from app.resolvers.paging import Page, PageRequest, SortOrder, fetch
from app.resolvers.removal import KEEP

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
"""What an order has in other tables, and how it is read: people and cafes with the order, items in one more statement."""

ALL_PARTS = frozenset(PARTS)


@dataclass(frozen=True)
class OrderFilter:
    """Which orders are wanted; None for any. Dates include both ends."""

    tgid: int | None = None
    cafe_id: int | None = None
    from_date: dt.date | None = None
    to_date: dt.date | None = None
    status: OrderStatus | None = None


@allow(Role.USER)
async def orders(
    ctx: Context, page: PageRequest, wanted: OrderFilter, parts: Collection[str] = ALL_PARTS
) -> Page[Order]:
    """Your orders, the latest date first; of a manager, everybody's.

    Args:
        parts: What is read with them, of `PARTS`.

    Raises BadInput, Forbidden.
    """
    tgid = wanted.tgid if ctx.viewer.is_manager else _owner(ctx, wanted.tgid)
    query = select(Order).options(*(PARTS[part] for part in parts))
    if tgid is not None:
        query = query.where(Order.user_tgid == tgid)
    if wanted.cafe_id is not None:
        query = query.where(Order.cafe_id == wanted.cafe_id)
    if wanted.from_date is not None:
        query = query.where(Order.date >= checked_date("from_date", wanted.from_date))
    if wanted.to_date is not None:
        query = query.where(Order.date <= checked_date("to_date", wanted.to_date))
    if wanted.status is not None:
        query = query.where(Order.status == wanted.status)
    async with ctx.clients.db() as session:
        return await fetch(session, query, NEWEST_FIRST, page)


@allow(Role.USER)
async def order(ctx: Context, order_id: int, parts: Collection[str] = ALL_PARTS) -> Order:
    """One order: yours, or for a manager anybody's.

    Raises NotFound, Forbidden.
    """
    async with ctx.clients.db() as session:
        found = await session.get(Order, order_id, options=[PARTS[part] for part in parts])
    if found is None:
        raise NotFound("order", order_id)
    _owner(ctx, found.user_tgid)
    return found


@allow(Role.USER)
async def place_order(ctx: Context, cafe_id: int, date: dt.date, fields: OrderFields, tgid: int | None = None) -> Order:
    """Order lunch from a cafe for a date, before its deadline. A manager may order for others, and after the deadline.

    Two tabs that order at once make one order: the unique index refuses the other. An order that races the deadline
    is written before it is announced, or refused (see `deadlines.lock_day`).

    Raises BadInput, NotFound, Forbidden, DeadlinePassed, AlreadyExists.
    """
    tgid = _owner(ctx, tgid)
    checked_date("date", date)
    fields = checked(fields)
    try:
        async with ctx.clients.db() as session:
            cafe = await cafes.found(session, cafe_id, lock=KEEP)
            availability = await deadlines.lock_day(ctx, session, cafe, date)
            _check_orderable(cafe, availability.refusal)
            now = ctx.now()
            new = Order(
                user=await _eater(session, tgid),
                cafe=cafe,
                date=date,
                status=OrderStatus.CONFIRMED if availability.is_announced else OrderStatus.PENDING,
                notes=fields.get("notes", ""),
                items=[],
                created_at=now,
                updated_at=now,
            )
            await fill(session, new, fields)
            session.add(new)
            await session.flush()
            if availability.is_announced:
                await notifications.correct_later(session, cafe_id, date)
            return new
    except IntegrityError as error:
        if "orders_active_key" not in str(error.orig):
            raise
    raise AlreadyExists("There is an order for that day already; change it.", **await _active(ctx, tgid, cafe_id, date))


@allow(Role.USER)
async def update_order(ctx: Context, order_id: int, changes: OrderFields) -> Order:
    """Change what is given of an order, before the deadline; a manager may do so after it.

    What stays in the order keeps its price, and may be unavailable by now; what is new has today's price.

    Raises BadInput, NotFound, Forbidden, DeadlinePassed.
    """
    changes = checked(changes)
    async with ctx.clients.db() as session:
        changed, availability = await _locked(ctx, session, order_id)
        if changed.status is OrderStatus.CANCELLED:
            raise BadInput("id", "this order is cancelled; place another")
        if changes:
            _check_orderable(changed.cafe, availability.refusal)
            await fill(session, changed, changes)
            changed.notes = changes.get("notes", changed.notes)
            changed.updated_at = ctx.now()
            if availability.is_announced:
                await notifications.correct_later(session, changed.cafe_id, changed.date)
        return changed


@allow(Role.USER)
async def cancel_order(ctx: Context, order_id: int) -> Order:
    """Cancel an order, before the deadline; a manager may do so after it. One that is cancelled stays so.

    Raises NotFound, Forbidden, DeadlinePassed.
    """
    async with ctx.clients.db() as session:
        cancelled, availability = await _locked(ctx, session, order_id)
        if cancelled.status is not OrderStatus.CANCELLED:
            cancelled.status = OrderStatus.CANCELLED
            cancelled.updated_at = ctx.now()
            if availability.is_announced:
                await notifications.correct_later(session, cancelled.cafe_id, cancelled.date)
        return cancelled


def _owner(ctx: Context, tgid: int | None) -> int:
    """Return whose order is meant: one's own if nobody is named.

    Raises Forbidden if it is not one's own, for all but managers.
    """
    if tgid is None or tgid == ctx.viewer.tgid:
        return ctx.viewer.tgid
    if not ctx.viewer.is_manager:
        raise Forbidden("This is somebody else's order.")
    return tgid


async def _eater(session: AsyncSession, tgid: int) -> User:
    user = await session.get(User, tgid, with_for_update=KEEP)
    if user is None:
        raise NotFound("user", tgid)
    if not user.is_active:
        raise BadInput("tgid", "this person is switched off")
    return user


async def _active(ctx: Context, tgid: int, cafe_id: int, date: dt.date) -> dict[str, str]:
    """The order that is there already, to be told; nothing if it has been cancelled meanwhile."""
    query = select(Order.id).where(
        Order.user_tgid == tgid, Order.cafe_id == cafe_id, Order.date == date, Order.status != OrderStatus.CANCELLED
    )
    async with ctx.clients.db() as session:
        order_id = await session.scalar(query)
    return {} if order_id is None else {"order_id": str(order_id)}


async def _locked(ctx: Context, session: AsyncSession, order_id: int) -> tuple[Order, Availability]:
    """Lock an order's cafe, its day, then the order: always in this order, so that no two operations wait for each other.

    Whoever deletes a combo looks at the orders that may have it. The lock lets them (`FOR NO KEY UPDATE`): we may be
    about to wait for that combo.
    """
    found = await session.get(Order, order_id)
    if found is None:
        raise NotFound("order", order_id)
    _owner(ctx, found.user_tgid)
    cafe = await cafes.found(session, found.cafe_id, lock=KEEP)
    availability = await deadlines.lock_day(ctx, session, cafe, found.date)
    order = await session.get_one(
        Order,
        order_id,
        options=[selectinload(Order.items), selectinload(Order.user), selectinload(Order.cafe)],  # type: ignore[arg-type]
        populate_existing=True,
        with_for_update={"key_share": True},
    )
    return order, availability


def _check_orderable(cafe: Cafe, refusal: Refusal | None) -> None:
    if not cafe.is_active:
        raise BadInput("cafe_id", "this cafe takes no orders at present")
    match refusal:
        case Refusal.NO_DELIVERY:
            raise BadInput("date", "this cafe does not deliver on that day")
        case Refusal.TOO_FAR_AHEAD:
            raise BadInput("date", f"is more than {deadlines.DAYS_AHEAD_MAX} days ahead")
        case _:  # after the deadline only managers get here
            pass
