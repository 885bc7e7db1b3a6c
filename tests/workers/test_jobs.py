"""The worker: arq on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pytest
from aiogram import Bot
from arq.connections import ArqRedis, RedisSettings, create_pool
from arq.constants import in_progress_key_prefix
from arq.worker import Worker
from pydantic import SecretStr
from sqlmodel import select

from app.ai.gemini import Gemini
from app.ai.recommendation import Recommendation
from app.ai.stats import OrderStats
from app.clients import Clients, open_clients
from app.dev.gemini.faults import FaultKind
from app.models import DeliveryDay, Inbox, ItemStatus, RecommendationItem, RecommendationRun, RunStatus
from app.services import runs
from app.settings import Settings
from app.telegram import texts
from app.telegram.sender import make_bot
from app.workers.housekeeping import INBOX_RETENTION
from app.workers.jobs import MAX_CRON_JOBS, create_worker, stop_worker
from tests.conftest import Lunch, Services, add_lunch, event_types
from tests.gemini_standin import GeminiStandIn
from tests.servers import DEADLINE_S, POLL_S, until
from tests.telegram_standin import read_in, served_world
from tests.user_factory import add_ordering_user, add_ordering_users

HOUSEKEEPING = "cron:housekeeping"


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """A bot without a Telegram."""
    async with make_bot("42:TEST-token", "http://127.0.0.1:1").context() as bot:
        yield bot


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """Run a worker during the block, and cancel its jobs at the end."""
    running = asyncio.create_task(worker.async_run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await stop_worker(worker)


@pytest.fixture
async def worker(clients: Clients, bot: Bot, gemini: Gemini) -> AsyncIterator[Worker]:
    """A running worker."""
    worker = create_worker(clients, bot, gemini)
    async with working(worker):
        yield worker


@pytest.fixture
async def keyed(settings_with_keys: Settings, clients: Clients) -> AsyncIterator[Clients]:
    """Clients with keys for Gemini, whose requests at a time are more than the cron jobs."""
    many = settings_with_keys.model_copy(update={"recommendation_concurrency": MAX_CRON_JOBS + 2})
    async with open_clients(many) as opened:
        yield opened


@pytest.fixture
async def queue(services: Services) -> AsyncIterator[ArqRedis]:
    """The queue of the workers' jobs."""
    pool = await create_pool(
        RedisSettings.from_dsn(services.redis_url),
        job_serializer=orjson.dumps,
        job_deserializer=orjson.loads,
    )
    yield pool
    await pool.aclose()


@pytest.fixture
async def old_inbox_row(clients: Clients) -> Inbox:
    """An inbox row that is older than its retention."""
    row = Inbox(consumer="test", event_id="old", received_at=datetime.now(UTC) - 2 * INBOX_RETENTION)
    async with clients.db() as session:
        session.add(row)
    return row


