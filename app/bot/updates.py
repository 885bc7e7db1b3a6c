"""The caller, the chat and the locale of an update."""

from aiogram.types import CallbackQuery, Message

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.telegram.i18n import locale_of


def context_of(update: Message | CallbackQuery, clients: Clients) -> Context:
    """Make the context of an operation: its caller is the user who wrote or pressed, in that chat."""
    chat_id = chat_of(update)
    user_id = update.from_user.id if update.from_user else None
    return Context(clients, source=f"chat:{chat_id}", caller=Caller(telegram_user=user_id, telegram_chat=chat_id))


def chat_of(update: Message | CallbackQuery) -> int:
    if isinstance(update, Message):
        return update.chat.id
    return update.message.chat.id if update.message else update.from_user.id


def locale_of_update(update: Message | CallbackQuery) -> str:
    return locale_of(update.from_user.language_code if update.from_user else None)
