"""One line of the log for each request: of both APIs, of event streams, and of the operations on a socket."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa
from structlog.contextvars import merge_contextvars
from structlog.testing import capture_logs

from app.clients import Clients
from app.errors import SlowConsumer
from app.models import Cafe
from tests.apis import ApiClient, GraphQLClient, Served, signed_in
from tests.servers import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
UPDATES = "subscription Watch { linkRequestUpdates { id } }"

type Lines = list[dict[str, Any]]


@contextmanager
def request_lines() -> Iterator[Lines]:
    """Collect the lines about requests, operations and sockets."""
    lines: Lines = []

    def keep(_logger: object, _method: str, event: dict[str, Any]) -> dict[str, Any]:
        if event["event"] in {"request.finished", "operation.finished", "socket.closed"}:
            lines.append(event)
        return event

    with capture_logs([merge_contextvars, keep]):  # type: ignore[list-item]
        yield lines


@pytest.mark.parametrize(
    ("method", "path", "facts"),
    [
        ("GET", "/api/v1/users/2002", {"route": "/api/v1/users/{tgid}", "operation": "User", "status": 200}),
        (
            "GET",
            "/api/v1/users/999",
            {"route": "/api/v1/users/{tgid}", "operation": "User", "status": 404, "code": "NOT_FOUND"},
        ),
        (
            "POST",
            "/api/v1/users/2002",
            {"route": "/api/v1/users/{tgid}", "status": 405, "code": "BAD_INPUT"},
        ),
        ("GET", "/users/2002/secret-of-ivan", {"route": None, "status": 404, "code": "NOT_FOUND"}),
        ("GET", "/api/v1/openapi.json", {"route": "/api/v1/openapi.json", "status": 200}),
    ],
)
async def test_a_request_is_a_line(
    called: httpx.AsyncClient, manager_token: str, method: str, path: str, facts: dict[str, object]
) -> None:
    """The line has the route, the operation, the status, the code, the duration, and the id that the client has."""
    headers = {"Authorization": f"Bearer {manager_token}", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}

    with request_lines() as lines:
        response = await called.request(method, path, headers=headers)

    (line,) = lines
    assert isinstance(line.pop("duration_ms"), float)
    assert line == facts | {
        "event": "request.finished",
        "log_level": "info",
        "method": method,
        "request_id": response.headers["x-request-id"],
        "trace_id": TRACE,
    }


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        ({"query": "{ me { name } }"}, {"operation": "me", "code": None}),
        ({"query": "query Mine { me { name } }"}, {"operation": "Mine", "code": None}),
        ({"query": "query A { me { name } } query B { me { tgid } }", "operationName": "B"}, {"operation": "B"}),
        ({"query": '{ cafe(id: "999") { name } }'}, {"operation": "cafe", "code": "NOT_FOUND"}),
        ({"query": "{ nothing }"}, {"operation": None, "code": "GRAPHQL_INVALID"}),
        ({"query": "{ me { name } }", "operationName": "Ivan Petrov"}, {"operation": None, "code": "GRAPHQL_INVALID"}),
        ({"query": "{ unterminated"}, {"operation": None, "code": "GRAPHQL_INVALID"}),
        ({"variables": {}}, {"operation": None, "code": "GRAPHQL_INVALID"}),
        ([], {"operation": None, "code": "BAD_INPUT"}),
    ],
)
async def test_a_line_names_the_operation(
    called: httpx.AsyncClient, user_token: str, body: object, facts: dict[str, object]
) -> None:
    """GraphQL's line has the name of the operation, or its root fields, and the code of the first error."""
    with request_lines() as lines:
        await called.post("/graphql", json=body, headers={"Authorization": f"Bearer {user_token}"})

    assert [{name: line.get(name) for name in facts} for line in lines] == [facts]


async def test_a_line_has_nothing_personal(manager_client: ApiClient, cafe: Cafe) -> None:
    """The line has no path, no variables and no text of the query."""
    with request_lines() as lines:
        await manager_client("create_user", tgid=987654, name="Ivan Petrov")
        await manager_client("user", tgid=987654)

    text = json.dumps(lines)
    assert len(lines) == 2
    assert [word for word in ("987654", "Ivan", "mutation", "{ ", "Bearer") if word in text] == []


