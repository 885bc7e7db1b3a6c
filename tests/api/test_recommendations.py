"""Recommendations, recommendation runs and Gemini keys, in both APIs."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app.ai.key_pool import COOL_DOWN_JITTER_S, ApiKey, quota_day, quota_day_end
from app.ai.recommendation import Recommendation
from app.ai.stats import CategoryShares, FavoriteDish, OrderStats
from app.clients import Clients
from app.dev.ports import free_port
from app.errors import RETRY_AFTER_S
from app.models import PauseReason, User
from app.services import run_items, runs
from app.services.gemini_keys import key_pool
from app.services.recommendations import store_recommendations
from app.services.run_items import FAIL_IMMEDIATELY
from app.services.statistics import order_stats
from app.settings import Settings
from tests.apis import ApiClient, GraphQLClient, RestClient, calling_api, rows, walk
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, event_types
from tests.user_factory import FIRST_ORDERING_USER, add_ordering_user, add_ordering_users

BOTH = pytest.mark.parametrize("kind", [GraphQLClient, RestClient], ids=["graphql", "rest"])

KEYS = ("kitchen:AIza-one", "AIza-two", "AIza-three", "AIza-four")
"""Each key has two requests a day."""

KEY_IDS = [ApiKey.parse(SecretStr(key)).id for key in KEYS]

SHOWN: Mapping[str, Any] = {
    "summary": "You like soup.",
    "tips": ["Try the salad.", "Больше зелени 🥬"],
    "stats": {
        "orders_count": 7,
        "categories": {"soup": 0.5, "salad": 0.0, "main": 0.25, "extra": 0.25},
        "unique_dishes": 3,
        "total_dishes_available": 9,
        "favorite_dishes": [{"name": "Borscht", "count": 6}, {"name": "Cola", "count": 2}],
    },
}
"""The answer with the stored recommendation, without its time."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keys = tuple(SecretStr(key) for key in KEYS)
    return settings.model_copy(update={"gemini_api_keys": keys, "gemini_max_requests_per_key": 2})


@pytest.fixture
async def made(clients: Clients, people: None) -> Recommendation:
    """Ivan's recommendation, one hour old. Ivan has no orders."""
    recommendation = Recommendation(
        summary="You like soup.",
        tips=("Try the salad.", "Больше зелени 🥬"),
        stats=OrderStats(
            orders_count=7,
            categories=CategoryShares(soup=0.5, main=0.25, extra=0.25),
            unique_dishes=3,
            total_dishes_available=9,
            favorite_dishes=(FavoriteDish(name="Borscht", count=6), FavoriteDish(name="Cola", count=2)),
        ),
        generated_at=datetime.now(UTC) - timedelta(hours=1),
    )
    await store_recommendations(clients, [(USER_TGID, recommendation)], datetime.now(UTC))
    return recommendation


async def store_raw(clients: Clients, tgid: int, value: bytes) -> None:
    """Store a value in Redis in the place of a recommendation."""
    await clients.redis.set(f"recommendations:user:{tgid}", value)


async def figures(clients: Clients, tgid: int) -> dict[str, Any]:
    """Return the current statistics of a user, without a recommendation."""
    async with clients.db() as session:
        stats = (await order_stats(session, [tgid], datetime.now(UTC).date()))[tgid]
    return {"summary": None, "tips": [], "stats": stats.model_dump(mode="json"), "generated_at": None}


def of_recommendations(logged: Sequence[EventDict]) -> list[EventDict]:
    """Return only the log entries about recommendations."""
    return [entry for entry in logged if entry["event"].startswith("recommendations.")]


def without_redis(settings: Settings) -> Settings:
    """Return the settings with an address at which there is no Redis."""
    return settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}")})


async def test_a_recommendation_is_returned_as_stored(user_client: ApiClient, made: Recommendation) -> None:
    """A recommendation has the statistics of its run, not the current ones."""
    assert made.generated_at is not None

    answer = await user_client("recommendations", tgid=USER_TGID)

    assert answer.data == {**SHOWN, "generated_at": made.generated_at.isoformat()}


