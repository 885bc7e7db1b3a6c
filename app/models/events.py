"""Tables of the event log: the outbox, the inbox and dead letters."""

from datetime import datetime

import sqlalchemy as sa
from faststream_outbox import make_dlq_table, make_outbox_table
from sqlmodel import Field, SQLModel

from app.models.columns import instant, metadata

Outbox = make_outbox_table(metadata, "outbox")
Outbox.c.next_attempt_at.server_default = sa.DefaultClause(sa.func.clock_timestamp())
"""Rows are taken in the order of this column. The library's `now()` is the start of the transaction: of two transactions
that wait for one cafe's row lock, the one that began first would overtake. The clock at the insert, under the lock,
keeps the order of the changes."""

DeadLetter = make_dlq_table(metadata, "dead_letters")


class Inbox(SQLModel, table=True):
    """Events that a consumer has handled. The same id of the same source has no second effect.

    `event_id` is the id as long as only one source has used it; for other sources it is a hash of source and id.
    `source` is None for updates of Telegram, and for events that were handled before sources were kept: then every event with
    this id is a repeated one.
    """

    __tablename__ = "inbox"
    __table_args__ = (sa.Index("inbox_received_at_idx", "received_at"),)

    consumer: str = Field(primary_key=True, max_length=64)
    event_id: str = Field(primary_key=True, max_length=255)
    source: str | None = None
    received_at: datetime = instant(default_now=True)
