"""The nightly run: one for each date, whoever starts it, and whatever dies while it goes on.

All that must not be lost is in PostgreSQL: the run, and an item for each person. Jobs only work off what is there; a tick
each minute makes sure that today's run exists, and that somebody works on it.
"""

import datetime as dt
from collections.abc import Sequence

from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.ai.key_pool import KeyState, KeyUsage, requests_left
from app.auth import allow
from app.clients import Clients
from app.context import Context
from app.errors import NotFound, ServiceUnavailable
from app.events.live import Subscription
from app.events.log import record
from app.events.messages import (
    Event,
    RecommendationRunEvent,
    RecommendationRunFinished,
    RecommendationRunPaused,
    RecommendationRunProgressed,
    RecommendationRunStarted,
)
from app.log import get_log
from app.models import (
    ItemStatus,
    PauseReason,
    RecommendationRun,
    Role,
    RunStatus,
)
from app.resolvers import run_items
from app.resolvers.gemini_keys import key_pool
from app.resolvers.inputs import checked_date
from app.resolvers.recommendations import refill, today

log = get_log(__name__)

NO_KEYS = "There are no Gemini keys; set GEMINI_API_KEYS."

NIGHTLY_AT = dt.time(3)
"""In LUNCH_TIMEZONE."""

AWAY_PAUSE = dt.timedelta(minutes=1)
AWAY_PAUSE_MAX = dt.timedelta(hours=1)
"""While Gemini is away the run waits twice as long each time: every try costs a request."""

JOB = "recommend"
"""The arq job that works on a run."""


@allow(Role.MANAGER)
async def start_recommendation_run(ctx: Context) -> RecommendationRun:
    """Make today's recommendations now. A run that is going on, or has done everybody, stays as it is.

    One that is paused goes on at once; one that is finished takes those whose recommendation failed once more.

    Raises ServiceUnavailable if there are no keys.
    """
    return await start(ctx.clients, ctx.now(), by=ctx.viewer.tgid)


@allow(Role.MANAGER)
async def recommendation_run(ctx: Context, date: dt.date) -> RecommendationRun:
    """The run of a date.

    Raises BadInput, NotFound.
    """
    return await stored(ctx.clients, checked_date("date", date))


@allow(Role.MANAGER)
async def recommendation_run_updates(ctx: Context) -> Subscription[RecommendationRunEvent]:
    """What happens to runs, from now on: each as it is after the step.

    The stream ends with SlowConsumer for one who falls too far behind.
    """

    def wanted(event: Event) -> RecommendationRunEvent | None:
        return event if isinstance(event, RecommendationRunEvent) else None

    return ctx.subscribe(wanted)


async def start(clients: Clients, now: dt.datetime, *, by: int | None = None) -> RecommendationRun:
    """Start today's run, or have it go on. Two who start it at once start one: the primary key is its date.

    Args:
        by: Telegram id of the manager who does it; None for the clock, an event, or the command line.

    Raises ServiceUnavailable if there are no keys.
    """
    pool = key_pool(clients)
    if not pool.keys:
        raise ServiceUnavailable(NO_KEYS)
    left = requests_left(await pool.usage())
    date = today(clients, now)
    async with clients.db() as session:
        opening = insert(RecommendationRun).values(
            date=date, total=0, done=0, failed=0, pauses=0, keys_suffice_for=0, started_by=by, started_at=now
        )
        is_new = await session.scalar(opening.on_conflict_do_nothing().returning(col(RecommendationRun.date)))
        run = await session.get_one(RecommendationRun, date, with_for_update=True)
        if is_new or run.status is RunStatus.FINISHED:
            await _begin(session, run, left, by, now)
        elif run.status is RunStatus.PAUSED:
            await _go_on(session, run)
    await wake(clients, run)
    return run


async def ensure(clients: Clients, now: dt.datetime) -> RecommendationRun | None:
    """Make sure that today's run exists once it is 3 o'clock, and that whatever is unfinished goes on.

    A night whose 3 o'clock nobody has seen, a process that died, a queue that was lost: all of them end here.
    """
    if now.astimezone(clients.settings.lunch_timezone).time() >= NIGHTLY_AT and clients.settings.gemini_api_keys:
        async with clients.db() as session:
            is_there = await session.get(RecommendationRun, today(clients, now))
        if is_there is None:
            await start(clients, now)
    keys = await key_pool(clients).usage()  # for the gauges too, whether there is a run or not
    run = await unfinished(clients)
    if run is not None:
        run = await _go_on_with(clients, run, keys, now)
    await refill(clients, now)
    return run


async def _go_on_with(
    clients: Clients, run: RecommendationRun, keys: Sequence[KeyUsage], now: dt.datetime
) -> RecommendationRun:
    is_over = run.status is RunStatus.PAUSED and _is_pause_over(run, keys, now)
    async with clients.db() as session:
        run = await session.get_one(RecommendationRun, run.date, with_for_update=True)
        if run.status is RunStatus.PAUSED and is_over:
            await _go_on(session, run)
        await _take_stock(session, run, now)
    await wake(clients, run)
    return run


