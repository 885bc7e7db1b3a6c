"""The link flow: a chat asks to be a cafe's chat, a manager decides, everybody sees it."""

from datetime import datetime

import sqlalchemy as sa
from limits import RateLimitItemPerMinute
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased, joinedload
from sqlalchemy.orm.attributes import set_committed_value
from sqlmodel import col, select

from app.auth import PUBLIC, allow
from app.context import Context
from app.errors import CafeAlreadyLinked, CafeNotLinked, ChatAlreadyLinked, NotFound, RateLimited
from app.events.live import Subscription
from app.events.log import record
from app.events.messages import (
    CafeNotificationsChanged,
    CafeUnlinked,
    Event,
    LinkRequestApproved,
    LinkRequestCreated,
    LinkRequestEvent,
    LinkRequestRejected,
    UnlinkReason,
)
from app.log import get_log
from app.models import Cafe, LinkRequest, LinkRequestStatus, Notification, NotificationStatus, Role
from app.models.tables import NAME_MAX_CHARACTERS
from app.resolvers.inputs import checked_text
from app.resolvers.paging import Page, PageRequest, SortOrder, fetch

log = get_log(__name__)

REASON_MAX_CHARACTERS = 1000
"""A reason goes into a Telegram message, which has room for 4,096."""

NEWEST_FIRST: SortOrder[LinkRequest] = SortOrder(
    "link_requests",
    (col(LinkRequest.created_at), col(LinkRequest.id)),
    (datetime, int),
    lambda request: (request.created_at, request.id),
    descending=True,
)


@allow(PUBLIC)
async def link_request(ctx: Context, cafe_id: int, tg_chat_id: int, tg_username: str | None = None) -> LinkRequest:
    """Ask for a chat to get a cafe's orders. Asking again while the request is pending returns that request.

    Two who ask at once get one request: the partial unique index lets one insert through. The cafe's row is locked
    against an approval at the same time, so that what is checked here still holds when the request is there.

    Raises BadInput, NotFound, CafeAlreadyLinked, ChatAlreadyLinked, RateLimited.
    """
    checked_text("tg_username", tg_username, NAME_MAX_CHARACTERS)
    await _count_request(ctx)
    async with ctx.clients.db() as session:
        cafe = await session.get(Cafe, cafe_id, with_for_update={"read": True})
        if cafe is None:
            raise NotFound("cafe", cafe_id)
        if cafe.tg_chat_id is not None:
            raise CafeAlreadyLinked
        if await session.scalar(select(Cafe.id).where(col(Cafe.tg_chat_id) == tg_chat_id)):
            raise ChatAlreadyLinked
        request_id = await session.scalar(
            insert(LinkRequest)
            .values(cafe_id=cafe_id, tg_chat_id=tg_chat_id, tg_username=tg_username, created_at=ctx.now())
            .on_conflict_do_nothing()
            .returning(col(LinkRequest.id))
        )
        pending = (
            select(LinkRequest)
            .options(joinedload(LinkRequest.cafe))  # type: ignore[arg-type]
            .where(
                LinkRequest.cafe_id == cafe_id,
                LinkRequest.tg_chat_id == tg_chat_id,
                LinkRequest.status == LinkRequestStatus.PENDING,
            )
        )
        request = (await session.scalars(pending)).one()
        if request_id is not None:
            await record(session, LinkRequestCreated.of(request))
        return request


@allow(Role.MANAGER)
async def link_requests(
    ctx: Context, page: PageRequest, status: LinkRequestStatus | None = None, cafe_id: int | None = None
) -> Page[LinkRequest]:
    """The link requests, newest first.

    Raises BadInput.
    """
    query = select(LinkRequest).options(joinedload(LinkRequest.cafe))  # type: ignore[arg-type]
    if status is not None:
        query = query.where(LinkRequest.status == status)
    if cafe_id is not None:
        query = query.where(LinkRequest.cafe_id == cafe_id)
    async with ctx.clients.db() as session:
        return await fetch(session, query, NEWEST_FIRST, page)


@allow(Role.MANAGER)
async def approve(ctx: Context, request_id: int) -> LinkRequest:
    """Approve a pending link request: the cafe's orders go to the chat from now on.

    Of two approvals at once one waits for the other's row lock, and then finds the request processed or the cafe
    linked. That a chat is not given to two cafes at once is decided by the unique constraint.

    Raises NotFound, LinkRequestProcessed, CafeAlreadyLinked, ChatAlreadyLinked.
    """
    try:
        async with ctx.clients.db() as session:
            request = await _locked_request(session, request_id)
            request.approve(by=ctx.viewer.tgid, at=ctx.now())
            request.cafe.link(chat_id=request.tg_chat_id, username=request.tg_username, at=ctx.now())
            await session.flush()
            await record(session, LinkRequestApproved.of(request))
            return request
    except IntegrityError as error:
        if "cafes_tg_chat_id_key" in str(error.orig):
            raise ChatAlreadyLinked from None
        raise


@allow(Role.MANAGER)
async def reject(ctx: Context, request_id: int, reason: str | None = None) -> LinkRequest:
    """Reject a pending link request. The chat is told, with the reason if there is one.

    Raises BadInput, NotFound, LinkRequestProcessed.
    """
    checked_text("reason", reason, REASON_MAX_CHARACTERS)
    async with ctx.clients.db() as session:
        request = await _locked_request(session, request_id)
        request.reject(reason=reason, by=ctx.viewer.tgid, at=ctx.now())
        await record(session, LinkRequestRejected.of(request))
        return request


