"""The pool of Gemini keys: whose turn it is, and how much is left of each, for all processes together.

Who asks gets a key, counted in Redis in one script, so that no interleaving grants more than the limit. Before the
request is made it is noted in the ledger, which refuses one too many by itself: Redis may lose its counters at any
moment, with requests on their way, and still none goes over the limit. What Redis has lost is put back from the ledger
before it grants anything.

A key is known outside this process by a hash of it. Quotas are Google's: by project, and by the day of California.
https://ai.google.dev/gemini-api/docs/rate-limits
"""

import datetime as dt
import hashlib
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
from app.lua import script

log = get_log(__name__)

PACIFIC = ZoneInfo("America/Los_Angeles")
"""Requests per day reset at midnight Pacific time (https://ai.google.dev/gemini-api/docs/rate-limits)."""

USED = Gauge("lunch_bot_gemini_requests_used", "Requests of a key today, on Google's day.", ["key", "project"])
LEFT = Gauge("lunch_bot_gemini_requests_left", "Requests that a key is still good for today.", ["key", "project"])
ASIDE_NOW = Gauge("lunch_bot_gemini_key_set_aside", "1 if somebody has to look after a key.", ["key", "project"])
"""As of the last time that this process has looked; workers look twice a minute."""

ID_CHARACTERS = 8
"""Enough to tell the keys of a company apart, too little to find one."""

ROTATIONS_KEPT = 100

COUNTS_KEPT = dt.timedelta(days=3)

CLOSING = dt.timedelta(seconds=10)
"""Nothing is granted so shortly before Google's day ends: a request that arrives after midnight would count for the next
day, and not with us."""

RESET_GRACE = dt.timedelta(minutes=5)
"""A day's quota that Google says is used up so shortly after midnight is yesterday's: its clock, or the reset, is a
little behind. The key rests for as long, and not for another day."""

PREFIX = "{gemini}"
"""All keys have one hash tag, so that a script may use them together on Redis Cluster."""

RESTS = f"{PREFIX}:rests"
ASIDE = f"{PREFIX}:aside"
CURRENT = f"{PREFIX}:current"
ROTATIONS = f"{PREFIX}:rotations"
ERRORS = f"{PREFIX}:errors"


class KeysResting(Exception):
    """No key may be used before `until`; None if somebody has to bring one back first."""

    def __init__(self, until: dt.datetime | None) -> None:
        super().__init__(
            "all keys are set aside" if until is None else f"all keys rest until {until:%Y-%m-%d %H:%M} UTC"
        )
        self.until = until


class UnknownKey(Exception):
    """There is no key with that id."""


@dataclass(frozen=True)
class ApiKey:
    """A key, the project whose quota it shares, and the id by which it is known."""

    id: str
    project: str
    secret: SecretStr = field(repr=False)

    @classmethod
    def of(cls, setting: SecretStr) -> "ApiKey":
        """Read `key` or `project:key`. A key that names no project is one by itself.

        Projects that belong to a domain have a colon in their names, keys have none.
        """
        project, _, key = setting.get_secret_value().rpartition(":")
        id_ = hashlib.sha256(key.encode()).hexdigest()[:ID_CHARACTERS]
        return cls(id_, project or id_, SecretStr(key))

    @property
    def scopes(self) -> tuple[str, str]:
        """What a request of this key counts for. The project first: who locks both does so in this order."""
        return f"project:{self.project}", f"key:{self.id}"


class KeyState(StrEnum):
    """Whether a key may be used."""

    READY = "ready"
    COOLING_DOWN = "cooling_down"
    """Too many requests within a minute."""
    EXHAUSTED = "exhausted"
    """Nothing is left of its day."""
    SET_ASIDE = "set_aside"
    """Google does not take it; somebody has to look, and bring it back."""


@dataclass(frozen=True)
class KeyUsage:
    """How a key stands. `until` is when it may be used again, if it will be by itself; `position` is its place in the pool."""

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
    """A change from one key to the next, and why."""

    at: dt.datetime
    from_id: str
    to_id: str
    reason: str


