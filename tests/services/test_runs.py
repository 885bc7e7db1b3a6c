"""The nightly run: its users, its leases, its pauses, and its recovery."""

import asyncio
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from sqlmodel import col, select

from app.ai.key_pool import quota_day
from app.ai.recommendation import Recommendation
from app.ai.stats import OrderStats
from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.errors import Forbidden, ServiceUnavailable
from app.models import ItemStatus, PauseReason, RecommendationItem, RecommendationRun, RunStatus
from app.resolvers.recommendations import get_recommendations
from app.services import run_items, runs
from app.services.gemini_keys import UsageLedger, key_pool
from app.services.recommendations import store_recommendations
from app.services.run_items import FAIL_IMMEDIATELY, REFUSALS_MAX
from tests.conftest import Lunch, event_types
from tests.user_factory import FIRST_ORDERING_USER, add_ordering_user, add_ordering_users

ONE, TWO, THREE = FIRST_ORDERING_USER, FIRST_ORDERING_USER + 1, FIRST_ORDERING_USER + 2
LEASE = timedelta(seconds=70)


@pytest.fixture
def keyed(clients: Clients) -> Clients:
    """Clients with two keys, with four requests a day together."""
    settings = clients.settings.model_copy(
        update={"gemini_api_keys": (SecretStr("a"), SecretStr("b")), "gemini_max_requests_per_key": 2}
    )
    return replace(clients, settings=settings)


@pytest.fixture
def now() -> datetime:
    """Today at noon, when the night is over."""
    return datetime.now(UTC).replace(hour=12, minute=0)


async def start(clients: Clients, now: datetime) -> RecommendationRun:
    """Start or resume the run."""
    return await runs.start_run(clients, now)


async def users_of(clients: Clients, date: date) -> list[int]:
    """Return the users of a run, in their order."""
    query = select(RecommendationItem.user_tgid).where(RecommendationItem.date == date)
    async with clients.db() as session:
        return list(await session.scalars(query.order_by(col(RecommendationItem.position))))


async def item(clients: Clients, date: date, tgid: int) -> RecommendationItem:
    """Return a user's item in a run."""
    async with clients.db() as session:
        return await session.get_one(RecommendationItem, (date, tgid))


async def finish(clients: Clients, date: date, *tgids: int, at: datetime) -> None:
    """Record recommendations for these users."""
    async with clients.db() as session:
        for tgid in tgids:
            await run_items.record_done(session, date, tgid, recommendation_made_at(at))
        await runs.update_progress(session, date, at)


async def fail(clients: Clients, date: date, tgid: int, at: datetime) -> None:
    """Record an invalid answer for a user."""
    async with clients.db() as session:
        await run_items.record_failure(session, date, tgid, "invalid answer", FAIL_IMMEDIATELY)
        await runs.update_progress(session, date, at)


async def pause(
    clients: Clients, date: date, now: datetime, reason: PauseReason, until: datetime | None = None
) -> None:
    """Pause the run."""
    async with clients.db() as session:
        await runs.pause_run(session, date, reason, now, until)


async def claim(clients: Clients, date: date, now: datetime, number: int = 10) -> list[int]:
    """Claim the next users of a run."""
    async with clients.db() as session:
        return list(await run_items.claim(session, date, number, now, now + LEASE))


def recommendation_made_at(at: datetime) -> Recommendation:
    """Return a recommendation that was made at a time."""
    return Recommendation(summary="You like soup.", tips=("Try the salad.",), stats=OrderStats(), generated_at=at)


async def stored(clients: Clients, date: date) -> RecommendationRun:
    """Return the stored run."""
    async with clients.db() as session:
        return await session.get_one(RecommendationRun, date)


