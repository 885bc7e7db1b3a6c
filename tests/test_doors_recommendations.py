"""What people are recommended, the runs that make it, and the keys that this takes, through both doors."""

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

from app.ai.key_pool import ApiKey, day_of, end_of
from app.ai.recommendation import Recommendation
from app.ai.stats import CategoryShares, FavoriteDish, OrderStats
from app.clients import Clients
from app.errors import RETRY_AFTER_S
from app.models import PauseReason, User
from app.resolvers import run_items, runs
from app.resolvers.gemini_keys import key_pool
from app.resolvers.recommendations import keep
from app.resolvers.run_items import AT_ONCE
from app.resolvers.statistics import order_stats
from app.settings import Settings
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, event_types, free_port
from tests.diners import FIRST_DINER, add_diner, add_diners
from tests.doors import Door, GraphQLDoor, RestDoor, calling_api, rows, walk

BOTH = pytest.mark.parametrize("kind", [GraphQLDoor, RestDoor], ids=["graphql", "rest"])

KEYS = ("kitchen:AIza-one", "AIza-two", "AIza-three", "AIza-four")
"""Each is good for two requests a day."""

KEY_IDS = [ApiKey.of(SecretStr(key)).id for key in KEYS]

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
"""How a recommendation looks, but for the time at which it was made."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keys = tuple(SecretStr(key) for key in KEYS)
    return settings.model_copy(update={"gemini_api_keys": keys, "gemini_max_requests_per_key": 2})


@pytest.fixture
async def made(clients: Clients, people: None) -> Recommendation:
    """Ivan's recommendation of an hour ago. He has ordered nothing since he came."""
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
    await keep(clients, [(USER_TGID, recommendation)], datetime.now(UTC))
    return recommendation


async def put(clients: Clients, tgid: int, value: bytes) -> None:
    """Put something in the place of a recommendation."""
    await clients.redis.set(f"recommendations:user:{tgid}", value)


async def figures(clients: Clients, tgid: int) -> dict[str, Any]:
    """What a person's orders come to now, without a recommendation."""
    async with clients.db() as session:
        stats = (await order_stats(session, [tgid], datetime.now(UTC).date()))[tgid]
    return {"summary": None, "tips": [], "stats": stats.model_dump(mode="json"), "generated_at": None}


def of_recommendations(logged: Sequence[EventDict]) -> list[EventDict]:
    """Leave out what others log beside it."""
    return [entry for entry in logged if entry["event"].startswith("recommendations.")]


def away(settings: Settings) -> Settings:
    """The same without Redis."""
    return settings.model_copy(update={"redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}")})


async def test_a_recommendation_is_what_was_made_last_night(user_door: Door, made: Recommendation) -> None:
    """With the figures of then: those of now say nothing of soup."""
    assert made.generated_at is not None

    answer = await user_door("recommendations", tgid=USER_TGID)

    assert answer.data == {**SHOWN, "generated_at": made.generated_at.isoformat()}


async def test_a_recommendation_may_be_kept_in_graphqls_spelling(
    user_door: Door, clients: Clients, made: Recommendation
) -> None:
    """Whoever writes to Redis may write names as either of the doors does."""
    before = await user_door("recommendations", tgid=USER_TGID)
    snake_case = made.model_dump_json()
    camel_case = re.sub(r'_([a-z])(?=\w*":)', lambda match: match[1].upper(), snake_case)
    await put(clients, USER_TGID, camel_case.encode())

    answer = await user_door("recommendations", tgid=USER_TGID)

    assert camel_case != snake_case
    assert answer == before


async def test_a_recommendation_is_for_a_day(user_door: Door, clients: Clients, made: Recommendation) -> None:
    """One that is older is none."""
    await clients.redis.flushdb()
    old = made.model_copy(update={"generated_at": datetime.now(UTC) - timedelta(hours=24, seconds=1)})
    await keep(clients, [(USER_TGID, old)], datetime.now(UTC))

    assert (await user_door("recommendations", tgid=USER_TGID)).data["summary"] is None


