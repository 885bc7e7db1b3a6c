"""How long the event loop stands still for the order list of a large day: `python -m benchmarks.previews [--orders N]`.

It starts PostgreSQL, and adds a cafe with N orders of a combo, three dishes, an extra and a note each. Then it makes the
preview, the announcement, and a correction after every fifth order was changed, as the api and the events process do. For
each it prints the longest time that the event loop ran without a pause, in CPU time of its thread, so a busy machine does
not change the result; the CPU time of the process; and a hash of the text, which must be the same in all versions. The
goal is 100 ms at a stretch.
"""

import argparse
import asyncio
import datetime as dt
import gc
import hashlib
import time
from asyncio.events import Handle
from collections.abc import Awaitable, Callable
from typing import Self

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.models import Cafe, Role, User
from app.resolvers.notifications import preview_notification
from app.services.notifications import announce_day
from benchmarks.running import open_database

DATE = dt.date(2030, 3, 4)
MANAGER_TGID = 1

GOAL_MS = 100

ORDERS = (
    """
    INSERT INTO users (tgid, name, role) SELECT 1000 + n, 'Colleague Number ' || n, 'user' FROM generate_series(1, :n) n
    """,
    """
    INSERT INTO menu_items (cafe_id, name, category, price)
    SELECT 1, initcap(c) || ' of the day ' || n, c, CASE c WHEN 'extra' THEN 1.5 END
    FROM unnest(ARRAY['soup', 'salad', 'main', 'extra']) c, generate_series(1, 10) n
    """,
    """
    INSERT INTO combos (cafe_id, name, categories, price) VALUES (1, 'Business lunch', '{soup,salad,main}', 10)
    """,
    """
    INSERT INTO orders (user_tgid, cafe_id, date, combo_id, combo_name, combo_price, total_price, notes)
    SELECT tgid, 1, :date, 1, 'Business lunch', 10, 13, 'No dill for me, please: ' || tgid
    FROM users WHERE tgid > 1000
    """,
    """
    INSERT INTO order_items (order_id, menu_item_id, name, category, price, quantity)
    SELECT o.id, i.id, i.name, i.category, i.price, CASE i.category WHEN 'extra' THEN 2 ELSE 1 END
    FROM orders o JOIN menu_items i ON (i.id + o.id) % 10 = 0
    """,
)

CHANGES = "UPDATE orders SET notes = 'Two spoons, please: ' || user_tgid WHERE id % 5 = 0"


class Stretches:
    """Measures each callback of the event loop in CPU time of its thread."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._run: Callable[[Handle], None] = Handle._run  # noqa: SLF001 asyncio has no hook for it

    def __enter__(self) -> Self:
        def run(handle: Handle) -> None:
            begin = time.thread_time()
            self._run(handle)
            self.longest = max(self.longest, time.thread_time() - begin)

        Handle._run = run  # type: ignore[method-assign] # noqa: SLF001
        return self

    def __exit__(self, *_error: object) -> None:
        Handle._run = self._run  # type: ignore[method-assign] # noqa: SLF001


async def measure(title: str, make: Callable[[], Awaitable[str | None]]) -> None:
    await asyncio.sleep(0)
    with Stretches() as stretches:
        begin = time.process_time()
        text = await make()
        spent = time.process_time() - begin
    digest = hashlib.blake2b((text or "").encode(), digest_size=6).hexdigest()
    longest = stretches.longest * 1000
    mark = " " if longest <= GOAL_MS else "!"
    print(f"{title:14} {longest:7.0f} ms at a stretch{mark} {spent * 1000:7.0f} ms in all  {digest}", flush=True)


async def main(orders: int) -> None:
    async with open_database() as clients:
        await add_orders(clients, orders)
        await measure_all(clients)


async def add_orders(clients: Clients, number: int) -> None:
    async with clients.db() as session:
        session.add(User(tgid=MANAGER_TGID, name="Maria", role=Role.MANAGER))
        session.add(Cafe(name="Basil & Thyme", tg_chat_id=-1001, linked_at=dt.datetime.now(dt.UTC)))
        await session.flush()
        for statement in ORDERS:
            await session.execute(sa.text(statement), {"n": number, "date": DATE})
    async with clients.engine.connect() as connection:
        apart = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await apart.execute(sa.text("VACUUM ANALYZE"))


async def measure_all(clients: Clients) -> None:
    async def preview() -> str | None:
        return await preview_notification(Context(clients, "", Caller(telegram_user=MANAGER_TGID)), 1, DATE)

    async def announce(session: AsyncSession, *, is_correction: bool = False) -> str:
        notification = await announce_day(clients, session, 1, DATE, is_correction=is_correction)
        assert notification is not None
        return notification.text

    async def announcement() -> str:
        async with clients.db() as session:
            return await announce(session)

    async def correction() -> str:
        async with clients.db() as session:
            return await announce(session, is_correction=True)

    gc.collect()
    gc.freeze()  # as the server does, before it serves
    for _ in range(2):
        await measure("preview", preview)
    await measure("announcement", announcement)
    async with clients.db() as session:
        await session.execute(sa.text(CHANGES))
    await measure("its preview", preview)
    await measure("correction", correction)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=5_000)
    asyncio.run(main(parser.parse_args().orders))
