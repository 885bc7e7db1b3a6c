"""Jobs of deadlines: announce those that have passed."""

import datetime as dt

from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.log import get_log
from app.models import Cafe
from app.services.deadlines import find_passed, pass_deadline
from app.services.failures import contain_failure
from app.services.notifications import alert, announce_day, find_days_without_message
from app.telegram import notification_texts

log = get_log(__name__)

EVENT_PATIENCE = dt.timedelta(minutes=3)
"""How long the event of a deadline may take before it counts as lost."""


async def announce_passed(clients: Clients, now: dt.datetime) -> int:
    """Close each day whose deadline has passed, and publish it. Return how many there were.

    Each day is a separate transaction, so a process that dies leaves the others to the next minute. Of two simultaneous
    workers the row of the day lets one succeed.
    """
    async with clients.db() as session:
        passed = await find_passed(session, now)
    announced = 0
    for closing in passed:
        with contain_failure("deadline.not_announced", cafe=closing.cafe_id, date=str(closing.date)):
            async with clients.db() as session:
                announced += await pass_deadline(session, closing.cafe_id, closing.date, now)
    if announced:
        log.info("deadlines.announced", deadlines=announced)
    return announced


async def announce_missed(clients: Clients, now: dt.datetime) -> None:
    """Send the order lists of days that were closed a while ago and have none, until the day is over.

    The event may be lost or late; the cafe may have a chat now. If the cafe still has no chat or is deactivated, the
    managers are alerted, once. Each day is a separate transaction.
    """
    async with clients.db() as session:
        missed = await find_days_without_message(session, now, now - EVENT_PATIENCE)
    for cafe_id, date in missed:
        with contain_failure("orders.not_queued", cafe=cafe_id, date=str(date)):
            async with clients.db() as session:
                await _announce_missed(clients, session, cafe_id, date)


async def _announce_missed(clients: Clients, session: AsyncSession, cafe_id: int, date: dt.date) -> None:
    if await announce_day(clients, session, cafe_id, date) is not None:
        log.warning("deadline.announced_late", cafe=cafe_id, date=str(date))
        return
    cafe = await session.get_one(Cafe, cafe_id)
    if cafe.tg_chat_id is None or not cafe.is_active:
        await alert(clients, session, cafe, notification_texts.no_recipient, about=(date, 0), day=date)
