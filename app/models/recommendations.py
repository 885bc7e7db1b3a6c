"""The nightly run: whom it is for, how far it has come, and the requests that it has cost."""

import datetime as dt
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from app.models.tables import enum_column, instant


class RunStatus(StrEnum):
    """Paused runs go on by themselves."""

    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"


class PauseReason(StrEnum):
    """What a run waits for."""

    KEYS_RESTING = "keys_resting"
    """All keys have used up their minute, or their day."""
    KEYS_SET_ASIDE = "keys_set_aside"
    """Google takes none of the keys; somebody has to look."""
    GEMINI_AWAY = "gemini_away"
    """Gemini does not answer, or refuses what we ask."""


class ItemStatus(StrEnum):
    """How far it is with one person's recommendation."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class RecommendationRun(SQLModel, table=True):
    """One night's work: there is one for each date, from whichever door it was started."""

    __tablename__ = "recommendation_runs"
    __table_args__ = (
        sa.Index("recommendation_runs_unfinished_idx", "date", postgresql_where=sa.text("status <> 'finished'")),
    )

    date: dt.date = Field(primary_key=True)
    status: RunStatus = Field(
        default=RunStatus.RUNNING,
        sa_column=enum_column(RunStatus, "recommendation_runs_status_check", RunStatus.RUNNING),
    )
    total: int = 0
    done: int = 0
    failed: int = 0
    keys_suffice_for: int = 0
    started_by: int | None = Field(default=None, sa_type=sa.BigInteger)
    started_at: dt.datetime = instant()
    finished_at: dt.datetime | None = instant(nullable=True)
    paused_until: dt.datetime | None = instant(nullable=True)
    pause_reason: PauseReason | None = Field(
        default=None,
        sa_column=sa.Column(enum_column(PauseReason, "recommendation_runs_pause_reason_check").type, nullable=True),
    )
    pauses: int = Field(default=0, sa_type=sa.SmallInteger)
    """How often it was paused without anything done in between."""

    @property
    def left(self) -> int:
        return self.total - self.done - self.failed

    def start(self, requests_left: int, by: int | None, at: dt.datetime) -> None:
        """Begin, or begin again with those who are left, and note for how many of them there are requests left."""
        self.keys_suffice_for = min(self.left, requests_left)
        self.started_by = by
        self.started_at = at
        self.finished_at = None
        self.go_on()

    def pause(self, reason: PauseReason, until: dt.datetime | None) -> None:
        """Do nothing before `until`; None for until somebody has looked."""
        self.status = RunStatus.PAUSED
        self.pause_reason = reason
        self.paused_until = until
        self.pauses += 1

    def go_on(self) -> None:
        """End the pause."""
        self.status = RunStatus.RUNNING
        self.pause_reason = None
        self.paused_until = None

    def finish(self, at: dt.datetime) -> None:
        self.go_on()
        self.status = RunStatus.FINISHED
        self.finished_at = at

    def count(self, done: int, failed: int) -> None:
        """Take over how far it has come. Something done means that what a pause was for is over."""
        if done > self.done:
            self.pauses = 0
        self.done = done
        self.failed = failed


class RecommendationItem(SQLModel, table=True):
    """One person's place in a run. Whoever works on it has a lease; one that dies leaves it to the others."""

    __tablename__ = "recommendation_items"
    __table_args__ = (
        sa.Index(
            "recommendation_items_pending_idx",
            "date",
            "attempts",
            "position",
            postgresql_where=sa.text("status = 'pending'"),
        ),
        sa.Index(
            "recommendation_items_untold_idx",
            "date",
            "position",
            postgresql_where=sa.text("status = 'done' AND told_at IS NULL"),
        ),
        sa.Index("recommendation_items_date_status_idx", "date", "status"),
        sa.Index("recommendation_items_user_tgid_idx", "user_tgid", "done_at"),
    )

    date: dt.date = Field(foreign_key="recommendation_runs.date", ondelete="CASCADE", primary_key=True)
    user_tgid: int = Field(sa_type=sa.BigInteger, foreign_key="users.tgid", ondelete="CASCADE", primary_key=True)
    position: int
    status: ItemStatus = Field(
        default=ItemStatus.PENDING,
        sa_column=enum_column(ItemStatus, "recommendation_items_status_check", ItemStatus.PENDING),
    )
    attempts: int = Field(default=0, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "0"})
    error: str | None = None
    leased_until: dt.datetime | None = instant(nullable=True)
    recommendation: dict[str, Any] | None = Field(
        default=None, sa_column=sa.Column(JSONB(none_as_null=True), nullable=True)
    )
    done_at: dt.datetime | None = instant(nullable=True)
    told_at: dt.datetime | None = instant(nullable=True)


class GeminiUsage(SQLModel, table=True):
    """Requests of a day, by key and by project: each is noted before it is made.

    It is what the limit is kept by when Redis loses its counters.
    """

    __tablename__ = "gemini_usage"

    day: dt.date = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    requests: int
