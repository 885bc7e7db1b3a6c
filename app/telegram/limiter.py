"""Telegram's rate limits, kept by all processes together in Redis.

https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this
"""

import asyncio
import time
from dataclasses import dataclass
from typing import override

from aiogram import Bot
from aiogram.client.session.middlewares.base import BaseRequestMiddleware, NextRequestMiddlewareType
from aiogram.methods import Response, SendMessage, TelegramMethod
from aiogram.methods.base import TelegramType
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from app.log import get_log
from app.redis_scripts import load_script
from app.telegram.sender import RetryAfter

log = get_log(__name__)

MESSAGES_PER_SECOND = 30
SECONDS_PER_MESSAGE_IN_CHAT = 1
MESSAGES_PER_MINUTE_IN_GROUP = 20

MARGIN = 1.07
"""How much longer our intervals are than Telegram's. Messages do not arrive as evenly as they are sent: a second of ours
has 28 messages, and one of them may be up to 70 ms late before Telegram counts 31."""

BOT_INTERVAL_MS = round(1000 / MESSAGES_PER_SECOND * MARGIN)
CHAT_INTERVAL_MS = round(1000 * SECONDS_PER_MESSAGE_IN_CHAT * MARGIN)
GROUP_WINDOW_MS = round(60_000 * MARGIN)

LEAD_MS = 120
"""The minimum time before a slot: the sender records the attempt first, and must still meet its slot."""

ANSWER_PATIENCE_S = 3.0
"""How long an answer to a command may wait for its slot."""

LATE_S = 0.03
"""A message that is later than this could meet the message in the next slot."""

PREFIX = "telegram:{limits}"
"""All keys have one hash tag, so that a script may use them together on Redis Cluster."""


@dataclass(frozen=True)
class Slot:
    """When a message may be sent, in the time of `time.monotonic()`.

    It is between two instants, because the travel time of Redis' answer is not known.
    """

    earliest: float
    latest: float

    async def wait(self) -> bool:
        """Wait for the slot. Return False if it is missed: then the sender needs another slot."""
        await asyncio.sleep(self.latest - time.monotonic())
        return time.monotonic() - self.earliest < LATE_S


@dataclass(frozen=True)
class Busy:
    """No slot is free now. Try again after `wait_s` seconds."""

    wait_s: float


class Limiter:
    """Gives out slots, each in one round trip.

    The bot's slots are given in the order of the requests, but only to chats that may get a message now: a chat with
    many messages does not delay the others.
    """

    def __init__(self, redis: Redis) -> None:
        self._acquire: AsyncScript = load_script(redis, __file__, "limiter")
        self._pause: AsyncScript = load_script(redis, __file__, "pause")

    async def acquire(self, chat_id: int, *, patience_s: float) -> Slot | Busy:
        """Acquire the next slot for a chat, if there is one within `patience_s` seconds."""
        asked = time.monotonic()
        granted, wait_ms = await self._acquire(
            keys=[
                f"{PREFIX}:next",
                f"{PREFIX}:pause",
                f"{PREFIX}:next:{chat_id}",
                f"{PREFIX}:pause:{chat_id}",
                f"{PREFIX}:group:{chat_id}",
            ],
            args=[
                BOT_INTERVAL_MS,
                CHAT_INTERVAL_MS,
                MESSAGES_PER_MINUTE_IN_GROUP if chat_id < 0 else 0,
                GROUP_WINDOW_MS,
                LEAD_MS,
                round(patience_s * 1000),
            ],
        )
        wait_s = wait_ms / 1000
        return Slot(asked + wait_s, time.monotonic() + wait_s) if granted else Busy(wait_s)

    async def pause(self, chat_id: int, seconds: int) -> bool:
        """Stop all messages to a chat for the time of Telegram's `retry_after`. Return whether all chats are paused.

        Telegram does not say whether it means the chat or the bot. The same answer for a second chat means the bot.
        """
        keys = [f"{PREFIX}:pause", f"{PREFIX}:pause:{chat_id}", f"{PREFIX}:flood"]
        return bool(await self._pause(keys=keys, args=[seconds * 1000, chat_id]))


class RateLimitMiddleware(BaseRequestMiddleware):
    """Keeps the limits for the bot's answers.

    An answer that would have to wait too long is dropped, so a chat that floods the bot does not delay the others. While
    Redis is unavailable answers are sent without a slot: they are few.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    @override
    async def __call__(
        self, make_request: NextRequestMiddlewareType[TelegramType], bot: Bot, method: TelegramMethod[TelegramType]
    ) -> Response[TelegramType]:
        """Raises RetryAfter."""
        if isinstance(method, SendMessage) and isinstance(method.chat_id, int):
            await self._wait(method.chat_id)
        return await make_request(bot, method)

    async def _wait(self, chat_id: int) -> None:
        patient_until = time.monotonic() + ANSWER_PATIENCE_S
        while (patience_s := patient_until - time.monotonic()) > 0:
            try:
                answer = await self._limiter.acquire(chat_id, patience_s=patience_s)
            except (RedisError, OSError) as error:
                log.warning("telegram.no_rate_limit", error=str(error))
                return
            if isinstance(answer, Slot):
                await answer.wait()
                return
            if answer.wait_s > patience_s:
                break
            await asyncio.sleep(answer.wait_s)
        raise RetryAfter(ANSWER_PATIENCE_S)
