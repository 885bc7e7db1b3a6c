"""The users of a run: leases for workers, and results."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.ai.recommendation import Recommendation
from app.models import ItemStatus, Order, RecommendationItem, RecommendationRun, RunStatus, User
from app.services.statistics import in_period

ORDERS_MIN = 5
"""Fewer orders within the last 30 days say nothing about how a user eats."""

FAIL_IMMEDIATELY = 1
REFUSALS_MAX = 3
"""After how many failures an item fails: immediately for an invalid answer, later if Gemini refuses the request, never
while Gemini is unavailable."""


async def enqueue_users(session: AsyncSession, date: dt.date) -> None:
    """Add an item for each active user with enough orders, the users with the oldest recommendation first.

    Existing items stay; failed ones become pending again.
    """
    await session.execute(
        sa.update(RecommendationItem)
        .where(col(RecommendationItem.date) == date, col(RecommendationItem.status) == ItemStatus.FAILED)
        .values(status=ItemStatus.PENDING, attempts=0)
    )
    ordered = (
        sa.select(col(Order.user_tgid))
        .where(in_period(date))
        .group_by(col(Order.user_tgid))
        .having(sa.func.count() >= ORDERS_MIN)
    )
    last = (
        sa.select(sa.func.max(col(RecommendationItem.done_at)))
        .where(col(RecommendationItem.user_tgid) == User.tgid)
        .scalar_subquery()
    )
    position = sa.func.row_number().over(order_by=(last.asc().nulls_first(), col(User.tgid)))
    users = sa.select(sa.literal(date), col(User.tgid), position).where(
        col(User.is_active), col(User.tgid).in_(ordered)
    )
    items = insert(RecommendationItem).from_select(["date", "user_tgid", "position"], users)
    await session.execute(items.on_conflict_do_nothing())


async def claim(
    session: AsyncSession, date: dt.date, number: int, now: dt.datetime, until: dt.datetime
) -> Sequence[int]:
    """Claim the next pending users of a run, previously failed ones last.

    No other worker gets them before `until`, which names the owner of the lease: the next lease of a user ends later. There
    are none while the run is not running.

    Returns their Telegram ids.
    """
    running = sa.exists().where(col(RecommendationRun.date) == date, col(RecommendationRun.status) == RunStatus.RUNNING)
    query = (
        select(RecommendationItem)
        .where(
            RecommendationItem.date == date,
            RecommendationItem.status == ItemStatus.PENDING,
            sa.or_(col(RecommendationItem.leased_until).is_(None), col(RecommendationItem.leased_until) < now),
            running,
        )
        .order_by(col(RecommendationItem.attempts), col(RecommendationItem.position))
        .limit(number)
        .with_for_update(skip_locked=True)
    )
    items = (await session.scalars(query)).all()
    for item in items:
        item.leased_until = until
    return [item.user_tgid for item in items]


async def release(session: AsyncSession, date: dt.date, tgids: Collection[int], until: dt.datetime) -> None:
    """Release the leases that end at `until`, of users that are still pending.

    A worker that was stopped for too long does not release the leases that other workers have got since.
    """
    await session.execute(
        sa.update(RecommendationItem)
        .where(
            col(RecommendationItem.date) == date,
            col(RecommendationItem.user_tgid).in_(tgids),
            col(RecommendationItem.status) == ItemStatus.PENDING,
            col(RecommendationItem.leased_until) == until,
        )
        .values(leased_until=None)
    )


async def record_done(session: AsyncSession, date: dt.date, tgid: int, recommendation: Recommendation) -> None:
    """Record a user's recommendation, if the user is in the run. It is stored here because Redis may lose it."""
    item = await session.get(RecommendationItem, (date, tgid), with_for_update=True)
    if item is not None:
        item.status = ItemStatus.DONE
        item.attempts += 1
        item.error = None
        item.recommendation = recommendation.model_dump(mode="json")
        item.done_at = recommendation.generated_at


async def record_failure(session: AsyncSession, date: dt.date, tgid: int, error: str, fails_after: int | None) -> None:
    """Record that a user's recommendation could not be made. A recommendation that is done stays.

    Args:
        fails_after: After how many failures the item fails; None for never.
    """
    item = await session.get_one(RecommendationItem, (date, tgid), with_for_update=True)
    if item.status is ItemStatus.PENDING:
        item.attempts += 1
        item.error = error
        if fails_after is not None and item.attempts >= fails_after:
            item.status = ItemStatus.FAILED


async def count_by_status(session: AsyncSession, date: dt.date) -> Mapping[ItemStatus, int]:
    """Count the items of a run by status."""
    query = (
        sa.select(col(RecommendationItem.status), sa.func.count())
        .where(col(RecommendationItem.date) == date)
        .group_by(col(RecommendationItem.status))
    )
    return dict((await session.execute(query)).all())
