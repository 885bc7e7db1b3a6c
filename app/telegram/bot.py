"""The bot: commands, buttons and what they answer. Each is one operation, done as whoever has written or pressed."""

from contextlib import suppress
from zoneinfo import ZoneInfo

from aiogram import Bot, Dispatcher, F, Router
from aiogram.enums import ChatType
from aiogram.exceptions import TelegramBadRequest
from aiogram.filters import IS_NOT_MEMBER, ChatMemberUpdatedFilter, Command, CommandObject, CommandStart
from aiogram.types import BotCommand, CallbackQuery, ChatMemberUpdated, ErrorEvent, Message

from app.clients import Clients
from app.context import Context
from app.errors import (
    CafeAlreadyLinked,
    CafeNotLinked,
    ChatAlreadyLinked,
    Forbidden,
    LinkRequestProcessed,
    LunchbotError,
    NotFound,
    RateLimited,
    ServiceUnavailable,
    Unauthenticated,
    as_lunchbot_error,
)
from app.log import get_log
from app.models import LinkRequest
from app.resolvers import chats, links, notifications, users
from app.resolvers.chats import LinkedChat
from app.resolvers.recommendations import recommendations
from app.telegram import buttons, texts
from app.telegram.sender import NotNow

log = get_log(__name__)

DEEP_LINK = "link_"
"""`t.me/<bot>?startgroup=link_12` adds the bot to a group, and says `/start link_12` there."""

ID_DIGITS_MAX = 18
"""More digits than any cafe's number has, and still a BIGINT."""


def create_dispatcher() -> Dispatcher:
    """Make the dispatcher of a process. Its handlers want `clients` to be handed on with each update."""
    dispatcher = Dispatcher()
    router = Router(name="commands")
    router.message.register(moved, F.migrate_to_chat_id)
    router.message.register(link, CommandStart(deep_link=True, magic=F.args.startswith(DEEP_LINK)))
    router.message.register(start, CommandStart())
    router.message.register(help_, Command("help"))
    router.message.register(link, Command("link"))
    router.message.register(status, Command("status"))
    router.message.register(unlink, Command("unlink"))
    router.message.register(recommend, Command("recommendations"))
    router.message.register(help_, F.chat.type == "private", F.text)
    router.my_chat_member.register(removed, ChatMemberUpdatedFilter(IS_NOT_MEMBER))
    router.callback_query.register(received, buttons.Received.filter())
    router.callback_query.register(unlink_answered, buttons.Unlink.filter())
    router.callback_query.register(decided, buttons.Decide.filter())
    router.errors.register(failed)
    dispatcher.include_router(router)
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
    number = (command.args or "").strip().removeprefix(DEEP_LINK)
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
    match await chats.chat_status(_context(message, clients), message.chat.id):
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
    """Ask first: one may have tapped the command by mistake."""
    locale = _locale(message)
    match await chats.chat_status(_context(message, clients), message.chat.id):
        case LinkedChat(cafe=cafe):
            await message.answer(texts.unlink_question(cafe.name, locale), reply_markup=buttons.unlink(cafe.id, locale))
        case _:
            await message.answer(texts.status_none(locale))


async def recommend(message: Message, clients: Clients) -> None:
    """Tell a person what they are recommended: nobody else reads it."""
    locale = _locale(message)
    if message.chat.type != ChatType.PRIVATE:
        await message.answer(texts.only_in_private(locale))
        return
    assert message.from_user is not None
    ctx = _context(message, clients)
    try:
        recommendation = await recommendations(ctx, message.from_user.id)
    except Unauthenticated:
        await message.answer(texts.not_known(locale))
    except Forbidden:
        await message.answer(texts.switched_off(locale))
    else:
        await users.speaks(clients, message.from_user.id, message.from_user.language_code)
        await message.answer(texts.recommended(recommendation, locale))


async def unlink_answered(query: CallbackQuery, callback_data: buttons.Unlink, clients: Clients) -> None:
    locale = _locale(query)
    linked = await chats.chat_status(_context(query, clients), _chat_of(query))
    if not isinstance(linked, LinkedChat) or linked.cafe.id != callback_data.cafe_id:
        await _answered(query, texts.not_of_this_chat(locale))
        await _without_buttons(query)
    elif not callback_data.confirmed:
        await _answered(query)
        await _edited(query, texts.kept(linked.cafe.name, locale))
    else:
        with suppress(CafeNotLinked):  # somebody else was quicker
            await links.unlink_chat(_context(query, clients), linked.cafe.id, _chat_of(query))
        await _answered(query)
        await _without_buttons(query)


