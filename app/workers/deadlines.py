"""Scheduled jobs: announce deadlines, check chats beforehand, send reminders."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from aiogram import Bot
from aiogram.enums import ChatAction
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, selectinload
from sqlmodel import col, select

from app.clients import Clients
from app.log import get_log
from app.models import Cafe, DeliveryDay, Notification, NotificationKind, NotificationStatus
from app.services.deadlines import Closing, find_closings, pass_deadline
from app.services.links import migrate_chat, unlink_unreachable_chat
from app.services.notification_kinds import ACKNOWLEDGED_KINDS
from app.services.notifications import (
    alert,
    announce_day,
    find_days_without_message,
    notify,
)
from app.telegram import notification_texts
from app.telegram.sender import ChatGone, ChatMoved, DeliveryUnknown, NotSent, translate_errors

log = get_log(__name__)

MISSED_WITHIN = timedelta(hours=24)
"""How old a missed deadline may be to be announced late."""

EVENT_PATIENCE = timedelta(minutes=3)
"""How long the event of a deadline may take before it counts as lost."""

CHECK_AHEAD = timedelta(hours=1)
"""How long before a deadline the cafe's chat is checked: enough time for a telephone call."""

MAX_CHECKS = 5
"""How many chats are checked at the same time."""


async def announce_passed(clients: Clients, now: datetime) -> int:
    """Close each day whose deadline has passed, and publish it. Return how many there were.

    Each day is a separate transaction, so a process that dies leaves the others to the next minute. Of two simultaneous
    workers the row of the day lets one succeed.
    """
    async with clients.db() as session:
        passed = await find_closings(session, now - MISSED_WITHIN, now)
    announced = 0
    for closing in passed:
        try:
            async with clients.db() as session:
                announced += await pass_deadline(session, closing.cafe_id, closing.date, now)
        except Exception:  # the other days must not wait; the next minute retries this one
            log.exception("deadline.not_announced", cafe=closing.cafe_id, date=str(closing.date))
    if announced:
        log.info("deadlines.announced", deadlines=announced)
    return announced


async def announce_missed(clients: Clients, now: datetime) -> None:
    """Send the order lists of days that were closed a while ago and have none.

    The event may be lost or late; the cafe may have a chat now. If the cafe still has no chat or is deactivated, the
    managers are alerted, once.
    """
    async with clients.db() as session:
        missed = await find_days_without_message(session, now - MISSED_WITHIN, now - EVENT_PATIENCE)
    for cafe_id, date in missed:
        async with clients.db() as session:
            if await announce_day(clients, session, cafe_id, date) is not None:
                log.warning("deadline.announced_late", cafe=cafe_id, date=str(date))
                continue
            cafe = await session.get_one(Cafe, cafe_id)
            if cafe.tg_chat_id is None or not cafe.is_active:
                await alert(clients, session, cafe, notification_texts.no_recipient, about=(date, 0), day=date)


async def check_chats(clients: Clients, bot: Bot, now: datetime) -> None:
    """Check before a deadline that the cafe's chat can be reached. If not, managers are alerted in time."""
    async with clients.db() as session:
        upcoming = await find_closings(session, now, now + CHECK_AHEAD)
        chats = await _find_unchecked_chats(session, upcoming)
    running = asyncio.Semaphore(MAX_CHECKS)

    async def check(closing: Closing, chat_id: int) -> None:
        async with running:
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


async def send_reminders(clients: Clients, now: datetime) -> None:
    """Remind cafes, once, of orders that are not marked as received. After twice that time alert the managers.

    Only the newest message about a date counts.
    """
    patience = timedelta(minutes=clients.settings.ack_reminder_minutes)
    async with clients.db() as session:
        for notification in await _find_unacknowledged(session, now - patience, col(Notification.reminded_at)):
            notification.reminded_at = now
            cafe = notification.cafe
            if cafe.is_notified and cafe.tg_chat_id == notification.tg_chat_id:
                await notify(
                    clients,
                    session,
                    NotificationKind.REMINDER,
                    cafe,
                    chat_id=notification.tg_chat_id,
                    date=notification.date,
                    version=notification.version,
                    facts={"day": notification.date},
                )
        for notification in await _find_unacknowledged(session, now - 2 * patience, col(Notification.escalated_at)):
            notification.escalated_at = now
            log.warning("notification.not_acknowledged", notification=notification.id, cafe=notification.cafe_id)
            assert notification.date is not None
            await alert(
                clients,
                session,
                notification.cafe,
                notification_texts.not_acknowledged,
                about=(notification.date, notification.version),
                day=notification.date,
                minutes=2 * clients.settings.ack_reminder_minutes,
            )


async def _find_unacknowledged(session: AsyncSession, sent_before: datetime, done_at: Any) -> list[Notification]:
    """Lock the newest message about each date, if it was sent a while ago, at most a day, and is not acknowledged."""
    later = aliased(Notification)
    query = (
        select(Notification)
        .options(selectinload(Notification.cafe))  # type: ignore[arg-type]
        .where(
            col(Notification.kind).in_(ACKNOWLEDGED_KINDS),
            Notification.status == NotificationStatus.SENT,
            col(Notification.acknowledged_at).is_(None),
            col(Notification.sent_at) <= sent_before,
            col(Notification.sent_at) > sent_before - MISSED_WITHIN,
            done_at.is_(None),
            ~sa.exists().where(
                col(later.cafe_id) == Notification.cafe_id,
                col(later.date) == Notification.date,
                col(later.version) > Notification.version,
                col(later.status) == NotificationStatus.SENT,
            ),
        )
        .order_by(col(Notification.id))
        .with_for_update(skip_locked=True)
    )
    return list(await session.scalars(query))
