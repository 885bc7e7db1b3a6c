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
from app.resolvers import runs
from app.settings import Settings
from app.telegram import texts
from app.telegram.sender import make_bot
from app.workers.housekeeping import INBOX_KEPT
from app.workers.main import CRON_JOBS_AT_ONCE, create_worker, stop
from tests.conftest import Lunch, Services, add_lunch, event_types
from tests.diners import add_diner, add_diners
from tests.google import Google
from tests.servers import DEADLINE_S, POLL_S, until
from tests.telegram.conftest import read_in, served_world

HOUSEKEEPING = "cron:housekeeping"


@pytest.fixture
async def bot() -> AsyncIterator[Bot]:
    """A bot that calls nobody."""
    async with make_bot("42:TEST-token", "http://127.0.0.1:1").context() as bot:
        yield bot


@asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    """Let a worker work beside the block, and cut short what it has in hand then."""
    running = asyncio.create_task(worker.async_run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await stop(worker)


@pytest.fixture
async def worker(clients: Clients, bot: Bot, gemini: Gemini) -> AsyncIterator[Worker]:
    """A worker at work."""
    worker = create_worker(clients, bot, gemini)
    async with working(worker):
        yield worker


@pytest.fixture
async def keyed(settings_with_keys: Settings, clients: Clients) -> AsyncIterator[Clients]:
    """Clients with keys for Gemini, of which more may be asked at a time than there are other jobs."""
    many = settings_with_keys.model_copy(update={"recommendation_concurrency": CRON_JOBS_AT_ONCE + 2})
    async with open_clients(many) as opened:
        yield opened


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


async def until_it_is(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            await asyncio.sleep(POLL_S)


async def until_forgotten(clients: Clients, note: Inbox) -> None:
    async def is_forgotten() -> bool:
        async with clients.db() as session:
            return await session.get(Inbox, (note.consumer, note.event_id)) is None

    await until_it_is(is_forgotten)


async def until_announced(clients: Clients) -> None:
    async def is_announced() -> bool:
        return "deadline.passed" in await event_types(clients)

    await until_it_is(is_announced)


async def until_finished(clients: Clients, people: int) -> None:
    """Wait until a run has made recommendations for so many."""

    async def is_finished() -> bool:
        async with clients.db() as session:
            run = await session.scalar(select(RecommendationRun))
        return run is not None and (run.status, run.done) == (RunStatus.FINISHED, people)

    await until_it_is(is_finished)


@pytest.mark.usefixtures("worker")
async def test_the_worker_keeps_house(clients: Clients, queue: ArqRedis, old_note: Inbox) -> None:
    """The job that the clock queues is found, gets its clients, and does its work."""
    await queue.enqueue_job(HOUSEKEEPING)

    await until_forgotten(clients, old_note)


async def test_a_job_that_is_cut_short_is_done_by_the_next_worker(
    clients: Clients, bot: Bot, gemini: Gemini, queue: ArqRedis, old_note: Inbox
) -> None:
    """A deploy in the middle of a job does not end it: it is tried again, after the minute that arq waits."""
    first = create_worker(clients, bot, gemini)
    async with clients.db() as session:
        await session.get_one(Inbox, (old_note.consumer, old_note.event_id), with_for_update=True)
        await queue.enqueue_job(HOUSEKEEPING, _job_id="cut")
        running = asyncio.create_task(first.async_run())
        await until(lambda: first.job_tasks)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await first.close()
    await queue.delete(f"{in_progress_key_prefix}cut")
    second = create_worker(clients, bot, gemini)
    second.burst = True

    await second.async_run()
    await second.close()

    await until_forgotten(clients, old_note)


DUE = {
    "cron:deadlines": ["12:01:00", "12:02:00"],
    "cron:forgotten": ["12:00:10", "12:01:10"],
    "cron:chats": ["12:00:20", "12:01:20"],
    "cron:recommendations": ["12:00:30", "12:01:00"],
    "cron:reminders": ["12:00:40", "12:01:40"],
    "cron:morning": ["12:00:50", "12:01:50"],
    HOUSEKEEPING: ["04:00:00", "04:00:00"],
}
"""After 12:00:00, the next two times of each job."""


def due(worker: Worker, name: str, after: datetime, times: int) -> list[datetime]:
    """When a job is due next, so many times, in UTC."""
    [job] = [job for job in worker.cron_jobs if job.name == name]
    found = [after.astimezone(worker.timezone)]  # as arq does
    for _ in range(times):
        job.calculate_next(found[-1])
        assert job.next_run is not None
        found.append(job.next_run)
    return [at.astimezone(UTC).replace(microsecond=0) for at in found[1:]]


@pytest.mark.parametrize("name", DUE)
async def test_when_jobs_are_due(clients: Clients, bot: Bot, gemini: Gemini, name: str) -> None:
    """Each minute somebody looks for deadlines, for chats, for runs and for reminders; house is kept every night."""
    found = due(create_worker(clients, bot, gemini), name, datetime(2026, 3, 28, 12, tzinfo=UTC), times=2)

    assert [f"{at:%T}" for at in found] == DUE[name]


BERLIN = ZoneInfo("Europe/Berlin")
NIGHTS = {
    "in winter": (datetime(2026, 1, 15, 3, tzinfo=BERLIN), "02:00"),
    "in summer": (datetime(2026, 7, 15, 3, tzinfo=BERLIN), "01:00"),
    "when clocks go forward": (datetime(2026, 3, 29, 3, tzinfo=BERLIN), "01:00"),
    "when clocks go back": (datetime(2026, 10, 25, 3, tzinfo=BERLIN), "02:00"),
}


@pytest.mark.parametrize(("night", "in_utc"), NIGHTS.values(), ids=NIGHTS)
async def test_recommendations_are_begun_at_3_in_the_programmes_time(
    clients: Clients, bot: Bot, gemini: Gemini, night: datetime, in_utc: str
) -> None:
    """Of all times at which the worker looks, 03:00 in LUNCH_TIMEZONE is the first at which the run is begun."""
    update = {"lunch_timezone": BERLIN, "gemini_api_keys": (SecretStr("key"),)}
    in_berlin = replace(clients, settings=clients.settings.model_copy(update=update))
    worker = create_worker(in_berlin, bot, gemini)

    for at in due(worker, "cron:recommendations", night.astimezone(UTC) - timedelta(minutes=90), times=200):
        await runs.ensure(in_berlin, at)

    async with clients.db() as session:
        [run] = await session.scalars(select(RecommendationRun))
    assert (run.date, f"{run.started_at:%R}") == (night.date(), in_utc)


@pytest.mark.parametrize("night", [night for night, _ in NIGHTS.values()], ids=NIGHTS)
async def test_deadlines_are_looked_for_each_minute_of_a_night(
    clients: Clients, bot: Bot, gemini: Gemini, night: datetime
) -> None:
    """Clocks that are changed in LUNCH_TIMEZONE keep no cafe waiting elsewhere."""
    settings = clients.settings.model_copy(update={"lunch_timezone": BERLIN})
    worker = create_worker(replace(clients, settings=settings), bot, gemini)
    begin = night.astimezone(UTC) - timedelta(hours=4)

    found = due(worker, "cron:deadlines", begin, times=8 * 60)

    assert found == [begin + timedelta(minutes=minute) for minute in range(1, 8 * 60 + 1)]


async def test_there_are_no_other_jobs(clients: Clients, bot: Bot, gemini: Gemini) -> None:
    """What the clock brings about is in this list."""
    assert {job.name for job in create_worker(clients, bot, gemini).cron_jobs} == set(DUE)


@pytest.mark.usefixtures("worker")
async def test_the_worker_announces_deadlines(clients: Clients, queue: ArqRedis) -> None:
    """The job finds a deadline that has passed, and closes its day."""
    lunch = await add_lunch(clients)

    await queue.enqueue_job("cron:deadlines")
    await until_announced(clients)

    async with clients.db() as session:
        [day] = await session.scalars(select(DeliveryDay))
    assert (day.cafe_id, day.announced_at is not None) == (lunch.cafe.id, True)


async def test_each_cron_job_may_be_tried_again(clients: Clients, bot: Bot, gemini: Gemini) -> None:
    """arq gives a cron job one try; ours have five."""
    assert {job.max_tries for job in create_worker(clients, bot, gemini).cron_jobs} == {5}


async def test_the_worker_makes_recommendations(keyed: Clients, bot: Bot, gemini: Gemini, lunch: Lunch) -> None:
    """Whoever has started the run, it works on it until everybody has theirs."""
    tgids = await add_diners(keyed, lunch, 3)
    await runs.start(keyed, datetime.now(UTC))

    async with working(create_worker(keyed, bot, gemini)):
        await until_finished(keyed, len(tgids))

    assert all([await keyed.redis.exists(f"recommendations:user:{tgid}") for tgid in tgids])


async def test_a_run_whose_jobs_were_lost_goes_on(
    keyed: Clients, bot: Bot, gemini: Gemini, queue: ArqRedis, lunch: Lunch
) -> None:
    """Who looks each minute finds it, and has it worked on."""
    tgids = await add_diners(keyed, lunch, 3)
    await runs.start(keyed, datetime.now(UTC))
    await keyed.redis.flushdb()

    async with working(create_worker(keyed, bot, gemini)):
        await queue.enqueue_job("cron:recommendations")
        await until_finished(keyed, len(tgids))


async def test_deadlines_do_not_wait_for_recommendations(
    keyed: Clients, bot: Bot, gemini: Gemini, google: Google, queue: ArqRedis, lunch: Lunch
) -> None:
    """However many wait for Gemini, and however long."""
    google.fails(FaultKind.HANG, times=None)
    waiting = keyed.settings.recommendation_concurrency
    for tgid in range(1, 10 * waiting + 1):
        await add_diner(keyed, lunch, tgid)
    await runs.start(keyed, datetime.now(UTC))

    async with working(create_worker(keyed, bot, gemini)):
        await until(lambda: google.requests == waiting)
        await queue.enqueue_job("cron:deadlines")
        await until_announced(keyed)

    assert google.requests == waiting


async def test_the_worker_tells_people_in_the_morning(
    settings: Settings, clients: Clients, gemini: Gemini, queue: ArqRedis, lunch: Lunch
) -> None:
    """The job sends what was made in the night."""
    now = datetime.now(UTC)
    made = Recommendation(summary="You like soup.", tips=("Try a salad.",), stats=OrderStats(), generated_at=now)
    at_this_time = settings.model_copy(update={"morning_message_at": now.time().replace(second=0, microsecond=0)})
    async with served_world() as world, open_clients(at_this_time) as awake:
        chat = world.person()
        await add_diner(clients, lunch, chat.id)
        async with clients.db() as session:
            session.add(RecommendationRun(date=now.date(), started_at=now, status=RunStatus.FINISHED))
            await session.flush()
            item = RecommendationItem(date=now.date(), user_tgid=chat.id, position=1, status=ItemStatus.DONE)
            item.recommendation = made.model_dump(mode="json")
            session.add(item)

        async with working(create_worker(awake, world.bot, gemini)):
            await queue.enqueue_job("cron:morning")
            await until(lambda: read_in(chat))

        assert read_in(chat) == [texts.recommended(made, "en")]
