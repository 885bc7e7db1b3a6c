"""A stand-in for Google's Gemini API: `generateContent` over HTTP, its quotas, and a control API to make it fail.

Point the SDK at it: `genai.Client(api_key=KEY, http_options=HttpOptions(base_url="http://127.0.0.1:PORT"))`.
The state is in memory and dies with the process. Call `app.state.gemini.close()` before the server is stopped:
hanging calls end at once then, and the server need not wait for them.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from app.dev.gemini.control import CONTROL_ROUTES
from app.dev.gemini.errors import ApiError, ErrorResponse, internal
from app.dev.gemini.generate import generate_content
from app.dev.gemini.state import Gemini


def create_gemini(
    *,
    keys: Mapping[str, str] | None = None,
    per_day: int | None = None,
    per_minute: int | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    latency_s: float = 0,
) -> Starlette:
    """Make the app.

    Args:
        keys: The project of each key. Without it any key is good, and a project by itself.
        per_day: How many requests a project has for a model each day of California; None is no limit.
        per_minute: The same for any 60 seconds.
        clock: The time, with a time zone.
        latency_s: How long an answer takes.
    """
    gemini = Gemini(keys=keys, per_day=per_day, per_minute=per_minute, clock=clock, latency_s=latency_s)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        gemini.close()

    app = Starlette(
        routes=[
            Route("/{version}/models/{model}:generateContent", generate_content, methods=["POST"]),
            Mount("/control", routes=CONTROL_ROUTES),
        ],
        exception_handlers={HTTPException: refuse, Exception: crash},
        lifespan=lifespan,
    )
    app.state.gemini = gemini
    return app


async def refuse(_: Request, error: Exception) -> Response:
    """Tell in Google's shape that there is nothing under this path."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return ErrorResponse(ApiError(status, status.name, error.detail))


async def crash(_: Request, __: Exception) -> Response:
    """Say that the stand-in itself is broken; the server logs how."""
    return ErrorResponse(internal("The stand-in failed, see its log."))
