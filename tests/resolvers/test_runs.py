"""The nightly run: whom it is for, that there is one, and that it goes on whatever happens."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from app.ai.key_pool import day_of
from app.ai.recommendation import Recommendation
from app.ai.stats import OrderStats
from app.clients import Clients
from app.context import Context
from app.errors import ServiceUnavailable
from app.models import ItemStatus, PauseReason, RecommendationItem, RecommendationRun, RunStatus
from app.resolvers import run_items, runs
from app.resolvers.gemini_keys import UsageLedger, key_pool
from app.resolvers.recommendations import keep, recommendations
from app.resolvers.run_items import AT_ONCE, REFUSALS_MAX
from tests.conftest import Lunch, event_types
from tests.diners import FIRST_DINER, add_diner, add_diners

ONE, TWO, THREE = FIRST_DINER, FIRST_DINER + 1, FIRST_DINER + 2
LEASE = timedelta(seconds=70)


@pytest.fixture
def keyed(clients: Clients) -> Clients:
    """Clients with two keys, good for four requests a day together."""
    settings = clients.settings.model_copy(
        update={"gemini_api_keys": (SecretStr("a"), SecretStr("b")), "gemini_max_requests_per_key": 2}
    )
    return replace(clients, settings=settings)


@pytest.fixture
def now() -> datetime:
    """Today, at noon: the night is over."""
    return datetime.now(UTC).replace(hour=12, minute=0)


async def start(clients: Clients, now: datetime) -> RecommendationRun:
    return await runs.start(clients, now)


async def people(clients: Clients, date: date) -> list[int]:
    """Whom a run is for, in their order."""
    query = select(RecommendationItem.user_tgid).where(RecommendationItem.date == date)
    async with clients.db() as session:
        return list(await session.scalars(query.order_by(col(RecommendationItem.position))))


async def item(clients: Clients, date: date, tgid: int) -> RecommendationItem:
    async with clients.db() as session:
        return await session.get_one(RecommendationItem, (date, tgid))


async def finish(clients: Clients, date: date, *tgids: int, at: datetime) -> None:
    """Let these people have their recommendations."""
    async with clients.db() as session:
        for tgid in tgids:
            await run_items.done(session, date, tgid, made(at))
        await runs.take_stock(session, date, at)


async def fail(clients: Clients, date: date, tgid: int, at: datetime) -> None:
    async with clients.db() as session:
        await run_items.not_done(session, date, tgid, "the answer does not fit", AT_ONCE)
        await runs.take_stock(session, date, at)


async def pause(
    clients: Clients, date: date, now: datetime, reason: PauseReason, until: datetime | None = None
) -> None:
    async with clients.db() as session:
        await runs.pause(session, date, reason, now, until)


async def claim(clients: Clients, date: date, now: datetime, number: int = 10) -> list[int]:
    async with clients.db() as session:
        return list(await run_items.claim(session, date, number, now, LEASE))


def made(at: datetime) -> Recommendation:
    return Recommendation(summary="You like soup.", tips=("Try the salad.",), stats=OrderStats(), generated_at=at)


async def stored(clients: Clients, date: date) -> RecommendationRun:
    async with clients.db() as session:
        return await session.get_one(RecommendationRun, date)


async def test_a_run_is_for_those_who_order(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Active people with at least 5 orders within 30 days, without those that were cancelled."""
    await add_diner(keyed, lunch, 1, orders=5)
    await add_diner(keyed, lunch, 2, orders=4)
    await add_diner(keyed, lunch, 3, orders=6, cancelled=2)
    await add_diner(keyed, lunch, 4, orders=5, is_active=False)
    await add_diner(keyed, lunch, 5, orders=5, first=26)
    await add_diner(keyed, lunch, 6, orders=5, first=27)
    await add_diner(keyed, lunch, 7, orders=5, first=-4)

    run = await start(keyed, now)

    assert await people(keyed, run.date) == [1, 5]


