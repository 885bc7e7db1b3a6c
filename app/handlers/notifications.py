"""Delivery of notifications to Telegram: the outbox queues of deliveries and corrections, shared by all events processes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiogram import Bot
from aiogram.types import InlineKeyboardMarkup
from faststream_outbox import ExponentialRetry, OutboxBroker, OutboxMessage, RetryStrategyProto
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.outbox import outbox_broker, raw_message, record
from app.events.types import NotificationFailed, NotificationSent
from app.log import get_log, without_bot_tokens
from app.models import Notification
from app.services.links import migrate_chat, unlink_unreachable_chat
from app.services.notification_kinds import KINDS, locale_of_kind
from app.services.notifications import (
    CorrectionTask,
    DeliveryTask,
    alert,
    correct_day,
    enqueue_delivery,
    get_notification,
)
from app.services.rows import FOR_UPDATE
from app.telegram import notification_texts
from app.telegram.limiter import Limiter
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
from app.telegram.slots import ChatSlots, RateLimitedLocally

log = get_log(__name__)

WORKERS = 8
"""Messages in progress for one process: Telegram accepts 30 a second in total, and answers within about 100 ms."""

FETCHED_AHEAD = 2
"""Rows that wait in memory for a worker. Their lease runs meanwhile."""

LEASE_S = 40.0
"""How long a row stays with a process that died: longer than the waits and the call of one part together, so that no part
is sent twice at the same time."""

RETRY_MAX_S = 300.0

DELIVERY_TIMEOUT = timedelta(hours=1)
"""After this the delivery fails and managers are alerted. A manager may retry it."""


@dataclass(frozen=True)
class Backoff(RetryStrategyProto):
    """Wait as long as Telegram asks, if it does; otherwise exponentially longer, with jitter."""

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
    slots = ChatSlots(Limiter(clients.redis))
    backoff = Backoff(ExponentialRetry(initial_delay_seconds=1, max_delay_seconds=RETRY_MAX_S, jitter_factor=0.5))

    @broker.subscriber(
        DeliveryTask.queue,
        max_workers=WORKERS,
        fetch_batch_size=FETCHED_AHEAD,
        max_fetch_interval=1.0,
        lease_ttl_seconds=LEASE_S,
        retry_strategy=backoff,
        decoder=raw_message,
    )
    async def handle_delivery(message: OutboxMessage) -> None:
        await deliver(clients, bot, slots, DeliveryTask.parse(message))

    @broker.subscriber(CorrectionTask.queue, lease_ttl_seconds=LEASE_S, retry_strategy=backoff, decoder=raw_message)
    async def handle_correction(message: OutboxMessage) -> None:
        async with clients.db() as session:
            await correct_day(clients, session, CorrectionTask.parse(message))

    return broker


async def deliver(clients: Clients, bot: Bot, slots: ChatSlots, task: DeliveryTask) -> None:
    """Send one part of a notification, and enqueue the next part.

    The attempt is recorded before the call to Telegram. After a crash or a broken call, the delivery is unknown, and the
    part is sent again, marked as a repeat.

    Two processes may have the same part for a moment, after one has lost its lease. The first to finish records the part
    and enqueues the next one.

    Raises RetryAfter, or another temporary error: then the row in the outbox comes again, until `DELIVERY_TIMEOUT`.
    """
    async with clients.db() as session:
        notification = await get_notification(session, task.notification_id, lock=FOR_UPDATE)
        if not notification.is_next(task.part):
            return
        if (obstacle := _find_obstacle(notification)) is not None:
            await _fail(clients, session, notification, obstacle)
            return
    async with slots.lease(notification.tg_chat_id) as slot:
        async with clients.db() as session:
            notification = await get_notification(session, task.notification_id, lock=FOR_UPDATE)
            if not notification.is_next(task.part):
                return
            text, was_uncertain = _text(notification), notification.is_uncertain
            notification.begin_sending()
        try:
            await slot.wait()
            message_id = await send(bot, notification.tg_chat_id, text, _buttons(notification))
        except (NotSent, DeliveryUnknown) as error:
            await _handle_failure(clients, slots.limiter, notification, error, was_uncertain=was_uncertain)
            return
    async with clients.db() as session:
        notification = await get_notification(session, task.notification_id, lock=FOR_UPDATE)
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


def _is_late(notification: Notification) -> bool:
    return datetime.now(UTC) - notification.queued_at > DELIVERY_TIMEOUT


async def _handle_failure(
    clients: Clients,
    limiter: Limiter,
    notification: Notification,
    error: NotSent | DeliveryUnknown,
    *,
    was_uncertain: bool,
) -> None:
    """Record a failed call, and decide whether to retry.

    Raises RetryAfter, or `error` itself, for a retry.
    """
    if isinstance(error, RetryAfter) and not isinstance(error, RateLimitedLocally):
        is_global = await limiter.pause(notification.tg_chat_id, round(error.retry_after))
        log.warning("telegram.paused", chat=notification.tg_chat_id, s=error.retry_after, is_global=is_global)
    async with clients.db() as session:
        row = await get_notification(session, notification.id, lock=FOR_UPDATE)
        is_uncertain = was_uncertain or isinstance(error, DeliveryUnknown)
        row.record_failure(without_bot_tokens(str(error)), is_uncertain=is_uncertain)
        is_temporary = isinstance(error, RetryAfter | ChatMoved) or not _is_late(row)
        if isinstance(error, ChatGone | Refused) or not is_temporary:
            await _fail(clients, session, row, error)
            return
        if isinstance(error, ChatMoved):
            await migrate_chat(session, notification.tg_chat_id, error.chat_id)
    raise RetryAfter(0) if isinstance(error, ChatMoved) else error


async def _fail(clients: Clients, session: AsyncSession, notification: Notification, error: Exception) -> None:
    message = without_bot_tokens(str(error))
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
