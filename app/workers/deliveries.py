"""Carrying notifications to Telegram: the outbox queue `telegram`, shared by all events processes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from aiogram import Bot
from aiogram.types import InlineKeyboardMarkup
from faststream_outbox import ExponentialRetry, OutboxBroker, OutboxMessage, RetryStrategyProto
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.log import outbox_broker, record, whole_message
from app.events.messages import NotificationFailed, NotificationSent
from app.log import get_log, without_bot_tokens
from app.models import Notification
from app.models.notifications import OF_ORDERS, TO_ACKNOWLEDGE, TO_MANAGERS
from app.resolvers import links, notifications
from app.resolvers.notifications import CORRECTION_QUEUE, DELIVERY_QUEUE
from app.telegram import buttons, texts
from app.telegram.limiter import CHAT_INTERVAL_MS, Limiter, Slot
from app.telegram.sender import (
    CALL_TIMEOUT_S,
    ChatGone,
    ChatMoved,
    NotNow,
    NotSent,
    OutcomeUnknown,
    Refused,
    send,
)

log = get_log(__name__)

WORKERS = 8
"""Messages in flight for one process: Telegram takes 30 a second over all, and answers within about 100 ms."""

PATIENCE_S = 1.5
"""How long a worker waits for its turn with a message in hand, rather than put it back: a little more than the second
between two messages of a chat."""

TURNS = 3
"""How often it does so before it puts the message back all the same."""

FETCHED_AHEAD = 2
"""Rows that wait in memory for a worker; their lease runs meanwhile."""

LEASE_S = 40.0
"""How long a row stays with a process that died with it: longer than the waits and the call of one part can take
together, so none is sent twice at once."""

RETRY_MAX_S = 300.0
GIVE_UP_AFTER = timedelta(hours=1)
"""What a cafe has not got by then it has to be told otherwise: a manager is told, and may have it sent again."""


class NoSlot(NotNow):
    """Our own limits do not let the message go out yet."""


class Turns:
    """Gets messages their slots. Of a chat, only one message waits here with a worker: the others are put back."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self._waiting: set[int] = set()

    @asynccontextmanager
    async def slot(self, chat_id: int) -> AsyncIterator["Turn"]:
        """Wait until there is a slot for the chat, and keep the chat's other messages away meanwhile.

        Raises NoSlot if that is too long to wait with a message in hand.
        """
        if chat_id in self._waiting:
            raise NoSlot(CHAT_INTERVAL_MS / 1000)
        self._waiting.add(chat_id)
        try:
            yield Turn(self.limiter, chat_id, await _acquired(self.limiter, chat_id))
        finally:
            self._waiting.discard(chat_id)


async def _acquired(limiter: Limiter, chat_id: int) -> Slot:
    """Raises NoSlot."""
    wait_s = 0.0
    for _ in range(TURNS):
        answer = await limiter.acquire(chat_id, patience_s=PATIENCE_S)
        if isinstance(answer, Slot):
            return answer
        wait_s = answer.wait_s
        if wait_s > PATIENCE_S:
            break
        await asyncio.sleep(wait_s)
    raise NoSlot(wait_s)


@dataclass
class Turn:
    """A slot for a chat, or the next if it is missed."""

    limiter: Limiter
    chat_id: int
    slot: Slot

    async def reached(self) -> None:
        """Wait for the slot. Raises NoSlot if it was missed too often."""
        for _ in range(TURNS):
            if await self.slot.reached():
                return
            self.slot = await _acquired(self.limiter, self.chat_id)
        raise NoSlot(CHAT_INTERVAL_MS / 1000)


@dataclass(frozen=True)
class Backoff(RetryStrategyProto):
    """Wait as long as Telegram says, if it says so; otherwise exponentially longer, with jitter."""

    otherwise: ExponentialRetry

    def get_next_attempt_delay(
        self,
        *,
        first_attempt_at: datetime,
        last_attempt_at: datetime,
        attempts_count: int,
        exception: BaseException | None = None,
    ) -> float | None:
        if isinstance(exception, NotNow):
            return float(exception.retry_after)
        return self.otherwise.get_next_attempt_delay(
            first_attempt_at=first_attempt_at,
            last_attempt_at=last_attempt_at,
            attempts_count=attempts_count,
            exception=exception,
        )


def delivery_broker(clients: Clients, bot: Bot) -> OutboxBroker:
    """Make the subscribers that send what is queued, and write corrections. Any number of processes may run them."""
    broker = outbox_broker(clients, graceful_timeout_s=CALL_TIMEOUT_S + 5)
    turns = Turns(Limiter(clients.redis))
    backoff = Backoff(ExponentialRetry(initial_delay_seconds=1, max_delay_seconds=RETRY_MAX_S, jitter_factor=0.5))

    @broker.subscriber(
        DELIVERY_QUEUE,
        max_workers=WORKERS,
        fetch_batch_size=FETCHED_AHEAD,
        max_fetch_interval=1.0,
        lease_ttl_seconds=LEASE_S,
        retry_strategy=backoff,
        decoder=whole_message,
    )
    async def carry(message: OutboxMessage) -> None:
        notification_id, part = message.body.decode().split()
        await deliver(clients, bot, turns, int(notification_id), int(part))

    @broker.subscriber(CORRECTION_QUEUE, lease_ttl_seconds=LEASE_S, retry_strategy=backoff, decoder=whole_message)
    async def correct(message: OutboxMessage) -> None:
        cafe_id, day = message.body.decode().split()
        async with clients.db() as session:
            await notifications.correct(session, int(cafe_id), date.fromisoformat(day))

    return broker


