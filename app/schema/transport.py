"""GraphQL over HTTP, Server-Sent Events and WebSocket.

https://graphql.github.io/graphql-over-http/draft/ and
https://github.com/graphql/graphql-over-http/blob/main/rfcs/GraphQLOverWebSocket.md (`graphql-transport-ws`)
"""

import asyncio
from contextlib import ExitStack
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, override

import orjson
from cross_web import HTTPException
from mimeparse import MimeTypeParseException, best_match
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from strawberry.asgi import ASGIWebSocketAdapter, GraphQL
from strawberry.http import GraphQLHTTPResponse
from strawberry.http.exceptions import WebSocketDisconnected
from strawberry.subscriptions import GRAPHQL_SSE_PROTOCOL, GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler, Operation
from strawberry.subscriptions.protocols.graphql_transport_ws.types import (
    ConnectionInitMessage,
    Message,
    SubscribeMessage,
)
from strawberry.types import ExecutionResult

from app.auth.connections import OpenConnections, TooManyConnections
from app.auth.tokens import parse_bearer, read_token
from app.auth.viewer import Caller
from app.errors import BadInput, GraphQLInvalid, LunchbotError, Unauthenticated
from app.log import describe_request, get_log, log_request
from app.schema.context import OperationContext
from app.schema.errors import describe
from app.schema.schema import Schema

log = get_log(__name__)

GRAPHQL_RESPONSE = "application/graphql-response+json"

CLOSE_UNAUTHORIZED = 4401

CLOSE_TRY_AGAIN_LATER = 1013
"""https://www.iana.org/assignments/websocket/websocket.xhtml#close-code-number. Clients of GraphQL connect again after a
while, which they do not after a code of 4400 or more."""

INIT_TIMEOUT = timedelta(seconds=10)
"""A socket without `connection_init` is closed after this (4408)."""

CLOSE_REASON_MAX_BYTES = 123
"""A control frame has 125 bytes; two of them are the code (RFC 6455, section 5.5)."""

OPERATIONS_PER_SOCKET = 100

OK, CANCELLED = "OK", "CANCELLED"
"""The code in the log of an operation that has ended, and of one that the client or the end of its socket has stopped."""


