"""The system behind PgBouncer in transaction mode, where each transaction may have another session of PostgreSQL."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from app.auth.context import Context
from app.auth.viewer import Caller, Viewer
from app.clients import Clients, open_clients
from app.dev.embedded import Kafka
from app.dev.ports import free_port
from app.models import Role, User
from app.resolvers import orders, users
from app.resolvers.links import set_notifications
from app.services.pagination import PageRequest
from app.settings import Settings
from tests.conftest import EMBEDDED_KAFKA, MANAGER_TGID, add_cafe, add_lunch
from tests.database import until_scalar
from tests.events.conftest import reading, relaying
from tests.servers import DEADLINE_S, POLL_S, until
from tests.test_database import LISTENING

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed")]

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={port} user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
"""


@pytest.fixture
async def pooled(settings: Settings, tmp_path: Path) -> AsyncIterator[Settings]:
    """Settings with a PgBouncer that has three sessions of PostgreSQL, and with PostgreSQL's own address."""
    url, listen_port = make_url(settings.database_url.get_secret_value()), free_port()
    file = tmp_path / "pgbouncer.ini"
    file.write_text(CONFIGURATION.format(port=url.port, listen_port=listen_port))
    as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        *(str(PGBOUNCER), "-q", *as_nobody, str(file)), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await _until_listening(listen_port)
        pgbouncer = url.set(port=listen_port).render_as_string(hide_password=False)
        yield settings.model_copy(
            update={"database_url": SecretStr(pgbouncer), "database_direct_url": settings.database_url}
        )
    finally:
        process.terminate()
        await process.wait()


@pytest.fixture
async def pooled_clients(pooled: Settings) -> AsyncIterator[Clients]:
    async with open_clients(pooled) as opened:
        yield opened


async def test_operations_work_behind_pgbouncer(pooled_clients: Clients, people: None) -> None:
    """Many simultaneous operations, with locks, JSON and arrays, share few sessions without an error."""
    lunch = await add_lunch(pooled_clients)
    tgids = range(5000, 5040)
    async with pooled_clients.db() as session:
        session.add_all(User(tgid=tgid, name=f"User {tgid}") for tgid in tgids)

    async def order_and_read(tgid: int) -> int | None:
        ctx = Context(pooled_clients, source="test", caller=Caller(viewer=Viewer(tgid, Role.USER)))
        order = await orders.place_order(ctx, lunch.cafe.id, lunch.open_date, lunch.meal)
        await orders.cancel_order(ctx, order.id)
        page = await orders.list_orders(ctx, PageRequest(), orders.OrderFilter())
        await users.get_me(ctx)
        return page.total_count

    totals = await asyncio.gather(*map(order_and_read, tgids))

    assert totals == [1] * len(tgids)


async def test_time_limits_hold_in_each_transaction(pooled_clients: Clients) -> None:
    """Each transaction behind PgBouncer has the time-outs of the settings, and leaves none in PostgreSQL's session."""
    shown = sa.text("SELECT current_setting('lock_timeout'), current_setting('statement_timeout')")
    async with pooled_clients.db() as session:
        inside = tuple((await session.execute(shown)).one())
    async with pooled_clients.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        outside = tuple((await connection.execute(shown)).one())

    assert (inside, outside) == (("1min", "30s"), ("0", "0"))


async def test_the_relay_has_its_own_session(pooled: Settings, kafka: Kafka, people: None) -> None:
    """The relay publishes events behind PgBouncer: its lock and its LISTEN are sessions of PostgreSQL."""
    kafka_settings = pooled.model_copy(update={"kafka_broker_url": kafka.url, **EMBEDDED_KAFKA})
    async with open_clients(kafka_settings) as clients, relaying(clients), reading(kafka) as records:
        cafe = await add_cafe(clients, tg_chat_id=-1001, linked_at=datetime.now(UTC))
        await until_scalar(clients.engine, LISTENING.bindparams(name="lunch-bot"), 1)
        manager = Context(clients, source="test", caller=Caller(viewer=Viewer(MANAGER_TGID, Role.MANAGER)))
        await set_notifications(manager, cafe.id, enabled=False)
        await until(lambda: len(records) == 1)


async def _until_listening(port: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(POLL_S)
            else:
                writer.close()
                await writer.wait_closed()
                return
