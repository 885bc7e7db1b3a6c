"""The nightly recommendation run: its users, its progress, and its requests to Gemini."""

import datetime as dt
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field, SQLModel

from app.models.columns import TelegramId, enum_column, enum_type, instant


class RunStatus(StrEnum):
    """The state of a run. A paused run resumes by itself."""

    RUNNING = "running"
    PAUSED = "paused"
    FINISHED = "finished"


class PauseReason(StrEnum):
    """Why a run is paused."""

    QUOTA_EXHAUSTED = "quota_exhausted"
    """All keys have used up their quota for the minute or for the day."""
    KEYS_DISABLED = "keys_disabled"
    """Google refuses all keys. An operator must act."""
    GEMINI_UNAVAILABLE = "gemini_unavailable"
    """Gemini does not answer, or refuses our requests."""


class ItemStatus(StrEnum):
    """The state of one user's recommendation."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class RunFields(SQLModel):
    """The public fields of a run."""

    date: dt.date = Field(primary_key=True)
    status: RunStatus = Field(
        default=RunStatus.RUNNING,
        sa_column=enum_column(RunStatus, "recommendation_runs_status_check", RunStatus.RUNNING),
    )
    total: int = Field(default=0, description="The number of users in the run.")
    done: int = 0
    failed: int = 0
    request_budget: int = Field(
        default=0, description="For how many of them the keys had requests left when the run started."
    )
    started_by: TelegramId | None = Field(
        default=None, sa_type=sa.BigInteger, description="The manager who started it. Null if it started by itself."
    )
    started_at: dt.datetime = instant()
    finished_at: dt.datetime | None = instant(nullable=True)
    paused_until: dt.datetime | None = instant(
        nullable=True, description="When a paused run resumes. Null if an operator must reset a key first."
    )
    pause_reason: PauseReason | None = Field(
        default=None, sa_column=sa.Column(enum_type(PauseReason, "recommendation_runs_pause_reason_check"))
    )


class RecommendationRun(RunFields, table=True):
    """One night's work. There is one run for each date."""

    __tablename__ = "recommendation_runs"
    __table_args__ = (
        sa.Index("recommendation_runs_unfinished_idx", "date", postgresql_where=sa.text("status <> 'finished'")),
    )

    consecutive_pauses: int = Field(default=0, sa_type=sa.SmallInteger)
    """How often the run was paused without progress in between."""

    @property
    def left(self) -> int:
        return self.total - self.done - self.failed

    def start(self, requests_left: int, by: int | None, at: dt.datetime) -> None:
        """Start, or restart with the users who are left."""
        self.request_budget = min(self.left, requests_left)
        self.started_by = by
        self.started_at = at
        self.finished_at = None
        self.resume()

    def pause(self, reason: PauseReason, until: dt.datetime | None) -> None:
        """Pause.

        Args:
            until: When the run resumes. None if an operator must act first.
        """
        self.status = RunStatus.PAUSED
        self.pause_reason = reason
        self.paused_until = until
        self.consecutive_pauses += 1

    def resume(self) -> None:
        """End the pause."""
        self.status = RunStatus.RUNNING
        self.pause_reason = None
        self.paused_until = None

    def finish(self, at: dt.datetime) -> None:
        self.resume()
        self.status = RunStatus.FINISHED
        self.finished_at = at

    def record_progress(self, done: int, failed: int) -> None:
        """Record how many items are done and failed. Progress ends a series of pauses."""
        if done > self.done:
            self.consecutive_pauses = 0
        self.done = done
        self.failed = failed


class RecommendationItem(SQLModel, table=True):
    """One user in a run. A worker holds a lease on the item; when the worker dies, the lease expires."""

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
            "recommendation_items_unnotified_idx",
            "date",
            "position",
            postgresql_where=sa.text("status = 'done' AND notified_at IS NULL"),
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
    notified_at: dt.datetime | None = instant(nullable=True)


class GeminiUsage(SQLModel, table=True):
    """The ledger: requests of a day, by key and by project. A request is counted before it is made.

    It keeps the limit when Redis loses its counters.
    """

    __tablename__ = "gemini_usage"

    day: dt.date = Field(primary_key=True)
    scope: str = Field(primary_key=True)
    requests: int
