"""The two doors as clients know them: an operation by name, with the same arguments and the same answer at both."""

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

from app.clients import Clients
from app.context import Context
from app.events.live import Live
from app.events.messages import (
    Event,
    LinkRequestCreated,
    LinkRequestEvent,
    RecommendationRunEvent,
    RecommendationRunStarted,
)
from app.main import create_app
from app.models import Cafe, LinkRequest, RecommendationRun, metadata
from app.resolvers import links
from app.settings import Settings
from tests.conftest import Lunch
from tests.servers import DEADLINE_S, serving, until

CHAT = -1001
OTHER_CHAT = -1002

GEMINI_KEYS = (SecretStr("kitchen:a"), SecretStr("b"))
"""Two of two projects."""

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
"""The contract's table of operations, without the subscriptions. A path's parameter has GraphQL's name here. What is
read of a part of the result has its name behind a dot."""

REST_IDS = {
    "cafes": "cafe_id",
    "menu": "item_id",
    "combos": "combo_id",
    "orders": "order_id",
    "notifications": "notification_id",
}
"""What REST calls the `id` of what a path lists."""


@dataclass(frozen=True)
class Answer:
    """What came back, in REST's spelling through whichever door. `fields` are the arguments that BAD_INPUT blames."""

    response: httpx.Response = field(repr=False, compare=False)
    data: Any = None
    code: str | None = None
    fields: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


class Door(ABC):
    """One way to ask for an operation: `await door("approve", request_id=1)`."""

    def __init__(self, api: httpx.AsyncClient, authorization: str | None = None) -> None:
        self.api = api
        self.headers = {} if authorization is None else {"Authorization": authorization}

    def signed(self, token: str) -> Self:
        """Return this door for the owner of `token`."""
        return type(self)(self.api, f"Bearer {token}")

    def authorized(self, authorization: str) -> Self:
        """Return this door with an Authorization header of one's own making."""
        return type(self)(self.api, authorization)

    @abstractmethod
    async def __call__(self, operation: str, /, **arguments: object) -> Answer: ...


class GraphQLDoor(Door):
    """`POST /graphql`, with a variable for each of the fields' arguments, given or not."""

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


class RestDoor(Door):
    """`/api/v1`: path, query and body as the contract's table has them."""

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
    """What a query's parameter looks like."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def graphql_answer(response: httpx.Response, depth: int = 1) -> Answer:
    """Read an answer of GraphQL's. `depth` is how many results lie in each other."""
    body = response.json()
    if "errors" not in body:
        data = body["data"]
        for _ in range(depth):
            data = data["result"]
        return Answer(response, lower_enums(data))
    extensions = [error["extensions"] for error in body["errors"]]
    details = {snake(name): value for name, value in extensions[0].get("details", {}).items() if name != "field"}
    return Answer(
        response,
        code=extensions[0]["code"],
        fields=tuple(snake(found["details"]["field"]) for found in extensions if "field" in found.get("details", {})),
        details=details,
    )


def rest_answer(response: httpx.Response, names: Mapping[str, str]) -> Answer:
    """Read an answer of REST's. `names` are those of its fields that GraphQL calls otherwise."""
    if response.is_success:
        return Answer(response, response.json() if response.content else None)
    body = response.json()
    return Answer(
        response,
        code=body["code"],
        fields=tuple(names.get(problem["field"], problem["field"]) for problem in body.get("errors", ())),
        details=body.get("details", {}),
    )


async def walk(door: Door, operation: str, /, key: str = "id", **arguments: object) -> list[Any]:
    """Go from page to page until the end, and return the keys that were met."""
    page = (await door(operation, **arguments)).data
    met = [row[key] for row in page["items"]]
    while page["page_info"]["has_next_page"]:
        page = (await door(operation, **arguments, after=page["page_info"]["end_cursor"])).data
        met += [row[key] for row in page["items"]]
    return met


def an_order(lunch: Lunch, **changes: object) -> dict[str, Any]:
    """Arguments of `place_order` that are good, but for `changes`: soup and main for a date that is open."""
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
    """Give the values of enumerations REST's case."""
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
    """A field on the way from the root to the result."""

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
    """Give the values of enumerations and the names of fields GraphQL's spelling."""
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
    """Select what REST shows: an object's own fields and parts, and of a list its rows and where it ends.

    Of what has no fields nothing is selected.
    """
    named = get_named_type(type_)
    if is_leaf_type(named):
        return ""
    assert isinstance(named, GraphQLObjectType)
    if "nodes" in named.fields:
        rows = _selection(named.fields["nodes"].type)
        ends = "page_info: pageInfo { end_cursor: endCursor has_next_page: hasNextPage }"
        return f"{{ items: nodes {rows} total: totalCount {ends} }}"
    shown = [
        f"{snake(name)}: {name} {_selection(child.type)}"
        for name, child in named.fields.items()
        if is_leaf_type(get_named_type(child.type)) or get_named_type(child.type).name.startswith(PARTS[named.name])
    ]
    return f"{{ {' '.join(shown)} }}"


