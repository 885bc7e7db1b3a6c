"""The worker process: arq's cron and jobs."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, TypedDict

import orjson
from aiogram import Bot
from arq import cron
from arq.connections import RedisSettings
from arq.worker import Worker
from starlette.applications import Starlette

from app import health
from app.clients import Clients, open_clients
from app.events.log import connect
from app.process import beside
from app.settings import Settings
from app.telegram.sender import make_bot
from app.workers.deadlines import announce_passed, check_chats, remind, tell_forgotten
from app.workers.housekeeping import forget_handled_events

CRON_MAX_TRIES = 5
"""arq gives a cron job one try: a deploy in the middle would end it for the day."""

JOB_TIMEOUT_S = 60
"""A job of a worker that was killed comes back after this and 10 s: so jobs are short."""

HEALTH_CHECK_INTERVAL_S = 15


class State(TypedDict):
    clients: Clients


async def housekeeping(ctx: dict[str, Any]) -> None:
    await forget_handled_events(ctx["clients"])


async def deadlines(ctx: dict[str, Any]) -> None:
    await announce_passed(ctx["clients"], datetime.now(UTC))


async def forgotten(ctx: dict[str, Any]) -> None:
    await tell_forgotten(ctx["clients"], datetime.now(UTC))


async def chats(ctx: dict[str, Any]) -> None:
    await check_chats(ctx["clients"], ctx["bot"], datetime.now(UTC))


async def reminders(ctx: dict[str, Any]) -> None:
    await remind(ctx["clients"], datetime.now(UTC))


def create_worker(clients: Clients, bot: Bot) -> Worker:
    """Make the arq worker; its jobs find the clients in their context."""
    return Worker(
        cron_jobs=[
            cron(deadlines, second=0, max_tries=CRON_MAX_TRIES),
            cron(forgotten, second=10, max_tries=CRON_MAX_TRIES),
            cron(chats, second=20, max_tries=CRON_MAX_TRIES),
            cron(reminders, second=40, max_tries=CRON_MAX_TRIES),
            cron(housekeeping, hour=4, minute=0, max_tries=CRON_MAX_TRIES),
        ],
        redis_settings=RedisSettings.from_dsn(clients.settings.redis_url.get_secret_value()),
        ctx={"clients": clients, "bot": bot},
        timezone=UTC,
        keep_result=0,
        job_timeout=JOB_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_INTERVAL_S,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        handle_signals=False,
    )


def create_app(settings: Settings) -> Starlette:
    """Make the app of the worker process: health on HTTP, jobs beside it."""
    token = settings.required("telegram_bot_token")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with open_clients(settings) as clients, make_bot(token, settings.telegram_api_url).context() as bot:
            worker = create_worker(clients, bot)
            try:
                async with beside(app, worker.async_run(), connect(settings, clients.kafka)):
                    yield {"clients": clients}
            finally:
                await worker.close()

    return Starlette(routes=health.routes, lifespan=lifespan)
