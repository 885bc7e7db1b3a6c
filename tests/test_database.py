"""Connections to PostgreSQL: what an address and the settings do to them."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from alembic import command
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clients import Clients, open_clients
from app.database import open_engine, remove_timeouts
from app.dev.ports import free_port
from app.errors import Internal, LunchbotError, ServiceUnavailable, as_lunchbot_error
from app.events.outbox import outbox_broker
from app.migrate import alembic_config
from app.settings import Settings
from tests.conftest import add_cafe
from tests.database import until_scalar
from tests.servers import DEADLINE_S
from tests.tls import Certificates, tls_relay

LISTENING = sa.text("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND application_name = :name")


@asynccontextmanager
async def connected(settings: Settings, url: str) -> AsyncIterator[AsyncEngine]:
    """An engine for another address."""
    engine = open_engine(settings.model_copy(update={"database_url": SecretStr(url)}))
    yield engine
    await engine.dispose()


async def value_of(engine: AsyncEngine, expression: str) -> object:
    """Return the value of an expression in a connection of the engine."""
    async with engine.connect() as connection:
        return await connection.scalar(sa.text(f"SELECT {expression}"))


def address(settings: Settings, *hosts: str | int, parameters: str = "", user: str = "postgres") -> str:
    """The address of the test's database, with other hosts or ports, and with parameters."""
    url = make_url(settings.database_url.get_secret_value())
    authority = ",".join(f"127.0.0.1:{host}" if isinstance(host, int) else host for host in hosts or (url.port or 0,))
    return f"postgresql://{user}@{authority}/{url.database}?{parameters}"


@pytest.mark.parametrize(
    ("parameters", "expression", "value"),
    [
        ("application_name=caf%C3%A9%20%26%20co", "current_setting('application_name')", "caf\\xc3\\xa9 & co"),
        ("fallback_application_name=bot", "current_setting('application_name')", "bot"),
        ("", "current_setting('application_name')", "lunch-bot"),
        ("options=-c%20work_mem%3D7MB%20-c%20search_path%3Da%2Cb", "current_setting('work_mem')", "7MB"),
        ("options=-c%20work_mem%3D7MB%20-c%20search_path%3Da%2Cb", "current_setting('search_path')", "a,b"),
        ("sslmode=disable&connect_timeout=10&target_session_attrs=read-write", "1", 1),
    ],
)
async def test_parameters_of_the_address_have_their_effect(
    settings: Settings, parameters: str, expression: str, value: object
) -> None:
    """The parameters of an address mean what they mean to libpq."""
    async with connected(settings, address(settings, parameters=parameters)) as engine:
        assert await value_of(engine, expression) == value


async def test_a_user_name_is_percent_decoded(settings: Settings, server: AsyncEngine) -> None:
    """A user may have any name."""
    name = "l@nch:b/t 1%?"
    async with server.connect() as connection:
        await connection.execute(sa.text(f'CREATE ROLE "{name}" LOGIN'))
    try:
        async with connected(settings, address(settings, user=quote(name, safe=""))) as engine:
            assert await value_of(engine, "current_user") == name
    finally:
        async with server.connect() as connection:
            await connection.execute(sa.text(f'DROP ROLE "{name}"'))


async def test_the_next_host_is_used_if_the_first_is_unavailable(settings: Settings) -> None:
    """Of several hosts the first that answers is used."""
    port = make_url(settings.database_url.get_secret_value()).port or 0
    async with connected(settings, address(settings, free_port(), port)) as engine:
        assert await value_of(engine, "inet_server_port()") == port


async def test_a_host_that_does_not_answer_has_its_own_time_limit(settings: Settings) -> None:
    """The next host gets its whole connect_timeout after a host that accepts connections and says nothing."""
    port = make_url(settings.database_url.get_secret_value()).port or 0
    with socket.create_server(("127.0.0.1", 0)) as silent:
        both = address(settings, silent.getsockname()[1], port, parameters="connect_timeout=1")
        async with connected(settings, both) as engine:
            assert await value_of(engine, "inet_server_port()") == port


async def test_a_standby_is_unavailable(settings: Settings, standby: object) -> None:
    """With target_session_attrs=read-write a server that only reads counts as unavailable."""
    async with connected(settings, address(settings, parameters="target_session_attrs=read-write")) as engine:
        with pytest.raises(OSError, match="is a standby") as error:
            await value_of(engine, "1")

    assert isinstance(as_lunchbot_error(error.value), ServiceUnavailable)


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
async def test_a_connection_can_be_encrypted(settings: Settings, certificates: Certificates, mode: str) -> None:
    """A server that accepts TLS only can be used, and its certificate can be verified."""
    port = make_url(settings.database_url.get_secret_value()).port or 0
    async with tls_relay(certificates, port, postgres=True) as tls_port:
        parameters = f"sslmode={mode}&sslrootcert={quote(str(certificates.authority))}"
        async with connected(settings, address(settings, tls_port, parameters=parameters)) as engine:
            assert await value_of(engine, "inet_server_port()") == port


