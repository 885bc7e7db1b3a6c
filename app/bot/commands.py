"""The commands of the bot."""

from collections.abc import Awaitable, Callable, Mapping

from aiogram.enums import ChatType
from aiogram.filters import CommandObject
from aiogram.types import Message

from app.bot.updates import context_of, locale_of_update
from app.clients import Clients
from app.errors import (
    CafeAlreadyLinked,
    ChatAlreadyLinked,
    Forbidden,
    LunchbotError,
    NotFound,
    RateLimited,
    Unauthenticated,
)
from app.models import LinkRequest
from app.resolvers import links
from app.resolvers.links import LinkedChat
from app.resolvers.recommendations import get_recommendations
from app.services.users import update_language
from app.telegram import buttons, texts

DEEP_LINK = "link_"
"""`t.me/<bot>?startgroup=link_12` adds the bot to a group, and sends `/start link_12` there."""

MAX_ID_DIGITS = 18
"""More digits than the id of any cafe has, and still a BIGINT."""


async def start(message: Message) -> None:
    await message.answer(texts.start(locale_of_update(message)))


async def help_(message: Message) -> None:
    await message.answer(texts.help_(locale_of_update(message)))


async def link(message: Message, command: CommandObject, clients: Clients) -> None:
    locale = locale_of_update(message)
    number = (command.args or "").strip().removeprefix(DEEP_LINK)
    if not (number.isascii() and number.isdecimal() and len(number) <= MAX_ID_DIGITS):
        await message.answer(texts.link_usage(locale))
        return
    ctx = context_of(message, clients)
    try:
        request = await links.link_request(ctx, int(number), ctx.chat_id, message.chat.username)
    except LunchbotError as error:
        await message.answer(_explain(error, number, locale))
    else:
        await message.answer(texts.link_requested(request.cafe_name, locale))


async def status(message: Message, clients: Clients) -> None:
    locale = locale_of_update(message)
    match await links.get_chat_status(context_of(message, clients)):
        case LinkedChat(cafe=cafe) as linked:
            text = texts.status_linked(
                cafe.name,
                is_active=cafe.is_active,
                enabled=cafe.notifications_enabled,
                next_deadline=linked.next_deadline,
                last_sent=linked.last_sent,
                locale=locale,
            )
            await message.answer(text)
        case LinkRequest() as request:
            await message.answer(texts.status_pending(request.cafe_name, locale))
        case None:
            await message.answer(texts.status_none(locale))


async def unlink(message: Message, clients: Clients) -> None:
    """Ask for a confirmation: the command may be a mistake."""
    locale = locale_of_update(message)
    match await links.get_chat_status(context_of(message, clients)):
        case LinkedChat(cafe=cafe):
            await message.answer(texts.unlink_question(cafe.name, locale), reply_markup=buttons.unlink(cafe.id, locale))
        case _:
            await message.answer(texts.status_none(locale))


async def recommendations(message: Message, clients: Clients) -> None:
    """Answer with the user's recommendation, in a private chat only."""
    locale = locale_of_update(message)
    if message.chat.type != ChatType.PRIVATE:
        await message.answer(texts.only_in_private(locale))
        return
    assert message.from_user is not None
    try:
        recommendation = await get_recommendations(context_of(message, clients), message.from_user.id)
    except Unauthenticated:
        await message.answer(texts.unknown_user(locale))
    except Forbidden:
        await message.answer(texts.deactivated(locale))
    else:
        await update_language(clients, message.from_user.id, message.from_user.language_code)
        await message.answer(texts.recommended(recommendation, locale))


COMMANDS: Mapping[str, Callable[..., Awaitable[None]]] = {
    "help": help_,
    "link": link,
    "status": status,
    "unlink": unlink,
    "recommendations": recommendations,
}
"""The commands beside `/start`. Telegram's menu has them with the descriptions in `app.telegram.texts`."""


def _explain(error: LunchbotError, number: str, locale: str) -> str:
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
