"""What the clock brings about: deadlines pass, chats are looked after before them, kitchens are reminded after them."""

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
from app.models.notifications import TO_ACKNOWLEDGE
from app.resolvers import deadlines, links, notifications
from app.resolvers.deadlines import Closing
from app.telegram import texts
from app.telegram.sender import ChatGone, ChatMoved, NotSent, OutcomeUnknown, understood

log = get_log(__name__)

MISSED_WITHIN = timedelta(hours=24)
"""How far back deadlines are looked for that passed while nothing ran."""

PATIENCE = timedelta(minutes=3)
"""How long the event of a deadline may be on its way before it is taken for lost."""

CHECK_AHEAD = timedelta(hours=1)
"""How long before a deadline the cafe's chat is looked after: time enough to telephone."""

CHECKS_AT_ONCE = 5


async def announce_passed(clients: Clients, now: datetime) -> int:
    """Close each deadline that has passed and tell everybody so; return how many there were.

    Each is a transaction of its own: a process that dies leaves the others to the next minute. Of two workers at once,
    the day's row lets one announce.
    """
    async with clients.db() as session:
        passed = await deadlines.closing_between(session, now - MISSED_WITHIN, now)
    announced = 0
    for closing in passed:
        try:
            async with clients.db() as session:
                announced += await deadlines.pass_deadline(session, closing.cafe_id, closing.date, now)
        except Exception:  # the others are not to wait for this one; the next minute tries it again
            log.exception("deadline.not_announced", cafe=closing.cafe_id, date=str(closing.date))
    if announced:
        log.info("deadlines.announced", deadlines=announced)
    return announced


async def tell_forgotten(clients: Clients, now: datetime) -> None:
    """Tell kitchens of days that were closed a while ago and of which they have heard nothing.

    The event may be lost, or wait for Kafka; the cafe may have had no chat then, and have one now. If it still has none,
    or is switched off, the managers are told, once.
    """
    async with clients.db() as session:
        forgotten = await notifications.untold_days(session, now - MISSED_WITHIN, now - PATIENCE)
    for cafe_id, date in forgotten:
        async with clients.db() as session:
            if await notifications.announce(session, cafe_id, date, is_correction=False) is not None:
                log.warning("deadline.told_late", cafe=cafe_id, date=str(date))
                continue
            cafe = await session.get_one(Cafe, cafe_id)
            if cafe.tg_chat_id is None or not cafe.is_active:
                text = texts.nobody_to_tell(cafe.name, cafe_id, str(date), texts.DEFAULT_LOCALE)
                managers = clients.settings.telegram_manager_chat_id
                await notifications.alert(session, managers, cafe_id, text, date=date, version=0)


async def check_chats(clients: Clients, bot: Bot, now: datetime) -> None:
    """Make sure, before a deadline, that the cafe's chat can be reached. If it cannot, managers are told in time."""
    async with clients.db() as session:
        upcoming = await deadlines.closing_between(session, now, now + CHECK_AHEAD)
        chats = await _chats_to_check(session, upcoming)
    turns = asyncio.Semaphore(CHECKS_AT_ONCE)

    async def check(closing: Closing, chat_id: int) -> None:
        async with turns:
            await _check_chat(clients, bot, closing, chat_id, now)

    async with asyncio.TaskGroup() as checks:
        for closing, chat_id in chats:
            checks.create_task(check(closing, chat_id))


async def _chats_to_check(session: AsyncSession, upcoming: list[Closing]) -> list[tuple[Closing, int]]:
    """Leave of the deadlines those of cafes that are to be told, and whose chat was not looked after yet."""
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
    lost, moved = False, None
    try:
        await understood(bot.get_chat(chat_id))
        if chat_id > 0:  # a person who has blocked the bot can still be looked up
            await understood(bot.send_chat_action(chat_id, ChatAction.TYPING))
    except ChatGone:
        lost = True
    except ChatMoved as error:
        moved = error.chat_id
    except (NotSent, OutcomeUnknown) as error:
        log.warning("chat.not_checked", cafe=closing.cafe_id, error=str(error))
        return
    async with clients.db() as session:
        if lost:
            log.warning("chat.gone", cafe=closing.cafe_id, chat=chat_id)
            await links.chat_gone(session, chat_id)
        elif moved is not None:
            await links.chat_moved(session, chat_id, moved)
        day = {"cafe_id": closing.cafe_id, "date": closing.date, "chat_checked_at": now}
        await session.execute(
            insert(DeliveryDay)
            .values(**day)
            .on_conflict_do_update(index_elements=["cafe_id", "date"], set_={"chat_checked_at": now})
        )


async def remind(clients: Clients, now: datetime) -> None:
    """Remind kitchens, once, of orders that they have not marked as received; after twice that time tell the managers.

    Of several messages about a date it is the newest that counts.
    """
    patience = timedelta(minutes=clients.settings.ack_reminder_minutes)
    async with clients.db() as session:
        for notification in await _unacknowledged(session, now - patience, col(Notification.reminded_at)):
            notification.reminded_at = now
            if notification.cafe.is_notified and notification.cafe.tg_chat_id == notification.tg_chat_id:
                text = texts.reminder(str(notification.date), notification.cafe.language)
                await notifications.queue(
                    session,
                    NotificationKind.REMINDER,
                    notification.cafe_id,
                    notification.tg_chat_id,
                    [text],
                    date=notification.date,
                    version=notification.version,
                )
        for notification in await _unacknowledged(session, now - 2 * patience, col(Notification.escalated_at)):
            notification.escalated_at = now
            log.warning("notification.not_acknowledged", notification=notification.id, cafe=notification.cafe_id)
            text = texts.not_acknowledged(
                notification.cafe_name,
                notification.cafe_id,
                str(notification.date),
                2 * clients.settings.ack_reminder_minutes,
                texts.DEFAULT_LOCALE,
            )
            await notifications.alert(
                session,
                clients.settings.telegram_manager_chat_id,
                notification.cafe_id,
                text,
                date=notification.date,
                version=notification.version,
            )


async def _unacknowledged(session: AsyncSession, sent_before: datetime, done_at: Any) -> list[Notification]:
    """Lock what was sent a while ago, at most a day, and is not acknowledged: of several about a date, the newest."""
    later = aliased(Notification)
    query = (
        select(Notification)
        .options(selectinload(Notification.cafe))  # type: ignore[arg-type]
        .where(
            col(Notification.kind).in_(TO_ACKNOWLEDGE),
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