async def test_without_a_recommendation_there_are_figures(manager_door: Door, clients: Clients, lunch: Lunch) -> None:
    """Those of a person's orders until now, and nothing that Gemini would have said."""
    await add_diner(clients, lunch, FIRST_DINER, orders=6, cancelled=1)

    answer = await manager_door("recommendations", tgid=FIRST_DINER)

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


async def test_who_has_ordered_nothing_has_figures_of_nothing(user_door: Door, lunch: Lunch) -> None:
    """All of them are 0, but for the number of dishes that there are."""
    stats = (await user_door("recommendations", tgid=USER_TGID)).data["stats"]

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
async def test_what_cannot_be_read_is_no_recommendation(user_door: Door, clients: Clients, value: bytes) -> None:
    """The figures of now come instead, as if nothing were there."""
    await put(clients, USER_TGID, value)

    assert (await user_door("recommendations", tgid=USER_TGID)).data == await figures(clients, USER_TGID)


@pytest.mark.parametrize("time", ["2026-03-04T03:00:00", "2026-03-04T05:00:00+02:00", "2026-03-04T03:00:00Z"])
async def test_times_are_utc(user_door: Door, clients: Clients, time: str) -> None:
    """Whatever has written them into Redis."""
    await put(clients, USER_TGID, b'{"stats": {}, "generated_at": "%s"}' % time.encode())

    assert (await user_door("recommendations", tgid=USER_TGID)).data["generated_at"] == "2026-03-04T03:00:00+00:00"


async def test_what_cannot_be_read_is_logged(user_door: Door, clients: Clients) -> None:
    """Somebody should know; but not what a person eats."""
    await put(clients, USER_TGID, b'{"summary": "You like soup."}')

    with capture_logs() as logged:
        await user_door("recommendations", tgid=USER_TGID)

    assert of_recommendations(logged) == [
        {"event": "recommendations.unreadable", "log_level": "warning", "tgid": USER_TGID, "errors": 1},
    ]


async def test_what_is_of_another_kind_is_no_recommendation(user_door: Door, clients: Clients) -> None:
    """Redis refuses to read a list as a text."""
    await clients.redis.lpush(f"recommendations:user:{USER_TGID}", b"soup")  # type: ignore[misc]

    assert (await user_door("recommendations", tgid=USER_TGID)).data == await figures(clients, USER_TGID)


@BOTH
async def test_without_redis_there_are_figures(
    kind: type[Door], settings: Settings, clients: Clients, user_token: str, made: Recommendation
) -> None:
    """That it is away is no error for who asks."""
    async with calling_api(away(settings)) as api:
        answer = await kind(api).signed(user_token)("recommendations", tgid=USER_TGID)

    assert answer.data == await figures(clients, USER_TGID)


@BOTH
async def test_that_redis_is_away_is_logged(
    kind: type[Door], settings: Settings, user_token: str, people: None
) -> None:
    """It is one for who runs it."""
    async with calling_api(away(settings)) as api:
        with capture_logs() as logged:
            await kind(api).signed(user_token)("recommendations", tgid=USER_TGID)

    assert [entry["event"] for entry in of_recommendations(logged)] == ["recommendations.not_read"]


async def test_managers_see_what_others_are_recommended(
    user_door: Door, manager_door: Door, made: Recommendation
) -> None:
    """What a manager sees is what the person sees."""
    own = await user_door("recommendations", tgid=USER_TGID)

    assert await manager_door("recommendations", tgid=USER_TGID) == own


@pytest.mark.parametrize("tgid", [MANAGER_TGID, 999])
async def test_users_see_only_their_own(user_door: Door, made: Recommendation, tgid: int) -> None:
    """Whether somebody else is there at all they are not told either."""
    assert (await user_door("recommendations", tgid=tgid)).code == "FORBIDDEN"


async def test_somebody_unknown_is_not_found(manager_door: Door) -> None:
    """A manager who mistypes is told so."""
    answer = await manager_door("recommendations", tgid=999)

    assert (answer.code, answer.details) == ("NOT_FOUND", {"resource": "user", "id": "999"})


async def test_who_is_switched_off_sees_nothing(user_door: Door, clients: Clients, made: Recommendation) -> None:
    """Not even what is there."""
    async with clients.db() as session:
        await session.execute(sa.update(User).where(sa.column("tgid") == USER_TGID).values(is_active=False))

    assert (await user_door("recommendations", tgid=USER_TGID)).code == "FORBIDDEN"


