"""The jobs of arq: cron jobs, and work on a run."""

import asyncio
from datetime import UTC, date, datetime
from typing import Any

import orjson
from aiogram import Bot
from arq import ArqRedis, Retry, cron, func
from arq.worker import Worker

from app.ai.gemini import Gemini
from app.clients import Clients, open_redis_pool
from app.log import get_log
from app.services import runs
from app.services.runs import JOB
from app.telegram.limiter import Limiter
from app.workers.deadlines import announce_missed, announce_passed
from app.workers.housekeeping import clean_up
from app.workers.links import check_chats
from app.workers.morning_messages import send_morning_messages
from app.workers.notifications import send_reminders
from app.workers.recommendations import process_batch

log = get_log(__name__)

CRON_MAX_TRIES = 5
"""arq gives a cron job one try: a deployment in the middle would end it for the day."""

JOB_TIMEOUT_S = 60
"""A job of a killed worker comes back after this and 10 s, so jobs are short."""

HEALTH_CHECK_INTERVAL_S = 15

MAX_CRON_JOBS = 10
"""Beside the jobs that work on recommendations, which take long: deadlines do not wait for them."""

UNLIMITED_TRIES = 1_000_000
"""A job that works on a run comes again while there is something to do."""


async def housekeeping(ctx: dict[str, Any]) -> None:
    await clean_up(ctx["clients"], datetime.now(UTC))


async def deadlines(ctx: dict[str, Any]) -> None:
    await announce_passed(ctx["clients"], datetime.now(UTC))


async def missed_deadlines(ctx: dict[str, Any]) -> None:
    await announce_missed(ctx["clients"], datetime.now(UTC))


async def chats(ctx: dict[str, Any]) -> None:
    await check_chats(ctx["clients"], ctx["bot"], datetime.now(UTC))


async def reminders(ctx: dict[str, Any]) -> None:
    await send_reminders(ctx["clients"], datetime.now(UTC))


async def morning_messages(ctx: dict[str, Any]) -> None:
    sent = await send_morning_messages(ctx["clients"], ctx["bot"], ctx["limiter"], datetime.now(UTC))
    if sent:
        log.info("morning_messages.sent", users=sent)


async def recommendations(ctx: dict[str, Any]) -> None:
    await runs.reconcile(ctx["clients"], datetime.now(UTC))


async def recommend(ctx: dict[str, Any], run: str) -> None:
    """Work on a run for a while, and come again while there is more to do: other jobs get their turn in between."""
    if await process_batch(ctx["clients"], ctx["gemini"], date.fromisoformat(run)):
        raise Retry


def create_worker(clients: Clients, bot: Bot, gemini: Gemini) -> Worker:
    """Make the arq worker. Its jobs find the clients in their context."""
    return Worker(
        functions=[func(recommend, name=JOB, max_tries=UNLIMITED_TRIES)],
        cron_jobs=[
            cron(deadlines, second=0, max_tries=CRON_MAX_TRIES),
            cron(missed_deadlines, second=10, max_tries=CRON_MAX_TRIES),
            cron(chats, second=20, max_tries=CRON_MAX_TRIES),
            cron(reminders, second=40, max_tries=CRON_MAX_TRIES),
            cron(recommendations, second={0, 30}, max_tries=CRON_MAX_TRIES),
            cron(morning_messages, second=50, max_tries=CRON_MAX_TRIES),
            cron(housekeeping, hour=4, minute=0, max_tries=CRON_MAX_TRIES),
        ],
        redis_pool=ArqRedis(open_redis_pool(clients.settings), orjson.dumps, orjson.loads),  # the worker closes it
        ctx={"clients": clients, "bot": bot, "gemini": gemini, "limiter": Limiter(clients.redis)},
        timezone=UTC,  # arq computes with local times: when clocks change it would be silent for an hour
        max_jobs=MAX_CRON_JOBS + clients.settings.recommendation_concurrency,
        keep_result=0,
        job_timeout=JOB_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_INTERVAL_S,
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
        handle_signals=False,
    )


async def stop_worker(worker: Worker) -> None:
    """Cancel the jobs in progress, and close the worker. arq's own `close` fails on a job that is only being fetched."""
    for job in worker.tasks.values():
        job.cancel()
    await asyncio.gather(*worker.tasks.values(), return_exceptions=True)
    worker.tasks.clear()
    await worker.close()
