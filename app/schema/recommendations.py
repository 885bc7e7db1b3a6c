"""Recommendations and the runs that make them: types, queries, mutation and subscription."""

import datetime as dt
from collections.abc import AsyncIterator

import strawberry

from app import models
from app.ai.recommendation import Recommendation
from app.events.types import RecommendationRunEvent
from app.models import PauseReason, RunStatus
from app.resolvers import recommendations as resolvers
from app.schema.operations import Info, mutation, query, subscription
from app.schema.scalars import TelegramId
from app.schema.types import output

strawberry.enum(RunStatus, description="The state of a run. A paused run resumes by itself.")
strawberry.enum(PauseReason, description="Why a run is paused: exhausted quotas, disabled keys, or Gemini.")


@strawberry.type(description="The share of each category among the dishes, from 0 to 1: together 1, or all 0.")
class CategoryShares:
    soup: float
    salad: float
    main: float
    extra: float


@strawberry.type(description="A dish that a user orders often.")
class FavoriteDish:
    name: str
    count: int = strawberry.field(description="The number of portions.")


@strawberry.type(description="A user's orders of the last 30 days, without cancelled ones.")
class OrderStats:
    orders_count: int
    categories: CategoryShares
    unique_dishes: int = strawberry.field(description="How many different dishes and extras were ordered.")
    total_dishes_available: int = strawberry.field(description="How many dishes and extras are available.")
    favorite_dishes: list[FavoriteDish] = strawberry.field(description="Up to 5, the most ordered first.")


@strawberry.type(description="The recommendation for a user.")
class Recommendations:
    summary: str | None = strawberry.field(description="Null while there is no recommendation.")
    tips: list[str] = strawberry.field(description="Up to 3.")
    stats: OrderStats
    generated_at: dt.datetime | None


@output(models.RunFields, description="The work on one night's recommendations.")
class RecommendationRun:
    pass


@strawberry.type
class Query:
    @query(resolvers.get_recommendations, Recommendations)
    async def recommendations(self, info: Info, tgid: TelegramId) -> Recommendation:
        return await resolvers.get_recommendations(info.context, tgid)

    @query(resolvers.get_recommendation_run, RecommendationRun)
    async def recommendation_run(self, info: Info, date: dt.date) -> models.RecommendationRun:
        return await resolvers.get_recommendation_run(info.context, date)


@strawberry.type
class Mutation:
    @mutation(resolvers.start_recommendation_run, RecommendationRun)
    async def start_recommendation_run(self, info: Info) -> models.RecommendationRun:
        return await resolvers.start_recommendation_run(info.context)


@strawberry.type
class Subscription:
    @subscription(resolvers.recommendation_run_updates, RecommendationRun)
    async def recommendation_run_updates(self, info: Info) -> AsyncIterator[RecommendationRunEvent]:
        return await resolvers.recommendation_run_updates(info.context)