async def test_of_who_is_switched_off_managers_see_figures(manager_door: Door, clients: Clients, lunch: Lunch) -> None:
    """They were somebody's orders all the same."""
    await add_diner(clients, lunch, FIRST_DINER, is_active=False)

    assert (await manager_door("recommendations", tgid=FIRST_DINER)).data == await figures(clients, FIRST_DINER)


@pytest.fixture
async def diners(clients: Clients, lunch: Lunch) -> list[int]:
    """Three who are to get a recommendation."""
    return await add_diners(clients, lunch, 3)


async def finish(clients: Clients, started: Mapping[str, Any], done: list[int], failed: list[int]) -> None:
    """Work on a run, as the workers do."""
    day, now = date.fromisoformat(started["date"]), datetime.now(UTC)
    async with clients.db() as session:
        for tgid in done:
            await run_items.done(session, day, tgid, Recommendation(stats=OrderStats(), generated_at=now))
        for tgid in failed:
            await run_items.not_done(session, day, tgid, "it does not fit", AT_ONCE)
        await runs.take_stock(session, day, now)


async def pause(
    clients: Clients, started: Mapping[str, Any], reason: PauseReason, until: datetime | None = None
) -> None:
    async with clients.db() as session:
        await runs.pause(session, date.fromisoformat(started["date"]), reason, datetime.now(UTC), until)


async def test_a_manager_starts_a_run(manager_door: Door, diners: list[int]) -> None:
    """The answer says for how many it is, who did it, and that it is going on."""
    begin = datetime.now(UTC)

    run = (await manager_door("start_recommendation_run")).data

    assert begin <= datetime.fromisoformat(run.pop("started_at")) <= datetime.now(UTC)
    assert begin.date() <= date.fromisoformat(run.pop("date")) <= datetime.now(UTC).date()
    assert run == {
        "status": "running",
        "total": 3,
        "done": 0,
        "failed": 0,
        "keys_suffice_for": 3,
        "started_by": MANAGER_TGID,
        "finished_at": None,
        "paused_until": None,
        "pause_reason": None,
    }


async def test_everybody_is_told_that_a_run_has_begun(manager_door: Door, clients: Clients, diners: list[int]) -> None:
    """One event, however often it is started."""
    for _ in range(2):
        await manager_door("start_recommendation_run")

    assert await event_types(clients) == ["recommendation_run.started"]


async def test_workers_are_woken_by_a_start(manager_door: Door, clients: Clients, diners: list[int]) -> None:
    """Nobody waits for the next minute."""
    started = (await manager_door("start_recommendation_run")).data

    jobs = await clients.jobs.queued_jobs()
    assert [(job.function, *job.args) for job in jobs] == [("recommend", started["date"])] * len(diners)


async def test_a_run_says_for_how_many_the_keys_suffice(
    manager_door: Door, clients: Clients, diners: list[int]
) -> None:
    """Two requests are left of the last key for three people."""
    pool = key_pool(clients)
    for _ in KEYS[1:]:
        await pool.set_aside(await pool.acquire(), "403")

    assert (await manager_door("start_recommendation_run")).data["keys_suffice_for"] == 2


async def test_a_run_for_nobody_is_finished(manager_door: Door) -> None:
    """That is no error."""
    run = (await manager_door("start_recommendation_run")).data

    assert (run["status"], run["total"], run["finished_at"]) == ("finished", 0, run["started_at"])


@BOTH
@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
async def test_a_run_is_for_the_day_that_it_is_there(
    kind: type[Door], settings: Settings, manager_token: str, people: None, zone: str
) -> None:
    """In LUNCH_TIMEZONE: between these two it is always another day."""
    there = ZoneInfo(zone)
    begin = datetime.now(there).date()
    async with calling_api(settings.model_copy(update={"lunch_timezone": there})) as api:
        run = (await kind(api).signed(manager_token)("start_recommendation_run")).data

    assert begin <= date.fromisoformat(run["date"]) <= datetime.now(there).date()


