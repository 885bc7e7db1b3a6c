"""Work on the nightly run: any number of workers and the command line, each with a few users at a time."""

import asyncio
import datetime as dt
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from app.ai.advisor import advise
from app.ai.gemini import Gemini, GeminiError, InvalidAnswer, KeyFailed, RequestRefused
from app.ai.key_pool import KeyPool, KeysExhausted, requests_left
from app.ai.prompts import CafeMenu, build_prompt
from app.ai.recommendation import Recommendation
from app.clients import Clients
from app.errors import BadInput, ServiceUnavailable, as_lunchbot_error
from app.log import get_log
from app.models import PauseReason, RecommendationRun, RunStatus
from app.redaction import redact
from app.services import run_items, runs
from app.services.failures import count_failure
from app.services.gemini_keys import key_pool
from app.services.recommendations import store_recommendations, today
from app.services.rows import get_row
from app.services.run_items import FAIL_IMMEDIATELY, REFUSALS_MAX
from app.services.statistics import UserData, find_menu, find_user_data
from app.services.users import get_user

log = get_log(__name__)

MAX_CONSECUTIVE_FAILURES = 5
"""After so many failures in a row (refused requests, invalid answers), the cause is not the users, and the run pauses."""

BATCH_SIZE = 10
"""How many users are claimed at a time: their statistics are one statement."""

JOB_BUDGET_S = 55.0
"""When a job ends at the latest: less than the time-out of jobs."""

MIN_CALL_BUDGET_S = 35.0
"""With less time left no new recommendation is begun, because one call may take 30 s. So a job works for 20 s, and for the
time of its last call."""

PROGRESS_INTERVAL_S = 1.0

SHORT_PAUSE = dt.timedelta(minutes=2)
"""The command line waits for a minute's quota, but not for tomorrow's."""

LEASE = dt.timedelta(seconds=70)
"""Longer than a job, so no two workers have the same user."""


async def process_batch(clients: Clients, gemini: Gemini, date: dt.date, budget_s: float = JOB_BUDGET_S) -> bool:
    """Make recommendations of a run, one after the other, for at most `budget_s` seconds.

    Unfinished users are released, whatever ends the call. Returns whether there is more to do.
    """
    ends = time.monotonic() + budget_s
    pool = key_pool(clients)
    failures = 0
    while time.monotonic() < ends - MIN_CALL_BUDGET_S:
        now = _now()
        tgids = await _claim(clients, date, now)
        if not tgids:
            return False
        try:
            failures = await _process(clients, gemini, pool, date, tgids, ends, failures)
        finally:
            async with clients.db() as session:
                await run_items.release(session, date, tgids, now + LEASE)
                await runs.update_progress(session, date, _now())
    return True


async def _claim(clients: Clients, date: dt.date, now: dt.datetime) -> Sequence[int]:
    """Claim some users, and leave some to other workers."""
    run = await runs.find_unfinished_run(clients)
    if run is None or run.date != date or run.status is not RunStatus.RUNNING:
        return []
    number = min(BATCH_SIZE, math.ceil(run.left / clients.settings.recommendation_concurrency))
    async with clients.db() as session:
        return await run_items.claim(session, date, max(number, 1), now, now + LEASE)


async def recommend_all(
    clients: Clients,
    gemini: Gemini,
    on_start: Callable[[RecommendationRun], None],
    on_progress: Callable[[RecommendationRun, int], None],
) -> RecommendationRun:
    """Start today's run, and work on it until it is finished or paused. Workers may do so at the same time.

    Args:
        on_start: Called with the run before the first request.
        on_progress: Called each second with the run, and with the number of requests left.

    Raises ServiceUnavailable if there are no keys.
    """
    run = await runs.start_run(clients, _now())
    on_start(run)
    pool = key_pool(clients)
    is_over = asyncio.Event()
    async with _first_error(), asyncio.TaskGroup() as working:
        for _ in range(clients.settings.recommendation_concurrency):
            working.create_task(_work_until(is_over, clients, gemini, run.date))
        try:
            while not _is_over(run):
                on_progress(run, requests_left(await pool.usage()))
                await asyncio.sleep(PROGRESS_INTERVAL_S)
                await runs.reconcile(clients, _now())
                async with clients.db() as session:
                    run = await get_row(session, RecommendationRun, run.date)
        finally:
            is_over.set()
    on_progress(run, requests_left(await pool.usage()))
    return run


def _is_over(run: RecommendationRun) -> bool:
    """Whether the command line need not wait: the run is finished, or has a long pause."""
    if run.status is RunStatus.PAUSED:
        return run.paused_until is None or run.paused_until - _now() > SHORT_PAUSE
    return run.status is RunStatus.FINISHED


