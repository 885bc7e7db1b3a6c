"""Demo data: three cafes with their menus, users with habits, and their orders of 40 days.

It may import `app.clients`, `app.database` and `app.models`.

Random values depend only on the seed, the day and the user: the same seed gives the same data, and the data of a user
do not depend on the number of users.
"""

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from itertools import batched

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.clients import Clients
from app.database import remove_timeouts
from app.dev.seed.cafes import ORDER_HISTORY_DAYS, DemoCafe, add_cafes, find_demo_cafes, load_cafes, past_workdays
from app.dev.seed.habits import Habits, Lunch
from app.dev.seed.load import add_orders, add_users
from app.dev.seed.users import FIRST_DEMO_TGID, FIRST_TGID, LAST_TGID, MAX_USERS, DemoUser, draw_users, user_rng
from app.models import Order, OrderItem, Role, User

__all__ = ["MANAGER_TGID", "MAX_USERS", "USERS", "DemoData", "count_demo_data", "seed"]

MANAGER_TGID = FIRST_DEMO_TGID
USERS = 60

LOCK = 0x5EED
"""The advisory lock in PostgreSQL that a seed holds."""

USERS_PER_CHUNK = 250
"""Limits memory: a chunk has about 14,000 order lines."""


@dataclass(frozen=True)
class DemoData:
    """The demo data in the database."""

    cafes: list[tuple[int, str]]
    users: int
    orders: int
    lines: int

    def __str__(self) -> str:
        names = ", ".join(f"{cafe_id} {name}" for cafe_id, name in self.cafes)
        counts = f"{self.users:,} users, {self.orders:,} orders, {self.lines:,} order lines"
        return f"Manager {MANAGER_TGID}; cafes {names}; {counts}."


def _ignore_progress(done: int, total: int) -> None:
    pass


async def seed(
    clients: Clients,
    *,
    users: int = USERS,
    seed: int = 1,
    today: dt.date | None = None,
    progress: Callable[[int, int], None] = _ignore_progress,
) -> None:
    """Add the missing manager, cafes, users and orders of the demo in one transaction.

    An existing cafe keeps its menu, and a user with orders gets no more orders. An advisory lock makes simultaneous
    seeds run one after the other.

    Args:
        clients: The clients of the database.
        users: The number of users, up to 100,000.
        seed: The seed of all random values.
        today: The day after the last orders; today's date in UTC if not given.
        progress: Is called with the number of users that are done, and the number of users to do.
    """
    today = today or dt.datetime.now(dt.UTC).date()
    async with clients.db() as session:
        await remove_timeouts(session)
        await session.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        await session.execute(
            insert(User).values(tgid=MANAGER_TGID, name="Maria Manager", role=Role.MANAGER).on_conflict_do_nothing()
        )
        await add_cafes(session)
        missing = await _find_users_without_orders(session, users)
        if not missing:
            return
        cafes = await load_cafes(session, today)
        joined_at = dt.datetime.combine(today - dt.timedelta(days=ORDER_HISTORY_DAYS + 7), dt.time(), dt.UTC)
        days = past_workdays(today)
        done = 0
        progress(done, len(missing))
        for tgids in batched(missing, USERS_PER_CHUNK):
            chunk = draw_users(seed, tgids)
            await add_users(session, chunk, joined_at)
            await add_orders(session, _draw_lunches(seed, chunk, cafes, days))
            done += len(chunk)
            progress(done, len(missing))
        await session.execute(sa.text("ANALYZE users, orders, order_items"))


async def count_demo_data(clients: Clients) -> DemoData:
    """Count the demo data in the database."""
    is_demo_order = col(Order.user_tgid).between(FIRST_TGID, LAST_TGID)
    counts = [
        sa.select(sa.func.count(col(User.tgid))).where(col(User.tgid).between(FIRST_TGID, LAST_TGID)),
        sa.select(sa.func.count(col(Order.id))).where(is_demo_order),
        sa.select(sa.func.count(col(OrderItem.order_id)))
        .join(Order, col(Order.id) == OrderItem.order_id)
        .where(is_demo_order),
    ]
    async with clients.db() as session:
        cafes = [(cafe.id, cafe.name) for cafe in await find_demo_cafes(session)]
        return DemoData(cafes, *[await session.scalar(count) or 0 for count in counts])


async def _find_users_without_orders(session: AsyncSession, users: int) -> list[int]:
    """Return the ids of those of the first `users` demo users who have no orders or do not exist."""
    tgids = range(FIRST_TGID, FIRST_TGID + users)
    with_orders = set(
        await session.scalars(
            select(User.tgid).where(
                col(User.tgid).between(tgids[0], tgids[-1]),
                sa.exists().where(col(Order.user_tgid) == col(User.tgid)),
            )
        )
    )
    return [tgid for tgid in tgids if tgid not in with_orders]


def _draw_lunches(seed: int, chunk: list[DemoUser], cafes: list[DemoCafe], days: list[dt.date]) -> list[Lunch]:
    if not cafes:
        return []
    return [lunch for user in chunk for lunch in Habits(user_rng(seed, user.tgid), user, cafes).draw_lunches(days)]
