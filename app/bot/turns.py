"""Turns: work for different chats runs side by side, and work for one chat in order."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field


class TooManyWaiting(Exception):
    """The chat has too many updates that wait."""


class TurnTimeout(Exception):
    """The turn has not come in time."""


@dataclass
class _Line:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class ChatTurns:
    """Gives turns to chats. Only chats with work in hand take memory.

    Args:
        concurrency: How many turns may be in progress.
        max_waiting: How much work of one chat may wait or be in progress.
    """

    def __init__(self, *, concurrency: int, max_waiting: int) -> None:
        self._in_progress = asyncio.Semaphore(concurrency)
        self._max_waiting = max_waiting
        self._lines: dict[int, _Line] = {}

    @asynccontextmanager
    async def take(self, chat_id: int, patience_s: float | None = None) -> AsyncIterator[None]:
        """Run the block in a turn of the chat, in the order of the calls.

        A chat waits for its own earlier turn before it takes one of the places of all chats: a flood takes one place.

        Args:
            patience_s: How long to wait for the turn; None for as long as it takes.

        Raises TooManyWaiting, TurnTimeout.
        """
        line = self._lines.setdefault(chat_id, _Line())
        if line.length >= self._max_waiting:
            raise TooManyWaiting
        line.length += 1
        try:
            async with AsyncExitStack() as turn:
                try:
                    async with asyncio.timeout(patience_s):
                        await turn.enter_async_context(line.lock)
                        await turn.enter_async_context(self._in_progress)
                except TimeoutError:
                    raise TurnTimeout from None
                yield
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[chat_id]
