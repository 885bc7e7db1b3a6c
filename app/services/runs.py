"""The nightly run: one for each date, regardless of who starts it and what fails during it.

All state is in PostgreSQL: the run, and an item for each user. Jobs only process these items. A tick twice a minute
makes sure that today's run exists and that jobs work on it.
"""

import datetime as dt
from collections.abc import Sequence

from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.ai.key_pool import KeyState, KeyUsage, requests_left
from app.clients import Clients
from app.errors import ServiceUnavailable
from app.events.outbox import record
from app.events.types import (
    RecommendationRunFinished,
    RecommendationRunPaused,
    RecommendationRunProgressed,
    RecommendationRunStarted,
)
from app.log import get_log
from app.models import ItemStatus, PauseReason, RecommendationRun, RunStatus
from app.services import run_items
from app.services.gemini_keys import key_pool
from app.services.recommendations import restore_recommendations, today

log = get_log(__name__)

NO_KEYS = "There are no Gemini keys. Set GEMINI_API_KEYS."

NIGHTLY_AT = dt.time(3)
"""In LUNCH_TIMEZONE."""

OUTAGE_PAUSE = dt.timedelta(minutes=1)
OUTAGE_PAUSE_MAX = dt.timedelta(hours=1)
"""While Gemini is unavailable each pause is twice as long as the one before: every retry costs a request."""

JOB = "recommend"
"""The arq job that works on a run."""


async def start_run(clients: Clients, now: dt.datetime, *, by: int | None = None) -> RecommendationRun:
    """Start or resume today's run. Two simultaneous calls start one run: the primary key is its date.

    Args:
        by: Telegram id of the manager; None for the clock, an event, or the command line.

    Raises ServiceUnavailable if there are no keys.
    """
    pool = key_pool(clients)
    if not pool.keys:
        raise ServiceUnavailable(NO_KEYS)
    left = requests_left(await pool.usage())
    date = today(clients, now)
    async with clients.db() as session:
        new = insert(RecommendationRun).values(
            date=date, total=0, done=0, failed=0, consecutive_pauses=0, request_budget=0, started_by=by, started_at=now
        )
        is_new = await session.scalar(new.on_conflict_do_nothing().returning(col(RecommendationRun.date)))
        run = await session.get_one(RecommendationRun, date, with_for_update=True)
        if is_new or run.status is RunStatus.FINISHED:
            await _start(session, run, left, by, now)
        elif run.status is RunStatus.PAUSED:
            await _resume(session, run)
    await enqueue_workers(clients, run)
    return run


async def reconcile(clients: Clients, now: dt.datetime) -> RecommendationRun | None:
    """Make sure that today's run exists after 3 o'clock, and that an unfinished run continues.

    This also recovers from a missed 3 o'clock, a worker that died, and a queue that was lost.
    """
    if now.astimezone(clients.settings.lunch_timezone).time() >= NIGHTLY_AT and clients.settings.gemini_api_keys:
        async with clients.db() as session:
            run = await session.get(RecommendationRun, today(clients, now))
        if run is None:
            await start_run(clients, now)
    keys = await key_pool(clients).usage()  # updates the gauges, even without a run
    run = await find_unfinished_run(clients)
    if run is not None:
        run = await _continue(clients, run, keys, now)
    await restore_recommendations(clients, now)
    return run


async def _continue(
    clients: Clients, run: RecommendationRun, keys: Sequence[KeyUsage], now: dt.datetime
) -> RecommendationRun:
    is_pause_over = run.status is RunStatus.PAUSED and _is_pause_over(run, keys, now)
    async with clients.db() as session:
        run = await session.get_one(RecommendationRun, run.date, with_for_update=True)
        if run.status is RunStatus.PAUSED and is_pause_over:
            await _resume(session, run)
        await _update_progress(session, run, now)
    await enqueue_workers(clients, run)
    return run


async def find_unfinished_run(clients: Clients) -> RecommendationRun | None:
    """Return the run that is running or paused."""
    query = select(RecommendationRun).where(RecommendationRun.status != RunStatus.FINISHED)
    async with clients.db() as session:
        return await session.scalar(query.order_by(col(RecommendationRun.date).desc()).limit(1))


