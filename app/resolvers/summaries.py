"""What a cafe is to cook on a day."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload
from sqlmodel import col, select

from app.auth import allow
from app.context import Context
from app.models import Cafe, Combo, MenuCategory, MenuItem, Order, OrderItem, OrderStatus, Role, User
from app.models.menus import DISH_CATEGORIES
from app.resolvers import cafes
from app.resolvers.inputs import checked_date


@dataclass(frozen=True)
class Line:
    """So many of one menu item or combo. `amount` is what they cost together; a dish is paid with its combo."""

    id: int
    name: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class Dishes:
    """The dishes of one category."""

    category: MenuCategory
    dishes: Sequence[Line]


@dataclass(frozen=True)
class Note:
    """What a person wants the cafe to know."""

    tgid: int
    person: str
    notes: str


@dataclass(frozen=True)
class Summary:
    """The orders of a cafe and date, without those that were cancelled, added up. The most ordered comes first."""

    cafe: Cafe
    date: dt.date
    orders_count: int
    total_price: Decimal
    combos: Sequence[Line]
    dishes: Sequence[Dishes]
    extras: Sequence[Line]
    notes: Sequence[Note]


@allow(Role.MANAGER)
async def order_summary(ctx: Context, cafe_id: int, date: dt.date) -> Summary:
    """What a cafe is to cook on a date: combos, dishes by category, extras, and what people have noted.

    Raises BadInput, NotFound.
    """
    checked_date("date", date)
    async with ctx.clients.db() as session:
        return await summarize(session, await cafes.found(session, cafe_id), date)


async def orders_of_day(session: AsyncSession, cafe_id: int, date: dt.date) -> Sequence[Order]:
    """Read what was ordered for a day and not cancelled, by person, with people and items: two statements."""
    query = (
        select(Order)
        .join(User)
        .options(joinedload(Order.user), selectinload(Order.items))  # type: ignore[arg-type]
        .where(Order.cafe_id == cafe_id, Order.date == date, Order.status != OrderStatus.CANCELLED)
        .order_by(col(User.name), col(Order.id))
    )
    return (await session.scalars(query)).all()


async def summarize(session: AsyncSession, cafe: Cafe, date: dt.date) -> Summary:
    """Add a day's orders up, in four statements, however many there are. Names are those of the menu now."""
    of_the_day = sa.and_(
        col(Order.cafe_id) == cafe.id, col(Order.date) == date, col(Order.status) != OrderStatus.CANCELLED
    )
    totals = sa.select(sa.func.count(), sa.func.sum(col(Order.total_price))).where(of_the_day)
    combos = (
        sa.select(col(Combo.id), col(Combo.name), sa.func.count(), sa.func.sum(col(Order.combo_price)))
        .join(Order, col(Order.combo_id) == Combo.id)
        .where(of_the_day)
        .group_by(col(Combo.id))
    )
    # An item whose category was changed counts as what it was ordered as.
    items = (
        sa.select(
            col(OrderItem.category),
            col(MenuItem.id),
            col(MenuItem.name),
            sa.func.sum(col(OrderItem.quantity)),
            sa.func.sum(col(OrderItem.price) * col(OrderItem.quantity)),
        )
        .join(MenuItem, col(MenuItem.id) == OrderItem.menu_item_id)
        .join(Order, col(Order.id) == OrderItem.order_id)
        .where(of_the_day)
        .group_by(col(OrderItem.category), col(MenuItem.id))
    )
    notes = (
        select(User.tgid, User.name, Order.notes)
        .join(Order, col(Order.user_tgid) == User.tgid)
        .where(of_the_day, Order.notes != "")
        .order_by(col(User.name), col(Order.id))
    )
    orders_count, total_price = (await session.execute(totals)).one()
    ordered = (await session.execute(items)).all()

    def lines(category: MenuCategory) -> list[Line]:
        return _sorted(
            Line(id_, name, n, amount or Decimal(0)) for of, id_, name, n, amount in ordered if of is category
        )

    return Summary(
        cafe=cafe,
        date=date,
        orders_count=orders_count,
        total_price=total_price or Decimal(0),
        combos=_sorted(Line(*line) for line in (await session.execute(combos))),
        dishes=[Dishes(category, dishes) for category in DISH_CATEGORIES if (dishes := lines(category))],
        extras=lines(MenuCategory.EXTRA),
        notes=[Note(*note) for note in (await session.execute(notes))],
    )


def _sorted(lines: Iterable[Line]) -> list[Line]:
    return sorted(lines, key=lambda line: (-line.quantity, line.name, line.id))
