"""The pool of Gemini keys: it never grants more requests than the limit of a key or of its project."""

import asyncio
import os
import sys
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from redis.asyncio import Redis as RedisClient
from sqlmodel import delete, select

from app.ai.key_pool import (
    ROTATIONS_KEPT,
    Grant,
    KeysExhausted,
    KeyState,
    UnknownKey,
    quota_day,
    quota_day_end,
    requests_left,
)
from app.clients import Clients
from app.dev.embedded import Redis
from app.dev.ports import free_port
from app.models import GeminiUsage
from app.settings import Settings
from tests.ai.pools import NOON, Clock, Pool, parse_keys
from tests.servers import DEADLINE_S, POLL_S, until

SECRETS = ("AIza-one", "AIza-two", "AQ.three")


@pytest.fixture
def pool(clients: Clients) -> Pool:
    """Three keys, each with its own project and a limit of three requests."""
    return Pool(clients, parse_keys(*SECRETS), limit=3)


@pytest.fixture
def shared(clients: Clients) -> Pool:
    """Two keys of one project and one key with its own project; the limit is three requests."""
    return Pool(clients, parse_keys("shared:a", "shared:b", "c"), limit=3)


def test_key_texts_do_not_contain_the_secret() -> None:
    """No text of a key contains its secret; the id is a hash."""
    [key] = parse_keys("shared:AIza-secret")

    assert "AIza" not in f"{key} {key!r} {key.id} {key.project} {key.scopes}"
    assert len(key.id) == 8


def test_project_name_may_contain_a_colon() -> None:
    """The name of a project that belongs to a domain contains a colon, as in `example.com:lunch`."""
    [key] = parse_keys("example.com:lunch:AIza-secret")

    assert (key.project, key.secret.get_secret_value()) == ("example.com:lunch", "AIza-secret")


async def test_key_is_exhausted_before_the_next_one_is_used(pool: Pool) -> None:
    """The pool exhausts one key after the other, in the order of the settings."""
    assert await pool.acquire_all() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_keys_of_a_project_share_its_quota(shared: Pool) -> None:
    """Two keys of one project have as many requests as one key."""
    assert await shared.acquire_all() == [0, 0, 0, 2, 2, 2]


async def test_exhausted_keys_are_ready_after_midnight_pacific_time(pool: Pool) -> None:
    """If all keys are exhausted, the next request may be made at midnight Pacific time."""
    await pool.acquire_all()

    assert await pool.exhausted_until() == datetime(2026, 7, 16, 7, tzinfo=UTC)


async def test_nothing_is_granted_in_the_last_seconds_of_a_day(pool: Pool) -> None:
    """The pool grants nothing in the last ten seconds of a quota day: Google might count the request in the next day."""
    midnight = quota_day_end(quota_day(NOON))
    pool.clock.now = midnight - timedelta(seconds=10)
    last = await pool.exhausted_until()
    pool.clock.now = midnight

    assert (last, await pool.acquire()) == (midnight, 0)


async def test_new_day_begins_with_the_current_key(pool: Pool) -> None:
    """On the next quota day each key has its full limit again, and the current key comes first."""
    await pool.acquire_all()
    pool.clock.now = datetime(2026, 7, 16, 7, tzinfo=UTC)

    assert await pool.acquire_all() == [2, 2, 2, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("day", "begins", "hours"),
    [
        (date(2026, 7, 15), datetime(2026, 7, 15, 7, tzinfo=UTC), 24),
        (date(2026, 3, 8), datetime(2026, 3, 8, 8, tzinfo=UTC), 23),
        (date(2026, 11, 1), datetime(2026, 11, 1, 7, tzinfo=UTC), 25),
        (date(2026, 12, 24), datetime(2026, 12, 24, 8, tzinfo=UTC), 24),
    ],
)
def test_quota_day_follows_pacific_time(day: date, begins: datetime, hours: int) -> None:
    """A quota day lasts from midnight to midnight Pacific time, also when daylight saving time begins or ends."""
    last = begins + timedelta(hours=hours) - timedelta(microseconds=1)

    assert (quota_day(begins), quota_day(last)) == (day, day)
    assert quota_day_end(day) == begins + timedelta(hours=hours)


