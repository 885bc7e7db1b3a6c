"""The context of one operation: the clients, the caller, and the time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from app.auth.viewer import Caller, Viewer
from app.clients import Clients
from app.events.live import Live, Subscription
from app.events.types import Event


@dataclass
class Context:
    """The context of an operation, the same for every API.

    Args:
        source: Whose requests count together for a rate limit: an address, or a chat.
        live: The live events of this replica. Only the api process has them.
        clock: Returns the time, in UTC.
    """

    clients: Clients
    source: str
    caller: Caller = field(default_factory=Caller)
    live: Live | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def viewer(self) -> Viewer:
        """The authenticated user; set only for operations that require a role."""
        if self.caller.viewer is None:
            raise LookupError("an operation that uses the viewer must allow a role")
        return self.caller.viewer

    @property
    def is_manager(self) -> bool:
        """Whether the viewer is known and a manager."""
        return self.caller.viewer is not None and self.caller.viewer.is_manager

    @property
    def chat_id(self) -> int:
        """The chat that called; set only for operations that allow `CHAT`."""
        if self.caller.telegram_chat is None:
            raise LookupError("an operation that uses the chat must allow CHAT")
        return self.caller.telegram_chat

    def subscribe[T](self, select: Callable[[Event], T | None]) -> Subscription[T]:
        """Subscribe to live events. `select` returns what the subscriber gets of an event, or None."""
        if self.live is None:
            raise LookupError("this process serves no subscriptions")
        return self.live.subscribe(select, self.caller.viewer)

    def now(self) -> datetime:
        return self.clock()
