"""Notifications: messages to Telegram chats, and the state of their delivery."""

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, Relationship, SQLModel

from app.models.cafes import Cafe
from app.models.columns import RowId, TelegramId, enum_column, identity, instant


class NotificationKind(StrEnum):
    """The subject of a message. `app.services.notification_kinds` has the audience, text and buttons of each kind."""

    LINK_REQUESTED = "link_requested"
    LINK_APPROVED = "link_approved"
    LINK_REJECTED = "link_rejected"
    UNLINKED = "unlinked"
    ORDERS = "orders"
    CORRECTION = "correction"
    REMINDER = "reminder"
    ALERT = "alert"


class NotificationStatus(StrEnum):
    """The state of a message's delivery.

    `SENDING` is recorded before the call to Telegram: after a crash in between, the delivery is unknown.
    """

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


IS_UNFINISHED = "status IN ('queued', 'sending')"
"""The condition of the index of waiting notifications."""


def join_parts(parts: Sequence[str]) -> str:
    """Join the parts of a message, to show it outside Telegram."""
    return "\n\n".join(parts)


class NotificationFields(SQLModel):
    """The public fields of a notification."""

    cafe_id: RowId = Field(sa_type=sa.BigInteger, foreign_key="cafes.id")
    kind: NotificationKind = Field(sa_column=enum_column(NotificationKind, "notifications_kind_check"))
    date: dt.date | None = Field(default=None, description="The delivery date that the message is about, if any.")
    version: int = Field(
        default=1,
        sa_column_kwargs={"server_default": "1"},
        description="The number of the message about a date: 1 for the first order list.",
    )
    tg_chat_id: TelegramId = Field(sa_type=sa.BigInteger)
    status: NotificationStatus = Field(
        default=NotificationStatus.QUEUED,
        sa_column=enum_column(NotificationStatus, "notifications_status_check", NotificationStatus.QUEUED),
    )
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    error: str | None = Field(default=None, description="Why the delivery failed.")
    created_at: dt.datetime = instant(default_now=True)
    sent_at: dt.datetime | None = instant(nullable=True)
    acknowledged_at: dt.datetime | None = instant(nullable=True)
    acknowledged_by: str | None = Field(default=None, description="Who pressed «Received».")


class Notification(NotificationFields, table=True):
    """One message to one chat, in as many parts as it needs. Its text is final when the row is made.

    Args:
        version: 1 for the first order list of a date, then one more for each correction, or for a new list if the one
            before was not delivered.
        tg_thread_id: The forum topic in the chat; None for the chat itself.
        snapshot: The orders that a cafe knows after this message. The next correction is the difference to it.
        is_uncertain: Whether the delivery of the next part is unknown: a call or a process ended in between.
        queued_at: When the time for the delivery begins: when the message was made, when a manager asked for a retry, when
            the first call failed, or when a long pause ends that Telegram has asked for.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        sa.UniqueConstraint("cafe_id", "date", "kind", "version"),
        sa.Index("notifications_created_at_idx", "created_at", "id"),
        sa.Index("notifications_status_created_at_idx", "status", "created_at", "id"),
        sa.Index("notifications_cafe_id_created_at_idx", "cafe_id", "created_at", "id"),
        sa.Index("notifications_waiting_idx", "tg_chat_id", "id", postgresql_where=sa.text(IS_UNFINISHED)),
        sa.Index(
            "notifications_unacknowledged_idx",
            "sent_at",
            postgresql_where=sa.text("acknowledged_at IS NULL AND kind IN ('orders', 'correction')"),
        ),
    )

    id: int = identity()
    tg_thread_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    parts: list[str] = Field(sa_column=sa.Column(ARRAY(sa.Text), nullable=False))
    snapshot: Any = Field(default=None, sa_column=sa.Column(JSONB(none_as_null=True)))
    link_request_id: int | None = Field(default=None, sa_type=sa.BigInteger, foreign_key="cafe_link_requests.id")
    is_uncertain: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    tg_message_ids: list[int] = Field(
        default_factory=list, sa_column=sa.Column(ARRAY(sa.BigInteger), nullable=False, server_default="{}")
    )
    queued_at: dt.datetime = instant(default_now=True)
    reminded_at: dt.datetime | None = instant(nullable=True)
    escalated_at: dt.datetime | None = instant(nullable=True)

    cafe: Cafe = Relationship(sa_relationship_kwargs={"lazy": "raise"})

    @property
    def cafe_name(self) -> str:
        return self.cafe.name

    @property
    def text(self) -> str:
        """All parts, in Telegram's HTML."""
        return join_parts(self.parts)

    @property
    def is_finished(self) -> bool:
        return self.status in {NotificationStatus.SENT, NotificationStatus.FAILED}

    def is_next(self, part: int) -> bool:
        """Whether this part must be sent now. Parts are counted from 0."""
        return not self.is_finished and len(self.tg_message_ids) == part

    @property
    def next_part(self) -> str:
        """The part that must be sent next."""
        return self.parts[len(self.tg_message_ids)]

    @property
    def is_last_part(self) -> bool:
        return len(self.tg_message_ids) == len(self.parts) - 1

    def begin_sending(self) -> None:
        """Record that a call to Telegram begins. Until its answer is recorded, the delivery is unknown."""
        self.status = NotificationStatus.SENDING
        self.is_uncertain = True
        self.attempts += 1

    def record_failure(self, error: str, *, is_uncertain: bool, at: dt.datetime) -> None:
        """Record that a call failed. The time for the delivery begins with the first failure.

        Args:
            is_uncertain: Whether this call or an earlier one may have delivered the part all the same.
        """
        if self.error is None:
            self.queued_at = max(self.queued_at, at)
        self.status = NotificationStatus.SENDING if is_uncertain else NotificationStatus.QUEUED
        self.is_uncertain = is_uncertain
        self.error = error

    def record_part(self, part: int, message_id: int, *, at: dt.datetime) -> bool:
        """Record that Telegram has accepted a part. Return False if another process has already recorded it."""
        if len(self.tg_message_ids) != part:
            return False
        if self.status is not NotificationStatus.SENT:
            self.status = NotificationStatus.SENT if self.is_last_part else NotificationStatus.QUEUED
        self.is_uncertain = False
        self.tg_message_ids = [*self.tg_message_ids, message_id]
        if self.status is NotificationStatus.SENT:
            self.sent_at = self.sent_at or at
            self.error = None
        return True

    def fail(self, error: str) -> None:
        """End the delivery. `is_uncertain` stays as it is, for a later retry."""
        self.status = NotificationStatus.FAILED
        self.error = error

    def requeue(self, *, at: dt.datetime) -> None:
        """Queue it again. Parts that Telegram has accepted are not repeated."""
        self.status = NotificationStatus.QUEUED
        self.error = None
        self.queued_at = at

    def move_to(self, chat_id: int, thread_id: int | None = None) -> None:
        """Send the remaining parts to another chat or topic. A different chat gets the message from the beginning."""
        self.tg_thread_id = thread_id
        if chat_id != self.tg_chat_id:
            self.tg_chat_id = chat_id
            self.tg_message_ids = []
            self.is_uncertain = False

    def acknowledge(self, *, by: str, at: dt.datetime) -> bool:
        """Record that the cafe has read it. Return False if that was already recorded."""
        if self.acknowledged_at is not None:
            return False
        if not self.is_finished:  # the button is under the last part, so the last part was delivered
            self.status = NotificationStatus.SENT
            self.sent_at = at
        self.acknowledged_at = at
        self.acknowledged_by = by
        return True
