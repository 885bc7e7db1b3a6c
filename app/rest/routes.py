"""The REST routes: each runs a stored operation on the schema."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
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

from app.errors import BadInput, FieldProblem, LunchbotError
from app.rest.problem import problem_of_graphql, problem_response
from app.rest.stored import StoredOperation, Variable, load
from app.rest.summary_csv import summary_csv
from app.schema.schema import Schema
from app.schema.transport import context_of, json_object

PREFIX = "/api/v1"

CSV = "text/csv"

INTEGER = re.compile(r"-?[0-9]{1,16}")
"""The maximum number of digits of a Telegram id. Python would parse thousands of digits, or raise."""

HEARTBEAT_S = 15
"""How often a silent event stream gets a comment, so that proxies keep it open."""


class Endpoint:
    """Answers the requests of one route with the result of its operation."""

    def __init__(self, schema: Schema, operation: StoredOperation) -> None:
        self.schema = schema
        self.operation = operation
        self.route = operation.route

    async def respond(self, request: Request) -> Response:
        try:
            variables = await self._variables(request)
        except LunchbotError as error:
            return problem_response(error)
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
        if self.route.csv and _prefers_csv(request):
            table = summary_csv(data)
            body, media_type = table.content, f"{CSV}; charset=utf-8"
            disposition = {"Content-Disposition": f'attachment; filename="{table.file_name}"'}
        else:
            body, media_type, disposition = orjson.dumps(data), "application/json", {}
        headers = {"Cache-Control": "no-store"}
        if self.route.method == "GET":
            etag = f'"{hashlib.blake2b(body, digest_size=16).hexdigest()}"'
            vary = "Authorization, Accept" if self.route.csv else "Authorization"
            headers = {"Cache-Control": "private, no-cache", "ETag": etag, "Vary": vary}
            if {etag, "*"} & _tags(request.headers.get("if-none-match", "")):
                return Response(status_code=304, headers=headers)
        return Response(body, self.route.status, headers | disposition, media_type)

    def _failure(self, errors: Any) -> Response:
        return problem_of_graphql(errors, self.operation.variable_of_argument, self.operation.choices)

    async def _stream(self, request: Request, variables: dict[str, Any]) -> Response:
        """Answer with Server-Sent Events once the operation has subscribed, or with a problem if it is refused."""
        ctx = context_of(request)
        results = await self.schema.stream(self.operation.text, variables, ctx)
        first: asyncio.Future[Any] = asyncio.ensure_future(anext(results))
        subscribed = asyncio.create_task(ctx.subscribed.wait())
        await asyncio.wait({first, subscribed}, return_when=asyncio.FIRST_COMPLETED)
        if not subscribed.done():
            subscribed.cancel()
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

        Raises BadInput, which names every unknown parameter.
        """
        texts: dict[str, str] = {**request.query_params, **request.path_params}
        body = await _json_body(request) if request.method in {"POST", "PUT", "PATCH"} else {}
        variables: dict[str, Any] = {}
        problems = [
            FieldProblem(name, "is not a parameter of this operation")
            for name in (*request.query_params, *body)
            if name not in self.operation.variables or name in request.path_params
        ]
        unknown = {problem.field for problem in problems}
        for name, text in texts.items():
            if name not in unknown or name in request.path_params:
                variables[name] = _parse_text(self.operation.variables[name], text, problems)
        for name, value in body.items():
            if name not in unknown:
                variables[name] = _parse_json(name, self.operation.variables[name].type, value, problems)
        if problems:
            raise BadInput.from_problems(problems)
        return variables


async def _json_body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    return json_object(raw) if raw else {}


def _parse_text(variable: Variable, text: str, problems: list[FieldProblem]) -> Any:
    """Parse a path or query parameter by the type of the variable. The schema refuses a wrong value."""
    named = get_named_type(variable.type)
    if named.name in {"Int", "TelegramId"} and INTEGER.fullmatch(text):
        return int(text)
    if named is GraphQLBoolean and text in {"true", "false"}:
        return text == "true"
    return _parse_json(variable.name, variable.type, text, problems)


def _parse_json(name: str, kind: GraphQLInputType, value: Any, problems: list[FieldProblem]) -> Any:
    """Convert enumerations and names of fields to the schema's case. The schema refuses a wrong value.

    An unknown field is a problem here, because the schema has another name for it.
    """
    if isinstance(kind, GraphQLNonNull):
        return _parse_json(name, kind.of_type, value, problems)
    if isinstance(kind, GraphQLList):
        items = value if isinstance(value, list) else [value]
        return None if value is None else [_parse_json(name, kind.of_type, item, problems) for item in items]
    if isinstance(kind, GraphQLInputObjectType) and isinstance(value, dict):
        fields = {to_snake_case(field): field for field in kind.fields}
        problems += [FieldProblem(name, f"has no field {field}") for field in sorted(value.keys() - fields.keys())]
        return {
            fields[field]: _parse_json(name, kind.fields[fields[field]].type, item, problems)
            for field, item in value.items()
            if field in fields
        }
    if isinstance(kind, GraphQLEnumType) and isinstance(value, str):
        return value.upper() if value == value.lower() and value.upper() in kind.values else value.lower()
    return value


def _prefers_csv(request: Request) -> bool:
    """Whether the client prefers CSV to JSON (RFC 9110, section 12.5.1). JSON is the default."""
    try:
        preferred = best_match([CSV, "application/json"], request.headers.get("accept", "*/*").lower())
    except MimeTypeParseException:
        return False
    return bool(preferred == CSV)


def _tags(header: str) -> set[str]:
    """Parse `If-None-Match` (RFC 9110, section 13.1.2). A weak tag matches like a strong one."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def create_routes(schema: Schema) -> list[StarletteRoute]:
    """Make the routes of all stored operations. A literal segment of a path comes before a parameter.

    Raises ValueError if the stored operations do not fit the schema: then the program is wrong and must not start.
    """
    operations = load(schema._schema)  # noqa: SLF001 Strawberry gives no other way to graphql-core's schema
    paths: dict[str, dict[str, Endpoint]] = {}
    for operation in operations.values():
        paths.setdefault(operation.route.path, {})[operation.route.method] = Endpoint(schema, operation)
    return [
        StarletteRoute(PREFIX + path, _by_method(paths[path]), methods=list(paths[path]))
        for path in sorted(paths, key=_specificity)
    ]


def _specificity(path: str) -> list[bool]:
    return [segment.startswith("{") for segment in path.split("/")]


def _by_method(endpoints: Mapping[str, Endpoint]) -> Callable[[Request], Awaitable[Response]]:
    """All methods of a path are one route, so that the answer to another method lists them all."""

    async def respond(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method].respond(request)

    return respond
