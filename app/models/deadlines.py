"""Until when one may order: the schedule of a cafe's week, and the days whose ordering has closed."""

import datetime as dt
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from app.models.tables import instant

DAYS_OF_A_WEEK = 7
ADVANCE_DAYS_MAX = 14
"""No cafe asks for its orders more than two weeks ahead."""


class Deadline(SQLModel, table=True):
    """Until when orders for one weekday's delivery are taken. A weekday without an enabled one has no delivery."""

    __tablename__ = "deadlines"
    __table_args__ = (
        sa.CheckConstraint("weekday BETWEEN 0 AND 6", name="deadlines_weekday_check"),
        sa.CheckConstraint(f"advance_days BETWEEN 0 AND {ADVANCE_DAYS_MAX}", name="deadlines_advance_days_check"),
    )

    cafe_id: int = Field(
        default=None, sa_type=sa.BigInteger, foreign_key="cafes.id", ondelete="CASCADE", primary_key=True
    )
    weekday: int = Field(sa_type=sa.SmallInteger, primary_key=True)
    deadline_time: dt.time
    is_enabled: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    advance_days: int = Field(default=1, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "1"})

    def closes_at(self, date: dt.date, timezone: str) -> dt.datetime:
        """Return the instant, in UTC, at which ordering for delivery on `date` closes.

        A local time that the clocks skip is read with the offset from before the jump, so 02:30 means 03:30; one that
        they repeat means the first of the two. This is what calendars do (RFC 5545, section 3.3.5).
        """
        day = date - dt.timedelta(days=self.advance_days)
        return dt.datetime.combine(day, self.deadline_time, ZoneInfo(timezone)).astimezone(dt.UTC)


class DeliveryDay(SQLModel, table=True):
    """One cafe's deliveries of one day, and whether their deadline was announced: then the orders are what they are.

    Whoever places or changes an order holds this row's share lock, and whoever announces the deadline holds it alone.
    So an order is there when the deadline is announced, or finds it announced, and nothing lies in between.

    Args:
        chat_checked_at: When it was made sure, before the deadline, that the cafe's chat can be reached.
    """

    __tablename__ = "delivery_days"

    cafe_id: int = Field(sa_type=sa.BigInteger, foreign_key="cafes.id", ondelete="CASCADE", primary_key=True)
    date: dt.date = Field(primary_key=True)
    announced_at: dt.datetime | None = instant(nullable=True)
    chat_checked_at: dt.datetime | None = instant(nullable=True)