async def test_count_survives_a_restart(pool: Pool) -> None:
    """A new process continues with the counters of the previous one."""
    await pool.acquire()

    assert await pool.restart().acquire_all() == [0, 0, 1, 1, 1, 2, 2, 2]


async def test_lost_counters_are_restored(pool: Pool) -> None:
    """After a flush of Redis the counters are restored from the ledger, so the limit still holds."""
    positions = [await pool.acquire() for _ in range(4)]
    await pool.clients.redis.flushall()

    assert Counter([*positions, *await pool.acquire_all()]) == {0: 3, 1: 3, 2: 3}


async def test_outdated_counters_are_restored(pool: Pool) -> None:
    """If the counters in Redis are too low, the ledger still refuses requests above the limit."""
    positions = [await pool.acquire() for _ in range(4)]
    used = f"{{gemini}}:used:{quota_day(NOON)}"
    await pool.clients.redis.hset(used, mapping={scope: 0 for key in pool.keys for scope in key.scopes})  # type: ignore[misc]

    assert Counter([*positions, *await pool.acquire_all()]) == {0: 3, 1: 3, 2: 3}


async def test_key_that_moves_to_a_project_keeps_its_count(pool: Pool) -> None:
    """When the settings move a key to a project, the requests of the key still count."""
    await pool.acquire()
    moved = Pool(pool.clients, parse_keys(f"shared:{SECRETS[0]}", "shared:new"), 3, pool.clock)

    assert await moved.acquire_all() == [0, 0, 1]


async def test_next_key_is_used_during_a_cool_down(pool: Pool) -> None:
    """While a key cools down the next key is used, and it stays current until it is exhausted."""
    await pool.pool.cool_down(await acquire_grant(pool), 37, "429: slow down")

    first = await pool.acquire()
    pool.clock.advance(seconds=37)

    assert [first, *await pool.acquire_all()] == [1, 1, 1, 2, 2, 2, 0, 0]


async def test_cool_down_applies_to_all_keys_of_a_project(shared: Pool) -> None:
    """All keys of a project cool down together, because they share its quota."""
    await shared.pool.cool_down(await acquire_grant(shared), 37, "429: slow down")

    assert await shared.acquire_all() == [2, 2, 2]
    assert await shared.exhausted_until() == NOON + timedelta(seconds=37)


async def test_cool_down_is_never_shortened(pool: Pool) -> None:
    """If a project has two cool-downs, the later end applies."""
    grant = await acquire_grant(pool)
    await pool.pool.cool_down_until_reset(grant, "429: day")
    await pool.pool.cool_down(grant, 1, "429: minute")
    pool.clock.advance(hours=1)

    assert await pool.acquire_all() == [1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("seconds", [-5, 0, 0.2])
async def test_cool_down_has_a_minimum(pool: Pool, seconds: float) -> None:
    """A cool-down lasts at least a second, and up to a second of jitter longer."""
    pool.jitter = 0.5

    assert await cool_down_s(pool, seconds) == 1.5


@pytest.mark.parametrize("seconds", [1e6, 1e300, float("inf")])
async def test_cool_down_has_a_maximum(pool: Pool, seconds: float) -> None:
    """A cool-down lasts at most a day."""
    assert await cool_down_s(pool, seconds) == 24 * 3600


async def test_minimum_of_a_cool_down_grows(clients: Clients) -> None:
    """Each cool-down of a key without a success since the last one has twice the minimum, up to ten minutes."""
    pool = Pool(clients, parse_keys("a"), limit=100)

    lengths = []
    for _ in range(12):
        lengths.append(await cool_down_s(pool, 0))
        pool.clock.advance(seconds=lengths[-1])

    assert lengths == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]


