"""Statistics of users' orders, and the other data of a prompt: today's menu and the users' notes."""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.types import NULLTYPE
from sqlmodel import col, select

from app.ai.prompts import CafeMenu
from app.ai.stats import FAVORITES_MAX, PERIOD_DAYS, CategoryShares, FavoriteDish, OrderStats
from app.models import Cafe, Language, MenuCategory, MenuItem, Order, OrderItem, OrderStatus, User

MENU_MAX_DISHES = 1000
"""More than a user chooses from; a prompt of about 10,000 tokens."""

NOTES_MAX = 5


@dataclass(frozen=True)
class UserData:
    """The data of a user in a prompt."""

    stats: OrderStats
    notes: Sequence[str]
    language: Language


async def order_stats(session: AsyncSession, tgids: Collection[int], today: dt.date) -> dict[int, OrderStats]:
    """Compute the statistics of users' orders from 30 days before `today` to that day, in one statement.

    Names and categories are those of the orders: a dish that was renamed meanwhile counts as two.

    Returns statistics for each of these Telegram ids, also if it is unknown or has no orders.
    """
    rows = await session.execute(_STATISTICS, {"tgids": list(tgids), "since": _first_day(today), "until": today})
    return {tgid: _stats(*numbers) for tgid, *numbers in rows}


async def find_menu(session: AsyncSession) -> list[CafeMenu]:
    """Read the dishes that users can order today, always in the same order: one statement."""
    query = (
        select(Cafe.id, Cafe.name, MenuItem.category, MenuItem.name)
        .join(MenuItem)
        .where(Cafe.is_active, MenuItem.is_available)
        .order_by(col(Cafe.id), col(MenuItem.category), col(MenuItem.id))
        .limit(MENU_MAX_DISHES)
    )
    rows = (await session.execute(query)).all()
    return [
        CafeMenu(
            cafe,
            {category.value: [dish for *_, dish in dishes] for category, dishes in groupby(items, lambda row: row[2])},
        )
        for (_, cafe), items in groupby(rows, lambda row: (row[0], row[1]))
    ]


async def find_user_data(session: AsyncSession, tgids: Collection[int], today: dt.date) -> dict[int, UserData]:
    """Read the prompt data of users, without deactivated ones: three statements, for any number of users."""
    users = await session.scalars(select(User).where(col(User.tgid).in_(tgids), User.is_active))
    languages = {user.tgid: user.language for user in users}
    stats = await order_stats(session, languages, today)
    notes = await _find_notes(session, languages, today)
    return {tgid: UserData(stats[tgid], notes.get(tgid, ()), language) for tgid, language in languages.items()}


def in_period(today: dt.date) -> sa.ColumnElement[bool]:
    """The condition for orders that statistics count: within the last 30 days, and not cancelled."""
    return _counts_between(_first_day(today), today)


async def _find_notes(session: AsyncSession, tgids: Collection[int], today: dt.date) -> Mapping[int, Sequence[str]]:
    """Read the latest different notes of each user to cafes, the newest first."""
    latest = sa.func.max(col(Order.date))
    position = sa.func.row_number().over(partition_by=col(Order.user_tgid), order_by=(latest.desc(), col(Order.notes)))
    written = (
        sa.select(col(Order.user_tgid).label("tgid"), col(Order.notes).label("note"), position.label("position"))
        .where(
            col(Order.user_tgid).in_(tgids),
            in_period(today),
            col(Order.notes) != "",
        )
        .group_by(col(Order.user_tgid), col(Order.notes))
        .subquery()
    )
    query = (
        sa.select(written.c.tgid, written.c.note)
        .where(written.c.position <= NOTES_MAX)
        .order_by(written.c.tgid, written.c.position)
    )
    notes: dict[int, list[str]] = {}
    for tgid, note in await session.execute(query):
        notes.setdefault(tgid, []).append(note)
    return notes


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
    """Many users have the same favorites, and the objects never change, so they are shared."""
    return FavoriteDish(name=name, count=count)


def _statistics() -> sa.Select[Any]:
    """Make the statement: a row for each of `tgids`.

    It goes from user to user. One index scan finds the orders, another one all their items. The plan is the same for one user and for all. Each aggregation is small, while one over all users
    would not fit into PostgreSQL's default `work_mem`.
    """
    tgids = sa.bindparam("tgids", type_=ARRAY(sa.BigInteger))
    users = sa.func.unnest(tgids).table_valued(sa.column("tgid", sa.BigInteger), name="tgids").render_derived()
    orders = _orders(users)
    dishes = _dishes(orders)
    most_ordered_first = dishes.c.portions.desc(), dishes.c.name, dishes.c.id
    numbers = (
        sa.select(
            sa.func.count().label("unique_dishes"),
            _first(dishes.c.name, most_ordered_first).label("names"),
            _first(dishes.c.portions, most_ordered_first).label("counts"),
            *(sa.cast(sa.func.sum(dishes.c[category]), sa.Integer).label(category) for category in MenuCategory),
        )
        .select_from(dishes)
        .correlate(orders)
        .lateral("user_numbers")
    )
    available = (
        sa.select(sa.func.count())
        .select_from(MenuItem)
        .join(Cafe)
        .where(col(MenuItem.is_available), col(Cafe.is_active))
        .scalar_subquery()
    )
    return sa.select(users.c.tgid, orders.c.number, available.label("available"), *numbers.c).select_from(
        users.join(orders, sa.true()).join(numbers, sa.true())
    )


def _orders(users: sa.FromClause) -> sa.FromClause:
    """One row: the number of a user's orders in the period, and their ids."""
    return (
        sa.select(sa.func.count().label("number"), sa.func.array_agg(col(Order.id)).label("ids"))
        .where(
            col(Order.user_tgid) == users.c.tgid,
            _counts_between(sa.bindparam("since", type_=sa.Date), sa.bindparam("until", type_=sa.Date)),
        )
        .lateral("user_orders")
    )


def _dishes(orders: sa.FromClause) -> sa.FromClause:
    """A row for each dish and extra in these orders: its portions, in total and by category."""
    portions = sa.func.sum(col(OrderItem.quantity))
    return (
        sa.select(
            col(OrderItem.menu_item_id).label("id"),
            col(OrderItem.name),
            portions.label("portions"),
            *(portions.filter(col(OrderItem.category) == category).label(category) for category in MenuCategory),
        )
        .where(col(OrderItem.order_id) == sa.any_(orders.c.ids))
        .group_by(col(OrderItem.menu_item_id), col(OrderItem.name))
        .correlate(orders)
        .lateral("user_dishes")
    )


def _first(column: sa.SQLColumnExpression[Any], order: Iterable[sa.SQLColumnExpression[Any]]) -> sa.ColumnElement[Any]:
    """Collect the first values of a column. asyncpg returns a list, so SQLAlchemy need not convert it."""
    return sa.type_coerce(sa.func.array_agg(aggregate_order_by(column, *order))[1:FAVORITES_MAX], NULLTYPE)


_STATISTICS = _statistics()