async def test_who_has_waited_longest_goes_first(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Those who never had a recommendation, then those whose last one is the oldest."""
    for tgid in (ONE, TWO, THREE):
        await add_diner(keyed, lunch, tgid, orders=10)
    for tgid, days in ((ONE, 1), (TWO, 2)):
        run = await start(keyed, now - timedelta(days=days))
        await finish(keyed, run.date, tgid, at=now - timedelta(days=days))

    run = await start(keyed, now)

    assert await people(keyed, run.date) == [THREE, TWO, ONE]


async def test_a_run_says_whether_the_keys_suffice(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Before it begins it says for how many."""
    await add_diners(keyed, lunch, 5)

    run = await start(keyed, now)

    assert (run.total, run.keys_suffice_for, run.status) == (5, 4, RunStatus.RUNNING)


async def test_what_is_used_already_is_taken_off(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """The keys may have been used by hand."""
    await add_diners(keyed, lunch, 5)
    await key_pool(keyed).acquire()

    assert (await start(keyed, now)).keys_suffice_for == 3


async def test_there_is_one_run_a_date(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Who starts it while it runs gets the one that is there."""
    await add_diners(keyed, lunch, 2)
    first = await start(keyed, now)

    again = await start(keyed, now + timedelta(minutes=1))

    assert again.started_at == first.started_at
    assert await event_types(keyed) == ["recommendation_run.started"]


async def test_a_run_that_is_started_again_says_for_how_many_it_is(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Those who are done need no more requests."""
    await add_diners(keyed, lunch, 5)
    run = await start(keyed, now)
    await finish(keyed, run.date, *range(ONE, ONE + 4), at=now)
    await fail(keyed, run.date, ONE + 4, now)

    assert (await start(keyed, now)).keys_suffice_for == 1


async def test_many_start_it_at_once(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Whoever is first makes it; nobody fails, and nobody is in it twice."""
    await add_diners(keyed, lunch, 3)

    started = await asyncio.gather(*(start(keyed, now + timedelta(seconds=number)) for number in range(8)))

    assert len({run.started_at for run in started}) == 1
    assert await event_types(keyed) == ["recommendation_run.started"]
    assert await people(keyed, started[0].date) == [ONE, TWO, THREE]


async def test_a_run_for_nobody_is_finished_at_once(keyed: Clients, now: datetime) -> None:
    """There is nothing to wait for."""
    run = await start(keyed, now)

    assert (run.status, run.total) == (RunStatus.FINISHED, 0)
    assert await event_types(keyed) == ["recommendation_run.started", "recommendation_run.finished"]


async def test_without_keys_there_is_no_run(clients: Clients, now: datetime) -> None:
    """That is told, for nothing would come of it."""
    with pytest.raises(ServiceUnavailable, match="GEMINI_API_KEYS"):
        await start(clients, now)


async def test_a_run_finishes_with_its_last_person(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Each step is told."""
    await add_diners(keyed, lunch, 3)
    run = await start(keyed, now)

    await finish(keyed, run.date, ONE, at=now)
    await fail(keyed, run.date, TWO, now)
    await finish(keyed, run.date, THREE, at=now)

    assert (await stored(keyed, run.date)).status is RunStatus.FINISHED
    assert await event_types(keyed) == [
        "recommendation_run.started",
        "recommendation_run.progressed",
        "recommendation_run.progressed",
        "recommendation_run.finished",
    ]


async def test_a_finished_run_that_is_started_again_does_who_is_left(
    keyed: Clients, lunch: Lunch, now: datetime
) -> None:
    """Those who failed, and those who have joined since; nobody who is done."""
    await add_diners(keyed, lunch, 2)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now)
    await fail(keyed, run.date, TWO, now)
    await add_diner(keyed, lunch, THREE)

    again = await start(keyed, now)

    assert (again.status, again.total, again.done, again.failed) == (RunStatus.RUNNING, 3, 1, 0)
    assert set(await claim(keyed, run.date, now)) == {TWO, THREE}


async def test_a_finished_run_without_anybody_left_stays_so(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Starting it again is no event."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now)
    before = await event_types(keyed)

    again = await start(keyed, now)

    assert again.status is RunStatus.FINISHED
    assert await event_types(keyed) == before


async def test_what_a_night_has_left_ends_with_the_next(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Its people are in the new one, and go first."""
    await add_diners(keyed, lunch, 2)
    yesterday = await start(keyed, now - timedelta(days=1))
    await finish(keyed, yesterday.date, ONE, at=now - timedelta(days=1))

    run = await start(keyed, now)

    assert (await stored(keyed, yesterday.date)).status is RunStatus.FINISHED
    assert await people(keyed, run.date) == [TWO, ONE]


async def test_people_are_taken_in_turn(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Nobody is in two hands."""
    await add_diners(keyed, lunch, 3)
    run = await start(keyed, now)

    assert await claim(keyed, run.date, now, 2) == [ONE, TWO]
    assert await claim(keyed, run.date, now, 2) == [THREE]
    assert await claim(keyed, run.date, now, 2) == []


async def test_nobody_waits_for_people(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """While one is still taking some, another takes the next."""
    await add_diners(keyed, lunch, 3)
    run = await start(keyed, now)
    async with keyed.db() as session, asyncio.timeout(5):
        taken = await run_items.claim(session, run.date, 2, now, LEASE)

        assert await claim(keyed, run.date, now, 2) == [THREE]
    assert taken == [ONE, TWO]


async def test_a_lease_ends(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Who was taken by a process that died is taken by another."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    await claim(keyed, run.date, now)

    assert await claim(keyed, run.date, now + LEASE) == []
    assert await claim(keyed, run.date, now + LEASE + timedelta(seconds=1)) == [ONE]


async def test_who_is_given_back_is_taken_at_once(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Those who are done are not."""
    await add_diners(keyed, lunch, 2)
    run = await start(keyed, now)
    taken = await claim(keyed, run.date, now)
    await finish(keyed, run.date, ONE, at=now)

    async with keyed.db() as session:
        await run_items.give_back(session, run.date, taken)

    assert await claim(keyed, run.date, now) == [TWO]


async def test_nobody_is_taken_while_a_run_is_paused(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Whoever works on it stops there."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    await pause(keyed, run.date, now, PauseReason.KEYS_RESTING, now + timedelta(hours=1))

    assert await claim(keyed, run.date, now) == []


async def test_a_pause_says_until_when(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """In the row, and in an event."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    until = now + timedelta(hours=1)

    await pause(keyed, run.date, now, PauseReason.KEYS_RESTING, until)

    paused = await stored(keyed, run.date)
    assert (paused.status, paused.pause_reason, paused.paused_until) == (
        RunStatus.PAUSED,
        PauseReason.KEYS_RESTING,
        until,
    )
    assert (await event_types(keyed))[-1] == "recommendation_run.paused"


async def test_of_several_pauses_the_first_counts(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Those who work at the same time find out at the same time."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)

    await pause(keyed, run.date, now, PauseReason.KEYS_RESTING, now + timedelta(hours=1))
    await pause(keyed, run.date, now, PauseReason.KEYS_RESTING, now + timedelta(hours=2))

    assert (await stored(keyed, run.date)).paused_until == now + timedelta(hours=1)
    assert (await event_types(keyed)).count("recommendation_run.paused") == 1


async def test_while_gemini_is_away_pauses_get_longer(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Each try costs a request: 1, 2, 4 minutes, at most an hour, and from 1 again once something was done."""
    await add_diners(keyed, lunch, 2)
    run = await start(keyed, now)
    minutes = []
    for _ in range(8):
        await pause(keyed, run.date, now, PauseReason.GEMINI_AWAY)
        until = (await stored(keyed, run.date)).paused_until
        assert until is not None
        minutes.append((until - now) / timedelta(minutes=1))
        await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now)
    await pause(keyed, run.date, now, PauseReason.GEMINI_AWAY)

    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (await stored(keyed, run.date)).paused_until == now + timedelta(minutes=1)


async def test_starting_a_paused_run_ends_the_pause(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Somebody who says «now» means it."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    await pause(keyed, run.date, now, PauseReason.GEMINI_AWAY)

    assert (await start(keyed, now)).status is RunStatus.RUNNING
    assert await claim(keyed, run.date, now) == [ONE]


async def test_after_some_refusals_the_run_goes_on_without(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """The third is the last."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    statuses = []
    for _ in range(3):
        async with keyed.db() as session:
            await run_items.not_done(session, run.date, ONE, "400", REFUSALS_MAX)
        statuses.append((await item(keyed, run.date, ONE)).status)

    assert statuses == [ItemStatus.PENDING, ItemStatus.PENDING, ItemStatus.FAILED]


async def test_who_has_failed_goes_last(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """What is the matter with one does not hold up the others; and as long as it may pass, nobody fails."""
    await add_diners(keyed, lunch, 3)
    run = await start(keyed, now)
    for _ in range(REFUSALS_MAX + 1):
        async with keyed.db() as session:
            await run_items.not_done(session, run.date, ONE, "503", None)

    assert await claim(keyed, run.date, now) == [TWO, THREE, ONE]


async def test_who_is_done_stays_done(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A failure that comes later, from one who had lost the lease, changes nothing."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now)

    await fail(keyed, run.date, ONE, now)

    assert (await item(keyed, run.date, ONE)).status is ItemStatus.DONE


@pytest.mark.parametrize(
    ("zone", "at", "is_started"),
    [
        ("UTC", datetime(2026, 7, 15, 2, 59, tzinfo=UTC), False),
        ("UTC", datetime(2026, 7, 15, 3, 0, tzinfo=UTC), True),
        ("UTC", datetime(2026, 7, 15, 23, 59, tzinfo=UTC), True),
        ("Asia/Tokyo", datetime(2026, 7, 14, 17, 59, tzinfo=UTC), False),
        ("Asia/Tokyo", datetime(2026, 7, 14, 18, 0, tzinfo=UTC), True),
        ("Europe/Helsinki", datetime(2026, 3, 29, 0, 59, tzinfo=UTC), False),
        ("Europe/Helsinki", datetime(2026, 3, 29, 1, 0, tzinfo=UTC), True),
    ],
)
async def test_a_night_is_not_missed(keyed: Clients, zone: str, at: datetime, is_started: bool) -> None:
    """From 3 o'clock in LUNCH_TIMEZONE on there is a run for the day, even where the clocks jump over 3 o'clock."""
    there = replace(keyed, settings=keyed.settings.model_copy(update={"lunch_timezone": ZoneInfo(zone)}))

    await runs.ensure(there, at)

    async with keyed.db() as session:
        found = await session.get(RecommendationRun, at.astimezone(ZoneInfo(zone)).date())
    assert (found is not None) is is_started


async def test_without_keys_no_night_is_begun(clients: Clients, now: datetime) -> None:
    """Whoever does not use recommendations hears nothing of them."""
    assert await runs.ensure(clients, now) is None


async def test_a_run_goes_on_when_its_pause_is_over(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """By itself."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    await pause(keyed, run.date, now, PauseReason.GEMINI_AWAY)

    early = await runs.ensure(keyed, now + timedelta(seconds=59))
    late = await runs.ensure(keyed, now + timedelta(seconds=60))

    assert early is not None
    assert late is not None
    assert (early.status, late.status) == (RunStatus.PAUSED, RunStatus.RUNNING)


async def test_a_key_that_comes_back_ends_the_pause(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """An operator has brought it back, or added one."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    await pause(keyed, run.date, now, PauseReason.KEYS_SET_ASIDE)

    going = await runs.ensure(keyed, now + timedelta(minutes=1))

    assert going is not None
    assert going.status is RunStatus.RUNNING


async def test_keys_that_rest_do_not(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """As long as none may be used it is no use."""
    await add_diners(keyed, lunch, 1)
    run = await start(keyed, now)
    pool = key_pool(keyed)
    for _ in pool.keys:
        await pool.set_aside(await pool.acquire(), "403")
    await pause(keyed, run.date, now, PauseReason.KEYS_SET_ASIDE)

    still = await runs.ensure(keyed, now + timedelta(days=0, minutes=1))

    assert still is not None
    assert still.status is RunStatus.PAUSED


async def test_workers_are_woken(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """There are as many jobs as requests at a time, however often somebody asks; and again after a flush."""
    await add_diners(keyed, lunch, 6)
    await start(keyed, now)
    await runs.ensure(keyed, now)
    queued = await keyed.redis.zcard("arq:queue")
    await keyed.redis.flushall()
    await runs.ensure(keyed, now)

    assert (queued, await keyed.redis.zcard("arq:queue")) == (4, 4)


async def test_what_redis_has_lost_is_put_back(keyed: Clients, user: Context, lunch: Lunch, now: datetime) -> None:
    """After a flush people have their recommendations again, with what is left of their day."""
    await add_diner(keyed, lunch, ONE)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now - timedelta(hours=1))
    await keyed.redis.flushall()

    await runs.ensure(keyed, now)

    kept = await recommendations(user_context(user, ONE), ONE)
    assert kept.summary == "You like soup."
    assert 22 * 3600 < await keyed.redis.ttl(f"recommendations:user:{ONE}") <= 23 * 3600


async def test_what_is_newer_stays(keyed: Clients, user: Context, lunch: Lunch, now: datetime) -> None:
    """What Redis has got since is not replaced by what it had lost."""
    await add_diner(keyed, lunch, ONE)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now - timedelta(hours=1))
    await keyed.redis.flushall()
    await keep(keyed, [(ONE, made(now).model_copy(update={"summary": "You like cake."}))], now)

    await runs.ensure(keyed, now)

    assert (await recommendations(user_context(user, ONE), ONE)).summary == "You like cake."


async def test_the_latest_is_put_back(keyed: Clients, user: Context, lunch: Lunch, now: datetime) -> None:
    """Who had one in the last two nights gets last night's."""
    await add_diner(keyed, lunch, ONE, orders=10)
    for hours, at in ((20, now - timedelta(days=1)), (1, now)):
        run = await start(keyed, at)
        await finish(keyed, run.date, ONE, at=now - timedelta(hours=hours))
    await keyed.redis.flushall()

    await runs.ensure(keyed, now)

    assert (await recommendations(user_context(user, ONE), ONE)).generated_at == now - timedelta(hours=1)


async def test_what_cannot_be_read_is_not_put_back(keyed: Clients, user: Context, lunch: Lunch, now: datetime) -> None:
    """It does not keep the others from theirs, nor the run from going on."""
    await add_diners(keyed, lunch, 3)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, TWO, at=now)
    async with keyed.db() as session:
        (await session.get_one(RecommendationItem, (run.date, ONE))).recommendation = {"summary": "of another version"}
    await keyed.redis.flushall()

    going = await runs.ensure(keyed, now)

    assert going is not None
    assert (await recommendations(user_context(user, ONE), ONE)).summary is None
    assert (await recommendations(user_context(user, TWO), TWO)).summary == "You like soup."


async def test_what_is_older_than_a_day_is_not_put_back(
    keyed: Clients, user: Context, lunch: Lunch, now: datetime
) -> None:
    """It would have been gone without the flush, too."""
    await add_diner(keyed, lunch, ONE)
    run = await start(keyed, now - timedelta(days=2))
    await finish(keyed, run.date, ONE, at=now - timedelta(days=2))
    await keyed.redis.flushall()

    await runs.ensure(keyed, now)

    assert (await recommendations(user_context(user, ONE), ONE)).summary is None


async def test_the_ledger_is_by_googles_day(keyed: Clients) -> None:
    """Each request is noted for its key and for its project."""
    pool = key_pool(keyed)
    grant = await pool.acquire()

    noted = await UsageLedger(keyed).requests(day_of(datetime.now(UTC)))

    assert noted == dict.fromkeys(grant.key.scopes, 1)


def user_context(ctx: Context, tgid: int) -> Context:
    assert ctx.identified is not None
    return replace(ctx, identified=replace(ctx.identified, tgid=tgid))
