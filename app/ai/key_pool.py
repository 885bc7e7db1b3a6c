"""The pool of Gemini keys. All processes share it: it chooses the key for each request, and counts the requests.

One Redis script chooses a key and counts the request, so no interleaving of processes grants more than the limit. Before
the request is made, the ledger counts it too, and refuses a request above the limit. Redis may therefore lose its
counters at any moment, even during requests, and the limit still holds. Lost counters are restored from the ledger
before Redis grants the next request.

Outside this process a key appears only as a hash. Google's quotas apply to a project, and to a day in Pacific time.
https://ai.google.dev/gemini-api/docs/rate-limits
"""

import datetime as dt
import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo

import orjson
from prometheus_client import Gauge
from pydantic import SecretStr
from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from app.log import get_log
from app.redis_scripts import load_script

log = get_log(__name__)

PACIFIC = ZoneInfo("America/Los_Angeles")
"""The daily quota resets at midnight Pacific time (https://ai.google.dev/gemini-api/docs/rate-limits)."""

REQUESTS_USED = Gauge(
    "lunch_bot_gemini_requests_used", "Requests with a key in the current quota day.", ["key", "project"]
)
REQUESTS_LEFT = Gauge(
    "lunch_bot_gemini_requests_left", "Requests that a key has left in the current quota day.", ["key", "project"]
)
KEY_DISABLED = Gauge(
    "lunch_bot_gemini_key_disabled", "1 if a key is disabled until an operator resets it.", ["key", "project"]
)
"""The gauges change only when this process calls `KeyPool.usage`; workers do so twice a minute."""

ID_CHARACTERS = 8
"""Long enough to distinguish the keys of one company, too short to recover a key."""

ROTATIONS_KEPT = 100

COUNTERS_TTL = dt.timedelta(days=3)

RESET_MARGIN = dt.timedelta(seconds=10)
"""In the last seconds of a quota day the pool grants nothing: Google might count the request in the next day, while the
pool counts it in this one."""

RESET_GRACE = dt.timedelta(minutes=5)
"""If Google reports an exhausted daily quota this soon after midnight, the report is about the day before: Google's clock or
its reset is a little late. The key then cools down for this time only, and not for the whole day."""

COOL_DOWN_MIN_S = 1.0
"""Google may say 0 s. Without a minimum, one key would then be asked again and again within a second."""

COOL_DOWN_MIN_GROWTH_MAX_S = 600.0
"""The minimum is twice as long after each cool-down without a success since the last one, up to this. A minute's quota is
back by then, and a request that fails again costs little of the day's quota."""

COOL_DOWN_MAX_S = 24 * 3600.0
"""No quota of Google lasts longer than a day."""

COOL_DOWN_JITTER_S = 1.0
"""A cool-down ends up to this much later than it must, so that keys and projects do not return together."""

PREFIX = "{gemini}"
"""All Redis keys have the same hash tag, so that one script can use them together on Redis Cluster."""

COOL_DOWNS = f"{PREFIX}:cool-downs"
COOL_DOWNS_IN_A_ROW = f"{PREFIX}:cool-downs-in-a-row"
DISABLED = f"{PREFIX}:disabled"
CURRENT = f"{PREFIX}:current"
THROTTLED = f"{PREFIX}:throttled"
ROTATIONS = f"{PREFIX}:rotations"
ERRORS = f"{PREFIX}:errors"


class KeysExhausted(Exception):
    """No key may be used before `until`. It is None if all keys are disabled until an operator resets one."""

    def __init__(self, until: dt.datetime | None) -> None:
        super().__init__(
            "all keys are disabled" if until is None else f"all keys are exhausted until {until:%Y-%m-%d %H:%M} UTC"
        )
        self.until = until


class UnknownKey(Exception):
    """There is no key with this id."""


