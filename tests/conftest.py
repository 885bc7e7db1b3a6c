"""Shared fixtures: real PostgreSQL, Redis and Kafka, and stand-ins over HTTP.

PostgreSQL and Redis are started once for a run. Each test has an empty database, copied from a migrated template or
emptied after another test, and an empty Redis. A test that uses `kafka` has a separate broker, which it may stop and
restart. If DATABASE_URL or REDIS_URL is set, that service is used: the database user must be allowed to create databases,
and Redis is emptied.

With `-n` the tests run in several processes. Each of them has separate services.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Self
from uuid import uuid4

import asyncpg
import pytest
import sqlalchemy as sa
import stamina
import structlog
from alembic import command
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.auth.context import Context
from app.auth.tokens import issue_token
from app.auth.viewer import Caller, Viewer
from app.clients import Clients, open_clients
from app.dev.embedded import Kafka, embedded
from app.migrate import alembic_config, migrate
from app.models import Cafe, Combo, Deadline, MenuCategory, MenuItem, Outbox, Role, User, metadata
from app.models.orders import OrderInput
from app.settings import Settings

pytest_plugins = [
    "tests.servers",
    "tests.apis",
    "tests.notification_fixtures",
    "tests.gemini_standin",
    "tests.telegram_standin",
    "tests.tls",
]

MANAGER_TGID = 1001
USER_TGID = 2002
JWT_SECRET = "a secret for tests that is long enough"

MAX_ATTEMPTS = 1000
"""More attempts than any retry makes."""

LOCK_TIMEOUT = timedelta(seconds=60)
"""Much longer than the default: on a busy machine a test may hold a lock for some seconds."""

WORKERS_PER_CORE = 1.5
"""Tests wait for services and clocks about a third of their time, so three processes use two cores."""

EMBEDDED_KAFKA = {"kafka_fetch_max_wait_ms": 5, "kafka_session_timeout_ms": 1000, "kafka_idempotence": False}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes for `-n auto`. With a given Redis it is 0, which means this process alone."""
    if "DATABASE_URL" in os.environ or "REDIS_URL" in os.environ:
        return 0
    return round(WORKERS_PER_CORE * (os.cpu_count() or 1))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests with a Kafka broker as slow, and begin with the longest tests.

    The tests of the whole system start many processes each. They come first, so that one worker runs them one after the
    other, while the other workers run the other tests.
    """
    items.sort(key=lambda item: "e2e" not in item.path.parts)
    for item in items:
        if isinstance(item, pytest.Function) and "kafka" in item.fixturenames:
            item.add_marker(pytest.mark.slow)


class Services:
    """Addresses of PostgreSQL and Redis for this run."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self.database_url = database_url
        self.redis_url = redis_url


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    """Log without the values of all variables in tracebacks, structlog's default: they are slow and hide the message."""
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer(key_order=["event"])]
    )


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    """Hide the developer's environment and `.env` from tests."""
    outside = {name: os.environ.pop(name.upper()) for name in Settings.model_fields if name.upper() in os.environ}
    OUTSIDE.update({name: value for name, value in outside.items() if name.endswith("_url")})
    Settings.model_config["env_file"] = None
    yield
    os.environ.update({name.upper(): value for name, value in outside.items()})


OUTSIDE: dict[str, str] = {}


