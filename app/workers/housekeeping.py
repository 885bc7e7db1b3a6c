"""What must not grow for ever."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from sqlmodel import col

from app.clients import Clients
from app.log import get_log
from app.models import Inbox

log = get_log(__name__)

INBOX_KEPT = timedelta(days=30)
"""Longer than Kafka keeps an event (7 days by default), so none comes again after its note is gone."""


async def forget_handled_events(clients: Clients) -> int:
    """Delete the notes of events that cannot come again, and return how many there were."""
    async with clients.db() as session:
        old = sa.delete(Inbox).where(col(Inbox.received_at) < datetime.now(UTC) - INBOX_KEPT)
        deleted = len((await session.scalars(old.returning(col(Inbox.event_id)))).all())
    log.info("inbox.cleaned", deleted=deleted)
    return deleted