@dataclass(frozen=True)
class ApiKey:
    """A key, its project, and its public id. All keys of a project share one quota."""

    id: str
    project: str
    secret: SecretStr = field(repr=False)

    @classmethod
    def parse(cls, setting: SecretStr) -> "ApiKey":
        """Parse `key` or `project:key`. A key without a project counts as its own project.

        The name of a project that belongs to a domain contains a colon. A key contains none.
        """
        project, _, key = setting.get_secret_value().rpartition(":")
        id_ = hashlib.sha256(key.encode()).hexdigest()[:ID_CHARACTERS]
        return cls(id_, project or id_, SecretStr(key))

    @property
    def scopes(self) -> tuple[str, str]:
        """The counters for a request with this key. The project is first: one lock order prevents deadlocks in the ledger."""
        return f"project:{self.project}", f"key:{self.id}"


class KeyState(StrEnum):
    """Whether a key may be used, and the reason if it may not."""

    READY = "ready"
    COOLING_DOWN = "cooling_down"
    """The quota per minute is exhausted."""
    EXHAUSTED = "exhausted"
    """The daily quota is exhausted."""
    DISABLED = "disabled"
    """Google does not accept the key. An operator must reset it."""


@dataclass(frozen=True)
class KeyUsage:
    """The current usage of a key.

    `position` is the index of the key in the pool. `until` is the time when an unavailable key becomes ready; it is None for
    a ready key, and for a disabled key.
    """

    position: int
    id: str
    project: str
    used: int
    left: int
    state: KeyState
    is_current: bool
    until: dt.datetime | None
    last_error: str | None


@dataclass(frozen=True)
class Rotation:
    """A change from one key to the next, and the reason."""

    at: dt.datetime
    from_id: str
    to_id: str
    reason: str


@dataclass(frozen=True)
class Grant:
    """The permission to make one request with a key. The request is already counted."""

    key: ApiKey


class _PoolState(NamedTuple):
    """The raw values from Redis."""

    used: Mapping[bytes, bytes]
    cool_downs: Mapping[bytes, bytes]
    disabled: Mapping[bytes, bytes]
    errors: Mapping[bytes, bytes]
    current: bytes | None


class Ledger(Protocol):
    """A durable count of requests. Each request is counted here before it is made."""

    async def requests(self, day: dt.date) -> Mapping[str, int]:
        """Return the number of requests of a quota day by scope."""

    async def count(self, day: dt.date, scopes: Sequence[str], limit: int) -> bool:
        """Count one request for all `scopes` and return True; or, if one is at `limit`, count nothing and return False."""


