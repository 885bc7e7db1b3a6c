"""The stand-in for Google's Gemini API: `generateContent` over HTTP, its quotas, and a control API that injects faults.

It may import the shared modules of `app.dev`, `app.ai.prompts` and `app.ai.stats`, and nothing else of `app`.

Point the SDK at it: `genai.Client(api_key=KEY, http_options=HttpOptions(base_url="http://127.0.0.1:PORT"))`.
The state is in memory and is lost with the process. Call `app.state.gemini.close()` before the server stops: this ends
hanging calls, so that the server does not wait for them.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.dev.gemini.control import CONTROL_ROUTES
from app.dev.gemini.errors import ApiError, ErrorResponse, internal_error
from app.dev.gemini.generate import generate_content
from app.dev.gemini.state import Gemini
from app.dev.standins import create_stand_in


def create_gemini(
    *,
    keys: Mapping[str, str] | None = None,
    per_day: int | None = None,
    per_minute: int | None = None,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    latency_s: float = 0,
) -> Starlette:
    """Create the app.

    Args:
        keys: The project of each key. Without it every key is valid and is its own project.
        per_day: Requests that a project has for a model each day in California; None means no limit.
        per_minute: Requests that a project has for a model in any 60 seconds; None means no limit.
        clock: The current time, with a time zone.
        latency_s: Duration of an answer.
    """
    return create_stand_in(
        name="gemini",
        state=Gemini(keys=keys, per_day=per_day, per_minute=per_minute, clock=clock, latency_s=latency_s),
        routes=[Route("/{version}/models/{model}:generateContent", generate_content, methods=["POST"])],
        control_routes=CONTROL_ROUTES,
        on_http_error=report_http_error,
        on_crash=report_crash,
    )


async def report_http_error(_: Request, error: Exception) -> Response:
    """Answer a wrong path or method in Google's format."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    return ErrorResponse(ApiError(status, status.name, error.detail))


async def report_crash(_: Request, __: Exception) -> Response:
    """Report a bug of the stand-in; the server logs its traceback."""
    return ErrorResponse(internal_error("The stand-in failed, see its log."))
