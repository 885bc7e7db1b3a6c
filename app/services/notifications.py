"""Notifications: queueing, and the next message to a cafe about a date."""

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload
from sqlalchemy.sql.selectable import ForUpdateArg
from sqlmodel import col

from app.clients import Clients
from app.events.outbox import Task, enqueue, record
from app.events.types import NotificationQueued
from app.models import (
    Cafe,
    DeliveryDay,
    Notification,
    NotificationKind,
    NotificationStatus,
    Order,
    OrderStatus,
)
from app.models.notifications import IS_UNFINISHED
from app.services.deadlines import earliest_today, lock_day, today_in
from app.services.failures import contain_failure
from app.services.notification_kinds import ACKNOWLEDGED_KINDS, KINDS, Audience, Text, render
from app.services.order_diff import Snapshot, changes_since, day_orders, snapshot_of
from app.services.orders import PlacedOrder, find_orders_of_day
from app.services.rows import FOR_UPDATE, get_row
from app.telegram import order_message
from app.telegram.limiter import seconds_until_turn
from app.telegram.notification_texts import NamedCafe

DELIVERY_TIMEOUT = dt.timedelta(hours=1)
"""After this a delivery with errors fails and managers are alerted. A manager may retry it."""

WITH_CAFE = joinedload(Notification.cafe, innerjoin=True)  # type: ignore[arg-type]
FOR_UPDATE_OF_NOTIFICATION = ForUpdateArg(of=Notification)

CORRECTION_DELAY = dt.timedelta(minutes=1)
"""Changes within this time are one correction."""


class DeliveryTask(Task):
    """Send one part of a notification. Parts are counted from 0."""

    queue = "telegram"

    notification_id: int
    part: int


class CorrectionTask(Task):
    """Send a correction, if the orders of a day have changed after its deadline."""

    queue = "corrections"

    cafe_id: int
    date: dt.date


@dataclass(frozen=True)
class DayMessage:
    """The next message to a cafe about a date, in parts, and the orders that the cafe knows after it."""

    kind: NotificationKind
    version: int
    parts: Sequence[str]
    snapshot: Snapshot


async def notify(
    clients: Clients,
    session: AsyncSession,
    kind: NotificationKind,
    cafe: NamedCafe,
    *,
    chat_id: int | None = None,
    thread_id: int | None = None,
    date: dt.date | None = None,
    version: int = 1,
    snapshot: Snapshot | None = None,
    link_request_id: int | None = None,
    text: Text | None = None,
    facts: Mapping[str, object] | None = None,
    parts: Sequence[str] | None = None,
) -> Notification | None:
    """Queue a notification, to be sent when the caller's transaction is committed.

    The cafe's chat gets the cafe's language, the managers' chat gets English. Returns None if this cafe, date, kind and
    version has a notification already, or if there is no managers' chat.

    Args:
        chat_id: The cafe's chat. Not used for managers.
        thread_id: The forum topic in that chat, if any.
        text: The text function of an alert.
        facts: The keyword arguments of the text function.
        parts: The text, if it is made already.
    """
    if KINDS[kind].audience is Audience.MANAGERS:
        chat_id, thread_id = clients.settings.telegram_manager_chat_id, clients.settings.telegram_manager_chat_thread_id
    if chat_id is None:
        return None
    notification_id = await session.scalar(
        insert(Notification)
        .values(
            kind=kind,
            cafe_id=cafe.id,
            tg_chat_id=chat_id,
            tg_thread_id=thread_id,
            parts=list(parts or render(kind, cafe, text, facts or {})),
            date=date,
            version=version,
            snapshot=snapshot,
            link_request_id=link_request_id,
        )
        .on_conflict_do_nothing()
        .returning(col(Notification.id))
    )
    if notification_id is None:
        return None
    notification = await get_notification(session, notification_id)
    await enqueue_delivery(session, notification)
    await record(session, NotificationQueued.of(notification))
    return notification


