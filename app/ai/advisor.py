"""One recommendation: request it from Gemini with one key after the other, until there is a valid answer."""

import time

import stamina
from prometheus_client import Counter
from redis.exceptions import RedisError

from app.ai.gemini import (
    GEMINI_TIMEOUT_S,
    DayExhausted,
    Gemini,
    GeminiError,
    GeminiUnavailable,
    InvalidAnswer,
    KeyFailed,
    KeyRefused,
    MinuteExhausted,
    RequestRefused,
    Throttled,
)
from app.ai.key_pool import Grant, KeyPool
from app.ai.prompts import Advice, Prompt
from app.log import get_log
from app.redaction import redact

log = get_log(__name__)

REQUESTS = Counter("lunch_bot_gemini_requests_total", "Requests to Gemini, by outcome.", ["outcome"])

MAX_RETRIES = 3
"""How often a request is repeated while Gemini is unavailable."""

MAX_INVALID_ANSWERS = 2
"""After the first invalid answer the request is repeated once."""

RETRY_WAIT_S = 1.0
RETRY_WAIT_MAX_S = 5.0

MIN_RETRY_BUDGET_S = 10.0
"""With less time left there is no retry: the answer would probably be too late."""


async def advise(gemini: Gemini, pool: KeyPool, prompt: Prompt, budget_s: float) -> Advice:
    """Get advice from Gemini. All calls together end within `budget_s` seconds.

    A key that fails is reported to the pool, and the next key is used without a wait. So there are at most `MAX_RETRIES`
    more attempts than keys. Every attempt counts against its key.

    Raises KeysExhausted, GeminiError; or the last KeyFailed if the keys continue to fail.
    """
    deadline = time.monotonic() + budget_s
    async for attempt in stamina.retry_context(
        on=_RetryPolicy(deadline),
        attempts=len(pool.keys) + MAX_RETRIES,
        timeout=None,
        wait_initial=RETRY_WAIT_S,
        wait_max=RETRY_WAIT_MAX_S,
        wait_jitter=RETRY_WAIT_S,
    ):
        with attempt:
            return await _attempt(gemini, pool, prompt, min(GEMINI_TIMEOUT_S, deadline - time.monotonic()))
    raise AssertionError("unreachable: the last attempt raises")


class _RetryPolicy:
    """Decides whether to retry after an error, and how long to wait. It allows no retry that would start too late.

    Args:
        deadline: The end of the last call, in seconds of `time.monotonic()`.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._invalid_answers = 0
        self._times_unavailable = 0

    def __call__(self, error: Exception) -> bool | float:
        """Return False for no retry, the wait in seconds, or True for the default backoff."""
        match error:
            case KeyFailed():
                return self._has_time(0.0) and 0.0
            case InvalidAnswer():
                self._invalid_answers += 1
                return self._invalid_answers < MAX_INVALID_ANSWERS and self._has_time(0.0) and 0.0
            case GeminiUnavailable():
                self._times_unavailable += 1
                return self._times_unavailable <= MAX_RETRIES and self._has_time(RETRY_WAIT_MAX_S + RETRY_WAIT_S)
            case _:
                return False

    def _has_time(self, wait_s: float) -> bool:
        return self._deadline - time.monotonic() >= wait_s + MIN_RETRY_BUDGET_S


async def _attempt(gemini: Gemini, pool: KeyPool, prompt: Prompt, timeout_s: float) -> Advice:
    grant = await pool.acquire()
    try:
        advice = await gemini.ask(grant.key.secret, prompt, timeout_s)
    except (KeyFailed, GeminiError) as error:
        REQUESTS.labels(type(error).__name__).inc()
        await _record(pool, grant, error)
        raise
    REQUESTS.labels("Answered").inc()
    try:
        await pool.record_success(grant)
    except (RedisError, OSError) as error:  # the answer has cost a request: return it anyway
        log.warning("gemini.success_not_recorded", key=grant.key.id, error=repr(error))
    return advice


async def _record(pool: KeyPool, grant: Grant, error: KeyFailed | GeminiError) -> None:
    problem = redact(str(error))
    match error:
        case DayExhausted():
            await pool.cool_down_until_reset(grant, problem)
        case MinuteExhausted():
            await pool.cool_down(grant, error.retry_after_s, problem)
        case KeyRefused():
            await pool.disable(grant, problem)
        case InvalidAnswer():
            await pool.record_success(grant)
        case Throttled():
            await pool.record_throttled(grant, problem)
        case GeminiUnavailable() | RequestRefused():
            await pool.record_failure(grant, problem)
