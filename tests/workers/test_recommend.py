"""Working on the nightly run, with Gemini over HTTP: everybody gets a recommendation once, whatever happens."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from sqlmodel import col, select

from app.ai.gemini import Gemini
from app.ai.key_pool import day_of, end_of
from app.clients import Clients, open_clients
from app.dev.gemini.faults import FaultKind
from app.errors import BadInput, NotFound
from app.models import (
    ItemStatus,
    Language,
    PauseReason,
    RecommendationItem,
    RecommendationRun,
    RunStatus,
    User,
)
from app.resolvers import run_items, runs
from app.settings import Settings
from app.workers.recommend import recommend_all, recommend_one, work
from tests.conftest import Lunch, event_types
from tests.diners import FIRST_DINER, add_diner, add_diners
from tests.google import Google
from tests.servers import until

ONE, TWO = FIRST_DINER, FIRST_DINER + 1


@pytest.fixture
async def keyed(settings_with_keys: Settings, clients: Clients) -> AsyncIterator[Clients]:
    """Clients with the stand-in's keys, of two projects."""
    async with open_clients(settings_with_keys) as opened:
        yield opened


@pytest.fixture
async def narrow(settings_with_keys: Settings, clients: Clients) -> AsyncIterator[Clients]:
    """The same, and each project is good for two requests a day."""
    async with open_clients(settings_with_keys.model_copy(update={"gemini_max_requests_per_key": 2})) as opened:
        yield opened


def now() -> datetime:
    return datetime.now(UTC)


async def start(clients: Clients) -> RecommendationRun:
    return await runs.start(clients, now())


async def stored(clients: Clients, run: RecommendationRun) -> RecommendationRun:
    async with clients.db() as session:
        return await session.get_one(RecommendationRun, run.date)


async def items(clients: Clients, run: RecommendationRun) -> dict[int, RecommendationItem]:
    query = select(RecommendationItem).where(RecommendationItem.date == run.date)
    async with clients.db() as session:
        return {it.user_tgid: it for it in await session.scalars(query.order_by(col(RecommendationItem.position)))}


async def cached(clients: Clients, tgid: int) -> dict[str, object] | None:
    value = await clients.redis.get(f"recommendations:user:{tgid}")
    return None if value is None else orjson.loads(value)


async def test_everybody_gets_a_recommendation(keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch) -> None:
    """One request each, and the run is finished."""
    tgids = await add_diners(keyed, lunch, 3)
    run = await start(keyed)

    assert not await work(keyed, gemini, run.date)

    finished = await stored(keyed, run)
    assert (finished.status, finished.done, finished.failed) == (RunStatus.FINISHED, 3, 0)
    assert google.requests == 3
    assert all([await cached(keyed, tgid) for tgid in tgids])