async def enqueue_workers(clients: Clients, run: RecommendationRun) -> None:
    """Enqueue jobs for a running run: one for each request that may be made at a time. Repeated calls add none.

    While Redis is unavailable, the next tick does it.
    """
    if run.status is not RunStatus.RUNNING:
        return
    try:
        for lane in range(min(clients.settings.recommendation_concurrency, run.left)):
            await clients.jobs.enqueue_job(JOB, str(run.date), _job_id=f"{JOB}:{run.date}:{lane}")
    except (RedisError, OSError) as error:
        log.warning("recommendations.not_enqueued", error=repr(error))


async def pause_run(
    session: AsyncSession, date: dt.date, reason: PauseReason, now: dt.datetime, until: dt.datetime | None = None
) -> None:
    """Pause a run; it resumes by itself. Of several calls the first one counts.

    Args:
        until: When it resumes; None until an operator acts, or for a while if Gemini is unavailable.
    """
    run = await session.get_one(RecommendationRun, date, with_for_update=True)
    if run.status is not RunStatus.RUNNING:
        return
    await _count_items(session, run)
    if reason is PauseReason.GEMINI_UNAVAILABLE:
        until = now + min(OUTAGE_PAUSE * 2 ** min(run.consecutive_pauses, 10), OUTAGE_PAUSE_MAX)
    run.pause(reason, until)
    log.warning("recommendations.paused", date=str(date), reason=reason.value, until=str(until), left=run.left)
    await record(session, RecommendationRunPaused.of(run))


async def update_progress(session: AsyncSession, date: dt.date, now: dt.datetime) -> RecommendationRun:
    """Count the items of a run, publish progress, and finish the run if none is left."""
    run = await session.get_one(RecommendationRun, date, with_for_update=True)
    await _update_progress(session, run, now)
    return run


async def _update_progress(session: AsyncSession, run: RecommendationRun, now: dt.datetime) -> None:
    before = run.done, run.failed
    await _count_items(session, run)
    if run.status is not RunStatus.FINISHED and run.left == 0:
        run.finish(now)
        write = log.warning if run.failed else log.info
        write("recommendations.finished", date=str(run.date), done=run.done, failed=run.failed)
        await record(session, RecommendationRunFinished.of(run))
    elif (run.done, run.failed) != before:
        await record(session, RecommendationRunProgressed.of(run))


async def _start(session: AsyncSession, run: RecommendationRun, left: int, by: int | None, now: dt.datetime) -> None:
    """Start a new run; or restart a finished one with new users, and with those that failed."""
    await run_items.enqueue_users(session, run.date)
    await _count_items(session, run)
    if run.left == 0 and run.finished_at is not None:
        return
    run.start(left, by, now)
    await _finish_earlier_runs(session, run.date, now)
    log.info(
        "recommendations.started",
        date=str(run.date),
        users=run.left,
        requests_left=left,
        is_sufficient=left >= run.left,
        by=by,
    )
    await record(session, RecommendationRunStarted.of(run))
    await _update_progress(session, run, now)


async def _finish_earlier_runs(session: AsyncSession, date: dt.date, now: dt.datetime) -> None:
    """Finish runs of earlier nights. Their remaining users go first in the new run."""
    query = select(RecommendationRun).where(
        RecommendationRun.status != RunStatus.FINISHED, col(RecommendationRun.date) < date
    )
    for run in await session.scalars(query.with_for_update()):
        run.finish(now)
        log.warning("recommendations.unfinished", date=str(run.date), left=run.left)
        await record(session, RecommendationRunFinished.of(run))


async def _resume(session: AsyncSession, run: RecommendationRun) -> None:
    run.resume()
    log.info("recommendations.resumed", date=str(run.date), left=run.left)
    await record(session, RecommendationRunProgressed.of(run))


def _is_pause_over(run: RecommendationRun, keys: Sequence[KeyUsage], now: dt.datetime) -> bool:
    """Whether the time is over, or a key became ready earlier than expected."""
    if run.paused_until is not None and run.paused_until <= now:
        return True
    if run.pause_reason is PauseReason.GEMINI_UNAVAILABLE:
        return False
    return any(key.state is KeyState.READY for key in keys)


async def _count_items(session: AsyncSession, run: RecommendationRun) -> None:
    """Update the run's numbers from its items."""
    counts = await run_items.count_by_status(session, run.date)
    run.total = sum(counts.values())
    run.record_progress(counts.get(ItemStatus.DONE, 0), counts.get(ItemStatus.FAILED, 0))
