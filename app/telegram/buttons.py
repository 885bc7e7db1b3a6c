"""Buttons under messages, and the data that Telegram sends when a button is pressed."""

from aiogram.filters.callback_data import CallbackData
from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup

from app.telegram.i18n import _


class Received(CallbackData, prefix="received"):
    """The cafe has read this message."""

    notification_id: int


class Unlink(CallbackData, prefix="unlink"):
    """The answer to the question whether the chat should be unlinked."""

    cafe_id: int
    confirmed: bool


class Decide(CallbackData, prefix="decide"):
    """A manager's decision about a link request."""

    request_id: int
    approved: bool


def received(notification_id: int, locale: str) -> InlineKeyboardMarkup:
    return _row((_("Received", locale), Received(notification_id=notification_id)))


def unlink(cafe_id: int, locale: str) -> InlineKeyboardMarkup:
    return _row(
        (_("Yes, unlink", locale), Unlink(cafe_id=cafe_id, confirmed=True)),
        (_("No, keep it", locale), Unlink(cafe_id=cafe_id, confirmed=False)),
    )


def decide(request_id: int, locale: str) -> InlineKeyboardMarkup:
    return _row(
        (_("Approve", locale), Decide(request_id=request_id, approved=True)),
        (_("Reject", locale), Decide(request_id=request_id, approved=False)),
    )


def _row(*buttons: tuple[str, CallbackData]) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(
        inline_keyboard=[[InlineKeyboardButton(text=text, callback_data=data.pack()) for text, data in buttons]]
    )