@BOTH
async def test_without_keys_no_run_is_started(
    kind: type[Door], settings: Settings, clients: Clients, manager_token: str, people: None
) -> None:
    """The refusal says which setting to look at, and nothing has changed."""
    before = await rows(clients)
    async with calling_api(settings.model_copy(update={"gemini_api_keys": ()})) as api:
        answer = await kind(api).signed(manager_token)("start_recommendation_run")

    assert (answer.code, answer.details) == ("SERVICE_UNAVAILABLE", {"retry_after": RETRY_AFTER_S})
    assert "GEMINI_API_KEYS" in answer.response.text
    assert await rows(clients) == before


async def test_without_keys_rest_says_when_to_try_again(settings: Settings, manager_token: str, people: None) -> None:
    """503 comes with Retry-After."""
    async with calling_api(settings.model_copy(update={"gemini_api_keys": ()})) as api:
        response = (await RestDoor(api).signed(manager_token)("start_recommendation_run")).response

    assert (response.status_code, response.headers["retry-after"]) == (503, str(RETRY_AFTER_S))


@BOTH
async def test_without_redis_no_run_is_started(
    kind: type[Door], settings: Settings, clients: Clients, manager_token: str, diners: list[int], people: None
) -> None:
    """Nobody could say what is left of the keys; it is worth trying again, and nothing has changed."""
    before = await rows(clients)
    async with calling_api(away(settings)) as api:
        answer = await kind(api).signed(manager_token)("start_recommendation_run")

    assert (answer.code, answer.details) == ("SERVICE_UNAVAILABLE", {"retry_after": RETRY_AFTER_S})
    assert await rows(clients) == before


async def test_a_run_that_goes_on_is_not_started_again(manager_door: Door, clients: Clients, diners: list[int]) -> None:
    """Whoever presses the button twice gets the run that is there, as far as it has come."""
    started = (await manager_door("start_recommendation_run")).data
    await finish(clients, started, done=diners[:1], failed=diners[1:2])

    again = (await manager_door("start_recommendation_run")).data

    assert again == started | {"done": 1, "failed": 1}


async def test_two_who_start_a_run_at_once_start_one(manager_door: Door, clients: Clients, diners: list[int]) -> None:
    """Both get the same."""
    first, second = await asyncio.gather(*(manager_door("start_recommendation_run") for _ in range(2)))

    assert first.data == second.data
    assert await event_types(clients) == ["recommendation_run.started"]


async def test_a_run_that_is_paused_goes_on(manager_door: Door, clients: Clients, diners: list[int]) -> None:
    """At once, whatever it waited for; those who started it and how far it has come stay."""
    started = (await manager_door("start_recommendation_run")).data
    await finish(clients, started, done=diners[:1], failed=[])
    await pause(clients, started, PauseReason.KEYS_RESTING, datetime.now(UTC) + timedelta(hours=5))

    again = (await manager_door("start_recommendation_run")).data

    assert again == started | {"done": 1}
    assert await event_types(clients) == [
        "recommendation_run.started",
        "recommendation_run.progressed",
        "recommendation_run.paused",
        "recommendation_run.progressed",
    ]


async def test_a_finished_run_does_those_who_failed_again(
    manager_door: Door, clients: Clients, diners: list[int]
) -> None:
    """Who has a recommendation is not done again."""
    started = (await manager_door("start_recommendation_run")).data
    await finish(clients, started, done=diners[:1], failed=diners[1:])

    again = (await manager_door("start_recommendation_run")).data

    assert again.pop("started_at") > started.pop("started_at")
    assert again == started | {"done": 1, "keys_suffice_for": len(diners) - 1}


async def test_a_finished_run_that_has_done_everybody_stays_finished(
    manager_door: Door, clients: Clients, diners: list[int]
) -> None:
    """There is nothing to start, and nothing to tell."""
    started = (await manager_door("start_recommendation_run")).data
    await finish(clients, started, done=diners, failed=[])
    finished = await manager_door("recommendation_run", date=started["date"])
    before = await rows(clients)

    again = await manager_door("start_recommendation_run")

    assert (again.data["status"], again.data) == ("finished", finished.data)
    assert await rows(clients) == before