@pytest.fixture(scope="session")
async def services(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    database_url, redis_url = OUTSIDE.get("database_url"), OUTSIDE.get("redis_url")
    async with embedded(
        tmp_path_factory.mktemp("services"),
        postgres=database_url is None,
        redis=redis_url is None,
        kafka=False,
        durable=False,
    ) as started:
        yield Services(database_url or str(started.database_url), redis_url or str(started.redis_url))


@pytest.fixture(scope="session")
async def server(services: Services) -> AsyncIterator[AsyncEngine]:
    """The PostgreSQL server, to create and drop databases."""
    engine = create_async_engine(services.database_url, isolation_level="AUTOCOMMIT")
    yield engine
    await engine.dispose()


@pytest.fixture(scope="session")
async def template(server: AsyncEngine) -> AsyncIterator[str]:
    """A migrated database, the template of each test's database."""
    name = f"template_{uuid4().hex}"
    async with server.connect() as connection:
        await connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine = create_async_engine(_url_of(server, name))
    await migrate(engine)
    await engine.dispose()
    yield name
    async with server.connect() as connection:
        await connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


class Database:
    """A database for one test after the other. It is emptied between them, five times as fast as a new one."""

    def __init__(self, url: str, connection: asyncpg.Connection) -> None:
        self.url = url
        self._connection = connection
        self._cleaning = ""
        self._tables: object = None

    @classmethod
    async def create(cls, server: AsyncEngine, template: str) -> Self:
        name = f"test_{uuid4().hex}"
        async with server.connect() as connection:
            await connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
        url = _url_of(server, name)
        database = cls(url, await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql")))
        sequences = await database._connection.fetch(
            "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"
        )
        database._tables = await database._existing_tables()
        database._cleaning = "".join(
            [f"{sa.delete(table)};" for table in reversed(metadata.sorted_tables)]
            + [f"SELECT setval('{sequence}', 1, false);" for [sequence] in sequences]
        )
        return database

    async def clean(self) -> bool:
        """Empty the database and close the connections that the test left. Return False if it cannot be used again."""
        if self._connection.is_closed():
            return False
        await self._connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if await self._existing_tables() != self._tables:
            return False
        await self._connection.execute(self._cleaning)
        return True

    async def drop(self, server: AsyncEngine) -> None:
        self._connection.terminate()
        async with server.connect() as connection:
            await connection.execute(sa.text(f"DROP DATABASE {make_url(self.url).database} WITH (FORCE)"))

    async def _existing_tables(self) -> object:
        return await self._connection.fetchval(
            "SELECT array_agg(oid ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        )


@pytest.fixture(scope="session")
async def spare_databases(server: AsyncEngine, template: str) -> AsyncIterator[list[Database]]:
    """Empty databases that are not in use."""
    spare: list[Database] = []
    yield spare
    for database in spare:
        await database.drop(server)


@pytest.fixture
async def database_url(server: AsyncEngine, template: str, spare_databases: list[Database]) -> AsyncIterator[str]:
    """The address of an empty database with the newest schema. A test may change everything in it."""
    database = spare_databases.pop() if spare_databases else await Database.create(server, template)
    yield database.url
    if await database.clean():
        spare_databases.append(database)
    else:
        await database.drop(server)


@pytest.fixture
def settings(services: Services, database_url: str) -> Settings:
    """Settings without Kafka: its address has no server."""
    return Settings(
        database_url=database_url,
        redis_url=services.redis_url,
        kafka_broker_url="127.0.0.1:1",
        jwt_secret_key=JWT_SECRET,
        log_format="console",
        database_lock_timeout=LOCK_TIMEOUT,
    )


@pytest.fixture
async def clients(settings: Settings) -> AsyncIterator[Clients]:
    async with open_clients(settings) as opened:
        await opened.redis.flushdb()
        yield opened


@pytest.fixture
async def standby(settings: Settings, server: AsyncEngine) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """The server accepts no changes in new connections, as a standby, until the given function is called."""
    name = make_url(settings.database_url.get_secret_value()).database

    async def alter(change: str) -> None:
        async with server.connect() as connection:
            await connection.execute(sa.text(f"ALTER DATABASE {name} {change}"))

    await alter("SET default_transaction_read_only = on")
    yield lambda: alter("RESET default_transaction_read_only")
    await alter("RESET default_transaction_read_only")


@pytest.fixture
async def kafka(tmp_path: Path) -> AsyncIterator[Kafka]:
    """A Kafka broker for this test only. The test may stop and restart it; its data are lost then."""
    broker = Kafka(tmp_path)
    await broker.start()
    yield broker
    await broker.stop()


@pytest.fixture
def kafka_settings(settings: Settings, kafka: Kafka) -> Settings:
    return settings.model_copy(update={"kafka_broker_url": kafka.url, **EMBEDDED_KAFKA})


@pytest.fixture
async def kafka_clients(kafka_settings: Settings) -> AsyncIterator[Clients]:
    """Clients with a running Kafka, which is not connected yet."""
    async with open_clients(kafka_settings) as opened:
        await opened.redis.flushdb()
        yield opened


@pytest.fixture
def without_waiting() -> Iterator[None]:
    """Retries do not wait. A limit of attempts stays as it is, because the cap is above it."""
    with stamina.set_testing(True, attempts=MAX_ATTEMPTS, cap=True):
        yield


@pytest.fixture
async def people(clients: Clients) -> None:
    async with clients.db() as session:
        session.add(User(tgid=MANAGER_TGID, name="Maria", role=Role.MANAGER))
        session.add(User(tgid=USER_TGID, name="Ivan"))


@pytest.fixture
def manager(clients: Clients, people: None) -> Context:
    return Context(clients, source="test", caller=Caller(viewer=Viewer(MANAGER_TGID, Role.MANAGER)))


@pytest.fixture
def user(clients: Clients, people: None) -> Context:
    return Context(clients, source="test", caller=Caller(viewer=Viewer(USER_TGID, Role.USER)))


@pytest.fixture
def anonymous(clients: Clients) -> Context:
    return Context(clients, source="test")


@pytest.fixture
def manager_token(settings: Settings) -> str:
    return issue_token(settings, User(tgid=MANAGER_TGID, name="", role=Role.MANAGER))


@pytest.fixture
def user_token(settings: Settings) -> str:
    return issue_token(settings, User(tgid=USER_TGID, name="", role=Role.USER))


@pytest.fixture
async def cafe(clients: Clients) -> Cafe:
    return await add_cafe(clients)


async def add_cafe(clients: Clients, name: str = "Basil & Thyme", **fields: object) -> Cafe:
    async with clients.db() as session:
        cafe = Cafe(name=name, **fields)  # type: ignore[arg-type]
        session.add(cafe)
        await session.flush()
        await session.refresh(cafe)
    return cafe


@dataclass(frozen=True)
class Lunch:
    """A cafe that takes orders: a menu, a combo of soup and main, one of salad, a deadline for every weekday."""

    cafe: Cafe
    soup: MenuItem
    other_soup: MenuItem
    salad: MenuItem
    main: MenuItem
    cola: MenuItem
    cake: MenuItem
    combo: Combo
    light: Combo

    @property
    def open_date(self) -> date:
        """A date that is open for orders: its deadline is more than a day ahead."""
        return datetime.now(UTC).date() + timedelta(days=3)

    @property
    def closed_date(self) -> date:
        """A date that is closed for orders: its deadline was yesterday or the day before."""
        return datetime.now(UTC).date() - timedelta(days=1)

    @property
    def meal(self) -> OrderInput:
        """A valid order: the business lunch with borscht and pelmeni, for 10.00."""
        return self.order()

    def order(self, **changes: object) -> OrderInput:
        """The meal with changes, which may be invalid."""
        return OrderInput.collect(**{"combo_id": self.combo.id, "dish_ids": [self.soup.id, self.main.id]} | changes)


@pytest.fixture
async def lunch(clients: Clients) -> Lunch:
    return await add_lunch(clients)


async def add_lunch(clients: Clients, name: str = "Basil & Thyme", **fields: object) -> Lunch:
    cafe = await add_cafe(clients, name, **fields)
    soup, other_soup, salad, main = (
        MenuItem(cafe_id=cafe.id, name=name, category=category)
        for name, category in (
            ("Borscht", MenuCategory.SOUP),
            ("Solyanka", MenuCategory.SOUP),
            ("Vinaigrette", MenuCategory.SALAD),
            ("Pelmeni", MenuCategory.MAIN),
        )
    )
    cola, cake = (
        MenuItem(cafe_id=cafe.id, name=name, category=MenuCategory.EXTRA, price=Decimal(price))
        for name, price in (("Cola", "1.50"), ("Honey cake", "3.25"))
    )
    combo = Combo(
        cafe_id=cafe.id,
        name="Business lunch",
        categories=[MenuCategory.SOUP, MenuCategory.MAIN],
        price=Decimal("10.00"),
    )
    light = Combo(cafe_id=cafe.id, name="Light", categories=[MenuCategory.SALAD], price=Decimal("6.00"))
    added = [soup, other_soup, salad, main, cola, cake, combo, light]
    async with clients.db() as session:
        session.add_all(Deadline(cafe_id=cafe.id, weekday=weekday, deadline_time=time(10, 30)) for weekday in range(7))
        for row in added:
            session.add(row)
            await session.flush()
            await session.refresh(row)
    return Lunch(cafe, soup, other_soup, salad, main, cola, cake, combo, light)


@asynccontextmanager
async def downgraded(clients: Clients, revision: str) -> AsyncIterator[None]:
    """Take back the migrations after `revision` for the block."""

    def run(connection: sa.Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, revision)

    async with clients.direct_engine.connect() as connection:
        await connection.run_sync(run)
    yield
    await migrate(clients.direct_engine)


async def event_types(clients: Clients) -> list[str]:
    """Return the types of the events in the outbox, in order."""
    async with clients.db() as session:
        rows = await session.execute(sa.select(Outbox.c.headers).order_by(Outbox.c.id))
    return [headers["ce_type"] for (headers,) in rows if "ce_type" in headers]


def _url_of(server: AsyncEngine, database: str) -> str:
    return make_url(server.url).set(database=database).render_as_string(hide_password=False)
