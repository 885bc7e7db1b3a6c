"""Jobs of notifications: remind cafes of orders that are not marked as received."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, selectinload
from sqlmodel import col, select
from sqlmodel.sql.expression import SelectOfScalar

from app.clients import Clients
from app.log import get_log
from app.models import Notification, NotificationKind, NotificationStatus
from app.services.failures import contain_failure
from app.services.notification_kinds import ACKNOWLEDGED_KINDS
from app.services.notifications import alert, notify
from app.telegram import notification_texts

log = get_log(__name__)

REMINDERS_WITHIN = timedelta(hours=24)
"""How old a message may be for a reminder or an alert."""


async def send_reminders(clients: Clients, now: datetime) -> None:
    """Remind cafes, once, of orders that are not marked as received. After twice that time alert the managers.

    Only the newest message about a date counts. Each reminder and each alert is a separate transaction.
    """
    patience = timedelta(minutes=clients.settings.ack_reminder_minutes)
    for waited, done_at, act, failure in (
        (patience, col(Notification.reminded_at), _remind, "notification.not_reminded"),
        (2 * patience, col(Notification.escalated_at), _escalate, "notification.not_escalated"),
    ):
        due = _unacknowledged(now - waited, done_at)
        for notification_id, cafe_id in await _find_ids(clients, due):
            with contain_failure(failure, notification=notification_id, cafe=cafe_id):
                async with clients.db() as session:
                    if notification := await _lock(session, due, notification_id):
                        await act(clients, session, notification, now)


async def _remind(clients: Clients, session: AsyncSession, notification: Notification, now: datetime) -> None:
    notification.reminded_at = now
    cafe = notification.cafe
    if cafe.is_notified and cafe.tg_chat_id == notification.tg_chat_id:
        await notify(
            clients,
            session,
            NotificationKind.REMINDER,
            cafe,
            chat_id=cafe.tg_chat_id,
            thread_id=cafe.tg_thread_id,
            date=notification.date,
            version=notification.version,
            facts={"day": notification.date},
        )


async def _escalate(clients: Clients, session: AsyncSession, notification: Notification, now: datetime) -> None:
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


def _unacknowledged(sent_before: datetime, done_at: Any) -> SelectOfScalar[Notification]:
    """Select the newest message about each date, if it was sent a while ago, at most a day, and is not acknowledged."""
    later = aliased(Notification)
    return (
        select(Notification)
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
    )


async def _find_ids(clients: Clients, due: SelectOfScalar[Notification]) -> Sequence[tuple[int, int]]:
    """Read the ids of messages and of their cafes."""
    async with clients.db() as session:
        rows = await session.execute(due.with_only_columns(col(Notification.id), col(Notification.cafe_id)))
        return [(notification_id, cafe_id) for notification_id, cafe_id in rows]


async def _lock(session: AsyncSession, due: SelectOfScalar[Notification], notification_id: int) -> Notification | None:
    """Lock a message, with its cafe. None if another worker has it, or it is not due any more."""
    query = due.options(selectinload(Notification.cafe))  # type: ignore[arg-type]
    return await session.scalar(query.where(Notification.id == notification_id).with_for_update(skip_locked=True))