@allow(Role.MANAGER)
async def set_notifications(ctx: Context, cafe_id: int, *, enabled: bool) -> Cafe:
    """Switch a linked cafe's notifications on or off.

    Raises NotFound, CafeNotLinked.
    """
    async with ctx.clients.db() as session:
        cafe = await _locked_cafe(session, cafe_id)
        was_enabled = cafe.notifications_enabled
        cafe.switch_notifications(enabled=enabled)
        if enabled != was_enabled:
            await record(session, CafeNotificationsChanged.of(cafe))
        return cafe


@allow(Role.MANAGER)
async def unlink(ctx: Context, cafe_id: int) -> Cafe:
    """Take a cafe's chat away from it. The chat is told.

    Raises NotFound, CafeNotLinked.
    """
    async with ctx.clients.db() as session:
        cafe = await _locked_cafe(session, cafe_id)
        former_chat_id = cafe.unlink()
        await record(session, CafeUnlinked.of(cafe, former_chat_id, UnlinkReason.MANAGER))
        return cafe


@allow(Role.MANAGER)
async def link_request_updates(
    ctx: Context, status: LinkRequestStatus | None = None, cafe_id: int | None = None
) -> Subscription[LinkRequestEvent]:
    """What happens to link requests, from now on: each as it is after the step.

    The stream ends with SlowConsumer for one who falls too far behind.
    """

    def wanted(event: Event) -> LinkRequestEvent | None:
        if not isinstance(event, LinkRequestEvent):
            return None
        return event if status in {None, event.status} and cafe_id in {None, event.cafe_id} else None

    return ctx.subscribe(wanted)


@allow(PUBLIC)
async def unlink_chat(ctx: Context, cafe_id: int, tg_chat_id: int) -> Cafe:
    """Take a chat away from its cafe because somebody in it wants so. Managers are told.

    Raises NotFound, CafeNotLinked if the cafe has no chat, or another one.
    """
    async with ctx.clients.db() as session:
        cafe = await _locked_cafe(session, cafe_id)
        if cafe.tg_chat_id != tg_chat_id:
            raise CafeNotLinked
        await record(session, CafeUnlinked.of(cafe, cafe.unlink(), UnlinkReason.CHAT))
        return cafe


async def chat_gone(session: AsyncSession, tg_chat_id: int) -> Cafe | None:
    """Unlink the cafe of a chat that cannot be reached any more, if it has one. Managers are told."""
    cafe = await session.scalar(select(Cafe).where(Cafe.tg_chat_id == tg_chat_id).with_for_update())
    if cafe is not None:
        await record(session, CafeUnlinked.of(cafe, cafe.unlink(), UnlinkReason.CHAT_GONE))
    return cafe


async def chat_moved(session: AsyncSession, tg_chat_id: int, new_chat_id: int) -> None:
    """Follow a group that has become a supergroup: its cafe, its requests, and what is still to be told there.

    If the supergroup has been linked to another cafe meanwhile, the group's loses its chat, and managers are told. A
    request that the supergroup has made again already stays with the group.
    """
    if await session.scalar(select(Cafe.id).where(Cafe.tg_chat_id == new_chat_id)) is not None:
        await chat_gone(session, tg_chat_id)
    again = aliased(LinkRequest)
    asked_again = sa.exists().where(
        col(again.cafe_id) == LinkRequest.cafe_id,
        col(again.tg_chat_id) == new_chat_id,
        col(again.status) == LinkRequestStatus.PENDING,
    )
    for statement in (
        sa.update(Cafe).where(col(Cafe.tg_chat_id) == tg_chat_id),
        sa.update(LinkRequest).where(
            col(LinkRequest.tg_chat_id) == tg_chat_id,
            col(LinkRequest.status) == LinkRequestStatus.PENDING,
            ~asked_again,
        ),
        sa.update(Notification).where(
            col(Notification.tg_chat_id) == tg_chat_id, col(Notification.status) != NotificationStatus.SENT
        ),
    ):
        await session.execute(statement.values(tg_chat_id=new_chat_id))


async def _count_request(ctx: Context) -> None:
    """Raises RateLimited. With Redis away nobody is counted: a cafe that asks matters more than one who floods."""
    limit = RateLimitItemPerMinute(ctx.clients.settings.link_requests_per_minute)
    try:
        if await ctx.clients.limiter.hit(limit, "link-request", ctx.source):
            return
        window = await ctx.clients.limiter.get_window_stats(limit, "link-request", ctx.source)
    except (RedisError, OSError) as error:
        log.warning("rate_limit.unavailable", error=str(error))
        return
    raise RateLimited(max(1, round(window.reset_time - ctx.now().timestamp())))


async def _locked_request(session: AsyncSession, request_id: int) -> LinkRequest:
    """Lock the request, then its cafe: always in this order, so that no two operations wait for each other.

    Whoever deletes the cafe looks at its requests with the cafe in hand. The lock lets them (`FOR NO KEY UPDATE`).
    """
    request = await session.get(LinkRequest, request_id, with_for_update={"key_share": True})
    if request is None:
        raise NotFound("link_request", request_id)
    set_committed_value(request, "cafe", await _locked_cafe(session, request.cafe_id))
    return request


async def _locked_cafe(session: AsyncSession, cafe_id: int) -> Cafe:
    cafe = await session.get(Cafe, cafe_id, with_for_update=True)
    if cafe is None:
        raise NotFound("cafe", cafe_id)
    return cafe
