"""Clients of both APIs: an operation by name, with the same arguments and the same answer through both."""

import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Self, cast
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLObjectType,
    GraphQLOutputType,
    build_schema,
    get_named_type,
    is_leaf_type,
    print_ast,
)
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from app.auth.context import Context
from app.clients import Clients
from app.events.live import Live
from app.events.types import (
    Event,
    LinkRequestCreated,
    LinkRequestEvent,
    RecommendationRunEvent,
    RecommendationRunStarted,
)
from app.models import Cafe, LinkRequest, RecommendationRun, metadata
from app.processes.api import create_app
from app.resolvers import links
from app.settings import Settings
from tests.conftest import Lunch
from tests.servers import DEADLINE_S, serving, until

CHAT = -1001
OTHER_CHAT = -1002

GEMINI_KEYS = (SecretStr("kitchen:a"), SecretStr("b"))
"""Two keys of two projects."""

PROTOCOL = "graphql-transport-ws"
INIT = {"type": "connection_init"}

CONTRACT = build_schema((Path(__file__).parent.parent / "schema.graphql").read_text(encoding="utf-8"))

REST = {
    "authenticate": ("POST", "/auth/telegram"),
    "users": ("GET", "/users"),
    "create_user": ("POST", "/users"),
    "create_manager": ("POST", "/users/managers"),
    "me": ("GET", "/users/me"),
    "user": ("GET", "/users/{tgid}"),
    "set_user_access": ("PATCH", "/users/{tgid}/access"),
    "delete_user": ("DELETE", "/users/{tgid}"),
    "cafes": ("GET", "/cafes"),
    "create_cafe": ("POST", "/cafes"),
    "cafe": ("GET", "/cafes/{id}"),
    "update_cafe": ("PATCH", "/cafes/{id}"),
    "set_cafe_status": ("PATCH", "/cafes/{id}/status"),
    "delete_cafe": ("DELETE", "/cafes/{id}"),
    "cafe.menu_items": ("GET", "/cafes/{id}/menu"),
    "create_menu_item": ("POST", "/cafes/{cafe_id}/menu"),
    "update_menu_item": ("PATCH", "/cafes/{cafe_id}/menu/{id}"),
    "delete_menu_item": ("DELETE", "/cafes/{cafe_id}/menu/{id}"),
    "cafe.combos": ("GET", "/cafes/{id}/combos"),
    "create_combo": ("POST", "/cafes/{cafe_id}/combos"),
    "update_combo": ("PATCH", "/cafes/{cafe_id}/combos/{id}"),
    "delete_combo": ("DELETE", "/cafes/{cafe_id}/combos/{id}"),
    "cafe.deadlines": ("GET", "/cafes/{id}/deadlines"),
    "set_deadlines.deadlines": ("PUT", "/cafes/{cafe_id}/deadlines"),
    "order_week": ("GET", "/orders/availability/week"),
    "order_availability": ("GET", "/orders/availability/{date}"),
    "orders": ("GET", "/orders"),
    "place_order": ("POST", "/orders"),
    "order": ("GET", "/orders/{id}"),
    "update_order": ("PATCH", "/orders/{id}"),
    "cancel_order": ("DELETE", "/orders/{id}"),
    "order_summary": ("GET", "/cafes/{cafe_id}/summary/{date}"),
    "announce_deadline": ("POST", "/cafes/{cafe_id}/deadlines/{date}/announce"),
    "notification_preview": ("GET", "/cafes/{cafe_id}/notification-preview/{date}"),
    "notifications": ("GET", "/notifications"),
    "retry_notification": ("POST", "/notifications/{id}/retry"),
    "link_request": ("POST", "/cafes/{cafe_id}/link-request"),
    "set_notifications": ("PATCH", "/cafes/{cafe_id}/notifications"),
    "unlink": ("DELETE", "/cafes/{cafe_id}/link"),
    "link_requests": ("GET", "/cafe-requests"),
    "approve": ("POST", "/cafe-requests/{request_id}/approve"),
    "reject": ("POST", "/cafe-requests/{request_id}/reject"),
    "recommendations": ("GET", "/users/{tgid}/recommendations"),
    "start_recommendation_run": ("POST", "/recommendation-runs"),
    "recommendation_run": ("GET", "/recommendation-runs/{date}"),
    "gemini_keys": ("GET", "/gemini-keys"),
}
"""The contract's table of operations, without the subscriptions. The parameters of paths have GraphQL's names here. A
field that is read inside a result is named after a dot."""

REST_IDS = {
    "cafes": "cafe_id",
    "menu": "item_id",
    "combos": "combo_id",
    "orders": "order_id",
    "notifications": "notification_id",
}
"""REST's name of `id`, by the part of the path before it."""


