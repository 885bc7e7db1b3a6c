"""A recommendation, as Redis stores it and both APIs show it."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, Field

from app.ai.prompts import TIPS_MAX, Advice
from app.ai.stats import ApiModel, OrderStats


def _to_utc(time: datetime) -> datetime:
    """Convert a time to UTC. A time without an offset is already in UTC."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class Recommendation(ApiModel):
    """The advice for a user and the statistics that it comes from. Without advice, only `stats` is set."""

    summary: str | None = None
    tips: tuple[str, ...] = Field(default=(), max_length=TIPS_MAX)
    stats: OrderStats
    generated_at: Annotated[datetime, AfterValidator(_to_utc)] | None = None

    @classmethod
    def of(cls, advice: Advice, stats: OrderStats, at: datetime) -> Self:
        return cls(summary=advice.summary, tips=tuple(advice.tips), stats=stats, generated_at=at)
