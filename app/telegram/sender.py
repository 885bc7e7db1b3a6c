"""Sending one message, and what Telegram's answers mean for it."""

from aiogram import Bot
from aiogram.client.default import DefaultBotProperties
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.enums import ParseMode
from aiogram.exceptions import (
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramNotFound,
    TelegramRetryAfter,
)

SEND_TIMEOUT_S = 30
"""After this the outcome of a call is unknown."""


class ChatGone(Exception):
    """The chat does not want us any more: the bot was blocked, or removed."""


class Refused(Exception):
    """Telegram does not take this message, however often it is sent."""


class NotNow(Exception):
    """Telegram wants us to wait for `retry_after` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"retry after {retry_after} s")
        self.retry_after = retry_after


def make_bot(token: str, api_url: str) -> Bot:
    """Make the bot of this process; `api_url` is Telegram's, or that of whatever stands in for it."""
    return Bot(
        token,
        session=AiohttpSession(api=TelegramAPIServer.from_base(api_url), timeout=SEND_TIMEOUT_S),
        default=DefaultBotProperties(parse_mode=ParseMode.HTML, link_preview_is_disabled=True),
    )


async def send(bot: Bot, chat_id: int, text: str) -> int:
    """Send `text` (Telegram's HTML) and return the message's id.

    Raises ChatGone, Refused, NotNow; whatever else it raises leaves the outcome unknown or may pass.
    """
    try:
        message = await bot.send_message(chat_id, text)
    except TelegramRetryAfter as error:
        raise NotNow(error.retry_after) from error
    except TelegramForbiddenError as error:
        raise ChatGone(error.message) from error
    except (TelegramBadRequest, TelegramNotFound) as error:
        raise Refused(error.message) from error
    return message.message_id
