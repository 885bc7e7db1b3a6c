"""Telegram's limits, kept by all processes together in Redis.

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
from app.lua import script
from app.telegram.sender import NotNow

log = get_log(__name__)

MESSAGES_PER_SECOND = 30
SECONDS_PER_MESSAGE_IN_CHAT = 1
MESSAGES_PER_MINUTE_IN_GROUP = 20

MARGIN = 1.07
"""How much longer than Telegram's our intervals are. Messages do not arrive as evenly as they are sent: a second of ours
has 28 messages, and one of them may be up to 70 ms late before Telegram counts 31."""

BOT_INTERVAL_MS = round(1000 / MESSAGES_PER_SECOND * MARGIN)
CHAT_INTERVAL_MS = round(1000 * SECONDS_PER_MESSAGE_IN_CHAT * MARGIN)
GROUP_WINDOW_MS = round(60_000 * MARGIN)

LEAD_MS = 120
"""How far ahead a slot is at least: time to write down what is about to happen, so that the message goes out in its slot
and not a little later, when the next one does."""

ANSWER_PATIENCE_S = 3.0
"""How long an answer to a command may wait for its slot."""

PREFIX = "telegram:{limits}"
"""All keys have one hash tag, so that a script may use them together on Redis Cluster."""


LATE_S = 0.03
"""A message that is later than this could meet the one in the next slot."""


@dataclass(frozen=True)
class Slot:
    """When a message may be sent, in the time of `time.monotonic()`: between two moments, for nobody knows how long Redis'
    answer was on its way."""

    earliest: float
    latest: float

    async def reached(self) -> bool:
        """Wait for it, and say whether it is still there to be used: who is late asks for another."""
        await asyncio.sleep(self.latest - time.monotonic())
        return time.monotonic() - self.earliest < LATE_S


@dataclass(frozen=True)
class Busy:
    """A message may not be sent now; ask again after so many seconds."""

    wait_s: float


class Limiter:
    """Gives out the times at which messages may be sent, each in one round trip.

    Slots of the bot are given in the order in which they are asked for, but only to chats that may be written to now: a
    chat with much to say does not hold up the others.
    """

    def __init__(self, redis: Redis) -> None:
        self._acquire: AsyncScript = script(redis, __file__, "limiter")
        self._pause: AsyncScript = script(redis, __file__, "pause")

    async def acquire(self, chat_id: int, *, patience_s: float) -> Slot | Busy:
        """Ask for the next slot for a chat, if there is one within `patience_s` seconds."""
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
        """Keep everybody from writing to a chat, as Telegram's `retry_after` wants it, and say whether to any chat.

        Telegram does not say whether it means the chat or the bot. A second chat of which it says so means the bot.
        """
        keys = [f"{PREFIX}:pause", f"{PREFIX}:pause:{chat_id}", f"{PREFIX}:flood"]
        return bool(await self._pause(keys=keys, args=[seconds * 1000, chat_id]))


class Paced(BaseRequestMiddleware):
    """Lets the bot's answers keep the limits, too. One that would have to wait for long is not given: whoever floods a chat
    with commands does not hold up the others. With Redis away answers go out at once; they are few."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    @override
    async def __call__(
        self, make_request: NextRequestMiddlewareType[TelegramType], bot: Bot, method: TelegramMethod[TelegramType]
    ) -> Response[TelegramType]:
        """Raises NotNow."""
        if isinstance(method, SendMessage) and isinstance(method.chat_id, int):
            await self._wait(method.chat_id)
        return await make_request(bot, method)

    async def _wait(self, chat_id: int) -> None:
        patient_until = time.monotonic() + ANSWER_PATIENCE_S
        while (patience_s := patient_until - time.monotonic()) > 0:
            try:
                answer = await self._limiter.acquire(chat_id, patience_s=patience_s)
            except (RedisError, OSError) as error:
                log.warning("telegram.not_paced", error=str(error))
                return
            if isinstance(answer, Slot):
                await answer.reached()
                return
            if answer.wait_s > patience_s:
                break
            await asyncio.sleep(answer.wait_s)
        raise NotNow(ANSWER_PATIENCE_S)
