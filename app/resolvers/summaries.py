"""The operation that adds up the orders of a day."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.auth.access import allow
from app.auth.context import Context
from app.models import Cafe, MenuCategory, Order, OrderItem, OrderStatus, Role, User
from app.models.menus import DISH_CATEGORIES
from app.services.rows import get_row
from app.validation import Date


@dataclass(frozen=True)
class SummaryCombo:
    """The quantity of a combo that was ordered under one name, and the cost of all of them."""

    combo_id: int
    name: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class SummaryItem:
    """The quantity of a menu item that was ordered under one name.

    `amount` is the cost of all of them; a dish is paid with its combo.
    """

    menu_item_id: int
    name: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class SummaryCategory:
    """The dishes of one category."""

    category: MenuCategory
    dishes: Sequence[SummaryItem]


@dataclass(frozen=True)
class SummaryNote:
    """A user's note to the cafe."""

    tgid: int
    user_name: str
    notes: str


@dataclass(frozen=True)
class OrderSummary:
    """The orders of a cafe and date that are not cancelled, added up. The most ordered items come first."""

    cafe: Cafe
    date: dt.date
    orders_count: int
    total_price: Decimal
    combos: Sequence[SummaryCombo]
    dishes: Sequence[SummaryCategory]
    extras: Sequence[SummaryItem]
    notes: Sequence[SummaryNote]

    @property
    def cafe_id(self) -> int:
        return self.cafe.id

    @property
    def cafe_name(self) -> str:
        return self.cafe.name


@allow(Role.MANAGER)
async def get_order_summary(ctx: Context, cafe_id: int, date: Date) -> OrderSummary:
    """The orders of a cafe for a date, added up: combos, dishes by category, extras, and the users' notes.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db() as session:
        return await _summarize(session, await get_row(session, Cafe, cafe_id), date)


async def _summarize(session: AsyncSession, cafe: Cafe, date: dt.date) -> OrderSummary:
    """Add up the orders in four statements, for any number of orders.

    Names and categories are those of the orders, so an item that was renamed meanwhile has two lines.
    """
    of_the_day = sa.and_(
        col(Order.cafe_id) == cafe.id, col(Order.date) == date, col(Order.status) != OrderStatus.CANCELLED
    )
    totals = sa.select(sa.func.count(), sa.func.sum(col(Order.total_price))).where(of_the_day)
    combo = col(Order.combo_id), col(Order.combo_name)
    combos = sa.select(*combo, sa.func.count(), sa.func.sum(col(Order.combo_price))).where(of_the_day).group_by(*combo)
    item = col(OrderItem.category), col(OrderItem.menu_item_id), col(OrderItem.name)
    items = (
        sa.select(
            *item,
            sa.func.sum(col(OrderItem.quantity)),
            sa.func.sum(col(OrderItem.price) * col(OrderItem.quantity)),
        )
        .join(Order, col(Order.id) == OrderItem.order_id)
        .where(of_the_day)
        .group_by(*item)
    )
    notes = (
        select(User.tgid, User.name, Order.notes)
        .join(Order, col(Order.user_tgid) == User.tgid)
        .where(of_the_day, Order.notes != "")
        .order_by(col(User.name), col(Order.id))
    )
    orders_count, total_price = (await session.execute(totals)).one()
    ordered = (await session.execute(items)).all()

    def lines(wanted: MenuCategory) -> list[SummaryItem]:
        found = [
            SummaryItem(id_, name, quantity, amount or Decimal(0))
            for category, id_, name, quantity, amount in ordered
            if category is wanted
        ]
        return sorted(found, key=lambda line: (-line.quantity, line.name, line.menu_item_id))

    return OrderSummary(
        cafe=cafe,
        date=date,
        orders_count=orders_count,
        total_price=total_price or Decimal(0),
        combos=sorted(
            (SummaryCombo(*line) for line in await session.execute(combos)),
            key=lambda line: (-line.quantity, line.name, line.combo_id),
        ),
        dishes=[SummaryCategory(category, dishes) for category in DISH_CATEGORIES if (dishes := lines(category))],
        extras=lines(MenuCategory.EXTRA),
        notes=[SummaryNote(*note) for note in (await session.execute(notes))],
    )
