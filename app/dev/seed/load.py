"""Writes users and orders to the database, orders by COPY."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel

from app.dev.seed.habits import Lunch
from app.dev.seed.users import DemoUser
from app.models import Order, OrderItem

ADD_USERS = sa.text(
    "INSERT INTO users (tgid, name, language, created_at)"
    " SELECT *, :joined_at FROM unnest(:tgids, :names, :languages) ON CONFLICT DO NOTHING"
).bindparams(
    sa.bindparam("joined_at", type_=sa.DateTime(timezone=True)),
    sa.bindparam("tgids", type_=sa.ARRAY(sa.BigInteger)),
    sa.bindparam("names", type_=sa.ARRAY(sa.Text)),
    sa.bindparam("languages", type_=sa.ARRAY(sa.Text)),
)
RESERVE_ORDER_IDS = sa.text("SELECT nextval(pg_get_serial_sequence('orders', 'id')) FROM generate_series(1, :count)")
"""From the sequence of the table, so that no other order gets these ids."""

ORDER_COLUMNS = (
    "id",
    "user_tgid",
    "cafe_id",
    "date",
    "status",
    "combo_id",
    "combo_name",
    "combo_price",
    "notes",
    "total_price",
    "created_at",
    "updated_at",
)
ITEM_COLUMNS = ("order_id", "menu_item_id", "name", "category", "price", "quantity")


async def add_users(session: AsyncSession, users: Sequence[DemoUser], joined_at: dt.datetime) -> None:
    """Add the users that do not exist."""
    await session.execute(
        ADD_USERS,
        {
            "tgids": [user.tgid for user in users],
            "names": [user.name for user in users],
            "languages": [user.language.value for user in users],
            "joined_at": joined_at,
        },
    )


async def add_orders(session: AsyncSession, lunches: Sequence[Lunch]) -> None:
    """Add the orders with their dishes and extras."""
    ids = (await session.scalars(RESERVE_ORDER_IDS, {"count": len(lunches)})).all()
    await _copy(session, Order, ORDER_COLUMNS, map(_to_record, ids, lunches))
    lines = (
        (order_id, item.id, item.name, item.category, item.price, quantity)
        for order_id, lunch in zip(ids, lunches, strict=True)
        for item, quantity in lunch.items
    )
    await _copy(session, OrderItem, ITEM_COLUMNS, lines)


def _to_record(order_id: int, lunch: Lunch) -> tuple[Any, ...]:
    combo = lunch.combo
    return (
        order_id,
        lunch.tgid,
        lunch.cafe_id,
        lunch.date,
        lunch.status,
        combo.id,
        combo.name,
        combo.price,
        lunch.notes,
        lunch.total,
        lunch.created_at,
        lunch.updated_at,
    )


async def _copy(
    session: AsyncSession, table: type[SQLModel], columns: Sequence[str], records: Iterable[tuple[Any, ...]]
) -> None:
    """COPY the records in the session's transaction.

    Raises DBAPIError, as other statements do.
    """
    name = str(table.__tablename__)
    driver = (await (await session.connection()).get_raw_connection()).driver_connection
    assert isinstance(driver, asyncpg.Connection)
    try:
        await driver.copy_records_to_table(name, columns=columns, records=records)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise DBAPIError(f"COPY {name}", None, error, connection_invalidated=driver.is_closed()) from error
