"""The stand-in for Telegram: its Bot API over HTTP, a control API that acts for people, and a page that shows the chats.

It may import the shared modules of `app.dev`, and nothing else of `app`.

Point aiogram at it: `Bot(token, session=AiohttpSession(api=TelegramAPIServer.from_base("http://127.0.0.1:PORT")))`.
The state is in memory and is lost with the process. Call `app.state.telegram.close()` before the server stops: this ends
long polls and event streams, so that the server does not wait for them.
"""

import time
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from app.dev.standins import JsonResponse, create_stand_in
from app.dev.telegram.control import CONTROL_ROUTES
from app.dev.telegram.dispatch import handle_call
from app.dev.telegram.state import Telegram

_PAGE_FILES = {"/": "page.html", "/page.css": "page.css", "/page.js": "page.js"}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_telegram(
    *, token: str | None = None, limits: bool = False, clock: Callable[[], float] = time.monotonic
) -> Starlette:
    """Create the app.

    Args:
        token: The only valid token; without it every token is valid.
        limits: Whether Telegram's rate limits apply.
        clock: Seconds, for the rate limits.
    """
    return create_stand_in(
        name="telegram",
        state=Telegram(token=token, has_limits=limits, clock=clock),
        routes=[
            Route("/bot{token}/{method}", handle_call, methods=["GET", "POST"]),
            *(Route(path, show_page) for path in _PAGE_FILES),
        ],
        control_routes=CONTROL_ROUTES,
        on_http_error=report_http_error,
        on_crash=report_crash,
    )


async def show_page(request: Request) -> Response:
    """Serve a file of the page. Its policy forbids content from other hosts."""
    return FileResponse(Path(__file__).parent / _PAGE_FILES[request.url.path], headers=_PAGE_HEADERS)


async def report_http_error(_: Request, error: Exception) -> Response:
    """Answer a wrong path or method in the Bot API's format."""
    code, reason = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    return JsonResponse({"ok": False, "error_code": code, "description": reason}, status_code=code)


async def report_crash(_: Request, __: Exception) -> Response:
    """Report a bug of the stand-in; the server logs its traceback."""
    body = {"ok": False, "error_code": 500, "description": "Internal Server Error: the stand-in failed, see its log"}
    return JsonResponse(body, status_code=500)
