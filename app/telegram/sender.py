"""Calling Telegram, and what its answers mean."""

import re
from collections.abc import Awaitable
from html import unescape

from aiogram import Bot
from aiogram.client.default import DefaultBotProperties
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.enums import ParseMode
from aiogram.exceptions import (
    AiogramError,
    TelegramAPIError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramUnauthorizedError,
)
from aiogram.types import InlineKeyboardMarkup
from aiohttp import ClientConnectorError

from app.log import get_log

log = get_log(__name__)

CALL_TIMEOUT_S = 10
"""After this the outcome of a call is unknown. Telegram answers within a second."""

UNKNOWN_RETRY_AFTER_S = 5
"""How long to wait when Telegram says 429 and not for how long."""


class NotSent(Exception):
    """Telegram has surely not taken the message."""


class ChatGone(NotSent):
    """The chat does not want us any more: the bot was blocked, or removed."""


class Refused(NotSent):
    """Telegram does not take this message, however often it is sent."""


class ChatMoved(NotSent):
    """The group has become a supergroup, with another id."""

    def __init__(self, chat_id: int) -> None:
        super().__init__(f"the group is now {chat_id}")
        self.chat_id = chat_id


class NotNow(NotSent):
    """Telegram wants us to wait for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"retry after {retry_after} s")
        self.retry_after = retry_after


class Unreachable(NotSent):
    """Telegram could not even be connected to, or does not know our token."""


class OutcomeUnknown(Exception):
    """Telegram may have taken the message or not: the call broke off, or something in between has answered."""


def make_bot(token: str, api_url: str) -> Bot:
    """Make the bot of this process; `api_url` is Telegram's, or that of whatever stands in for it."""
    return Bot(
        token,
        session=AiohttpSession(api=TelegramAPIServer.from_base(api_url), timeout=CALL_TIMEOUT_S),
        default=DefaultBotProperties(parse_mode=ParseMode.HTML, link_preview_is_disabled=True),
    )


async def send(bot: Bot, chat_id: int, text: str, buttons: InlineKeyboardMarkup | None = None) -> int:
    """Send `text` (Telegram's HTML) and return the message's id.

    What Telegram cannot parse is our mistake: it is sent once more, as plain text.

    Raises NotSent (ChatGone, Refused, ChatMoved, NotNow, Unreachable), OutcomeUnknown.
    """
    try:
        return (await understood(bot.send_message(chat_id, text, reply_markup=buttons))).message_id
    except Refused as error:
        if "can't parse entities" not in str(error):
            raise
        log.exception("telegram.unparsable", chat=chat_id)
        plain = bot.send_message(chat_id, without_markup(text), parse_mode=None, reply_markup=buttons)
        return (await understood(plain)).message_id


async def understood[R](call: Awaitable[R]) -> R:
    """Wait for a call to Telegram.

    Raises as `send` does.
    """
    try:
        return await call
    except AiogramError as error:
        raise _meaning(error) from error


def _meaning(error: AiogramError) -> NotSent | OutcomeUnknown:
    match error:
        case TelegramRetryAfter():
            return NotNow(error.retry_after)
        case TelegramForbiddenError():
            return ChatGone(error.message)
        case TelegramBadRequest() if "chat not found" in error.message:
            return ChatGone(error.message)
        case TelegramMigrateToChat():
            return ChatMoved(error.migrate_to_chat_id)
        case TelegramBadRequest():
            return Refused(error.message)
        case TelegramUnauthorizedError() | TelegramNotFound():  # not even the bot is known there
            return Unreachable(error.message)
        case TelegramNetworkError() if isinstance(error.__cause__, ClientConnectorError):
            return Unreachable(error.message)
        case TelegramAPIError() if "Too Many Requests" in error.message:  # without parameters aiogram knows no more
            return NotNow(UNKNOWN_RETRY_AFTER_S)
        case _:  # a time-out, a broken connection, a 5xx, or a balancer's 502 in HTML, which cannot even be decoded
            return OutcomeUnknown(str(error))


def without_markup(text: str) -> str:
    """Take the tags out of Telegram's HTML."""
    return unescape(re.sub(r"<[^>]*>", "", text))