@pytest.mark.parametrize("parameters", ["sslmode=disable", "sslmode=verify-full&sslrootcert={other}"])
async def test_a_certificate_of_another_authority_is_refused(
    settings: Settings, certificates: Certificates, parameters: str
) -> None:
    """Without TLS, or with another certificate authority, the server counts as unavailable."""
    other = Certificates.create(certificates.authority.parent / "other").authority
    port = make_url(settings.database_url.get_secret_value()).port or 0
    async with tls_relay(certificates, port, postgres=True) as tls_port:
        url = address(settings, tls_port, parameters=parameters.format(other=other))
        async with connected(settings, url) as engine:
            with pytest.raises((OSError, sa.exc.DBAPIError)) as error:
                await value_of(engine, "1")

    assert isinstance(as_lunchbot_error(error.value), ServiceUnavailable)


async def test_the_outbox_listens_with_the_same_address(settings: Settings, certificates: Certificates) -> None:
    """The outbox's own connection for LISTEN has the parameters of the address, TLS and the name included."""
    port = make_url(settings.database_url.get_secret_value()).port or 0
    async with tls_relay(certificates, port, postgres=True) as tls_port:
        parameters = f"sslmode=verify-full&sslrootcert={quote(str(certificates.authority))}&application_name=listener"
        url = SecretStr(address(settings, tls_port, parameters=parameters))
        async with open_clients(settings.model_copy(update={"database_url": url})) as clients:
            broker = outbox_broker(clients, graceful_timeout_s=1)
            broker.subscriber("nothing")(_ignore)
            await broker.start()
            await until_scalar(clients.engine, LISTENING.bindparams(name="listener"), 1)
            await broker.stop()


async def test_alembic_reads_the_same_address(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alembic without our command line understands the parameters of the address."""
    for name in ("redis_url", "jwt_secret_key"):
        monkeypatch.setenv(name.upper(), getattr(settings, name).get_secret_value())
    monkeypatch.setenv("KAFKA_BROKER_URL", settings.kafka_broker_url)
    monkeypatch.setenv("DATABASE_URL", address(settings, parameters="sslmode=prefer&connect_timeout=10"))

    await asyncio.to_thread(command.check, alembic_config())


TIMEOUTS = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")


async def test_every_connection_has_the_time_limits(clients: Clients) -> None:
    """The time-outs of the settings hold in every transaction."""
    async with clients.db() as session:
        limits = [await session.scalar(sa.text(f"SHOW {name}")) for name in TIMEOUTS]

    assert limits == ["1min", "30s", "30s"]


async def test_a_transaction_may_do_without_time_limits(clients: Clients) -> None:
    """A transaction that takes long by design has no time-outs, and the next one has them again."""
    async with clients.db() as session:
        await remove_timeouts(session)
        limits = [await session.scalar(sa.text(f"SHOW {name}")) for name in TIMEOUTS]
    async with clients.db() as session:
        limits.append(await session.scalar(sa.text("SHOW lock_timeout")))

    assert limits == ["0", "0", "0", "1min"]


async def test_a_statement_that_takes_too_long_is_ended(settings: Settings) -> None:
    """A statement that exceeds its time limit fails as if PostgreSQL is unavailable."""
    short = settings.model_copy(update={"database_statement_timeout": timedelta(milliseconds=50)})
    async with open_clients(short) as clients:
        with pytest.raises(sa.exc.DBAPIError) as error:
            async with clients.db() as session:
                await session.execute(sa.text(f"SELECT pg_sleep({DEADLINE_S})"))

    assert isinstance(as_lunchbot_error(error.value), ServiceUnavailable)


async def test_an_idle_transaction_is_ended(settings: Settings, clients: Clients) -> None:
    """A transaction that does nothing for too long loses its connection and its locks; the next one is not affected."""
    short = settings.model_copy(update={"database_idle_in_transaction_timeout": timedelta(milliseconds=50)})

    async def hesitate(hesitant: Clients) -> None:
        async with hesitant.db() as session:
            pid = await session.scalar(sa.text("SELECT pg_backend_pid()"))
            alive = sa.text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            await until_scalar(clients.engine, alive.bindparams(pid=pid), 0)
            await session.execute(sa.select(1))

    async with open_clients(short) as hesitant:
        with pytest.raises((sa.exc.DBAPIError, OSError)) as error:
            await hesitate(hesitant)
        async with hesitant.db() as session:
            answer = await session.scalar(sa.select(1))

    assert (type(as_lunchbot_error(error.value)), answer) == (ServiceUnavailable, 1)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("40001", ServiceUnavailable),
        ("40P01", ServiceUnavailable),
        ("55P03", ServiceUnavailable),
        ("57P05", ServiceUnavailable),
        ("25P03", ServiceUnavailable),
        ("55006", Internal),
        ("22012", Internal),
    ],
)
async def test_errors_that_pass_are_told_from_ours(clients: Clients, code: str, kind: type[LunchbotError]) -> None:
    """Conflicts, waits and lost connections are temporary; other errors are not."""
    with pytest.raises(sa.exc.DBAPIError) as error:
        async with clients.db() as session:
            await session.execute(sa.text(f"DO $$ BEGIN RAISE EXCEPTION SQLSTATE '{code}'; END $$"))

    assert type(as_lunchbot_error(error.value)) is kind


async def test_a_connection_to_a_standby_is_replaced(
    clients: Clients, standby: Callable[[], Awaitable[object]]
) -> None:
    """After a failover the first change fails as if PostgreSQL is unavailable, and the next one uses a new connection."""
    with pytest.raises(sa.exc.DBAPIError) as error:
        await add_cafe(clients)

    await standby()

    assert isinstance(as_lunchbot_error(error.value), ServiceUnavailable)
    assert (await add_cafe(clients)).id is not None


async def _ignore(_message: object) -> None:
    pass
