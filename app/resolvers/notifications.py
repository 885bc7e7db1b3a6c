"""What chats are told, and how far it has come."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import col, select

from app.auth import PUBLIC, allow
from app.context import Context
from app.errors import BadInput, CafeNotLinked, NotFound
from app.events.live import Subscription
from app.events.log import outbox, record
from app.events.messages import Event, NotificationAcknowledged, NotificationEvent, NotificationQueued
from app.models import (
    Cafe,
    DeliveryDay,
    Notification,
    NotificationKind,
    NotificationStatus,
    Order,
    OrderStatus,
    Role,
)
from app.models.notifications import TO_ACKNOWLEDGE, whole
from app.resolvers import cafes
from app.resolvers.inputs import checked_date
from app.resolvers.kitchens import Snapshot, changes_since, day_orders, snapshot_of
from app.resolvers.paging import Page, PageRequest, SortOrder, fetch
from app.resolvers.summaries import orders_of_day
from app.telegram import kitchen

DELIVERY_QUEUE = "telegram"
"""The outbox queue whose rows name a notification and the part of it that is to be sent."""

CORRECTION_QUEUE = "corrections"
"""The outbox queue whose rows name a cafe and a date whose orders have changed after the deadline."""

CORRECTION_DELAY = dt.timedelta(minutes=1)
"""Changes within this time go as one correction."""

NEWEST_FIRST: SortOrder[Notification] = SortOrder(
    "notifications",
    (col(Notification.created_at), col(Notification.id)),
    (dt.datetime, int),
    lambda notification: (notification.created_at, notification.id),
    descending=True,
)

WITH_CAFE = joinedload(Notification.cafe)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Message:
    """What a cafe is to be told of a date next."""

    kind: NotificationKind
    version: int
    parts: Sequence[str]
    snapshot: Snapshot


@allow(Role.MANAGER)
async def notifications(
    ctx: Context,
    page: PageRequest,
    cafe_id: int | None = None,
    date: dt.date | None = None,
    status: NotificationStatus | None = None,
) -> Page[Notification]:
    """The messages to chats, newest first.

    Raises BadInput.
    """
    query = select(Notification).options(WITH_CAFE)
    if cafe_id is not None:
        query = query.where(Notification.cafe_id == cafe_id)
    if date is not None:
        query = query.where(Notification.date == checked_date("date", date))
    if status is not None:
        query = query.where(Notification.status == status)
    async with ctx.clients.db() as session:
        return await fetch(session, query, NEWEST_FIRST, page)


@allow(Role.MANAGER)
async def notification_preview(ctx: Context, cafe_id: int, date: dt.date) -> str | None:
    """What a cafe would be told about a date now, as Telegram's HTML: its orders, or what has changed since it was told.

    Null if there is nothing to tell.

    Raises BadInput, NotFound.
    """
    checked_date("date", date)
    async with ctx.clients.db() as session:
        cafe = await cafes.found(session, cafe_id)
        message = await _next_message(session, cafe, date)
    return whole(message.parts) if message else None


@allow(Role.MANAGER)
async def retry_notification(ctx: Context, notification_id: int) -> Notification:
    """Send a failed message again: to the chat that the cafe has now. Parts that have arrived are not repeated.

    Raises NotFound, BadInput, CafeNotLinked.
    """
    async with ctx.clients.db() as session:
        notification = await found(session, notification_id, lock=True)
        if notification.status is not NotificationStatus.FAILED:
            raise BadInput("id", "only a failed message can be sent again")
        if notification.kind in TO_ACKNOWLEDGE:
            if notification.cafe.tg_chat_id is None:
                raise CafeNotLinked
            if await _is_outdated(session, notification):
                raise BadInput("id", "a newer message about that day has taken its place")
            notification.move_to(notification.cafe.tg_chat_id)
        notification.queue_again(at=ctx.now())
        await send(session, notification)
        await record(session, NotificationQueued.of(notification))
        return notification


@allow(PUBLIC)
async def acknowledge(ctx: Context, notification_id: int, tg_chat_id: int, person: str) -> tuple[Notification, bool]:
    """Note that somebody in a chat has read a message, and say whether that is news.

    Raises NotFound, also if the message is not that chat's.
    """
    async with ctx.clients.db() as session:
        notification = await found(session, notification_id, lock=True)
        if notification.tg_chat_id != tg_chat_id or notification.kind not in TO_ACKNOWLEDGE:
            raise NotFound("notification", notification_id)
        is_news = notification.acknowledge(by=person, at=ctx.now())
        if is_news:
            await record(session, NotificationAcknowledged.of(notification))
        return notification, is_news


@allow(Role.MANAGER)
async def notification_updates(ctx: Context, cafe_id: int | None = None) -> Subscription[NotificationEvent]:
    """What happens to messages, from now on: each as it is after the step.

    The stream ends with SlowConsumer for one who falls too far behind.
    """

    def wanted(event: Event) -> NotificationEvent | None:
        return event if isinstance(event, NotificationEvent) and cafe_id in {None, event.cafe_id} else None

    return ctx.subscribe(wanted)


async def queue(
    session: AsyncSession,
    kind: NotificationKind,
    cafe_id: int,
    chat_id: int,
    parts: Sequence[str],
    *,
    date: dt.date | None = None,
    version: int = 1,
    snapshot: object = None,
    link_request_id: int | None = None,
) -> Notification | None:
    """Note a message to a chat, to be sent once the caller's transaction is committed.

    What a cafe is told of a date, in a version, is told once: then there is None.

    Args:
        chat_id: Telegram's id of the chat.
        parts: Telegram's HTML, each at most 4,096 characters.
    """
    notification_id = await session.scalar(
        insert(Notification)
        .values(
            kind=kind,
            cafe_id=cafe_id,
            tg_chat_id=chat_id,
            parts=list(parts),
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
    notification = await found(session, notification_id)
    await send(session, notification)
    await record(session, NotificationQueued.of(notification))
    return notification


async def alert(
    session: AsyncSession,
    managers_chat_id: int | None,
    cafe_id: int,
    text: str,
    *,
    date: dt.date | None = None,
    version: int = 1,
) -> None:
    """Tell the managers' chat, if there is one, what is the matter with a cafe; of a date and version once."""
    if managers_chat_id is not None:
        await queue(session, NotificationKind.ALERT, cafe_id, managers_chat_id, [text], date=date, version=version)


