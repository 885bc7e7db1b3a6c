"""The GraphQL types of recommendations, of the runs that make them, and of the keys that this takes."""

import datetime as dt
from datetime import datetime
from typing import Self

import strawberry

from app import models
from app.ai import key_pool, recommendation, stats
from app.ai.key_pool import KeyState
from app.events.messages import RecommendationRunEvent
from app.models import PauseReason, RunStatus
from app.schema.scalars import TelegramId
from app.schema.types import optional_telegram_id

strawberry.enum(RunStatus, description="How far a run has come. A paused one goes on by itself.")
strawberry.enum(PauseReason, description="What a run waits for: keys that rest, keys that are set aside, or Gemini.")
strawberry.enum(
    KeyState,
    name="GeminiKeyState",
    description="Whether a key may be used: one that cools down may in a moment, one that is exhausted tomorrow, one that is "
    "set aside when somebody brings it back.",
)


@strawberry.type(description="The share of each category among the dishes, from 0 to 1: together 1, or all 0.")
class CategoryShares:
    soup: float
    salad: float
    main: float
    extra: float

    @classmethod
    def of(cls, shares: stats.CategoryShares) -> Self:
        return cls(soup=shares.soup, salad=shares.salad, main=shares.main, extra=shares.extra)


@strawberry.type(description="A dish that somebody orders often.")
class FavoriteDish:
    name: str
    count: int = strawberry.field(description="How many portions.")

    @classmethod
    def of(cls, dish: stats.FavoriteDish) -> Self:
        return cls(name=dish.name, count=dish.count)


@strawberry.type(description="A person's orders of the last 30 days, without those that were cancelled.")
class OrderStats:
    orders_count: int
    categories: CategoryShares
    unique_dishes: int = strawberry.field(description="How many different ones were ordered, extras included.")
    total_dishes_available: int = strawberry.field(description="How many there are to choose from.")
    favorite_dishes: list[FavoriteDish] = strawberry.field(description="Up to 5, the most ordered first.")

    @classmethod
    def of(cls, figures: stats.OrderStats) -> Self:
        return cls(
            orders_count=figures.orders_count,
            categories=CategoryShares.of(figures.categories),
            unique_dishes=figures.unique_dishes,
            total_dishes_available=figures.total_dishes_available,
            favorite_dishes=[FavoriteDish.of(dish) for dish in figures.favorite_dishes],
        )


@strawberry.type(description="What a person is recommended.")
class Recommendations:
    summary: str | None = strawberry.field(description="Null while there is no recommendation.")
    tips: list[str] = strawberry.field(description="Up to 3.")
    stats: OrderStats
    generated_at: datetime | None

    @classmethod
    def of(cls, made: recommendation.Recommendation) -> Self:
        return cls(
            summary=made.summary,
            tips=list(made.tips),
            stats=OrderStats.of(made.stats),
            generated_at=made.generated_at,
        )


@strawberry.type(description="One night's recommendations in the making.")
class RecommendationRun:
    date: dt.date
    status: RunStatus
    total: int = strawberry.field(description="For how many people it is.")
    done: int
    failed: int
    keys_suffice_for: int = strawberry.field(
        description="For how many of them the keys had requests left when it was started."
    )
    started_by: TelegramId | None = strawberry.field(description="Null if it was not a manager who did it.")
    started_at: datetime
    finished_at: datetime | None
    paused_until: datetime | None = strawberry.field(
        description="When a paused run goes on; null if somebody has to bring a key back."
    )
    pause_reason: PauseReason | None

    @classmethod
    def of(cls, run: models.RecommendationRun | RecommendationRunEvent) -> Self:
        return cls(
            date=run.date,
            status=run.status,
            total=run.total,
            done=run.done,
            failed=run.failed,
            keys_suffice_for=run.keys_suffice_for,
            started_by=optional_telegram_id(run.started_by),
            started_at=run.started_at,
            finished_at=run.finished_at,
            paused_until=run.paused_until,
            pause_reason=run.pause_reason,
        )


@strawberry.type(description="How a key for Gemini stands today, on Google's day.")
class GeminiKey:
    id: str = strawberry.field(description="A hash: nobody sees the key itself.")
    project: str = strawberry.field(description="Keys of one project share one quota.")
    used: int = strawberry.field(description="Requests that it was used for today.")
    left: int = strawberry.field(description="Requests that it may still be used for today.")
    state: KeyState
    is_current: bool = strawberry.field(description="Whether it is the one that is being used up.")
    until: datetime | None = strawberry.field(description="When it may be used again, if it will be by itself.")
    last_error: str | None = strawberry.field(description="Of its last request, if that went wrong.")

    @classmethod
    def of(cls, usage: key_pool.KeyUsage) -> Self:
        return cls(
            id=usage.id,
            project=usage.project,
            used=usage.used,
            left=usage.left,
            state=usage.state,
            is_current=usage.is_current,
            until=usage.until,
            last_error=usage.last_error,
        )
