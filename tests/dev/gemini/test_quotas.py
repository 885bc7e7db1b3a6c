"""Quotas, usage and recorded requests."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import aiohttp
import pytest
from google.genai.types import (
    GenerateContentResponse,
)

from app.dev.gemini import create_gemini
from app.dev.gemini.faults import FaultKind
from app.dev.gemini.state import MAX_RECORDED_CHARACTERS, MAX_RECORDED_REQUESTS, Gemini, RecordedRequest
from tests.dev.gemini.conftest import (
    MODEL,
    PER_DAY,
    PER_MINUTE,
    Clock,
    World,
    exceeded_quotas,
    find_detail,
)


async def test_daily_quota_is_enforced(daily_quota_world: World) -> None:
    """A request above the daily quota is refused with a misleading delay of a minute."""
    await daily_quota_world.ask()
    await daily_quota_world.ask()

    error = await daily_quota_world.error()

    [violation] = find_detail(error, "QuotaFailure")["violations"]
    assert (violation["quotaId"], violation["quotaValue"]) == (PER_DAY, "2")
    assert violation["quotaMetric"] == "generativelanguage.googleapis.com/generate_content_free_tier_requests"
    assert find_detail(error, "RetryInfo")["retryDelay"] == "60s"


async def test_keys_of_a_project_share_its_quota(daily_quota_world: World) -> None:
    """The keys of a project share its quota; a key of another project has another quota."""
    await daily_quota_world.ask(key="key-1")
    await daily_quota_world.ask(key="key-2")

    assert exceeded_quotas(await daily_quota_world.error(key="key-1")) == [PER_DAY]
    assert (await daily_quota_world.ask(key="key-3")).text


async def test_models_have_separate_quotas(daily_quota_world: World) -> None:
    """A used-up quota of one model does not affect another model."""
    await daily_quota_world.ask()
    await daily_quota_world.ask()

    assert (await daily_quota_world.ask(model="gemini-3.5-flash")).text


@pytest.mark.parametrize(
    ("before", "midnight"),
    [
        ("2026-01-15T12:00", "2026-01-16T08:00"),
        ("2026-03-08T07:59", "2026-03-08T08:00"),
        ("2026-03-08T08:00", "2026-03-09T07:00"),
        ("2026-07-01T07:00", "2026-07-02T07:00"),
        ("2026-11-01T06:59", "2026-11-01T07:00"),
        ("2026-11-01T07:00", "2026-11-02T08:00"),
    ],
    ids=["winter", "before the clocks go on", "day of 23 hours", "summer", "before they go back", "day of 25 hours"],
)
async def test_day_ends_at_midnight_in_california(daily_quota_world: World, before: str, midnight: str) -> None:
    """A used-up daily quota resets at midnight in Los Angeles, also on days of a clock change."""
    new_day = datetime.fromisoformat(midnight).replace(tzinfo=UTC)
    daily_quota_world.clock.now = datetime.fromisoformat(before).replace(tzinfo=UTC)
    await daily_quota_world.ask()
    await daily_quota_world.ask()

    daily_quota_world.clock.now = new_day - timedelta(seconds=1)
    assert exceeded_quotas(await daily_quota_world.error()) == [PER_DAY]
    daily_quota_world.clock.now = new_day
    assert (await daily_quota_world.ask()).text


async def test_minute_quota_is_enforced(minute_quota_world: World) -> None:
    """A request above the minute quota is refused until the first request is a minute old."""
    await minute_quota_world.ask()
    minute_quota_world.clock.now += timedelta(seconds=23)
    await minute_quota_world.ask()

    error = await minute_quota_world.error()

    assert (exceeded_quotas(error), find_detail(error, "RetryInfo")["retryDelay"]) == ([PER_MINUTE], "37s")


async def test_minute_quota_is_restored_after_a_minute(minute_quota_world: World) -> None:
    """A request is answered after the named delay."""
    await minute_quota_world.ask()
    await minute_quota_world.ask()
    await minute_quota_world.error()

    minute_quota_world.clock.now += timedelta(seconds=60)

    assert (await minute_quota_world.ask()).text


async def test_both_quotas_can_be_exceeded(world: World) -> None:
    """The error names both quotas when both are used up."""
    world.state.per_day = world.state.per_minute = 1
    world.state.reset()
    await world.ask()

    assert exceeded_quotas(await world.error()) == [PER_MINUTE, PER_DAY]


async def test_client_errors_do_not_use_the_quota(daily_quota_world: World) -> None:
    """Requests refused because of the client or a quota do not count against the quota."""
    daily_quota_world.add_fault(FaultKind.BARE_429)
    daily_quota_world.add_fault(FaultKind.BAD_REQUEST)
    await daily_quota_world.error()
    await daily_quota_world.error()
    await daily_quota_world.ask()
    await daily_quota_world.ask()

    assert exceeded_quotas(await daily_quota_world.error()) == [PER_DAY]


async def test_server_errors_use_the_quota(daily_quota_world: World) -> None:
    """Requests that fail because of the server count against the quota."""
    daily_quota_world.add_fault(FaultKind.UNAVAILABLE)
    daily_quota_world.add_fault(FaultKind.DROP)
    await daily_quota_world.error()
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await daily_quota_world.ask()

    assert exceeded_quotas(await daily_quota_world.error()) == [PER_DAY]


async def test_simultaneous_requests_do_not_exceed_the_quota(daily_quota_world: World) -> None:
    """Of ten simultaneous requests, two are answered with a quota of two."""
    answers = await asyncio.gather(*(daily_quota_world.ask() for _ in range(10)), return_exceptions=True)

    assert sum(isinstance(answer, GenerateContentResponse) for answer in answers) == 2


async def test_usage_is_counted(daily_quota_world: World) -> None:
    """Every request with a valid key counts for the key and its project, whatever its answer."""
    daily_quota_world.add_fault(FaultKind.UNAVAILABLE)
    await daily_quota_world.error(key="key-1")
    await daily_quota_world.ask(key="key-1")
    await daily_quota_world.error(key="key-1")
    await daily_quota_world.error(key="key-2", model="gemini-1.0-pro")

    key_usage, project_usage = (
        daily_quota_world.state.usage_of_key("key-1"),
        daily_quota_world.state.usage_of_project("shared"),
    )
    assert (key_usage.requests, key_usage.served, key_usage.refused, key_usage.unanswered) == (
        3,
        1,
        {503: 1, 429: 1},
        0,
    )
    assert (project_usage.requests, project_usage.refused) == (4, {503: 1, 429: 1, 404: 1})


async def test_usage_is_counted_by_the_date_in_california(world: World) -> None:
    """A request at 07:59 UTC in winter counts for the day before."""
    world.clock.now = datetime(2026, 1, 16, 7, 59, tzinfo=UTC)
    await world.ask()

    assert world.state.usage_of_key("key-1", date(2026, 1, 15)).served == 1
    assert world.state.usage_of_key("key-1", date(2026, 1, 16)).served == 0


async def test_requests_are_recorded(world: World) -> None:
    """A request is recorded with its key, model, texts and time."""
    await world.ask("What is for lunch?", key="key-3", system_instruction="Be brief.")

    assert list(world.state.requests) == [
        RecordedRequest("key-3", MODEL, "Be brief.", "What is for lunch?", world.clock.now)
    ]


@pytest.mark.parametrize(("text", "kept"), [("x", MAX_RECORDED_REQUESTS), ("x" * (MAX_RECORDED_CHARACTERS // 4), 4)])
def test_recorded_requests_are_limited(text: str, kept: int) -> None:
    """Only the latest requests are kept, and fewer of them if they are long."""
    gemini: Gemini = create_gemini().state.gemini
    for _ in range(kept + 2):
        gemini.record_request(RecordedRequest("key", MODEL, "", text, Clock().now))

    assert len(gemini.requests) == kept