async def test_a_run_has_the_users_with_enough_orders(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A run has the active users with at least 5 orders within 30 days, without cancelled ones."""
    await add_ordering_user(keyed, lunch, 1, orders=5)
    await add_ordering_user(keyed, lunch, 2, orders=4)
    await add_ordering_user(keyed, lunch, 3, orders=6, cancelled=2)
    await add_ordering_user(keyed, lunch, 4, orders=5, is_active=False)
    await add_ordering_user(keyed, lunch, 5, orders=5, first=26)
    await add_ordering_user(keyed, lunch, 6, orders=5, first=27)
    await add_ordering_user(keyed, lunch, 7, orders=5, first=-4)

    run = await start(keyed, now)

    assert await users_of(keyed, run.date) == [1, 5]


async def test_users_with_the_oldest_recommendation_come_first(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Users without a recommendation come first, then those with the oldest one."""
    for tgid in (ONE, TWO, THREE):
        await add_ordering_user(keyed, lunch, tgid, orders=10)
    for tgid, days in ((ONE, 1), (TWO, 2)):
        run = await start(keyed, now - timedelta(days=days))
        await finish(keyed, run.date, tgid, at=now - timedelta(days=days))

    run = await start(keyed, now)

    assert await users_of(keyed, run.date) == [THREE, TWO, ONE]


async def test_a_run_has_a_request_budget(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A new run has the number of its users for whom requests are left."""
    await add_ordering_users(keyed, lunch, 5)

    run = await start(keyed, now)

    assert (run.total, run.request_budget, run.status) == (5, 4, RunStatus.RUNNING)


async def test_used_requests_reduce_the_budget(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Requests that were made before the run reduce its request budget."""
    await add_ordering_users(keyed, lunch, 5)
    await key_pool(keyed).acquire()

    assert (await start(keyed, now)).request_budget == 3


async def test_there_is_one_run_for_each_date(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A repeated start returns the run of the date, and makes no event."""
    await add_ordering_users(keyed, lunch, 2)
    first = await start(keyed, now)

    again = await start(keyed, now + timedelta(minutes=1))

    assert again.started_at == first.started_at
    assert await event_types(keyed) == ["recommendation_run.started"]


async def test_a_restarted_run_has_a_budget_for_the_remaining_users(
    keyed: Clients, lunch: Lunch, now: datetime
) -> None:
    """The request budget of a restarted run is for the remaining users only."""
    await add_ordering_users(keyed, lunch, 5)
    run = await start(keyed, now)
    await finish(keyed, run.date, *range(ONE, ONE + 4), at=now)
    await fail(keyed, run.date, ONE + 4, now)

    assert (await start(keyed, now)).request_budget == 1


async def test_simultaneous_starts_make_one_run(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Simultaneous starts make one run, with each user once."""
    await add_ordering_users(keyed, lunch, 3)

    started = await asyncio.gather(*(start(keyed, now + timedelta(seconds=number)) for number in range(8)))

    assert len({run.started_at for run in started}) == 1
    assert await event_types(keyed) == ["recommendation_run.started"]
    assert await users_of(keyed, started[0].date) == [ONE, TWO, THREE]


async def test_a_run_without_users_finishes_immediately(keyed: Clients, now: datetime) -> None:
    """A run without users finishes immediately."""
    run = await start(keyed, now)

    assert (run.status, run.total) == (RunStatus.FINISHED, 0)
    assert await event_types(keyed) == ["recommendation_run.started", "recommendation_run.finished"]


async def test_without_keys_there_is_no_run(clients: Clients, now: datetime) -> None:
    """A run cannot start without keys."""
    with pytest.raises(ServiceUnavailable, match="GEMINI_API_KEYS"):
        await start(clients, now)


async def test_a_run_finishes_with_its_last_user(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A run finishes with its last user, and each step is an event."""
    await add_ordering_users(keyed, lunch, 3)
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


async def test_a_restart_continues_with_failed_and_new_users(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A restarted run has pending items for the users that failed and for new users."""
    await add_ordering_users(keyed, lunch, 2)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now)
    await fail(keyed, run.date, TWO, now)
    await add_ordering_user(keyed, lunch, THREE)

    again = await start(keyed, now)

    assert (again.status, again.total, again.done, again.failed) == (RunStatus.RUNNING, 3, 1, 0)
    assert set(await claim(keyed, run.date, now)) == {TWO, THREE}


async def test_a_finished_run_without_remaining_users_stays_finished(
    keyed: Clients, lunch: Lunch, now: datetime
) -> None:
    """The restart of a run without remaining users makes no event."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now)
    before = await event_types(keyed)

    again = await start(keyed, now)

    assert again.status is RunStatus.FINISHED
    assert await event_types(keyed) == before


async def test_a_new_run_finishes_the_one_before(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A new run finishes the run of the night before, and its remaining users come first."""
    await add_ordering_users(keyed, lunch, 2)
    yesterday = await start(keyed, now - timedelta(days=1))
    await finish(keyed, yesterday.date, ONE, at=now - timedelta(days=1))

    run = await start(keyed, now)

    assert (await stored(keyed, yesterday.date)).status is RunStatus.FINISHED
    assert await users_of(keyed, run.date) == [TWO, ONE]


async def test_each_user_is_claimed_once(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Each user is claimed by one worker."""
    await add_ordering_users(keyed, lunch, 3)
    run = await start(keyed, now)

    assert await claim(keyed, run.date, now, 2) == [ONE, TWO]
    assert await claim(keyed, run.date, now, 2) == [THREE]
    assert await claim(keyed, run.date, now, 2) == []


async def test_a_claim_does_not_wait_for_another(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A claim skips the users that another transaction is claiming."""
    await add_ordering_users(keyed, lunch, 3)
    run = await start(keyed, now)
    async with keyed.db() as session, asyncio.timeout(5):
        claimed = await run_items.claim(session, run.date, 2, now, now + LEASE)

        assert await claim(keyed, run.date, now, 2) == [THREE]
    assert claimed == [ONE, TWO]


async def test_an_expired_lease_can_be_claimed_again(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A user whose lease has expired can be claimed again."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    await claim(keyed, run.date, now)

    assert await claim(keyed, run.date, now + LEASE) == []
    assert await claim(keyed, run.date, now + LEASE + timedelta(seconds=1)) == [ONE]


async def test_a_released_user_can_be_claimed_immediately(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A released user can be claimed immediately, unless the recommendation is done."""
    await add_ordering_users(keyed, lunch, 2)
    run = await start(keyed, now)
    claimed = await claim(keyed, run.date, now)
    await finish(keyed, run.date, ONE, at=now)

    async with keyed.db() as session:
        await run_items.release(session, run.date, claimed, now + LEASE)

    assert await claim(keyed, run.date, now) == [TWO]


async def test_a_lease_is_released_by_its_owner_only(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A worker whose lease has expired, and that goes on, does not release the lease of the next worker."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    claimed = await claim(keyed, run.date, now)
    later = now + LEASE + timedelta(seconds=1)
    await claim(keyed, run.date, later)

    async with keyed.db() as session:
        await run_items.record_failure(session, run.date, ONE, "503", None)
        await run_items.release(session, run.date, claimed, now + LEASE)

    assert await claim(keyed, run.date, later) == []


async def test_a_paused_run_has_no_users_to_claim(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """No user of a paused run can be claimed."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    await pause(keyed, run.date, now, PauseReason.QUOTA_EXHAUSTED, now + timedelta(hours=1))

    assert await claim(keyed, run.date, now) == []


async def test_a_pause_has_a_reason_and_an_end(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """The row of a paused run has the reason and the end of the pause, and the pause is an event."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    until = now + timedelta(hours=1)

    await pause(keyed, run.date, now, PauseReason.QUOTA_EXHAUSTED, until)

    paused = await stored(keyed, run.date)
    assert (paused.status, paused.pause_reason, paused.paused_until) == (
        RunStatus.PAUSED,
        PauseReason.QUOTA_EXHAUSTED,
        until,
    )
    assert (await event_types(keyed))[-1] == "recommendation_run.paused"


async def test_of_several_pauses_the_first_counts(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Of several simultaneous pauses the first one counts."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)

    await pause(keyed, run.date, now, PauseReason.QUOTA_EXHAUSTED, now + timedelta(hours=1))
    await pause(keyed, run.date, now, PauseReason.QUOTA_EXHAUSTED, now + timedelta(hours=2))

    assert (await stored(keyed, run.date)).paused_until == now + timedelta(hours=1)
    assert (await event_types(keyed)).count("recommendation_run.paused") == 1


async def test_outage_pauses_become_longer(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """The pauses of an outage double from 1 minute to an hour. Progress resets them."""
    await add_ordering_users(keyed, lunch, 2)
    run = await start(keyed, now)
    minutes = []
    for _ in range(8):
        await pause(keyed, run.date, now, PauseReason.GEMINI_UNAVAILABLE)
        until = (await stored(keyed, run.date)).paused_until
        assert until is not None
        minutes.append((until - now) / timedelta(minutes=1))
        await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now)
    await pause(keyed, run.date, now, PauseReason.GEMINI_UNAVAILABLE)

    assert minutes == [1, 2, 4, 8, 16, 32, 60, 60]
    assert (await stored(keyed, run.date)).paused_until == now + timedelta(minutes=1)


async def test_the_start_of_a_paused_run_ends_the_pause(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """The start of a paused run ends the pause."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    await pause(keyed, run.date, now, PauseReason.GEMINI_UNAVAILABLE)

    assert (await start(keyed, now)).status is RunStatus.RUNNING
    assert await claim(keyed, run.date, now) == [ONE]


async def test_an_item_fails_with_the_third_refusal(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A user's item fails with the third refused request."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    statuses = []
    for _ in range(3):
        async with keyed.db() as session:
            await run_items.record_failure(session, run.date, ONE, "400", REFUSALS_MAX)
        statuses.append((await item(keyed, run.date, ONE)).status)

    assert statuses == [ItemStatus.PENDING, ItemStatus.PENDING, ItemStatus.FAILED]


async def test_failed_users_come_last(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """Users with failures come last, and an outage never makes an item fail."""
    await add_ordering_users(keyed, lunch, 3)
    run = await start(keyed, now)
    for _ in range(REFUSALS_MAX + 1):
        async with keyed.db() as session:
            await run_items.record_failure(session, run.date, ONE, "503", None)

    assert await claim(keyed, run.date, now) == [TWO, THREE, ONE]


async def test_a_done_item_stays_done(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A late failure from a worker that has lost its lease does not change a done item."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now)

    await fail(keyed, run.date, ONE, now)

    assert (await item(keyed, run.date, ONE)).status is ItemStatus.DONE


@pytest.mark.parametrize(
    ("timezone", "at", "is_started"),
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
async def test_a_run_starts_from_3_o_clock_on(keyed: Clients, timezone: str, at: datetime, is_started: bool) -> None:
    """From 3 o'clock in LUNCH_TIMEZONE there is a run for the day, also if clocks skip 3 o'clock."""
    in_timezone = replace(keyed, settings=keyed.settings.model_copy(update={"lunch_timezone": ZoneInfo(timezone)}))

    await runs.reconcile(in_timezone, at)

    async with keyed.db() as session:
        run = await session.get(RecommendationRun, at.astimezone(ZoneInfo(timezone)).date())
    assert (run is not None) is is_started


async def test_without_keys_no_run_starts_by_itself(clients: Clients, now: datetime) -> None:
    """Without keys no run starts by itself."""
    assert await runs.reconcile(clients, now) is None


async def test_a_run_resumes_at_the_end_of_its_pause(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A paused run resumes by itself at the end of its pause."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    await pause(keyed, run.date, now, PauseReason.GEMINI_UNAVAILABLE)

    early = await runs.reconcile(keyed, now + timedelta(seconds=59))
    late = await runs.reconcile(keyed, now + timedelta(seconds=60))

    assert early is not None
    assert late is not None
    assert (early.status, late.status) == (RunStatus.PAUSED, RunStatus.RUNNING)


async def test_a_ready_key_ends_the_pause(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A run that is paused because of disabled keys resumes when a key is ready."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    await pause(keyed, run.date, now, PauseReason.KEYS_DISABLED)

    resumed = await runs.reconcile(keyed, now + timedelta(minutes=1))

    assert resumed is not None
    assert resumed.status is RunStatus.RUNNING


async def test_disabled_keys_do_not_end_the_pause(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """A run stays paused while all keys are disabled."""
    await add_ordering_users(keyed, lunch, 1)
    run = await start(keyed, now)
    pool = key_pool(keyed)
    for _ in pool.keys:
        await pool.disable(await pool.acquire(), "403")
    await pause(keyed, run.date, now, PauseReason.KEYS_DISABLED)

    paused = await runs.reconcile(keyed, now + timedelta(minutes=1))

    assert paused is not None
    assert paused.status is RunStatus.PAUSED


async def test_jobs_are_enqueued_for_a_run(keyed: Clients, lunch: Lunch, now: datetime) -> None:
    """There is one job for each request at a time, also after repeated calls and after a flush of Redis."""
    await add_ordering_users(keyed, lunch, 6)
    await start(keyed, now)
    await runs.reconcile(keyed, now)
    queued = await keyed.redis.zcard("arq:queue")
    await keyed.redis.flushall()
    await runs.reconcile(keyed, now)

    assert (queued, await keyed.redis.zcard("arq:queue")) == (4, 4)


async def test_lost_recommendations_are_restored(keyed: Clients, user: Context, lunch: Lunch, now: datetime) -> None:
    """Recommendations that Redis has lost are restored for the rest of their day."""
    await add_ordering_user(keyed, lunch, ONE)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now - timedelta(hours=1))
    await keyed.redis.flushall()

    await runs.reconcile(keyed, now)

    restored = await get_recommendations(as_user(user, ONE), ONE)
    assert restored.summary == "You like soup."
    assert 22 * 3600 < await keyed.redis.ttl(f"recommendations:user:{ONE}") <= 23 * 3600


async def test_a_user_reads_only_their_own_recommendation(keyed: Clients, user: Context, lunch: Lunch) -> None:
    """A user may read their own recommendation, with the id as a keyword, and no other one."""
    await add_ordering_users(keyed, lunch, 2)
    own = as_user(user, ONE)

    assert (await get_recommendations(own, tgid=ONE)).stats.orders_count == 5
    with pytest.raises(Forbidden):
        await get_recommendations(own, tgid=TWO)


async def test_a_newer_recommendation_stays(keyed: Clients, user: Context, lunch: Lunch, now: datetime) -> None:
    """A restore does not replace a newer recommendation."""
    await add_ordering_user(keyed, lunch, ONE)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, at=now - timedelta(hours=1))
    await keyed.redis.flushall()
    await store_recommendations(
        keyed, [(ONE, recommendation_made_at(now).model_copy(update={"summary": "You like cake."}))], now
    )

    await runs.reconcile(keyed, now)

    assert (await get_recommendations(as_user(user, ONE), ONE)).summary == "You like cake."


async def test_the_latest_recommendation_is_restored(
    keyed: Clients, user: Context, lunch: Lunch, now: datetime
) -> None:
    """A user with recommendations of two nights gets the latest one back."""
    await add_ordering_user(keyed, lunch, ONE, orders=10)
    for hours, at in ((20, now - timedelta(days=1)), (1, now)):
        run = await start(keyed, at)
        await finish(keyed, run.date, ONE, at=now - timedelta(hours=hours))
    await keyed.redis.flushall()

    await runs.reconcile(keyed, now)

    assert (await get_recommendations(as_user(user, ONE), ONE)).generated_at == now - timedelta(hours=1)


async def test_an_unreadable_recommendation_is_not_restored(
    keyed: Clients, user: Context, lunch: Lunch, now: datetime
) -> None:
    """An unreadable recommendation is skipped; the others are restored, and the run continues."""
    await add_ordering_users(keyed, lunch, 3)
    run = await start(keyed, now)
    await finish(keyed, run.date, ONE, TWO, at=now)
    async with keyed.db() as session:
        (await session.get_one(RecommendationItem, (run.date, ONE))).recommendation = {"summary": "of another version"}
    await keyed.redis.flushall()

    resumed = await runs.reconcile(keyed, now)

    assert resumed is not None
    assert (await get_recommendations(as_user(user, ONE), ONE)).summary is None
    assert (await get_recommendations(as_user(user, TWO), TWO)).summary == "You like soup."


async def test_an_expired_recommendation_is_not_restored(
    keyed: Clients, user: Context, lunch: Lunch, now: datetime
) -> None:
    """A recommendation that is older than a day is not restored."""
    await add_ordering_user(keyed, lunch, ONE)
    run = await start(keyed, now - timedelta(days=2))
    await finish(keyed, run.date, ONE, at=now - timedelta(days=2))
    await keyed.redis.flushall()

    await runs.reconcile(keyed, now)

    assert (await get_recommendations(as_user(user, ONE), ONE)).summary is None


async def test_the_ledger_counts_by_quota_day(keyed: Clients) -> None:
    """The ledger counts each request for its key and for its project, by Google's quota day."""
    pool = key_pool(keyed)
    grant = await pool.acquire()

    counted = await UsageLedger(keyed).requests(quota_day(datetime.now(UTC)))

    assert counted == dict.fromkeys(grant.key.scopes, 1)


def as_user(ctx: Context, tgid: int) -> Context:
    """Return the context of another user."""
    return replace(ctx, caller=Caller(viewer=replace(ctx.viewer, tgid=tgid)))