async def test_success_resets_the_minimum_of_a_cool_down(clients: Clients) -> None:
    """After a success the next cool-down has the first minimum again."""
    pool = Pool(clients, parse_keys("a"), limit=100)
    for _ in range(5):
        pool.clock.advance(seconds=await cool_down_s(pool, 0))

    await pool.pool.record_success(await acquire_grant(pool))

    assert await cool_down_s(pool, 0) == 1


async def test_requests_that_fail_together_are_one_cool_down(clients: Clients) -> None:
    """The minimum does not grow for requests that were made before the cool-down."""
    pool = Pool(clients, parse_keys("a"), limit=100)
    grants = [await acquire_grant(pool) for _ in range(5)]

    for grant in grants:
        await pool.pool.cool_down(grant, 0, "429")

    assert await pool.exhausted_until() == NOON + timedelta(seconds=1)


async def test_next_key_follows_a_throttled_request(pool: Pool) -> None:
    """After a throttled request the next request takes the next key, which stays current until it is exhausted."""
    await pool.pool.record_throttled(await acquire_grant(pool), "429: too many requests")

    assert await pool.acquire_all() == [1, 1, 1, 2, 2, 2, 0, 0]


async def test_next_key_after_a_throttled_request_must_be_ready(pool: Pool) -> None:
    """After a throttled request keys that cool down are left out, and a single ready key is used again."""
    first = await acquire_grant(pool)
    for key in pool.keys[1:]:
        await pool.pool.cool_down(Grant(key), 37, "429")
    await pool.pool.record_throttled(first, "429: too many requests")

    again = await pool.acquire()
    pool.clock.advance(seconds=37)

    assert [again, await pool.acquire()] == [0, 0]


async def test_requests_that_are_throttled_together_move_the_pool_once(pool: Pool) -> None:
    """A throttled request with a key that is not current any more does not skip the current key."""
    grants = [await acquire_grant(pool) for _ in range(3)]
    await pool.pool.record_throttled(grants[0], "429")
    positions = [await pool.acquire()]
    for grant in grants[1:]:
        await pool.restart().pool.record_throttled(grant, "429")

    assert [*positions, await pool.acquire()] == [1, 1]


async def test_throttled_key_is_not_blamed(pool: Pool) -> None:
    """A throttled key is ready, shows the error, and is the reason of the rotation."""
    await pool.pool.record_throttled(await acquire_grant(pool), "429: too many requests")
    await pool.acquire()

    key = (await pool.pool.usage())[0]
    [rotation] = await pool.pool.rotations()
    assert (key.state, key.last_error, rotation.reason) == (KeyState.READY, "429: too many requests", "throttled")


async def test_exhausted_daily_quota_cools_down_until_the_reset(pool: Pool) -> None:
    """If Google reports an exhausted daily quota, the key is not used until the reset, even if the pool has counted fewer requests."""
    await pool.pool.cool_down_until_reset(await acquire_grant(pool), "429: day")

    assert await pool.acquire_all() == [1, 1, 1, 2, 2, 2]
    assert await pool.exhausted_until() == quota_day_end(quota_day(NOON))


async def test_exhausted_daily_quota_just_after_midnight_is_a_short_cool_down(pool: Pool) -> None:
    """An exhausted daily quota just after midnight belongs to the day before, so the key cools down for only five minutes."""
    pool.clock.now = quota_day_end(quota_day(NOON)) + timedelta(seconds=1)
    await pool.pool.cool_down_until_reset(await acquire_grant(pool), "429: day")

    pool.clock.advance(minutes=5)

    assert await pool.acquire_all() == [0, 0, 1, 1, 1, 2, 2, 2]


async def test_disabled_key_stays_disabled(pool: Pool) -> None:
    """A disabled key stays disabled after a restart and on later days."""
    await pool.pool.disable(await acquire_grant(pool), "400: API key not valid")
    pool.clock.advance(days=2)

    assert set(await pool.restart().acquire_all()) == {1, 2}


async def test_disabled_keys_have_no_time_of_return(pool: Pool) -> None:
    """If all keys are disabled, the error has no time at which a key is ready."""
    while (grant := await pool.find_grant()) is not None:
        await pool.pool.disable(grant, "403")

    assert await pool.exhausted_until() is None