@pytest.mark.parametrize(
    "header", ["", "00", f"ff-{TRACE}-00f067aa0ba902b7-01", f"00-{'0' * 32}-00f067aa0ba902b7-01", "00-x y-z-01"]
)
async def test_an_invalid_trace_is_left_out(called: httpx.AsyncClient, header: str) -> None:
    """Only a valid `traceparent` gives a trace id."""
    with request_lines() as lines:
        await called.get("/api/v1/users/me", headers={"traceparent": header})

    assert ["trace_id" in line for line in lines] == [False]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_health_checks_are_no_news(called: httpx.AsyncClient, path: str) -> None:
    """What probes ask for every few seconds is logged at DEBUG only."""
    with request_lines() as lines:
        await called.get(path)

    assert [line["log_level"] for line in lines] == ["debug"]


async def test_an_unexpected_error_is_a_line(manager_client: ApiClient, broken_users: None) -> None:
    """The request of an unexpected error has its line, too."""
    with request_lines() as lines:
        await manager_client("me")

    status = 200 if isinstance(manager_client, GraphQLClient) else 500
    assert [(line["status"], line["code"]) for line in lines] == [(status, "INTERNAL")]


@pytest.fixture
async def broken_users(clients: Clients, people: None) -> None:
    """The database has lost a table."""
    async with clients.db() as session:
        await session.execute(sa.text("DROP TABLE users CASCADE"))


async def test_each_operation_on_a_socket_is_a_line(served: Served, user_token: str) -> None:
    """Operations on a socket have a line each, the socket has one at its end, and all have the id of its handshake."""
    with request_lines() as lines:
        async with signed_in(served, user_token) as socket:
            response = socket.connection.response
            await socket.ask("query Mine { me { name } }")
            await socket.hear()
            await socket.hear()
            await socket.ask(UPDATES, id_="2")
            await socket.hear()
        await until(lambda: len(lines) == 3)

    assert response is not None
    assert [{name: line.get(name) for name in ("event", "operation", "code", "status")} for line in lines] == [
        {"event": "operation.finished", "operation": "Mine", "code": "OK", "status": None},
        {"event": "operation.finished", "operation": "Watch", "code": "FORBIDDEN", "status": None},
        {"event": "socket.closed", "operation": None, "code": None, "status": 1000},
    ]
    assert {line["request_id"] for line in lines} == {response.headers["x-request-id"]}


async def test_a_cancelled_subscription_is_a_line(served: Served, manager_token: str) -> None:
    """A subscription has its line when it ends, whether the client completes it or closes the socket."""
    with request_lines() as lines:
        async with signed_in(served, manager_token) as socket:
            for id_ in ("1", "2"):
                await socket.ask(UPDATES, id_=id_)
            await served.listened_to(2)
            await socket.say({"type": "complete", "id": "1"})
            await served.listened_to(1)
        await until(lambda: len(lines) == 3)

    assert [line.get("code") for line in lines] == ["CANCELLED", "CANCELLED", None]


async def test_an_event_stream_is_a_line(served: Served, manager_token: str) -> None:
    """An event stream of REST or GraphQL has its line when it ends."""
    headers = {"Authorization": f"Bearer {manager_token}", "Accept": "text/event-stream"}
    with request_lines() as lines:
        async with httpx.AsyncClient(base_url=served.address, headers=headers) as client:
            async with client.stream("GET", "/api/v1/cafe-requests/events"):
                await served.listened_to()
            async with client.stream("POST", "/graphql", json={"query": UPDATES}):
                await until(lambda: len(served.live.subscriptions) == 1 and len(lines) == 1)
        await until(lambda: len(lines) == 2)

    assert [(line["operation"], line["status"]) for line in lines] == [("LinkRequestUpdates", 200), ("Watch", 200)]


async def test_a_stream_that_fails_is_a_line_with_the_code(served: Served, manager_token: str) -> None:
    """The line of a stream has the code with which the stream has ended."""
    headers = {"Authorization": f"Bearer {manager_token}"}
    with request_lines() as lines:
        async with (
            httpx.AsyncClient(base_url=served.address, headers=headers) as client,
            client.stream("GET", "/api/v1/cafe-requests/events") as response,
        ):
            await served.listened_to()
            (subscription,) = served.live.subscriptions
            subscription.end(SlowConsumer())
            await response.aread()
        await until(lambda: lines)

    assert [(line["status"], line["code"]) for line in lines] == [(200, "SLOW_CONSUMER")]


async def test_a_client_that_disconnects_is_a_line(served: Served) -> None:
    """A request whose client has disconnected before the answer has the status 499."""
    address = urlsplit(served.address)
    with request_lines() as lines:
        _, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(
            b"POST /graphql HTTP/1.1\r\nHost: lunch\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
        await writer.drain()
        writer.close()
        await until(lambda: lines)

    assert [(line["route"], line["status"]) for line in lines] == [("/graphql", 499)]
