"""What we tell chats in Telegram, and how far each message has come."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from app.models.tables import enum_column, identity, instant


class NotificationKind(StrEnum):
    """What a message is about."""

    LINK_APPROVED = "link_approved"
    LINK_REJECTED = "link_rejected"
    UNLINKED = "unlinked"


class NotificationStatus(StrEnum):
    """How far a message has come.

    `SENDING` is recorded before Telegram is called, so that a crash in between shows: the outcome is unknown then.
    """

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


class Notification(SQLModel, table=True):
    """One message to one chat. Its text is fixed when the row is made."""

    __tablename__ = "notifications"
    __table_args__ = (
        sa.UniqueConstraint("cafe_id", "date", "kind", "version"),
        sa.Index("notifications_status_created_at_idx", "status", "created_at", "id"),
        sa.Index("notifications_cafe_id_created_at_idx", "cafe_id", "created_at", "id"),
    )

    id: int = identity()
    cafe_id: int = Field(sa_type=sa.BigInteger, foreign_key="cafes.id")
    kind: NotificationKind = Field(sa_column=enum_column(NotificationKind, "notifications_kind_check"))
    date: dt.date | None = None
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    tg_chat_id: int = Field(sa_type=sa.BigInteger)
    text: str
    status: NotificationStatus = Field(
        default=NotificationStatus.QUEUED,
        sa_column=enum_column(NotificationStatus, "notifications_status_check", NotificationStatus.QUEUED),
    )
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    tg_message_ids: list[int] = Field(
        default_factory=list, sa_column=sa.Column(ARRAY(sa.BigInteger), nullable=False, server_default="{}")
    )
    error: str | None = None
    created_at: dt.datetime = instant(default_now=True)
    sent_at: dt.datetime | None = instant(nullable=True)

    def begin_sending(self) -> None:
        self.status = NotificationStatus.SENDING
        self.attempts += 1

    def sent(self, message_id: int, *, at: dt.datetime) -> None:
        self.status = NotificationStatus.SENT
        self.tg_message_ids = [message_id]
        self.sent_at = at

    def fail(self, error: str) -> None:
        self.status = NotificationStatus.FAILED
        self.error = error
