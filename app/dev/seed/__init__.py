"""Demo data: three cafes with their menus, people with habits, and what those have ordered for 40 days.

What is drawn follows from a seed, from the day, and from the person alone: the same for the same seed, and for each
person the same whoever else there is.
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
from app.dev.seed.habits import Habits, Lunch
from app.dev.seed.kitchens import DAYS_OF_ORDERS, Kitchen, add_cafes, demo_cafes, open_kitchens, past_workdays
from app.dev.seed.load import load_lunches, load_people
from app.dev.seed.people import FIRST_DEMO_TGID, FIRST_TGID, LAST_TGID, USERS_MAX, Person, dice, people
from app.models import Order, OrderItem, Role, User

__all__ = ["MANAGER_TGID", "USERS", "USERS_MAX", "Seeded", "seed", "seeded"]

MANAGER_TGID = FIRST_DEMO_TGID
USERS = 60

LOCK = 0x5EED
"""PostgreSQL's advisory lock that a seed holds."""

PEOPLE_A_CHUNK = 250
"""About 14,000 order lines: what is in memory at once."""


@dataclass(frozen=True)
class Seeded:
    """What there is of the demo data."""

    cafes: list[tuple[int, str]]
    people: int
    orders: int
    lines: int

    def __str__(self) -> str:
        names = ", ".join(f"{cafe_id} {name}" for cafe_id, name in self.cafes)
        counts = f"{self.people:,} people, {self.orders:,} orders, {self.lines:,} order lines"
        return f"Manager {MANAGER_TGID}; cafes {names}; {counts}."


def _untold(done: int, total: int) -> None:
    pass


async def seed(
    clients: Clients,
    *,
    users: int = USERS,
    seed: int = 1,
    today: dt.date | None = None,
    progress: Callable[[int, int], None] = _untold,
) -> None:
    """Add what is missing of the demo's manager, cafes, people and orders, all of it or nothing.

    A cafe that is there keeps its menu, and a person who has ordered gets no more orders. Two at once: the second waits
    for the first, and finds all there.

    Args:
        clients: Where to.
        users: How many people there shall be, up to 100,000.
        seed: The seed of all that is drawn.
        today: The day after the last orders; today's date in UTC if not given.
        progress: Told of how many people are done, and of how many there are to do.
    """
    today = today or dt.datetime.now(dt.UTC).date()
    async with clients.db() as session:
        await session.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
        await session.execute(
            insert(User).values(tgid=MANAGER_TGID, name="Maria Manager", role=Role.MANAGER).on_conflict_do_nothing()
        )
        await add_cafes(session)
        missing = await _without_orders(session, users)
        if not missing:
            return
        kitchens = await open_kitchens(session, today)
        joined_at = dt.datetime.combine(today - dt.timedelta(days=DAYS_OF_ORDERS + 7), dt.time(), dt.UTC)
        days = past_workdays(today)
        done = 0
        progress(done, len(missing))
        for tgids in batched(missing, PEOPLE_A_CHUNK):
            chunk = people(seed, tgids)
            await load_people(session, chunk, joined_at)
            await load_lunches(session, _lunches(seed, chunk, kitchens, days))
            done += len(chunk)
            progress(done, len(missing))
        await session.execute(sa.text("ANALYZE users, orders, order_items"))


async def seeded(clients: Clients) -> Seeded:
    """Count what there is of the demo data."""
    ours = col(Order.user_tgid).between(FIRST_TGID, LAST_TGID)
    counts = [
        sa.select(sa.func.count(col(User.tgid))).where(col(User.tgid).between(FIRST_TGID, LAST_TGID)),
        sa.select(sa.func.count(col(Order.id))).where(ours),
        sa.select(sa.func.count(col(OrderItem.order_id))).join(Order, col(Order.id) == OrderItem.order_id).where(ours),
    ]
    async with clients.db() as session:
        cafes = [(cafe.id, cafe.name) for cafe in await demo_cafes(session)]
        return Seeded(cafes, *[await session.scalar(count) or 0 for count in counts])


async def _without_orders(session: AsyncSession, users: int) -> list[int]:
    """Return the ids of those among the first `users` people who have not ordered yet, or are not there."""
    tgids = range(FIRST_TGID, FIRST_TGID + users)
    have_ordered = set(
        await session.scalars(
            select(User.tgid).where(
                col(User.tgid).between(tgids[0], tgids[-1]),
                sa.exists().where(col(Order.user_tgid) == col(User.tgid)),
            )
        )
    )
    return [tgid for tgid in tgids if tgid not in have_ordered]


def _lunches(seed: int, chunk: list[Person], kitchens: list[Kitchen], days: list[dt.date]) -> list[Lunch]:
    if not kitchens:
        return []
    return [lunch for person in chunk for lunch in Habits(dice(seed, person.tgid), person, kitchens).lunches(days)]
