"""Requests of chats to become the chat of a cafe."""

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, Relationship, SQLModel

from app.errors import LinkRequestProcessed
from app.models.cafes import Cafe
from app.models.tables import NAME_MAX_CHARACTERS, enum_column, identity, instant


class LinkRequestStatus(StrEnum):
    """Pending until a manager decides; then it stays as decided."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class LinkRequest(SQLModel, table=True):
    """A chat asks to be a cafe's chat.

    At most one is pending for a cafe and chat: the partial unique index decides when two ask at once.
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
    cafe_id: int = Field(sa_type=sa.BigInteger, foreign_key="cafes.id")
    tg_chat_id: int = Field(sa_type=sa.BigInteger)
    tg_username: str | None = Field(default=None, max_length=NAME_MAX_CHARACTERS)
    status: LinkRequestStatus = Field(
        default=LinkRequestStatus.PENDING,
        sa_column=enum_column(LinkRequestStatus, "cafe_link_requests_status_check", LinkRequestStatus.PENDING),
    )
    reason: str | None = None
    created_at: datetime = instant()
    processed_at: datetime | None = instant(nullable=True)
    processed_by: int | None = Field(default=None, sa_type=sa.BigInteger, foreign_key="users.tgid", ondelete="SET NULL")

    cafe: Cafe = Relationship(sa_relationship_kwargs={"lazy": "raise"})

    @property
    def cafe_name(self) -> str:
        return self.cafe.name

    def approve(self, *, by: int, at: datetime) -> None:
        """Raises LinkRequestProcessed."""
        self._process(LinkRequestStatus.APPROVED, by=by, at=at)

    def reject(self, *, reason: str | None, by: int, at: datetime) -> None:
        """Raises LinkRequestProcessed."""
        self._process(LinkRequestStatus.REJECTED, by=by, at=at)
        self.reason = reason

    def _process(self, status: LinkRequestStatus, *, by: int, at: datetime) -> None:
        if self.status is not LinkRequestStatus.PENDING:
            raise LinkRequestProcessed(status=self.status.upper())
        self.status = status
        self.processed_by = by
        self.processed_at = at
