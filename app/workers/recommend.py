"""Working on the nightly run: any number of workers, and the command line, each taking a few people at a time."""

import asyncio
import datetime as dt
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from redis.exceptions import RedisError

from app.ai.advisor import advise
from app.ai.gemini import Gemini, KeyFailed, NotAnswered, Refused, Unfit
from app.ai.key_pool import KeyPool, KeysResting, requests_left
from app.ai.prompts import Cafe, prompt
from app.ai.recommendation import Recommendation
from app.clients import Clients
from app.errors import BadInput, ServiceUnavailable
from app.log import get_log
from app.models import PauseReason, RecommendationRun, RunStatus
from app.resolvers import run_items, runs, users
from app.resolvers.gemini_keys import key_pool
from app.resolvers.prompt_data import Diner, diners, offered
from app.resolvers.recommendations import keep, today
from app.resolvers.run_items import AT_ONCE, REFUSALS_MAX
from app.resolvers.runs import NO_KEYS

log = get_log(__name__)

MISSES_MAX = 5
"""After so many in a row whom Gemini refuses, or whose answer does not fit, it is not about them: the run pauses."""

CHUNK = 10
"""How many people are taken at a time: their statistics are one statement."""

STINT_S = 55.0
"""When a job has ended at the latest: less than the time-out of jobs."""

ONE_S = 35.0
"""With less time left nobody else's recommendation is begun: one call may take 30 s. So a job works for 20 s, and for as long
as the last one takes."""

SHOWN_EACH_S = 1.0

SHORT_PAUSE = dt.timedelta(minutes=2)
"""The command line waits for a minute's quota, and not for tomorrow."""

LEASE = dt.timedelta(seconds=70)
"""Longer than a stint: nobody has a person in hand whom another may take."""


async def work(clients: Clients, gemini: Gemini, date: dt.date, within_s: float = STINT_S) -> bool:
    """Make recommendations of a run, one after the other, for at most `within_s` seconds.

    What is begun and not finished, by whatever end, is left to others. Returns whether there is more to do.
    """
    ends = time.monotonic() + within_s
    pool = key_pool(clients)
    misses = 0
    while time.monotonic() < ends - ONE_S:
        people = await _take(clients, date)
        if not people:
            return False
        try:
            misses = await _work_on(clients, gemini, pool, date, people, ends, misses)
        finally:
            async with clients.db() as session:
                await run_items.give_back(session, date, people)
                await runs.take_stock(session, date, _now())
    return True


async def _take(clients: Clients, date: dt.date) -> Sequence[int]:
    """Take some people, and leave some to the others who work at the same time."""
    run = await runs.unfinished(clients)
    if run is None or run.date != date or run.status is not RunStatus.RUNNING:
        return []
    number = min(CHUNK, math.ceil(run.left / clients.settings.recommendation_concurrency))
    async with clients.db() as session:
        return await run_items.claim(session, date, max(number, 1), _now(), LEASE)


async def recommend_all(
    clients: Clients,
    gemini: Gemini,
    begun: Callable[[RecommendationRun], None],
    show: Callable[[RecommendationRun, int], None],
) -> RecommendationRun:
    """Start today's run, and work on it until it is finished or paused; workers may do so at the same time.

    Args:
        begun: Is told of the run before anything is made: for how many it is, and for how many the keys suffice.
        show: Is told each second how far it has come, and how many requests the keys are still good for.

    Raises ServiceUnavailable if there are no keys.
    """
    run = await runs.start(clients, _now())
    begun(run)
    pool = key_pool(clients)
    is_over = asyncio.Event()
    async with _one_error(), asyncio.TaskGroup() as working:
        for _ in range(clients.settings.recommendation_concurrency):
            working.create_task(_work_until(is_over, clients, gemini, run.date))
        try:
            while not _is_over(run):
                show(run, requests_left(await pool.usage()))
                await asyncio.sleep(SHOWN_EACH_S)
                await runs.ensure(clients, _now())
                run = await runs.stored(clients, run.date)
        finally:
            is_over.set()
    show(run, requests_left(await pool.usage()))
    return run


def _is_over(run: RecommendationRun) -> bool:
    """Whether nobody need wait for it: it is finished, or has a longer pause."""
    if run.status is RunStatus.PAUSED:
        return run.paused_until is None or run.paused_until - _now() > SHORT_PAUSE
    return run.status is RunStatus.FINISHED


