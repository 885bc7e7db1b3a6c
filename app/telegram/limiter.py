"""Telegram's rate limits, kept by all processes together in Redis.

https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
"""

import asyncio
import time
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from app.redis_scripts import load_script

MESSAGES_PER_SECOND = 30
SECONDS_PER_MESSAGE_IN_CHAT = 1
MESSAGES_PER_MINUTE_IN_GROUP = 20

LATE_MS = 200
"""How late a message may always reach Telegram after its slot, without a message too many in any second. All periods are
longer than Telegram's by this: 25 messages a second instead of 30. On a busy host a process wakes 50 to 90 ms late, and
messages do not travel evenly."""

LATE_MAX_MS = 1000
"""The largest lateness that makes the periods longer still: 15 messages a second."""

LATE_MEMORY_MS = 10_000
"""How long a larger lateness than `LATE_MS` makes the periods longer."""

BOT_INTERVAL_MS = (1000 + LATE_MS) // MESSAGES_PER_SECOND
"""The time between two messages of the bot while no process is late."""

CHAT_INTERVAL_S = SECONDS_PER_MESSAGE_IN_CHAT + LATE_MS / 1000
"""The time between two messages to a chat while no process is late."""

GROUP_INTERVAL_S = 60 / MESSAGES_PER_MINUTE_IN_GROUP
"""The time between two messages to a group in the long run."""

LEAD_MS = 120
"""The minimum time before a slot: the sender records the attempt first, and must still meet its slot."""

EXPIRED_S = 10.0
"""A slot that is older than this is lost: its process was suspended, and another process may have the message by now."""

LONGEST_TURN_S = 300.0
"""How long a message waits at most before the length of its queue is looked up again."""

PREFIX = "telegram:{limits}"
"""All keys have one hash tag, so that a script may use them together on Redis Cluster."""

BOT_PAUSE, LAST_PAUSED = f"{PREFIX}:pause", f"{PREFIX}:flood"


def seconds_until_turn(chat_id: int, messages_ahead: int) -> float:
    """Return about how long a chat needs for the messages ahead of another one."""
    is_long = chat_id < 0 and messages_ahead >= MESSAGES_PER_MINUTE_IN_GROUP
    return min(messages_ahead * (GROUP_INTERVAL_S if is_long else CHAT_INTERVAL_S), LONGEST_TURN_S)


@dataclass(frozen=True)
class Slot:
    """When a message may be sent, in the time of `time.monotonic()`.

    It is between two instants, because the travel time of Redis' answer is not known.
    """

    earliest: float
    latest: float


@dataclass(frozen=True)
class Busy:
    """No slot is free now. Try again after `wait_s` seconds."""

    wait_s: float


class Limiter:
    """Gives out slots, each in one round trip.

    The bot's slots are given in the order of the requests, but only to chats that may get a message now: a chat with
    many messages does not delay the others.

    A process that wakes late keeps its slot. Its lateness makes the slots of all processes longer for a while.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._acquire: AsyncScript = load_script(redis, __file__, "limiter")
        self._pause: AsyncScript = load_script(redis, __file__, "pause")
        self._late_ms = 0

    async def acquire(self, chat_id: int, *, patience_s: float) -> Slot | Busy:
        """Acquire the next slot for a chat, if there is one within `patience_s` seconds."""
        late_ms, self._late_ms = self._late_ms, 0
        asked = time.monotonic()
        granted, wait_ms = await self._acquire(
            keys=[
                f"{PREFIX}:next",
                BOT_PAUSE,
                f"{PREFIX}:next:{chat_id}",
                _pause_of(chat_id),
                f"{PREFIX}:group:{chat_id}",
                f"{PREFIX}:late",
            ],
            args=[
                MESSAGES_PER_SECOND,
                MESSAGES_PER_MINUTE_IN_GROUP if chat_id < 0 else 0,
                LEAD_MS,
                round(patience_s * 1000),
                late_ms,
                LATE_MS,
                LATE_MEMORY_MS,
            ],
        )
        wait_s = wait_ms / 1000
        return Slot(asked + wait_s, time.monotonic() + wait_s) if granted else Busy(wait_s)

    async def meet(self, slot: Slot) -> bool:
        """Wait for a slot. Return False if it is lost: then the sender needs another slot."""
        await asyncio.sleep(slot.latest - time.monotonic())
        late_s = time.monotonic() - slot.earliest
        self._late_ms = max(self._late_ms, min(round(late_s * 1000), LATE_MAX_MS))
        return late_s < EXPIRED_S

    async def pause(self, chat_id: int | None, seconds: float) -> bool:
        """Stop all messages to a chat, or of the bot, for the time of Telegram's `retry_after`.

        Telegram does not say whether it means the chat or the bot. The same answer for a second chat means the bot.

        Returns whether the bot is paused.
        """
        keys = [BOT_PAUSE, LAST_PAUSED] + ([] if chat_id is None else [_pause_of(chat_id)])
        return bool(await self._pause(keys=keys, args=[round(seconds * 1000), str(chat_id)]))

    async def pause_left(self, chat_id: int | None) -> float:
        """Return how many seconds a chat, or the bot, is still paused."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for key in [BOT_PAUSE] + ([] if chat_id is None else [_pause_of(chat_id)]):
                pipeline.pttl(key)
            left_ms: list[int] = await pipeline.execute()  # negative for a key that does not exist
        return max(0, *left_ms) / 1000


def _pause_of(chat_id: int) -> str:
    return f"{PREFIX}:pause:{chat_id}"
