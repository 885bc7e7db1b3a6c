"""The nightly run with real processes: killed workers and an emptied Redis lose no user."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr
from sqlmodel import col, select

from app.ai.key_pool import ApiKey, quota_day
from app.models import GeminiUsage, ItemStatus, RecommendationItem
from app.services import runs
from tests.conftest import add_lunch
from tests.e2e.system import GEMINI_KEYS, System, system
from tests.servers import until
from tests.user_factory import add_ordering_users

pytestmark = pytest.mark.slow

USERS = 60
TAKEOVER_S = 120.0
"""The killed worker may have had all jobs: arq reserves them for a minute."""
CONCURRENCY = 4
"""Simultaneous requests of all workers."""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[System]:
    async with system(tmp_path) as started:
        await add_ordering_users(started.clients, await add_lunch(started.clients), USERS)
        yield started


async def request_recommendations(running: System) -> None:
    """Publish the daily task of another system to Kafka."""
    producer = AIOKafkaProducer(bootstrap_servers=running.kafka.url)
    await producer.start()
    message = {"type": "generate_recommendations", "timestamp": datetime.now(UTC).isoformat()}
    await producer.send_and_wait("lunch-bot.daily-tasks", json.dumps(message).encode())
    await producer.stop()


async def ledger_requests(running: System) -> dict[str, int]:
    """Return the number of requests in the ledger by key and project."""
    query = select(GeminiUsage).where(GeminiUsage.day == quota_day(datetime.now(UTC)))
    async with running.clients.db() as session:
        return {usage.scope: usage.requests for usage in await session.scalars(query)}


async def is_over(running: System) -> bool:
    run = await runs.find_unfinished_run(running.clients)
    async with running.clients.db() as session:
        items = list(await session.scalars(select(RecommendationItem.status)))
    return run is None and set(items) == {ItemStatus.DONE}


@pytest.mark.timeout(500)
async def test_every_user_gets_a_recommendation(running: System) -> None:
    """An event starts the run; one worker is killed, another is stopped, and Redis is emptied during the run.

    Every user has a recommendation in the end, and the ledger has counted each request before it was made.
    """
    await running.start("events", "events")
    for name in ("worker-1", "worker-2"):
        await running.start(name, "worker")
    await running.listening("events")
    await request_recommendations(running)

    await until(lambda: len(running.gemini.requests) >= 10, within_s=60)
    await running.kill("worker-1")
    await until(lambda: len(running.gemini.requests) >= 20, TAKEOVER_S)
    await running.clients.redis.flushall()
    stopping = running.processes.pop("worker-2")
    stopping.terminate()
    async with asyncio.timeout(30):
        assert await stopping.wait() == 0
    await running.start("worker-3", "worker")
    async with asyncio.timeout(300):
        while not await is_over(running):
            await asyncio.sleep(0.2)

    requests = len(running.gemini.requests)
    ledger = await ledger_requests(running)
    assert USERS <= requests <= USERS + 2 * CONCURRENCY
    for key, project in GEMINI_KEYS.items():
        api_key = ApiKey.parse(SecretStr(f"{project}:{key}"))
        assert running.gemini.usage_of_key(key).requests <= ledger.get(f"key:{api_key.id}", 0)
    async with running.clients.db() as session:
        tgids = list(await session.scalars(select(col(RecommendationItem.user_tgid))))
    assert await running.clients.redis.exists(*(f"recommendations:user:{tgid}" for tgid in tgids)) == USERS
