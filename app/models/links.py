"""Link requests: a chat asks to become the chat of a cafe."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, Relationship, SQLModel

from app.errors import LinkRequestProcessed
from app.models.cafes import Cafe
from app.models.columns import RowId, TelegramId, enum_column, identity, instant
from app.validation import NAME_MAX_CHARACTERS


class LinkRequestStatus(StrEnum):
    """Pending until a manager decides. The decision is final."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class LinkRequestFields(SQLModel):
    """The public fields of a link request."""

    cafe_id: RowId = Field(sa_type=sa.BigInteger, foreign_key="cafes.id")
    tg_chat_id: TelegramId = Field(sa_type=sa.BigInteger)
    tg_username: str | None = Field(default=None, max_length=NAME_MAX_CHARACTERS)
    status: LinkRequestStatus = Field(
        default=LinkRequestStatus.PENDING,
        sa_column=enum_column(LinkRequestStatus, "cafe_link_requests_status_check", LinkRequestStatus.PENDING),
    )
    reason: str | None = Field(default=None, description="Why the request was rejected, if a reason was given.")
    created_at: dt.datetime = instant()
    processed_at: dt.datetime | None = instant(nullable=True)
    processed_by: TelegramId | None = Field(
        default=None,
        sa_type=sa.BigInteger,
        foreign_key="users.tgid",
        ondelete="SET NULL",
        description="The manager who decided.",
    )


class LinkRequest(LinkRequestFields, table=True):
    """A chat's request to become a cafe's chat.

    At most one is pending for a cafe and chat: the partial unique index decides between two simultaneous requests.

    Args:
        tg_thread_id: The forum topic in which the chat asked, if it was in one.
    """

    __tablename__ = "cafe_link_requests"
    __table_args__ = (
        sa.Index(
            "cafe_link_requests_pending_key",
            "cafe_id",
            "tg_chat_id",
            unique=True,
            postgresql_where=sa.text("status = 'pending'"),
        ),
        sa.CheckConstraint("(status = 'pending') = (processed_at IS NULL)", name="cafe_link_requests_processed_check"),
        sa.Index("cafe_link_requests_created_at_idx", "created_at", "id"),
        sa.Index("cafe_link_requests_status_created_at_idx", "status", "created_at", "id"),
        sa.Index("cafe_link_requests_cafe_id_created_at_idx", "cafe_id", "created_at", "id"),
    )

    id: int = identity()
    tg_thread_id: int | None = Field(default=None, sa_type=sa.BigInteger)

    cafe: Cafe = Relationship(sa_relationship_kwargs={"lazy": "raise"})

    @property
    def cafe_name(self) -> str:
        return self.cafe.name

    def approve(self, *, by: int, at: dt.datetime) -> None:
        """Raises LinkRequestProcessed."""
        self._process(LinkRequestStatus.APPROVED, by=by, at=at)

    def reject(self, *, reason: str | None, by: int, at: dt.datetime) -> None:
        """Raises LinkRequestProcessed."""
        self._process(LinkRequestStatus.REJECTED, by=by, at=at)
        self.reason = reason

    def _process(self, status: LinkRequestStatus, *, by: int, at: dt.datetime) -> None:
        if self.status is not LinkRequestStatus.PENDING:
            raise LinkRequestProcessed(status=self.status.upper())
        self.status = status
        self.processed_by = by
        self.processed_at = at