@asynccontextmanager
async def _one_error() -> AsyncIterator[None]:
    """Raise, of errors that come in a group, the first."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group


async def _work_until(is_over: asyncio.Event, clients: Clients, gemini: Gemini, date: dt.date) -> None:
    """Work whenever there is something to do: others may have people in hand, and die with them."""
    while not is_over.is_set():
        if not await work(clients, gemini, date):
            await asyncio.sleep(SHOWN_EACH_S)


async def recommend_one(clients: Clients, gemini: Gemini, tgid: int) -> Recommendation:
    """Make one person's recommendation now, whatever the run does. If it is waited for there, it is done there, too.

    Raises NotFound, BadInput, KeysResting, KeyFailed, NotAnswered.
    """
    person = await users.find(clients, tgid)
    if not clients.settings.gemini_api_keys:
        raise ServiceUnavailable(NO_KEYS)
    date = today(clients, _now())
    async with clients.db() as session:
        menu = await offered(session)
        diner = (await diners(session, [tgid], date)).get(tgid)
    if diner is None:
        raise BadInput("tgid", f"{person.name} is switched off")
    if not diner.stats.orders_count:
        raise BadInput("tgid", f"{person.name} has ordered nothing within the last 30 days")
    made = await _make(gemini, key_pool(clients), menu, diner, STINT_S)
    await _done(clients, date, tgid, made)
    return made


async def _make(gemini: Gemini, pool: KeyPool, menu: Sequence[Cafe], diner: Diner, within_s: float) -> Recommendation:
    question = prompt(menu, diner.stats, diner.notes, diner.language)
    advice = await advise(gemini, pool, question, within_s)
    return Recommendation.of(advice, diner.stats, _now())


async def _work_on(
    clients: Clients, gemini: Gemini, pool: KeyPool, date: dt.date, people: Sequence[int], ends: float, misses: int
) -> int:
    """Make the recommendations of some people. Takes and returns how many in a row it was not possible for, last."""
    async with clients.db() as session:
        menu = await offered(session)
        known = await diners(session, people, date)
    for tgid in people:
        if time.monotonic() > ends - ONE_S:
            return misses
        diner = known.get(tgid)
        if diner is None:
            await _not_done(clients, date, tgid, "is switched off", AT_ONCE)
            continue
        try:
            made = await _make(gemini, pool, menu, diner, ends - time.monotonic())
        except (Unfit, Refused) as error:
            log.warning("recommendation.missed", tgid=tgid, kind=type(error).__name__, error=str(error))
            await _not_done(clients, date, tgid, str(error), REFUSALS_MAX if isinstance(error, Refused) else AT_ONCE)
            misses += 1
            if misses == MISSES_MAX:
                await _pause(clients, date, PauseReason.GEMINI_AWAY)
                return 0
        except KeysResting as resting:
            reason = PauseReason.KEYS_RESTING if resting.until else PauseReason.KEYS_SET_ASIDE
            await _pause(clients, date, reason, resting.until)
            return 0
        except (KeyFailed, NotAnswered) as error:
            log.warning("gemini.away", error=str(error), kind=type(error).__name__)
            await _not_done(clients, date, tgid, str(error), None)
            await _pause(clients, date, PauseReason.GEMINI_AWAY)
            return 0
        else:
            misses = 0
            await _done(clients, date, tgid, made)
    return misses


async def _done(clients: Clients, date: dt.date, tgid: int, recommendation: Recommendation) -> None:
    """Keep a recommendation: it has cost a request. One that Redis does not take now comes there with the next refill."""
    async with clients.db() as session:
        await run_items.done(session, date, tgid, recommendation)
    try:
        await keep(clients, [(tgid, recommendation)], _now())
    except (RedisError, OSError) as error:
        log.warning("recommendation.not_cached", tgid=tgid, error=repr(error))


async def _not_done(clients: Clients, date: dt.date, tgid: int, problem: str, fails_after: int | None) -> None:
    async with clients.db() as session:
        await run_items.not_done(session, date, tgid, problem, fails_after)


async def _pause(clients: Clients, date: dt.date, reason: PauseReason, until: dt.datetime | None = None) -> None:
    async with clients.db() as session:
        await runs.pause(session, date, reason, _now(), until)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
