"""Operations on recommendations and on the runs that make them."""

from app.ai.recommendation import Recommendation
from app.auth.access import Self, allow
from app.auth.context import Context
from app.events.live import Subscription
from app.events.types import Event, RecommendationRunEvent
from app.models import RecommendationRun, Role, User
from app.services.recommendations import find_recommendation, today
from app.services.rows import get_row
from app.services.runs import start_run
from app.services.statistics import order_stats
from app.validation import Date


@allow(Self("tgid"))
async def get_recommendations(ctx: Context, tgid: int) -> Recommendation:
    """A user's recommendation of last night. Without one, the user's present statistics, without a summary.

    Last night's recommendation is one read of Redis. While Redis is unavailable, there are still the statistics.

    Raises NotFound.
    """
    stored = await find_recommendation(ctx.clients, tgid)
    if stored is not None:
        return stored
    async with ctx.clients.db() as session:
        await get_row(session, User, tgid)
        stats = await order_stats(session, [tgid], today(ctx.clients, ctx.now()))
    return Recommendation(stats=stats[tgid])


@allow(Role.MANAGER)
async def start_recommendation_run(ctx: Context) -> RecommendationRun:
    """Make today's recommendations now. A run that is running, or has no user left, stays as it is.

    A paused run resumes; a finished one repeats the users whose recommendation failed.

    Raises ServiceUnavailable if there are no keys.
    """
    return await start_run(ctx.clients, ctx.now(), by=ctx.viewer.tgid)


@allow(Role.MANAGER)
async def get_recommendation_run(ctx: Context, date: Date) -> RecommendationRun:
    """The run of a date.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db() as session:
        return await get_row(session, RecommendationRun, date)


@allow(Role.MANAGER)
async def recommendation_run_updates(ctx: Context) -> Subscription[RecommendationRunEvent]:
    """The changes of runs from now on: each run as it is after the change.

    The stream ends with SlowConsumer for a subscriber who falls too far behind.
    """

    def select_event(event: Event) -> RecommendationRunEvent | None:
        return event if isinstance(event, RecommendationRunEvent) else None

    return ctx.subscribe(select_event)