async def alert(
    clients: Clients,
    session: AsyncSession,
    cafe: NamedCafe,
    text: Text,
    *,
    about: tuple[dt.date, int] | None = None,
    **facts: object,
) -> None:
    """Alert the managers.

    Args:
        about: A date and a version. The managers get one alert for each.
    """
    date, version = about or (None, 1)
    await notify(clients, session, NotificationKind.ALERT, cafe, date=date, version=version, text=text, facts=facts)


async def announce_day(
    clients: Clients, session: AsyncSession, cafe_id: int, date: dt.date, *, is_correction: bool = False
) -> Notification | None:
    """Queue the order list of a date, or with `is_correction` its next correction.

    None if the cafe gets no notifications, or the list is sent already, or nothing has changed.
    """
    cafe = await get_row(session, Cafe, cafe_id)
    if not cafe.is_notified:
        return None
    message = await find_next_message(session, cafe, date)
    if message is None or (message.version > 1 and not is_correction):
        return None
    return await notify(
        clients,
        session,
        message.kind,
        cafe,
        chat_id=cafe.tg_chat_id,
        thread_id=cafe.tg_thread_id,
        date=date,
        version=message.version,
        snapshot=message.snapshot,
        parts=message.parts,
    )


async def correct_day(clients: Clients, session: AsyncSession, task: CorrectionTask) -> Notification | None:
    """Queue a correction, if the orders of a day have changed since the last message.

    The day is locked meanwhile, so of two simultaneous corrections the second finds no change.
    """
    await lock_day(session, task.cafe_id, task.date, FOR_UPDATE)
    return await announce_day(clients, session, task.cafe_id, task.date, is_correction=True)


async def schedule_correction(session: AsyncSession, cafe_id: int, date: dt.date) -> None:
    """Send a correction a little later, because orders have changed after the deadline.

    Each change schedules one. The first correction has all changes until then, and the later ones find none.
    """
    await enqueue(session, CorrectionTask(cafe_id=cafe_id, date=date), CORRECTION_DELAY)


async def is_outdated(session: AsyncSession, notification: Notification) -> bool:
    """Whether a later version about the same day was sent or waits. The day is locked, so no version comes meanwhile."""
    if notification.date is not None:
        await lock_day(session, notification.cafe_id, notification.date, FOR_UPDATE)
    later = sa.exists().where(
        col(Notification.cafe_id) == notification.cafe_id,
        col(Notification.date) == notification.date,
        col(Notification.kind).in_(ACKNOWLEDGED_KINDS),
        col(Notification.version) > notification.version,
        col(Notification.status) != NotificationStatus.FAILED,
    )
    return bool(await session.scalar(sa.select(later)))


async def find_days_without_message(
    session: AsyncSession, now: dt.datetime, announced_before: dt.datetime
) -> list[tuple[int, dt.date]]:
    """Find cafes and dates that were announced, have orders, have no order list, and are not over.

    Args:
        announced_before: The latest time of the announcement.
    """
    has_orders = sa.exists().where(
        col(Order.cafe_id) == DeliveryDay.cafe_id,
        col(Order.date) == DeliveryDay.date,
        col(Order.status) != OrderStatus.CANCELLED,
    )
    has_message = sa.exists().where(
        col(Notification.cafe_id) == DeliveryDay.cafe_id,
        col(Notification.date) == DeliveryDay.date,
        col(Notification.kind) == NotificationKind.ORDERS,
    )
    days = (
        sa.select(col(DeliveryDay.cafe_id), col(DeliveryDay.date), col(Cafe.timezone))
        .join(Cafe, col(Cafe.id) == DeliveryDay.cafe_id)
        .where(
            col(DeliveryDay.announced_at) <= announced_before,
            col(DeliveryDay.date) >= earliest_today(now),
            has_orders,
            ~has_message,
        )
        .order_by(col(DeliveryDay.announced_at))
    )
    found: list[tuple[int, dt.date]] = []
    for cafe_id, date, timezone in await session.execute(days):
        with contain_failure("cafe.skipped", cafe=cafe_id):
            found += [(cafe_id, date)] if date >= today_in(timezone, now) else []
    return found


