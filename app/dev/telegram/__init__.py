"""A stand-in for Telegram: its Bot API over HTTP, a control API for the other side, and a page that shows the chats.

Point aiogram at it: `Bot(token, session=AiohttpSession(api=TelegramAPIServer.from_base("http://127.0.0.1:PORT")))`.
The state is in memory and dies with the process. Call `app.state.telegram.close()` before the server is stopped:
long polls and event streams end at once then, and the server need not wait for them.
"""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route

from app.dev.telegram.control import CONTROL_ROUTES
from app.dev.telegram.dispatch import JsonResponse, answer
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
    """Make the app. With a token, others are refused; `limits` turns on Telegram's rate limits, measured by `clock`."""
    telegram = Telegram(token=token, has_limits=limits, clock=clock)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        telegram.close()

    app = Starlette(
        routes=[
            Route("/bot{token}/{method}", answer, methods=["GET", "POST"]),
            Mount("/control", routes=CONTROL_ROUTES),
            *(Route(path, show_page) for path in _PAGE_FILES),
        ],
        exception_handlers={HTTPException: refuse, Exception: crash},
        lifespan=lifespan,
    )
    app.state.telegram = telegram
    return app


async def show_page(request: Request) -> Response:
    """The page and what belongs to it; it loads nothing from anywhere else."""
    return FileResponse(Path(__file__).parent / _PAGE_FILES[request.url.path], headers=_PAGE_HEADERS)


async def refuse(_: Request, error: Exception) -> Response:
    """Tell in the Bot API's shape that there is nothing under this path."""
    code, reason = (error.status_code, error.detail) if isinstance(error, HTTPException) else (500, str(error))
    return JsonResponse({"ok": False, "error_code": code, "description": reason}, status_code=code)


async def crash(_: Request, __: Exception) -> Response:
    """Say that the stand-in itself is broken; the server logs how."""
    body = {"ok": False, "error_code": 500, "description": "Internal Server Error: the stand-in failed, see its log"}
    return JsonResponse(body, status_code=500)
