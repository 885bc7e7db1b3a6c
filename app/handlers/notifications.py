"""Delivery of notifications to Telegram: the outbox queues of deliveries and corrections, shared by all events processes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from aiogram import Bot
from aiogram.types import InlineKeyboardMarkup
from faststream_outbox import ExponentialRetry, OutboxBroker, OutboxMessage, RetryStrategyProto
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.errors import ServiceUnavailable, as_lunchbot_error
from app.events.outbox import outbox_broker, raw_message, record
from app.events.types import NotificationFailed, NotificationSent
from app.log import get_log
from app.models import Notification
from app.redaction import redact
from app.services.links import migrate_chat, unlink_unreachable_chat
from app.services.notification_kinds import KINDS, locale_of_kind
from app.services.notifications import (
    DELIVERY_TIMEOUT,
    CorrectionTask,
    DeliveryTask,
    alert,
    correct_day,
    count_ahead,
    enqueue_delivery,
    get_notification,
)
from app.telegram import notification_texts
from app.telegram.limiter import Busy, Limiter, seconds_until_turn
from app.telegram.sender import (
    CALL_TIMEOUT_S,
    ChatGone,
    ChatMoved,
    DeliveryUnknown,
    NotSent,
    Refused,
    RetryAfter,
    send,
)

log = get_log(__name__)

WORKERS = 8
"""Messages in progress for one process: Telegram accepts 30 a second in total, and answers within about 100 ms."""

FETCHED_AHEAD = 8
"""Rows that wait in memory for a worker. Their lease runs meanwhile."""

LEASE_S = 40.0
"""How long a row stays with a process that died: longer than the waits and the call of one part together, so that no part
is sent twice at the same time."""

PATIENCE_S = 1.5
"""How long a worker waits for the bot's next slot, which other processes may have taken until then."""

FETCH_INTERVAL_S = 0.5
"""How often the outbox looks for messages whose turn has come. It hears of new messages without looking."""

RETRY_MAX_S = 300.0

LATE_S = 300.0
"""Managers are alerted if an order list has to wait longer than this for Telegram."""


class NotYet(RetryAfter):
    """Other messages of the chat come first, or our own limiter has no slot yet. Nothing has failed."""


@dataclass(frozen=True)
class Backoff(RetryStrategyProto):
    """Wait as long as Telegram or our limiter asks, if one does; otherwise exponentially longer, with jitter."""

    otherwise: ExponentialRetry

    def get_next_attempt_delay(
        self,
        *,
        first_attempt_at: datetime,
        last_attempt_at: datetime,
        attempts_count: int,
        exception: BaseException | None = None,
    ) -> float | None:
        if isinstance(exception, RetryAfter):
            return float(exception.retry_after)
        return self.otherwise.get_next_attempt_delay(
            first_attempt_at=first_attempt_at,
            last_attempt_at=last_attempt_at,
            attempts_count=attempts_count,
            exception=exception,
        )


def delivery_broker(clients: Clients, bot: Bot) -> OutboxBroker:
    """Make the subscribers that send notifications and write corrections. Any number of processes may run them."""
    broker = outbox_broker(clients, graceful_timeout_s=CALL_TIMEOUT_S + 5)
    limiter = Limiter(clients.redis)
    backoff = Backoff(ExponentialRetry(initial_delay_seconds=1, max_delay_seconds=RETRY_MAX_S, jitter_factor=0.5))

    @broker.subscriber(
        DeliveryTask.queue,
        max_workers=WORKERS,
        fetch_batch_size=FETCHED_AHEAD,
        min_fetch_interval=FETCH_INTERVAL_S,
        max_fetch_interval=FETCH_INTERVAL_S,
        lease_ttl_seconds=LEASE_S,
        retry_strategy=backoff,
        decoder=raw_message,
    )
    async def handle_delivery(message: OutboxMessage) -> None:
        task = DeliveryTask.parse(message)
        try:
            await deliver(clients, bot, limiter, task)
        except (NotSent, DeliveryUnknown) as error:
            await put_back(message, error)
        except Exception as error:
            if not isinstance(as_lunchbot_error(error), ServiceUnavailable):
                await _record_mistake(clients, task, error)
                raise
            log.warning("notification.deferred", notification=task.notification_id, error=repr(error))
            await put_back(message, error)

    @broker.subscriber(CorrectionTask.queue, lease_ttl_seconds=LEASE_S, retry_strategy=backoff, decoder=raw_message)
    async def handle_correction(message: OutboxMessage) -> None:
        async with clients.db() as session:
            await correct_day(clients, session, CorrectionTask.parse(message))

    return broker


async def put_back(message: OutboxMessage, error: Exception) -> None:
    """Give a message back to the outbox until its next attempt. The library would log a traceback."""
    row = message.raw_message
    if isinstance(error, NotYet):
        row.attempts_count -= 1  # waiting is no attempt, and makes later pauses no longer
    row.last_exception = error
    await message.nack()


async def _record_mistake(clients: Clients, task: DeliveryTask, error: Exception) -> None:
    """Record an unexpected error: it is our mistake, and the other messages of the chat do not wait for its repair."""
    async with clients.db() as session:
        notification = await get_notification(session, task.notification_id, is_locked=True)
        if not notification.is_finished:
            message = redact(f"{type(error).__name__}: {error}")
            notification.record_failure(message, is_uncertain=notification.is_uncertain, at=datetime.now(UTC))


