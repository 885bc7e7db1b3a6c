"""A pool of keys whose time passes as a test wants it."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from app.ai.key_pool import ApiKey, Grant, KeyPool, KeysResting
from app.clients import Clients
from app.resolvers.gemini_keys import UsageLedger

NOON = datetime(2026, 7, 15, 19, tzinfo=UTC)
"""Noon in California."""


def keys(*settings: str) -> list[ApiKey]:
    return [ApiKey.of(SecretStr(setting)) for setting in settings]


@dataclass
class Time:
    now: datetime = NOON

    def passes(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@dataclass
class Pool:
    """A pool of `keys`, each good for `limit` requests a day."""

    clients: Clients
    keys: list[ApiKey]
    limit: int
    time: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        self.pool = KeyPool(
            self.clients.redis, self.keys, self.limit, UsageLedger(self.clients), clock=lambda: self.time.now
        )

    def restarted(self) -> "Pool":
        """Another process, which knows nothing."""
        return Pool(self.clients, self.keys, self.limit, self.time)

    async def take(self) -> int | None:
        """Take a key, and return which of them it is; None while none may be used."""
        grant = await self.grant()
        return None if grant is None else self.keys.index(grant.key)

    async def grant(self) -> Grant | None:
        try:
            return await self.pool.acquire()
        except KeysResting:
            return None

    async def take_all(self) -> list[int]:
        """Take keys until none is left."""
        taken: list[int] = []
        while (key := await self.take()) is not None:
            taken.append(key)
        return taken

    async def until(self) -> datetime | None:
        """Say when the next key may be used."""
        try:
            await self.pool.acquire()
        except KeysResting as resting:
            return resting.until
        raise AssertionError("there was a key")
