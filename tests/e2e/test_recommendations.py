"""The nightly run with real processes: what is killed, emptied or stopped in the middle of it loses nobody."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from pydantic import SecretStr
from sqlmodel import col, select

from app.ai.key_pool import ApiKey, day_of
from app.models import GeminiUsage, ItemStatus, RecommendationItem
from app.resolvers import runs
from tests.conftest import add_lunch
from tests.diners import add_diners
from tests.e2e.system import GEMINI_KEYS, System, system
from tests.servers import until

PEOPLE = 60
IN_HAND = 4
"""Requests at a time, of all workers."""


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[System]:
    async with system(tmp_path) as started:
        await add_diners(started.clients, await add_lunch(started.clients), PEOPLE)
        yield started


async def ask_for_it(running: System) -> None:
    """Let another system say on Kafka that recommendations are to be made."""
    producer = AIOKafkaProducer(bootstrap_servers=running.kafka.url)
    await producer.start()
    message = {"type": "generate_recommendations", "timestamp": datetime.now(UTC).isoformat()}
    await producer.send_and_wait("lunch-bot.daily-tasks", json.dumps(message).encode())
    await producer.stop()


async def noted(running: System) -> dict[str, int]:
    """The requests that the ledger knows of, by key."""
    query = select(GeminiUsage).where(GeminiUsage.day == day_of(datetime.now(UTC)))
    async with running.clients.db() as session:
        return {usage.scope: usage.requests for usage in await session.scalars(query)}


async def is_over(running: System) -> bool:
    run = await runs.unfinished(running.clients)
    async with running.clients.db() as session:
        items = list(await session.scalars(select(RecommendationItem.status)))
    return run is None and set(items) == {ItemStatus.DONE}


@pytest.mark.timeout(300)
async def test_nobody_is_lost(running: System) -> None:
    """Started by an event; one worker is killed, another told to stop, and Redis emptied, all in the middle of it.

    Everybody has a recommendation in the end, and each request was noted before it was made.
    """
    await running.start("events", "events")
    for name in ("worker-1", "worker-2"):
        await running.start(name, "worker")
    await running.listening("events")
    await ask_for_it(running)

    await until(lambda: len(running.gemini.requests) >= 10, within_s=60)
    await running.kill("worker-1")
    await until(lambda: len(running.gemini.requests) >= 20)
    await running.clients.redis.flushall()
    stopping = running.processes.pop("worker-2")
    stopping.terminate()
    async with asyncio.timeout(30):
        assert await stopping.wait() == 0
    await running.start("worker-3", "worker")
    async with asyncio.timeout(200):
        while not await is_over(running):
            await asyncio.sleep(0.2)

    made = len(running.gemini.requests)
    ledger = await noted(running)
    assert PEOPLE <= made <= PEOPLE + 2 * IN_HAND
    for key, project in GEMINI_KEYS.items():
        api_key = ApiKey.of(SecretStr(f"{project}:{key}"))
        assert running.gemini.usage_of_key(key).requests <= ledger.get(f"key:{api_key.id}", 0)
    async with running.clients.db() as session:
        tgids = list(await session.scalars(select(col(RecommendationItem.user_tgid))))
    assert await running.clients.redis.exists(*(f"recommendations:user:{tgid}" for tgid in tgids)) == PEOPLE
