"""What one operation knows: the clients, who asks, and the time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from app.clients import Clients
from app.viewer import Viewer

if TYPE_CHECKING:
    from app.events.live import Live, Subscription
    from app.events.messages import Event


@dataclass
class Context:
    """One operation, from whichever door.

    Args:
        authorization: The Authorization header (or its like in `connection_init`) as it came, not looked at until an
            operation needs a viewer: a stale token does not keep anybody from what is public.
        source: Whose requests are counted against a rate limit: an address, or a chat.
        telegram_user: The person whom Telegram has named, instead of an Authorization: whose button or message it was.
        live: The events of this replica; only where subscriptions are served.
        clock: What time it is, in UTC.
        loaders: What gathers the reads of sibling fields into one; the schema's.
        subscribed: Set once the operation listens to live events.
        connection_params: What came with a socket's `connection_init`; Strawberry sets it.
    """

    clients: Clients
    source: str
    authorization: object = field(default=None, repr=False)
    telegram_user: int | None = None
    live: "Live | None" = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    loaders: dict[object, Any] = field(default_factory=dict, repr=False)
    identified: Viewer | None = field(default=None, repr=False)
    identifying: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    subscribed: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    connection_params: object = field(default=None, repr=False)

    @property
    def viewer(self) -> Viewer:
        """Who asks. Only operations that `@allow` a role have one."""
        if self.identified is None:
            raise LookupError("an operation that uses the viewer must allow a role")
        return self.identified

    @property
    def sees_chats(self) -> bool:
        """Whether the chat fields of cafes are for these eyes: managers' only."""
        return self.identified is not None and self.identified.is_manager

    def subscribe[T](self, select: "Callable[[Event], T | None]") -> "Subscription[T]":
        """Listen to the live events, and let the door know that we do."""
        if self.live is None:
            raise LookupError("this process serves no subscriptions")
        self.subscribed.set()
        return self.live.subscribe(select, self.identified)

    def now(self) -> datetime:
        return self.clock()
