"""Jobs of notifications: remind cafes of orders that are not marked as received."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, selectinload
from sqlmodel import col, select

from app.clients import Clients
from app.log import get_log
from app.models import Notification, NotificationKind, NotificationStatus
from app.services.notification_kinds import ACKNOWLEDGED_KINDS
from app.services.notifications import (
    alert,
    notify,
)
from app.telegram import notification_texts

log = get_log(__name__)

REMINDERS_WITHIN = timedelta(hours=24)
"""How old a message may be for a reminder or an alert."""


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
            col(Notification.sent_at) > sent_before - REMINDERS_WITHIN,
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