async def test_a_stored_recommendation_may_have_camel_case(
    user_client: ApiClient, clients: Clients, made: Recommendation
) -> None:
    """Names in Redis may be in the spelling of either API."""
    before = await user_client("recommendations", tgid=USER_TGID)
    snake_case = made.model_dump_json()
    camel_case = re.sub(r'_([a-z])(?=\w*":)', lambda match: match[1].upper(), snake_case)
    await store_raw(clients, USER_TGID, camel_case.encode())

    answer = await user_client("recommendations", tgid=USER_TGID)

    assert camel_case != snake_case
    assert answer == before


async def test_a_recommendation_expires_after_a_day(
    user_client: ApiClient, clients: Clients, made: Recommendation
) -> None:
    """A recommendation older than a day is not returned."""
    await clients.redis.flushdb()
    old = made.model_copy(update={"generated_at": datetime.now(UTC) - timedelta(hours=24, seconds=1)})
    await store_recommendations(clients, [(USER_TGID, old)], datetime.now(UTC))

    assert (await user_client("recommendations", tgid=USER_TGID)).data["summary"] is None


async def test_without_a_recommendation_there_are_statistics(
    manager_client: ApiClient, clients: Clients, lunch: Lunch
) -> None:
    """The answer has the statistics of the user's orders, and no texts of Gemini."""
    await add_ordering_user(clients, lunch, FIRST_ORDERING_USER, orders=6, cancelled=1)

    answer = await manager_client("recommendations", tgid=FIRST_ORDERING_USER)

    assert answer.data == {
        "summary": None,
        "tips": [],
        "stats": {
            "orders_count": 5,
            "categories": {"soup": 0.5, "salad": 0.0, "main": 0.5, "extra": 0.0},
            "unique_dishes": 2,
            "total_dishes_available": 6,
            "favorite_dishes": [{"name": "Borscht", "count": 5}, {"name": "Pelmeni", "count": 5}],
        },
        "generated_at": None,
    }


async def test_a_user_without_orders_has_empty_statistics(user_client: ApiClient, lunch: Lunch) -> None:
    """All figures are 0, except the number of available dishes."""
    stats = (await user_client("recommendations", tgid=USER_TGID)).data["stats"]

    assert stats == {
        "orders_count": 0,
        "categories": {"soup": 0.0, "salad": 0.0, "main": 0.0, "extra": 0.0},
        "unique_dishes": 0,
        "total_dishes_available": 6,
        "favorite_dishes": [],
    }


UNREADABLE = {
    "no JSON": b"{",
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "no text": b'{"summary": "\xff", "stats": {}}',
    "no figures": b'{"summary": "You like soup.", "tips": [], "generated_at": "2026-03-04T03:00:00Z"}',
    "no time": b'{"stats": {}, "generated_at": "last night"}',
    "a share above 1": b'{"stats": {"categories": {"soup": 2}}}',
    "too many tips": b'{"tips": ["a", "b", "c", "d"], "stats": {}}',
    "more orders than a number holds": b'{"stats": {"orders_count": 2147483648}}',
    "too few orders": b'{"stats": {"orders_count": -1}}',
    "too many favourites": b'{"stats": {"favorite_dishes": [%s]}}'
    % b", ".join([b'{"name": "Borscht", "count": 1}'] * 6),
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE)
async def test_an_unreadable_recommendation_is_ignored(user_client: ApiClient, clients: Clients, value: bytes) -> None:
    """The answer has the current statistics, as without a recommendation."""
    await store_raw(clients, USER_TGID, value)

    assert (await user_client("recommendations", tgid=USER_TGID)).data == await figures(clients, USER_TGID)


