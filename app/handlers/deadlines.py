"""The handler of deadlines: it sends the order list to the cafe."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.cloudevents import UnreadableEvent
from app.events.types import DeadlinePassed, Event
from app.models import Cafe
from app.services.deadlines import DAYS_AHEAD_MAX, close_day
from app.services.notifications import announce_day
from app.services.rows import FOR_KEY_SHARE

LATE_DAYS = 1
"""A day that began a day ago may still be today in another time zone."""


async def handle_deadline(clients: Clients, session: AsyncSession, event: Event) -> None:
    """Close the day, if another producer says that its deadline has passed, and send the order list to the cafe.

    Raises UnreadableEvent for an unknown cafe or an impossible date.
    """
    if not isinstance(event, DeadlinePassed):
        return
    now = datetime.now(UTC)
    if not -LATE_DAYS <= (event.date - now.date()).days <= DAYS_AHEAD_MAX:
        raise UnreadableEvent(f"date: orders are not possible for {event.date}")
    if await session.get(Cafe, event.cafe_id, with_for_update=FOR_KEY_SHARE) is None:
        raise UnreadableEvent(f"cafe_id: there is no cafe {event.cafe_id}")
    await close_day(session, event.cafe_id, event.date, min(event.timestamp, now))
    await announce_day(clients, session, event.cafe_id, event.date)
