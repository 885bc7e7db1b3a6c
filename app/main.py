"""The api process: GraphQL, REST, and what browsers get."""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict
from uuid import uuid4

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app import health
from app.auth import end_refused
from app.clients import Clients, open_clients
from app.errors import BadInput, Internal, NotFound
from app.events.live import Live, feed
from app.log import get_log, log_context
from app.process import beside
from app.rest.openapi import create_openapi
from app.rest.problem import problem
from app.rest.routes import PREFIX, create_routes
from app.schema import create_schema
from app.schema.transport import GraphQLEndpoint
from app.settings import Settings
from app.telegram.limiter import Limiter, Paced
from app.telegram.webhook import Webhook

log = get_log(__name__)

STATIC = Path(__file__).parent / "static"

MAX_BODY_BYTES = 1_000_000
"""No operation takes more than a few kilobytes; GraphQL documents are limited by their tokens besides."""

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; worker-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; "
    "form-action 'self'"
)
"""Pages load nothing from another host. Monaco, the editor in GraphiQL, styles itself inline."""

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class State(TypedDict):
    clients: Clients
    live: Live


def create_app(settings: Settings) -> Starlette:
    """Make the app of the api process."""

    webhook = None if settings.telegram_webhook_url is None else Webhook(settings)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            clients = await stack.enter_async_context(open_clients(settings))
            live = Live()
            work = [feed(live, clients), end_refused(live, clients)]
            if webhook is not None:
                await stack.enter_async_context(webhook.bot.context())
                webhook.bot.session.middleware(Paced(Limiter(clients.redis)))
                work.append(webhook.register())
            await stack.enter_async_context(beside(app, *work))
            yield {"clients": clients, "live": live}

    schema = create_schema(introspection=settings.graphql_introspection)
    openapi = create_openapi(schema, version("lunch-bot"))
    graphql = GraphQLEndpoint(schema, graphiql=STATIC / "graphiql.html", allowed_origins=settings.cors_origins)

    async def openapi_json(_request: Request) -> Response:
        return JSONResponse(openapi)

    async def docs(_request: Request) -> Response:
        return FileResponse(STATIC / "docs.html", headers={"Cache-Control": "no-cache"})

    return Starlette(
        routes=[
            *health.routes,
            Route(f"{PREFIX}/openapi.json", openapi_json),
            Route("/api/docs", docs),
            *create_routes(schema),
            *([] if webhook is None else [Route(webhook.path, webhook.respond, methods=["POST"])]),
            Route("/graphql", graphql),
            WebSocketRoute("/graphql", graphql),
            Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
        ],
        middleware=[
            Middleware(RequestContext),
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["ETag", "Retry-After", "X-Request-Id"],
            ),
            Middleware(BodyLimit),
        ],
        exception_handlers={404: not_found, 405: method_not_allowed},
        lifespan=lifespan,
    )


async def not_found(request: Request, _error: Exception) -> Response:
    return problem(NotFound("path", request.url.path))


async def method_not_allowed(request: Request, error: Exception) -> Response:
    return problem(MethodNotAllowed(f"There is no {request.method} here."), getattr(error, "headers", None))


class MethodNotAllowed(BadInput):
    """This path has other methods; `Allow` names them."""

    status = 405

    def __init__(self, message: str) -> None:
        super().__init__("method", message)


class RequestContext:
    """Gives each request an id, for its log lines and its answer, and masks what no door has caught."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid4().hex
        started = False

        async def send_with_id(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if headers.get("content-type", "").startswith("text/html"):
                    headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
            await send(message)

        with log_context(request_id=request_id):
            try:
                await self.app(scope, receive, send_with_id)
            except Exception:
                log.exception("request.failed", path=scope["path"])
                if started or scope["type"] != "http":
                    raise
                await problem(Internal())(scope, receive, send_with_id)


class BodyLimit:
    """Refuses a body of more than `MAX_BODY_BYTES` before anything reads it into memory."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isdecimal() and int(announced) > MAX_BODY_BYTES:
            await problem(TooLarge())(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MAX_BODY_BYTES:
                raise TooLarge
            return message

        try:
            await self.app(scope, limited, send)
        except TooLarge as error:
            await problem(error)(scope, receive, send)


class TooLarge(BadInput):
    """The body is too large."""

    def __init__(self) -> None:
        super().__init__("body", f"has more than {MAX_BODY_BYTES:,} bytes")