@dataclass(frozen=True)
class Answer:
    """The answer to a call, in REST's spelling for both APIs. `fields` are the wrong fields of a BAD_INPUT error."""

    response: httpx.Response = field(repr=False, compare=False)
    data: Any = None
    code: str | None = None
    fields: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class ApiClient(ABC):
    """Calls operations through one API: `await api_client("approve", request_id=1)`."""

    def __init__(self, api: httpx.AsyncClient, authorization: str | None = None) -> None:
        self.api = api
        self.headers = {} if authorization is None else {"Authorization": authorization}

    def signed(self, token: str) -> Self:
        """Return a client with `token`."""
        return type(self)(self.api, f"Bearer {token}")

    def authorized(self, authorization: str) -> Self:
        """Return a client with this Authorization header."""
        return type(self)(self.api, authorization)

    @abstractmethod
    async def __call__(self, operation: str, /, **arguments: object) -> Answer: ...


class GraphQLClient(ApiClient):
    """Calls `POST /graphql` with a variable for each argument of the fields."""

    async def __call__(self, operation: str, /, **arguments: object) -> Answer:
        kind, steps = _steps(operation)
        taken = {name: definition for step in steps for name, definition in step.field.args.items()}
        declared = ", ".join(f"${name}: {definition.type}{_default(definition)}" for name, definition in taken.items())
        selection = _selection(steps[-1].field.type)
        for step in reversed(steps):
            passed = ", ".join(f"{name}: ${name}" for name in step.field.args)
            selection = f"{{ result: {step.name}{f'({passed})' if passed else ''} {selection} }}"
        variables = {camel(name): _for_graphql(taken[camel(name)].type, value) for name, value in arguments.items()}
        return graphql_answer(
            await self.api.post(
                "/graphql",
                content=json.dumps(
                    {"query": f"{kind}{f'({declared})' if declared else ''} {selection}", "variables": variables}
                ),
                headers={"Content-Type": "application/json", **self.headers},
            ),
            depth=len(steps),
        )


class RestClient(ApiClient):
    """Calls `/api/v1` with the path, the query and the body of the contract's table."""

    async def __call__(self, operation: str, /, **arguments: object) -> Answer:
        method, path = REST[operation]
        rest = {"first": "limit"} if method == "GET" else {}
        others = {rest.get(name, name): value for name, value in arguments.items() if f"{{{name}}}" not in path}
        in_path = {name: quote(str(value), safe="") for name, value in arguments.items() if f"{{{name}}}" in path}
        with_body = method in {"POST", "PUT", "PATCH"} and bool(others)
        request = self.api.build_request(
            method,
            "/api/v1" + path.format_map(in_path),
            params={name: text_of(value) for name, value in others.items()} if not with_body else None,
            content=json.dumps(others, default=str) if with_body else None,
            headers=self.headers,
        )
        before, has_id, _ = path.partition("/{id}")
        of_path = {REST_IDS[before.rpartition("/")[2]]: "id"} if has_id else {}
        return rest_answer(await self.api.send(request), {"limit": "first"} | of_path)


def text_of(value: object) -> str:
    """Write a value as a parameter of the query."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def graphql_answer(response: httpx.Response, depth: int = 1) -> Answer:
    """Read GraphQL's answer. `depth` is the number of nested `result` fields."""
    body = response.json()
    if "errors" not in body:
        data = body["data"]
        for _ in range(depth):
            data = data["result"]
        return Answer(response, lower_enums(data))
    extensions = [error["extensions"] for error in body["errors"]]
    details = {
        snake(name): value
        for name, value in extensions[0].get("details", {}).items()
        if name not in {"field", "errors"}
    }
    return Answer(
        response,
        code=extensions[0]["code"],
        fields=tuple(
            snake(problem["field"]) for found in extensions for problem in found.get("details", {}).get("errors", ())
        ),
        details=details,
    )


def rest_answer(response: httpx.Response, names: Mapping[str, str]) -> Answer:
    """Read REST's answer. `names` are GraphQL's names of its fields, where they differ."""
    if response.is_success:
        return Answer(response, response.json() if response.content else None)
    body = response.json()
    return Answer(
        response,
        code=body["code"],
        fields=tuple(names.get(problem["field"], problem["field"]) for problem in body.get("errors", ())),
        details=body.get("details", {}),
    )


async def walk(api_client: ApiClient, operation: str, /, key: str = "id", **arguments: object) -> list[Any]:
    """Read all pages of a list, and return the `key` of each row."""
    page = (await api_client(operation, **arguments)).data
    met = [row[key] for row in page["items"]]
    while page["page_info"]["has_next_page"]:
        page = (await api_client(operation, **arguments, after=page["page_info"]["end_cursor"])).data
        met += [row[key] for row in page["items"]]
    return met


