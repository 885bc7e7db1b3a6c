"""One recommendation: how many requests it may take, of which keys, and what is drawn from each answer."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from app.ai.advisor import RETRIES, advise
from app.ai.gemini import Away, Gemini, KeyFailed, Refused, Unfit
from app.ai.key_pool import KeyPool, KeysResting, KeyState, day_of, end_of
from app.ai.prompts import Prompt, prompt
from app.ai.stats import OrderStats
from app.clients import Clients, open_clients
from app.dev.gemini.faults import FaultKind
from app.resolvers.gemini_keys import key_pool
from app.settings import Settings
from tests.google import Google

LONG_S = 60.0
QUESTION: Prompt = prompt([], OrderStats(orders_count=12), [], "en")

ONE, TWO, THREE = range(3)
"""The keys' places; the first is of one project, the others share another."""


@pytest.fixture
async def pool(settings_with_keys: Settings, clients: Clients) -> AsyncIterator[KeyPool]:
    async with open_clients(settings_with_keys) as opened:
        yield key_pool(opened)


async def states(pool: KeyPool) -> list[KeyState]:
    return [key.state for key in await pool.usage()]


async def test_one_request_is_enough(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """An answer that fits ends it."""
    await advise(gemini, pool, QUESTION, LONG_S)

    assert [request.key for request in google.stand_in.requests] == ["AIza-one"]


async def test_a_key_whose_day_is_over_is_changed(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """It rests until the reset, and the next one is asked at once."""
    google.fails(FaultKind.DAY_QUOTA, key="AIza-one")

    await advise(gemini, pool, QUESTION, LONG_S)

    one, two, _ = await pool.usage()
    assert (one.state, one.until, two.used) == (KeyState.EXHAUSTED, end_of(day_of(datetime.now(UTC))), 1)


async def test_when_all_days_are_over_nobody_is_asked_any_more(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """Each project is asked once: keys that share a quota need not be tried one by one."""
    google.fails(FaultKind.DAY_QUOTA, times=None)

    with pytest.raises(KeysResting) as raised:
        await advise(gemini, pool, QUESTION, LONG_S)

    assert raised.value.until == end_of(day_of(datetime.now(UTC)))
    assert google.requests == 2


async def test_too_many_in_a_minute(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """The key rests for as long as Google says."""
    google.fails(FaultKind.MINUTE_QUOTA, key="AIza-one", retry_delay_s=3000)

    await advise(gemini, pool, QUESTION, LONG_S)

    assert await states(pool) == [KeyState.COOLING_DOWN, KeyState.READY, KeyState.READY]


@pytest.mark.parametrize("kind", [FaultKind.KEY_INVALID, FaultKind.UNAUTHENTICATED, FaultKind.FORBIDDEN])
async def test_a_key_that_google_does_not_take(gemini: Gemini, google: Google, pool: KeyPool, kind: FaultKind) -> None:
    """It is set aside; what is told of it does not name it."""
    google.fails(kind, key="AIza-one")

    await advise(gemini, pool, QUESTION, LONG_S)

    one, *others = await pool.usage()
    assert (one.state, {it.state for it in others}) == (KeyState.SET_ASIDE, {KeyState.READY})
    assert one.last_error
    assert "AIza" not in one.last_error


@pytest.mark.parametrize("kind", [FaultKind.BARE_429, FaultKind.UNAVAILABLE, FaultKind.DROP, FaultKind.BAD_JSON])
async def test_what_passes(gemini: Gemini, google: Google, pool: KeyPool, kind: FaultKind) -> None:
    """No key is blamed, and after a moment the same one is asked again."""
    google.fails(kind)

    await advise(gemini, pool, QUESTION, LONG_S)

    assert [request.key for request in google.stand_in.requests] == ["AIza-one", "AIza-one"]
    assert await states(pool) == [KeyState.READY] * 3


async def test_what_does_not_pass(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """After some attempts it is given up, for now."""
    google.fails(FaultKind.UNAVAILABLE, times=None)

    with pytest.raises(Away, match="503"):
        await advise(gemini, pool, QUESTION, LONG_S)

    assert google.requests == 1 + RETRIES


async def test_what_does_not_pass_in_time(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """Where there is no time for another call of ten seconds, none is made."""
    google.fails(FaultKind.UNAVAILABLE, times=None)

    with pytest.raises(Away):
        await advise(gemini, pool, QUESTION, within_s=17)

    assert google.requests == 2


async def test_silence_ends_in_time(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """The last call ends with the time that there is."""
    google.fails(FaultKind.HANG, times=None)
    began = time.monotonic()

    with pytest.raises(Away):
        await advise(gemini, pool, QUESTION, within_s=1)

    assert google.requests == 1
    assert time.monotonic() - began < 10


async def test_our_own_mistake(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """A request that Gemini refuses is not made again, and no key is blamed."""
    google.fails(FaultKind.BAD_REQUEST, times=None)

    with pytest.raises(Refused):
        await advise(gemini, pool, QUESTION, LONG_S)

    assert google.requests == 1
    assert await states(pool) == [KeyState.READY] * 3


async def test_an_answer_that_does_not_fit_once(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """It is asked for once more."""
    google.fails(FaultKind.MAX_TOKENS)

    await advise(gemini, pool, QUESTION, LONG_S)

    assert google.requests == 2


async def test_an_answer_that_does_not_fit_twice(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """Then it is left."""
    google.fails(FaultKind.INVALID_ANSWER, times=None)

    with pytest.raises(Unfit):
        await advise(gemini, pool, QUESTION, LONG_S)

    assert google.requests == 2


async def test_keys_that_fail_again_and_again(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """Even if all come back at once, there are no more attempts than keys, and a few for what passes."""
    google.fails(FaultKind.MINUTE_QUOTA, times=None, retry_delay_s=0)

    with pytest.raises(KeyFailed):
        await advise(gemini, pool, QUESTION, LONG_S)

    assert google.requests == 3 + RETRIES


async def test_each_attempt_is_counted(gemini: Gemini, google: Google, pool: KeyPool) -> None:
    """What Google has seen, we have counted."""
    google.fails(FaultKind.DROP)
    google.fails(FaultKind.INVALID_ANSWER)

    await advise(gemini, pool, QUESTION, LONG_S)

    assert sum(key.used for key in await pool.usage()) == google.requests == 3