async def unfinished(clients: Clients) -> RecommendationRun | None:
    """Return the run that is to be worked on, or waits."""
    query = select(RecommendationRun).where(RecommendationRun.status != RunStatus.FINISHED)
    async with clients.db() as session:
        return await session.scalar(query.order_by(col(RecommendationRun.date).desc()).limit(1))


async def stored(clients: Clients, date: dt.date) -> RecommendationRun:
    """Return the run of a date.

    Raises NotFound.
    """
    async with clients.db() as session:
        run = await session.get(RecommendationRun, date)
    if run is None:
        raise NotFound("recommendation_run", date)
    return run


async def wake(clients: Clients, run: RecommendationRun) -> None:
    """Have the workers work on a run: as many jobs as there may be requests at a time, however often they are asked for.

    With Redis away it is left to the next tick.
    """
    if run.status is not RunStatus.RUNNING:
        return
    try:
        for lane in range(min(clients.settings.recommendation_concurrency, run.left)):
            await clients.jobs.enqueue_job(JOB, str(run.date), _job_id=f"{JOB}:{run.date}:{lane}")
    except (RedisError, OSError) as error:
        log.warning("recommendations.nobody_woken", error=repr(error))


async def pause(
    session: AsyncSession, date: dt.date, reason: PauseReason, now: dt.datetime, until: dt.datetime | None = None
) -> None:
    """Have a run wait; it goes on by itself. Of several who say so, the first is heard.

    Args:
        until: When it goes on; None for until somebody has looked, or, with Gemini away, for a while.
    """
    run = await session.get_one(RecommendationRun, date, with_for_update=True)
    if run.status is not RunStatus.RUNNING:
        return
    await _count(session, run)
    if reason is PauseReason.GEMINI_AWAY:
        until = now + min(AWAY_PAUSE * 2 ** min(run.pauses, 10), AWAY_PAUSE_MAX)
    run.pause(reason, until)
    log.warning("recommendations.paused", date=str(date), reason=reason.value, until=str(until), left=run.left)
    await record(session, RecommendationRunPaused.of(run))


async def take_stock(session: AsyncSession, date: dt.date, now: dt.datetime) -> RecommendationRun:
    """Note how far a run has come, tell everybody, and finish it if nothing is left."""
    run = await session.get_one(RecommendationRun, date, with_for_update=True)
    await _take_stock(session, run, now)
    return run


async def _take_stock(session: AsyncSession, run: RecommendationRun, now: dt.datetime) -> None:
    before = run.done, run.failed
    await _count(session, run)
    if run.status is not RunStatus.FINISHED and run.left == 0:
        run.finish(now)
        tell = log.warning if run.failed else log.info
        tell("recommendations.finished", date=str(run.date), done=run.done, failed=run.failed)
        await record(session, RecommendationRunFinished.of(run))
    elif (run.done, run.failed) != before:
        await record(session, RecommendationRunProgressed.of(run))


async def _begin(session: AsyncSession, run: RecommendationRun, left: int, by: int | None, now: dt.datetime) -> None:
    """Fill a new run; or have a finished one do those who have joined since, and those who failed."""
    await run_items.fill(session, run.date)
    await _count(session, run)
    if run.left == 0 and run.finished_at is not None:
        return
    run.start(left, by, now)
    await _finish_earlier(session, run.date, now)
    log.info(
        "recommendations.started",
        date=str(run.date),
        people=run.left,
        requests_left=left,
        suffices=left >= run.left,
        by=by,
    )
    await record(session, RecommendationRunStarted.of(run))
    await _take_stock(session, run, now)


async def _finish_earlier(session: AsyncSession, date: dt.date, now: dt.datetime) -> None:
    """Finish what earlier nights have left: its people go first in the new run."""
    query = select(RecommendationRun).where(
        RecommendationRun.status != RunStatus.FINISHED, col(RecommendationRun.date) < date
    )
    for run in await session.scalars(query.with_for_update()):
        run.finish(now)
        log.warning("recommendations.unfinished", date=str(run.date), left=run.left)
        await record(session, RecommendationRunFinished.of(run))


async def _go_on(session: AsyncSession, run: RecommendationRun) -> None:
    run.go_on()
    log.info("recommendations.resumed", date=str(run.date), left=run.left)
    await record(session, RecommendationRunProgressed.of(run))


def _is_pause_over(run: RecommendationRun, keys: Sequence[KeyUsage], now: dt.datetime) -> bool:
    """Keys may have come back, or been added, earlier than was thought."""
    if run.paused_until is not None and run.paused_until <= now:
        return True
    if run.pause_reason is PauseReason.GEMINI_AWAY:
        return False
    return any(key.state is KeyState.READY for key in keys)


async def _count(session: AsyncSession, run: RecommendationRun) -> None:
    """Take over from its people how far the run has come."""
    counts = await run_items.counts(session, run.date)
    run.total = sum(counts.values())
    run.count(counts.get(ItemStatus.DONE, 0), counts.get(ItemStatus.FAILED, 0))