async def test_disabled_key_can_be_reset(pool: Pool) -> None:
    """A reset makes a disabled key ready, and its count of requests stays."""
    grant = await acquire_grant(pool)
    await pool.pool.disable(grant, "403")
    await pool.acquire_all()

    await pool.pool.reset(grant.key.id)

    assert await pool.acquire_all() == [0, 0]


async def test_key_that_cools_down_can_be_reset(pool: Pool) -> None:
    """A reset ends the cool-down of a key."""
    grant = await acquire_grant(pool)
    await pool.pool.cool_down_until_reset(grant, "429")

    await pool.pool.reset(grant.key.id)

    assert len(await pool.acquire_all()) == 8


async def test_unknown_key_cannot_be_reset(pool: Pool) -> None:
    """The error for the reset of an unknown key contains its id."""
    with pytest.raises(UnknownKey, match="nothing"):
        await pool.pool.reset("nothing")


async def test_rotations_are_logged(pool: Pool) -> None:
    """A rotation has the time, both keys and the reason; the latest rotation comes first."""
    await pool.pool.disable(await acquire_grant(pool), "403")
    await pool.acquire_all()

    rotations = [(change.at, change.from_id, change.to_id, change.reason) for change in await pool.pool.rotations()]

    first, second, third = (key.id for key in pool.keys)
    assert rotations == [(NOON, second, third, "exhausted"), (NOON, first, second, "disabled")]


async def test_removed_key_is_replaced(pool: Pool) -> None:
    """If the current key is removed from the settings, the next key replaces it."""
    await pool.acquire()
    others = Pool(pool.clients, pool.keys[1:], 3, pool.clock)

    assert await others.acquire() == 0
    [rotation] = await others.pool.rotations()
    assert rotation.reason == "removed"


async def test_log_of_rotations_is_limited(clients: Clients) -> None:
    """The log contains only the last 100 rotations."""
    pool = Pool(clients, parse_keys("a", "b"), limit=1000)
    for _ in range(ROTATIONS_KEPT + 5):
        await pool.pool.record_throttled(await acquire_grant(pool), "429")

    assert len(await pool.pool.rotations()) == ROTATIONS_KEPT


async def test_usage_shows_counts_state_and_last_error(pool: Pool) -> None:
    """The usage of a key has its counts, its state with the end time, and its last error."""
    await pool.pool.disable(await acquire_grant(pool), "403: no")
    await pool.pool.cool_down(await acquire_grant(pool), 60, "429: slow down")
    await pool.pool.record_failure(await acquire_grant(pool), "503: overloaded")

    usage = [(key.used, key.left, key.state, key.until, key.last_error) for key in await pool.pool.usage()]

    assert usage == [
        (1, 0, KeyState.DISABLED, None, "403: no"),
        (1, 2, KeyState.COOLING_DOWN, NOON + timedelta(seconds=60), "429: slow down"),
        (1, 2, KeyState.READY, None, "503: overloaded"),
    ]


async def test_success_deletes_the_last_error(pool: Pool) -> None:
    """A successful request deletes the last error of its key."""
    grant = await acquire_grant(pool)
    await pool.pool.record_failure(grant, "503: overloaded")

    await pool.pool.record_success(grant)

    assert {key.last_error for key in await pool.pool.usage()} == {None}


async def test_late_success_keeps_the_error_of_a_cool_down(pool: Pool) -> None:
    """A success that arrives during a cool-down keeps the error that caused it."""
    one, other = await acquire_grant(pool), await acquire_grant(pool)
    await pool.pool.cool_down_until_reset(one, "429: day")

    await pool.pool.record_success(other)

    assert (await pool.pool.usage())[0].last_error == "429: day"


async def test_usage_updates_the_gauges(pool: Pool) -> None:
    """The gauges show the used and remaining requests of each key, and whether it is disabled."""
    await pool.pool.disable(await acquire_grant(pool), "403: no")
    await pool.acquire()

    await pool.pool.usage()

    names = ("requests_used", "requests_left", "key_disabled")
    labels = [{"key": key.id, "project": key.project} for key in pool.keys[:2]]
    assert [[REGISTRY.get_sample_value(f"lunch_bot_gemini_{name}", key) for name in names] for key in labels] == [
        [1, 0, 1],
        [1, 2, 0],
    ]


