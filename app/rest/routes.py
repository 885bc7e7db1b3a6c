"""REST: a table of routes, each of which runs a stored operation on the schema."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import orjson
from graphql import (
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLList,
    GraphQLNonNull,
    get_named_type,
)
from mimeparse import MimeTypeParseException, best_match
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute
from strawberry.utils.str_converters import to_snake_case

from app.errors import BadInput, LunchbotError
from app.rest.problem import problem, problem_of
from app.rest.stored import StoredOperation, Variable, load
from app.rest.summary_csv import Csv, summary_csv
from app.schema import Schema
from app.schema.transport import context_of, json_object

PREFIX = "/api/v1"

CSV = "text/csv"

INTEGER = re.compile(r"-?[0-9]{1,16}")
"""As many digits as an id of Telegram's may have; Python would read thousands, or refuse to."""

HEARTBEAT_S = 15
"""A comment on a silent event stream as often as this keeps proxies from closing it."""


@dataclass(frozen=True)
class Route:
    """One REST operation. Its path's parameters, query and body are the variables of the stored operation.

    Args:
        as_csv: How the result looks as `text/csv`, for those who prefer that.
    """

    method: str
    path: str
    operation: str
    status: int = 200
    tag: str = "links"
    as_csv: Callable[[Any], Csv] | None = None


