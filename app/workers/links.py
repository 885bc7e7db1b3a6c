"""Jobs of links: check chats before a deadline."""

import asyncio
from datetime import datetime, timedelta

from aiogram import Bot
from aiogram.enums import ChatAction
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.clients import Clients
from app.log import get_log
from app.models import Cafe, DeliveryDay
from app.services.deadlines import Closing, find_closings
from app.services.failures import contain_failure
from app.services.links import migrate_chat, unlink_unreachable_chat
from app.telegram.sender import ChatGone, ChatMoved, DeliveryUnknown, NotSent, translate_errors

log = get_log(__name__)

CHECK_AHEAD = timedelta(hours=1)
"""How long before a deadline the cafe's chat is checked: enough time for a telephone call."""

MAX_CHECKS = 5
"""How many chats are checked at the same time."""


async def check_chats(clients: Clients, bot: Bot, now: datetime) -> None:
    """Check before a deadline that the cafe's chat can be reached. If not, managers are alerted in time.

    A check that fails does not stop the others, and is repeated in the next minute.
    """
    async with clients.db() as session:
        upcoming = await find_closings(session, now, now + CHECK_AHEAD)
        chats = await _find_unchecked_chats(session, upcoming)
    running = asyncio.Semaphore(MAX_CHECKS)

    async def check(closing: Closing, chat_id: int) -> None:
        async with running:
            with contain_failure("chat.not_checked", cafe=closing.cafe_id):
                await _check_chat(clients, bot, closing, chat_id, now)

    async with asyncio.TaskGroup() as checks:
        for closing, chat_id in chats:
            checks.create_task(check(closing, chat_id))


async def _find_unchecked_chats(session: AsyncSession, upcoming: list[Closing]) -> list[tuple[Closing, int]]:
    """Filter the deadlines: cafes that get notifications, and whose chat is not checked yet."""
    ids = {closing.cafe_id for closing in upcoming}
    chats = {
        cafe.id: cafe.tg_chat_id
        for cafe in await session.scalars(select(Cafe).where(col(Cafe.id).in_(ids)))
        if cafe.is_notified
    }
    checked = select(DeliveryDay).where(
        col(DeliveryDay.cafe_id).in_(ids),
        col(DeliveryDay.date).in_({closing.date for closing in upcoming}),
        col(DeliveryDay.chat_checked_at).is_not(None),
    )
    done = {(day.cafe_id, day.date) for day in await session.scalars(checked)}
    return [
        (closing, chat_id)
        for closing in upcoming
        if (chat_id := chats.get(closing.cafe_id)) is not None and (closing.cafe_id, closing.date) not in done
    ]


async def _check_chat(clients: Clients, bot: Bot, closing: Closing, chat_id: int, now: datetime) -> None:
    is_gone, new_chat_id = False, None
    try:
        await translate_errors(bot.get_chat(chat_id))
        if chat_id > 0:  # a person who has blocked the bot can still be looked up
            await translate_errors(bot.send_chat_action(chat_id, ChatAction.TYPING))
    except ChatGone:
        is_gone = True
    except ChatMoved as error:
        new_chat_id = error.chat_id
    except (NotSent, DeliveryUnknown) as error:
        log.warning("chat.not_checked", cafe=closing.cafe_id, error=str(error))
        return
    async with clients.db() as session:
        if is_gone:
            log.warning("chat.gone", cafe=closing.cafe_id, chat=chat_id)
            await unlink_unreachable_chat(session, chat_id)
        elif new_chat_id is not None:
            await migrate_chat(session, chat_id, new_chat_id)
        day = {"cafe_id": closing.cafe_id, "date": closing.date, "chat_checked_at": now}
        await session.execute(
            insert(DeliveryDay)
            .values(**day)
            .on_conflict_do_update(index_elements=["cafe_id", "date"], set_={"chat_checked_at": now})
        )