async def test_usage_after_a_flush_is_restored(pool: Pool) -> None:
    """After a flush of Redis the usage shows the count of the ledger."""
    await pool.acquire()
    await pool.clients.redis.flushall()

    assert [key.used for key in await pool.pool.usage()] == [1, 0, 0]


async def test_requests_left_counts_a_project_once(shared: Pool) -> None:
    """A project's quota counts only once in the requests that the pool has left."""
    await shared.acquire()

    assert requests_left(await shared.pool.usage()) == 2 + 3


class ClusterOfOne(Redis):
    """Redis Cluster on one node. It refuses a script whose keys are in different slots."""

    def command(self, port: int) -> list[str]:
        return [*super().command(port), "--cluster-enabled", "yes", "--cluster-port", str(free_port())]


@pytest.mark.slow
async def test_pool_works_on_a_cluster(clients: Clients, tmp_path: Path) -> None:
    """All Redis keys of a script have one hash tag, so the pool works on Redis Cluster."""
    service = ClusterOfOne(tmp_path, durable=False)
    await service.start()
    try:
        async with RedisClient.from_url(service.url) as redis:
            await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            async with asyncio.timeout(DEADLINE_S):
                while not await _is_up(redis):
                    await asyncio.sleep(POLL_S)
            pool = Pool(replace(clients, redis=redis), parse_keys(*SECRETS), 3)
            grant = await acquire_grant(pool)
            await pool.pool.cool_down(grant, 1, "429")
            await pool.pool.disable(grant, "403")
            await pool.pool.reset(grant.key.id)

            assert [key.used for key in await pool.pool.usage()] == [1, 0, 0]
    finally:
        await service.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "throttled"), [(0, 0), (12, 0), (0, 0.5)], ids=["undisturbed", "killed", "throttled"]
)
async def test_many_processes_stay_within_the_limit(
    settings: Settings, clients: Clients, tmp_path: Path, kills: int, throttled: float
) -> None:
    """The pool counts exactly 3 × 195 requests of 16 processes with 3 keys.

    This holds even if some processes are killed, or if many requests are throttled. A grant of a killed process may be
    missing in the ledger and in the file of grants.
    """
    await run_acquirers(settings, tmp_path, kills, throttled)

    used = [key.used for key in await Pool(clients, parse_keys(*SECRETS), 195, Clock(datetime.now(UTC))).pool.usage()]
    in_ledger = await count_in_ledger(clients)
    grants = Counter((tmp_path / "grants").read_text().split())
    assert sum(used) == 585
    assert used == [195, 195, 195]
    assert 585 - kills <= sum(in_ledger.values()) <= 585
    assert sum(in_ledger.values()) - kills <= sum(grants.values())
    assert all(grants[key] <= in_ledger[key] <= 195 for key in in_ledger)


@pytest.mark.slow
async def test_many_processes_stay_within_the_limit_when_redis_is_flushed(
    settings: Settings, clients: Clients, tmp_path: Path
) -> None:
    """If Redis is flushed while 16 processes acquire keys, the ledger still allows exactly 3 × 195 requests."""

    async def flush() -> None:
        for number in range(100, 500, 100):
            await until(lambda number=number: count_lines(tmp_path / "grants") > number)  # type: ignore[misc]
            await clients.redis.flushall()

    await asyncio.gather(run_acquirers(settings, tmp_path, kills=0), flush())

    grants = Counter((tmp_path / "grants").read_text().split())
    assert grants == await count_in_ledger(clients) == {key.id: 195 for key in parse_keys(*SECRETS)}