def json_object(data: str | bytes) -> dict[str, Any]:
    """Parse the body of a request.

    Raises BadInput if it is not a JSON object.
    """
    try:
        parsed = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadInput("body", f"is not JSON: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise BadInput("body", "must be a JSON object")
    return parsed


def context_of(connection: HTTPConnection) -> OperationContext:
    """Make the context of a request."""
    # The authorization of a socket comes with `connection_init`.
    authorization = connection.headers.get("authorization") if connection.scope["type"] == "http" else None
    return OperationContext(
        clients=connection.state.clients,
        live=connection.state.live,
        source=connection.client.host if connection.client else "unknown",
        caller=Caller(authorization),
    )


class Adapter(ASGIWebSocketAdapter):
    """Shortens the reason for a close, so that it fits into a frame."""

    @override
    async def close(self, code: int, reason: str) -> None:
        await super().close(code, reason.encode()[:CLOSE_REASON_MAX_BYTES].decode(errors="ignore"))


class Socket(BaseGraphQLTransportWSHandler[OperationContext, None]):
    """One WebSocket."""

    expiry: asyncio.TimerHandle | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        assert isinstance(self.view, GraphQLEndpoint)
        self.viewers = self.view.viewers
        self.held = ExitStack()

    @override
    async def handle_message(self, message: Message) -> None:
        """Close with 4400 on a message that is not of the protocol. Strawberry's handler would crash on it."""
        if not _is_message(message):
            await self.handle_invalid_message("Not a message of graphql-transport-ws")
        else:
            await super().handle_message(message)

    @override
    async def handle_connection_init(self, message: ConnectionInitMessage) -> None:
        """Verify the token in the payload, if there is one, and close the socket when it expires.

        The rest of the payload is dropped: Strawberry would keep it as long as the socket is open.
        """
        payload = message.get("payload")
        if isinstance(payload, dict):
            authorization = next((value for name, value in payload.items() if name.lower() == "authorization"), None)
            if authorization:
                try:
                    claims = read_token(self.context.clients.settings, parse_bearer(authorization))
                except Unauthenticated as error:
                    await self.websocket.close(CLOSE_UNAUTHORIZED, error.message)
                    return
                try:
                    self.held.enter_context(self.viewers.hold(claims.tgid))
                except TooManyConnections as error:
                    await self.websocket.close(CLOSE_TRY_AGAIN_LATER, error.message)
                    return
                self.context.caller = Caller(authorization)
                self._close_at(claims.expires_at)
        if isinstance(payload, dict | None):
            message["payload"] = {}
        await super().handle_connection_init(message)

    @override
    async def handle_subscribe(self, message: SubscribeMessage) -> None:
        """Refuse too many operations with a code. Strawberry's handler has a limit, but no codes."""
        if len(self.operations) < OPERATIONS_PER_SOCKET or message["id"] in self.operations:
            await super().handle_subscribe(message)
            return
        with log_request(log, "operation.finished"):
            refusal = _refusal(GraphQLInvalid(f"At most {OPERATIONS_PER_SOCKET} operations may run at the same time."))
            await self.send_message({"id": message["id"], "type": "error", "payload": refusal["errors"]})

    def _close_at(self, expires_at: datetime) -> None:
        loop = asyncio.get_running_loop()
        seconds = (expires_at - datetime.now(UTC)).total_seconds()

        def close() -> None:
            task = loop.create_task(self.websocket.close(CLOSE_UNAUTHORIZED, "The token has expired."))
            task.add_done_callback(self._task_done)

        if self.expiry is None:
            self.expiry = loop.call_later(max(0.0, seconds), close)

    @override
    async def run_operation(self, operation: Operation[OperationContext, None]) -> None:
        """Run each operation with a separate context: the caller is authenticated for each."""
        runner = copy(self)
        runner.context = replace(
            self.context, caller=Caller(self.context.caller.authorization), loaders={}, subscribed=asyncio.Event()
        )
        with log_request(log, "operation.finished", code=CANCELLED) as facts:
            await super(Socket, runner).run_operation(operation)
            if facts["code"] == CANCELLED:
                facts["code"] = OK

    @override
    async def handle_task_exception(self, error: Exception) -> None:
        """Log an unexpected error. A client that has disconnected is none."""
        if not isinstance(error, WebSocketDisconnected | WebSocketDisconnect):
            await super().handle_task_exception(error)

    @override
    async def shutdown(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
        self.held.close()
        await super().shutdown()


def _is_message(message: object) -> bool:
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return False
    if message["type"] in {"subscribe", "complete"} and not isinstance(message.get("id"), str):
        return False
    if message["type"] != "subscribe":
        return True
    payload = message.get("payload")
    return (
        isinstance(payload, dict)
        and isinstance(payload.get("query"), str)
        and isinstance(payload.get("variables"), dict | None)
        and isinstance(payload.get("operationName"), str | None)
    )


class GraphQLEndpoint(GraphQL[OperationContext, None]):
    """The endpoint `/graphql`: HTTP, Server-Sent Events, WebSocket, and for a browser GraphiQL, if a page is given."""

    graphql_transport_ws_handler_class = Socket
    websocket_adapter_class = Adapter

    def __init__(
        self,
        schema: Schema,
        *,
        graphiql: Path | None,
        allowed_origins: tuple[str, ...],
        sockets_per_viewer: int,
        init_timeout: timedelta,
    ) -> None:
        super().__init__(
            schema,
            subscription_protocols=(GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_SSE_PROTOCOL),
            max_subscriptions_per_connection=None,
            allowed_origins=allowed_origins,
            graphql_ide=None if graphiql is None else "graphiql",
            connection_init_wait_timeout=init_timeout,
        )
        self.viewers = OpenConnections(sockets_per_viewer)
        self._graphiql = graphiql

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an invalid request with an error in GraphQL's form as well."""
        if scope["type"] != "http":
            await self.run(WebSocket(scope, receive, send))
            return
        request = Request(scope, receive)
        try:
            response: Response = await self.run(request)
            _negotiate(request, response)
        except HTTPException as error:
            allow = {"Allow": "GET, POST"} if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED else None
            response = JSONResponse(_refusal(GraphQLInvalid(error.reason)), error.status_code, allow)
        except LunchbotError as error:
            response = JSONResponse(_refusal(error), error.status)
        await response(scope, receive, send)

    @override
    async def get_context(self, request: Request | WebSocket, response: Response | WebSocket) -> OperationContext:
        return context_of(request)

    @override
    async def render_graphql_ide(self, request: Request) -> Response:
        assert self._graphiql is not None
        return FileResponse(self._graphiql, headers={"Cache-Control": "no-cache"})

    @override
    def decode_json(self, data: str | bytes) -> object:
        return orjson.loads(data)

    @override
    def encode_json(self, data: object) -> str:
        return orjson.dumps(data).decode()  # text, because bytes would become a binary WebSocket frame

    @override
    def parse_json(self, data: str | bytes) -> Any:
        return json_object(data)

    @override
    async def process_result(self, request: Request, result: ExecutionResult) -> GraphQLHTTPResponse:
        """Leave out `data` if nothing was executed, as the specification requires."""
        response = await super().process_result(request, result)
        if _is_request_error(result):
            response.pop("data", None)
            request.state.refused = True
        return response


def _negotiate(request: Request, response: Response) -> None:
    """Answer in the media type that the client prefers. Only the newer one has status 400 for a request error."""
    if response.media_type == "application/json" and _prefers_graphql_response(request):
        response.headers["content-type"] = f"{GRAPHQL_RESPONSE}; charset=utf-8"
        if getattr(request.state, "refused", False):
            response.status_code = HTTPStatus.BAD_REQUEST


def _prefers_graphql_response(request: Request) -> bool:
    """Whether the client lists the newer media type itself, and prefers it to JSON (RFC 9110, section 12.5.1)."""
    accept = request.headers.get("accept", "").lower()
    if GRAPHQL_RESPONSE not in accept:
        return False
    try:
        return bool(best_match(["application/json", GRAPHQL_RESPONSE], accept) == GRAPHQL_RESPONSE)
    except MimeTypeParseException:  # another media type in the list is malformed
        return True


def _is_request_error(result: ExecutionResult) -> bool:
    """Whether execution never began, for example because a variable could not be coerced."""
    return result.data is None and bool(result.errors) and all(error.path is None for error in result.errors or ())


def _refusal(error: LunchbotError) -> dict[str, Any]:
    message, extensions = describe(error)
    describe_request(code=error.code)
    return {"errors": [{"message": message, "extensions": extensions}]}
