"""The pool of Gemini keys, and the ledger of requests that it is kept honest by."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import override

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from app.ai.key_pool import ApiKey, KeyPool, KeyUsage, Ledger
from app.auth import allow
from app.clients import Clients
from app.context import Context
from app.models import GeminiUsage, Role
from app.resolvers.paging import SortOrder

BY_TURN: SortOrder[KeyUsage] = SortOrder("gemini_keys", (), (int,), lambda usage: (usage.position,))


class UsageLedger(Ledger):
    """The table `gemini_usage`."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    @override
    async def requests(self, day: dt.date) -> Mapping[str, int]:
        async with self._clients.db() as session:
            noted = await session.scalars(select(GeminiUsage).where(GeminiUsage.day == day))
            return {usage.scope: usage.requests for usage in noted}

    @override
    async def note(self, day: dt.date, scopes: Sequence[str], limit: int) -> bool:
        """Count in one statement. Two processes with the last request of a scope meet at its row: one of them is refused."""
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
            is_noted = len((await session.scalars(counting)).all()) == len(scopes)
            if not is_noted:
                await session.rollback()
        return is_noted


def key_pool(clients: Clients) -> KeyPool:
    """Return the pool of the settings' keys."""
    settings = clients.settings
    keys = [ApiKey.of(setting) for setting in settings.gemini_api_keys]
    return KeyPool(clients.redis, keys, settings.gemini_max_requests_per_key, UsageLedger(clients))


@allow(Role.MANAGER)
async def gemini_keys(ctx: Context) -> list[KeyUsage]:
    """How the Gemini keys stand today, in the order in which they are used up."""
    return await key_pool(ctx.clients).usage()
