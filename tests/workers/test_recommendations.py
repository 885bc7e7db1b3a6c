"""Work on the nightly run, with Gemini over HTTP."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from sqlmodel import col, select

from app.ai.gemini import Gemini
from app.ai.key_pool import quota_day, quota_day_end
from app.clients import Clients, open_clients
from app.dev.gemini.faults import FaultKind
from app.errors import BadInput, NotFound
from app.models import ItemStatus, Language, PauseReason, RecommendationItem, RecommendationRun, RunStatus, User
from app.services import run_items, runs
from app.services.run_items import REFUSALS_MAX
from app.settings import Settings
from app.workers.recommendations import process_batch, recommend_all, recommend_one
from tests.conftest import Lunch, event_types
from tests.gemini_standin import GeminiStandIn
from tests.servers import until
from tests.user_factory import FIRST_ORDERING_USER, add_ordering_user, add_ordering_users
from tests.workers.failures import RefuseRows

ONE, TWO = FIRST_ORDERING_USER, FIRST_ORDERING_USER + 1


@pytest.fixture
async def keyed(settings_with_keys: Settings, clients: Clients) -> AsyncIterator[Clients]:
    """Clients with the stand-in's keys, of two projects."""
    async with open_clients(settings_with_keys) as opened:
        yield opened


@pytest.fixture
async def narrow(settings_with_keys: Settings, clients: Clients) -> AsyncIterator[Clients]:
    """Clients with the same keys, and two requests a day for each project."""
    async with open_clients(settings_with_keys.model_copy(update={"gemini_max_requests_per_key": 2})) as opened:
        yield opened


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


async def start(clients: Clients) -> RecommendationRun:
    """Start or resume the run."""
    return await runs.start_run(clients, now())


async def stored(clients: Clients, run: RecommendationRun) -> RecommendationRun:
    """Return the stored run."""
    async with clients.db() as session:
        return await session.get_one(RecommendationRun, run.date)


async def items(clients: Clients, run: RecommendationRun) -> dict[int, RecommendationItem]:
    """Return the items of a run by the users' Telegram ids, in their order."""
    query = select(RecommendationItem).where(RecommendationItem.date == run.date)
    async with clients.db() as session:
        return {
            item.user_tgid: item for item in await session.scalars(query.order_by(col(RecommendationItem.position)))
        }


async def cached(clients: Clients, tgid: int) -> dict[str, object] | None:
    """Return a user's recommendation in Redis."""
    value = await clients.redis.get(f"recommendations:user:{tgid}")
    return None if value is None else orjson.loads(value)


