"""The two doors as clients know them: an operation by name, with the same arguments and the same answer at both."""

import asyncio
import json
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
import sqlalchemy as sa
from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLObjectType,
    GraphQLOutputType,
    build_schema,
    get_named_type,
    is_leaf_type,
    print_ast,
)
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from app.clients import Clients
from app.context import Context
from app.events.live import Live
from app.events.messages import Event, LinkRequestCreated, LinkRequestEvent
from app.main import create_app
from app.models import Cafe, LinkRequest, metadata
from app.resolvers import links
from app.settings import Settings
from tests.servers import DEADLINE_S, serving, until

CHAT = -1001
OTHER_CHAT = -1002

PROTOCOL = "graphql-transport-ws"
INIT = {"type": "connection_init"}

CONTRACT = build_schema((Path(__file__).parent.parent / "schema.graphql").read_text(encoding="utf-8"))

REST = {
    "me": ("GET", "/users/me"),
    "cafes": ("GET", "/cafes"),
    "cafe": ("GET", "/cafes/{id}"),
    "link_request": ("POST", "/cafes/{cafe_id}/link-request"),
    "set_notifications": ("PATCH", "/cafes/{cafe_id}/notifications"),
    "unlink": ("DELETE", "/cafes/{cafe_id}/link"),
    "link_requests": ("GET", "/cafe-requests"),
    "approve": ("POST", "/cafe-requests/{request_id}/approve"),
    "reject": ("POST", "/cafe-requests/{request_id}/reject"),
}
"""The contract's table of operations, without the subscriptions. A path's parameter has GraphQL's name here."""


@dataclass(frozen=True)
class Answer:
    """What came back, in REST's spelling through whichever door. `fields` are the arguments that BAD_INPUT blames."""

    response: httpx.Response = field(repr=False)
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
    """`POST /graphql`, with a variable for each of the field's arguments, given or not."""

    async def __call__(self, operation: str, /, **arguments: object) -> Answer:
        name = camel(operation)
        kind, root = _root_field(name)
        declared = ", ".join(
            f"${argument}: {definition.type}{_default(definition)}" for argument, definition in root.args.items()
        )
        passed = ", ".join(f"{argument}: ${argument}" for argument in root.args)
        document = (
            f"{kind}{f'({declared})' if declared else ''} "
            f"{{ result: {name}{f'({passed})' if passed else ''} {_selection(root.type)} }}"
        )
        variables = {
            camel(argument): value.upper()
            if isinstance(value, str) and isinstance(get_named_type(root.args[camel(argument)].type), GraphQLEnumType)
            else value
            for argument, value in arguments.items()
        }
        return graphql_answer(
            await self.api.post(
                "/graphql",
                content=json.dumps({"query": document, "variables": variables}),
                headers={"Content-Type": "application/json", **self.headers},
            )
        )


class RestDoor(Door):
    """`/api/v1`: path, query and body as the contract's table has them."""

    async def __call__(self, operation: str, /, **arguments: object) -> Answer:
        method, path = REST[operation]
        rest = {"first": "limit"} if method == "GET" else {}
        others = {rest.get(name, name): value for name, value in arguments.items() if f"{{{name}}}" not in path}
        in_path = {name: quote(str(value), safe="") for name, value in arguments.items() if f"{{{name}}}" in path}
        request = self.api.build_request(
            method,
            "/api/v1" + path.format_map(in_path),
            params={name: str(value) for name, value in others.items()} if method == "GET" else None,
            content=json.dumps(others) if method in {"POST", "PATCH"} and others else None,
            headers=self.headers,
        )
        return rest_answer(
            await self.api.send(request), {"limit": "first"} | ({"cafe_id": "id"} if operation == "cafe" else {})
        )


def graphql_answer(response: httpx.Response) -> Answer:
    """Read an answer of GraphQL's."""
    body = response.json()
    if "errors" not in body:
        return Answer(response, lower_enums(body["data"]["result"]))
    extensions = [error["extensions"] for error in body["errors"]]
    details = dict(extensions[0].get("details", {}))
    details.pop("field", None)
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


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: f"_{match[0].lower()}", name)


def lower_enums(value: Any) -> Any:
    """Give the values of enumerations REST's case."""
    if isinstance(value, list):
        return [lower_enums(item) for item in value]
    if isinstance(value, dict):
        return {
            name: item.lower() if name in ENUM_FIELDS and isinstance(item, str) else lower_enums(item)
            for name, item in value.items()
        }
    return value


def _root_field(name: str) -> tuple[str, GraphQLField]:
    for kind, type_ in (("query", CONTRACT.query_type), ("mutation", CONTRACT.mutation_type)):
        if type_ is not None and name in type_.fields:
            return kind, type_.fields[name]
    raise LookupError(name)


def _default(definition: Any) -> str:
    node = definition.ast_node.default_value
    return "" if node is None else f" = {print_ast(node)}"


def _selection(type_: GraphQLOutputType) -> str:
    """Select what REST shows: an object's own fields, and of a list its rows and where it ends."""
    named = get_named_type(type_)
    assert isinstance(named, GraphQLObjectType)
    if "nodes" in named.fields:
        rows = _selection(named.fields["nodes"].type)
        ends = "page_info: pageInfo { end_cursor: endCursor has_next_page: hasNextPage }"
        return f"{{ items: nodes {rows} total: totalCount {ends} }}"
    leaves = [name for name, child in named.fields.items() if is_leaf_type(get_named_type(child.type))]
    return f"{{ {' '.join(f'{snake(name)}: {name}' for name in leaves)} }}"


ENUM_FIELDS = {
    name
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
