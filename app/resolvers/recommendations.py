"""What people are recommended."""

import datetime as dt
from collections.abc import Iterable

from pydantic import ValidationError
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import distinct_on
from sqlmodel import col, select

from app.ai.recommendation import Recommendation
from app.auth import SELF, allow
from app.clients import Clients
from app.context import Context
from app.errors import NotFound
from app.log import get_log
from app.models import ItemStatus, RecommendationItem, User
from app.resolvers.statistics import order_stats

log = get_log(__name__)

KEPT = dt.timedelta(hours=24)
"""Until the next night's."""

FILLED = "recommendations:filled"
FILLED_FOR = dt.timedelta(hours=1)
"""As long as this key is in Redis, the recommendations are taken to be there: it is gone with them when Redis is emptied."""

REFILLED_AT_ONCE = 500
"""About a megabyte."""


@allow(SELF)
async def recommendations(ctx: Context, tgid: int) -> Recommendation:
    """What a person is recommended: last night's, or if there is none their figures of now, without a summary.

    Last night's is one read of Redis. With Redis away there are still the figures.

    Raises NotFound.
    """
    kept = await _kept(ctx.clients, tgid)
    if kept is not None:
        return kept
    async with ctx.clients.db() as session:
        if await session.get(User, tgid) is None:
            raise NotFound("user", tgid)
        stats = await order_stats(session, [tgid], today(ctx.clients, ctx.now()))
    return Recommendation(stats=stats[tgid])


async def keep(
    clients: Clients, made: Iterable[tuple[int, Recommendation]], now: dt.datetime, *, over_others: bool = True
) -> None:
    """Put recommendations into Redis, each until it is a day old.

    Args:
        made: Telegram ids of people, and what they are recommended.
        over_others: Whether one that is there already is replaced.
    """
    async with clients.redis.pipeline(transaction=False) as together:
        for tgid, recommendation in made:
            assert recommendation.generated_at is not None
            left_s = round((recommendation.generated_at + KEPT - now).total_seconds())
            if left_s > 0:
                together.set(_key(tgid), recommendation.model_dump_json(), ex=left_s, nx=not over_others)
        await together.execute()


async def refill(clients: Clients, now: dt.datetime) -> None:
    """Put the last day's recommendations back into Redis that it has lost, the latest of each person.

    It was emptied, or did not answer when one was made: this is looked after each hour, and at once if all is gone.
    """
    if await clients.redis.exists(FILLED):
        return
    since = today(clients, now) - dt.timedelta(days=1)
    last = 0
    while rows := await _stored(clients, since, last):
        readable = [(tgid, made) for tgid, value in rows if (made := _read(tgid, value)) is not None]
        await keep(clients, readable, now, over_others=False)
        last = rows[-1][0]
    await clients.redis.set(FILLED, str(now), ex=round(FILLED_FOR.total_seconds()))


async def _stored(clients: Clients, since: dt.date, after: int) -> list[tuple[int, object]]:
    """Read the next recommendations of runs since a date, in the order of people's ids, and of each the latest."""
    query = (
        select(RecommendationItem.user_tgid, RecommendationItem.recommendation)
        .ext(distinct_on(col(RecommendationItem.user_tgid)))
        .where(
            col(RecommendationItem.date) >= since,
            RecommendationItem.status == ItemStatus.DONE,
            col(RecommendationItem.user_tgid) > after,
        )
        .order_by(col(RecommendationItem.user_tgid), col(RecommendationItem.done_at).desc())
        .limit(REFILLED_AT_ONCE)
    )
    async with clients.db() as session:
        return [(tgid, made) for tgid, made in await session.execute(query)]


def today(clients: Clients, now: dt.datetime) -> dt.date:
    """Return the programme's date."""
    return now.astimezone(clients.settings.lunch_timezone).date()


async def _kept(clients: Clients, tgid: int) -> Recommendation | None:
    try:
        value = await clients.redis.get(_key(tgid))
    except (RedisError, OSError) as error:
        log.warning("recommendations.not_read", error=repr(error))
        return None
    return None if value is None else _read(tgid, value)


def _read(tgid: int, value: object) -> Recommendation | None:
    """Read what was kept of a recommendation, as JSON or as what was in it. What cannot be read is as good as none."""
    try:
        if isinstance(value, bytes):
            return Recommendation.model_validate_json(value)
        return Recommendation.model_validate(value)
    except ValidationError as error:
        log.warning("recommendations.unreadable", tgid=tgid, errors=error.error_count())
        return None


def _key(tgid: int) -> str:
    return f"recommendations:user:{tgid}"