async def deliver(clients: Clients, bot: Bot, limiter: Limiter, task: DeliveryTask) -> None:
    """Send one part of a notification, and enqueue the next part.

    A chat gets its notifications in their order, except that no notification waits for one that has failed before.

    The attempt is recorded before the call to Telegram. After a crash or a broken call, the delivery is unknown, and the
    part is sent again, marked as a repeat.

    Two processes may have the same part for a moment, after one has lost its lease. The first to finish records the part
    and enqueues the next one.

    Raises NotYet if it is not the message's turn, or RetryAfter, or another temporary error: then the row in the outbox
    comes again, until `DELIVERY_TIMEOUT`.
    """
    async with clients.db() as session:
        notification = await get_notification(session, task.notification_id, is_locked=True)
        if not notification.is_next(task.part):
            return
        if (obstacle := _find_obstacle(notification)) is not None:
            await _fail(clients, session, notification, obstacle)
            return
        ahead = await count_ahead(session, notification)
    if ahead:
        raise NotYet(seconds_until_turn(notification.tg_chat_id, ahead))
    slot = await limiter.acquire(notification.tg_chat_id, patience_s=PATIENCE_S)
    if isinstance(slot, Busy):
        await _report_delay(clients, notification, slot.wait_s)
        raise NotYet(slot.wait_s)
    async with clients.db() as session:
        notification = await get_notification(session, task.notification_id, is_locked=True)
        if not notification.is_next(task.part):
            return
        text, was_uncertain = _text(notification), notification.is_uncertain
        notification.begin_sending()
    try:
        if not await limiter.meet(slot):
            raise RetryAfter(0)
        message_id = await send(
            bot, notification.tg_chat_id, text, _buttons(notification), thread_id=notification.tg_thread_id
        )
    except (NotSent, DeliveryUnknown) as error:
        await _handle_failure(clients, notification, error, was_uncertain=was_uncertain)
        return
    async with clients.db() as session:
        notification = await get_notification(session, task.notification_id, is_locked=True)
        if not notification.record_part(task.part, message_id, at=datetime.now(UTC)):
            return
        if notification.is_finished:
            await record(session, NotificationSent.of(notification))
        else:
            await enqueue_delivery(session, notification)
    log.info("notification.sent", notification=notification.id, kind=notification.kind.value, message=message_id)


def _find_obstacle(notification: Notification) -> Exception | None:
    """Return why a notification must not be sent any more, if so."""
    if KINDS[notification.kind].is_about_orders and notification.cafe.tg_chat_id != notification.tg_chat_id:
        return Refused("the chat is no longer the cafe's chat")
    if notification.error is not None and _is_late(notification):
        return DeliveryUnknown(notification.error)
    return None


async def _report_delay(clients: Clients, notification: Notification, wait_s: float) -> None:
    """Alert the managers, once, if a pause that Telegram has asked for makes an order list late."""
    if wait_s < LATE_S or notification.queued_at > datetime.now(UTC):
        return
    async with clients.db() as session:
        row = await get_notification(session, notification.id, is_locked=True)
        if row.is_finished or row.queued_at > datetime.now(UTC):
            return
        row.error = str(RetryAfter(wait_s))
        await _postpone(clients, session, row, wait_s)


async def _postpone(clients: Clients, session: AsyncSession, notification: Notification, wait_s: float) -> None:
    """Let the time for the delivery begin after a long pause, and alert the managers if it is an order list."""
    notification.queued_at = datetime.now(UTC) + timedelta(seconds=wait_s)
    log.warning("notification.delayed", notification=notification.id, error=notification.error)
    if KINDS[notification.kind].needs_acknowledgement:
        until = notification.queued_at.astimezone(ZoneInfo(notification.cafe.timezone))
        await alert(clients, session, notification.cafe, notification_texts.delayed, day=notification.date, until=until)


def _is_late(notification: Notification) -> bool:
    return datetime.now(UTC) - notification.queued_at > DELIVERY_TIMEOUT


async def _handle_failure(
    clients: Clients, notification: Notification, error: NotSent | DeliveryUnknown, *, was_uncertain: bool
) -> None:
    """Record a failed call, and decide whether to retry.

    Raises RetryAfter, or `error` itself, for a retry.
    """
    async with clients.db() as session:
        row = await get_notification(session, notification.id, is_locked=True)
        message = redact(str(error))
        is_uncertain = was_uncertain or isinstance(error, DeliveryUnknown)
        row.record_failure(message, is_uncertain=is_uncertain, at=datetime.now(UTC))
        if isinstance(error, RetryAfter):
            if error.retry_after >= LATE_S:
                await _postpone(clients, session, row, error.retry_after)
        elif isinstance(error, ChatMoved):
            await migrate_chat(session, notification.tg_chat_id, error.chat_id)
        elif isinstance(error, ChatGone | Refused) or _is_late(row):
            await _fail(clients, session, row, error)
            return
    log.warning("notification.deferred", notification=notification.id, error=message)
    raise RetryAfter(0) if isinstance(error, ChatMoved) else error


async def _fail(clients: Clients, session: AsyncSession, notification: Notification, error: Exception) -> None:
    message = redact(str(error))
    log.warning("notification.failed", notification=notification.id, error=message)
    notification.fail(message)
    await record(session, NotificationFailed.of(notification))
    if isinstance(error, ChatGone):
        await unlink_unreachable_chat(session, notification.tg_chat_id)
    if KINDS[notification.kind].needs_acknowledgement:
        await alert(
            clients,
            session,
            notification.cafe,
            notification_texts.not_delivered,
            day=notification.date,
            error=message,
        )


def _text(notification: Notification) -> str:
    if not notification.is_uncertain:
        return notification.next_part
    return f"{notification_texts.sent_again(locale_of_kind(notification.kind, notification.cafe))}\n{notification.next_part}"


def _buttons(notification: Notification) -> InlineKeyboardMarkup | None:
    make = KINDS[notification.kind].buttons
    return (
        make(notification, locale_of_kind(notification.kind, notification.cafe))
        if make is not None and notification.is_last_part
        else None
    )
