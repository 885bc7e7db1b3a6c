"""What must not grow for ever."""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlmodel import col

from app.clients import Clients
from app.log import get_log
from app.models import GeminiUsage, Inbox, RecommendationItem, RecommendationRun

log = get_log(__name__)

INBOX_KEPT = timedelta(days=30)
"""Longer than Kafka keeps an event (7 days by default), so none comes again after its note is gone."""

RUNS_KEPT = timedelta(days=90)
"""Who had a recommendation even longer ago is as good as one who had none."""

RECOMMENDATIONS_KEPT = timedelta(days=2)
"""Redis has them for a day; what is older is put back nowhere."""


async def clean_up(clients: Clients, now: datetime) -> dict[str, int]:
    """Delete what is of no use any more, and return how many rows of each table."""
    old: dict[type[Any], sa.ColumnElement[bool]] = {
        Inbox: col(Inbox.received_at) < now - INBOX_KEPT,
        RecommendationRun: col(RecommendationRun.date) < (now - RUNS_KEPT).date(),
        GeminiUsage: col(GeminiUsage.day) < (now - RUNS_KEPT).date(),
    }
    old_advice = sa.and_(
        col(RecommendationItem.date) < (now - RECOMMENDATIONS_KEPT).date(),
        col(RecommendationItem.recommendation).is_not(None),
    )
    async with clients.db() as session:
        await session.execute(sa.update(RecommendationItem).where(old_advice).values(recommendation=None))
    deleted = {}
    for table, is_old in old.items():
        async with clients.db() as session:
            result = await session.execute(sa.delete(table).where(is_old).returning(sa.literal(1)))
            deleted[table.__tablename__] = len(result.all())
    log.info("housekeeping.done", **deleted)
    return deleted
