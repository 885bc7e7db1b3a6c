"""The people of a run: who takes them, and what has become of each."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.ai.recommendation import Recommendation
from app.models import ItemStatus, Order, RecommendationItem, RecommendationRun, RunStatus, User
from app.resolvers import statistics

ORDERS_MIN = 5
"""Fewer orders within the last 30 days say nothing about how somebody eats."""

AT_ONCE = 1
REFUSALS_MAX = 3
"""After how many failures the run goes on without somebody: at once if Gemini's answer does not fit, later if Gemini
refuses the request, never if it is away."""


async def fill(session: AsyncSession, date: dt.date) -> None:
    """Give everybody a place in a run who is active and has enough orders: first those whose recommendation is oldest.

    Whoever has a place keeps it; those who have failed are to be done again.
    """
    await session.execute(
        sa.update(RecommendationItem)
        .where(col(RecommendationItem.date) == date, col(RecommendationItem.status) == ItemStatus.FAILED)
        .values(status=ItemStatus.PENDING, attempts=0)
    )
    ordered = (
        sa.select(col(Order.user_tgid))
        .where(statistics.counts(date))
        .group_by(col(Order.user_tgid))
        .having(sa.func.count() >= ORDERS_MIN)
    )
    last = (
        sa.select(sa.func.max(col(RecommendationItem.done_at)))
        .where(col(RecommendationItem.user_tgid) == User.tgid)
        .scalar_subquery()
    )
    place = sa.func.row_number().over(order_by=(last.asc().nulls_first(), col(User.tgid)))
    people = sa.select(sa.literal(date), col(User.tgid), place).where(col(User.is_active), col(User.tgid).in_(ordered))
    places = insert(RecommendationItem).from_select(["date", "user_tgid", "position"], people)
    await session.execute(places.on_conflict_do_nothing())


async def claim(
    session: AsyncSession, date: dt.date, number: int, now: dt.datetime, lease: dt.timedelta
) -> Sequence[int]:
    """Take the next people of a run for as long as `lease`: in their order, those with whom it has failed last.

    Nobody else gets them meanwhile. There are none while the run is not running.

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
        item.leased_until = now + lease
    return [item.user_tgid for item in items]


async def give_back(session: AsyncSession, date: dt.date, tgids: Collection[int]) -> None:
    """Leave those people to others who are not done."""
    await session.execute(
        sa.update(RecommendationItem)
        .where(
            col(RecommendationItem.date) == date,
            col(RecommendationItem.user_tgid).in_(tgids),
            col(RecommendationItem.status) == ItemStatus.PENDING,
        )
        .values(leased_until=None)
    )


async def done(session: AsyncSession, date: dt.date, tgid: int, recommendation: Recommendation) -> None:
    """Note that a person has their recommendation, if they are in the run; it is kept here, for Redis may lose it."""
    item = await session.get(RecommendationItem, (date, tgid), with_for_update=True)
    if item is not None:
        item.status = ItemStatus.DONE
        item.attempts += 1
        item.error = None
        item.recommendation = recommendation.model_dump(mode="json")
        item.done_at = recommendation.generated_at


async def not_done(session: AsyncSession, date: dt.date, tgid: int, problem: str, fails_after: int | None) -> None:
    """Note that a person's recommendation could not be made; who has it already, by another hand, keeps it.

    Args:
        fails_after: After how many failures the run goes on without it; None for never.
    """
    item = await session.get_one(RecommendationItem, (date, tgid), with_for_update=True)
    if item.status is ItemStatus.PENDING:
        item.attempts += 1
        item.error = problem
        item.leased_until = None
        if fails_after is not None and item.attempts >= fails_after:
            item.status = ItemStatus.FAILED


async def counts(session: AsyncSession, date: dt.date) -> Mapping[ItemStatus, int]:
    """Return how many of a run's people have come how far."""
    query = (
        sa.select(col(RecommendationItem.status), sa.func.count())
        .where(col(RecommendationItem.date) == date)
        .group_by(col(RecommendationItem.status))
    )
    return dict((await session.execute(query)).all())
