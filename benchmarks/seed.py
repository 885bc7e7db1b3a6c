"""The speed of loading demo data: `python -m benchmarks.seed [--users N] [--sample N] [--rounds N]`.

It starts a separate PostgreSQL, as `lunch-bot dev` does, with fsync on. First N users are seeded into an empty database:
the time includes random habits and orders, COPY, all checks and indexes. Then a sample is loaded alternately by the seed
and by SQLAlchemy's inserts of the same, existing rows; the ratio is between both medians.
"""

import argparse
import asyncio
import datetime as dt
import time
from collections.abc import Coroutine
from statistics import median
from typing import Any

import sqlalchemy as sa

from app.clients import Clients
from app.dev.seed import count_demo_data, seed
from app.models import metadata
from benchmarks.running import open_database

TODAY = dt.date(2026, 3, 4)
MILLION = 1_000_000

ORDERS, ITEMS, USERS = (metadata.tables[name] for name in ("orders", "order_items", "users"))

type Rows = list[dict[str, Any]]


async def main(users: int, sample: int, rounds: int) -> None:
    async with open_database() as clients:
        await whole(clients, users)
        await side_by_side(clients, sample, rounds)


async def whole(clients: Clients, users: int) -> None:
    seconds = await timed(seed(clients, users=users, today=TODAY))
    lines = (await count_demo_data(clients)).lines
    print(f"seed: {users:,} users, {lines:,} order lines in {seconds:.1f} s: {speed(lines, seconds)}")


async def side_by_side(clients: Clients, sample: int, rounds: int) -> None:
    by_seed, by_insert = [], []
    for _ in range(rounds):
        await empty(clients, USERS, ORDERS)
        by_seed.append(await timed(seed(clients, users=sample, today=TODAY)))
        orders, lines = await rows(clients)
        await empty(clients, ORDERS)
        by_insert.append(await timed(insert(clients, orders, lines)))
    count = sum(map(len, lines))
    print(f"the same {len(orders):,} orders with {count:,} lines, medians of {rounds}:")
    print(f"  seed, generation included  {median(by_seed):6.2f} s: {speed(count, median(by_seed))}")
    print(f"  SQLAlchemy's inserts    {median(by_insert):6.2f} s: {speed(count, median(by_insert))}")
    print(f"  ratio {median(by_insert) / median(by_seed):.1f}")


async def rows(clients: Clients) -> tuple[Rows, list[Rows]]:
    """Return the orders in the table without their ids, and the lines of each."""
    async with clients.db() as session:
        orders = [dict(row) for row in (await session.execute(sa.select(ORDERS).order_by(ORDERS.c.id))).mappings()]
        items = [dict(row) for row in (await session.execute(sa.select(ITEMS))).mappings()]
    lines: dict[int, Rows] = {order.pop("id"): [] for order in orders}
    for item in items:
        lines[item.pop("order_id")].append(item)
    return orders, list(lines.values())


async def insert(clients: Clients, orders: Rows, lines: list[Rows]) -> None:
    """Insert in SQLAlchemy's batches (insertmanyvalues): the orders for their ids, then their lines."""
    async with clients.db() as session:
        insert_orders = sa.insert(ORDERS).returning(ORDERS.c.id, sort_by_parameter_order=True)
        ids = await session.scalars(insert_orders, orders)
        items = [{**line, "order_id": id_} for id_, own in zip(ids, lines, strict=True) for line in own]
        await session.execute(sa.insert(ITEMS).returning(ITEMS.c.order_id), items)


async def empty(clients: Clients, *tables: sa.Table) -> None:
    async with clients.db() as session:
        await session.execute(sa.text(f"TRUNCATE {', '.join(table.name for table in tables)} CASCADE"))


async def timed(work: Coroutine[Any, Any, None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def speed(lines: int, seconds: float) -> str:
    return f"{lines / seconds:,.0f} a second, {MILLION * seconds / lines:.1f} s for a million"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--sample", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(main(**vars(parser.parse_args())))
