"""The pool of Gemini keys: never one request more than a key, or its project, is good for."""

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
    KeysResting,
    KeyState,
    UnknownKey,
    day_of,
    end_of,
    requests_left,
)
from app.clients import Clients
from app.dev.embedded import Redis
from app.models import GeminiUsage
from app.settings import Settings
from tests.ai.pools import NOON, Pool, Time, keys
from tests.conftest import free_port
from tests.servers import DEADLINE_S, POLL_S, until

SECRETS = ("AIza-one", "AIza-two", "AQ.three")


@pytest.fixture
def pool(clients: Clients) -> Pool:
    """Three keys of their own, three requests each."""
    return Pool(clients, keys(*SECRETS), limit=3)


@pytest.fixture
def shared(clients: Clients) -> Pool:
    """Two keys of one project, and one of its own; three requests each."""
    return Pool(clients, keys("kitchen:a", "kitchen:b", "c"), limit=3)


def test_a_key_is_known_by_a_hash() -> None:
    """Neither the id nor any text of a key has the key in it."""
    [key] = keys("kitchen:AIza-secret")

    assert "AIza" not in f"{key} {key!r} {key.id} {key.project} {key.scopes}"
    assert len(key.id) == 8


def test_a_project_may_have_a_colon_in_its_name() -> None:
    """Projects that belong to a domain are called `example.com:lunch`."""
    [key] = keys("example.com:lunch:AIza-secret")

    assert (key.project, key.secret.get_secret_value()) == ("example.com:lunch", "AIza-secret")


async def test_a_key_is_used_up_before_the_next_is_taken(pool: Pool) -> None:
    """One key after the other, in the order in which they are given."""
    assert await pool.take_all() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


async def test_keys_of_a_project_share_its_quota(shared: Pool) -> None:
    """Two keys of one project are good for as many requests as one."""
    assert await shared.take_all() == [0, 0, 0, 2, 2, 2]


async def test_when_all_are_used_up_they_rest_until_the_day_ends(pool: Pool) -> None:
    """The next request may be made at midnight in California."""
    await pool.take_all()

    assert await pool.until() == datetime(2026, 7, 16, 7, tzinfo=UTC)


async def test_nothing_is_granted_at_the_very_end_of_a_day(pool: Pool) -> None:
    """Such a request could arrive on the next day, and count there."""
    midnight = end_of(day_of(NOON))
    pool.time.now = midnight - timedelta(seconds=10)
    last = await pool.until()
    pool.time.now = midnight

    assert (last, await pool.take()) == (midnight, 0)


async def test_a_new_day_begins_with_the_key_that_is_in_use(pool: Pool) -> None:
    """On the next day each is good for as many again."""
    await pool.take_all()
    pool.time.now = datetime(2026, 7, 16, 7, tzinfo=UTC)

    assert await pool.take_all() == [2, 2, 2, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("day", "begins", "hours"),
    [
        (date(2026, 7, 15), datetime(2026, 7, 15, 7, tzinfo=UTC), 24),
        (date(2026, 3, 8), datetime(2026, 3, 8, 8, tzinfo=UTC), 23),
        (date(2026, 11, 1), datetime(2026, 11, 1, 7, tzinfo=UTC), 25),
        (date(2026, 12, 24), datetime(2026, 12, 24, 8, tzinfo=UTC), 24),
    ],
)
def test_days_are_californias(day: date, begins: datetime, hours: int) -> None:
    """A day goes from midnight to midnight there, also when its clocks are changed."""
    last = begins + timedelta(hours=hours) - timedelta(microseconds=1)

    assert (day_of(begins), day_of(last)) == (day, day)
    assert end_of(day) == begins + timedelta(hours=hours)


async def test_the_count_outlives_a_restart(pool: Pool) -> None:
    """Another process goes on where the first has stopped."""
    await pool.take()

    assert await pool.restarted().take_all() == [0, 0, 1, 1, 1, 2, 2, 2]


async def test_what_redis_has_lost_is_put_back(pool: Pool) -> None:
    """A flush cannot cause one request more: the ledger says what was made."""
    taken = [await pool.take() for _ in range(4)]
    await pool.clients.redis.flushall()

    assert Counter([*taken, *await pool.take_all()]) == {0: 3, 1: 3, 2: 3}