ROUTES = (
    Route("POST", "/auth/telegram", "Authenticate", tag="users"),
    Route("GET", "/users", "Users", tag="users"),
    Route("POST", "/users", "CreateUser", 201, tag="users"),
    Route("POST", "/users/managers", "CreateManager", 201, tag="users"),
    Route("GET", "/users/me", "Me", tag="users"),
    Route("GET", "/users/{tgid}", "User", tag="users"),
    Route("PATCH", "/users/{tgid}/access", "SetUserAccess", tag="users"),
    Route("DELETE", "/users/{tgid}", "DeleteUser", tag="users"),
    Route("GET", "/cafes", "Cafes", tag="cafes"),
    Route("POST", "/cafes", "CreateCafe", 201, tag="cafes"),
    Route("GET", "/cafes/{cafe_id}", "Cafe", tag="cafes"),
    Route("PATCH", "/cafes/{cafe_id}", "UpdateCafe", tag="cafes"),
    Route("PATCH", "/cafes/{cafe_id}/status", "SetCafeStatus", tag="cafes"),
    Route("DELETE", "/cafes/{cafe_id}", "DeleteCafe", tag="cafes"),
    Route("GET", "/cafes/{cafe_id}/menu", "MenuItems", tag="menus"),
    Route("POST", "/cafes/{cafe_id}/menu", "CreateMenuItem", 201, tag="menus"),
    Route("PATCH", "/cafes/{cafe_id}/menu/{item_id}", "UpdateMenuItem", tag="menus"),
    Route("DELETE", "/cafes/{cafe_id}/menu/{item_id}", "DeleteMenuItem", tag="menus"),
    Route("GET", "/cafes/{cafe_id}/combos", "Combos", tag="menus"),
    Route("POST", "/cafes/{cafe_id}/combos", "CreateCombo", 201, tag="menus"),
    Route("PATCH", "/cafes/{cafe_id}/combos/{combo_id}", "UpdateCombo", tag="menus"),
    Route("DELETE", "/cafes/{cafe_id}/combos/{combo_id}", "DeleteCombo", tag="menus"),
    Route("GET", "/cafes/{cafe_id}/deadlines", "Deadlines", tag="deadlines"),
    Route("PUT", "/cafes/{cafe_id}/deadlines", "SetDeadlines", tag="deadlines"),
    Route("GET", "/orders/availability/week", "OrderWeek", tag="orders"),
    Route("GET", "/orders/availability/{date}", "OrderAvailability", tag="orders"),
    Route("GET", "/orders", "Orders", tag="orders"),
    Route("POST", "/orders", "PlaceOrder", 201, tag="orders"),
    Route("GET", "/orders/{order_id}", "Order", tag="orders"),
    Route("PATCH", "/orders/{order_id}", "UpdateOrder", tag="orders"),
    Route("DELETE", "/orders/{order_id}", "CancelOrder", tag="orders"),
    Route("GET", "/cafes/{cafe_id}/summary/{date}", "OrderSummary", tag="orders", as_csv=summary_csv),
    Route("POST", "/cafes/{cafe_id}/deadlines/{date}/announce", "AnnounceDeadline", 202, tag="notifications"),
    Route("GET", "/cafes/{cafe_id}/notification-preview/{date}", "NotificationPreview", tag="notifications"),
    Route("GET", "/notifications", "Notifications", tag="notifications"),
    Route("GET", "/notifications/events", "NotificationUpdates", tag="notifications"),
    Route("POST", "/notifications/{notification_id}/retry", "RetryNotification", 202, tag="notifications"),
    Route("GET", "/users/{tgid}/recommendations", "Recommendations", tag="recommendations"),
    Route("POST", "/recommendation-runs", "StartRecommendationRun", 202, tag="recommendations"),
    Route("GET", "/recommendation-runs/events", "RecommendationRunUpdates", tag="recommendations"),
    Route("GET", "/recommendation-runs/{date}", "RecommendationRun", tag="recommendations"),
    Route("GET", "/gemini-keys", "GeminiKeys", tag="recommendations"),
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
        return self._success(request, self.operation.result_of(result.data))

    def _success(self, request: Request, data: Any) -> Response:
        if self.route.status == HTTPStatus.NO_CONTENT:
            return Response(status_code=HTTPStatus.NO_CONTENT)
        if self.route.as_csv is not None and _prefers_csv(request):
            table = self.route.as_csv(data)
            body, media_type = table.content, f"{CSV}; charset=utf-8"
            described = {"Content-Disposition": f'attachment; filename="{table.file_name}"'}
        else:
            body, media_type, described = orjson.dumps(data), "application/json", {}
        headers = {"Cache-Control": "no-store"}
        if self.route.method == "GET":
            etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
            vary = "Authorization" if self.route.as_csv is None else "Authorization, Accept"
            headers = {"Cache-Control": "private, no-cache", "ETag": etag, "Vary": vary}
            if {etag, "*"} & _tags(request.headers.get("if-none-match", "")):
                return Response(status_code=304, headers=headers)
        return Response(body, self.route.status, headers | described, media_type)

    def _failure(self, errors: Any) -> Response:
        return problem_of(errors, self.operation.variable_of_argument, self.operation.choices)

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
                    data = self.operation.result_of(result.data)
                    yield ServerSentEvent(data=orjson.dumps(data).decode())
                    result = await anext(results)
            except StopAsyncIteration:
                return

    async def _variables(self, request: Request) -> dict[str, Any]:
        """Collect the operation's variables.

        Raises BadInput for what is no parameter of the operation, or cannot be read.
        """
        given: dict[str, Any] = {}
        texts: dict[str, str] = {**request.query_params, **request.path_params}
        body = await _json_body(request) if request.method in {"POST", "PUT", "PATCH"} else {}
        for name in (*request.query_params, *body):
            if name not in self.operation.variables or name in request.path_params:
                raise BadInput(name, "is not a parameter of this operation")
        given |= {name: _from_text(self.operation.variables[name], text) for name, text in texts.items()}
        given |= {name: _from_json(name, self.operation.variables[name].type, value) for name, value in body.items()}
        return given


async def _json_body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    return json_object(raw) if raw else {}


def _from_text(variable: Variable, text: str) -> Any:
    """Read a path's or a query's text as what the variable wants; what does not fit is for the schema to refuse."""
    named = get_named_type(variable.type)
    if named.name in {"Int", "TelegramId"} and INTEGER.fullmatch(text):
        return int(text)
    if named is GraphQLBoolean and text in {"true", "false"}:
        return text == "true"
    return _from_json(variable.name, variable.type, text)


def _from_json(name: str, kind: GraphQLInputType, value: Any) -> Any:
    """Give the names of enumerations and of fields the schema's spelling; what does not fit is for the schema to refuse.

    Raises BadInput for a field that is not there: the schema knows it by another name.
    """
    if isinstance(kind, GraphQLNonNull):
        return _from_json(name, kind.of_type, value)
    if isinstance(kind, GraphQLList):
        items = value if isinstance(value, list) else [value]
        return None if value is None else [_from_json(name, kind.of_type, item) for item in items]
    if isinstance(kind, GraphQLInputObjectType) and isinstance(value, dict):
        fields = {to_snake_case(field): field for field in kind.fields}
        if unknown := value.keys() - fields.keys():
            raise BadInput(name, f"has no field {min(unknown)}")
        return {fields[field]: _from_json(name, kind.fields[fields[field]].type, it) for field, it in value.items()}
    if isinstance(kind, GraphQLEnumType) and isinstance(value, str):
        return value.upper() if value == value.lower() and value.upper() in kind.values else value.lower()
    return value


def _prefers_csv(request: Request) -> bool:
    """Whether CSV is wanted more than JSON (RFC 9110, section 12.5.1), which is what those get who do not say."""
    try:
        preferred = best_match([CSV, "application/json"], request.headers.get("accept", "*/*").lower())
    except MimeTypeParseException:
        return False
    return bool(preferred == CSV)


def _tags(header: str) -> set[str]:
    """Read `If-None-Match` (RFC 9110, section 13.1.2); a weak tag matches like a strong one."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def create_routes(schema: Schema) -> list[StarletteRoute]:
    """Make the routes.

    Raises ValueError if the table and the stored operations do not fit: then the program is wrong and must not start.
    """
    operations = load(schema._schema)  # noqa: SLF001 Strawberry gives no other way to graphql-core's schema
    paths: dict[str, dict[str, Endpoint]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method] = Endpoint(schema, route, operations[route.operation])
    return [
        StarletteRoute(PREFIX + path, _by_method(endpoints), methods=list(endpoints))
        for path, endpoints in paths.items()
    ]


def _by_method(endpoints: Mapping[str, Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    """All methods of a path are one route: so the answer to another method names them all."""

    async def respond(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method].respond(request)

    return respond