async def announce(session: AsyncSession, cafe_id: int, date: dt.date, *, is_correction: bool) -> Notification | None:
    """Queue what a cafe is to cook on a date: the orders, or, in a correction, what has changed since it was told.

    Nothing if the cafe is not to be told, or there is nothing to tell.
    """
    cafe = await cafes.found(session, cafe_id)
    if cafe.tg_chat_id is None or not cafe.is_notified:
        return None
    message = await _next_message(session, cafe, date)
    if message is None or (message.version > 1 and not is_correction):
        return None
    return await queue(
        session,
        message.kind,
        cafe_id,
        cafe.tg_chat_id,
        message.parts,
        date=date,
        version=message.version,
        snapshot=message.snapshot,
    )


async def correct(session: AsyncSession, cafe_id: int, date: dt.date) -> Notification | None:
    """Queue what has changed in a day's orders since the cafe was told.

    Nobody changes orders of the day meanwhile: so of two at once the second finds what the first has told.
    """
    await session.get(DeliveryDay, (cafe_id, date), with_for_update=True)
    return await announce(session, cafe_id, date, is_correction=True)


async def _is_outdated(session: AsyncSession, notification: Notification) -> bool:
    """Say whether a later version about the same day was sent, or is to be. Nobody makes one meanwhile."""
    await session.get(DeliveryDay, (notification.cafe_id, notification.date), with_for_update=True)
    later = sa.exists().where(
        col(Notification.cafe_id) == notification.cafe_id,
        col(Notification.date) == notification.date,
        col(Notification.kind).in_(TO_ACKNOWLEDGE),
        col(Notification.version) > notification.version,
        col(Notification.status) != NotificationStatus.FAILED,
    )
    return bool(await session.scalar(sa.select(later)))


