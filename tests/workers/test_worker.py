"""The worker: arq on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson
import pytest
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import in_progress_key_prefix
from arq.worker import Worker

from app.clients import Clients
from app.models import Inbox
from app.workers.housekeeping import INBOX_KEPT
from app.workers.main import create_worker
from tests.conftest import Services
from tests.servers import DEADLINE_S, POLL_S, until

HOUSEKEEPING = "cron:housekeeping"


@pytest.fixture
async def worker(clients: Clients) -> AsyncIterator[Worker]:
    """A worker at work."""
    worker = create_worker(clients)
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
    clients: Clients, queue: ArqRedis, old_note: Inbox
) -> None:
    """A deploy in the middle of a job does not end it: it is tried again, after the minute that arq waits."""
    first = create_worker(clients)
    async with clients.db() as session:
        await session.get_one(Inbox, (old_note.consumer, old_note.event_id), with_for_update=True)
        await queue.enqueue_job(HOUSEKEEPING, _job_id="cut")
        running = asyncio.create_task(first.async_run())
        await until(lambda: first.job_tasks)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await first.close()
    await queue.delete(f"{in_progress_key_prefix}cut")
    second = create_worker(clients)
    second.burst = True

    await second.async_run()
    await second.close()

    await until_forgotten(clients, old_note)


def test_house_is_kept_every_night(clients: Clients) -> None:
    """Housekeeping is due at 04:00 UTC each day."""
    [job] = create_worker(clients).cron_jobs

    job.calculate_next(datetime(2026, 3, 28, 12, tzinfo=UTC))
    first = job.next_run
    assert first is not None
    job.calculate_next(first)

    assert [f"{due:%F %R}" for due in (first, job.next_run) if due] == ["2026-03-29 04:00", "2026-03-30 04:00"]


def test_each_cron_job_may_be_tried_again(clients: Clients) -> None:
    """arq gives a cron job one try; ours have five."""
    assert {job.max_tries for job in create_worker(clients).cron_jobs} == {5}