async def test_a_backup_of_redis_that_is_behind_is_found_out(pool: Pool) -> None:
    """Counters that are too low grant nothing that the ledger does not have left."""
    taken = [await pool.take() for _ in range(4)]
    used = f"{{gemini}}:used:{day_of(NOON)}"
    await pool.clients.redis.hset(used, mapping={scope: 0 for key in pool.keys for scope in key.scopes})  # type: ignore[misc]

    assert Counter([*taken, *await pool.take_all()]) == {0: 3, 1: 3, 2: 3}


async def test_a_key_that_is_given_to_a_project_keeps_its_count(pool: Pool) -> None:
    """Neither the key nor the project gets more than its limit by a change of the settings."""
    await pool.take()
    moved = Pool(pool.clients, keys(f"kitchen:{SECRETS[0]}", "kitchen:new"), 3, pool.time)

    assert await moved.take_all() == [0, 0, 1]


async def test_too_many_in_a_minute_is_a_short_rest(pool: Pool) -> None:
    """The key rests for as long as Google says; the next one is used meanwhile, and until it is used up."""
    await pool.pool.rest(await granted(pool), 37, "429: slow down")

    first = await pool.take()
    pool.time.passes(seconds=37)

    assert [first, *await pool.take_all()] == [1, 1, 1, 2, 2, 2, 0, 0]


async def test_a_rest_is_for_all_keys_of_a_project(shared: Pool) -> None:
    """They share the quota that is used up."""
    await shared.pool.rest(await granted(shared), 37, "429: slow down")

    assert await shared.take_all() == [2, 2, 2]
    assert await shared.until() == NOON + timedelta(seconds=37)


async def test_a_longer_rest_is_not_made_shorter(pool: Pool) -> None:
    """Of two that are told, the later end counts."""
    grant = await granted(pool)
    await pool.pool.rest_until_reset(grant, "429: day")
    await pool.pool.rest(grant, 1, "429: minute")
    pool.time.passes(hours=1)

    assert await pool.take_all() == [1, 1, 1, 2, 2, 2]


async def test_a_day_that_google_says_is_used_up_rests_until_the_reset(pool: Pool) -> None:
    """Whatever we have counted."""
    await pool.pool.rest_until_reset(await granted(pool), "429: day")

    assert await pool.take_all() == [1, 1, 1, 2, 2, 2]
    assert await pool.until() == end_of(day_of(NOON))


async def test_a_day_that_is_used_up_at_its_very_begin_is_yesterdays(pool: Pool) -> None:
    """Clocks are not that exact: the key does not rest for a day because it was asked a second after midnight."""
    pool.time.now = end_of(day_of(NOON)) + timedelta(seconds=1)
    await pool.pool.rest_until_reset(await granted(pool), "429: day")

    pool.time.passes(minutes=5)

    assert await pool.take_all() == [0, 0, 1, 1, 1, 2, 2, 2]


async def test_a_key_that_is_set_aside_stays_so(pool: Pool) -> None:
    """Over restarts and days, until somebody brings it back."""
    await pool.pool.set_aside(await granted(pool), "400: API key not valid")
    pool.time.passes(days=2)

    assert set(await pool.restarted().take_all()) == {1, 2}


async def test_nobody_knows_when_keys_that_are_set_aside_come_back(pool: Pool) -> None:
    """With all of them set aside there is no time to wait for."""
    while (grant := await pool.grant()) is not None:
        await pool.pool.set_aside(grant, "403")

    assert await pool.until() is None


async def test_a_key_is_brought_back(pool: Pool) -> None:
    """What it has used stays used."""
    grant = await granted(pool)
    await pool.pool.set_aside(grant, "403")
    await pool.take_all()

    await pool.pool.reset(grant.key.id)

    assert await pool.take_all() == [0, 0]


async def test_a_key_that_rests_is_brought_back(pool: Pool) -> None:
    """An operator may know better than Google's answer."""
    grant = await granted(pool)
    await pool.pool.rest_until_reset(grant, "429")

    await pool.pool.reset(grant.key.id)

    assert len(await pool.take_all()) == 8


async def test_a_key_that_is_not_there_cannot_be_brought_back(pool: Pool) -> None:
    """It is named."""
    with pytest.raises(UnknownKey, match="nothing"):
        await pool.pool.reset("nothing")


