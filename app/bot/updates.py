"""The caller, the chat and the locale of an update."""

from aiogram.types import CallbackQuery, Message, User

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
from app.telegram.i18n import locale_of

PLACEHOLDERS = frozenset({777000, 1087968824, 136817688})
"""The accounts that stand for a chat: for the posts of a linked channel, for an anonymous administrator
(@GroupAnonymousBot), and for a channel that writes in a group (@Channel_Bot). They are no persons
(https://core.telegram.org/bots/api#message, `from`)."""


def context_of(update: Message | CallbackQuery, clients: Clients) -> Context:
    """Make the context of an operation: its caller is the user who wrote or pressed, in that chat."""
    chat_id, user = chat_of(update), user_of(update)
    caller = Caller(telegram_user=user.id if user else None, telegram_chat=chat_id, telegram_thread=thread_of(update))
    return Context(clients, source=f"chat:{chat_id}", caller=caller)


def user_of(update: Message | CallbackQuery) -> User | None:
    """Return who wrote or pressed; None for an anonymous administrator, or a channel."""
    user = update.from_user
    return None if user is None or user.id in PLACEHOLDERS else user


def name_of(query: CallbackQuery) -> str:
    """Return the name of the user who pressed; the title of the chat for an anonymous administrator."""
    user, chat = user_of(query), query.message.chat if query.message else None
    return user.full_name if user else (chat and chat.title) or query.from_user.full_name


def chat_of(update: Message | CallbackQuery) -> int:
    if isinstance(update, Message):
        return update.chat.id
    return update.message.chat.id if update.message else update.from_user.id


def thread_of(update: Message | CallbackQuery) -> int | None:
    """Return the forum topic. A reply in a group without topics has a thread as well, which is no topic."""
    message = update if isinstance(update, Message) else update.message
    return message.message_thread_id if isinstance(message, Message) and message.is_topic_message else None


def locale_of_update(update: Message | CallbackQuery) -> str:
    return locale_of(update.from_user.language_code if update.from_user else None)
