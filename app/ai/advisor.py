"""One recommendation: asking Gemini with one key after the other, until there is an answer."""

import time

import stamina
from prometheus_client import Counter
from redis.exceptions import RedisError

from app.ai.gemini import (
    GEMINI_TIMEOUT_S,
    Away,
    DayExhausted,
    Gemini,
    KeyFailed,
    KeyRefused,
    MinuteExhausted,
    NotAnswered,
    Refused,
    Unfit,
)
from app.ai.key_pool import Grant, KeyPool
from app.ai.prompts import Advice, Prompt
from app.log import get_log

log = get_log(__name__)

REQUESTS = Counter("lunch_bot_gemini_requests_total", "Requests to Gemini, by how they went.", ["outcome"])

RETRIES = 3
"""How often Gemini is asked again that is away, or whose answer does not fit."""

RETRY_WAIT_S = 1.0
RETRY_WAIT_MAX_S = 5.0

WORTH_A_CALL_S = 10.0
"""With less time left nobody is asked once more: the answer would hardly come in time."""


async def advise(gemini: Gemini, pool: KeyPool, prompt: Prompt, within_s: float) -> Advice:
    """Get Gemini's recommendation. The last call ends when `within_s` seconds are over.

    A key that does not work is reported to the pool, and the next one is asked at once; so there are at most as many
    attempts as keys, and a few more for what passes. Every attempt counts against its key.

    Raises KeysResting, NotAnswered; or the last KeyFailed, if keys go on failing.
    """
    ends = time.monotonic() + within_s
    async for attempt in stamina.retry_context(
        on=_Patience(ends),
        attempts=len(pool.keys) + RETRIES,
        timeout=None,
        wait_initial=RETRY_WAIT_S,
        wait_max=RETRY_WAIT_MAX_S,
        wait_jitter=RETRY_WAIT_S,
    ):
        with attempt:
            return await _attempt(gemini, pool, prompt, min(GEMINI_TIMEOUT_S, ends - time.monotonic()))
    raise AssertionError("unreachable: the last attempt raises")


class _Patience:
    """Says whether, and after how long, it is worth trying again: never if that would come too late."""

    def __init__(self, ends: float) -> None:
        self._ends = ends
        self._unfit = 0
        self._away = 0

    def __call__(self, error: Exception) -> bool | float:
        match error:
            case KeyFailed():
                return self._has_time(0.0) and 0.0
            case Unfit():
                self._unfit += 1
                return self._unfit == 1 and self._has_time(0.0) and 0.0
            case Away():
                self._away += 1
                return self._away <= RETRIES and self._has_time(RETRY_WAIT_MAX_S + RETRY_WAIT_S)
            case _:
                return False

    def _has_time(self, wait_s: float) -> bool:
        return self._ends - time.monotonic() >= wait_s + WORTH_A_CALL_S


async def _attempt(gemini: Gemini, pool: KeyPool, prompt: Prompt, timeout_s: float) -> Advice:
    grant = await pool.acquire()
    try:
        advice = await gemini.ask(grant.key.secret, prompt, timeout_s)
    except (KeyFailed, NotAnswered) as error:
        REQUESTS.labels(type(error).__name__).inc()
        await _report(pool, grant, error)
        raise
    REQUESTS.labels("Answered").inc()
    try:
        await pool.went_well(grant)
    except (RedisError, OSError) as error:  # the answer is there, and has cost a request
        log.warning("gemini.not_reported", key=grant.key.id, error=repr(error))
    return advice


async def _report(pool: KeyPool, grant: Grant, error: KeyFailed | NotAnswered) -> None:
    problem = str(error)
    match error:
        case DayExhausted():
            await pool.rest_until_reset(grant, problem)
        case MinuteExhausted():
            await pool.rest(grant, error.retry_after_s, problem)
        case KeyRefused():
            await pool.set_aside(grant, problem)
        case Unfit():
            await pool.went_well(grant)
        case Away() | Refused():
            await pool.failed(grant, problem)
