"""The pool of Gemini keys, and the ledger that keeps its limits."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import override

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from app.ai.key_pool import ApiKey, KeyPool, Ledger
from app.clients import Clients
from app.models import GeminiUsage


class UsageLedger(Ledger):
    """The table `gemini_usage`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    @override
    async def requests(self, day: dt.date) -> Mapping[str, int]:
        async with self._clients.db() as session:
            rows = await session.scalars(select(GeminiUsage).where(GeminiUsage.day == day))
            return {usage.scope: usage.requests for usage in rows}

    @override
    async def count(self, day: dt.date, scopes: Sequence[str], limit: int) -> bool:
        """Count in one statement. Two processes with the last request of a scope meet at its row; one is refused."""
        counting = (
            insert(GeminiUsage)
            .values([{"day": day, "scope": scope, "requests": 1} for scope in scopes])
            .on_conflict_do_update(
                index_elements=["day", "scope"],
                set_={"requests": GeminiUsage.requests + 1},
                where=col(GeminiUsage.requests) < limit,
            )
            .returning(col(GeminiUsage.scope))
        )
        async with self._clients.db() as session:
            is_counted = len((await session.scalars(counting)).all()) == len(scopes)
            if not is_counted:
                await session.rollback()
        return is_counted


def key_pool(clients: Clients) -> KeyPool:
    """Return the pool of the settings' keys."""
    settings = clients.settings
    keys = [ApiKey.parse(setting) for setting in settings.gemini_api_keys]
    return KeyPool(clients.redis, keys, settings.gemini_max_requests_per_key, UsageLedger(clients))
