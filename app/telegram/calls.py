"""The limits of calls to Telegram: pauses for all calls, and slots for the bot's answers."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import override

from aiogram import Bot
from aiogram.client.session.middlewares.base import BaseRequestMiddleware, NextRequestMiddlewareType
from aiogram.exceptions import TelegramAPIError
from aiogram.methods import Response, SendMessage, TelegramMethod
from aiogram.methods.base import TelegramType
from redis.exceptions import RedisError

from app.log import get_log
from app.telegram.limiter import Busy, Limiter
from app.telegram.sender import RetryAfter, make_bot, retry_after_of

log = get_log(__name__)

POLLING = "getUpdates"
"""The method that waits for messages, and sends none. It is called during a pause, too."""

ANSWER_PATIENCE_S = 3.0
"""How long a call may wait for the end of a pause, and an answer to a command for its slot."""


@asynccontextmanager
async def open_bot(token: str, api_url: str, limiter: Limiter, *, answers: bool = False) -> AsyncIterator[Bot]:
    """Open the bot of a process, which obeys Telegram's limits. See `make_bot` and `obey_limits`."""
    async with make_bot(token, api_url).context() as bot:
        obey_limits(bot, limiter, answers=answers)
        yield bot


def obey_limits(bot: Bot, limiter: Limiter, *, answers: bool = False) -> None:
    """Make each call of the bot obey the pauses that Telegram has asked any process for.

    Args:
        answers: Whether the bot sends its messages without asking for a slot, as answers to commands. Then it waits for
            the slot here.
    """
    if answers:
        bot.session.middleware(AnswerLimit(limiter))  # the first is the outermost
    bot.session.middleware(Pauses(limiter))


class Pauses(BaseRequestMiddleware):
    """Records each 429, whichever call gets it, and makes no call during a pause.

    While Redis is unavailable, calls are made without it: they are few, because notifications need Redis.
    """

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    @override
    async def __call__(
        self, make_request: NextRequestMiddlewareType[TelegramType], bot: Bot, method: TelegramMethod[TelegramType]
    ) -> Response[TelegramType]:
        """Raises RetryAfter."""
        chat_id = _chat_of(method)
        if method.__api_method__ != POLLING:
            await self._wait(chat_id, 0 if isinstance(method, SendMessage) else ANSWER_PATIENCE_S)
        try:
            return await make_request(bot, method)
        except TelegramAPIError as error:
            if (seconds := retry_after_of(error)) is None:
                raise
            await self._pause(chat_id, seconds)
            raise RetryAfter(seconds) from error

    async def _wait(self, chat_id: int | None, patience_s: float) -> None:
        """Wait for the end of a pause. Raises RetryAfter if it is too long. Messages do not wait: they need a slot."""
        try:
            left_s = await self._limiter.pause_left(chat_id)
        except (RedisError, OSError) as error:
            log.warning("telegram.no_rate_limit", error=str(error))
            return
        if left_s > patience_s:
            raise RetryAfter(left_s)
        await asyncio.sleep(left_s)

    async def _pause(self, chat_id: int | None, seconds: float) -> None:
        try:
            is_global = await self._limiter.pause(chat_id, seconds)
        except (RedisError, OSError) as error:
            log.warning("telegram.not_paused", chat=chat_id, s=seconds, error=str(error))
            return
        log.warning("telegram.paused", chat=chat_id, s=seconds, is_global=is_global)


class AnswerLimit(BaseRequestMiddleware):
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
            try:
                await wait_for_slot(self._limiter, method.chat_id, ANSWER_PATIENCE_S)
            except (RedisError, OSError) as error:
                log.warning("telegram.no_rate_limit", error=str(error))
        return await make_request(bot, method)


async def wait_for_slot(limiter: Limiter, chat_id: int, patience_s: float) -> None:
    """Wait until a message may be sent to a chat.

    Raises RetryAfter if that is not within `patience_s`, and the errors of redis-py.
    """
    patient_until = time.monotonic() + patience_s
    while (left_s := patient_until - time.monotonic()) > 0:
        answer = await limiter.acquire(chat_id, patience_s=left_s)
        if isinstance(answer, Busy):
            if answer.wait_s > left_s:
                raise RetryAfter(answer.wait_s)
            await asyncio.sleep(answer.wait_s)
        elif await limiter.meet(answer):
            return
    raise RetryAfter(patience_s)


def _chat_of(method: TelegramMethod[TelegramType]) -> int | None:
    chat_id = getattr(method, "chat_id", None)
    return chat_id if isinstance(chat_id, int) else None
