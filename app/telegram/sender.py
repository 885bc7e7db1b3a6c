"""Calls to Telegram, and the meaning of its errors."""

import re
from collections.abc import Awaitable
from html import unescape
from typing import Any

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
from app.redaction import redact

log = get_log(__name__)

CALL_TIMEOUT_S = 10
"""After this the outcome of a call is unknown. Telegram answers within a second."""

UNKNOWN_RETRY_AFTER_S = 5
"""How long to wait after a 429 without a time."""

TOPIC_ERRORS = ("message thread not found", "TOPIC_CLOSED", "TOPIC_DELETED", "TOPIC_ID_INVALID")
"""The descriptions of errors about forum topics, as the real service gives them. They are not documented."""


class NotSent(Exception):
    """Telegram has certainly not accepted the message."""


class ChatGone(NotSent):
    """The bot was blocked, or removed from the chat."""


class Refused(NotSent):
    """Telegram refuses this message. A retry would not help."""


class MayNotWrite(Refused):
    """The bot is in the chat, and has no right to send messages."""


class TopicUnavailable(Refused):
    """The forum topic is closed or deleted."""

    @property
    def is_deleted(self) -> bool:
        """Whether it cannot be opened again."""
        return "CLOSED" not in str(self)


class ChatMoved(NotSent):
    """The group became a supergroup, with another id."""

    def __init__(self, chat_id: int) -> None:
        super().__init__(f"the group is now {chat_id}")
        self.chat_id = chat_id


class RetryAfter(NotSent):
    """Telegram asks us to wait for `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"retry after {retry_after:g} s")
        self.retry_after = retry_after


class Unreachable(NotSent):
    """There is no connection to Telegram, or Telegram does not know the token."""


class DeliveryUnknown(Exception):
    """Telegram may have accepted the message: the call ended without its answer."""


def make_bot(token: str, api_url: str) -> Bot:
    """Make the bot of this process. `api_url` is Telegram's, or a stand-in's."""
    return Bot(
        token,
        session=AiohttpSession(api=TelegramAPIServer.from_base(api_url), timeout=CALL_TIMEOUT_S),
        default=DefaultBotProperties(parse_mode=ParseMode.HTML, link_preview_is_disabled=True),
    )


async def send(
    bot: Bot,
    chat_id: int,
    text: str,
    buttons: InlineKeyboardMarkup | None = None,
    *,
    thread_id: int | None = None,
) -> int:
    """Send `text` (Telegram's HTML) and return the message's id.

    HTML that Telegram cannot parse is our mistake. The message is then sent as plain text. If the topic is closed or
    deleted, the message goes to the chat itself.

    Args:
        thread_id: The forum topic in the chat.

    Raises NotSent (ChatGone, Refused, ChatMoved, RetryAfter, Unreachable), DeliveryUnknown.
    """

    async def call(text: str, thread_id: int | None, **options: Any) -> int:
        message = bot.send_message(chat_id, text, message_thread_id=thread_id, reply_markup=buttons, **options)
        try:
            return (await translate_errors(message)).message_id
        except TopicUnavailable as error:
            if thread_id is None:
                raise
            log.warning("telegram.topic_unavailable", chat=chat_id, thread=thread_id, error=str(error))
            return await call(text, None, **options)

    try:
        return await call(text, thread_id)
    except Refused as error:
        if "can't parse entities" not in str(error):
            raise
        log.exception("telegram.unparsable", chat=chat_id)
        return await call(remove_markup(text), thread_id, parse_mode=None)


async def translate_errors[R](call: Awaitable[R]) -> R:
    """Wait for a call to Telegram. Raises the same errors as `send`."""
    try:
        return await call
    except AiogramError as error:
        raise _to_domain_error(error) from error


def _to_domain_error(error: AiogramError) -> NotSent | DeliveryUnknown:
    match error:
        case TelegramAPIError() if (seconds := retry_after_of(error)) is not None:
            return RetryAfter(seconds)
        case TelegramForbiddenError():
            return ChatGone(error.message)
        case TelegramBadRequest() if "chat not found" in error.message:
            return ChatGone(error.message)
        case TelegramBadRequest() if any(reason in error.message for reason in TOPIC_ERRORS):
            return TopicUnavailable(error.message)
        case TelegramMigrateToChat():
            return ChatMoved(error.migrate_to_chat_id)
        case TelegramBadRequest():
            return Refused(error.message)
        case TelegramUnauthorizedError() | TelegramNotFound():  # the bot itself is unknown
            return Unreachable(error.message)
        case TelegramNetworkError() if isinstance(error.__cause__, ClientConnectorError):
            return Unreachable(redact(error.message))
        case _:  # a time-out, a broken connection, a 5xx, or a load balancer's 502 in HTML
            return DeliveryUnknown(redact(str(error)))  # it may contain the address, and so the token


def retry_after_of(error: TelegramAPIError) -> float | None:
    """Return the seconds that a 429 asks us to wait; None for other errors."""
    if isinstance(error, TelegramRetryAfter):
        return error.retry_after
    # aiogram does not recognise a 429 without parameters
    return UNKNOWN_RETRY_AFTER_S if "Too Many Requests" in error.message else None


def remove_markup(text: str) -> str:
    """Remove the tags from Telegram's HTML."""
    return unescape(re.sub(r"<[^>]*>", "", text))
