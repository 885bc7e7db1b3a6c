"""Housekeeping: deletes old rows, so that no table grows without limit."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from app.clients import Clients
from app.database import remove_timeouts
from app.log import get_log
from app.models import GeminiUsage, Inbox, RecommendationItem, RecommendationRun

log = get_log(__name__)

INBOX_RETENTION = timedelta(days=30)
"""Longer than Kafka keeps an event (7 days by default), so no event comes again after its id is deleted."""

RUN_RETENTION = timedelta(days=90)
"""A user whose last recommendation is older counts as a user without one."""

RECOMMENDATION_RETENTION = timedelta(days=2)
"""Redis keeps a recommendation for a day, so an older one is never restored."""


async def clean_up(clients: Clients, now: datetime) -> dict[str, int]:
    """Delete old rows, and return how many of each table."""
    old: dict[type[Any], sa.ColumnElement[bool]] = {
        Inbox: col(Inbox.received_at) < now - INBOX_RETENTION,
        RecommendationRun: col(RecommendationRun.date) < (now - RUN_RETENTION).date(),
        GeminiUsage: col(GeminiUsage.day) < (now - RUN_RETENTION).date(),
    }
    old_recommendations = sa.and_(
        col(RecommendationItem.date) < (now - RECOMMENDATION_RETENTION).date(),
        col(RecommendationItem.recommendation).is_not(None),
    )
    async with clients.db() as session:
        await remove_timeouts(session)
        await session.execute(sa.update(RecommendationItem).where(old_recommendations).values(recommendation=None))
    deleted = {}
    for table, is_old in old.items():
        async with clients.db() as session:
            await remove_timeouts(session)
            result = await session.execute(sa.delete(table).where(is_old).returning(sa.literal(1)))
            deleted[table.__tablename__] = len(result.all())
    log.info("housekeeping.done", **deleted)
    return deleted