async def test_each_user_gets_a_recommendation(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """A run makes one request for each user, and is finished."""
    tgids = await add_ordering_users(keyed, lunch, 3)
    run = await start(keyed)

    assert not await process_batch(keyed, gemini, run.date)

    finished = await stored(keyed, run)
    assert (finished.status, finished.done, finished.failed) == (RunStatus.FINISHED, 3, 0)
    assert gemini_standin.requests == 3
    assert all([await cached(keyed, tgid) for tgid in tgids])


async def test_a_recommendation_is_stored_in_redis_for_a_day(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """Redis stores summary, tips, statistics and time as JSON, for a day."""
    await add_ordering_users(keyed, lunch, 1)
    await process_batch(keyed, gemini, (await start(keyed)).date)

    recommendation = await cached(keyed, ONE)

    assert recommendation is not None
    assert set(recommendation) == {"summary", "tips", "stats", "generated_at"}
    assert recommendation["stats"] == {
        "orders_count": 5,
        "categories": {"soup": 0.5, "salad": 0.0, "main": 0.5, "extra": 0.0},
        "unique_dishes": 2,
        "total_dishes_available": 6,
        "favorite_dishes": [{"name": "Borscht", "count": 5}, {"name": "Pelmeni", "count": 5}],
    }
    assert 24 * 3600 - 60 < await keyed.redis.ttl(f"recommendations:user:{ONE}") <= 24 * 3600


async def test_a_recommendation_is_in_the_language_of_the_user(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """The prompt asks for the language of the user."""
    await add_ordering_user(keyed, lunch, ONE, language=Language.RU)

    await process_batch(keyed, gemini, (await start(keyed)).date)

    [request] = gemini_standin.stand_in.requests
    assert request.contents.endswith("Answer in Russian.")


async def test_the_prompt_has_the_available_dishes(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """The prompt has the dishes that are available, and no others."""
    async with keyed.db() as session:
        soup = await session.merge(lunch.other_soup)
        soup.deactivate()
    await add_ordering_users(keyed, lunch, 1)

    await process_batch(keyed, gemini, (await start(keyed)).date)

    [request] = gemini_standin.stand_in.requests
    menu = request.contents.split("</menu>")[0]
    assert all(dish in menu for dish in ("Borscht", "Vinaigrette", "Pelmeni", "Cola"))
    assert "Solyanka" not in menu


async def test_simultaneous_workers_share_the_users(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """Simultaneous workers make one request for each user."""
    await add_ordering_users(keyed, lunch, 25)
    run = await start(keyed)

    await asyncio.gather(*(process_batch(keyed, gemini, run.date) for _ in range(4)))

    assert gemini_standin.requests == 25
    assert (await stored(keyed, run)).status is RunStatus.FINISHED


async def test_exhausted_keys_pause_the_run(
    narrow: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """If all keys are exhausted, the run pauses until the quota day ends, without a request too many."""
    await add_ordering_users(narrow, lunch, 6)
    run = await start(narrow)

    assert not await process_batch(narrow, gemini, run.date)

    paused = await stored(narrow, run)
    assert (paused.status, paused.pause_reason, paused.done) == (RunStatus.PAUSED, PauseReason.QUOTA_EXHAUSTED, 4)
    assert paused.paused_until == quota_day_end(quota_day(now()))
    assert gemini_standin.requests == 4


async def test_the_run_continues_after_the_reset(
    narrow: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """After the reset the run continues with the remaining users."""
    await add_ordering_users(narrow, lunch, 6)
    run = await start(narrow)
    await process_batch(narrow, gemini, run.date)
    more = narrow.settings.model_copy(update={"gemini_max_requests_per_key": 3})
    async with open_clients(more) as wider:
        await runs.reconcile(wider, now())
        await process_batch(wider, gemini, run.date)

    assert (await stored(narrow, run)).status is RunStatus.FINISHED
    assert gemini_standin.requests == 6


async def test_disabled_keys_pause_the_run_without_an_end(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """If Google refuses all keys, the run pauses until an operator acts."""
    await add_ordering_users(keyed, lunch, 2)
    gemini_standin.fails(FaultKind.KEY_INVALID, times=None)
    run = await start(keyed)

    await process_batch(keyed, gemini, run.date)

    paused = await stored(keyed, run)
    assert (paused.status, paused.pause_reason, paused.paused_until) == (
        RunStatus.PAUSED,
        PauseReason.KEYS_DISABLED,
        None,
    )


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.BARE_429])
@pytest.mark.usefixtures("without_waiting")
async def test_an_outage_pauses_the_run(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch, kind: FaultKind
) -> None:
    """If Gemini is unavailable, the run pauses after one request."""
    await add_ordering_users(keyed, lunch, 5)
    gemini_standin.fails(kind, times=None)
    run = await start(keyed)

    await process_batch(keyed, gemini, run.date)

    paused = await stored(keyed, run)
    assert (paused.status, paused.pause_reason) == (RunStatus.PAUSED, PauseReason.GEMINI_UNAVAILABLE)
    assert [item.attempts for item in (await items(keyed, run)).values()] == [1, 0, 0, 0, 0]


async def test_a_refused_request_does_not_affect_other_users(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """A refused request is repeated after the other users, and the run is finished."""
    await add_ordering_users(keyed, lunch, 3)
    gemini_standin.fails(FaultKind.BAD_REQUEST)
    run = await start(keyed)
    for _ in range(2):
        gemini_standin.fails(FaultKind.BAD_REQUEST, times=1)
    await process_batch(keyed, gemini, run.date)

    finished = await stored(keyed, run)
    assert (finished.status, finished.done + finished.failed) == (RunStatus.FINISHED, 3)


@pytest.mark.parametrize("kind", [FaultKind.BAD_REQUEST, FaultKind.INVALID_ANSWER])
async def test_five_consecutive_failures_pause_the_run(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch, kind: FaultKind
) -> None:
    """Five refused requests or invalid answers in a row pause the run."""
    await add_ordering_users(keyed, lunch, 9)
    gemini_standin.fails(kind, times=None)
    run = await start(keyed)

    await process_batch(keyed, gemini, run.date)

    assert (await stored(keyed, run)).pause_reason is PauseReason.GEMINI_UNAVAILABLE
    assert sum(item.attempts for item in (await items(keyed, run)).values()) == 5


@pytest.mark.usefixtures("without_waiting")
async def test_users_get_their_recommendations_after_an_outage(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """After several pauses because of an outage each user gets a recommendation."""
    await add_ordering_users(keyed, lunch, 2)
    gemini_standin.fails(FaultKind.UNAVAILABLE, times=None)
    run = await start(keyed)
    for _ in range(4):
        await process_batch(keyed, gemini, run.date)
        await start(keyed)
    gemini_standin.stand_in.faults.clear()

    await process_batch(keyed, gemini, run.date)

    finished = await stored(keyed, run)
    assert (finished.status, finished.done, finished.failed) == (RunStatus.FINISHED, 2, 0)


@pytest.mark.usefixtures("without_waiting")
async def test_answers_that_are_not_json_pause_the_run(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """Answers that are not JSON pause the run after a few requests."""
    await add_ordering_users(keyed, lunch, 5)
    gemini_standin.fails(FaultKind.BAD_JSON, times=None)
    run = await start(keyed)

    await process_batch(keyed, gemini, run.date)

    assert (await stored(keyed, run)).status is RunStatus.PAUSED
    assert gemini_standin.requests == 4


async def test_a_second_invalid_answer_makes_the_item_fail(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """After two invalid answers the item fails, the old recommendation stays, and the run continues."""
    await add_ordering_users(keyed, lunch, 2)
    await keyed.redis.set(f"recommendations:user:{ONE}", b'{"summary": "of the day before"}')
    gemini_standin.fails(FaultKind.INVALID_ANSWER, times=2)
    run = await start(keyed)

    await process_batch(keyed, gemini, run.date)

    done = await items(keyed, run)
    assert [done[tgid].status for tgid in (ONE, TWO)] == [ItemStatus.FAILED, ItemStatus.DONE]
    assert await cached(keyed, ONE) == {"summary": "of the day before"}
    assert gemini_standin.requests == 3


async def test_a_deactivated_user_gets_no_recommendation(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """A user who is deactivated during the run makes no request."""
    await add_ordering_users(keyed, lunch, 2)
    run = await start(keyed)
    async with keyed.db() as session:
        (await session.get_one(User, ONE)).deactivate()

    await process_batch(keyed, gemini, run.date)

    assert (await items(keyed, run))[ONE].status is ItemStatus.FAILED
    assert gemini_standin.requests == 1


async def test_a_cancelled_worker_releases_its_users(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """A cancelled worker releases its users immediately."""
    await add_ordering_users(keyed, lunch, 3)
    gemini_standin.fails(FaultKind.HANG)
    run = await start(keyed)
    working = asyncio.create_task(process_batch(keyed, gemini, run.date))
    await until(lambda: gemini_standin.requests == 1)

    working.cancel()
    await asyncio.wait({working})

    assert not await process_batch(keyed, gemini, run.date)
    assert (await stored(keyed, run)).done == 3


async def test_a_job_ends_in_time(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """A job without time for another user returns that there is more to do, and releases its users."""
    await add_ordering_users(keyed, lunch, 2)
    run = await start(keyed)

    assert await process_batch(keyed, gemini, run.date, budget_s=1)
    assert (await stored(keyed, run)).done == 0


async def test_an_emptied_redis_costs_no_request_too_many(
    narrow: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """If Redis is emptied during a run, the quota holds and the recommendations are restored."""
    await add_ordering_users(narrow, lunch, 8)
    run = await start(narrow)
    working = asyncio.create_task(process_batch(narrow, gemini, run.date))
    await until(lambda: gemini_standin.requests >= 2)
    await narrow.redis.flushall()
    await working

    await runs.reconcile(narrow, now())

    done = [tgid for tgid, item in (await items(narrow, run)).items() if item.status is ItemStatus.DONE]
    assert gemini_standin.requests == len(done) == 4
    assert all([await cached(narrow, tgid) for tgid in done])


async def test_each_step_is_an_event(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """The start, the progress and the end of a run are events."""
    await add_ordering_users(keyed, lunch, 15)

    await process_batch(keyed, gemini, (await start(keyed)).date)

    first, *between, last = await event_types(keyed)
    assert (first, set(between), last) == (
        "recommendation_run.started",
        {"recommendation_run.progressed"},
        "recommendation_run.finished",
    )


async def test_the_command_finishes_the_run(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """The command works on the run until it is finished, and reports the progress."""
    await add_ordering_users(keyed, lunch, 12)
    progress: list[tuple[int, int]] = []

    run = await recommend_all(keyed, gemini, lambda _run: None, lambda run, left: progress.append((run.done, left)))

    assert (run.status, run.done) == (RunStatus.FINISHED, 12)
    assert progress[-1] == (12, 2 * 195 - 12)
    assert gemini_standin.requests == 12


async def test_the_command_ends_with_a_pause(narrow: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """The command ends when the run is paused until tomorrow."""
    await add_ordering_users(narrow, lunch, 12)

    run = await recommend_all(narrow, gemini, lambda _run: None, lambda _run, _left: None)

    assert (run.status, run.done) == (RunStatus.PAUSED, 4)


async def test_the_command_waits_for_the_leases_of_a_dead_worker(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """The command waits until the leases of a dead worker expire, and works on their users."""
    await add_ordering_users(keyed, lunch, 2)
    run = await start(keyed)
    async with keyed.db() as session:
        await run_items.claim(session, run.date, 1, now(), now() + timedelta(seconds=2))

    assert (await recommend_all(keyed, gemini, lambda _run: None, lambda _run, _left: None)).done == 2


async def test_one_user_can_get_a_recommendation_now(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """One user can get a recommendation now, with fewer orders than a run requires."""
    await add_ordering_user(keyed, lunch, ONE, orders=1)

    made = await recommend_one(keyed, gemini, ONE)

    recommendation = await cached(keyed, ONE)
    assert recommendation is not None
    assert recommendation["summary"] == made.summary


async def test_the_run_skips_a_user_with_a_recommendation(
    keyed: Clients, gemini: Gemini, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """A run makes no second request for a user who got a recommendation by the command."""
    await add_ordering_users(keyed, lunch, 2)
    run = await start(keyed)
    await recommend_one(keyed, gemini, ONE)

    await process_batch(keyed, gemini, run.date)

    assert Counter(item.status for item in (await items(keyed, run)).values()) == {ItemStatus.DONE: 2}
    assert gemini_standin.requests == 2


async def test_some_users_cannot_get_a_recommendation(keyed: Clients, gemini: Gemini) -> None:
    """An unknown user, a deactivated one, and one without orders get no recommendation."""
    async with keyed.db() as session:
        session.add(User(tgid=1, name="Deactivated", is_active=False))
        session.add(User(tgid=2, name="New"))

    with pytest.raises(NotFound):
        await recommend_one(keyed, gemini, 3)
    with pytest.raises(BadInput, match="is deactivated"):
        await recommend_one(keyed, gemini, 1)
    with pytest.raises(BadInput, match="has no orders within the last 30 days"):
        await recommend_one(keyed, gemini, 2)


async def test_different_users_get_different_recommendations(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """The recommendations of two users depend on their statistics."""
    await add_ordering_user(keyed, lunch, ONE, orders=5)
    await add_ordering_user(keyed, lunch, TWO, orders=20)
    await process_batch(keyed, gemini, (await start(keyed)).date)

    one, two = await cached(keyed, ONE), await cached(keyed, TWO)

    assert one is not None
    assert two is not None
    assert one["summary"] != two["summary"]


async def test_a_failure_of_one_user_does_not_stop_the_others(
    keyed: Clients, gemini: Gemini, lunch: Lunch, refuse_rows: RefuseRows
) -> None:
    """A user whose recommendation fails unexpectedly is left out after three attempts; the others get theirs."""
    await add_ordering_users(keyed, lunch, 3)
    run = await start(keyed)
    await refuse_rows(RecommendationItem, user_tgid=ONE, status=ItemStatus.DONE)

    await process_batch(keyed, gemini, run.date)

    finished = await stored(keyed, run)
    assert (finished.status, finished.done, finished.failed) == (RunStatus.FINISHED, 2, 1)
    assert (await items(keyed, run))[ONE].attempts == REFUSALS_MAX
