"""One recommendation: the number of requests, their keys, and the effect of each answer on the key pool."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from app.ai.advisor import MAX_RETRIES, advise
from app.ai.gemini import Gemini, GeminiUnavailable, InvalidAnswer, RequestRefused, Throttled
from app.ai.key_pool import KeyPool, KeysExhausted, KeyState, quota_day, quota_day_end
from app.ai.prompts import Prompt, build_prompt
from app.ai.stats import OrderStats
from app.clients import Clients, open_clients
from app.dev.gemini.faults import FaultKind
from app.services.gemini_keys import key_pool
from app.settings import Settings
from tests.gemini_standin import GeminiStandIn

BUDGET_S = 60.0
PROMPT: Prompt = build_prompt([], OrderStats(orders_count=12), [], "en")


@pytest.fixture
async def pool(settings_with_keys: Settings, clients: Clients) -> AsyncIterator[KeyPool]:
    async with open_clients(settings_with_keys) as opened:
        yield key_pool(opened)


async def states(pool: KeyPool) -> list[KeyState]:
    return [key.state for key in await pool.usage()]


async def test_valid_answer_needs_one_request(gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool) -> None:
    """After a valid answer there is no further request."""
    await advise(gemini, pool, PROMPT, BUDGET_S)

    assert [request.key for request in gemini_standin.stand_in.requests] == ["AIza-one"]


async def test_next_key_replaces_an_exhausted_key(gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool) -> None:
    """A key with an exhausted daily quota is not used until the reset, and the next key replaces it."""
    gemini_standin.fails(FaultKind.DAY_QUOTA, key="AIza-one")

    await advise(gemini, pool, PROMPT, BUDGET_S)

    one, two, _ = await pool.usage()
    assert (one.state, one.until, two.used) == (KeyState.EXHAUSTED, quota_day_end(quota_day(datetime.now(UTC))), 1)


async def test_no_request_is_made_when_all_keys_are_exhausted(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool
) -> None:
    """There is only one request per project, because the keys of a project share its quota."""
    gemini_standin.fails(FaultKind.DAY_QUOTA, times=None)

    with pytest.raises(KeysExhausted) as raised:
        await advise(gemini, pool, PROMPT, BUDGET_S)

    assert raised.value.until == quota_day_end(quota_day(datetime.now(UTC)))
    assert gemini_standin.requests == 2


async def test_key_with_exhausted_minute_quota_cools_down(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool
) -> None:
    """A key with an exhausted minute quota cools down for the time that Google sends."""
    gemini_standin.fails(FaultKind.MINUTE_QUOTA, key="AIza-one", retry_delay_s=3000)

    await advise(gemini, pool, PROMPT, BUDGET_S)

    assert await states(pool) == [KeyState.COOLING_DOWN, KeyState.READY, KeyState.READY]


@pytest.mark.parametrize("kind", [FaultKind.KEY_INVALID, FaultKind.UNAUTHENTICATED, FaultKind.FORBIDDEN])
async def test_refused_key_is_disabled(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool, kind: FaultKind
) -> None:
    """A key that Google refuses is disabled, and its last error does not contain the key."""
    gemini_standin.fails(kind, key="AIza-one")

    await advise(gemini, pool, PROMPT, BUDGET_S)

    one, *others = await pool.usage()
    assert (one.state, {key.state for key in others}) == (KeyState.DISABLED, {KeyState.READY})
    assert one.last_error
    assert "AIza" not in one.last_error


async def test_minute_quota_of_an_error_info_moves_to_the_next_key(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool
) -> None:
    """A minute's quota that only an `ErrorInfo` names costs one request with its key, and the next key answers."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMIT_EXCEEDED",
        "metadata": {"quota_limit": "GenerateContentRequestsPerMinutePerProjectPerRegion"},
    }
    gemini_standin.fails(FaultKind.BARE_429, key="AIza-one", times=None, details=[info])

    await advise(gemini, pool, PROMPT, BUDGET_S)

    assert [request.key for request in gemini_standin.stand_in.requests] == ["AIza-one", "AIza-two"]
    assert await states(pool) == [KeyState.COOLING_DOWN, KeyState.READY, KeyState.READY]


