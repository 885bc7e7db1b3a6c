"""Operations on links: a chat asks to become a cafe's chat, a manager decides, and everyone sees each step."""

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from limits import RateLimitItemPerMinute
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import col, select

from app.auth.access import CHAT, PUBLIC, allow
from app.auth.context import Context
from app.errors import CafeAlreadyLinked, CafeNotLinked, ChatAlreadyLinked, RateLimited
from app.events.live import Subscription
from app.events.outbox import record
from app.events.types import (
    CafeNotificationsChanged,
    Event,
    LinkRequestApproved,
    LinkRequestCreated,
    LinkRequestEvent,
    LinkRequestRejected,
    UnlinkReason,
)
from app.log import get_log
from app.models import Cafe, LinkRequest, LinkRequestStatus, Notification, Role
from app.services.deadlines import find_closings
from app.services.links import unlink_cafe
from app.services.notification_kinds import ACKNOWLEDGED_KINDS
from app.services.pagination import Page, PageRequest, SortOrder, paginate
from app.services.rows import FOR_NO_KEY_UPDATE, FOR_SHARE, FOR_UPDATE, get_row
from app.validation import NAME_MAX_CHARACTERS, text_rule

log = get_log(__name__)

ChatName = Annotated[str, text_rule(NAME_MAX_CHARACTERS)]

Reason = Annotated[str, text_rule(1000)]
"""A reason is part of a Telegram message, which has room for 4,096 characters."""

NEWEST_FIRST: SortOrder[LinkRequest] = SortOrder(
    "link_requests",
    (col(LinkRequest.created_at), col(LinkRequest.id)),
    (dt.datetime, int),
    lambda request: (request.created_at, request.id),
    descending=True,
)

WITH_CAFE = joinedload(LinkRequest.cafe)  # type: ignore[arg-type]

LOOK_AHEAD = dt.timedelta(days=7)
"""Deadlines repeat each week, so a cafe without one within a week has none."""


@dataclass(frozen=True)
class LinkedChat:
    """The cafe of a chat. Times are in the cafe's time zone."""

    cafe: Cafe
    next_deadline: dt.datetime | None
    last_sent: dt.datetime | None


@allow(PUBLIC)
async def link_request(ctx: Context, cafe_id: int, tg_chat_id: int, tg_username: ChatName | None = None) -> LinkRequest:
    """Ask for a chat to get a cafe's orders. The same request again returns the pending one.

    A request that the chat itself makes is for the forum topic in which it was made, the last time if it was repeated.

    Two simultaneous calls make one request: the partial unique index lets one insert through. The cafe's row is locked
    against a simultaneous approval, so that the checks still hold when the request is written.

    Raises BadInput, NotFound, CafeAlreadyLinked, ChatAlreadyLinked, RateLimited.
    """
    await _limit_requests(ctx)
    is_from_chat = ctx.caller.telegram_chat == tg_chat_id
    thread_id = ctx.caller.telegram_thread if is_from_chat else None
    is_pending = (
        col(LinkRequest.cafe_id) == cafe_id,
        col(LinkRequest.tg_chat_id) == tg_chat_id,
        col(LinkRequest.status) == LinkRequestStatus.PENDING,
    )
    async with ctx.clients.db(cafe_id) as session:
        if is_from_chat:  # before the cafe is locked: see _locked_request
            await session.execute(sa.update(LinkRequest).where(*is_pending).values(tg_thread_id=thread_id))
        cafe = await get_row(session, Cafe, cafe_id, lock=FOR_SHARE)
        if cafe.tg_chat_id is not None:
            raise CafeAlreadyLinked
        if await session.scalar(select(Cafe.id).where(col(Cafe.tg_chat_id) == tg_chat_id)):
            raise ChatAlreadyLinked
        request_id = await session.scalar(
            insert(LinkRequest)
            .values(
                cafe_id=cafe_id,
                tg_chat_id=tg_chat_id,
                tg_thread_id=thread_id,
                tg_username=tg_username,
                created_at=ctx.now(),
            )
            .on_conflict_do_nothing()
            .returning(col(LinkRequest.id))
        )
        request = (await session.scalars(select(LinkRequest).options(WITH_CAFE).where(*is_pending))).one()
        if request_id is not None:
            await record(session, LinkRequestCreated.of(request))
        return request


@allow(Role.MANAGER)
async def list_link_requests(
    ctx: Context, page: PageRequest, status: LinkRequestStatus | None = None, cafe_id: int | None = None
) -> Page[LinkRequest]:
    """The link requests, newest first.

    Raises BadInput.
    """
    query = select(LinkRequest).options(WITH_CAFE)
    if status is not None:
        query = query.where(LinkRequest.status == status)
    if cafe_id is not None:
        query = query.where(LinkRequest.cafe_id == cafe_id)
    async with ctx.clients.db() as session:
        return await paginate(session, query, NEWEST_FIRST, page)


@allow(Role.MANAGER)
async def approve(ctx: Context, request_id: int) -> LinkRequest:
    """Approve a pending link request: the chat gets the cafe's orders from now on.

    Of two simultaneous approvals one waits for the other's row lock, and then finds the request processed or the cafe
    linked. The unique constraint keeps two cafes from sharing a chat.

    Raises NotFound, LinkRequestProcessed, CafeAlreadyLinked, ChatAlreadyLinked.
    """
    try:
        async with _locked_request(ctx, request_id) as (session, request):
            request.approve(by=ctx.viewer.tgid, at=ctx.now())
            request.cafe.link(
                chat_id=request.tg_chat_id,
                thread_id=request.tg_thread_id,
                username=request.tg_username,
                at=ctx.now(),
            )
            await session.flush()
            await record(session, LinkRequestApproved.of(request))
            return request
    except IntegrityError as error:
        if "cafes_tg_chat_id_key" in str(error.orig):
            raise ChatAlreadyLinked from None
        raise


