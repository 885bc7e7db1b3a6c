"""The recommendations in Redis: stored for a day, read by everyone, restored from PostgreSQL when Redis loses them."""

import datetime as dt
from collections.abc import Iterable

from pydantic import ValidationError
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import col, select

from app.ai.recommendation import Recommendation
from app.clients import Clients
from app.log import get_log
from app.models import ItemStatus, RecommendationItem

log = get_log(__name__)

TTL = dt.timedelta(hours=24)
"""Until the next night's recommendation."""

RESTORED = "recommendations:restored"
RESTORED_TTL = dt.timedelta(hours=1)
"""While this key is in Redis, the recommendations are there as well: a Redis that is emptied loses both."""

RESTORE_BATCH_SIZE = 500
"""About a megabyte."""


def today(clients: Clients, now: dt.datetime) -> dt.date:
    """Return the date in the programme's time zone."""
    return now.astimezone(clients.settings.lunch_timezone).date()


async def find_recommendation(clients: Clients, tgid: int) -> Recommendation | None:
    """Read the user's recommendation. None if there is none, or while Redis is unavailable."""
    try:
        value = await clients.redis.get(_key(tgid))
    except (RedisError, OSError) as error:
        log.warning("recommendations.not_read", error=repr(error))
        return None
    return None if value is None else _parse(tgid, value)


async def store_recommendations(
    clients: Clients, made: Iterable[tuple[int, Recommendation]], now: dt.datetime, *, replace: bool = True
) -> None:
    """Store recommendations in Redis, each until it is a day old.

    Args:
        made: Telegram ids of users with their recommendations.
        replace: Whether an existing recommendation is replaced.
    """
    async with clients.redis.pipeline(transaction=False) as pipeline:
        for tgid, recommendation in made:
            assert recommendation.generated_at is not None
            left_s = round((recommendation.generated_at + TTL - now).total_seconds())
            if left_s > 0:
                pipeline.set(_key(tgid), recommendation.model_dump_json(), ex=left_s, nx=not replace)
        await pipeline.execute()


async def restore_recommendations(clients: Clients, now: dt.datetime) -> None:
    """Restore the last day's recommendations that Redis has lost, the latest of each user.

    Redis was emptied, or unavailable when one was made. The check runs each hour, and immediately if Redis is empty.
    """
    if await clients.redis.exists(RESTORED):
        return
    since = today(clients, now) - dt.timedelta(days=1)
    last = 0
    while rows := await _find_stored(clients, since, last):
        readable = [(tgid, made) for tgid, value in rows if (made := _parse(tgid, value)) is not None]
        await store_recommendations(clients, readable, now, replace=False)
        last = rows[-1][0]
    await clients.redis.set(RESTORED, str(now), ex=round(RESTORED_TTL.total_seconds()))


async def _find_stored(clients: Clients, since: dt.date, after: int) -> list[tuple[int, object]]:
    """Read the next batch of recommendations in PostgreSQL since a date: of each user after `after` the latest."""
    query = (
        select(RecommendationItem.user_tgid, RecommendationItem.recommendation)
        .ext(distinct_on(col(RecommendationItem.user_tgid)))
        .where(
            col(RecommendationItem.date) >= since,
            RecommendationItem.status == ItemStatus.DONE,
            col(RecommendationItem.user_tgid) > after,
        )
        .order_by(col(RecommendationItem.user_tgid), col(RecommendationItem.done_at).desc())
        .limit(RESTORE_BATCH_SIZE)
    )
    async with clients.db() as session:
        return [(tgid, made) for tgid, made in await session.execute(query)]


def _parse(tgid: int, value: object) -> Recommendation | None:
    """Parse a stored recommendation, from JSON or from its data. An unreadable one counts as missing."""
    try:
        if isinstance(value, bytes):
            return Recommendation.model_validate_json(value)
        return Recommendation.model_validate(value)
    except ValidationError as error:
        log.warning("recommendations.unreadable", tgid=tgid, errors=error.error_count())
        return None


def _key(tgid: int) -> str:
    return f"recommendations:user:{tgid}"
