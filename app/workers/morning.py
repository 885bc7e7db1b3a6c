"""The morning message: last night's recommendation, to everybody who got one, if MORNING_MESSAGE_AT is set."""

import asyncio
import datetime as dt
from collections.abc import Collection, Sequence
from enum import Enum, auto

from aiogram import Bot
from redis.exceptions import RedisError
from sqlmodel import col, select

from app.ai.recommendation import Recommendation
from app.clients import Clients
from app.log import get_log, without_bot_tokens
from app.models import ItemStatus, Language, RecommendationItem, User
from app.telegram import texts
from app.telegram.sender import NotNow, NotSent, OutcomeUnknown, Unreachable, send
from app.workers.deliveries import NoSlot, Turns

log = get_log(__name__)

MORNING = dt.timedelta(hours=3)
"""Who has not got it by then is spared: it is about today's lunch."""

TOGETHER = 25
"""How many are told at a time: less than a second's messages, while Telegram takes a tenth of one to answer."""

STINT = dt.timedelta(seconds=40)


class Outcome(Enum):
    """What became of one person's message."""

    TOLD = auto()
    GIVEN_UP = auto()
    """Telegram does not take it, or may have taken it."""
    PUT_OFF = auto()
    """Surely not sent: it is not the time, or Telegram or Redis is away."""


async def tell_everybody(clients: Clients, bot: Bot, turns: Turns, now: dt.datetime) -> int:
    """Send last night's recommendations to those who have not had them, for a while; return how many were told.

    Each person is told at most once: it is noted before it is sent, and a morning missed is no harm. Who cannot be told
    now, and surely was not, is left to a later call; if that is everybody there is no use in going on.
    """
    at = clients.settings.morning_message_at
    local = now.astimezone(clients.settings.lunch_timezone)
    if at is None or not _is_morning(local, at):
        return 0
    told = 0
    put_off: set[int] = set()
    clock = asyncio.get_running_loop().time
    ends = clock() + STINT.total_seconds()
    while clock() < ends and (people := await _take(clients, local.date(), now, put_off)):
        async with asyncio.TaskGroup() as sending:
            tasks = [sending.create_task(_tell(clients, bot, turns, item, language)) for item, language in people]
        outcomes = [task.result() for task in tasks]
        told += outcomes.count(Outcome.TOLD)
        put_off |= {item.user_tgid for (item, _), it in zip(people, outcomes, strict=True) if it is Outcome.PUT_OFF}
        if all(it is Outcome.PUT_OFF for it in outcomes):
            break
    return told


def _is_morning(local: dt.datetime, at: dt.time) -> bool:
    begin = local.replace(hour=at.hour, minute=at.minute, second=at.second, microsecond=0)
    return begin <= local < begin + MORNING


async def _take(
    clients: Clients, date: dt.date, now: dt.datetime, put_off: Collection[int]
) -> Sequence[tuple[RecommendationItem, str]]:
    """Note that these people are told."""
    query = (
        select(RecommendationItem, User.language)
        .join(User)
        .where(
            RecommendationItem.date == date,
            RecommendationItem.status == ItemStatus.DONE,
            col(RecommendationItem.told_at).is_(None),
            col(RecommendationItem.user_tgid).not_in(put_off),
            User.is_active,
        )
        .order_by(col(RecommendationItem.position))
        .limit(TOGETHER)
        .with_for_update(of=RecommendationItem, skip_locked=True)
    )
    async with clients.db() as session:
        people = (await session.execute(query)).all()
        for item, _ in people:
            item.told_at = now
    return [(item, Language(language).value) for item, language in people]


async def _tell(clients: Clients, bot: Bot, turns: Turns, item: RecommendationItem, locale: str) -> Outcome:
    text = texts.recommended(Recommendation.model_validate(item.recommendation), locale)
    try:
        async with turns.slot(item.user_tgid) as turn:
            await turn.reached()
            await send(bot, item.user_tgid, text)
    except (NotNow, Unreachable, RedisError, OSError) as error:
        if isinstance(error, NotNow) and not isinstance(error, NoSlot):
            await turns.limiter.pause(item.user_tgid, round(error.retry_after))
        async with clients.db() as session:
            row = await session.get_one(RecommendationItem, (item.date, item.user_tgid), with_for_update=True)
            row.told_at = None
        return Outcome.PUT_OFF
    except (NotSent, OutcomeUnknown) as error:
        log.debug("morning.not_told", tgid=item.user_tgid, error=without_bot_tokens(str(error)))
        return Outcome.GIVEN_UP
    return Outcome.TOLD
