"""The tables of the event log: what waits for Kafka or a worker, what was handled, what could not be."""

from datetime import datetime

import sqlalchemy as sa
from faststream_outbox import make_dlq_table, make_outbox_table
from sqlmodel import Field, SQLModel

from app.models.tables import instant, metadata

Outbox = make_outbox_table(metadata, "outbox")
Outbox.c.next_attempt_at.server_default = sa.DefaultClause(sa.func.clock_timestamp())
"""Rows are taken in this column's order. The library's `now()` is the transaction's start: of two transactions that
queue for one cafe's row lock, the one that began first and waited would overtake. The clock at the insert, under the
lock, keeps the order in which they happened."""

DeadLetter = make_dlq_table(metadata, "dead_letters")


class Inbox(SQLModel, table=True):
    """Events that a consumer has handled: a second one with the same id has no effect."""

    __tablename__ = "inbox"
    __table_args__ = (sa.Index("inbox_received_at_idx", "received_at"),)

    consumer: str = Field(primary_key=True, max_length=64)
    event_id: str = Field(primary_key=True, max_length=255)
    received_at: datetime = instant(default_now=True)
