"""The worker process: arq's cron jobs and jobs."""

from contextlib import AsyncExitStack

from starlette.applications import Starlette

from app.ai.gemini import open_gemini
from app.clients import Clients
from app.events.kafka import connect
from app.processes import health
from app.processes.background import Parts, lifespan
from app.settings import Settings
from app.telegram.calls import open_bot
from app.telegram.limiter import Limiter
from app.workers.jobs import create_worker, stop_worker


def create_app(settings: Settings) -> Starlette:
    """Make the app of the worker process."""
    token = settings.required("telegram_bot_token")

    async def start(clients: Clients, stack: AsyncExitStack) -> Parts:
        limiter = Limiter(clients.redis)
        bot = await stack.enter_async_context(open_bot(token, settings.telegram_api_url, limiter))
        gemini = await stack.enter_async_context(open_gemini(settings))
        worker = create_worker(clients, bot, gemini)
        stack.push_async_callback(stop_worker, worker)
        return Parts([worker.async_run(), connect(settings, clients.kafka)])

    return Starlette(routes=health.routes, lifespan=lifespan(settings, start))
