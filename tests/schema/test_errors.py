"""Errors that are not the client's fault: clients get a code and no internals."""

from collections.abc import AsyncIterator

import pytest
import sqlalchemy as sa
import structlog
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clients import Clients
from app.dev.ports import free_port
from app.errors import RETRY_AFTER_S
from app.models import Cafe
from app.settings import Settings
from tests.apis import CHAT, ApiClient, GraphQLClient, RestClient, calling_api

BOTH = pytest.mark.parametrize("kind", [GraphQLClient, RestClient], ids=["graphql", "rest"])

INTERNALS = ("relation", "users", "asyncpg", "sqlalchemy", "SELECT", "Error", "Traceback")
"""Words of the texts of exceptions."""


@pytest.fixture
async def broken(clients: Clients, people: None) -> None:
    """The database has lost a table."""
    async with clients.db() as session:
        await session.execute(sa.text("DROP TABLE users CASCADE"))


async def test_an_unexpected_error_is_masked(manager_client: ApiClient, broken: None) -> None:
    """The text of an exception never reaches a client."""
    answer = await manager_client("me")

    assert answer.code == "INTERNAL"
    assert [word for word in INTERNALS if word in answer.response.text] == []


async def test_an_unexpected_error_is_logged_with_the_request_id(manager_client: ApiClient, broken: None) -> None:
    """The request id of the answer leads to the exception in the log."""
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as logged:
        answer = await manager_client("me")

    assert [(entry["request_id"], bool(entry["exc_info"])) for entry in logged if entry["log_level"] == "error"] == [
        (answer.response.headers["x-request-id"], True)
    ]


async def test_an_error_of_the_client_is_not_logged(manager_client: ApiClient) -> None:
    """A client's error makes no error entry in the log."""
    with structlog.testing.capture_logs() as logged:
        await manager_client("cafe", id=999)

    assert [entry for entry in logged if entry["log_level"] == "error"] == []


async def test_rest_answers_500(manager_client: ApiClient, broken: None) -> None:
    """REST answers 500; GraphQL answers 200 with the error."""
    answer = await manager_client("me")

    assert answer.response.status_code == (500 if isinstance(manager_client, RestClient) else 200)


@BOTH
async def test_without_postgresql_the_service_is_unavailable(
    kind: type[ApiClient], settings: Settings, manager_token: str
) -> None:
    """If PostgreSQL is unavailable, the client may try again."""
    unavailable = (
        make_url(settings.database_url.get_secret_value()).set(port=free_port()).render_as_string(hide_password=False)
    )
    async with calling_api(settings.model_copy(update={"database_url": SecretStr(unavailable)})) as api:
        answer = await kind(api).signed(manager_token)("me")

    assert (answer.code, dict(answer.details)) == ("SERVICE_UNAVAILABLE", {"retry_after": RETRY_AFTER_S})


async def test_rest_answers_503_with_retry_after(settings: Settings, manager_token: str) -> None:
    """The 503 answer has a Retry-After header."""
    unavailable = (
        make_url(settings.database_url.get_secret_value()).set(port=free_port()).render_as_string(hide_password=False)
    )
    async with calling_api(settings.model_copy(update={"database_url": SecretStr(unavailable)})) as api:
        response = (await RestClient(api).signed(manager_token)("me")).response

    assert (response.status_code, response.headers["retry-after"]) == (503, str(RETRY_AFTER_S))


@pytest.fixture
async def crowded(server: AsyncEngine, settings: Settings, people: None) -> AsyncIterator[Settings]:
    """Settings with a database role that has no connection left."""
    url = make_url(settings.database_url.get_secret_value())
    role = f"crowded_{url.database}"
    async with server.connect() as connection:
        await connection.execute(sa.text(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 0 PASSWORD 'secret'"))
    crowded = url.set(username=role, password="secret").render_as_string(hide_password=False)
    yield settings.model_copy(update={"database_url": SecretStr(crowded)})
    async with server.connect() as connection:
        await connection.execute(sa.text(f"DROP ROLE {role}"))


@BOTH
async def test_a_full_database_is_unavailable(kind: type[ApiClient], crowded: Settings, manager_token: str) -> None:
    """A PostgreSQL that refuses connections is unavailable: the client may try again."""
    async with calling_api(crowded) as api:
        answer = await kind(api).signed(manager_token)("me")

    assert answer.code == "SERVICE_UNAVAILABLE"


async def test_a_closed_connection_is_replaced(
    manager_client: ApiClient, server: AsyncEngine, settings: Settings, cafe: Cafe
) -> None:
    """After a restart of PostgreSQL no request fails because of the closed connections."""
    await manager_client("me")
    async with server.connect() as connection:
        await connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :database"),
            {"database": make_url(settings.database_url.get_secret_value()).database},
        )

    assert (await manager_client("me")).code is None


@BOTH
async def test_without_redis_link_requests_are_not_limited(
    kind: type[ApiClient], settings: Settings, cafe: Cafe
) -> None:
    """Link requests work without Redis: they are not counted while it is unavailable."""
    unavailable = settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}")})
    async with calling_api(unavailable) as api:
        answer = await kind(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)

    assert answer.data["status"] == "pending"


@BOTH
async def test_link_requests_are_rate_limited(kind: type[ApiClient], settings: Settings, cafe: Cafe) -> None:
    """A source with too many requests in a minute gets RATE_LIMITED with the seconds to wait."""
    async with calling_api(settings.model_copy(update={"link_requests_per_minute": 1})) as api:
        await kind(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)
        answer = await kind(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)

    assert answer.code == "RATE_LIMITED"
    assert 1 <= answer.details["retry_after"] <= 60


async def test_rest_answers_429_with_retry_after(settings: Settings, cafe: Cafe) -> None:
    """The 429 answer has a Retry-After header."""
    async with calling_api(settings.model_copy(update={"link_requests_per_minute": 1})) as api:
        await RestClient(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)
        answer = await RestClient(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)

    assert answer.response.status_code == 429
    assert answer.response.headers["retry-after"] == str(answer.details["retry_after"])


async def test_both_apis_share_the_rate_limit(settings: Settings, cafe: Cafe) -> None:
    """Requests through one API count in the other one."""
    async with calling_api(settings.model_copy(update={"link_requests_per_minute": 1})) as api:
        await GraphQLClient(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)
        answer = await RestClient(api)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT)

    assert answer.code == "RATE_LIMITED"


async def test_only_link_requests_are_rate_limited(settings: Settings, people: None, manager_token: str) -> None:
    """Operations that need a token have no rate limit."""
    async with calling_api(settings.model_copy(update={"link_requests_per_minute": 1})) as api:
        answers = [await RestClient(api).signed(manager_token)("me") for _ in range(3)]

    assert {answer.code for answer in answers} == {None}
