"""A recommendation, as it is kept in Redis and shown at every door."""

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, Field

from app.ai.prompts import TIPS_MAX, Advice
from app.ai.stats import OrderStats, Shape


def _in_utc(time: datetime) -> datetime:
    """Turn a time to UTC; one without an offset is taken for it."""
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class Recommendation(Shape):
    """How a person eats, and what they could try. Without a summary there are only figures."""

    summary: str | None = None
    tips: tuple[str, ...] = Field(default=(), max_length=TIPS_MAX)
    stats: OrderStats
    generated_at: Annotated[datetime, AfterValidator(_in_utc)] | None = None

    @classmethod
    def of(cls, advice: Advice, stats: OrderStats, at: datetime) -> Self:
        return cls(summary=advice.summary, tips=tuple(advice.tips), stats=stats, generated_at=at)
