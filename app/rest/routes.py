"""REST: a table of routes, each of which runs a stored operation on the schema."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from graphql import GraphQLBoolean, GraphQLEnumType, GraphQLInt, get_named_type
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from app.errors import BadInput, LunchbotError
from app.rest.problem import problem, problem_of
from app.rest.stored import RESULT, StoredOperation, Variable, load
from app.schema import Schema
from app.schema.transport import context_of, json_object

PREFIX = "/api/v1"

INTEGER = re.compile(r"-?[0-9]{1,10}")
"""As many digits as GraphQL's Int may have; Python would read thousands, or refuse to."""

HEARTBEAT_S = 15
"""A comment on a silent event stream as often as this keeps proxies from closing it."""


@dataclass(frozen=True)
class Route:
    """One REST operation. Its path's parameters, query and body are the variables of the stored operation."""

    method: str
    path: str
    operation: str
    status: int = 200
    tag: str = "links"


ROUTES = (
    Route("GET", "/users/me", "Me", tag="users"),
    Route("GET", "/cafes", "Cafes", tag="cafes"),
    Route("GET", "/cafes/{cafe_id}", "Cafe", tag="cafes"),
    Route("POST", "/cafes/{cafe_id}/link-request", "LinkRequest", 201),
    Route("PATCH", "/cafes/{cafe_id}/notifications", "SetNotifications"),
    Route("DELETE", "/cafes/{cafe_id}/link", "Unlink", 204),
    Route("GET", "/cafe-requests", "LinkRequests"),
    Route("GET", "/cafe-requests/events", "LinkRequestUpdates"),
    Route("POST", "/cafe-requests/{request_id}/approve", "Approve"),
    Route("POST", "/cafe-requests/{request_id}/reject", "Reject"),
)


class Endpoint:
    """A route at work: HTTP in, the schema, HTTP out."""

    def __init__(self, schema: Schema, route: Route, operation: StoredOperation) -> None:
        self.schema = schema
        self.route = route
        self.operation = operation

    async def respond(self, request: Request) -> Response:
        try:
            variables = await self._variables(request)
        except LunchbotError as error:
            return problem(error)
        if self.operation.is_subscription:
            return await self._stream(request, variables)
        result = await self.schema.execute(self.operation.text, variables, context_of(request))
        if result.errors:
            return self._failure([error.formatted for error in result.errors])
        assert result.data is not None
        return self._success(request, result.data[RESULT])

    def _success(self, request: Request, data: Any) -> Response:
        if self.route.status == HTTPStatus.NO_CONTENT:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        body = orjson.dumps(self.operation.lower_enums(data))
        headers = {"Cache-Control": "no-store"}
        if self.route.method == "GET":
            etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
            headers = {"Cache-Control": "private, no-cache", "ETag": etag, "Vary": "Authorization"}
            if {etag, "*"} & _tags(request.headers.get("if-none-match", "")):
                return Response(status_code=304, headers=headers)
        return Response(body, self.route.status, headers, "application/json")

    def _failure(self, errors: Any) -> Response:
        return problem_of(errors, self.operation.variable_of_argument)

    async def _stream(self, request: Request, variables: dict[str, Any]) -> Response:
        """Answer with Server-Sent Events as soon as we listen, or with a problem if the subscription is refused."""
        ctx = context_of(request)
        results = await self.schema.stream(self.operation.text, variables, ctx)
        first: asyncio.Future[Any] = asyncio.ensure_future(anext(results))
        listening = asyncio.create_task(ctx.subscribed.wait())
        await asyncio.wait({first, listening}, return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            refused = await first
            await results.aclose()
            return self._failure([error.formatted for error in refused.errors])
        if request.method == "HEAD":
            first.cancel()
            await asyncio.wait({first})
            await results.aclose()
            return Response(media_type="text/event-stream")
        return EventSourceResponse(self._events(first, results), ping=HEARTBEAT_S)

    async def _events(self, first: Awaitable[Any], results: AsyncGenerator[Any]) -> AsyncIterator[ServerSentEvent]:
        async with aclosing(results):
            try:
                result = await first
                while True:
                    if result.errors:
                        failure = self._failure([error.formatted for error in result.errors])
                        yield ServerSentEvent(event="error", data=bytes(failure.body).decode())
                        return
                    data = self.operation.lower_enums(result.data[RESULT])
                    yield ServerSentEvent(data=orjson.dumps(data).decode())
                    result = await anext(results)
            except StopAsyncIteration:
                return

    async def _variables(self, request: Request) -> dict[str, Any]:
        """Collect the operation's variables.

        Raises BadInput for what is no parameter of the operation, or cannot be read.
        """
        given: dict[str, Any] = dict(request.path_params)
        texts: dict[str, str] = dict(request.query_params)
        body = await _json_body(request) if request.method in {"POST", "PUT", "PATCH"} else {}
        for name in (*texts, *body):
            if name not in self.operation.variables or name in request.path_params:
                raise BadInput(name, "is not a parameter of this operation")
        given |= {name: _from_text(self.operation.variables[name], text) for name, text in texts.items()}
        given |= {name: _from_json(self.operation.variables[name], value) for name, value in body.items()}
        return given


async def _json_body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    return json_object(raw) if raw else {}


def _from_text(variable: Variable, text: str) -> Any:
    """Read a path's or a query's text as what the variable wants; what does not fit is for the schema to refuse."""
    named = get_named_type(variable.type)
    if named is GraphQLInt and INTEGER.fullmatch(text):
        return int(text)
    if named is GraphQLBoolean and text in {"true", "false"}:
        return text == "true"
    return _from_json(variable, text)


def _from_json(variable: Variable, value: Any) -> Any:
    """Give the names of enumerations the schema's case; what does not fit is for the schema to refuse."""
    kind = get_named_type(variable.type)
    if not isinstance(kind, GraphQLEnumType) or not isinstance(value, str):
        return value
    return value.upper() if value == value.lower() and value.upper() in kind.values else value.lower()


def _tags(header: str) -> set[str]:
    """Read `If-None-Match` (RFC 9110, section 13.1.2); a weak tag matches like a strong one."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def create_routes(schema: Schema) -> list[StarletteRoute]:
    """Make the routes.

    Raises ValueError if the table and the stored operations do not fit: then the program is wrong and must not start.
    """
    operations = load(schema._schema)  # noqa: SLF001 Strawberry gives no other way to graphql-core's schema
    return [
        StarletteRoute(
            PREFIX + route.path, Endpoint(schema, route, operations[route.operation]).respond, methods=[route.method]
        )
        for route in ROUTES
    ]