class KeyPool:
    """Grants requests with the keys, within their quotas.

    Args:
        limit: Requests per quota day of a key, and of all keys of a project together.
        clock: Returns the current time in UTC.
        jitter: Returns a number from 0 to 1.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Sequence[ApiKey],
        limit: int,
        ledger: Ledger,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.keys = keys
        self.limit = limit
        self._redis = redis
        self._ledger = ledger
        self._clock = clock
        self._jitter = jitter
        self._by_id = {key.id: key for key in keys}
        self._acquire: AsyncScript = load_script(redis, __file__, "acquire")
        self._report: AsyncScript = load_script(redis, __file__, "report")
        self._restore: AsyncScript = load_script(redis, __file__, "restore")

    async def acquire(self) -> Grant:
        """Acquire a key for one request. The request counts from now on, even if the caller does not make it.

        The pool uses one key until it is exhausted, and then the next one. After a throttled request it takes the next key,
        if there is one that may be used.

        Raises KeysExhausted.
        """
        while True:
            now = self._clock()
            day = quota_day(now)
            if quota_day_end(day) - now <= RESET_MARGIN:
                raise KeysExhausted(quota_day_end(day))
            reply, *values = await self._acquire(
                keys=[_used_key(day), COOL_DOWNS, DISABLED, CURRENT, ROTATIONS, THROTTLED],
                args=[
                    _to_ms(now),
                    _to_ms(quota_day_end(day)),
                    self.limit,
                    ROTATIONS_KEPT,
                    _counters_ttl_ms(),
                    *(part for key in self.keys for part in (key.id, key.project)),
                ],
            )
            match reply.decode():
                case "counters missing":
                    await self._restore_counters(day)
                case "exhausted":
                    raise KeysExhausted(None if values[0] < 0 else _from_ms(values[0]))
                case _:
                    key = self._by_id[values[0].decode()]
                    if await self._ledger.count(day, key.scopes, self.limit):
                        return Grant(key)
                    log.warning("gemini.counters_behind", key=key.id)
                    await self._restore_counters(day)

    async def record_success(self, grant: Grant) -> None:
        """Delete the key's last error, unless the key cools down or is disabled because of it."""
        await self._record_outcome(grant, "success")

    async def record_failure(self, grant: Grant, problem: str) -> None:
        """Store an error that the key did not cause."""
        await self._record_outcome(grant, "failure", problem)

    async def record_throttled(self, grant: Grant, problem: str) -> None:
        """Take the next key for the next request: Gemini refuses requests now, and does not say because of which quota.

        Several requests with one key may be throttled together; they move the pool by one key.
        """
        await self._record_outcome(grant, "throttled", problem)

    async def cool_down(self, grant: Grant, seconds: float, problem: str) -> None:
        """Do not use any key of the project for `seconds`: the quota per minute is exhausted.

        Google may send any number. The cool-down lasts at least `COOL_DOWN_MIN_S`, twice as long after each cool-down
        without a success since the last one, and at most `COOL_DOWN_MAX_S`.
        """
        jitter_s = self._jitter() * COOL_DOWN_JITTER_S
        until = self._clock() + dt.timedelta(seconds=min(max(seconds, 0), COOL_DOWN_MAX_S) + jitter_s)
        await self._record_outcome(grant, "cool down", problem, until, min_s=COOL_DOWN_MIN_S + jitter_s)

    async def cool_down_until_reset(self, grant: Grant, problem: str) -> None:
        """Do not use any key of the project until the quota day ends: the daily quota is exhausted."""
        now = self._clock()
        day = quota_day(now)
        day_start = quota_day_end(day - dt.timedelta(days=1))
        until = now + RESET_GRACE if now - day_start < RESET_GRACE else quota_day_end(day)
        await self._record_outcome(grant, "cool down", problem, until)

    async def disable(self, grant: Grant, problem: str) -> None:
        """Do not use the key until an operator resets it."""
        log.error("gemini.key_disabled", key=grant.key.id, project=grant.key.project, error=problem)
        await self._record_outcome(grant, "disabled", problem)

    async def reset(self, key_id: str) -> None:
        """Make a disabled key, or a key that cools down, ready again. Its count of requests stays.

        Raises UnknownKey.
        """
        if key_id not in self._by_id:
            raise UnknownKey(key_id)
        async with self._redis.pipeline() as pipeline:
            pipeline.hdel(DISABLED, key_id)
            pipeline.hdel(ERRORS, key_id)
            pipeline.hdel(COOL_DOWNS, self._by_id[key_id].project)
            pipeline.hdel(COOL_DOWNS_IN_A_ROW, self._by_id[key_id].project)
            await pipeline.execute()

    async def usage(self) -> list[KeyUsage]:
        """Return the usage of each key, in the order of the pool, and update the gauges."""
        now = self._clock()
        day = quota_day(now)
        state = await self._read_state(day)
        if b"restored" not in state.used:
            await self._restore_counters(day)
            state = await self._read_state(day)
        usage = [self._key_usage(position, now, state) for position in range(len(self.keys))]
        for key in usage:
            REQUESTS_USED.labels(key.id, key.project).set(key.used)
            REQUESTS_LEFT.labels(key.id, key.project).set(key.left)
            KEY_DISABLED.labels(key.id, key.project).set(key.state is KeyState.DISABLED)
        return usage

    async def rotations(self) -> list[Rotation]:
        """Return the last rotations, the latest first."""
        entries = map(orjson.loads, await self._redis.lrange(ROTATIONS, 0, -1))  # type: ignore[misc]
        return [Rotation(_from_ms(entry["at"]), entry["from"], entry["to"], entry["reason"]) for entry in entries]

    def _key_usage(self, position: int, now: dt.datetime, pool: _PoolState) -> KeyUsage:
        key = self.keys[position]
        name = key.id.encode()
        counts = [int(pool.used.get(scope.encode(), 0)) for scope in key.scopes]
        cools_until = _from_ms(int(pool.cool_downs.get(key.project.encode(), 0)))
        left = max(0, self.limit - max(counts))
        day_end = quota_day_end(quota_day(now))
        state, until = KeyState.READY, None
        if name in pool.disabled:
            state = KeyState.DISABLED
        elif left == 0 or cools_until >= day_end:
            state, until = KeyState.EXHAUSTED, max(day_end, cools_until)
        elif cools_until > now:
            state, until = KeyState.COOLING_DOWN, cools_until
        error = pool.errors.get(name) or pool.disabled.get(name)
        return KeyUsage(
            position=position,
            id=key.id,
            project=key.project,
            used=counts[1],
            left=left if state in {KeyState.READY, KeyState.COOLING_DOWN} else 0,
            state=state,
            is_current=name == pool.current,
            until=until,
            last_error=None if error is None else error.decode(),
        )

    async def _read_state(self, day: dt.date) -> _PoolState:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in (_used_key(day), COOL_DOWNS, DISABLED, ERRORS):
                pipeline.hgetall(name)
            pipeline.get(CURRENT)
            return _PoolState(*await pipeline.execute())

    async def _restore_counters(self, day: dt.date) -> None:
        """Raise the counters in Redis to the ledger's count for a quota day."""
        requests = await self._ledger.requests(day)
        counters = [str(part) for scope_and_number in requests.items() for part in scope_and_number]
        await self._restore(keys=[_used_key(day)], args=[_counters_ttl_ms(), *counters])

    async def _record_outcome(
        self, grant: Grant, outcome: str, problem: str = "", until: dt.datetime | None = None, min_s: float = 0
    ) -> None:
        """Record the outcome in Redis.

        Args:
            until: The end of a cool-down.
            min_s: The minimum of a cool-down that follows a success.
        """
        key = grant.key
        ends = await self._report(
            keys=[COOL_DOWNS, DISABLED, ERRORS, COOL_DOWNS_IN_A_ROW, CURRENT, THROTTLED],
            args=[
                key.id,
                outcome,
                problem,
                key.project,
                _to_ms(self._clock()),
                0 if until is None else _to_ms(until),
                int(min_s * 1000),
                int(COOL_DOWN_MIN_GROWTH_MAX_S * 1000),
            ],
        )
        if outcome == "cool down":
            log.warning(
                "gemini.key_cooling_down", key=key.id, project=key.project, until=str(_from_ms(ends)), error=problem
            )


def requests_left(usage: Sequence[KeyUsage]) -> int:
    """Return the requests that all keys together have left today. Keys of one project share its quota: it counts once."""
    by_project: dict[str, list[int]] = {}
    for key in usage:
        by_project.setdefault(key.project, []).append(key.left)
    return sum(max(left) for left in by_project.values())


def quota_day(instant: dt.datetime) -> dt.date:
    """Return the quota day of an instant: the date in Pacific time."""
    return instant.astimezone(PACIFIC).date()


def quota_day_end(day: dt.date) -> dt.datetime:
    """Return the end of a quota day in UTC. A quota day has 23, 24 or 25 hours."""
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), PACIFIC).astimezone(dt.UTC)


def _used_key(day: dt.date) -> str:
    return f"{PREFIX}:used:{day}"


def _counters_ttl_ms() -> int:
    return int(COUNTERS_TTL / dt.timedelta(milliseconds=1))


def _to_ms(instant: dt.datetime) -> int:
    return int(instant.timestamp() * 1000)


def _from_ms(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