@pytest.mark.parametrize("delay", ["0s", "-1s", "0.000000001s"])
async def test_short_retry_delay_is_a_cool_down(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool, delay: str
) -> None:
    """However short Google's delay is, each project is asked once, and then all keys cool down."""
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    gemini_standin.fails(FaultKind.BARE_429, times=None, details=[info])

    with pytest.raises(KeysExhausted):
        await advise(gemini, pool, PROMPT, BUDGET_S)

    assert [request.key for request in gemini_standin.stand_in.requests] == ["AIza-one", "AIza-two"]


@pytest.mark.usefixtures("without_waiting")
async def test_throttled_request_is_retried_with_the_next_key(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool
) -> None:
    """After a 429 that names no quota, each further request takes the next key, and no key is blamed."""
    gemini_standin.fails(FaultKind.BARE_429, times=None)

    with pytest.raises(Throttled):
        await advise(gemini, pool, PROMPT, BUDGET_S)

    keys = [request.key for request in gemini_standin.stand_in.requests]
    assert keys == ["AIza-one", "AIza-two", "AQ.three", "AIza-one"]
    assert await states(pool) == [KeyState.READY] * 3


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.DROP, FaultKind.BAD_JSON])
@pytest.mark.usefixtures("without_waiting")
async def test_temporary_error_is_retried_with_the_same_key(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool, kind: FaultKind
) -> None:
    """A temporary error is retried with the same key, and the key stays ready."""
    gemini_standin.fails(kind)

    await advise(gemini, pool, PROMPT, BUDGET_S)

    assert [request.key for request in gemini_standin.stand_in.requests] == ["AIza-one", "AIza-one"]
    assert await states(pool) == [KeyState.READY] * 3


@pytest.mark.usefixtures("without_waiting")
async def test_permanent_unavailability_ends_after_the_retries(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool
) -> None:
    """If Gemini stays unavailable, the last error is raised after the retries."""
    gemini_standin.fails(FaultKind.UNAVAILABLE, times=None)

    with pytest.raises(GeminiUnavailable, match="503"):
        await advise(gemini, pool, PROMPT, BUDGET_S)

    assert gemini_standin.requests == 1 + MAX_RETRIES


async def test_no_retry_is_made_without_enough_time(
    gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool
) -> None:
    """There is no retry if less than ten seconds would be left for it."""
    gemini_standin.fails(FaultKind.UNAVAILABLE, times=None)

    with pytest.raises(GeminiUnavailable):
        await advise(gemini, pool, PROMPT, budget_s=17)

    assert gemini_standin.requests == 2


async def test_last_call_ends_with_the_budget(gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool) -> None:
    """The last call ends when the time budget is over."""
    gemini_standin.fails(FaultKind.HANG, times=None)
    start = time.monotonic()

    with pytest.raises(GeminiUnavailable):
        await advise(gemini, pool, PROMPT, budget_s=1)

    assert gemini_standin.requests == 1
    assert time.monotonic() - start < 10


async def test_refused_request_is_not_retried(gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool) -> None:
    """A request that Gemini refuses is not retried, and the keys stay ready."""
    gemini_standin.fails(FaultKind.BAD_REQUEST, times=None)

    with pytest.raises(RequestRefused):
        await advise(gemini, pool, PROMPT, BUDGET_S)

    assert gemini_standin.requests == 1
    assert await states(pool) == [KeyState.READY] * 3


async def test_invalid_answer_is_retried_once(gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool) -> None:
    """After an invalid answer the request is repeated."""
    gemini_standin.fails(FaultKind.MAX_TOKENS)

    await advise(gemini, pool, PROMPT, BUDGET_S)

    assert gemini_standin.requests == 2


async def test_second_invalid_answer_is_an_error(gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool) -> None:
    """After a second invalid answer there is no further request."""
    gemini_standin.fails(FaultKind.INVALID_ANSWER, times=None)

    with pytest.raises(InvalidAnswer):
        await advise(gemini, pool, PROMPT, BUDGET_S)

    assert gemini_standin.requests == 2


@pytest.mark.usefixtures("without_waiting")
async def test_each_attempt_is_counted(gemini: Gemini, gemini_standin: GeminiStandIn, pool: KeyPool) -> None:
    """The pool counts every request that Google gets."""
    gemini_standin.fails(FaultKind.DROP)
    gemini_standin.fails(FaultKind.INVALID_ANSWER)

    await advise(gemini, pool, PROMPT, BUDGET_S)

    assert sum(key.used for key in await pool.usage()) == gemini_standin.requests == 3
