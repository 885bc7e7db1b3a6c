"""The caller of an operation, and the viewer: the caller once it is authenticated."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime

from app.auth.tokens import parse_bearer, read_token
from app.clients import Clients
from app.errors import Forbidden, Unauthenticated
from app.models import Role, User


@dataclass(frozen=True)
class Viewer:
    """The authenticated user, with the role that the database has, and the expiry of the token."""

    tgid: int
    role: Role
    expires_at: datetime | None = None

    @property
    def is_manager(self) -> bool:
        return self.role is Role.MANAGER


@dataclass
class Caller:
    """The caller's credentials. They are checked when an operation needs them: a stale token does not block what is public.

    Args:
        authorization: The Authorization header, or the value from `connection_init`, as it came.
        telegram_user: The Telegram id of the user who wrote a message or pressed a button, as Telegram says.
        telegram_chat: The id of the chat in which that happened, as Telegram says.
        telegram_thread: The id of the forum topic in that chat, if it was in one.
        viewer: The authenticated user, once known.
    """

    authorization: object = field(default=None, repr=False)
    telegram_user: int | None = None
    telegram_chat: int | None = None
    telegram_thread: int | None = None
    viewer: Viewer | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)

    async def authenticate(self, clients: Clients) -> Viewer:
        """Find the viewer, once for each operation, even if several of its fields ask at the same time.

        The database decides, not the token: a deactivated or deleted user is refused immediately.

        Raises Unauthenticated, Forbidden.
        """
        async with self._lock:
            if self.viewer is None:
                self.viewer = await self._find_viewer(clients)
            return self.viewer

    async def _find_viewer(self, clients: Clients) -> Viewer:
        if self.telegram_user is not None:
            tgid, expires_at = self.telegram_user, None
        else:
            claims = read_token(clients.settings, parse_bearer(self.authorization))
            tgid, expires_at = claims.tgid, claims.expires_at
        user = await clients.users.find(tgid)
        if user is None:
            raise Unauthenticated("The token belongs to an unknown user.")
        require_active(user)
        return Viewer(user.tgid, user.role, expires_at)


def require_active(user: User) -> None:
    """Raises Forbidden for a deactivated user."""
    if not user.is_active:
        raise Forbidden("This account is deactivated.")
