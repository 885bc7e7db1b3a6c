"""Runs the stand-ins for Telegram and Gemini in the process of `lunch-bot dev`."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from app.dev.gemini import create_gemini
from app.dev.people import MANAGERS_CHAT_ID, add_managers
from app.dev.ports import choose_port
from app.dev.telegram import create_telegram

TELEGRAM_PORT = 8081
"""The default port of Telegram's own Bot API server."""

GEMINI_PORT = 8082
GEMINI_KEYS = {"demo-key-1": "lunch", "demo-key-2": "cafe", "demo-key-3": "cafe"}
"""The project of each key."""

GEMINI_REQUESTS_PER_DAY = 200
"""About the quota that Google gives to a project."""

GEMINI_LATENCY_S = 0.1


@dataclass(frozen=True)
class StandIns:
    """The addresses of the running stand-ins, None for the others, and the settings for them."""

    telegram_url: str | None
    gemini_url: str | None
    env: dict[str, str]


@asynccontextmanager
async def run_stand_ins(configured: Mapping[str, str]) -> AsyncIterator[StandIns]:
    """Run the stand-ins for the services that have no settings."""
    telegram_url = gemini_url = None
    env: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        if "TELEGRAM_BOT_TOKEN" not in configured:
            token = f"1:{secrets.token_urlsafe(24)}"
            app = create_telegram(token=token)
            add_managers(app.state.telegram)
            telegram_url = await stack.enter_async_context(_serve(app, TELEGRAM_PORT, app.state.telegram.close))
            env |= {
                "TELEGRAM_BOT_TOKEN": token,
                "TELEGRAM_API_URL": telegram_url,
                "TELEGRAM_MANAGER_CHAT_ID": str(MANAGERS_CHAT_ID),
            }
        if "GEMINI_API_KEYS" not in configured:
            app = create_gemini(keys=GEMINI_KEYS, per_day=GEMINI_REQUESTS_PER_DAY, latency_s=GEMINI_LATENCY_S)
            gemini_url = await stack.enter_async_context(_serve(app, GEMINI_PORT, app.state.gemini.close))
            keys = ",".join(f"{project}:{key}" for key, project in GEMINI_KEYS.items())
            env |= {"GEMINI_API_KEYS": keys, "GEMINI_API_URL": gemini_url}
        yield StandIns(telegram_url, gemini_url, env)


@asynccontextmanager
async def _serve(app: Starlette, port: int, close: Callable[[], None]) -> AsyncIterator[str]:
    """Serve a stand-in, and yield its address.

    At the end, `close` ends open polls, which would delay the server's stop.
    """
    server = uvicorn.Server(
        uvicorn.Config(app, port=choose_port(port), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]  # this program handles signals
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        close()
        server.should_exit = True
        await serving
