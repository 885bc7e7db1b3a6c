"""The operation on Gemini keys."""

from app.ai.key_pool import KeyUsage
from app.auth.access import allow
from app.auth.context import Context
from app.models import Role
from app.services.gemini_keys import key_pool
from app.services.pagination import SortOrder

BY_POSITION: SortOrder[KeyUsage] = SortOrder("gemini_keys", (), (int,), lambda usage: (usage.position,))


@allow(Role.MANAGER)
async def list_gemini_keys(ctx: Context) -> list[KeyUsage]:
    """The current usage of the Gemini keys, in the order in which they are used."""
    return await key_pool(ctx.clients).usage()