def an_order(lunch: Lunch, **changes: object) -> dict[str, Any]:
    """Return arguments of `place_order`: soup and main for an open date, with `changes`."""
    return {
        "cafe_id": lunch.cafe.id,
        "date": lunch.open_date,
        "combo_id": lunch.combo.id,
        "dish_ids": [lunch.soup.id, lunch.main.id],
    } | changes


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)


def lower_enums(value: Any) -> Any:
    """Convert the values of enumerations to REST's case."""
    if isinstance(value, list):
        return [lower_enums(item) for item in value]
    if isinstance(value, dict):
        return {name: _lowered(item) if name in ENUM_FIELDS else lower_enums(item) for name, item in value.items()}
    return value


def _lowered(value: Any) -> Any:
    if isinstance(value, list):
        return [_lowered(item) for item in value]
    return value.lower() if isinstance(value, str) else value


@dataclass(frozen=True)
class Step:
    """A field on the path from the root to the result."""

    name: str
    field: GraphQLField


def _steps(operation: str) -> tuple[str, list[Step]]:
    first, *parts = camel(operation).split(".")
    for kind, type_ in (("query", CONTRACT.query_type), ("mutation", CONTRACT.mutation_type)):
        if type_ is not None and first in type_.fields:
            steps = [Step(first, type_.fields[first])]
            for part in parts:
                parent = get_named_type(steps[-1].field.type)
                assert isinstance(parent, GraphQLObjectType)
                steps.append(Step(part, parent.fields[part]))
            return kind, steps
    raise LookupError(operation)


def _for_graphql(kind: GraphQLInputType, value: Any) -> Any:
    """Convert the values of enumerations and the names of fields to GraphQL's spelling."""
    named = get_named_type(kind)
    if isinstance(value, list):
        return [_for_graphql(cast("GraphQLInputType", named), item) for item in value]
    if isinstance(named, GraphQLInputObjectType) and isinstance(value, dict):
        fields = {camel(name): item for name, item in value.items()}
        return {
            name: _for_graphql(named.fields[name].type, item) if name in named.fields else item
            for name, item in fields.items()
        }
    if isinstance(named, GraphQLEnumType) and isinstance(value, str):
        return value.upper()
    return str(value) if isinstance(value, date | time | Decimal) else value


def _default(definition: Any) -> str:
    node = definition.ast_node.default_value
    return "" if node is None else f" = {print_ast(node)}"


def _selection(type_: GraphQLOutputType) -> str:
    """Select what REST shows: the fields and parts of an object, or the rows and the page info of a list.

    A leaf has no selection.
    """
    named = get_named_type(type_)
    if is_leaf_type(named):
        return ""
    assert isinstance(named, GraphQLObjectType)
    if "nodes" in named.fields:
        rows = _selection(named.fields["nodes"].type)
        ends = "page_info: pageInfo { end_cursor: endCursor has_next_page: hasNextPage }"
        parts = " ".join(_shown(named))
        return f"{{ items: nodes {rows} total: totalCount {ends} {parts} }}"
    return f"{{ {' '.join(_shown(named))} }}"


def _shown(type_: GraphQLObjectType) -> list[str]:
    """Select the fields and parts of an object. The fields of a list have other names in REST."""
    return [
        f"{snake(name)}: {name} {_selection(child.type)}"
        for name, child in type_.fields.items()
        if get_named_type(child.type).name.startswith(PARTS[type_.name])
        or (is_leaf_type(get_named_type(child.type)) and name != "totalCount")
    ]


PARTS: Mapping[str, tuple[str, ...]] = defaultdict(
    lambda: ("no such type",),
    {
        "Authentication": ("User",),
        "DeadlineConnection": ("OrdersWithoutDelivery",),
        "Order": ("OrderCombo", "OrderDish", "OrderExtra"),
        "OrderSummary": ("Summary",),
        "SummaryCategory": ("Summary",),
        "Recommendations": ("OrderStats",),
        "OrderStats": ("CategoryShares", "FavoriteDish"),
    },
)
"""The objects that REST shows inside other objects."""

ENUM_FIELDS = {
    snake(name)
    for type_ in CONTRACT.type_map.values()
    if isinstance(type_, GraphQLObjectType)
    for name, child in type_.fields.items()
    if isinstance(get_named_type(child.type), GraphQLEnumType)
}


