"""The worker: arq on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson
import pytest
from aiogram import Bot
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import in_progress_key_prefix
from arq.worker import Worker
from sqlmodel import select

from app.clients import Clients
from app.models import DeliveryDay, Inbox
from app.telegram.sender import make_bot
from app.workers.housekeeping import INBOX_KEPT
from app.workers.main import create_worker
from tests.conftest import Services, add_lunch, event_types
from tests.servers import DEADLINE_S, POLL_S, until

HOUSEKEEPING = "cron:housekeeping"


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """A bot that calls nobody."""
    async with make_bot("42:TEST-token", "http://127.0.0.1:1").context() as bot:
        yield bot


@pytest.fixture
async def worker(clients: Clients, bot: Bot) -> AsyncIterator[Worker]:
    """A worker at work."""
    worker = create_worker(clients, bot)
    running = asyncio.create_task(worker.async_run())
    yield worker
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.close()


@pytest.fixture
async def queue(services: Services) -> AsyncIterator[ArqRedis]:
    """The queue that workers take their jobs from."""
    pool = await create_pool(
        RedisSettings.from_dsn(services.redis_url),
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    )
    yield pool
    await pool.aclose()


@pytest.fixture
async def old_note(clients: Clients) -> Inbox:
    """What housekeeping would delete."""
    note = Inbox(consumer="test", event_id="old", received_at=datetime.now(UTC) - 2 * INBOX_KEPT)
    async with clients.db() as session:
        session.add(note)
    return note


async def until_forgotten(clients: Clients, note: Inbox) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            async with clients.db() as session:
                if await session.get(Inbox, (note.consumer, note.event_id)) is None:
                    return
            await asyncio.sleep(POLL_S)


@pytest.mark.usefixtures("worker")
async def test_the_worker_keeps_house(clients: Clients, queue: ArqRedis, old_note: Inbox) -> None:
    """The job that the clock queues is found, gets its clients, and does its work."""
    await queue.enqueue_job(HOUSEKEEPING)

    await until_forgotten(clients, old_note)


async def test_a_job_that_is_cut_short_is_done_by_the_next_worker(
    clients: Clients, bot: Bot, queue: ArqRedis, old_note: Inbox
) -> None:
    """A deploy in the middle of a job does not end it: it is tried again, after the minute that arq waits."""
    first = create_worker(clients, bot)
    async with clients.db() as session:
        await session.get_one(Inbox, (old_note.consumer, old_note.event_id), with_for_update=True)
        await queue.enqueue_job(HOUSEKEEPING, _job_id="cut")
        running = asyncio.create_task(first.async_run())
        await until(lambda: first.job_tasks)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await first.close()
    await queue.delete(f"{in_progress_key_prefix}cut")
    second = create_worker(clients, bot)
    second.burst = True

    await second.async_run()
    await second.close()

    await until_forgotten(clients, old_note)


DUE = {
    "cron:deadlines": ["12:01:00", "12:02:00"],
    "cron:forgotten": ["12:00:10", "12:01:10"],
    "cron:chats": ["12:00:20", "12:01:20"],
    "cron:reminders": ["12:00:40", "12:01:40"],
    HOUSEKEEPING: ["04:00:00", "04:00:00"],
}
"""After 12:00:00, the next two times of each job."""


@pytest.mark.parametrize("name", DUE)
async def test_when_jobs_are_due(clients: Clients, bot: Bot, name: str) -> None:
    """Each minute somebody looks for deadlines, for chats and for reminders; house is kept every night."""
    [job] = [job for job in create_worker(clients, bot).cron_jobs if job.name == name]

    job.calculate_next(datetime(2026, 3, 28, 12, tzinfo=UTC))
    first = job.next_run
    assert first is not None
    job.calculate_next(first)

    assert [f"{due:%T}" for due in (first, job.next_run) if due] == DUE[name]


async def test_there_are_no_other_jobs(clients: Clients, bot: Bot) -> None:
    """What the clock brings about is in this list."""
    assert {job.name for job in create_worker(clients, bot).cron_jobs} == set(DUE)


@pytest.mark.usefixtures("worker")
async def test_the_worker_announces_deadlines(clients: Clients, queue: ArqRedis) -> None:
    """The job finds a deadline that has passed, and closes its day."""
    lunch = await add_lunch(clients)

    await queue.enqueue_job("cron:deadlines")

    async with asyncio.timeout(DEADLINE_S):
        while "deadline.passed" not in await event_types(clients):
            await asyncio.sleep(POLL_S)
    async with clients.db() as session:
        [day] = await session.scalars(select(DeliveryDay))
    assert (day.cafe_id, day.announced_at is not None) == (lunch.cafe.id, True)


async def test_each_cron_job_may_be_tried_again(clients: Clients, bot: Bot) -> None:
    """arq gives a cron job one try; ours have five."""
    assert {job.max_tries for job in create_worker(clients, bot).cron_jobs} == {5}