@pytest.mark.parametrize("time", ["2026-03-04T03:00:00", "2026-03-04T05:00:00+02:00", "2026-03-04T03:00:00Z"])
async def test_times_are_utc(user_client: ApiClient, clients: Clients, time: str) -> None:
    """The answer has the time in UTC, whatever offset Redis has."""
    await store_raw(clients, USER_TGID, b'{"stats": {}, "generated_at": "%s"}' % time.encode())

    assert (await user_client("recommendations", tgid=USER_TGID)).data["generated_at"] == "2026-03-04T03:00:00+00:00"


async def test_an_unreadable_recommendation_is_logged(user_client: ApiClient, clients: Clients) -> None:
    """The log entry has the user and the number of errors, and nothing of the contents."""
    await store_raw(clients, USER_TGID, b'{"summary": "You like soup."}')

    with capture_logs() as logged:
        await user_client("recommendations", tgid=USER_TGID)

    assert of_recommendations(logged) == [
        {"event": "recommendations.unreadable", "log_level": "warning", "tgid": USER_TGID, "errors": 1},
    ]


async def test_a_redis_value_of_another_type_is_ignored(user_client: ApiClient, clients: Clients) -> None:
    """Redis refuses to read a list as a text."""
    await clients.redis.lpush(f"recommendations:user:{USER_TGID}", b"soup")  # type: ignore[misc]

    assert (await user_client("recommendations", tgid=USER_TGID)).data == await figures(clients, USER_TGID)


@BOTH
async def test_without_redis_there_are_statistics(
    kind: type[ApiClient], settings: Settings, clients: Clients, user_token: str, made: Recommendation
) -> None:
    """If Redis is unavailable, the answer has the current statistics."""
    async with calling_api(without_redis(settings)) as api:
        answer = await kind(api).signed(user_token)("recommendations", tgid=USER_TGID)

    assert answer.data == await figures(clients, USER_TGID)


@BOTH
async def test_unavailable_redis_is_logged(
    kind: type[ApiClient], settings: Settings, user_token: str, people: None
) -> None:
    """If Redis is unavailable, there is a log entry."""
    async with calling_api(without_redis(settings)) as api:
        with capture_logs() as logged:
            await kind(api).signed(user_token)("recommendations", tgid=USER_TGID)

    assert [entry["event"] for entry in of_recommendations(logged)] == ["recommendations.not_read"]


async def test_managers_see_the_recommendations_of_users(
    user_client: ApiClient, manager_client: ApiClient, made: Recommendation
) -> None:
    """A manager gets the same answer as the user."""
    own = await user_client("recommendations", tgid=USER_TGID)

    assert await manager_client("recommendations", tgid=USER_TGID) == own


@pytest.mark.parametrize("tgid", [MANAGER_TGID, 999])
async def test_users_see_only_their_own_recommendations(
    user_client: ApiClient, made: Recommendation, tgid: int
) -> None:
    """A user does not learn whether another user exists."""
    assert (await user_client("recommendations", tgid=tgid)).code == "FORBIDDEN"


async def test_an_unknown_user_is_not_found(manager_client: ApiClient) -> None:
    """A manager gets NOT_FOUND for an unknown user."""
    answer = await manager_client("recommendations", tgid=999)

    assert (answer.code, answer.details) == ("NOT_FOUND", {"resource": "user", "id": "999"})


async def test_a_deactivated_user_is_refused(user_client: ApiClient, clients: Clients, made: Recommendation) -> None:
    """A deactivated user gets no recommendation, even if there is one."""
    async with clients.db() as session:
        await session.execute(sa.update(User).where(sa.column("tgid") == USER_TGID).values(is_active=False))

    assert (await user_client("recommendations", tgid=USER_TGID)).code == "FORBIDDEN"


async def test_managers_see_statistics_of_deactivated_users(
    manager_client: ApiClient, clients: Clients, lunch: Lunch
) -> None:
    """A deactivated user keeps the statistics."""
    await add_ordering_user(clients, lunch, FIRST_ORDERING_USER, is_active=False)

    assert (await manager_client("recommendations", tgid=FIRST_ORDERING_USER)).data == await figures(
        clients, FIRST_ORDERING_USER
    )


