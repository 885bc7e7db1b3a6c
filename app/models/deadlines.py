"""Deadlines: the weekly schedule of a cafe, and the delivery days that are closed."""

import datetime as dt
from typing import Annotated
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from app.models.columns import instant
from app.validation import Input, TimeOfDay, range_rule

DAYS_PER_WEEK = 7
ADVANCE_DAYS_MAX = 14
"""No cafe needs its orders more than two weeks ahead."""


class DeadlineInput(Input):
    """The deadline for one weekday of delivery."""

    weekday: Annotated[int, range_rule(0, 6, "must be from 0, Monday, to 6, Sunday")] = Field(
        description="The weekday of the delivery: 0 is Monday, 6 is Sunday."
    )
    deadline_time: TimeOfDay = Field(description="Local to the cafe's time zone.")
    is_enabled: bool = Field(default=True, description="Whether the cafe delivers on that weekday.")
    advance_days: Annotated[int, range_rule(0, ADVANCE_DAYS_MAX)] = Field(
        default=1, description="How many days before the delivery the deadline is."
    )


def _description(name: str) -> str | None:
    """The description of a field, which the input and the row have in common."""
    return DeadlineInput.model_fields[name].description


class DeadlineFields(SQLModel):
    """The public fields of a deadline."""

    weekday: int = Field(
        sa_type=sa.SmallInteger,
        primary_key=True,
        description=_description("weekday"),
    )
    deadline_time: dt.time = Field(description=_description("deadline_time"))
    is_enabled: bool = Field(
        default=True,
        sa_column_kwargs={"server_default": sa.true()},
        description=_description("is_enabled"),
    )
    advance_days: int = Field(
        default=1,
        sa_type=sa.SmallInteger,
        sa_column_kwargs={"server_default": "1"},
        description=_description("advance_days"),
    )


class Deadline(DeadlineFields, table=True):
    """The deadline of one weekday's deliveries. A weekday without an enabled deadline has no delivery."""

    __tablename__ = "deadlines"
    __table_args__ = (
        sa.CheckConstraint("weekday BETWEEN 0 AND 6", name="deadlines_weekday_check"),
        sa.CheckConstraint(f"advance_days BETWEEN 0 AND {ADVANCE_DAYS_MAX}", name="deadlines_advance_days_check"),
    )

    cafe_id: int = Field(
        default=None, sa_type=sa.BigInteger, foreign_key="cafes.id", ondelete="CASCADE", primary_key=True
    )

    def closes_at(self, date: dt.date, timezone: str) -> dt.datetime:
        """Return the instant, in UTC, at which ordering for delivery on `date` closes.

        When clocks skip the local time, the offset before the change applies, so 02:30 means 03:30. When clocks repeat
        it, the first occurrence applies. Calendars do the same (RFC 5545, section 3.3.5).
        """
        day = date - dt.timedelta(days=self.advance_days)
        return dt.datetime.combine(day, self.deadline_time, ZoneInfo(timezone)).astimezone(dt.UTC)


class DeliveryDay(SQLModel, table=True):
    """One cafe's deliveries on one date, and whether the day is announced: then its orders are final.

    An operation that places or changes an order holds a share lock on this row. The announcement locks it exclusively. So
    an order is either part of the announcement, or finds the day announced. No order is in between.

    Args:
        chat_checked_at: When a job made sure, before the deadline, that the cafe's chat can be reached.
    """

    __tablename__ = "delivery_days"

    cafe_id: int = Field(sa_type=sa.BigInteger, foreign_key="cafes.id", ondelete="CASCADE", primary_key=True)
    date: dt.date = Field(primary_key=True)
    announced_at: dt.datetime | None = instant(nullable=True)
    chat_checked_at: dt.datetime | None = instant(nullable=True)