@asynccontextmanager
async def _first_error() -> AsyncIterator[None]:
    """Raise the first error of a group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _work_until(is_over: asyncio.Event, clients: Clients, gemini: Gemini, date: dt.date) -> None:
    """Work whenever there is something to do: other workers may have users, and die with them."""
    while not is_over.is_set():
        if not await process_batch(clients, gemini, date):
            await asyncio.sleep(PROGRESS_INTERVAL_S)


async def recommend_one(clients: Clients, gemini: Gemini, tgid: int) -> Recommendation:
    """Make one user's recommendation now, apart from the run. If the run has the user, the item is done as well.

    Raises NotFound, BadInput, KeysExhausted, KeyFailed, GeminiError.
    """
    user = await get_user(clients, tgid)
    if not clients.settings.gemini_api_keys:
        raise ServiceUnavailable(runs.NO_KEYS)
    date = today(clients, _now())
    async with clients.db() as session:
        menu = await find_menu(session)
        data = (await find_user_data(session, [tgid], date)).get(tgid)
    if data is None:
        raise BadInput("tgid", f"{user.name} is deactivated")
    if not data.stats.orders_count:
        raise BadInput("tgid", f"{user.name} has no orders within the last 30 days")
    made = await _make(gemini, key_pool(clients), menu, data, JOB_BUDGET_S)
    await _record_done(clients, date, tgid, made)
    return made


async def _make(
    gemini: Gemini, pool: KeyPool, menu: Sequence[CafeMenu], data: UserData, budget_s: float
) -> Recommendation:
    prompt = build_prompt(menu, data.stats, data.notes, data.language)
    advice = await advise(gemini, pool, prompt, budget_s)
    return Recommendation.of(advice, data.stats, _now())


async def _process(
    clients: Clients, gemini: Gemini, pool: KeyPool, date: dt.date, tgids: Sequence[int], ends: float, failures: int
) -> int:
    """Make the recommendations of some users. Takes and returns the number of consecutive failures.

    An unexpected failure of one user does not stop the others; the outage of a service stops them all.
    """
    async with clients.db() as session:
        menu = await find_menu(session)
        known = await find_user_data(session, tgids, date)
    for tgid in tgids:
        if time.monotonic() > ends - MIN_CALL_BUDGET_S:
            return failures
        data = known.get(tgid)
        if data is None:
            await _record_failure(clients, date, tgid, "is deactivated", FAIL_IMMEDIATELY)
            continue
        try:
            made = await _make(gemini, pool, menu, data, ends - time.monotonic())
            await _record_done(clients, date, tgid, made)
        except (InvalidAnswer, RequestRefused) as error:
            log.warning("recommendation.failed", tgid=tgid, kind=type(error).__name__, error=str(error))
            fails_after = REFUSALS_MAX if isinstance(error, RequestRefused) else FAIL_IMMEDIATELY
            await _record_failure(clients, date, tgid, str(error), fails_after)
            failures += 1
        except KeysExhausted as exhausted:
            reason = PauseReason.QUOTA_EXHAUSTED if exhausted.until else PauseReason.KEYS_DISABLED
            await _pause(clients, date, reason, exhausted.until)
            return 0
        except (KeyFailed, GeminiError) as error:
            log.warning("gemini.unavailable", error=str(error), kind=type(error).__name__)
            await _record_failure(clients, date, tgid, str(error), None)
            await _pause(clients, date, PauseReason.GEMINI_UNAVAILABLE)
            return 0
        except Exception as error:  # noqa: BLE001 logged and counted
            await _record_unexpected_failure(clients, date, tgid, error)
            failures += 1
        else:
            failures = 0
        if failures == MAX_CONSECUTIVE_FAILURES:
            await _pause(clients, date, PauseReason.GEMINI_UNAVAILABLE)
            return 0
    return failures


async def _record_done(clients: Clients, date: dt.date, tgid: int, recommendation: Recommendation) -> None:
    """Store a recommendation. If Redis is unavailable now, a later restore puts it there."""
    async with clients.db() as session:
        await run_items.record_done(session, date, tgid, recommendation)
    try:
        await store_recommendations(clients, [(tgid, recommendation)], _now())
    except (RedisError, OSError) as error:
        log.warning("recommendation.not_cached", tgid=tgid, error=repr(error))


async def _record_failure(clients: Clients, date: dt.date, tgid: int, error: str, fails_after: int | None) -> None:
    async with clients.db() as session:
        await run_items.record_failure(session, date, tgid, redact(error), fails_after)


async def _record_unexpected_failure(clients: Clients, date: dt.date, tgid: int, error: Exception) -> None:
    """Raises `error` if a service is unavailable: then the user is not the cause."""
    if isinstance(as_lunchbot_error(error), ServiceUnavailable):
        raise error
    count_failure("recommendation.not_made", error, tgid=tgid)
    await _record_failure(clients, date, tgid, type(error).__name__, REFUSALS_MAX)


async def _pause(clients: Clients, date: dt.date, reason: PauseReason, until: dt.datetime | None = None) -> None:
    async with clients.db() as session:
        await runs.pause_run(session, date, reason, _now(), until)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