@pytest.fixture
async def ordering_users(clients: Clients, lunch: Lunch) -> list[int]:
    """Three users who can get a recommendation."""
    return await add_ordering_users(clients, lunch, 3)


async def finish(clients: Clients, started: Mapping[str, Any], done: list[int], failed: list[int]) -> None:
    """Record results of a run, as the workers do."""
    day, now = date.fromisoformat(started["date"]), datetime.now(UTC)
    async with clients.db() as session:
        for tgid in done:
            await run_items.record_done(session, day, tgid, Recommendation(stats=OrderStats(), generated_at=now))
        for tgid in failed:
            await run_items.record_failure(session, day, tgid, "invalid answer", FAIL_IMMEDIATELY)
        await runs.update_progress(session, day, now)


async def pause(
    clients: Clients, started: Mapping[str, Any], reason: PauseReason, until: datetime | None = None
) -> None:
    async with clients.db() as session:
        await runs.pause_run(session, date.fromisoformat(started["date"]), reason, datetime.now(UTC), until)


async def test_a_manager_starts_a_run(manager_client: ApiClient, ordering_users: list[int]) -> None:
    """The answer has the number of users, the manager and the status."""
    begin = datetime.now(UTC)

    run = (await manager_client("start_recommendation_run")).data

    assert begin <= datetime.fromisoformat(run.pop("started_at")) <= datetime.now(UTC)
    assert begin.date() <= date.fromisoformat(run.pop("date")) <= datetime.now(UTC).date()
    assert run == {
        "status": "running",
        "total": 3,
        "done": 0,
        "failed": 0,
        "request_budget": 3,
        "started_by": MANAGER_TGID,
        "finished_at": None,
        "paused_until": None,
        "pause_reason": None,
    }