PARTS: Mapping[str, tuple[str, ...]] = defaultdict(
    lambda: ("no such type",),
    {
        "Authentication": ("User",),
        "Order": ("OrderCombo", "OrderDish", "OrderExtra"),
        "OrderSummary": ("Summary",),
        "SummaryCategory": ("Summary",),
        "Recommendations": ("OrderStats",),
        "OrderStats": ("CategoryShares", "FavoriteDish"),
    },
)
"""Which objects REST shows inside of which."""

ENUM_FIELDS = {
    snake(name)
    for type_ in CONTRACT.type_map.values()
    if isinstance(type_, GraphQLObjectType)
    for name, child in type_.fields.items()
    if isinstance(get_named_type(child.type), GraphQLEnumType)
}


async def rows(clients: Clients) -> dict[str, list[tuple[object, ...]]]:
    """Everything in the database: to see that nothing has changed."""
    async with clients.db() as session:
        return {
            table.name: [tuple(row) for row in await session.execute(sa.select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


@dataclass(frozen=True)
class Served:
    """The api process's app at work, and its live events, into which tests may put some without Kafka."""

    address: str
    live: Live

    def happen(self, *events: Event) -> None:
        """Give events to whoever listens, as if they came from Kafka."""
        for event in events:
            self.live.publish(str(uuid4()), event)

    async def listened_to(self, subscriptions: int = 1, within_s: float = DEADLINE_S) -> None:
        """Wait until so many listen."""
        await until(lambda: len(self.live.subscriptions) == subscriptions, within_s)


@asynccontextmanager
async def serving_api(settings: Settings) -> AsyncIterator[Served]:
    app = create_app(settings)
    start = app.router.lifespan_context
    state: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with start(app) as given:
            state.update(given or {})
            yield state

    app.router.lifespan_context = lifespan
    async with serving(app) as address:
        yield Served(address, state["live"])


@asynccontextmanager
async def calling_api(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The api process's app, called without a socket: faster, and the same for all but the transport itself."""
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


@pytest.fixture(params=[GraphQLDoor, RestDoor], ids=["graphql", "rest"])
def door(request: pytest.FixtureRequest, called: httpx.AsyncClient) -> Door:
    """Each of the doors, for somebody who is not signed in."""
    opened: Door = request.param(called)
    return opened


@pytest.fixture
def user_door(door: Door, user_token: str) -> Door:
    return door.signed(user_token)


@pytest.fixture
def manager_door(door: Door, manager_token: str) -> Door:
    return door.signed(manager_token)


@pytest.fixture
async def pending(anybody: Context, cafe: Cafe) -> LinkRequest:
    """A chat's request for the cafe, not decided yet."""
    return await links.link_request(anybody, cafe.id, CHAT, "kitchen")


@pytest.fixture
async def linked(manager: Context, cafe: Cafe, pending: LinkRequest) -> LinkRequest:
    """The cafe has a chat: the request after its approval."""
    return await links.approve(manager, pending.id)


@pytest.fixture
def event(pending: LinkRequest) -> LinkRequestEvent:
    """What is told of the pending request."""
    return LinkRequestCreated.of(pending)


@pytest.fixture
def run_news() -> RecommendationRunEvent:
    """What is told of a run that has begun: by nobody, for five people, with keys that suffice for three."""
    run = RecommendationRun(
        date=date(2026, 3, 4), total=5, keys_suffice_for=3, started_at=datetime(2026, 3, 4, 3, tzinfo=UTC)
    )
    return RecommendationRunStarted.of(run)


class Socket:
    """A client on a WebSocket that says and hears one message at a time."""

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
        """Wait until the server closes the socket, and return its code."""
        async with asyncio.timeout(DEADLINE_S):
            await self.connection.wait_closed()
        return self.connection.close_code

    async def ended(self, within_s: float) -> object:
        """Wait for an error, and return its code, or for the end of the socket, and return that one's."""
        try:
            message = await self.hear(within_s)
            return message if "data" in message["payload"] else code(message)[1]
        except ConnectionClosed:
            return self.connection.close_code


@asynccontextmanager
async def connected(served: Served, protocol: str = PROTOCOL, **options: Any) -> AsyncIterator[Socket]:
    """A socket before its `connection_init`."""
    address = served.address.replace("http", "ws") + "/graphql"
    async with connect(address, subprotocols=[Subprotocol(protocol)], proxy=None, **options) as connection:
        yield Socket(connection)


@asynccontextmanager
async def signed_in(served: Served, token: str | None) -> AsyncIterator[Socket]:
    """A socket that may be used, by the owner of `token`."""
    async with connected(served) as socket:
        await socket.say(INIT | ({} if token is None else {"payload": {"Authorization": f"Bearer {token}"}}))
        assert (await socket.hear())["type"] == "connection_ack"
        yield socket


@pytest.fixture
async def socket(served: Served, manager_token: str) -> AsyncIterator[Socket]:
    async with signed_in(served, manager_token) as opened:
        yield opened


def code(message: dict[str, Any]) -> tuple[str, str]:
    """The type of a message with an error, and the error's code."""
    payload = message["payload"]
    errors = payload if message["type"] == "error" else payload["errors"]
    return message["type"], errors[0]["extensions"]["code"]