async def deliver(clients: Clients, bot: Bot, turns: Turns, notification_id: int, part: int) -> None:
    """Send one part of a notification; the part after it is queued with it.

    What is about to happen is written down before Telegram is called. A process that dies in between, or a call that
    breaks off, leaves a note that the part may have been sent, and it is sent again, marked as a repeat.

    Two processes may have the same part in hand for a moment, after one has lost its lease; of those that come to the
    end of it, one records it and queues the next.

    Raises NotNow, or whatever else may pass: then the row in the outbox comes again, until it is too late.
    """
    async with clients.db() as session:
        notification = await notifications.found(session, notification_id, lock=True)
        if not notification.is_next(part):
            return
        if (problem := _why_not(notification)) is not None:
            await _give_up(session, notification, problem, clients.settings.telegram_manager_chat_id)
            return
    async with turns.slot(notification.tg_chat_id) as slot:
        async with clients.db() as session:
            notification = await notifications.found(session, notification_id, lock=True)
            if not notification.is_next(part):
                return
            text, was_uncertain = _text(notification), notification.is_uncertain
            notification.begin_sending()
        try:
            await slot.reached()
            message_id = await send(bot, notification.tg_chat_id, text, _buttons(notification))
        except (NotSent, OutcomeUnknown) as error:
            await _not_sent(clients, turns.limiter, notification, error, was_uncertain=was_uncertain)
            return
    async with clients.db() as session:
        notification = await notifications.found(session, notification_id, lock=True)
        if not notification.part_sent(part, message_id, at=datetime.now(UTC)):
            return
        if notification.is_finished:
            await record(session, NotificationSent.of(notification))
        else:
            await notifications.send(session, notification)
    log.info("notification.sent", notification=notification_id, kind=notification.kind.value, message=message_id)


def _why_not(notification: Notification) -> Exception | None:
    """Say why a notification is not to be sent any more, if so."""
    if notification.kind in OF_ORDERS and notification.cafe.tg_chat_id != notification.tg_chat_id:
        return Refused("the chat is not the cafe's any more")
    if notification.error is not None and _is_late(notification):
        return OutcomeUnknown(notification.error)
    return None


def _is_late(notification: Notification) -> bool:
    return datetime.now(UTC) - notification.queued_at > GIVE_UP_AFTER


async def _not_sent(
    clients: Clients,
    limiter: Limiter,
    notification: Notification,
    error: NotSent | OutcomeUnknown,
    *,
    was_uncertain: bool,
) -> None:
    """Draw the conclusions from a call that has failed.

    Raises NotNow, or `error` itself, if it is worth trying again.
    """
    if isinstance(error, NotNow) and not isinstance(error, NoSlot):
        everybody = await limiter.pause(notification.tg_chat_id, round(error.retry_after))
        log.warning("telegram.paused", chat=notification.tg_chat_id, s=error.retry_after, everybody=everybody)
    async with clients.db() as session:
        row = await notifications.found(session, notification.id, lock=True)
        row.not_sent(without_bot_tokens(str(error)), is_uncertain=was_uncertain or isinstance(error, OutcomeUnknown))
        is_passing = isinstance(error, NotNow | ChatMoved) or not _is_late(row)
        if isinstance(error, ChatGone | Refused) or not is_passing:
            await _give_up(session, row, error, clients.settings.telegram_manager_chat_id)
            return
        if isinstance(error, ChatMoved):
            await links.chat_moved(session, notification.tg_chat_id, error.chat_id)
    raise NotNow(0) if isinstance(error, ChatMoved) else error


async def _give_up(
    session: AsyncSession, notification: Notification, error: Exception, managers_chat_id: int | None
) -> None:
    problem = without_bot_tokens(str(error))
    log.warning("notification.failed", notification=notification.id, error=problem)
    notification.fail(problem)
    await record(session, NotificationFailed.of(notification))
    if isinstance(error, ChatGone):
        await links.chat_gone(session, notification.tg_chat_id)
    if notification.kind in TO_ACKNOWLEDGE:
        text = texts.not_delivered(
            notification.cafe_name, notification.cafe_id, str(notification.date), problem, texts.DEFAULT_LOCALE
        )
        await notifications.alert(session, managers_chat_id, notification.cafe_id, text)


def _text(notification: Notification) -> str:
    if not notification.is_uncertain:
        return notification.next_part
    return f"{texts.repeated(_locale(notification))}\n{notification.next_part}"


def _buttons(notification: Notification) -> InlineKeyboardMarkup | None:
    locale = _locale(notification)
    if notification.kind in TO_ACKNOWLEDGE and notification.is_last_part:
        return buttons.received(notification.id, locale)
    if notification.link_request_id is not None:
        return buttons.decide(notification.link_request_id, locale)
    return None


def _locale(notification: Notification) -> str:
    return texts.DEFAULT_LOCALE if notification.kind in TO_MANAGERS else notification.cafe.language.value