async def test_a_started_run_is_one_event(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """A second start of the same run records no second event."""
    for _ in range(2):
        await manager_client("start_recommendation_run")

    assert await event_types(clients) == ["recommendation_run.started"]


async def test_a_start_queues_jobs(manager_client: ApiClient, clients: Clients, ordering_users: list[int]) -> None:
    """Workers get their jobs immediately."""
    started = (await manager_client("start_recommendation_run")).data

    jobs = await clients.jobs.queued_jobs()
    assert [(job.function, *job.args) for job in jobs] == [("recommend", started["date"])] * len(ordering_users)


async def test_a_run_has_a_request_budget(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """With two requests left for three users the budget is two."""
    pool = key_pool(clients)
    for _ in KEYS[1:]:
        await pool.disable(await pool.acquire(), "403")

    assert (await manager_client("start_recommendation_run")).data["request_budget"] == 2


async def test_a_run_without_users_is_finished(manager_client: ApiClient) -> None:
    """A run without users finishes immediately."""
    run = (await manager_client("start_recommendation_run")).data

    assert (run["status"], run["total"], run["finished_at"]) == ("finished", 0, run["started_at"])


@BOTH
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
async def test_a_run_has_the_local_date(
    kind: type[ApiClient], settings: Settings, manager_token: str, people: None, zone: str
) -> None:
    """The date of a run is today in LUNCH_TIMEZONE: these two time zones never have the same date."""
    there = ZoneInfo(zone)
    begin = datetime.now(there).date()
    async with calling_api(settings.model_copy(update={"lunch_timezone": there})) as api:
        run = (await kind(api).signed(manager_token)("start_recommendation_run")).data

    assert begin <= date.fromisoformat(run["date"]) <= datetime.now(there).date()


@BOTH
async def test_without_keys_no_run_is_started(
    kind: type[ApiClient], settings: Settings, clients: Clients, manager_token: str, people: None
) -> None:
    """The error names the setting, and nothing changes."""
    before = await rows(clients)
    async with calling_api(settings.model_copy(update={"gemini_api_keys": ()})) as api:
        answer = await kind(api).signed(manager_token)("start_recommendation_run")

    assert (answer.code, answer.details) == ("SERVICE_UNAVAILABLE", {"retry_after": RETRY_AFTER_S})
    assert "GEMINI_API_KEYS" in answer.response.text
    assert await rows(clients) == before


async def test_without_keys_rest_answers_503_with_retry_after(
    settings: Settings, manager_token: str, people: None
) -> None:
    """The 503 answer has a Retry-After header."""
    async with calling_api(settings.model_copy(update={"gemini_api_keys": ()})) as api:
        response = (await RestClient(api).signed(manager_token)("start_recommendation_run")).response

    assert (response.status_code, response.headers["retry-after"]) == (503, str(RETRY_AFTER_S))


@BOTH
async def test_without_redis_no_run_is_started(
    kind: type[ApiClient],
    settings: Settings,
    clients: Clients,
    manager_token: str,
    ordering_users: list[int],
    people: None,
) -> None:
    """The request budget is unknown without Redis: the client may try again, and nothing changes."""
    before = await rows(clients)
    async with calling_api(without_redis(settings)) as api:
        answer = await kind(api).signed(manager_token)("start_recommendation_run")

    assert (answer.code, answer.details) == ("SERVICE_UNAVAILABLE", {"retry_after": RETRY_AFTER_S})
    assert await rows(clients) == before


async def test_a_running_run_is_not_restarted(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """A second start returns the current state of the run."""
    started = (await manager_client("start_recommendation_run")).data
    await finish(clients, started, done=ordering_users[:1], failed=ordering_users[1:2])

    again = (await manager_client("start_recommendation_run")).data

    assert again == started | {"done": 1, "failed": 1}


async def test_two_simultaneous_starts_make_one_run(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """Both calls get the same run."""
    first, second = await asyncio.gather(*(manager_client("start_recommendation_run") for _ in range(2)))

    assert first.data == second.data
    assert await event_types(clients) == ["recommendation_run.started"]


async def test_a_start_resumes_a_paused_run(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """The run resumes immediately, with its progress and the manager who started it."""
    started = (await manager_client("start_recommendation_run")).data
    await finish(clients, started, done=ordering_users[:1], failed=[])
    await pause(clients, started, PauseReason.QUOTA_EXHAUSTED, datetime.now(UTC) + timedelta(hours=5))

    again = (await manager_client("start_recommendation_run")).data

    assert again == started | {"done": 1}
    assert await event_types(clients) == [
        "recommendation_run.started",
        "recommendation_run.progressed",
        "recommendation_run.paused",
        "recommendation_run.progressed",
    ]


async def test_a_restart_repeats_the_failed_users(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """Users with a recommendation are not repeated."""
    started = (await manager_client("start_recommendation_run")).data
    await finish(clients, started, done=ordering_users[:1], failed=ordering_users[1:])

    again = (await manager_client("start_recommendation_run")).data

    assert again.pop("started_at") > started.pop("started_at")
    assert again == started | {"done": 1, "request_budget": len(ordering_users) - 1}


async def test_a_complete_run_stays_finished(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """A restart changes nothing and records no event."""
    started = (await manager_client("start_recommendation_run")).data
    await finish(clients, started, done=ordering_users, failed=[])
    finished = await manager_client("recommendation_run", date=started["date"])
    before = await rows(clients)

    again = await manager_client("start_recommendation_run")

    assert (again.data["status"], again.data) == ("finished", finished.data)
    assert await rows(clients) == before


async def test_a_run_is_found_by_its_date(manager_client: ApiClient, ordering_users: list[int]) -> None:
    """The answer is equal to that of the start."""
    started = (await manager_client("start_recommendation_run")).data

    assert (await manager_client("recommendation_run", date=started["date"])).data == started


@pytest.mark.parametrize("reason", [PauseReason.QUOTA_EXHAUSTED, PauseReason.KEYS_DISABLED])
@pytest.mark.parametrize("until", [datetime(2099, 1, 1, 8, tzinfo=UTC), None])
async def test_a_paused_run_has_a_reason(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int], reason: PauseReason, until: datetime | None
) -> None:
    """A paused run has the reason, and the time if it resumes by itself."""
    started = (await manager_client("start_recommendation_run")).data
    await pause(clients, started, reason, until)

    run = (await manager_client("recommendation_run", date=started["date"])).data

    assert run == started | {
        "status": "paused",
        "pause_reason": reason.value,
        "paused_until": until and until.isoformat(),
    }


async def test_a_run_without_gemini_has_a_time_of_resumption(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """While Gemini is unavailable, the run is paused for a limited time."""
    started = (await manager_client("start_recommendation_run")).data
    await pause(clients, started, PauseReason.GEMINI_UNAVAILABLE)

    run = (await manager_client("recommendation_run", date=started["date"])).data

    assert run["pause_reason"] == "gemini_unavailable"
    assert datetime.fromisoformat(run["paused_until"]) > datetime.now(UTC)


async def test_a_finished_run_has_its_results(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """A finished run has the time of its end and the number of failures."""
    started = (await manager_client("start_recommendation_run")).data
    await finish(clients, started, done=ordering_users[:1], failed=ordering_users[1:])

    run = (await manager_client("recommendation_run", date=started["date"])).data

    assert datetime.fromisoformat(run.pop("finished_at")) >= datetime.fromisoformat(run["started_at"])
    assert run == {name: value for name, value in started.items() if name != "finished_at"} | {
        "status": "finished",
        "done": 1,
        "failed": 2,
    }


async def test_a_scheduled_run_has_no_starter(
    manager_client: ApiClient, clients: Clients, ordering_users: list[int]
) -> None:
    """`started_by` is null for a run that no manager started."""
    run = await runs.start_run(clients, datetime.now(UTC))

    assert (await manager_client("recommendation_run", date=run.date)).data["started_by"] is None


async def test_a_date_without_a_run_is_not_found(manager_client: ApiClient, ordering_users: list[int]) -> None:
    """The date before the first run is NOT_FOUND."""
    started = (await manager_client("start_recommendation_run")).data
    before = date.fromisoformat(started["date"]) - timedelta(days=1)

    answer = await manager_client("recommendation_run", date=before)

    assert (answer.code, answer.details) == ("NOT_FOUND", {"resource": "recommendation_run", "id": str(before)})


async def test_unused_keys_have_their_whole_quota(manager_client: ApiClient) -> None:
    """The keys are in the order of their use, each with all of its requests."""
    keys = (await manager_client("gemini_keys")).data["items"]

    unused = {"used": 0, "left": 2, "state": "ready", "is_current": False, "until": None, "last_error": None}
    assert keys == [
        {"id": id_, "project": project, **unused}
        for id_, project in zip(KEY_IDS, ["kitchen", *KEY_IDS[1:]], strict=True)
    ]


@pytest.fixture
async def used_keys(clients: Clients) -> datetime:
    """The first key cools down, the second is exhausted, the third is disabled, the fourth is the current one.

    Returns the earliest end of the cool-down.
    """
    pool = key_pool(clients)
    first = await pool.acquire()
    begin = datetime.now(UTC)
    await pool.cool_down(first, 60, "429: a minute's quota")
    await pool.record_success(await pool.acquire())
    await pool.record_failure(await pool.acquire(), "503: overloaded")
    await pool.disable(await pool.acquire(), "403: PERMISSION_DENIED")
    await pool.acquire()
    return begin + timedelta(seconds=60)


async def test_keys_have_their_usage(manager_client: ApiClient, used_keys: datetime) -> None:
    """Each key has its used and left requests, its state and its last error."""
    keys = (await manager_client("gemini_keys")).data["items"]

    assert [(key["used"], key["left"], key["state"], key["is_current"], key["last_error"]) for key in keys] == [
        (1, 1, "cooling_down", False, "429: a minute's quota"),
        (2, 0, "exhausted", False, "503: overloaded"),
        (1, 0, "disabled", False, "403: PERMISSION_DENIED"),
        (1, 1, "ready", True, None),
    ]


async def test_unavailable_keys_have_a_time(manager_client: ApiClient, used_keys: datetime) -> None:
    """A key cools down for a minute, is exhausted until the quota day ends, or is disabled without a time."""
    keys = (await manager_client("gemini_keys")).data["items"]

    cooling, exhausted, disabled, ready = (key["until"] and datetime.fromisoformat(key["until"]) for key in keys)
    assert (
        used_keys - timedelta(milliseconds=1)
        <= cooling
        <= datetime.now(UTC) + timedelta(seconds=60 + COOL_DOWN_JITTER_S)
    )
    assert exhausted == quota_day_end(quota_day(datetime.now(UTC)))
    assert (disabled, ready) == (None, None)


async def test_keys_come_in_pages(manager_client: ApiClient) -> None:
    """The pages have the keys in the same order, with any page size."""
    walks = {first: await walk(manager_client, "gemini_keys", first=first) for first in (1, 3, 100)}

    assert walks == dict.fromkeys(walks, KEY_IDS)


async def test_skip_leaves_keys_out(manager_client: ApiClient) -> None:
    """The total counts the skipped keys as well."""
    page = (await manager_client("gemini_keys", first=2, skip=1)).data

    assert [key["id"] for key in page["items"]] == KEY_IDS[1:3]
    assert (page["total"], page["page_info"]["has_next_page"]) == (4, True)


async def test_skip_counts_from_the_cursor(manager_client: ApiClient) -> None:
    """`skip` leaves out keys after the cursor."""
    page = (await manager_client("gemini_keys", first=1)).data

    rest = (await manager_client("gemini_keys", after=page["page_info"]["end_cursor"], skip=2)).data

    assert [key["id"] for key in rest["items"]] == KEY_IDS[3:]
    assert rest["page_info"]["has_next_page"] is False


@BOTH
async def test_without_keys_the_list_is_empty(
    kind: type[ApiClient], settings: Settings, manager_token: str, people: None
) -> None:
    """An empty list of keys is not an error."""
    async with calling_api(settings.model_copy(update={"gemini_api_keys": ()})) as api:
        page = (await kind(api).signed(manager_token)("gemini_keys")).data

    assert page == {"items": [], "total": 0, "page_info": {"end_cursor": None, "has_next_page": False}}


@BOTH
async def test_without_redis_keys_are_unavailable(
    kind: type[ApiClient], settings: Settings, manager_token: str, people: None
) -> None:
    """The client may try again."""
    async with calling_api(without_redis(settings)) as api:
        answer = await kind(api).signed(manager_token)("gemini_keys")

    assert (answer.code, answer.details) == ("SERVICE_UNAVAILABLE", {"retry_after": RETRY_AFTER_S})


async def test_the_usage_survives_a_loss_of_redis(
    manager_client: ApiClient, clients: Clients, used_keys: datetime
) -> None:
    """The ledger has the number of requests as well."""
    await clients.redis.flushdb()

    keys = (await manager_client("gemini_keys")).data["items"]

    assert [(key["used"], key["left"]) for key in keys] == [(1, 1), (2, 0), (1, 1), (1, 1)]


@BOTH
async def test_no_key_is_shown(
    kind: type[ApiClient],
    settings: Settings,
    clients: Clients,
    manager_token: str,
    ordering_users: list[int],
    people: None,
    used_keys: datetime,
) -> None:
    """Neither an answer nor the log has a part of a key, whatever fails."""
    with capture_logs() as logged:
        answers = []
        for settings_of_it in (settings, without_redis(settings)):
            async with calling_api(settings_of_it) as api:
                api_client = kind(api).signed(manager_token)
                for operation, arguments in (
                    ("gemini_keys", {}),
                    ("gemini_keys", {"after": "x"}),
                    ("start_recommendation_run", {}),
                    ("recommendations", {"tgid": ordering_users[0]}),
                ):
                    answers.append(await api_client(operation, **arguments))

    shown = "".join(f"{answer.response.text}{answer.response.headers}" for answer in answers) + repr(logged)
    assert "kitchen" in shown
    assert "AIza" not in shown