async def get_notification(session: AsyncSession, notification_id: int, *, is_locked: bool = False) -> Notification:
    """Return a notification with its cafe, and lock it if it is about to change.

    Raises NotFound.
    """
    return await get_row(
        session,
        Notification,
        notification_id,
        lock=FOR_UPDATE_OF_NOTIFICATION if is_locked else None,
        options=(WITH_CAFE,),
    )


async def enqueue_delivery(session: AsyncSession, notification: Notification) -> None:
    """Send the next part when the caller's transaction is committed, and the chat has got what comes before it."""
    part = len(notification.tg_message_ids)
    ahead = await count_ahead(session, notification) + bool(part)
    delay = dt.timedelta(seconds=seconds_until_turn(notification.tg_chat_id, ahead)) if ahead else None
    await enqueue(session, DeliveryTask(notification_id=notification.id, part=part), delay)


async def count_ahead(session: AsyncSession, notification: Notification) -> int:
    """Count the notifications that the chat must get before this one.

    They are those before it that have not failed. If one was queued long ago, something else has happened to it, and it
    stops nothing. An alert goes ahead of the link requests, which strangers make.
    """
    is_alert = col(Notification.kind) == NotificationKind.ALERT
    ahead = sa.select(sa.func.count()).where(
        col(Notification.tg_chat_id) == notification.tg_chat_id,
        col(Notification.id) < notification.id,
        sa.text(IS_UNFINISHED),
        col(Notification.error).is_(None),
        col(Notification.queued_at) > sa.func.now() - DELIVERY_TIMEOUT,
        *((is_alert,) if notification.kind is NotificationKind.ALERT else ()),
    )
    return (await session.scalars(ahead)).one()


async def find_next_message(session: AsyncSession, cafe: Cafe, date: dt.date) -> DayMessage | None:
    """Find the next message to a cafe about a date; None if the cafe knows everything.

    A cafe knows the last message to its present chat that was sent, or waits. A chat without any gets the whole list.
    """
    messages = (
        await session.execute(
            sa.select(
                col(Notification.id),
                col(Notification.kind),
                col(Notification.version),
                col(Notification.status),
                col(Notification.tg_chat_id),
            )
            .where(
                col(Notification.cafe_id) == cafe.id,
                col(Notification.date) == date,
                col(Notification.kind).in_(ACKNOWLEDGED_KINDS),
            )
            .order_by(col(Notification.version))
        )
    ).all()
    known = [
        message
        for message in messages
        if message.status is not NotificationStatus.FAILED and message.tg_chat_id == cafe.tg_chat_id
    ]
    version = messages[-1].version + 1 if messages else 1
    orders = await find_orders_of_day(session, cafe.id, date)
    if not known:
        return await asyncio.to_thread(_compose_list, cafe, date, version, orders) if orders else None
    last = sa.select(col(Notification.snapshot)).where(col(Notification.id) == known[-1].id)
    snapshot: Snapshot = (await session.scalars(last)).one()
    number = 1 + sum(message.kind is NotificationKind.CORRECTION for message in known)
    return await asyncio.to_thread(_compose_correction, cafe, date, version, orders, snapshot, number)


def _compose_list(cafe: Cafe, date: dt.date, version: int, orders: Sequence[PlacedOrder]) -> DayMessage:
    """Write the order list. In a thread: with thousands of orders it takes longer than the event loop may stand still."""
    parts = render(NotificationKind.ORDERS, cafe, None, {"orders": day_orders(date, orders)})
    return DayMessage(NotificationKind.ORDERS, version, parts, snapshot_of(orders))


def _compose_correction(
    cafe: Cafe, date: dt.date, version: int, orders: Sequence[PlacedOrder], known: Snapshot, number: int
) -> DayMessage | None:
    """Write the correction with this number, if orders have changed. In a thread, like the order list."""
    changes, notes = changes_since(known, orders)
    if not changes and not notes:
        return None
    correction = order_message.Correction(number, changes, notes, day_orders(date, orders))
    parts = render(NotificationKind.CORRECTION, cafe, None, {"correction": correction})
    return DayMessage(NotificationKind.CORRECTION, version, parts, snapshot_of(orders))