async def test_a_run_that_was_started_is_found(manager_door: Door, diners: list[int]) -> None:
    """By its date, as it was answered."""
    started = (await manager_door("start_recommendation_run")).data

    assert (await manager_door("recommendation_run", date=started["date"])).data == started


@pytest.mark.parametrize("reason", [PauseReason.KEYS_RESTING, PauseReason.KEYS_SET_ASIDE])
@pytest.mark.parametrize("until", [datetime(2099, 1, 1, 8, tzinfo=UTC), None])
async def test_a_run_says_what_it_waits_for(
    manager_door: Door, clients: Clients, diners: list[int], reason: PauseReason, until: datetime | None
) -> None:
    """And until when, if it goes on by itself."""
    started = (await manager_door("start_recommendation_run")).data
    await pause(clients, started, reason, until)

    run = (await manager_door("recommendation_run", date=started["date"])).data

    assert run == started | {
        "status": "paused",
        "pause_reason": reason.value,
        "paused_until": until and until.isoformat(),
    }


async def test_a_run_that_waits_for_gemini_says_until_when(
    manager_door: Door, clients: Clients, diners: list[int]
) -> None:
    """It tries again after a while."""
    started = (await manager_door("start_recommendation_run")).data
    await pause(clients, started, PauseReason.GEMINI_AWAY)

    run = (await manager_door("recommendation_run", date=started["date"])).data

    assert run["pause_reason"] == "gemini_away"
    assert datetime.fromisoformat(run["paused_until"]) > datetime.now(UTC)


async def test_a_finished_run_says_how_it_ended(manager_door: Door, clients: Clients, diners: list[int]) -> None:
    """When, and with how many failures."""
    started = (await manager_door("start_recommendation_run")).data
    await finish(clients, started, done=diners[:1], failed=diners[1:])

    run = (await manager_door("recommendation_run", date=started["date"])).data

    assert datetime.fromisoformat(run.pop("finished_at")) >= datetime.fromisoformat(run["started_at"])
    assert run == {name: value for name, value in started.items() if name != "finished_at"} | {
        "status": "finished",
        "done": 1,
        "failed": 2,
    }


async def test_what_the_clock_has_started_was_started_by_nobody(
    manager_door: Door, clients: Clients, diners: list[int]
) -> None:
    """Nor was what an event has."""
    run = await runs.start(clients, datetime.now(UTC))

    assert (await manager_door("recommendation_run", date=run.date)).data["started_by"] is None


async def test_a_date_without_a_run_is_not_found(manager_door: Door, diners: list[int]) -> None:
    """The day before the first, say."""
    started = (await manager_door("start_recommendation_run")).data
    before = date.fromisoformat(started["date"]) - timedelta(days=1)

    answer = await manager_door("recommendation_run", date=before)

    assert (answer.code, answer.details) == ("NOT_FOUND", {"resource": "recommendation_run", "id": str(before)})


async def test_keys_that_nobody_has_used(manager_door: Door) -> None:
    """They come in the order in which they are used up, each with all that it is good for."""
    keys = (await manager_door("gemini_keys")).data["items"]

    unused = {"used": 0, "left": 2, "state": "ready", "is_current": False, "until": None, "last_error": None}
    assert keys == [
        {"id": id_, "project": project, **unused}
        for id_, project in zip(KEY_IDS, ["kitchen", *KEY_IDS[1:]], strict=True)
    ]


@pytest.fixture
async def worn(clients: Clients) -> datetime:
    """The first key cools down, not before the time that is given here; the second is used up, the third is set aside.

    The fourth is the current one.
    """
    pool = key_pool(clients)
    first = await pool.acquire()
    begin = datetime.now(UTC)
    await pool.rest(first, 60, "429: a minute's quota")
    await pool.went_well(await pool.acquire())
    await pool.failed(await pool.acquire(), "503: overloaded")
    await pool.set_aside(await pool.acquire(), "403: PERMISSION_DENIED")
    await pool.acquire()
    return begin + timedelta(seconds=60)


