"""Jobs of deadlines: announce those that have passed."""

from datetime import datetime, timedelta

from app.clients import Clients
from app.log import get_log
from app.models import Cafe
from app.services.deadlines import find_closings, pass_deadline
from app.services.notifications import (
    alert,
    announce_day,
    find_days_without_message,
)
from app.telegram import notification_texts

log = get_log(__name__)

MISSED_WITHIN = timedelta(hours=24)
"""How old a missed deadline may be to be announced late."""

EVENT_PATIENCE = timedelta(minutes=3)
"""How long the event of a deadline may take before it counts as lost."""


async def announce_passed(clients: Clients, now: datetime) -> int:
    """Close each day whose deadline has passed, and publish it. Return how many there were.

    Each day is a separate transaction, so a process that dies leaves the others to the next minute. Of two simultaneous
    workers the row of the day lets one succeed.
    """
    async with clients.db() as session:
        passed = await find_closings(session, now - MISSED_WITHIN, now)
    announced = 0
    for closing in passed:
        try:
            async with clients.db() as session:
                announced += await pass_deadline(session, closing.cafe_id, closing.date, now)
        except Exception:  # the other days must not wait; the next minute retries this one
            log.exception("deadline.not_announced", cafe=closing.cafe_id, date=str(closing.date))
    if announced:
        log.info("deadlines.announced", deadlines=announced)
    return announced


async def announce_missed(clients: Clients, now: datetime) -> None:
    """Send the order lists of days that were closed a while ago and have none.

    The event may be lost or late; the cafe may have a chat now. If the cafe still has no chat or is deactivated, the
    managers are alerted, once.
    """
    async with clients.db() as session:
        missed = await find_days_without_message(session, now - MISSED_WITHIN, now - EVENT_PATIENCE)
    for cafe_id, date in missed:
        async with clients.db() as session:
            if await announce_day(clients, session, cafe_id, date) is not None:
                log.warning("deadline.announced_late", cafe=cafe_id, date=str(date))
                continue
            cafe = await session.get_one(Cafe, cafe_id)
            if cafe.tg_chat_id is None or not cafe.is_active:
                await alert(clients, session, cafe, notification_texts.no_recipient, about=(date, 0), day=date)
