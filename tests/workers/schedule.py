"""Times around a deadline, and cafes that have one."""

from datetime import UTC, date, datetime, time, timedelta

from app.clients import Clients
from app.models import Cafe, Deadline
from tests.conftest import add_cafe

WEDNESDAY, THURSDAY = date(2026, 3, 4), date(2026, 3, 5)
CLOSING = datetime.combine(WEDNESDAY, time(10, 30), UTC)
"""When ordering for Thursday closes."""

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
MANAGERS = -1009
CHAT = -1001


async def add_scheduled(
    clients: Clients,
    name: str = "Basil & Thyme",
    *,
    delivery: date = THURSDAY,
    at: time = time(10, 30),
    advance_days: int = 1,
    is_enabled: bool = True,
    **fields: object,
) -> Cafe:
    """Add a cafe that delivers on one weekday."""
    cafe = await add_cafe(clients, name, **fields)
    async with clients.db() as session:
        session.add(
            Deadline(
                cafe_id=cafe.id,
                weekday=delivery.weekday(),
                deadline_time=at,
                advance_days=advance_days,
                is_enabled=is_enabled,
            )
        )
    return cafe
