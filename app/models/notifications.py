"""What we tell chats in Telegram, and how far each message has come."""

import datetime as dt
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, Relationship, SQLModel

from app.models.cafes import Cafe
from app.models.tables import enum_column, identity, instant


class NotificationKind(StrEnum):
    """What a message is about.

    `ORDERS` and `CORRECTION` are what the kitchen cooks by, and are to be acknowledged. `LINK_REQUESTED` and `ALERT` go
    to the managers' chat.
    """

    LINK_REQUESTED = "link_requested"
    LINK_APPROVED = "link_approved"
    LINK_REJECTED = "link_rejected"
    UNLINKED = "unlinked"
    ORDERS = "orders"
    CORRECTION = "correction"
    REMINDER = "reminder"
    ALERT = "alert"


TO_ACKNOWLEDGE = (NotificationKind.ORDERS, NotificationKind.CORRECTION)
OF_ORDERS = (*TO_ACKNOWLEDGE, NotificationKind.REMINDER)
TO_MANAGERS = (NotificationKind.LINK_REQUESTED, NotificationKind.ALERT)


class NotificationStatus(StrEnum):
    """How far a message has come.

    `SENDING` is recorded before Telegram is called, so that a crash in between shows: the outcome is unknown then.
    """

    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"


def whole(parts: Sequence[str]) -> str:
    """Put the parts of a message together, for people who look at it elsewhere."""
    return "\n\n".join(parts)


class Notification(SQLModel, table=True):
    """One message to one chat, in as many parts as it needs. Its text is fixed when the row is made.

    Args:
        version: Of what a cafe is told about a date: 1 for the first list of its orders, then one more for each correction,
            or for a list anew if the one before has not arrived.
        snapshot: The orders that a cafe knows of after this message: what the next correction is compared with.
        is_uncertain: Whether the next part may have been sent already: a call broke off, or a process died in it.
        queued_at: Since when it is to be sent: when it was made, or when a manager had it sent again.
    """

    __tablename__ = "notifications"
    __table_args__ = (
        sa.UniqueConstraint("cafe_id", "date", "kind", "version"),
        sa.Index("notifications_created_at_idx", "created_at", "id"),
        sa.Index("notifications_status_created_at_idx", "status", "created_at", "id"),
        sa.Index("notifications_cafe_id_created_at_idx", "cafe_id", "created_at", "id"),
        sa.Index(
            "notifications_unacknowledged_idx",
            "sent_at",
            postgresql_where=sa.text("acknowledged_at IS NULL AND kind IN ('orders', 'correction')"),
        ),
    )

    id: int = identity()
    cafe_id: int = Field(sa_type=sa.BigInteger, foreign_key="cafes.id")
    kind: NotificationKind = Field(sa_column=enum_column(NotificationKind, "notifications_kind_check"))
    date: dt.date | None = None
    version: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    tg_chat_id: int = Field(sa_type=sa.BigInteger)
    parts: list[str] = Field(sa_column=sa.Column(ARRAY(sa.Text), nullable=False))
    snapshot: Any = Field(default=None, sa_column=sa.Column(JSONB(none_as_null=True)))
    link_request_id: int | None = Field(default=None, sa_type=sa.BigInteger, foreign_key="cafe_link_requests.id")
    status: NotificationStatus = Field(
        default=NotificationStatus.QUEUED,
        sa_column=enum_column(NotificationStatus, "notifications_status_check", NotificationStatus.QUEUED),
    )
    is_uncertain: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    tg_message_ids: list[int] = Field(
        default_factory=list, sa_column=sa.Column(ARRAY(sa.BigInteger), nullable=False, server_default="{}")
    )
    error: str | None = None
    created_at: dt.datetime = instant(default_now=True)
    queued_at: dt.datetime = instant(default_now=True)
    sent_at: dt.datetime | None = instant(nullable=True)
    acknowledged_at: dt.datetime | None = instant(nullable=True)
    acknowledged_by: str | None = None
    reminded_at: dt.datetime | None = instant(nullable=True)
    escalated_at: dt.datetime | None = instant(nullable=True)

    cafe: Cafe = Relationship(sa_relationship_kwargs={"lazy": "raise"})

    @property
    def cafe_name(self) -> str:
        return self.cafe.name

    @property
    def text(self) -> str:
        """All parts, as Telegram's HTML."""
        return whole(self.parts)

    @property
    def is_finished(self) -> bool:
        return self.status in {NotificationStatus.SENT, NotificationStatus.FAILED}

    def is_next(self, part: int) -> bool:
        """Whether this part is to be sent now; parts are counted from 0."""
        return not self.is_finished and len(self.tg_message_ids) == part

    @property
    def next_part(self) -> str:
        """The part that is to be sent next."""
        return self.parts[len(self.tg_message_ids)]

    @property
    def is_last_part(self) -> bool:
        return len(self.tg_message_ids) == len(self.parts) - 1

    def begin_sending(self) -> None:
        """Note that Telegram is about to be called: until its answer is noted, nobody knows what came of it."""
        self.status = NotificationStatus.SENDING
        self.is_uncertain = True
        self.attempts += 1

    def not_sent(self, error: str, *, is_uncertain: bool) -> None:
        """Note that a call has failed; Telegram may have taken the part all the same, now or at an earlier attempt."""
        self.status = NotificationStatus.SENDING if is_uncertain else NotificationStatus.QUEUED
        self.is_uncertain = is_uncertain
        self.error = error

    def part_sent(self, part: int, message_id: int, *, at: dt.datetime) -> bool:
        """Note that Telegram has taken a part, and say whether that is news: another process may have sent it too."""
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
        """Give up. Whether the next part may have been sent stays known, for who has it sent again."""
        self.status = NotificationStatus.FAILED
        self.error = error

    def queue_again(self, *, at: dt.datetime) -> None:
        """Have it sent again; parts that have gone out are not."""
        self.status = NotificationStatus.QUEUED
        self.error = None
        self.queued_at = at

    def move_to(self, chat_id: int) -> None:
        """Send what is still to be sent to another chat; one that is new to it gets it from the beginning."""
        if chat_id != self.tg_chat_id:
            self.tg_chat_id = chat_id
            self.tg_message_ids = []
            self.is_uncertain = False

    def acknowledge(self, *, by: str, at: dt.datetime) -> bool:
        """Note that the kitchen has read it, and say whether that is news."""
        if self.acknowledged_at is not None:
            return False
        if not self.is_finished:  # the button is under the last part: it has arrived
            self.status = NotificationStatus.SENT
            self.sent_at = at
        self.acknowledged_at = at
        self.acknowledged_by = by
        return True
