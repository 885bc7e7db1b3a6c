"""The dispatcher: which handler gets which update."""

from collections.abc import AsyncIterator
from contextlib import suppress

import stamina
from aiogram import Bot, Dispatcher, F, Router
from aiogram.exceptions import AiogramError
from aiogram.filters import IS_NOT_MEMBER, ChatMemberUpdatedFilter, Command, CommandStart
from aiogram.types import BotCommand, ErrorEvent

from app.bot import callbacks, chats, commands
from app.bot.updates import locale_of_update
from app.errors import ServiceUnavailable, as_lunchbot_error
from app.log import get_log
from app.models import Language
from app.telegram import buttons, texts
from app.telegram.i18n import DEFAULT_LOCALE
from app.telegram.sender import NotSent, RetryAfter

log = get_log(__name__)

SETUP_RETRY_MAX_S = 30.0


def create_dispatcher() -> Dispatcher:
    """Make the dispatcher of a process. Its handlers need `clients` with each update."""
    dispatcher = Dispatcher()
    router = Router(name="commands")
    router.message.register(chats.migrate, F.migrate_to_chat_id)
    router.message.register(commands.link, CommandStart(deep_link=True, magic=F.args.startswith(commands.DEEP_LINK)))
    router.message.register(commands.start, CommandStart())
    for name, handler in commands.COMMANDS.items():
        router.message.register(handler, Command(name))
    router.message.register(commands.help_, F.chat.type == "private", F.text)
    router.my_chat_member.register(chats.leave, ChatMemberUpdatedFilter(IS_NOT_MEMBER))
    router.callback_query.register(callbacks.received, buttons.Received.filter())
    router.callback_query.register(callbacks.unlink, buttons.Unlink.filter())
    router.callback_query.register(callbacks.decide, buttons.Decide.filter())
    router.errors.register(handle_error)
    dispatcher.include_router(router)
    return dispatcher


def setup_attempts() -> AsyncIterator[stamina.Attempt]:
    """Attempt to set up the bot until Telegram is available."""
    return stamina.retry_context(
        on=(AiogramError, NotSent, OSError), attempts=None, timeout=None, wait_max=SETUP_RETRY_MAX_S
    )


async def set_commands(bot: Bot) -> None:
    """Set the commands in Telegram's menu, in each language."""
    for locale in Language:
        menu = [
            BotCommand(command=name, description=description)
            for name, description in texts.command_descriptions(locale).items()
        ]
        await bot.set_my_commands(menu, language_code=None if locale == DEFAULT_LOCALE else locale)


async def handle_error(event: ErrorEvent) -> Exception | None:
    """Answer that something does not work, and return the error. It is None for an answer that is dropped.

    An outage is raised again, so that a webhook can ask for a retry.
    """
    if isinstance(event.exception, RetryAfter):
        log.warning("bot.not_answered", update=event.update.update_id, wait_s=event.exception.retry_after)
        return None
    log.error("bot.failed", update=event.update.update_id, exc_info=event.exception)
    with suppress(Exception):
        if message := event.update.message:
            await message.answer(texts.try_later(locale_of_update(message)))
        elif query := event.update.callback_query:
            await query.answer(texts.try_later(locale_of_update(query)), show_alert=True)
    if isinstance(as_lunchbot_error(event.exception), ServiceUnavailable):
        raise event.exception
    return event.exception