async def test_what_is_kept(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """Summary, tips, figures and when, as JSON, for a day."""
    await add_diners(keyed, lunch, 1)
    await work(keyed, gemini, (await start(keyed)).date)

    kept = await cached(keyed, ONE)

    assert kept is not None
    assert set(kept) == {"summary", "tips", "stats", "generated_at"}
    assert kept["stats"] == {
        "orders_count": 5,
        "categories": {"soup": 0.5, "salad": 0.0, "main": 0.5, "extra": 0.0},
        "unique_dishes": 2,
        "total_dishes_available": 6,
        "favorite_dishes": [{"name": "Borscht", "count": 5}, {"name": "Pelmeni", "count": 5}],
    }
    assert 24 * 3600 - 60 < await keyed.redis.ttl(f"recommendations:user:{ONE}") <= 24 * 3600


async def test_it_is_in_the_persons_language(keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch) -> None:
    """As they use Telegram."""
    await add_diner(keyed, lunch, ONE, language=Language.RU)

    await work(keyed, gemini, (await start(keyed)).date)

    [request] = google.stand_in.requests
    assert request.contents.endswith("Answer in Russian.")


async def test_gemini_knows_what_one_can_order(keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch) -> None:
    """Tips can name real dishes; one that is not available is not among them."""
    async with keyed.db() as session:
        soup = await session.merge(lunch.other_soup)
        soup.switch_off()
    await add_diners(keyed, lunch, 1)

    await work(keyed, gemini, (await start(keyed)).date)

    [request] = google.stand_in.requests
    menu = request.contents.split("</menu>")[0]
    assert all(dish in menu for dish in ("Borscht", "Vinaigrette", "Pelmeni", "Cola"))
    assert "Solyanka" not in menu


async def test_two_workers_share_the_work(keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch) -> None:
    """Nobody is asked for twice."""
    await add_diners(keyed, lunch, 25)
    run = await start(keyed)

    await asyncio.gather(*(work(keyed, gemini, run.date) for _ in range(4)))

    assert google.requests == 25
    assert (await stored(keyed, run)).status is RunStatus.FINISHED


async def test_when_the_keys_are_used_up_the_run_pauses(
    narrow: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """Until Google's day ends. Not one request is made that is not there."""
    await add_diners(narrow, lunch, 6)
    run = await start(narrow)

    assert not await work(narrow, gemini, run.date)

    paused = await stored(narrow, run)
    assert (paused.status, paused.pause_reason, paused.done) == (RunStatus.PAUSED, PauseReason.KEYS_RESTING, 4)
    assert paused.paused_until == end_of(day_of(now()))
    assert google.requests == 4


async def test_after_the_reset_the_run_goes_on(narrow: Clients, gemini: Gemini, google: Google, lunch: Lunch) -> None:
    """With those who are left: users who are done are not done again."""
    await add_diners(narrow, lunch, 6)
    run = await start(narrow)
    await work(narrow, gemini, run.date)
    more = narrow.settings.model_copy(update={"gemini_max_requests_per_key": 3})
    async with open_clients(more) as wider:
        await runs.ensure(wider, now())
        await work(wider, gemini, run.date)

    assert (await stored(narrow, run)).status is RunStatus.FINISHED
    assert google.requests == 6


async def test_when_google_takes_no_key_the_run_waits_for_somebody(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """Nobody knows until when."""
    await add_diners(keyed, lunch, 2)
    google.fails(FaultKind.KEY_INVALID, times=None)
    run = await start(keyed)

    await work(keyed, gemini, run.date)

    paused = await stored(keyed, run)
    assert (paused.status, paused.pause_reason, paused.paused_until) == (
        RunStatus.PAUSED,
        PauseReason.KEYS_SET_ASIDE,
        None,
    )


@pytest.mark.parametrize("kind", [FaultKind.UNAVAILABLE, FaultKind.BARE_429])
async def test_when_gemini_is_away_the_run_pauses(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch, kind: FaultKind
) -> None:
    """Not everybody's request is wasted on it."""
    await add_diners(keyed, lunch, 5)
    google.fails(kind, times=None)
    run = await start(keyed)

    await work(keyed, gemini, run.date)

    paused = await stored(keyed, run)
    assert (paused.status, paused.pause_reason) == (RunStatus.PAUSED, PauseReason.GEMINI_AWAY)
    assert [it.attempts for it in (await items(keyed, run)).values()] == [1, 0, 0, 0, 0]


async def test_one_whom_gemini_refuses_stops_nobody(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """The others are done, then it is tried again, and at the third time left."""
    await add_diners(keyed, lunch, 3)
    google.fails(FaultKind.BAD_REQUEST)
    run = await start(keyed)
    for _ in range(2):
        google.fails(FaultKind.BAD_REQUEST, times=1)
    await work(keyed, gemini, run.date)

    finished = await stored(keyed, run)
    assert (finished.status, finished.done + finished.failed) == (RunStatus.FINISHED, 3)


@pytest.mark.parametrize("kind", [FaultKind.BAD_REQUEST, FaultKind.INVALID_ANSWER])
async def test_when_it_is_not_about_people_the_run_pauses(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch, kind: FaultKind
) -> None:
    """Five in a row whom Gemini refuses, or whose answer does not fit: no more requests are spent on it."""
    await add_diners(keyed, lunch, 9)
    google.fails(kind, times=None)
    run = await start(keyed)

    await work(keyed, gemini, run.date)

    assert (await stored(keyed, run)).pause_reason is PauseReason.GEMINI_AWAY
    assert sum(it.attempts for it in (await items(keyed, run)).values()) == 5


async def test_a_long_outage_costs_nobody_anything(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """However often Gemini was away: once it is back everybody gets theirs."""
    await add_diners(keyed, lunch, 2)
    google.fails(FaultKind.UNAVAILABLE, times=None)
    run = await start(keyed)
    for _ in range(4):
        await work(keyed, gemini, run.date)
        await start(keyed)
    google.stand_in.faults.clear()

    await work(keyed, gemini, run.date)

    finished = await stored(keyed, run)
    assert (finished.status, finished.done, finished.failed) == (RunStatus.FINISHED, 2, 0)


async def test_an_answer_that_nobody_expects_pauses_the_run(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """What is no JSON costs a few requests, and not the day's."""
    await add_diners(keyed, lunch, 5)
    google.fails(FaultKind.BAD_JSON, times=None)
    run = await start(keyed)

    await work(keyed, gemini, run.date)

    assert (await stored(keyed, run)).status is RunStatus.PAUSED
    assert google.requests == 4


async def test_an_answer_that_does_not_fit_is_left_out(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """It is asked for twice, counted, and the others go on. The old recommendation stays."""
    await add_diners(keyed, lunch, 2)
    await keyed.redis.set(f"recommendations:user:{ONE}", b'{"summary": "of yesterday"}')
    google.fails(FaultKind.INVALID_ANSWER, times=2)
    run = await start(keyed)

    await work(keyed, gemini, run.date)

    done = await items(keyed, run)
    assert [done[tgid].status for tgid in (ONE, TWO)] == [ItemStatus.FAILED, ItemStatus.DONE]
    assert await cached(keyed, ONE) == {"summary": "of yesterday"}
    assert google.requests == 3


async def test_who_was_switched_off_meanwhile_gets_none(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """No request is spent on them."""
    await add_diners(keyed, lunch, 2)
    run = await start(keyed)
    async with keyed.db() as session:
        (await session.get_one(User, ONE)).switch_off()

    await work(keyed, gemini, run.date)

    assert (await items(keyed, run))[ONE].status is ItemStatus.FAILED
    assert google.requests == 1


async def test_work_that_is_broken_off_is_given_back(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """A worker that is told to stop leaves to others at once what it had in hand."""
    await add_diners(keyed, lunch, 3)
    google.fails(FaultKind.HANG)
    run = await start(keyed)
    working = asyncio.create_task(work(keyed, gemini, run.date))
    await until(lambda: google.requests == 1)

    working.cancel()
    await asyncio.wait({working})

    assert not await work(keyed, gemini, run.date)
    assert (await stored(keyed, run)).done == 3


async def test_a_job_ends_in_time(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """With too little time for another person it says that there is more to do, and leaves them to others."""
    await add_diners(keyed, lunch, 2)
    run = await start(keyed)

    assert await work(keyed, gemini, run.date, within_s=1)
    assert (await stored(keyed, run)).done == 0


async def test_redis_is_emptied_in_the_middle(narrow: Clients, gemini: Gemini, google: Google, lunch: Lunch) -> None:
    """No request more is made than the keys are good for, and what was made is there again."""
    await add_diners(narrow, lunch, 8)
    run = await start(narrow)
    working = asyncio.create_task(work(narrow, gemini, run.date))
    await until(lambda: google.requests >= 2)
    await narrow.redis.flushall()
    await working

    await runs.ensure(narrow, now())

    done = [tgid for tgid, it in (await items(narrow, run)).items() if it.status is ItemStatus.DONE]
    assert google.requests == len(done) == 4
    assert all([await cached(narrow, tgid) for tgid in done])


async def test_each_step_is_told(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """Dashboards see it begin, go on and end."""
    await add_diners(keyed, lunch, 15)

    await work(keyed, gemini, (await start(keyed)).date)

    first, *between, last = await event_types(keyed)
    assert (first, set(between), last) == (
        "recommendation_run.started",
        {"recommendation_run.progressed"},
        "recommendation_run.finished",
    )


async def test_the_command_works_on_it_until_it_is_finished(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """It needs no worker, and says how far it is."""
    await add_diners(keyed, lunch, 12)
    shown: list[tuple[int, int]] = []

    run = await recommend_all(keyed, gemini, lambda _run: None, lambda run, left: shown.append((run.done, left)))

    assert (run.status, run.done) == (RunStatus.FINISHED, 12)
    assert shown[-1] == (12, 2 * 195 - 12)
    assert google.requests == 12


async def test_the_command_ends_with_a_pause(narrow: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """It does not wait for tomorrow."""
    await add_diners(narrow, lunch, 12)

    run = await recommend_all(narrow, gemini, lambda _run: None, lambda _run, _left: None)

    assert (run.status, run.done) == (RunStatus.PAUSED, 4)


async def test_people_of_a_dead_worker_are_waited_for(
    keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch
) -> None:
    """The command does not leave before their lease is over and they are done."""
    await add_diners(keyed, lunch, 2)
    run = await start(keyed)
    async with keyed.db() as session:
        await run_items.claim(session, run.date, 1, now(), timedelta(seconds=2))

    assert (await recommend_all(keyed, gemini, lambda _run: None, lambda _run, _left: None)).done == 2


async def test_one_person(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """By hand, with whatever orders there are."""
    await add_diner(keyed, lunch, ONE, orders=1)

    made = await recommend_one(keyed, gemini, ONE)

    kept = await cached(keyed, ONE)
    assert kept is not None
    assert kept["summary"] == made.summary


async def test_one_person_of_a_run(keyed: Clients, gemini: Gemini, google: Google, lunch: Lunch) -> None:
    """Who was done by hand is not done again by the run."""
    await add_diners(keyed, lunch, 2)
    run = await start(keyed)
    await recommend_one(keyed, gemini, ONE)

    await work(keyed, gemini, run.date)

    assert Counter(it.status for it in (await items(keyed, run)).values()) == {ItemStatus.DONE: 2}
    assert google.requests == 2


async def test_nobody_by_hand(keyed: Clients, gemini: Gemini) -> None:
    """Who is not there, or switched off, or has ordered nothing, gets none."""
    async with keyed.db() as session:
        session.add(User(tgid=1, name="Off", is_active=False))
        session.add(User(tgid=2, name="New"))

    with pytest.raises(NotFound):
        await recommend_one(keyed, gemini, 3)
    with pytest.raises(BadInput, match="switched off"):
        await recommend_one(keyed, gemini, 1)
    with pytest.raises(BadInput, match="ordered nothing"):
        await recommend_one(keyed, gemini, 2)


async def test_different_people_get_different_advice(keyed: Clients, gemini: Gemini, lunch: Lunch) -> None:
    """The figures are theirs."""
    await add_diner(keyed, lunch, ONE, orders=5)
    await add_diner(keyed, lunch, TWO, orders=20)
    await work(keyed, gemini, (await start(keyed)).date)

    one, two = await cached(keyed, ONE), await cached(keyed, TWO)

    assert one is not None
    assert two is not None
    assert one["summary"] != two["summary"]
