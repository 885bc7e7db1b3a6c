"""What a person's last month of orders comes to."""

import datetime as dt
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import NULLTYPE
from sqlmodel import col

from app.ai.stats import FAVORITES_MAX, PERIOD_DAYS, CategoryShares, FavoriteDish, OrderStats
from app.models import Cafe, MenuCategory, MenuItem, Order, OrderItem, OrderStatus


async def order_stats(session: AsyncSession, tgids: Collection[int], today: dt.date) -> dict[int, OrderStats]:
    """Work out what people have ordered from 30 days before `today` to that day, in one statement for all of them.

    A dish has the name that is on the menu now, and counts for the category that it was ordered as.

    Returns the figures of each of these Telegram ids, also where nobody has it or nothing was ordered.
    """
    rows = await session.execute(_FIGURES, {"tgids": list(tgids), "since": _first_day(today), "until": today})
    return {tgid: _stats(*figures) for tgid, *figures in rows}


def counts(today: dt.date) -> sa.ColumnElement[bool]:
    """Say of an order that figures of people are made from it: it is of these days, and not cancelled."""
    return _counts_between(_first_day(today), today)


def _first_day(today: dt.date) -> dt.date:
    return today - dt.timedelta(days=PERIOD_DAYS)


def _counts_between(since: Any, until: Any) -> sa.ColumnElement[bool]:
    return sa.and_(col(Order.date).between(since, until), col(Order.status) != OrderStatus.CANCELLED)


def _stats(
    orders_count: int,
    available: int,
    unique_dishes: int,
    names: Iterable[str] | None,
    counts: Iterable[int] | None,
    *by_category: int | None,
) -> OrderStats:
    soup, salad, main, extra = (number or 0 for number in by_category)
    portions = soup + salad + main + extra or 1
    return OrderStats(
        orders_count=orders_count,
        categories=CategoryShares(
            soup=soup / portions, salad=salad / portions, main=main / portions, extra=extra / portions
        ),
        unique_dishes=unique_dishes,
        total_dishes_available=available,
        favorite_dishes=tuple(map(_favorite, names or (), counts or ())),
    )


@lru_cache(maxsize=4096)
def _favorite(name: str, count: int) -> FavoriteDish:
    """Make it, or take one that there is: many people have the same favorites, and nobody can change them."""
    return FavoriteDish(name=name, count=count)


def _figures() -> sa.Select[Any]:
    """Make the statement: a row for each of `tgids`.

    It goes from person to person: one scan of an index finds the orders, and one of another all that is in them; both
    indexes have all that is asked for. That is planned alike for one person and for all, and what is added up at a time
    is small, while grouping what all of them have ordered does not fit into the `work_mem` that PostgreSQL has by itself.
    """
    tgids = sa.bindparam("tgids", type_=ARRAY(sa.BigInteger))
    people = sa.func.unnest(tgids).table_valued(sa.column("tgid", sa.BigInteger), name="people").render_derived()
    orders = _orders(people)
    dishes = _dishes(orders)
    most_first = dishes.c.portions.desc(), col(MenuItem.name), col(MenuItem.id)
    figures = (
        sa.select(
            sa.func.count().label("unique_dishes"),
            _first(col(MenuItem.name), most_first).label("names"),
            _first(dishes.c.portions, most_first).label("counts"),
            *(sa.cast(sa.func.sum(dishes.c[category]), sa.Integer).label(category) for category in MenuCategory),
        )
        .join_from(dishes, MenuItem, col(MenuItem.id) == dishes.c.id)
        .correlate(orders)
        .lateral("their_figures")
    )
    available = (
        sa.select(sa.func.count())
        .select_from(MenuItem)
        .join(Cafe)
        .where(col(MenuItem.is_available), col(Cafe.is_active))
        .scalar_subquery()
    )
    return sa.select(people.c.tgid, orders.c.number, available.label("available"), *figures.c).select_from(
        people.join(orders, sa.true()).join(figures, sa.true())
    )


def _orders(people: sa.FromClause) -> sa.FromClause:
    """One row: how many orders a person has in the period, and their ids."""
    return (
        sa.select(sa.func.count().label("number"), sa.func.array_agg(col(Order.id)).label("ids"))
        .where(
            col(Order.user_tgid) == people.c.tgid,
            _counts_between(sa.bindparam("since", type_=sa.Date), sa.bindparam("until", type_=sa.Date)),
        )
        .lateral("their_orders")
    )


def _dishes(orders: sa.FromClause) -> sa.FromClause:
    """A row for each dish and extra in these orders: its portions, in all and by the category that it had."""
    portions = sa.func.sum(col(OrderItem.quantity))
    return (
        sa.select(
            col(OrderItem.menu_item_id).label("id"),
            portions.label("portions"),
            *(portions.filter(col(OrderItem.category) == category).label(category) for category in MenuCategory),
        )
        .where(col(OrderItem.order_id) == sa.any_(orders.c.ids))
        .group_by(col(OrderItem.menu_item_id))
        .correlate(orders)
        .lateral("their_dishes")
    )


def _first(column: sa.SQLColumnExpression[Any], order: Iterable[sa.SQLColumnExpression[Any]]) -> sa.ColumnElement[Any]:
    """Collect the first few of a column. asyncpg gives a list: SQLAlchemy need not make one of it again."""
    return sa.type_coerce(sa.func.array_agg(aggregate_order_by(column, *order))[1:FAVORITES_MAX], NULLTYPE)


_FIGURES = _figures()
