"""The api process: GraphQL, REST, and pages."""

from contextlib import AsyncExitStack
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from app.auth.streams import close_unauthorized_streams
from app.bot.webhook import Webhook
from app.clients import Clients
from app.errors import BadInput, NotFound
from app.events.live import Live, feed
from app.processes import health
from app.processes.background import Parts, lifespan
from app.processes.middleware import BodyLimit, ConnectionLimit, RequestContext
from app.rest.openapi import create_openapi
from app.rest.problem import problem_response
from app.rest.routes import PREFIX, create_routes
from app.schema.schema import create_schema
from app.schema.transport import INIT_TIMEOUT, GraphQLEndpoint
from app.settings import Settings
from app.telegram.calls import obey_limits
from app.telegram.limiter import Limiter

STATIC = Path(__file__).parent.parent / "static"


def create_app(settings: Settings, init_timeout: timedelta = INIT_TIMEOUT) -> Starlette:
    """Make the app of the api process.

    Args:
        init_timeout: When a socket without `connection_init` is closed.
    """
    webhook = None if settings.telegram_webhook_url is None else Webhook(settings)

    async def start(clients: Clients, stack: AsyncExitStack) -> Parts:
        live = Live()
        tasks = [feed(live, clients), close_unauthorized_streams(live, clients)]
        if webhook is not None:
            await stack.enter_async_context(webhook.bot.context())
            obey_limits(webhook.bot, Limiter(clients.redis), answers=True)
            tasks.append(webhook.register())
        return Parts(tasks, state={"live": live})

    schema = create_schema(introspection=settings.graphql_introspection)
    openapi = create_openapi(schema, version("lunch-bot"))
    graphiql = STATIC / "graphiql.html" if settings.graphql_introspection else None  # it needs introspection
    graphql = GraphQLEndpoint(
        schema,
        graphiql=graphiql,
        allowed_origins=settings.cors_origins,
        sockets_per_viewer=settings.sockets_per_viewer,
        init_timeout=init_timeout,
    )

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
            Middleware(ConnectionLimit, limit=settings.connections_per_address),
            Middleware(BodyLimit),
        ],
        exception_handlers={404: not_found, 405: method_not_allowed},
        lifespan=lifespan(settings, start),
    )


async def not_found(request: Request, _error: Exception) -> Response:
    return problem_response(NotFound("path", request.url.path))


async def method_not_allowed(request: Request, error: Exception) -> Response:
    message = f"This path does not support {request.method}."
    return problem_response(MethodNotAllowed(message), getattr(error, "headers", None))


class MethodNotAllowed(BadInput):
    """This path has other methods. `Allow` lists them."""

    status = 405

    def __init__(self, message: str) -> None:
        super().__init__("method", message)
