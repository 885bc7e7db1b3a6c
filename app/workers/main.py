"""The worker process: arq's cron and jobs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any, TypedDict

import orjson
from aiogram import Bot
from arq import Retry, cron, func
from arq.connections import RedisSettings
from arq.worker import Worker
from starlette.applications import Starlette

from app import health
from app.ai.gemini import Gemini, open_gemini
from app.clients import Clients, open_clients
from app.events.log import connect
from app.log import get_log
from app.process import beside
from app.resolvers import runs
from app.resolvers.runs import JOB
from app.settings import Settings
from app.telegram.limiter import Limiter
from app.telegram.sender import make_bot
from app.workers.deadlines import announce_passed, check_chats, remind, tell_forgotten
from app.workers.deliveries import Turns
from app.workers.housekeeping import clean_up
from app.workers.morning import tell_everybody
from app.workers.recommend import work

log = get_log(__name__)

CRON_MAX_TRIES = 5
"""arq gives a cron job one try: a deploy in the middle would end it for the day."""

JOB_TIMEOUT_S = 60
"""A job of a worker that was killed comes back after this and 10 s: so jobs are short."""

HEALTH_CHECK_INTERVAL_S = 15

CRON_JOBS_AT_ONCE = 10
"""Beside those that work on recommendations, which take long: deadlines do not wait for them."""

ANY_NUMBER = 1_000_000
"""A job that works on a run comes again for as long as there is something to do."""


class State(TypedDict):
    clients: Clients


async def housekeeping(ctx: dict[str, Any]) -> None:
    await clean_up(ctx["clients"], datetime.now(UTC))


async def deadlines(ctx: dict[str, Any]) -> None:
    await announce_passed(ctx["clients"], datetime.now(UTC))


async def forgotten(ctx: dict[str, Any]) -> None:
    await tell_forgotten(ctx["clients"], datetime.now(UTC))


async def chats(ctx: dict[str, Any]) -> None:
    await check_chats(ctx["clients"], ctx["bot"], datetime.now(UTC))


async def reminders(ctx: dict[str, Any]) -> None:
    await remind(ctx["clients"], datetime.now(UTC))


async def morning(ctx: dict[str, Any]) -> None:
    told = await tell_everybody(ctx["clients"], ctx["bot"], ctx["turns"], datetime.now(UTC))
    if told:
        log.info("morning.told", people=told)


async def recommendations(ctx: dict[str, Any]) -> None:
    await runs.ensure(ctx["clients"], datetime.now(UTC))


async def recommend(ctx: dict[str, Any], run: str) -> None:
    """Work on a run for a while, and come again as long as there is more to do: what is between is others' turn."""
    if await work(ctx["clients"], ctx["gemini"], date.fromisoformat(run)):
        raise Retry


def create_worker(clients: Clients, bot: Bot, gemini: Gemini) -> Worker:
    """Make the arq worker; its jobs find the clients in their context."""
    return Worker(
        functions=[func(recommend, name=JOB, max_tries=ANY_NUMBER)],
        cron_jobs=[
            cron(deadlines, second=0, max_tries=CRON_MAX_TRIES),
            cron(forgotten, second=10, max_tries=CRON_MAX_TRIES),
            cron(chats, second=20, max_tries=CRON_MAX_TRIES),
            cron(reminders, second=40, max_tries=CRON_MAX_TRIES),
            cron(recommendations, second={0, 30}, max_tries=CRON_MAX_TRIES),
            cron(morning, second=50, max_tries=CRON_MAX_TRIES),
            cron(housekeeping, hour=4, minute=0, max_tries=CRON_MAX_TRIES),
        ],
        redis_settings=RedisSettings.from_dsn(clients.settings.redis_url.get_secret_value()),
        ctx={"clients": clients, "bot": bot, "gemini": gemini, "turns": Turns(Limiter(clients.redis))},
        timezone=UTC,  # arq reckons in local times: where clocks are changed it would be silent for an hour
        max_jobs=CRON_JOBS_AT_ONCE + clients.settings.recommendation_concurrency,
        keep_result=0,
        job_timeout=JOB_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_INTERVAL_S,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        handle_signals=False,
    )


async def stop(worker: Worker) -> None:
    """Cut short what a worker has in hand, and close it. Its own `close` fails on a job that is only being fetched."""
    for job in worker.tasks.values():
        job.cancel()
    await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
    worker.tasks.clear()
    await worker.close()


def create_app(settings: Settings) -> Starlette:
    """Make the app of the worker process: health on HTTP, jobs beside it."""
    token = settings.required("telegram_bot_token")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with (
            open_clients(settings) as clients,
            make_bot(token, settings.telegram_api_url).context() as bot,
            open_gemini(settings) as gemini,
        ):
            worker = create_worker(clients, bot, gemini)
            try:
                async with beside(app, worker.async_run(), connect(settings, clients.kafka)):
                    yield {"clients": clients}
            finally:
                await stop(worker)

    return Starlette(routes=health.routes, lifespan=lifespan)