async def untold_days(session: AsyncSession, begin: dt.datetime, end: dt.datetime) -> list[tuple[int, dt.date]]:
    """Find the cafes and dates that were closed between these instants, have orders, and of which no kitchen was told.

    Days that are over are left out.
    """
    has_orders = sa.exists().where(
        col(Order.cafe_id) == DeliveryDay.cafe_id,
        col(Order.date) == DeliveryDay.date,
        col(Order.status) != OrderStatus.CANCELLED,
    )
    was_told = sa.exists().where(
        col(Notification.cafe_id) == DeliveryDay.cafe_id,
        col(Notification.date) == DeliveryDay.date,
        col(Notification.kind) == NotificationKind.ORDERS,
    )
    today = sa.cast(sa.func.timezone(Cafe.timezone, sa.func.now()), sa.Date)
    days = (
        sa.select(col(DeliveryDay.cafe_id), col(DeliveryDay.date))
        .join(Cafe, col(Cafe.id) == DeliveryDay.cafe_id)
        .where(
            col(DeliveryDay.announced_at).between(begin, end),
            col(DeliveryDay.date) >= today,
            has_orders,
            ~was_told,
        )
        .order_by(col(DeliveryDay.announced_at))
    )
    return [(cafe_id, date) for cafe_id, date in await session.execute(days)]


async def correct_later(session: AsyncSession, cafe_id: int, date: dt.date) -> None:
    """Have a cafe told, a little later, that orders have changed after the deadline.

    Each change asks for that; the first correction tells all changes until then, and those that follow find nothing.
    """
    await outbox.publish(
        f"{cafe_id} {date}".encode(), queue=CORRECTION_QUEUE, session=session, activate_in=CORRECTION_DELAY
    )


async def found(session: AsyncSession, notification_id: int, *, lock: bool = False) -> Notification:
    """Return a notification with its cafe.

    Raises NotFound.
    """
    notification = await session.get(
        Notification, notification_id, with_for_update=lock or None, populate_existing=lock
    )
    if notification is None:
        raise NotFound("notification", notification_id)
    set_committed_value(notification, "cafe", await session.get_one(Cafe, notification.cafe_id))
    return notification


async def send(session: AsyncSession, notification: Notification) -> None:
    """Have the next part sent once the caller's transaction is committed."""
    part = f"{notification.id} {len(notification.tg_message_ids)}"
    await outbox.publish(part.encode(), queue=DELIVERY_QUEUE, session=session)


async def _next_message(session: AsyncSession, cafe: Cafe, date: dt.date) -> Message | None:
    """Write what a cafe is to be told of a date next, without keeping it; None if it knows everything.

    What it knows is what its chat was sent last, or will be. A chat that has got nothing gets the whole list.
    """
    told = (
        await session.scalars(
            select(Notification)
            .where(
                Notification.cafe_id == cafe.id,
                Notification.date == date,
                col(Notification.kind).in_(TO_ACKNOWLEDGE),
            )
            .order_by(col(Notification.version))
        )
    ).all()
    known = [row for row in told if row.status is not NotificationStatus.FAILED and row.tg_chat_id == cafe.tg_chat_id]
    version = told[-1].version + 1 if told else 1
    orders = await orders_of_day(session, cafe.id, date)
    day = day_orders(cafe, date, orders)
    if not known:
        if not orders:
            return None
        return Message(NotificationKind.ORDERS, version, kitchen.orders(day, cafe.language), snapshot_of(orders))
    changes, notes = changes_since(known[-1].snapshot, orders)
    if not changes and not notes:
        return None
    number = 1 + sum(row.kind is NotificationKind.CORRECTION for row in known)
    correction = kitchen.Correction(number, changes, notes, day)
    return Message(
        NotificationKind.CORRECTION, version, kitchen.correction(correction, cafe.language), snapshot_of(orders)
    )