async def test_rotations_are_logged(pool: Pool) -> None:
    """Each change says from which key to which, when and why; the latest first."""
    await pool.pool.set_aside(await granted(pool), "403")
    await pool.take_all()

    told = [(it.at, it.from_id, it.to_id, it.reason) for it in await pool.pool.rotations()]

    first, second, third = (key.id for key in pool.keys)
    assert told == [(NOON, second, third, "used up"), (NOON, first, second, "set aside")]


async def test_a_key_that_is_not_in_the_settings_any_more_is_left(pool: Pool) -> None:
    """Its turn ends with the new settings."""
    await pool.take()
    others = Pool(pool.clients, pool.keys[1:], 3, pool.time)

    assert await others.take() == 0
    [rotation] = await others.pool.rotations()
    assert rotation.reason == "removed"


async def test_the_log_of_rotations_does_not_grow(clients: Clients) -> None:
    """The last 100 are kept."""
    pool = Pool(clients, keys("a", "b"), limit=1000)
    for _ in range(ROTATIONS_KEPT + 5):
        await pool.pool.rest(await granted(pool), 1, "429")
        pool.time.passes(milliseconds=600)

    assert len(await pool.pool.rotations()) == ROTATIONS_KEPT


async def test_how_keys_stand(pool: Pool) -> None:
    """Used, left, state, until when, and the last error, of each."""
    await pool.pool.set_aside(await granted(pool), "403: no")
    await pool.pool.rest(await granted(pool), 60, "429: slow down")
    await pool.pool.failed(await granted(pool), "503: overloaded")

    stand = [(it.used, it.left, it.state, it.until, it.last_error) for it in await pool.pool.usage()]

    assert stand == [
        (1, 0, KeyState.SET_ASIDE, None, "403: no"),
        (1, 2, KeyState.COOLING_DOWN, NOON + timedelta(seconds=60), "429: slow down"),
        (1, 2, KeyState.READY, None, "503: overloaded"),
    ]


async def test_a_request_that_went_well_ends_an_error(pool: Pool) -> None:
    """What is told is how a key stands now."""
    grant = await granted(pool)
    await pool.pool.failed(grant, "503: overloaded")

    await pool.pool.went_well(grant)

    assert {key.last_error for key in await pool.pool.usage()} == {None}


async def test_an_answer_that_was_on_its_way_hides_nothing(pool: Pool) -> None:
    """Why a key rests is still to be seen after another request of it has gone well."""
    one, other = await granted(pool), await granted(pool)
    await pool.pool.rest_until_reset(one, "429: day")

    await pool.pool.went_well(other)

    assert (await pool.pool.usage())[0].last_error == "429: day"


async def test_prometheus_is_told(pool: Pool) -> None:
    """Used, left, and whether somebody has to look, of each key."""
    await pool.pool.set_aside(await granted(pool), "403: no")
    await pool.take()

    await pool.pool.usage()

    names = ("requests_used", "requests_left", "key_set_aside")
    labels = [{"key": key.id, "project": key.project} for key in pool.keys[:2]]
    assert [[REGISTRY.get_sample_value(f"lunch_bot_gemini_{name}", of) for name in names] for of in labels] == [
        [1, 0, 1],
        [1, 2, 0],
    ]


async def test_how_keys_stand_after_a_flush(pool: Pool) -> None:
    """Who only looks is told what was really made."""
    await pool.take()
    await pool.clients.redis.flushall()

    assert [key.used for key in await pool.pool.usage()] == [1, 0, 0]


async def test_keys_of_a_project_are_counted_together(shared: Pool) -> None:
    """What is left of the pool counts a project's quota once."""
    await shared.take()

    assert requests_left(await shared.pool.usage()) == 2 + 3


class ClusterOfOne(Redis):
    """Redis Cluster on one node: it refuses a script whose keys are not all in one slot."""

    def command(self, port: int) -> list[str]:
        return [*super().command(port), "--cluster-enabled", "yes", "--cluster-port", str(free_port())]


async def test_it_works_on_a_cluster(clients: Clients, tmp_path: Path) -> None:
    """All keys of a script have one hash tag."""
    service = ClusterOfOne(tmp_path, durable=False)
    await service.start()
    try:
        async with RedisClient.from_url(service.url) as redis:
            await redis.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            async with asyncio.timeout(DEADLINE_S):
                while not await _is_up(redis):
                    await asyncio.sleep(POLL_S)
            pool = Pool(replace(clients, redis=redis), keys(*SECRETS), 3)
            grant = await granted(pool)
            await pool.pool.rest(grant, 1, "429")
            await pool.pool.set_aside(grant, "403")
            await pool.pool.reset(grant.key.id)

            assert [key.used for key in await pool.pool.usage()] == [1, 0, 0]
    finally:
        await service.stop()


