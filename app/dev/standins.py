"""Shared parts of the Telegram and Gemini stand-ins: the app, answers, and waiting."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Protocol

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.types import Receive, Scope, Send

type Json = dict[str, Any]
type ErrorHandler = Callable[[Request, Exception], Awaitable[Response]]


class StandInState(Protocol):
    """The state of a stand-in."""

    def close(self) -> None:
        """End calls that wait."""


class JsonResponse(Response):
    """A JSON body in UTF-8."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the body."""
        return orjson.dumps(content)


class DroppedConnection(Response):
    """A response that starts and never ends: the server closes the connection without a body."""

    def __init__(self, status: int, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__()
        self._start = {"type": "http.response.start", "status": status, "headers": list(headers)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send the head only."""
        await send(self._start)


def bad_gateway_response() -> Response:
    """Return a 502 with an HTML page, as a load balancer sends it."""
    page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    return HTMLResponse(page, status_code=502)


def create_stand_in(
    *,
    name: str,
    state: StandInState,
    routes: Sequence[BaseRoute],
    control_routes: Sequence[BaseRoute],
    on_http_error: ErrorHandler,
    on_crash: ErrorHandler,
) -> Starlette:
    """Create the app of a stand-in: its API and, below `/control`, its control API.

    Args:
        name: The attribute of `app.state` that holds `state`.
        state: Is closed when the app shuts down.
        routes: The API that the stand-in imitates.
        control_routes: The control API, with paths relative to `/control`.
        on_http_error: Answers requests that no route takes.
        on_crash: Answers when the stand-in itself fails.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        state.close()

    app = Starlette(
        routes=[*routes, Mount("/control", routes=list(control_routes))],
        exception_handlers={HTTPException: on_http_error, Exception: on_crash},
        lifespan=lifespan,
    )
    setattr(app.state, name, state)
    return app


async def run_until_disconnect[T](request: Request, closing: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of `work`; cancel it and return None when the client disconnects or `closing` is set first."""
    task = asyncio.ensure_future(work)
    waits = [task, asyncio.ensure_future(_wait_for_disconnect(request)), asyncio.ensure_future(closing.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for wait in waits:
            wait.cancel()


async def hang(request: Request, closing: asyncio.Event) -> None:
    """Wait until the client disconnects or `closing` is set."""
    await run_until_disconnect(request, closing, asyncio.Event().wait())


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
