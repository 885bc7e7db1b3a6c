"""Slots for the messages of one process: a worker waits a short time for a slot, or gives its message back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.telegram.limiter import CHAT_INTERVAL_MS, Limiter, Slot
from app.telegram.sender import RetryAfter

PATIENCE_S = 1.5
"""How long a worker waits for a slot instead of giving its message back: a little more than the second between two
messages of a chat."""

ATTEMPTS = 3
"""How many slots a worker tries to meet before it gives its message back."""


class RateLimitedLocally(RetryAfter):
    """Our own limiter has no slot for the message yet."""


class ChatSlots:
    """Slots for messages to chats. Only one message of a chat waits here; the others are given back."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self._waiting: set[int] = set()

    @asynccontextmanager
    async def lease(self, chat_id: int) -> AsyncIterator["SlotLease"]:
        """Acquire a slot for the chat. Other messages of the chat get none before the block ends.

        Raises RateLimitedLocally if there is no slot soon enough.
        """
        if chat_id in self._waiting:
            raise RateLimitedLocally(CHAT_INTERVAL_MS / 1000)
        self._waiting.add(chat_id)
        try:
            yield SlotLease(self.limiter, chat_id, await _acquire(self.limiter, chat_id))
        finally:
            self._waiting.discard(chat_id)


@dataclass
class SlotLease:
    """A slot for a chat, replaced by another one when it is missed."""

    limiter: Limiter
    chat_id: int
    slot: Slot

    async def wait(self) -> None:
        """Wait for the slot. Raises RateLimitedLocally if too many slots are missed."""
        for _ in range(ATTEMPTS):
            if await self.slot.wait():
                return
            self.slot = await _acquire(self.limiter, self.chat_id)
        raise RateLimitedLocally(CHAT_INTERVAL_MS / 1000)


async def _acquire(limiter: Limiter, chat_id: int) -> Slot:
    """Raises RateLimitedLocally."""
    wait_s = 0.0
    for _ in range(ATTEMPTS):
        answer = await limiter.acquire(chat_id, patience_s=PATIENCE_S)
        if isinstance(answer, Slot):
            return answer
        wait_s = answer.wait_s
        if wait_s > PATIENCE_S:
            break
        await asyncio.sleep(wait_s)
    raise RateLimitedLocally(wait_s)
