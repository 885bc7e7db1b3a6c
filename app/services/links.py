"""Links of cafes: how they end, and chats that have changed without a viewer."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col, select

from app.events.outbox import record
from app.events.types import CafeUnlinked, UnlinkReason
from app.models import Cafe, LinkRequest, LinkRequestStatus, Notification, NotificationStatus


async def unlink_cafe(session: AsyncSession, cafe: Cafe, reason: UnlinkReason) -> None:
    """Remove the link of a cafe whose row is locked.

    Raises CafeNotLinked.
    """
    thread_id = cafe.tg_thread_id
    await record(session, CafeUnlinked.of_cafe(cafe, cafe.unlink(), reason, thread_id))


async def unlink_unreachable_chat(session: AsyncSession, tg_chat_id: int) -> Cafe | None:
    """Unlink the cafe of a chat that cannot be reached any more, if it has one. Managers are alerted."""
    cafe = await session.scalar(select(Cafe).where(Cafe.tg_chat_id == tg_chat_id).with_for_update())
    if cafe is not None:
        await unlink_cafe(session, cafe, UnlinkReason.CHAT_GONE)
    return cafe


async def leave_topic(session: AsyncSession, tg_chat_id: int, tg_thread_id: int) -> None:
    """Send the messages of a cafe to its chat itself, because its topic is deleted."""
    is_there = (col(Cafe.tg_chat_id) == tg_chat_id, col(Cafe.tg_thread_id) == tg_thread_id)
    await session.execute(sa.update(Cafe).where(*is_there).values(tg_thread_id=None))


async def migrate_chat(session: AsyncSession, tg_chat_id: int, new_chat_id: int) -> None:
    """Follow a group that became a supergroup: its cafe, its pending requests, and its undelivered notifications.

    Topics stay behind: only supergroups have them.

    If the supergroup is already linked to another cafe, the group's cafe is unlinked and managers are alerted. A request
    that the supergroup has made again stays with the group.
    """
    if await session.scalar(select(Cafe.id).where(Cafe.tg_chat_id == new_chat_id)) is not None:
        await unlink_unreachable_chat(session, tg_chat_id)
    other = aliased(LinkRequest)
    is_repeated = sa.exists().where(
        col(other.cafe_id) == LinkRequest.cafe_id,
        col(other.tg_chat_id) == new_chat_id,
        col(other.status) == LinkRequestStatus.PENDING,
    )
    for statement in (
        sa.update(Cafe).where(col(Cafe.tg_chat_id) == tg_chat_id),
        sa.update(LinkRequest).where(
            col(LinkRequest.tg_chat_id) == tg_chat_id,
            col(LinkRequest.status) == LinkRequestStatus.PENDING,
            ~is_repeated,
        ),
        sa.update(Notification).where(
            col(Notification.tg_chat_id) == tg_chat_id, col(Notification.status) != NotificationStatus.SENT
        ),
    ):
        await session.execute(statement.values(tg_chat_id=new_chat_id, tg_thread_id=None))
