"""Operations on notifications."""

import datetime as dt

from sqlalchemy.orm import joinedload
from sqlmodel import col, select

from app.auth.access import CHAT, allow
from app.auth.context import Context
from app.errors import BadInput, CafeNotLinked, NotFound
from app.events.live import Subscription
from app.events.outbox import record
from app.events.types import Event, NotificationAcknowledged, NotificationEvent, NotificationQueued
from app.models import Cafe, Notification, NotificationStatus, Role
from app.models.notifications import join_parts
from app.services.notification_kinds import KINDS
from app.services.notifications import (
    enqueue_delivery,
    find_next_message,
    get_notification,
    is_outdated,
)
from app.services.pagination import Page, PageRequest, SortOrder, paginate
from app.services.rows import get_row
from app.validation import Date

NEWEST_FIRST: SortOrder[Notification] = SortOrder(
    "notifications",
    (col(Notification.created_at), col(Notification.id)),
    (dt.datetime, int),
    lambda notification: (notification.created_at, notification.id),
    descending=True,
)


@allow(Role.MANAGER)
async def list_notifications(
    ctx: Context,
    page: PageRequest,
    cafe_id: int | None = None,
    date: Date | None = None,
    status: NotificationStatus | None = None,
) -> Page[Notification]:
    """The messages to chats, newest first.

    Raises BadInput.
    """
    query = select(Notification).options(joinedload(Notification.cafe))  # type: ignore[arg-type]
    if cafe_id is not None:
        query = query.where(Notification.cafe_id == cafe_id)
    if date is not None:
        query = query.where(Notification.date == date)
    if status is not None:
        query = query.where(Notification.status == status)
    async with ctx.clients.db() as session:
        return await paginate(session, query, NEWEST_FIRST, page)


@allow(Role.MANAGER)
async def preview_notification(ctx: Context, cafe_id: int, date: Date) -> str | None:
    """The next message to a cafe about a date, as Telegram's HTML: its orders, or the changes since its last message.

    Null if there is no next message.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db() as session:
        cafe = await get_row(session, Cafe, cafe_id)
        message = await find_next_message(session, cafe, date)
    return join_parts(message.parts) if message else None


@allow(Role.MANAGER)
async def retry_notification(ctx: Context, notification_id: int) -> Notification:
    """Send a failed message again, to the cafe's present chat. Delivered parts are not repeated.

    Raises NotFound, BadInput, CafeNotLinked.
    """
    async with ctx.clients.db() as session:
        notification = await get_notification(session, notification_id, is_locked=True)
        if notification.status is not NotificationStatus.FAILED:
            raise BadInput("id", "only a failed message can be sent again")
        if KINDS[notification.kind].needs_acknowledgement:
            if notification.cafe.tg_chat_id is None:
                raise CafeNotLinked
            if await is_outdated(session, notification):
                raise BadInput("id", "a newer message about that day has replaced it")
            notification.move_to(notification.cafe.tg_chat_id, notification.cafe.tg_thread_id)
        notification.requeue(at=ctx.now())
        await enqueue_delivery(session, notification)
        await record(session, NotificationQueued.of(notification))
        return notification


@allow(CHAT)
async def acknowledge(ctx: Context, notification_id: int, person: str) -> tuple[Notification, bool]:
    """Record that a person in this chat has read a message. Also return False if that was already recorded.

    Raises NotFound, also for another chat's message.
    """
    async with ctx.clients.db() as session:
        notification = await get_notification(session, notification_id, is_locked=True)
        if notification.tg_chat_id != ctx.chat_id or not KINDS[notification.kind].needs_acknowledgement:
            raise NotFound("notification", notification_id)
        is_new = notification.acknowledge(by=person, at=ctx.now())
        if is_new:
            await record(session, NotificationAcknowledged.of(notification))
        return notification, is_new


@allow(Role.MANAGER)
async def notification_updates(ctx: Context, cafe_id: int | None = None) -> Subscription[NotificationEvent]:
    """The changes of messages from now on: each message as it is after the change.

    The stream ends with SlowConsumer for a subscriber who falls too far behind.
    """

    def select_event(event: Event) -> NotificationEvent | None:
        return event if isinstance(event, NotificationEvent) and cafe_id in {None, event.cafe_id} else None

    return ctx.subscribe(select_event)