async def until_it_is(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a condition is true."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(POLL_S)


async def until_deleted(clients: Clients, row: Inbox) -> None:
    """Wait until an inbox row is deleted."""

    async def is_forgotten() -> bool:
        async with clients.db() as session:
            return await session.get(Inbox, (row.consumer, row.event_id)) is None

    await until_it_is(is_forgotten)


async def until_announced(clients: Clients) -> None:
    """Wait for the event of a deadline."""

    async def is_announced() -> bool:
        return "deadline.passed" in await event_types(clients)

    await until_it_is(is_announced)


async def until_finished(clients: Clients, users: int) -> None:
    """Wait until the run is finished with this number of recommendations."""

    async def is_finished() -> bool:
        async with clients.db() as session:
            run = await session.scalar(select(RecommendationRun))
        return run is not None and (run.status, run.done) == (RunStatus.FINISHED, users)

    await until_it_is(is_finished)


@pytest.mark.usefixtures("worker")
async def test_the_worker_does_housekeeping(clients: Clients, queue: ArqRedis, old_inbox_row: Inbox) -> None:
    """A cron job gets the clients and does its work."""
    await queue.enqueue_job(HOUSEKEEPING)

    await until_deleted(clients, old_inbox_row)


async def test_a_cancelled_job_is_repeated_by_the_next_worker(
    clients: Clients, bot: Bot, gemini: Gemini, queue: ArqRedis, old_inbox_row: Inbox
) -> None:
    """A job that a deployment cancels is repeated by the next worker."""
    first = create_worker(clients, bot, gemini)
    async with clients.db() as session:
        await session.get_one(Inbox, (old_inbox_row.consumer, old_inbox_row.event_id), with_for_update=True)
        await queue.enqueue_job(HOUSEKEEPING, _job_id="cancelled")
        running = asyncio.create_task(first.async_run())
        await until(lambda: first.job_tasks)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await first.close()
    await queue.delete(f"{in_progress_key_prefix}cancelled")
    second = create_worker(clients, bot, gemini)
    second.burst = True

    await second.async_run()
    await second.close()

    await until_deleted(clients, old_inbox_row)


DUE_TIMES = {
    "cron:deadlines": ["12:01:00", "12:02:00"],
    "cron:missed_deadlines": ["12:00:10", "12:01:10"],
    "cron:chats": ["12:00:20", "12:01:20"],
    "cron:recommendations": ["12:00:30", "12:01:00"],
    "cron:reminders": ["12:00:40", "12:01:40"],
    "cron:morning_messages": ["12:00:50", "12:01:50"],
    HOUSEKEEPING: ["04:00:00", "04:00:00"],
}
"""The next two times of each job after 12:00:00."""


def due_times(worker: Worker, name: str, after: datetime, times: int) -> list[datetime]:
    """Return the next times of a job, in UTC."""
    [job] = [job for job in worker.cron_jobs if job.name == name]
    found = [after.astimezone(worker.timezone)]  # as arq does
    for _ in range(times):
        job.calculate_next(found[-1])
        assert job.next_run is not None
        found.append(job.next_run)
    return [at.astimezone(UTC).replace(microsecond=0) for at in found[1:]]


@pytest.mark.parametrize("name", DUE_TIMES)
async def test_jobs_are_due_at_their_times(clients: Clients, bot: Bot, gemini: Gemini, name: str) -> None:
    """Each cron job is due at its times: most of them each minute, housekeeping each night."""
    found = due_times(create_worker(clients, bot, gemini), name, datetime(2026, 3, 28, 12, tzinfo=UTC), times=2)

    assert [f"{at:%T}" for at in found] == DUE_TIMES[name]


BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = {
    "in winter": (datetime(2026, 1, 15, 3, tzinfo=BERLIN), "02:00"),
    "in summer": (datetime(2026, 7, 15, 3, tzinfo=BERLIN), "01:00"),
    "when clocks go forward": (datetime(2026, 3, 29, 3, tzinfo=BERLIN), "01:00"),
    "when clocks go back": (datetime(2026, 10, 25, 3, tzinfo=BERLIN), "02:00"),
}


@pytest.mark.parametrize(("night", "in_utc"), NIGHTS.values(), ids=NIGHTS)
async def test_recommendations_start_at_3_in_the_programmes_time_zone(
    clients: Clients, bot: Bot, gemini: Gemini, night: datetime, in_utc: str
) -> None:
    """The first due time at which the run starts is 03:00 in LUNCH_TIMEZONE."""
    update = {"lunch_timezone": BERLIN, "gemini_api_keys": (SecretStr("key"),)}
    in_berlin = replace(clients, settings=clients.settings.model_copy(update=update))
    worker = create_worker(in_berlin, bot, gemini)

    for at in due_times(worker, "cron:recommendations", night.astimezone(UTC) - timedelta(minutes=90), times=200):
        await runs.reconcile(in_berlin, at)

    async with clients.db() as session:
        [run] = await session.scalars(select(RecommendationRun))
    assert (run.date, f"{run.started_at:%R}") == (night.date(), in_utc)


@pytest.mark.parametrize("night", [night for night, _ in NIGHTS.values()], ids=NIGHTS)
async def test_deadlines_are_due_each_minute_when_clocks_change(
    clients: Clients, bot: Bot, gemini: Gemini, night: datetime
) -> None:
    """Deadlines are due each minute, also when the clocks change in LUNCH_TIMEZONE."""
    settings = clients.settings.model_copy(update={"lunch_timezone": BERLIN})
    worker = create_worker(replace(clients, settings=settings), bot, gemini)
    begin = night.astimezone(UTC) - timedelta(hours=4)

    found = due_times(worker, "cron:deadlines", begin, times=8 * 60)

    assert found == [begin + timedelta(minutes=minute) for minute in range(1, 8 * 60 + 1)]


async def test_there_are_no_other_jobs(clients: Clients, bot: Bot, gemini: Gemini) -> None:
    """The list of due times has all cron jobs."""
    assert {job.name for job in create_worker(clients, bot, gemini).cron_jobs} == set(DUE_TIMES)


@pytest.mark.usefixtures("worker")
async def test_the_worker_announces_deadlines(clients: Clients, queue: ArqRedis) -> None:
    """The job of deadlines closes days whose deadline has passed: today, and soon after midnight also yesterday."""
    lunch = await add_lunch(clients)

    await queue.enqueue_job("cron:deadlines")
    await until_announced(clients)

    async with clients.db() as session:
        days = await session.scalars(select(DeliveryDay))
    assert {(day.cafe_id, day.announced_at is not None) for day in days} == {(lunch.cafe.id, True)}


async def test_each_cron_job_has_five_tries(clients: Clients, bot: Bot, gemini: Gemini) -> None:
    """Each cron job has five tries."""
    assert {job.max_tries for job in create_worker(clients, bot, gemini).cron_jobs} == {5}


async def test_the_worker_makes_recommendations(keyed: Clients, bot: Bot, gemini: Gemini, lunch: Lunch) -> None:
    """The worker works on a run until it is finished."""
    tgids = await add_ordering_users(keyed, lunch, 3)
    await runs.start_run(keyed, datetime.now(UTC))

    async with working(create_worker(keyed, bot, gemini)):
        await until_finished(keyed, len(tgids))

    assert all([await keyed.redis.exists(f"recommendations:user:{tgid}") for tgid in tgids])


async def test_a_run_whose_jobs_were_lost_continues(
    keyed: Clients, bot: Bot, gemini: Gemini, queue: ArqRedis, lunch: Lunch
) -> None:
    """A run continues after Redis has lost its jobs, because a cron job enqueues them again."""
    tgids = await add_ordering_users(keyed, lunch, 3)
    await runs.start_run(keyed, datetime.now(UTC))
    await keyed.redis.flushdb()

    async with working(create_worker(keyed, bot, gemini)):
        await queue.enqueue_job("cron:recommendations")
        await until_finished(keyed, len(tgids))


async def test_deadlines_do_not_wait_for_recommendations(
    keyed: Clients, bot: Bot, gemini: Gemini, gemini_standin: GeminiStandIn, queue: ArqRedis, lunch: Lunch
) -> None:
    """A deadline is announced while as many recommendations as possible wait for Gemini."""
    gemini_standin.fails(FaultKind.HANG, times=None)
    waiting = keyed.settings.recommendation_concurrency
    for tgid in range(1, 10 * waiting + 1):
        await add_ordering_user(keyed, lunch, tgid)
    await runs.start_run(keyed, datetime.now(UTC))

    async with working(create_worker(keyed, bot, gemini)):
        await until(lambda: gemini_standin.requests == waiting)
        await queue.enqueue_job("cron:deadlines")
        await until_announced(keyed)

    assert gemini_standin.requests == waiting


async def test_the_worker_sends_morning_messages(
    settings: Settings, clients: Clients, gemini: Gemini, queue: ArqRedis, lunch: Lunch
) -> None:
    """The job of morning messages sends the recommendations of the night."""
    now = datetime.now(UTC)
    made = Recommendation(summary="You like soup.", tips=("Try a salad.",), stats=OrderStats(), generated_at=now)
    at_this_time = settings.model_copy(update={"morning_message_at": now.time().replace(second=0, microsecond=0)})
    async with served_world() as world, open_clients(at_this_time) as with_morning_messages:
        chat = world.person()
        await add_ordering_user(clients, lunch, chat.id)
        async with clients.db() as session:
            session.add(RecommendationRun(date=now.date(), started_at=now, status=RunStatus.FINISHED))
            await session.flush()
            item = RecommendationItem(date=now.date(), user_tgid=chat.id, position=1, status=ItemStatus.DONE)
            item.recommendation = made.model_dump(mode="json")
            session.add(item)

        async with working(create_worker(with_morning_messages, world.bot, gemini)):
            await queue.enqueue_job("cron:morning_messages")
            await until(lambda: read_in(chat))

        assert read_in(chat) == [texts.recommended(made, "en")]