async def rows(clients: Clients) -> dict[str, list[tuple[object, ...]]]:
    """Return all rows of the database, to see that nothing has changed."""
    async with clients.db() as session:
        return {
            table.name: [tuple(row) for row in await session.execute(sa.select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


@dataclass(frozen=True)
class Served:
    """The served api process's app with its live events, so that tests can publish events without Kafka."""

    address: str
    live: Live

    def happen(self, *events: Event) -> None:
        """Publish events to the subscribers, as if they came from Kafka."""
        for event in events:
            self.live.publish(str(uuid4()), event)

    async def listened_to(self, subscriptions: int = 1) -> None:
        """Wait until there is this number of subscriptions."""
        await until(lambda: len(self.live.subscriptions) == subscriptions)


@asynccontextmanager
async def serving_api(settings: Settings, app: Starlette | None = None, **options: object) -> AsyncIterator[Served]:
    """Serve the api process's app, or an `app` made differently, with uvicorn's `options`."""
    app = app or create_app(settings)
    start = app.router.lifespan_context
    state: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with start(app) as given:
            state.update(given or {})
            yield state

    app.router.lifespan_context = lifespan
    async with serving(app, **options) as address:
        yield Served(address, state["live"])


@asynccontextmanager
async def calling_api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Call the api process's app without a socket: this is faster, and equal except for the transport."""
    app = create_app(settings)
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://lunch-bot") as client:
            yield client


@pytest.fixture
async def served(settings: Settings, people: None) -> AsyncIterator[Served]:
    async with serving_api(settings) as api:
        yield api


@pytest.fixture
async def called(settings: Settings, people: None) -> AsyncIterator[httpx.AsyncClient]:
    async with calling_api(settings) as api:
        yield api


@pytest.fixture(params=[GraphQLClient, RestClient], ids=["graphql", "rest"])
def api_client(request: pytest.FixtureRequest, called: httpx.AsyncClient) -> ApiClient:
    """A client without a token, for each of the APIs."""
    opened: ApiClient = request.param(called)
    return opened


@pytest.fixture
def user_client(api_client: ApiClient, user_token: str) -> ApiClient:
    return api_client.signed(user_token)


@pytest.fixture
def manager_client(api_client: ApiClient, manager_token: str) -> ApiClient:
    return api_client.signed(manager_token)


@pytest.fixture
async def pending(anonymous: Context, cafe: Cafe) -> LinkRequest:
    """A pending link request of a chat for the cafe."""
    return await links.link_request(anonymous, cafe.id, CHAT, "kitchen")


@pytest.fixture
async def linked(manager: Context, cafe: Cafe, pending: LinkRequest) -> LinkRequest:
    """The approved link request: the cafe has a chat."""
    return await links.approve(manager, pending.id)


@pytest.fixture
def event(pending: LinkRequest) -> LinkRequestEvent:
    """The event of the pending request."""
    return LinkRequestCreated.of(pending)


@pytest.fixture
def run_event() -> RecommendationRunEvent:
    """The event of a started run: scheduled, for five users, with a request budget of three."""
    run = RecommendationRun(
        date=date(2026, 3, 4), total=5, request_budget=3, started_at=datetime(2026, 3, 4, 3, tzinfo=UTC)
    )
    return RecommendationRunStarted.of(run)


class Socket:
    """A WebSocket client that sends and receives one message at a time."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def say(self, message: object) -> Self:
        await self.connection.send(json.dumps(message))
        return self

    async def ask(self, query: str, id_: str = "1", **payload: object) -> Self:
        return await self.say({"type": "subscribe", "id": id_, "payload": {"query": query, **payload}})

    async def hear(self, within_s: float = DEADLINE_S) -> dict[str, Any]:
        async with asyncio.timeout(within_s):
            message: dict[str, Any] = json.loads(await self.connection.recv())
        return message

    async def closed(self) -> int | None:
        """Wait until the server closes the socket, and return the close code."""
        async with asyncio.timeout(DEADLINE_S):
            await self.connection.wait_closed()
        return self.connection.close_code

    async def ended(self) -> object:
        """Wait for an error or for the end of the socket, and return the code."""
        try:
            message = await self.hear()
            return message if "data" in message["payload"] else code(message)[1]
        except ConnectionClosed:
            return self.connection.close_code


@asynccontextmanager
async def connected(served: Served, protocol: str = PROTOCOL, **options: Any) -> AsyncIterator[Socket]:
    """Open a socket, without `connection_init`."""
    address = served.address.replace("http", "ws") + "/graphql"
    async with connect(address, subprotocols=[Subprotocol(protocol)], proxy=None, **options) as connection:
        yield Socket(connection)


@asynccontextmanager
async def signed_in(served: Served, token: str | None) -> AsyncIterator[Socket]:
    """Open a socket and initialize it with `token`."""
    async with connected(served) as socket:
        await socket.say(INIT | ({} if token is None else {"payload": {"Authorization": f"Bearer {token}"}}))
        assert (await socket.hear())["type"] == "connection_ack"
        yield socket


@pytest.fixture
async def socket(served: Served, manager_token: str) -> AsyncIterator[Socket]:
    async with signed_in(served, manager_token) as opened:
        yield opened


def code(message: dict[str, Any]) -> tuple[str, str]:
    """Return the type of a message with an error, and the code of the error."""
    payload = message["payload"]
    errors = payload if message["type"] == "error" else payload["errors"]
    return message["type"], errors[0]["extensions"]["code"]
