"""ASGI middleware of the api process."""

import re
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from app.auth.connections import OpenConnections, TooManyConnections
from app.errors import BadInput, Internal
from app.log import get_log, log_context, log_request
from app.processes.health import routes as health_routes
from app.rest.problem import problem_response

log = get_log(__name__)

MAX_BODY_BYTES = 1_000_000
"""No operation needs more than a few kilobytes. The tokens of GraphQL documents are limited as well."""

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'"
)
"""Pages load nothing from other hosts. Monaco, the editor in GraphiQL, sets its styles inline."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""The trace of a request (https://www.w3.org/TR/trace-context/#traceparent-header)."""

CLIENT_CLOSED_REQUEST = 499
"""The status in the log if the client has disconnected before an answer, as nginx writes it."""

HEALTH_PATHS = {route.path for route in health_routes}

STARTS = {"http.response.start", "websocket.accept", "websocket.http.response.start"}
ENDS = {"websocket.close", "websocket.disconnect"}


class RequestContext:
    """Gives each request an id, for its log lines and its response, logs one line for it, and masks unexpected errors.

    The line has the route and not the path, because the path has ids of people. A client that disconnects is no error.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        ids = {"request_id": given if REQUEST_ID.fullmatch(given) else uuid4().hex}
        if trace := TRACEPARENT.fullmatch(headers.get("traceparent", "")):
            ids["trace_id"] = trace[1]
        event = "request.finished" if scope["type"] == "http" else "socket.closed"
        with log_context(**ids), log_request(log, event, method=scope.get("method")) as facts:
            try:
                await self._run(scope, receive, send, ids["request_id"], facts)
            finally:
                route = _route(scope)
                facts |= {"route": route, "is_routine": route in HEALTH_PATHS}

    async def _run(self, scope: Scope, receive: Receive, send: Send, request_id: str, facts: dict[str, Any]) -> None:
        async def receive_and_note() -> Message:
            message = await receive()
            _note_status(message, facts)
            return message

        async def send_with_id(message: Message) -> None:
            _note_status(message, facts)
            if message["type"] in STARTS:
                _add_headers(message, request_id)
            await send(message)

        try:
            await self.app(scope, receive_and_note, send_with_id)
        except (ClientDisconnect, WebSocketDisconnect):
            facts.setdefault("status", CLIENT_CLOSED_REQUEST)
        except Exception:
            log.exception("request.failed", route=_route(scope))
            facts["code"] = Internal.code
            if "status" in facts or scope["type"] != "http":
                raise
            await problem_response(Internal())(scope, receive, send_with_id)


def _note_status(message: Message, facts: dict[str, Any]) -> None:
    """Note the status of a response, or the code with which a socket is closed: the first one counts."""
    if "status" in message or message["type"] in ENDS:
        facts.setdefault("status", message.get("status", message.get("code")))


def _add_headers(message: Message, request_id: str) -> None:
    headers = MutableHeaders(scope=message)
    headers["X-Request-Id"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    if headers.get("content-type", "").startswith("text/html"):
        headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY


def _route(scope: Scope) -> str | None:
    """Return the path of the route, with the names of its parameters, if the router has found one."""
    return getattr(scope.get("route"), "path", None)


class ConnectionLimit:
    """Refuses the requests and sockets of an address that has `limit` of them open."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self._open = OpenConnections(limit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"} or scope.get("client") is None:
            await self.app(scope, receive, send)
            return
        address, _ = scope["client"]
        with ExitStack() as stack:
            try:
                stack.enter_context(self._open.hold(address))
            except TooManyConnections as error:
                await problem_response(error)(scope, receive, send)
            else:
                await self.app(scope, receive, send)


class BodyLimit:
    """Refuses a body of more than `MAX_BODY_BYTES` before it is read into memory."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
            await problem_response(TooLarge())(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise TooLarge
            return message

        try:
            await self.app(scope, receive_limited, send)
        except TooLarge as error:
            await problem_response(error)(scope, receive, send)


class TooLarge(BadInput):
    """The body is too large."""

    def __init__(self) -> None:
        super().__init__("body", f"has more than {MAX_BODY_BYTES:,} bytes")