@dataclass(frozen=True)
class Grant:
    """The right to make one request with a key; it is counted already."""

    key: ApiKey


class _State(NamedTuple):
    """What Redis knows, as it comes from there."""

    used: Mapping[bytes, bytes]
    rests: Mapping[bytes, bytes]
    aside: Mapping[bytes, bytes]
    errors: Mapping[bytes, bytes]
    current: bytes | None


class Ledger(Protocol):
    """Where each request is noted before it is made, and outlives Redis."""

    async def requests(self, day: dt.date) -> Mapping[str, int]:
        """Return how many were noted for a day, by scope."""

    async def note(self, day: dt.date, scopes: Sequence[str], limit: int) -> bool:
        """Note one more for all `scopes`, or for none, and say so, if one of them has `limit` already."""


class KeyPool:
    """Gives out keys.

    Args:
        limit: Requests a day of a key, and of all keys of a project together.
        clock: What time it is, in UTC.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Sequence[ApiKey],
        limit: int,
        ledger: Ledger,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self.keys = keys
        self.limit = limit
        self._redis = redis
        self._ledger = ledger
        self._clock = clock
        self._by_id = {key.id: key for key in keys}
        self._acquire: AsyncScript = script(redis, __file__, "acquire")
        self._report: AsyncScript = script(redis, __file__, "report")
        self._restore: AsyncScript = script(redis, __file__, "restore")

    async def acquire(self) -> Grant:
        """Take a key for one request. It counts from now on, whether the request is made or not.

        A key is used up before the next one is taken.

        Raises KeysResting.
        """
        while True:
            now = self._clock()
            day = day_of(now)
            if end_of(day) - now <= CLOSING:
                raise KeysResting(end_of(day))
            answer, *rest = await self._acquire(
                keys=[_used(day), RESTS, ASIDE, CURRENT, ROTATIONS],
                args=[
                    _ms(now),
                    _ms(end_of(day)),
                    self.limit,
                    ROTATIONS_KEPT,
                    _kept_ms(),
                    *(part for key in self.keys for part in (key.id, key.project)),
                ],
            )
            match answer.decode():
                case "unknown":
                    await self._put_back(day)
                case "resting":
                    raise KeysResting(None if rest[0] < 0 else _instant(rest[0]))
                case _:
                    key = self._by_id[rest[0].decode()]
                    if await self._ledger.note(day, key.scopes, self.limit):
                        return Grant(key)
                    log.warning("gemini.counters_behind", key=key.id)
                    await self._put_back(day)

    async def went_well(self, grant: Grant) -> None:
        """Forget the key's last error, unless it is why the key rests."""
        await self._tell(grant, "ok", at=self._clock())

    async def failed(self, grant: Grant, problem: str) -> None:
        """Note an error for which the key is not to blame."""
        await self._tell(grant, "failed", problem)

    async def rest(self, grant: Grant, seconds: float, problem: str) -> None:
        """Let the key, and those that share its quota, rest for so long: too many requests within a minute."""
        until = self._clock() + dt.timedelta(seconds=seconds)
        await self._tell(grant, "rest", problem, until)

    async def rest_until_reset(self, grant: Grant, problem: str) -> None:
        """Let the key, and those that share its quota, rest until Google's day ends: nothing is left of it."""
        now = self._clock()
        begin = end_of(day_of(now) - dt.timedelta(days=1))
        until = now + RESET_GRACE if now - begin < RESET_GRACE else end_of(day_of(now))
        await self._tell(grant, "rest", problem, until)

    async def set_aside(self, grant: Grant, problem: str) -> None:
        """Do not use the key any more, until somebody brings it back."""
        log.error("gemini.key_set_aside", key=grant.key.id, project=grant.key.project, error=problem)
        await self._tell(grant, "set aside", problem)

    async def reset(self, key_id: str) -> None:
        """Bring a key back that was set aside, or that rests. What it has used today stays used.

        Raises UnknownKey.
        """
        if key_id not in self._by_id:
            raise UnknownKey(key_id)
        async with self._redis.pipeline() as together:
            together.hdel(ASIDE, key_id)
            together.hdel(ERRORS, key_id)
            together.hdel(RESTS, self._by_id[key_id].project)
            await together.execute()

    async def usage(self) -> list[KeyUsage]:
        """Say how each key stands, in the order in which they are used."""
        now = self._clock()
        day = day_of(now)
        state = await self._read(day)
        if b"known" not in state.used:
            await self._put_back(day)
            state = await self._read(day)
        usage = [self._usage(position, now, state) for position in range(len(self.keys))]
        for key in usage:
            USED.labels(key.id, key.project).set(key.used)
            LEFT.labels(key.id, key.project).set(key.left)
            ASIDE_NOW.labels(key.id, key.project).set(key.state is KeyState.SET_ASIDE)
        return usage

    async def rotations(self) -> list[Rotation]:
        """The last changes from one key to the next, the latest first."""
        entries = map(orjson.loads, await self._redis.lrange(ROTATIONS, 0, -1))  # type: ignore[misc]
        return [Rotation(_instant(it["at"]), it["from"], it["to"], it["reason"]) for it in entries]

    def _usage(self, position: int, now: dt.datetime, pool: _State) -> KeyUsage:
        key = self.keys[position]
        name = key.id.encode()
        counts = [int(pool.used.get(scope.encode(), 0)) for scope in key.scopes]
        rests_until = _instant(int(pool.rests.get(key.project.encode(), 0)))
        left = max(0, self.limit - max(counts))
        reset = end_of(day_of(now))
        state, until = KeyState.READY, None
        if name in pool.aside:
            state = KeyState.SET_ASIDE
        elif left == 0 or rests_until >= reset:
            state, until = KeyState.EXHAUSTED, max(reset, rests_until)
        elif rests_until > now:
            state, until = KeyState.COOLING_DOWN, rests_until
        error = pool.errors.get(name) or pool.aside.get(name)
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

    async def _read(self, day: dt.date) -> _State:
        async with self._redis.pipeline(transaction=False) as together:
            for name in (_used(day), RESTS, ASIDE, ERRORS):
                together.hgetall(name)
            together.get(CURRENT)
            return _State(*await together.execute())

    async def _put_back(self, day: dt.date) -> None:
        """Tell Redis what was made today, as far as the ledger knows."""
        requests = await self._ledger.requests(day)
        counted = [str(part) for scope_and_number in requests.items() for part in scope_and_number]
        await self._restore(keys=[_used(day)], args=[_kept_ms(), *counted])

    async def _tell(self, grant: Grant, outcome: str, problem: str = "", at: dt.datetime | None = None) -> None:
        key = grant.key
        if outcome == "rest":
            log.warning("gemini.key_rests", key=key.id, project=key.project, until=str(at), error=problem)
        args: list[str | int] = [key.id, outcome, problem, key.project, 0 if at is None else _ms(at)]
        await self._report(keys=[RESTS, ASIDE, ERRORS], args=args)


def requests_left(usage: Sequence[KeyUsage]) -> int:
    """How many requests the keys are still good for today, all together: keys of one project share what is left of it."""
    by_project: dict[str, list[int]] = {}
    for key in usage:
        by_project.setdefault(key.project, []).append(key.left)
    return sum(max(left) for left in by_project.values())


def day_of(instant: dt.datetime) -> dt.date:
    """Return Google's day."""
    return instant.astimezone(PACIFIC).date()


def end_of(day: dt.date) -> dt.datetime:
    """Return when Google's day ends: after 23, 24 or 25 hours."""
    return dt.datetime.combine(day + dt.timedelta(days=1), dt.time(), PACIFIC).astimezone(dt.UTC)


def _used(day: dt.date) -> str:
    return f"{PREFIX}:used:{day}"


def _kept_ms() -> int:
    return int(COUNTS_KEPT / dt.timedelta(milliseconds=1))


def _ms(instant: dt.datetime) -> int:
    return int(instant.timestamp() * 1000)


def _instant(ms: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC)