async def test_keys_say_how_they_stand(manager_door: Door, worn: datetime) -> None:
    """What each was used for, is still good for, and what was wrong with it."""
    keys = (await manager_door("gemini_keys")).data["items"]

    assert [(key["used"], key["left"], key["state"], key["is_current"], key["last_error"]) for key in keys] == [
        (1, 1, "cooling_down", False, "429: a minute's quota"),
        (2, 0, "exhausted", False, "503: overloaded"),
        (1, 0, "set_aside", False, "403: PERMISSION_DENIED"),
        (1, 1, "ready", True, None),
    ]


async def test_keys_say_until_when_they_rest(manager_door: Door, worn: datetime) -> None:
    """For a minute, until Google's day ends, or until somebody brings them back."""
    keys = (await manager_door("gemini_keys")).data["items"]

    cooling, exhausted, set_aside, ready = (key["until"] and datetime.fromisoformat(key["until"]) for key in keys)
    assert worn - timedelta(milliseconds=1) <= cooling <= datetime.now(UTC) + timedelta(seconds=60)
    assert exhausted == end_of(day_of(datetime.now(UTC)))
    assert (set_aside, ready) == (None, None)


async def test_keys_come_in_pages(manager_door: Door) -> None:
    """Of whatever size, in the same order."""
    walks = {first: await walk(manager_door, "gemini_keys", first=first) for first in (1, 3, 100)}

    assert walks == dict.fromkeys(walks, KEY_IDS)


async def test_keys_may_be_skipped(manager_door: Door) -> None:
    """The total counts them all the same."""
    page = (await manager_door("gemini_keys", first=2, skip=1)).data

    assert [key["id"] for key in page["items"]] == KEY_IDS[1:3]
    assert (page["total"], page["page_info"]["has_next_page"]) == (4, True)


async def test_keys_may_be_skipped_after_a_cursor(manager_door: Door) -> None:
    """Counted from there."""
    page = (await manager_door("gemini_keys", first=1)).data

    rest = (await manager_door("gemini_keys", after=page["page_info"]["end_cursor"], skip=2)).data

    assert [key["id"] for key in rest["items"]] == KEY_IDS[3:]
    assert rest["page_info"]["has_next_page"] is False


@BOTH
async def test_without_keys_there_are_none(
    kind: type[Door], settings: Settings, manager_token: str, people: None
) -> None:
    """That is no error."""
    async with calling_api(settings.model_copy(update={"gemini_api_keys": ()})) as api:
        page = (await kind(api).signed(manager_token)("gemini_keys")).data

    assert page == {"items": [], "total": 0, "page_info": {"end_cursor": None, "has_next_page": False}}


@BOTH
async def test_without_redis_nobody_knows_how_keys_stand(
    kind: type[Door], settings: Settings, manager_token: str, people: None
) -> None:
    """It is worth trying again."""
    async with calling_api(away(settings)) as api:
        answer = await kind(api).signed(manager_token)("gemini_keys")

    assert (answer.code, answer.details) == ("SERVICE_UNAVAILABLE", {"retry_after": RETRY_AFTER_S})


async def test_what_redis_has_lost_of_keys_is_known(manager_door: Door, clients: Clients, worn: datetime) -> None:
    """How much they were used is noted elsewhere, too."""
    await clients.redis.flushdb()

    keys = (await manager_door("gemini_keys")).data["items"]

    assert [(key["used"], key["left"]) for key in keys] == [(1, 1), (2, 0), (1, 1), (1, 1)]


@BOTH
async def test_nobody_sees_a_key(
    kind: type[Door],
    settings: Settings,
    clients: Clients,
    manager_token: str,
    diners: list[int],
    people: None,
    worn: datetime,
) -> None:
    """Neither in an answer nor in the log is there any part of one, whatever goes wrong."""
    with capture_logs() as logged:
        answers = []
        for settings_of_it in (settings, away(settings)):
            async with calling_api(settings_of_it) as api:
                door = kind(api).signed(manager_token)
                for operation, arguments in (
                    ("gemini_keys", {}),
                    ("gemini_keys", {"after": "x"}),
                    ("start_recommendation_run", {}),
                    ("recommendations", {"tgid": diners[0]}),
                ):
                    answers.append(await door(operation, **arguments))

    told = "".join(f"{answer.response.text}{answer.response.headers}" for answer in answers) + repr(logged)
    assert "kitchen" in told
    assert "AIza" not in told
