"""The speed of order statistics: `python -m benchmarks.order_stats [--users N] [--sample N] [--rounds N]`.

It starts a separate PostgreSQL, as `lunch-bot dev` does, seeds N users, and computes the statistics of all active users:

- by `order_stats`, in one call, and in chunks, as the nightly run does;
- bare: one aggregate over the same rows of orders and order items, grouped by user and category, with sums and counts
  only, read as plain rows: the minimum of work for these figures;
- one by one: an ORM query for each user's orders and their items, and the figures computed in Python, for a
  sample of the users; the time is scaled.

All ways run in each round; ratios are between the medians. All times include Python's.
"""

import argparse
import asyncio
import datetime as dt
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from itertools import batched
from statistics import median
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import selectinload
from sqlmodel import col, select

from app.ai.stats import FAVORITES_MAX, PERIOD_DAYS, CategoryShares, FavoriteDish, OrderStats
from app.clients import Clients
from app.dev.seed import count_demo_data, seed
from app.models import Cafe, MenuCategory, MenuItem, Order, OrderItem, OrderStatus, User
from app.services.statistics import order_stats
from benchmarks.running import open_database

TODAY = dt.date(2026, 3, 4)
SINCE = TODAY - dt.timedelta(days=PERIOD_DAYS)
CHUNKS = (1_000, 20)

IN_ONE_CALL = "order_stats, in one call"
BARE = "a bare aggregate"
ONE_BY_ONE = "a query for each user"

type Figures = dict[int, OrderStats]


async def main(users: int, sample: int, rounds: int) -> None:
    async with open_database() as clients:
        await seed(clients, users=users, today=TODAY)
        print(await count_demo_data(clients))
        async with clients.db() as session:
            # Autovacuum does this a minute later on a real server.
            await session.execute(sa.text("ANALYZE menu_items, cafes"))
        async with clients.engine.connect() as connection:
            apart = await connection.execution_options(isolation_level="AUTOCOMMIT")
            await apart.execute(sa.text("VACUUM orders, order_items, menu_items"))
        await side_by_side(clients, sample, rounds)


async def side_by_side(clients: Clients, sample: int, rounds: int) -> None:
    async with clients.db() as session:
        tgids = (await session.scalars(select(User.tgid).where(User.is_active))).all()
    some = random.Random(1).sample(tgids, min(sample, len(tgids)))  # noqa: S311 - a sample
    ways: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        BARE: partial(bare, clients, tgids),
        IN_ONE_CALL: partial(in_chunks, clients, tgids, len(tgids)),
        **{f"order_stats, {size:,} a call": partial(in_chunks, clients, tgids, size) for size in CHUNKS},
        ONE_BY_ONE: partial(one_by_one, clients, some),
    }
    assert await one_by_one(clients, some) == await in_chunks(clients, some, len(some))
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, work in ways.items():
            began = time.perf_counter()
            await work()
            times[way].append(time.perf_counter() - began)
    times[ONE_BY_ONE] = [seconds * len(tgids) / len(some) for seconds in times[ONE_BY_ONE]]
    print(f"the statistics of {len(tgids):,} users, medians of {rounds} rounds:")
    for way, taken in times.items():
        print(f"  {way:26} {median(taken):8.3f} s, {min(taken):.3f} to {max(taken):.3f}")
    whole = median(times[IN_ONE_CALL])
    print(f"  in one call: {whole / median(times[BARE]):.2f} times the bare aggregate; ", end="")
    print(f"{median(times[ONE_BY_ONE]) / whole:.0f} times as fast as a query for each user ({len(some)} users, scaled)")


async def in_chunks(clients: Clients, tgids: Sequence[int], size: int) -> Figures:
    figures: Figures = {}
    for chunk in batched(tgids, size):
        async with clients.db() as session:
            figures |= await order_stats(session, chunk, TODAY)
    return figures


async def bare(clients: Clients, tgids: Sequence[int]) -> Sequence[object]:
    category = sa.type_coerce(col(OrderItem.category), sa.String)
    query = (
        sa.select(col(Order.user_tgid), category, sa.func.sum(col(OrderItem.quantity)), sa.func.count())
        .join(OrderItem, col(OrderItem.order_id) == Order.id)
        .where(
            col(Order.user_tgid) == sa.any_(sa.literal(tgids, ARRAY(sa.BigInteger))),
            col(Order.date).between(SINCE, TODAY),
            col(Order.status) != OrderStatus.CANCELLED,
        )
        .group_by(col(Order.user_tgid), category)
    )
    async with clients.db() as session:
        return (await session.execute(query)).all()


async def one_by_one(clients: Clients, tgids: Sequence[int]) -> Figures:
    async with clients.db() as session:
        on_offer = sa.select(sa.func.count()).select_from(MenuItem).join(Cafe)
        available = await session.scalar(on_offer.where(col(MenuItem.is_available), col(Cafe.is_active))) or 0
        figures: Figures = {}
        for tgid in tgids:
            query = (
                select(Order)
                .options(selectinload(Order.items))  # type: ignore[arg-type]
                .where(
                    Order.user_tgid == tgid,
                    col(Order.date).between(SINCE, TODAY),
                    Order.status != OrderStatus.CANCELLED,
                )
            )
            figures[tgid] = figures_of((await session.scalars(query)).all(), available)
    return figures


def figures_of(orders: Sequence[Order], available: int) -> OrderStats:
    by_category: Counter[MenuCategory] = Counter()
    by_dish: Counter[tuple[str, int]] = Counter()
    for order in orders:
        for item in order.items:
            by_category[item.category] += item.quantity
            by_dish[item.name, item.menu_item_id] += item.quantity
    favorites = sorted(by_dish.items(), key=lambda dish: (-dish[1], dish[0]))[:FAVORITES_MAX]
    total = by_category.total() or 1
    return OrderStats(
        orders_count=len(orders),
        categories=CategoryShares(**{category.value: count / total for category, count in by_category.items()}),
        unique_dishes=len(by_dish),
        total_dishes_available=available,
        favorite_dishes=tuple(FavoriteDish(name=name, count=count) for (name, _), count in favorites),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=7)
    asyncio.run(main(**vars(parser.parse_args())))