@pytest.mark.parametrize("kills", [0, 12], ids=["undisturbed", "killed"])
async def test_many_processes_at_once(settings: Settings, clients: Clients, tmp_path: Path, kills: int) -> None:
    """16 processes take from 3 keys as fast as they can, and some are killed: 3 × 195 grants, and not one more.

    A grant dies with a process that is killed before it has noted it: it is counted and not made.
    """
    await acquire_at_once(settings, tmp_path, kills)

    counted = [key.used for key in await Pool(clients, keys(*SECRETS), 195, Time(datetime.now(UTC))).pool.usage()]
    noted = await ledger(clients)
    made = Counter((tmp_path / "grants").read_text().split())
    assert sum(counted) == 585
    assert counted == [195, 195, 195]
    assert 585 - kills <= sum(noted.values()) <= 585
    assert sum(noted.values()) - kills <= sum(made.values())
    assert all(made[key] <= noted[key] <= 195 for key in noted)


async def test_many_processes_and_redis_is_emptied(settings: Settings, clients: Clients, tmp_path: Path) -> None:
    """Whatever Redis loses while 16 processes take keys: the ledger lets exactly 3 × 195 requests be made."""

    async def flush() -> None:
        for number in range(100, 500, 100):
            await until(lambda number=number: lines(tmp_path / "grants") > number)  # type: ignore[misc]
            await clients.redis.flushall()

    await asyncio.gather(acquire_at_once(settings, tmp_path, kills=0), flush())

    made = Counter((tmp_path / "grants").read_text().split())
    assert made == await ledger(clients) == {key.id: 195 for key in keys(*SECRETS)}


@dataclass
class Model:
    """The rules in plain words. Places of keys instead of ids, and no Redis."""

    projects: list[str]
    limit: int
    now: datetime = NOON
    used: Counter[tuple[date, str]] = field(default_factory=Counter)
    rests: dict[str, datetime] = field(default_factory=dict)
    aside: set[int] = field(default_factory=set)
    current: int = 0

    def acquire(self) -> int | datetime | None:
        """The key that is granted; or when to ask again."""
        if end_of(self.day) - self.now <= timedelta(seconds=10):
            return end_of(self.day)
        for step in range(len(self.projects)):
            key = (self.current + step) % len(self.projects)
            if self.ready_at(key) == self.now:
                self.current = key
                self.used[self.day, f"key {key}"] += 1
                self.used[self.day, self.projects[key]] += 1
                return key
        return min((at for key in range(len(self.projects)) if (at := self.ready_at(key))), default=None)

    def ready_at(self, key: int) -> datetime | None:
        if key in self.aside:
            return None
        ready = max(self.now, self.rests.get(self.projects[key], self.now))
        is_used_up = self.limit in {self.used[self.day, f"key {key}"], self.used[self.day, self.projects[key]]}
        return max(ready, end_of(self.day)) if is_used_up else ready

    @property
    def day(self) -> date:
        return day_of(self.now)

    def rest(self, key: int, until: datetime) -> None:
        project = self.projects[key]
        self.rests[project] = max(until, self.rests.get(project, until))

    def rest_until_reset(self, key: int) -> None:
        begin = end_of(self.day - timedelta(days=1))
        is_early = self.now - begin < timedelta(minutes=5)
        self.rest(key, self.now + timedelta(minutes=5) if is_early else end_of(self.day))

    def reset(self, key: int) -> None:
        self.aside.discard(key)
        self.rests.pop(self.projects[key], None)

    def flush(self) -> None:
        """All is lost but what was made."""
        self.rests.clear()
        self.aside.clear()
        self.current = 0


STEPS = st.one_of(
    st.just(("acquire",)),
    st.just(("acquire",)),
    st.just(("acquire",)),
    st.tuples(st.just("rest"), st.integers(0, 100)),
    st.just(("rest_until_reset",)),
    st.just(("set_aside",)),
    st.just(("went_well",)),
    st.just(("failed",)),
    st.tuples(st.just("reset"), st.integers(0, 3)),
    st.tuples(st.just("time"), st.sampled_from([1, 30, 60, 3600, 6 * 3600, 24 * 3600])),
    st.tuples(st.just("midnight"), st.integers(-12, 2)),
    st.just(("flush",)),
)