@dataclass
class Model:
    """A simple model of the rules, with positions instead of key ids, and without Redis."""

    projects: list[str]
    limit: int
    now: datetime = NOON
    used: Counter[tuple[date, str]] = field(default_factory=Counter)
    cool_downs: dict[str, datetime] = field(default_factory=dict)
    cool_downs_in_a_row: Counter[str] = field(default_factory=Counter)
    disabled: set[int] = field(default_factory=set)
    current: int | None = None
    is_throttled: bool = False

    def acquire(self) -> int | datetime | None:
        """Return the position of the granted key, or the time of the next possible grant."""
        if quota_day_end(self.day) - self.now <= timedelta(seconds=10):
            return quota_day_end(self.day)
        for step in range(len(self.projects)):
            key = ((self.current or 0) + self.is_throttled + step) % len(self.projects)
            if self.ready_at(key) == self.now:
                self.current, self.is_throttled = key, False
                self.used[self.day, f"key {key}"] += 1
                self.used[self.day, self.projects[key]] += 1
                return key
        return min((at for key in range(len(self.projects)) if (at := self.ready_at(key))), default=None)

    def ready_at(self, key: int) -> datetime | None:
        if key in self.disabled:
            return None
        ready = max(self.now, self.cool_downs.get(self.projects[key], self.now))
        is_exhausted = self.limit in {self.used[self.day, f"key {key}"], self.used[self.day, self.projects[key]]}
        return max(ready, quota_day_end(self.day)) if is_exhausted else ready

    @property
    def day(self) -> date:
        return quota_day(self.now)

    def cool_down(self, key: int, until: datetime, min_s: int = 0) -> None:
        project = self.projects[key]
        if self.cool_downs.get(project, self.now) <= self.now:
            growing_s = min(min_s * 2 ** self.cool_downs_in_a_row[project], 600)
            until = max(until, self.now + timedelta(seconds=growing_s))
            self.cool_downs_in_a_row[project] += 1
        self.cool_downs[project] = max(until, self.cool_downs.get(project, until))

    def record_success(self, key: int) -> None:
        project = self.projects[key]
        if self.cool_downs.get(project, self.now) <= self.now and key not in self.disabled:
            del self.cool_downs_in_a_row[project]

    def cool_down_until_reset(self, key: int) -> None:
        day_start = quota_day_end(self.day - timedelta(days=1))
        is_early = self.now - day_start < timedelta(minutes=5)
        self.cool_down(key, self.now + timedelta(minutes=5) if is_early else quota_day_end(self.day))

    def reset(self, key: int) -> None:
        self.disabled.discard(key)
        self.cool_downs.pop(self.projects[key], None)
        del self.cool_downs_in_a_row[self.projects[key]]

    def flush(self) -> None:
        """Lose everything except the counts, which the ledger restores."""
        self.cool_downs.clear()
        self.cool_downs_in_a_row.clear()
        self.disabled.clear()
        self.current, self.is_throttled = None, False


STEPS = st.one_of(
    st.just(("acquire",)),
    st.just(("acquire",)),
    st.just(("acquire",)),
    st.tuples(st.just("cool_down"), st.integers(-1, 100)),
    st.just(("cool_down_until_reset",)),
    st.just(("disable",)),
    st.just(("record_success",)),
    st.just(("record_failure",)),
    st.just(("record_throttled",)),
    st.tuples(st.just("reset"), st.integers(0, 3)),
    st.tuples(st.just("advance"), st.sampled_from([1, 30, 60, 3600, 6 * 3600, 24 * 3600])),
    st.tuples(st.just("go_to_midnight"), st.integers(-12, 2)),
    st.just(("flush",)),
)


