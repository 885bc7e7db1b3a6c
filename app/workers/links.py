"""Jobs of links: check chats before a deadline."""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiogram import Bot
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.clients import Clients
from app.log import get_log
from app.models import Cafe, DeliveryDay
from app.services.deadlines import Closing, find_closings
from app.services.failures import contain_failure
from app.services.links import leave_topic, migrate_chat, unlink_unreachable_chat
from app.services.notifications import alert
from app.services.rows import get_row
from app.telegram import notification_texts
from app.telegram.rights import require_writing
from app.telegram.sender import ChatGone, ChatMoved, DeliveryUnknown, NotSent, Refused, TopicUnavailable

log = get_log(__name__)

CHECK_AHEAD = timedelta(hours=1)
"""How long before a deadline the cafe's chat is checked: enough time for a telephone call."""

MAX_CHECKS = 5
"""How many chats are checked at the same time."""


@dataclass(frozen=True)
class ChatCheck:
    """The chat of a cafe before a deadline."""

    closing: Closing
    chat_id: int
    thread_id: int | None


async def check_chats(clients: Clients, bot: Bot, now: datetime) -> None:
    """Check before a deadline that the bot may write to the cafe's chat. If not, managers are alerted in time.

    A check that fails does not stop the others, and is repeated in the next minute.
    """
    async with clients.db() as session:
        upcoming = await find_closings(session, now, now + CHECK_AHEAD)
        checks = await _find_checks(session, upcoming)
    running = asyncio.Semaphore(MAX_CHECKS)

    async def run(check: ChatCheck) -> None:
        async with running:
            with contain_failure("chat.not_checked", cafe=check.closing.cafe_id):
                await _check_chat(clients, bot, check, now)

    async with asyncio.TaskGroup() as tasks:
        for check in checks:
            tasks.create_task(run(check))


async def _find_checks(session: AsyncSession, upcoming: list[Closing]) -> list[ChatCheck]:
    """Filter the deadlines: cafes that get notifications, and whose chat is not checked yet."""
    ids = {closing.cafe_id for closing in upcoming}
    cafes = {cafe.id: cafe for cafe in await session.scalars(select(Cafe).where(col(Cafe.id).in_(ids)))}
    checked = select(DeliveryDay).where(
        col(DeliveryDay.cafe_id).in_(ids),
        col(DeliveryDay.date).in_({closing.date for closing in upcoming}),
        col(DeliveryDay.chat_checked_at).is_not(None),
    )
    done = {(day.cafe_id, day.date) for day in await session.scalars(checked)}
    return [
        ChatCheck(closing, cafe.tg_chat_id, cafe.tg_thread_id)
        for closing in upcoming
        if (cafe := cafes.get(closing.cafe_id)) is not None
        and cafe.is_notified
        and cafe.tg_chat_id is not None
        and (cafe.id, closing.date) not in done
    ]


async def _check_chat(clients: Clients, bot: Bot, check: ChatCheck, now: datetime) -> None:
    problem: NotSent | None = None
    try:
        await require_writing(bot, check.chat_id, check.thread_id)
    except (ChatGone, ChatMoved, Refused) as error:
        problem = error
    except (NotSent, DeliveryUnknown) as error:
        log.warning("chat.not_checked", cafe=check.closing.cafe_id, error=str(error))
        return
    async with clients.db() as session:
        if isinstance(problem, ChatGone):
            await unlink_unreachable_chat(session, check.chat_id)
        elif isinstance(problem, ChatMoved):
            await migrate_chat(session, check.chat_id, problem.chat_id)
        is_first = await _mark_checked(session, check.closing, now)
        if problem is not None and is_first:
            log.warning("chat.problem", cafe=check.closing.cafe_id, chat=check.chat_id, problem=type(problem).__name__)
            await _alert(clients, session, check, problem)


async def _mark_checked(session: AsyncSession, closing: Closing, now: datetime) -> bool:
    """Record that the chat is checked. Return False if another worker was quicker: it alerts the managers."""
    day = {"cafe_id": closing.cafe_id, "date": closing.date, "chat_checked_at": now}
    marked = (
        insert(DeliveryDay)
        .values(**day)
        .on_conflict_do_update(
            index_elements=["cafe_id", "date"],
            set_={"chat_checked_at": now},
            where=col(DeliveryDay.chat_checked_at).is_(None),
        )
        .returning(col(DeliveryDay.cafe_id))
    )
    return await session.scalar(marked) is not None


async def _alert(clients: Clients, session: AsyncSession, check: ChatCheck, problem: NotSent) -> None:
    """Alert the managers of a chat that stays linked. An unlinking has an alert of its own."""
    cafe = await get_row(session, Cafe, check.closing.cafe_id)
    match problem:
        case TopicUnavailable() if check.thread_id is not None:
            await alert(clients, session, cafe, notification_texts.topic_unavailable, day=check.closing.date)
            if problem.is_deleted:
                await leave_topic(session, check.chat_id, check.thread_id)
        case Refused():
            await alert(clients, session, cafe, notification_texts.may_not_write, day=check.closing.date)
        case _:
            pass
