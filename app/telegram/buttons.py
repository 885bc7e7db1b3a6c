"""Buttons under messages, and what pressing one tells us."""

from aiogram.filters.callback_data import CallbackData
from aiogram.types import InlineKeyboardButton, InlineKeyboardMarkup

from app.telegram import texts


class Received(CallbackData, prefix="received"):
    """The kitchen has read this message."""

    notification_id: int


class Unlink(CallbackData, prefix="unlink"):
    """The answer to whether a chat shall be unlinked from a cafe."""

    cafe_id: int
    confirmed: bool


class Decide(CallbackData, prefix="decide"):
    """A manager decides about a link request."""

    request_id: int
    approved: bool


def received(notification_id: int, locale: str) -> InlineKeyboardMarkup:
    return _row((texts.received_button(locale), Received(notification_id=notification_id)))


def unlink(cafe_id: int, locale: str) -> InlineKeyboardMarkup:
    return _row(
        (texts.unlink_button(locale), Unlink(cafe_id=cafe_id, confirmed=True)),
        (texts.keep_button(locale), Unlink(cafe_id=cafe_id, confirmed=False)),
    )


def decide(request_id: int, locale: str) -> InlineKeyboardMarkup:
    return _row(
        (texts.approve_button(locale), Decide(request_id=request_id, approved=True)),
        (texts.reject_button(locale), Decide(request_id=request_id, approved=False)),
    )


def _row(*buttons: tuple[str, CallbackData]) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(
        inline_keyboard=[[InlineKeyboardButton(text=text, callback_data=data.pack()) for text, data in buttons]]
    )
