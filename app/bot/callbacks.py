"""The buttons of the bot."""

from contextlib import suppress
from zoneinfo import ZoneInfo

from aiogram.exceptions import TelegramBadRequest
from aiogram.types import CallbackQuery, Message

from app.bot.updates import context_of, locale_of_update, name_of
from app.clients import Clients
from app.errors import (
    CafeAlreadyLinked,
    CafeNotLinked,
    ChatAlreadyLinked,
    Forbidden,
    LinkRequestProcessed,
    NotFound,
    Unauthenticated,
)
from app.resolvers import links, notifications
from app.resolvers.links import LinkedChat
from app.telegram import buttons, texts
from app.telegram.i18n import DEFAULT_LOCALE


async def unlink(query: CallbackQuery, callback_data: buttons.Unlink, clients: Clients) -> None:
    locale, ctx = locale_of_update(query), context_of(query, clients)
    linked = await links.get_chat_status(ctx)
    if not isinstance(linked, LinkedChat) or linked.cafe.id != callback_data.cafe_id:
        await _answer(query, texts.wrong_chat(locale))
        await _remove_buttons(query)
    elif not callback_data.confirmed:
        await _answer(query)
        await _edit(query, texts.still_linked(linked.cafe.name, locale))
    else:
        with suppress(CafeNotLinked):  # another person in the chat was quicker
            await links.unlink_chat(ctx, linked.cafe.id)
        await _answer(query)
        await _remove_buttons(query)


async def received(query: CallbackQuery, callback_data: buttons.Received, clients: Clients) -> None:
    """Acknowledge the message and show below it who did. A second press shows the same."""
    try:
        notification, is_new = await notifications.acknowledge(
            context_of(query, clients), callback_data.notification_id, name_of(query)
        )
    except NotFound:
        await _answer(query, texts.wrong_chat(locale_of_update(query)))
        return
    await _answer(query, None if is_new else texts.already_received(locale_of_update(query)), show_alert=False)
    assert notification.acknowledged_at is not None
    assert notification.acknowledged_by is not None
    cafe = notification.cafe
    at = notification.acknowledged_at.astimezone(ZoneInfo(cafe.timezone))
    remark = texts.received(notification.acknowledged_by, at, cafe.language)
    await _edit(query, f"{notification.parts[-1]}\n\n{remark}")


async def decide(query: CallbackQuery, callback_data: buttons.Decide, clients: Clients) -> None:
    """Approve or reject a link request, as the user who pressed the button."""
    ctx = context_of(query, clients)
    locale = locale_of_update(query)
    try:
        if callback_data.approved:
            await links.approve(ctx, callback_data.request_id)
        else:
            await links.reject(ctx, callback_data.request_id)
    except (Forbidden, Unauthenticated):
        await _answer(query, texts.only_managers(locale))
    except (LinkRequestProcessed, NotFound):
        await _answer(query, texts.already_processed(locale))
        await _remove_buttons(query)
    except CafeAlreadyLinked:
        await _answer(query, texts.cafe_taken(locale))
    except ChatAlreadyLinked:
        await _answer(query, texts.chat_taken(locale))
    else:
        await _answer(query)
        remark = texts.approved_by if callback_data.approved else texts.rejected_by
        original = query.message.html_text if isinstance(query.message, Message) else ""
        await _edit(query, f"{original}\n{remark(name_of(query), DEFAULT_LOCALE)}")


async def _answer(query: CallbackQuery, text: str | None = None, *, show_alert: bool = True) -> None:
    """Stop the progress sign on a button. Telegram forgets a press within minutes, then this does nothing."""
    with suppress(TelegramBadRequest):
        await query.answer(text, show_alert=show_alert and text is not None)


async def _edit(query: CallbackQuery, text: str) -> None:
    """Change the message above the button and remove its buttons, if the message can still be changed."""
    if isinstance(query.message, Message):
        with suppress(TelegramBadRequest):
            await query.message.edit_text(text, reply_markup=None)


async def _remove_buttons(query: CallbackQuery) -> None:
    if isinstance(query.message, Message):
        with suppress(TelegramBadRequest):
            await query.message.edit_reply_markup(reply_markup=None)
