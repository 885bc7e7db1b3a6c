"""The bot: commands and what they answer. Each command is one operation, done as anybody may do it."""

from contextlib import suppress

from aiogram import Bot, Dispatcher, F, Router
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.types import BotCommand, ErrorEvent, Message

from app.clients import Clients
from app.context import Context
from app.errors import CafeAlreadyLinked, ChatAlreadyLinked, LunchbotError, NotFound, RateLimited
from app.log import get_log
from app.models import Cafe, LinkRequest
from app.resolvers import links
from app.telegram import texts

log = get_log(__name__)

ID_DIGITS_MAX = 18
"""More digits than any cafe's number has, and still a BIGINT."""


def create_dispatcher(clients: Clients) -> Dispatcher:
    """Make the dispatcher of a process; handlers get `clients` as an argument."""
    dispatcher = Dispatcher(clients=clients)
    commands = Router(name="commands")
    commands.message.register(start, CommandStart())
    commands.message.register(help_, Command("help"))
    commands.message.register(link, Command("link"))
    commands.message.register(status, Command("status"))
    commands.message.register(help_, F.chat.type == "private", F.text)
    commands.errors.register(failed)
    dispatcher.include_router(commands)
    return dispatcher


async def set_commands(bot: Bot) -> None:
    """Tell Telegram which commands to offer, in each language."""
    for locale in ("en", "ru"):
        commands = [
            BotCommand(command=name, description=description)
            for name, description in texts.command_descriptions(locale).items()
        ]
        await bot.set_my_commands(commands, language_code=None if locale == texts.DEFAULT_LOCALE else locale)


async def start(message: Message) -> None:
    await message.answer(texts.start(_locale(message)))


async def help_(message: Message) -> None:
    await message.answer(texts.help_(_locale(message)))


async def link(message: Message, command: CommandObject, clients: Clients) -> None:
    locale = _locale(message)
    number = (command.args or "").strip()
    if not (number.isascii() and number.isdecimal() and len(number) <= ID_DIGITS_MAX):
        await message.answer(texts.link_usage(locale))
        return
    try:
        request = await links.link_request(_context(message, clients), int(number), message.chat.id, _username(message))
    except LunchbotError as error:
        await message.answer(_explained(error, number, locale))
    else:
        await message.answer(texts.requested(request.cafe_name, locale))


async def status(message: Message, clients: Clients) -> None:
    locale = _locale(message)
    match await links.chat_link(_context(message, clients), message.chat.id):
        case Cafe() as cafe:
            await message.answer(texts.status_linked(cafe.name, enabled=cafe.notifications_enabled, locale=locale))
        case LinkRequest() as request:
            await message.answer(texts.status_pending(request.cafe_name, locale))
        case None:
            await message.answer(texts.status_none(locale))


async def failed(event: ErrorEvent) -> None:
    """Say that something is wrong on our side, if the chat still listens."""
    log.error("bot.failed", update=event.update.update_id, exc_info=event.exception)
    if message := event.update.message:
        with suppress(Exception):
            await message.answer(texts.try_later(_locale(message)))


def _explained(error: LunchbotError, number: str, locale: str) -> str:
    match error:
        case NotFound():
            return texts.no_such_cafe(number, locale)
        case CafeAlreadyLinked():
            return texts.cafe_already_linked(locale)
        case ChatAlreadyLinked():
            return texts.chat_already_linked(locale)
        case RateLimited(retry_after=int(seconds)):
            return texts.too_many_requests(seconds, locale)
        case _:
            raise error


def _context(message: Message, clients: Clients) -> Context:
    return Context(clients, source=f"chat:{message.chat.id}")


def _locale(message: Message) -> str:
    return texts.locale_of(message.from_user.language_code if message.from_user else None)


def _username(message: Message) -> str | None:
    return message.chat.username or (message.from_user.username if message.from_user else None)
