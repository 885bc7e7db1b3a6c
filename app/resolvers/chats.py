"""What a chat may know of itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload
from sqlmodel import col, select

from app.auth import PUBLIC, allow
from app.context import Context
from app.models import Cafe, LinkRequest, LinkRequestStatus, Notification
from app.models.notifications import TO_ACKNOWLEDGE
from app.resolvers import deadlines
from app.resolvers.links import NEWEST_FIRST

LOOK_AHEAD = timedelta(days=7)


@dataclass(frozen=True)
class LinkedChat:
    """The cafe of a chat; times are in the cafe's time zone."""

    cafe: Cafe
    next_deadline: datetime | None
    last_sent: datetime | None


@allow(PUBLIC)
async def chat_status(ctx: Context, tg_chat_id: int) -> LinkedChat | LinkRequest | None:
    """What a chat may know of itself: its cafe, or else its newest pending request, or nothing."""
    async with ctx.clients.db() as session:
        cafe = await session.scalar(select(Cafe).where(Cafe.tg_chat_id == tg_chat_id))
        if cafe is not None:
            return await _linked(session, cafe, ctx.now())
        return await session.scalar(
            select(LinkRequest)
            .options(joinedload(LinkRequest.cafe))  # type: ignore[arg-type]
            .where(LinkRequest.tg_chat_id == tg_chat_id, LinkRequest.status == LinkRequestStatus.PENDING)
            .order_by(*NEWEST_FIRST.sorted())
            .limit(1)
        )


async def _linked(session: AsyncSession, cafe: Cafe, now: datetime) -> LinkedChat:
    zone = ZoneInfo(cafe.timezone)
    upcoming = await deadlines.closing_between(session, now, now + LOOK_AHEAD, cafe_id=cafe.id)
    last_sent = await session.scalar(
        sa.select(sa.func.max(col(Notification.sent_at))).where(
            col(Notification.cafe_id) == cafe.id, col(Notification.kind).in_(TO_ACKNOWLEDGE)
        )
    )
    return LinkedChat(
        cafe,
        next_deadline=upcoming[0].closes_at.astimezone(zone) if upcoming else None,
        last_sent=last_sent.astimezone(zone) if last_sent else None,
    )