class Play:
    """A pool and its description: what is done to one is done to the other."""

    def __init__(self, clients: Clients, begin: datetime) -> None:
        self.pool = Pool(clients, keys("kitchen:a", "kitchen:b", "c", "d"), 3, Time(begin))
        self.model = Model(["kitchen", "kitchen", "c", "d"], 3, begin)
        self.grant = Grant(self.pool.keys[0])

    @property
    def key(self) -> int:
        return self.pool.keys.index(self.grant.key)

    async def acquire(self) -> None:
        answer: int | datetime | None
        try:
            self.grant = await self.pool.pool.acquire()
            answer = self.key
        except KeysResting as resting:
            answer = resting.until
        assert answer == self.model.acquire()

    async def rest(self, seconds: int) -> None:
        await self.pool.pool.rest(self.grant, seconds, "429")
        self.model.rest(self.key, self.model.now + timedelta(seconds=seconds))

    async def rest_until_reset(self) -> None:
        await self.pool.pool.rest_until_reset(self.grant, "429")
        self.model.rest_until_reset(self.key)

    async def set_aside(self) -> None:
        await self.pool.pool.set_aside(self.grant, "403")
        self.model.aside.add(self.key)

    async def went_well(self) -> None:
        await self.pool.pool.went_well(self.grant)

    async def failed(self) -> None:
        await self.pool.pool.failed(self.grant, "503")

    async def reset(self, number: int) -> None:
        await self.pool.pool.reset(self.pool.keys[number].id)
        self.model.reset(number)

    async def time(self, seconds: int) -> None:
        self.model.now = self.pool.time.now = self.model.now + timedelta(seconds=seconds)

    async def midnight(self, seconds: int) -> None:
        self.model.now = self.pool.time.now = max(self.model.now, end_of(self.model.day) + timedelta(seconds=seconds))

    async def flush(self) -> None:
        await self.pool.clients.redis.flushall()
        self.model.flush()


@settings_of_hypothesis(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(STEPS, min_size=10, max_size=60),
    begin=st.sampled_from([NOON, datetime(2026, 3, 8, 9, tzinfo=UTC), datetime(2026, 11, 1, 9, tzinfo=UTC)]),
)
async def test_whatever_happens_the_pool_follows_its_rules(
    clients: Clients, steps: list[tuple[Any, ...]], begin: datetime
) -> None:
    """Random grants, outcomes, hours and losses: each answer is that of a plain description of the rules."""
    await clients.redis.flushall()
    async with clients.db() as session:
        await session.execute(delete(GeminiUsage))
    play = Play(clients, begin)
    for name, *arguments in steps:
        await getattr(play, name)(*arguments)

        usage, model = await play.pool.pool.usage(), play.model
        assert [it.state is KeyState.READY for it in usage] == [model.ready_at(n) == model.now for n in range(4)]
        assert [it.used for it in usage] == [model.used[model.day, f"key {n}"] for n in range(4)]
        assert max(model.used.values(), default=0) <= 3


async def granted(pool: Pool) -> Grant:
    grant = await pool.grant()
    assert grant is not None
    return grant


async def acquire_at_once(settings: Settings, directory: Path, kills: int) -> None:
    """Run the processes, until none of them gets any more."""
    (directory / "grants").touch()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.ai.acquirers", str(directory), "16", str(kills), *SECRETS),
        env={
            **os.environ,
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "KAFKA_BROKER_URL": settings.kafka_broker_url,
            "JWT_SECRET_KEY": settings.jwt_secret_key.get_secret_value(),
        },
    )
    assert await process.wait() == 0


async def ledger(clients: Clients) -> Counter[str]:
    """How many requests were noted, by the key's id."""
    async with clients.db() as session:
        rows = await session.scalars(select(GeminiUsage))
        return Counter({it.scope.removeprefix("key:"): it.requests for it in rows if it.scope.startswith("key:")})


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n")


async def _is_up(redis: RedisClient) -> bool:
    info: bytes = await redis.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    return "cluster_state:ok" in str(info)
