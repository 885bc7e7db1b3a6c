"""Morning messages: last night's recommendation for each user who has one, if MORNING_MESSAGE_AT is set."""

import asyncio
import datetime as dt
from collections.abc import Collection, Sequence
from enum import Enum, auto

from aiogram import Bot
from redis.exceptions import RedisError
from sqlmodel import col, select

from app.ai.recommendation import Recommendation
from app.clients import Clients
from app.log import get_log
from app.models import ItemStatus, Language, RecommendationItem, User
from app.services.failures import count_failure
from app.telegram import texts
from app.telegram.calls import wait_for_slot
from app.telegram.limiter import Limiter
from app.telegram.sender import DeliveryUnknown, NotSent, RetryAfter, Unreachable, send

log = get_log(__name__)

WINDOW = dt.timedelta(hours=3)
"""No messages are sent after this window: they are about today's lunch."""

BATCH_SIZE = 25
"""How many messages are sent at the same time: less than a second's messages, while Telegram answers within 0.1 s."""

PATIENCE_S = 1.5
"""How long a message waits for its slot: as long as a batch takes."""

JOB_BUDGET = dt.timedelta(seconds=40)


class Outcome(Enum):
    """The result of one user's message."""

    SENT = auto()
    DROPPED = auto()
    """Telegram refuses it, the delivery is unknown, or it failed unexpectedly."""
    DEFERRED = auto()
    """It was certainly not sent: there is no slot, or Telegram or Redis is unavailable."""


async def send_morning_messages(clients: Clients, bot: Bot, limiter: Limiter, now: dt.datetime) -> int:
    """Send last night's recommendations to users who have not got them, for a while. Return how many were sent.

    Each user gets at most one message: it is recorded before it is sent, and a missed morning does no harm. Deferred
    messages are left to a later call; if all messages of a batch are deferred, the call ends.
    """
    at = clients.settings.morning_message_at
    local = now.astimezone(clients.settings.lunch_timezone)
    if at is None or not _is_in_window(local, at):
        return 0
    sent = 0
    deferred: set[int] = set()
    clock = asyncio.get_running_loop().time
    ends = clock() + JOB_BUDGET.total_seconds()
    while clock() < ends and (batch := await _claim(clients, local.date(), now, deferred)):
        async with asyncio.TaskGroup() as sending:
            tasks = [
                sending.create_task(_try_to_send(clients, bot, limiter, item, language)) for item, language in batch
            ]
        outcomes = [task.result() for task in tasks]
        sent += outcomes.count(Outcome.SENT)
        deferred |= {
            item.user_tgid for (item, _), outcome in zip(batch, outcomes, strict=True) if outcome is Outcome.DEFERRED
        }
        if all(outcome is Outcome.DEFERRED for outcome in outcomes):
            break
    return sent


def _is_in_window(local: dt.datetime, at: dt.time) -> bool:
    begin = local.replace(hour=at.hour, minute=at.minute, second=at.second, microsecond=0)
    return begin <= local < begin + WINDOW


async def _claim(
    clients: Clients, date: dt.date, now: dt.datetime, deferred: Collection[int]
) -> Sequence[tuple[RecommendationItem, str]]:
    """Record that these users are notified."""
    query = (
        select(RecommendationItem, User.language)
        .join(User)
        .where(
            RecommendationItem.date == date,
            RecommendationItem.status == ItemStatus.DONE,
            col(RecommendationItem.notified_at).is_(None),
            col(RecommendationItem.user_tgid).not_in(deferred),
            User.is_active,
        )
        .order_by(col(RecommendationItem.position))
        .limit(BATCH_SIZE)
        .with_for_update(of=RecommendationItem, skip_locked=True)
    )
    async with clients.db() as session:
        rows = (await session.execute(query)).all()
        for item, _ in rows:
            item.notified_at = now
    return [(item, Language(language).value) for item, language in rows]


async def _try_to_send(clients: Clients, bot: Bot, limiter: Limiter, item: RecommendationItem, locale: str) -> Outcome:
    """Send a message. Its failure must not cancel the other messages of the batch, which are recorded as sent."""
    try:
        return await _send(clients, bot, limiter, item, locale)
    except Exception as error:  # noqa: BLE001 logged and counted
        count_failure("morning_message.not_sent", error, tgid=item.user_tgid)
        return Outcome.DROPPED


async def _send(clients: Clients, bot: Bot, limiter: Limiter, item: RecommendationItem, locale: str) -> Outcome:
    text = texts.recommended(Recommendation.model_validate(item.recommendation), locale)
    try:
        await wait_for_slot(limiter, item.user_tgid, PATIENCE_S)
        await send(bot, item.user_tgid, text)
    except (RetryAfter, Unreachable, RedisError, OSError):
        async with clients.db() as session:
            row = await session.get_one(RecommendationItem, (item.date, item.user_tgid), with_for_update=True)
            row.notified_at = None
        return Outcome.DEFERRED
    except (NotSent, DeliveryUnknown) as error:
        log.debug("morning_message.dropped", tgid=item.user_tgid, error=str(error))
        return Outcome.DROPPED
    return Outcome.SENT