@allow(Role.MANAGER)
async def reject(ctx: Context, request_id: int, reason: Reason | None = None) -> LinkRequest:
    """Reject a pending link request. The chat is notified, with the reason if there is one.

    Raises BadInput, NotFound, LinkRequestProcessed.
    """
    async with _locked_request(ctx, request_id) as (session, request):
        request.reject(reason=reason, by=ctx.viewer.tgid, at=ctx.now())
        await record(session, LinkRequestRejected.of(request))
        return request


@allow(Role.MANAGER)
async def set_notifications(ctx: Context, cafe_id: int, *, enabled: bool) -> Cafe:
    """Enable or disable the notifications of a linked cafe.

    Raises NotFound, CafeNotLinked.
    """
    async with ctx.clients.db(cafe_id) as session:
        cafe = await get_row(session, Cafe, cafe_id, lock=FOR_UPDATE)
        was_enabled = cafe.notifications_enabled
        cafe.set_notifications(enabled=enabled)
        if enabled != was_enabled:
            await record(session, CafeNotificationsChanged.of(cafe))
        return cafe


@allow(Role.MANAGER)
async def unlink(ctx: Context, cafe_id: int) -> Cafe:
    """Remove the link between a cafe and its chat. The chat is notified.

    Raises NotFound, CafeNotLinked.
    """
    async with ctx.clients.db(cafe_id) as session:
        cafe = await get_row(session, Cafe, cafe_id, lock=FOR_UPDATE)
        await unlink_cafe(session, cafe, UnlinkReason.MANAGER)
        return cafe


@allow(CHAT)
async def unlink_chat(ctx: Context, cafe_id: int) -> Cafe:
    """Remove the link between a cafe and this chat. Managers are notified.

    Raises NotFound, CafeNotLinked if the cafe has no chat, or another one.
    """
    async with ctx.clients.db(cafe_id) as session:
        cafe = await get_row(session, Cafe, cafe_id, lock=FOR_UPDATE)
        if cafe.tg_chat_id != ctx.chat_id:
            raise CafeNotLinked
        await unlink_cafe(session, cafe, UnlinkReason.CHAT)
        return cafe


@allow(CHAT)
async def get_chat_status(ctx: Context) -> LinkedChat | LinkRequest | None:
    """The cafe of this chat, or else its newest pending request, or None."""
    async with ctx.clients.db() as session:
        cafe = await session.scalar(select(Cafe).where(Cafe.tg_chat_id == ctx.chat_id))
        if cafe is not None:
            return await _linked_chat(session, cafe, ctx.now())
        return await session.scalar(
            select(LinkRequest)
            .options(WITH_CAFE)
            .where(LinkRequest.tg_chat_id == ctx.chat_id, LinkRequest.status == LinkRequestStatus.PENDING)
            .order_by(*NEWEST_FIRST.order_by())
            .limit(1)
        )


@allow(Role.MANAGER)
async def link_request_updates(
    ctx: Context, status: LinkRequestStatus | None = None, cafe_id: int | None = None
) -> Subscription[LinkRequestEvent]:
    """The changes of link requests from now on: each request as it is after the change.

    The stream ends with SlowConsumer for a subscriber who falls too far behind.
    """

    def select_event(event: Event) -> LinkRequestEvent | None:
        if not isinstance(event, LinkRequestEvent):
            return None
        return event if status in {None, event.status} and cafe_id in {None, event.cafe_id} else None

    return ctx.subscribe(select_event)


async def _linked_chat(session: AsyncSession, cafe: Cafe, now: dt.datetime) -> LinkedChat:
    zone = ZoneInfo(cafe.timezone)
    closings = await find_closings(session, now, now + LOOK_AHEAD, cafe_id=cafe.id)
    last_sent = await session.scalar(
        sa.select(sa.func.max(col(Notification.sent_at))).where(
            col(Notification.cafe_id) == cafe.id, col(Notification.kind).in_(ACKNOWLEDGED_KINDS)
        )
    )
    return LinkedChat(
        cafe,
        next_deadline=closings[0].closes_at.astimezone(zone) if closings else None,
        last_sent=last_sent.astimezone(zone) if last_sent else None,
    )


async def _limit_requests(ctx: Context) -> None:
    """Raises RateLimited. While Redis is unavailable nothing is counted: a cafe's request matters more than a flood."""
    limit = RateLimitItemPerMinute(ctx.clients.settings.link_requests_per_minute)
    try:
        if await ctx.clients.limiter.hit(limit, "link-request", ctx.source):
            return
        window = await ctx.clients.limiter.get_window_stats(limit, "link-request", ctx.source)
    except (RedisError, OSError) as error:
        log.warning("rate_limit.unavailable", error=str(error))
        return
    raise RateLimited(max(1, round(window.reset_time - ctx.now().timestamp())))


@asynccontextmanager
async def _locked_request(ctx: Context, request_id: int) -> AsyncIterator[tuple[AsyncSession, LinkRequest]]:
    """Open a transaction, and lock a request, then its cafe: always in this order, so that no two operations deadlock.

    The lock on the request lets a deletion of the cafe check its requests (`FOR NO KEY UPDATE`).
    """
    async with ctx.clients.db() as session:
        unlocked = await get_row(session, LinkRequest, request_id)
    async with ctx.clients.db(unlocked.cafe_id) as session:
        request = await get_row(session, LinkRequest, request_id, lock=FOR_NO_KEY_UPDATE)
        set_committed_value(request, "cafe", await get_row(session, Cafe, request.cafe_id, lock=FOR_UPDATE))
        yield session, request