class Comparison:
    """A pool and its model. Each step changes both."""

    def __init__(self, clients: Clients, start: datetime) -> None:
        self.pool = Pool(clients, parse_keys("shared:a", "shared:b", "c", "d"), 3, Clock(start))
        self.model = Model(["shared", "shared", "c", "d"], 3, start)
        self.grant = Grant(self.pool.keys[0])

    @property
    def key(self) -> int:
        return self.pool.keys.index(self.grant.key)

    async def acquire(self) -> None:
        result: int | datetime | None
        try:
            self.grant = await self.pool.pool.acquire()
            result = self.key
        except KeysExhausted as exhausted:
            result = exhausted.until
        assert result == self.model.acquire()

    async def cool_down(self, seconds: int) -> None:
        await self.pool.pool.cool_down(self.grant, seconds, "429")
        self.model.cool_down(self.key, self.model.now + timedelta(seconds=seconds), min_s=1)

    async def cool_down_until_reset(self) -> None:
        await self.pool.pool.cool_down_until_reset(self.grant, "429")
        self.model.cool_down_until_reset(self.key)

    async def disable(self) -> None:
        await self.pool.pool.disable(self.grant, "403")
        self.model.disabled.add(self.key)

    async def record_success(self) -> None:
        await self.pool.pool.record_success(self.grant)
        self.model.record_success(self.key)

    async def record_throttled(self) -> None:
        await self.pool.pool.record_throttled(self.grant, "429")
        self.model.is_throttled |= self.key == self.model.current

    async def record_failure(self) -> None:
        await self.pool.pool.record_failure(self.grant, "503")

    async def reset(self, number: int) -> None:
        await self.pool.pool.reset(self.pool.keys[number].id)
        self.model.reset(number)

    async def advance(self, seconds: int) -> None:
        self.model.now = self.pool.clock.now = self.model.now + timedelta(seconds=seconds)

    async def go_to_midnight(self, seconds: int) -> None:
        self.model.now = self.pool.clock.now = max(
            self.model.now, quota_day_end(self.model.day) + timedelta(seconds=seconds)
        )

    async def flush(self) -> None:
        await self.pool.clients.redis.flushall()
        self.model.flush()


@settings_of_hypothesis(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(STEPS, min_size=10, max_size=60),
    start=st.sampled_from([NOON, datetime(2026, 3, 8, 9, tzinfo=UTC), datetime(2026, 11, 1, 9, tzinfo=UTC)]),
)
async def test_pool_behaves_like_its_model(clients: Clients, steps: list[tuple[Any, ...]], start: datetime) -> None:
    """After any sequence of grants, outcomes, time steps and flushes, the pool gives the same results as the model."""
    await clients.redis.flushall()
    async with clients.db() as session:
        await session.execute(delete(GeminiUsage))
    comparison = Comparison(clients, start)
    for name, *arguments in steps:
        await getattr(comparison, name)(*arguments)

        usage, model = await comparison.pool.pool.usage(), comparison.model
        assert [key.state is KeyState.READY for key in usage] == [model.ready_at(n) == model.now for n in range(4)]
        assert [key.used for key in usage] == [model.used[model.day, f"key {n}"] for n in range(4)]
        assert max(model.used.values(), default=0) <= 3


async def acquire_grant(pool: Pool) -> Grant:
    grant = await pool.find_grant()
    assert grant is not None
    return grant


async def cool_down_s(pool: Pool, seconds: float) -> float:
    """Let the first key cool down, and return how long it does."""
    await pool.pool.cool_down(Grant(pool.keys[0]), seconds, "429: slow down")
    until = (await pool.pool.usage())[0].until
    assert until is not None
    return (until - pool.clock.now).total_seconds()


async def run_acquirers(settings: Settings, directory: Path, kills: int, throttled: float = 0) -> None:
    """Run 16 processes until all keys are exhausted."""
    (directory / "grants").touch()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.ai.acquirers", str(directory), "16", str(kills), str(throttled), *SECRETS),
        env={
            **os.environ,
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "KAFKA_BROKER_URL": settings.kafka_broker_url,
            "JWT_SECRET_KEY": settings.jwt_secret_key.get_secret_value(),
        },
    )
    assert await process.wait() == 0


async def count_in_ledger(clients: Clients) -> Counter[str]:
    """Return the number of requests in the ledger by key id."""
    async with clients.db() as session:
        rows = await session.scalars(select(GeminiUsage))
        return Counter({row.scope.removeprefix("key:"): row.requests for row in rows if row.scope.startswith("key:")})


def count_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


async def _is_up(redis: RedisClient) -> bool:
    info: bytes = await redis.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    return "cluster_state:ok" in str(info)