async def received(query: CallbackQuery, callback_data: buttons.Received, clients: Clients) -> None:
    """Note that the message was read, and say below it by whom: also to who presses a button that was left there."""
    try:
        notification, is_news = await notifications.acknowledge(
            _context(query, clients), callback_data.notification_id, _chat_of(query), query.from_user.full_name
        )
    except NotFound:
        await _answered(query, texts.not_of_this_chat(_locale(query)))
        return
    await _answered(query, None if is_news else texts.received_already(_locale(query)), show_alert=False)
    assert notification.acknowledged_at is not None
    assert notification.acknowledged_by is not None
    cafe = notification.cafe
    at = notification.acknowledged_at.astimezone(ZoneInfo(cafe.timezone))
    remark = texts.received(notification.acknowledged_by, at, cafe.language)
    await _edited(query, f"{notification.parts[-1]}\n\n{remark}")


async def decided(query: CallbackQuery, callback_data: buttons.Decide, clients: Clients) -> None:
    """Approve or reject a link request, as whoever has pressed the button."""
    ctx = _context(query, clients)
    locale = _locale(query)
    try:
        if callback_data.approved:
            await links.approve(ctx, callback_data.request_id)
        else:
            await links.reject(ctx, callback_data.request_id)
    except (Forbidden, Unauthenticated):
        await _answered(query, texts.only_managers(locale))
    except (LinkRequestProcessed, NotFound):
        await _answered(query, texts.processed_already(locale))
        await _without_buttons(query)
    except CafeAlreadyLinked:
        await _answered(query, texts.cafe_taken(locale))
    except ChatAlreadyLinked:
        await _answered(query, texts.chat_taken(locale))
    else:
        await _answered(query)
        say = texts.approved_by if callback_data.approved else texts.rejected_by
        original = query.message.html_text if isinstance(query.message, Message) else ""
        await _edited(query, f"{original}\n{say(query.from_user.full_name, texts.DEFAULT_LOCALE)}")


async def removed(event: ChatMemberUpdated, clients: Clients) -> None:
    """Unlink a chat that has thrown us out at once, not when its orders cannot be sent."""
    async with clients.db() as session:
        await links.chat_gone(session, event.chat.id)


async def moved(message: Message, clients: Clients) -> None:
    """Follow a group that has become a supergroup."""
    assert message.migrate_to_chat_id is not None
    async with clients.db() as session:
        await links.chat_moved(session, message.chat.id, message.migrate_to_chat_id)


async def failed(event: ErrorEvent) -> None:
    """Say that something is wrong on our side, if the chat still listens. What may pass is raised on, for who can wait."""
    if isinstance(event.exception, NotNow):
        log.warning("bot.not_answered", update=event.update.update_id, wait_s=event.exception.retry_after)
        return
    log.error("bot.failed", update=event.update.update_id, exc_info=event.exception)
    with suppress(Exception):
        if message := event.update.message:
            await message.answer(texts.try_later(_locale(message)))
        elif query := event.update.callback_query:
            await query.answer(texts.try_later(_locale(query)), show_alert=True)
    if isinstance(as_lunchbot_error(event.exception), ServiceUnavailable):
        raise event.exception


async def _answered(query: CallbackQuery, text: str | None = None, *, show_alert: bool = True) -> None:
    """Stop the waiting sign on a button, unless it has stopped by itself: Telegram forgets a press within minutes."""
    with suppress(TelegramBadRequest):
        await query.answer(text, show_alert=show_alert and text is not None)


async def _edited(query: CallbackQuery, text: str) -> None:
    """Change the message under whose button was pressed, and take its buttons away, if it can still be changed."""
    if isinstance(query.message, Message):
        with suppress(TelegramBadRequest):
            await query.message.edit_text(text, reply_markup=None)


async def _without_buttons(query: CallbackQuery) -> None:
    if isinstance(query.message, Message):
        with suppress(TelegramBadRequest):
            await query.message.edit_reply_markup(reply_markup=None)


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


def _context(source: Message | CallbackQuery, clients: Clients) -> Context:
    """Make the context of a chat's operation, done by whoever has written or pressed."""
    chat_id = source.chat.id if isinstance(source, Message) else _chat_of(source)
    person = source.from_user.id if source.from_user else None
    return Context(clients, source=f"chat:{chat_id}", telegram_user=person)


def _chat_of(query: CallbackQuery) -> int:
    return query.message.chat.id if query.message else query.from_user.id


def _locale(source: Message | CallbackQuery) -> str:
    return texts.locale_of(source.from_user.language_code if source.from_user else None)


def _username(message: Message) -> str | None:
    return message.chat.username or (message.from_user.username if message.from_user else None)
