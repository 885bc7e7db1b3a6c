"""What must not grow for ever, and what must not be forgotten too soon."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select

from app.clients import Clients
from app.models import Inbox
from app.workers.housekeeping import INBOX_KEPT, forget_handled_events

MARGIN = timedelta(minutes=1)


async def handled(clients: Clients, **ages: timedelta) -> None:
    """Note events as handled, so long ago."""
    async with clients.db() as session:
        for event_id, age in ages.items():
            session.add(Inbox(consumer="test", event_id=event_id, received_at=datetime.now(UTC) - age))


async def noted(clients: Clients) -> list[str]:
    async with clients.db() as session:
        return list(await session.scalars(select(col(Inbox.event_id)).order_by(col(Inbox.event_id))))


async def test_events_of_long_ago_are_forgotten(clients: Clients) -> None:
    """A note is kept as long as its event may come again, and not longer."""
    await handled(clients, new=timedelta(0), kept=INBOX_KEPT - MARGIN, old=INBOX_KEPT + MARGIN)

    await forget_handled_events(clients)

    assert await noted(clients) == ["kept", "new"]


async def test_it_says_how_many_it_forgot(clients: Clients) -> None:
    """The number of notes that were deleted is returned."""
    await handled(clients, new=timedelta(0), old=INBOX_KEPT + MARGIN, older=2 * INBOX_KEPT)

    assert await forget_handled_events(clients) == 2


@pytest.mark.parametrize("days", [7, 29])
async def test_notes_outlive_what_kafka_keeps(clients: Clients, days: int) -> None:
    """Kafka keeps an event for a week by default, and operators may let it keep it for longer: up to a month is safe."""
    await handled(clients, event=timedelta(days=days))

    await forget_handled_events(clients)

    assert await noted(clients) == ["event"]
