"""A key pool with a clock that the test controls."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from pydantic import SecretStr

from app.ai.key_pool import ApiKey, Grant, KeyPool, KeysExhausted
from app.clients import Clients
from app.services.gemini_keys import UsageLedger

NOON = datetime(2026, 7, 15, 19, tzinfo=UTC)
"""Noon in California."""


def parse_keys(*settings: str) -> list[ApiKey]:
    return [ApiKey.parse(SecretStr(setting)) for setting in settings]


@dataclass
class Clock:
    now: datetime = NOON

    def advance(self, **delta: float) -> None:
        self.now += timedelta(**delta)


@dataclass
class Pool:
    """A pool of `keys`. Each key has `limit` requests a day."""

    clients: Clients
    keys: list[ApiKey]
    limit: int
    clock: Clock = field(default_factory=Clock)
    jitter: float = 0.0

    def __post_init__(self) -> None:
        self.pool = KeyPool(
            self.clients.redis,
            self.keys,
            self.limit,
            UsageLedger(self.clients),
            clock=lambda: self.clock.now,
            jitter=lambda: self.jitter,
        )

    def restart(self) -> "Pool":
        """Return the pool of a new process with the same settings."""
        return Pool(self.clients, self.keys, self.limit, self.clock)

    async def acquire(self) -> int | None:
        """Acquire a key, and return its position; None if no key may be used."""
        grant = await self.find_grant()
        return None if grant is None else self.keys.index(grant.key)

    async def find_grant(self) -> Grant | None:
        try:
            return await self.pool.acquire()
        except KeysExhausted:
            return None

    async def acquire_all(self) -> list[int]:
        """Acquire keys until all are exhausted, and return their positions."""
        positions: list[int] = []
        while (position := await self.acquire()) is not None:
            positions.append(position)
        return positions

    async def exhausted_until(self) -> datetime | None:
        """Return when the next key may be used. All keys must be exhausted."""
        try:
            await self.pool.acquire()
        except KeysExhausted as exhausted:
            return exhausted.until
        raise AssertionError("a key was ready")
