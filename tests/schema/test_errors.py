"""What clients are told when it is not their fault: a code, and nothing else."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
import structlog
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clients import Clients
from app.errors import RETRY_AFTER_S
from app.models import Cafe
from app.settings import Settings
from tests.conftest import free_port
from tests.doors import CHAT, Door, GraphQLDoor, RestDoor, calling_api

BOTH = pytest.mark.parametrize("kind", [GraphQLDoor, RestDoor], ids=["graphql", "rest"])

OF_OURS = ("relation", "users", "asyncpg", "sqlalchemy", "SELECT", "Error", "Traceback")
"""What the texts of exceptions have in them."""


@pytest.fixture
async def broken(clients: Clients, people: None) -> None:
    """The database has lost a table."""
    async with clients.db() as session:
        await session.execute(sa.text("DROP TABLE users CASCADE"))


async def test_what_nobody_expected_is_masked(manager_door: Door, broken: None) -> None:
    """An exception's text never reaches a client."""
    answer = await manager_door("me")

    assert answer.code == "INTERNAL"
    assert [word for word in OF_OURS if word in answer.response.text] == []


async def test_what_nobody_expected_is_logged_with_the_request_id(manager_door: Door, broken: None) -> None:
    """The answer's request id leads to the exception."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logged:
        answer = await manager_door("me")

    assert [(entry["request_id"], bool(entry["exc_info"])) for entry in logged if entry["log_level"] == "error"] == [
        (answer.response.headers["x-request-id"], True)
    ]


async def test_what_is_the_clients_fault_is_not_logged(manager_door: Door) -> None:
    """An error of a client's is no line in our log."""
    with structlog.testing.capture_logs() as logged:
        await manager_door("cafe", id=999)

    assert [entry for entry in logged if entry["log_level"] == "error"] == []


async def test_rest_answers_500(manager_door: Door, broken: None) -> None:
    """REST's status for it is 500; GraphQL has answered."""
    answer = await manager_door("me")

    assert answer.response.status_code == (500 if isinstance(manager_door, RestDoor) else 200)


@BOTH
async def test_without_its_database_the_service_is_unavailable(
    kind: type[Door], settings: Settings, manager_token: str
) -> None:
    """That PostgreSQL is away is told as such: it is worth trying again."""
    away = (
        make_url(settings.database_url.get_secret_value()).set(port=free_port()).render_as_string(hide_password=False)
    )
    async with calling_api(settings.model_copy(update={"database_url": SecretStr(away)})) as api:
        answer = await kind(api).signed(manager_token)("me")

    assert (answer.code, dict(answer.details)) == ("SERVICE_UNAVAILABLE", {"retry_after": RETRY_AFTER_S})


async def test_rest_says_when_to_try_again(settings: Settings, manager_token: str) -> None:
    """503 comes with Retry-After."""
    away = (
        make_url(settings.database_url.get_secret_value()).set(port=free_port()).render_as_string(hide_password=False)
    )
    async with calling_api(settings.model_copy(update={"database_url": SecretStr(away)})) as api:
        response = (await RestDoor(api).signed(manager_token)("me")).response

    assert (response.status_code, response.headers["retry-after"]) == (503, str(RETRY_AFTER_S))


@pytest.fixture
async def crowded(server: AsyncEngine, settings: Settings, people: None) -> AsyncIterator[Settings]:
    """Settings with a role for which PostgreSQL has no connection left."""
    url = make_url(settings.database_url.get_secret_value())
    role = f"crowded_{url.database}"
    async with server.connect() as connection:
        await connection.execute(sa.text(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 PASSWORD 'secret'"))
    crowded = url.set(username=role, password="secret").render_as_string(hide_password=False)
    yield settings.model_copy(update={"database_url": SecretStr(crowded)})
    async with server.connect() as connection:
        await connection.execute(sa.text(f"DROP ROLE {role}"))


@BOTH
async def test_a_database_that_takes_no_more_connections_is_unavailable(
    kind: type[Door], crowded: Settings, manager_token: str
) -> None:
    """A PostgreSQL that is full, or not up yet, refuses at the connection; that passes, too."""
    async with calling_api(crowded) as api:
        answer = await kind(api).signed(manager_token)("me")

    assert answer.code == "SERVICE_UNAVAILABLE"


async def test_a_connection_that_was_cut_is_replaced(
    manager_door: Door, server: AsyncEngine, settings: Settings, cafe: Cafe
) -> None:
    """After a restart of PostgreSQL no request fails for the connections that it has ended."""
    await manager_door("me")
    async with server.connect() as connection:
        await connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :database"),
            {"database": make_url(settings.database_url.get_secret_value()).database},
        )

    assert (await manager_door("me")).code is None


@BOTH
async def test_without_redis_one_may_still_ask(kind: type[Door], settings: Settings, cafe: Cafe) -> None:
    """A cafe that asks matters more than one who floods: nobody is counted while Redis is away."""
    away = settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}")})
    async with calling_api(away) as api:
        answer = await kind(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)

    assert answer.data["status"] == "pending"


@BOTH
async def test_who_asks_too_often_has_to_wait(kind: type[Door], settings: Settings, cafe: Cafe) -> None:
    """One source may ask only so often in a minute, and is told for how long it has to wait."""
    async with calling_api(settings.model_copy(update={"link_requests_per_minute": 1})) as api:
        await kind(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)
        answer = await kind(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)

    assert answer.code == "RATE_LIMITED"
    assert 1 <= answer.details["retry_after"] <= 60


async def test_rest_answers_429(settings: Settings, cafe: Cafe) -> None:
    """429 comes with Retry-After."""
    async with calling_api(settings.model_copy(update={"link_requests_per_minute": 1})) as api:
        await RestDoor(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)
        answer = await RestDoor(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)

    assert answer.response.status_code == 429
    assert answer.response.headers["retry-after"] == str(answer.details["retry_after"])


async def test_both_doors_count_together(settings: Settings, cafe: Cafe) -> None:
    """Whoever is refused at one door is refused at the other."""
    async with calling_api(settings.model_copy(update={"link_requests_per_minute": 1})) as api:
        await GraphQLDoor(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)
        answer = await RestDoor(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)

    assert answer.code == "RATE_LIMITED"


async def test_only_asking_for_a_link_is_counted(settings: Settings, people: None, manager_token: str) -> None:
    """What needs a token is not limited so."""
    async with calling_api(settings.model_copy(update={"link_requests_per_minute": 1})) as api:
        answers = [await RestDoor(api).signed(manager_token)("me") for _ in range(3)]

    assert {answer.code for answer in answers} == {None}
