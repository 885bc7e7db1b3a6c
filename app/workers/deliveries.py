"""Carrying notifications to Telegram: the outbox queue `telegram`, shared by all events processes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiogram import Bot
from faststream_outbox import ExponentialRetry, OutboxBroker, OutboxMessage, RetryStrategyProto
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.log import library_log, whole_message
from app.log import get_log, without_bot_tokens
from app.models import DeadLetter, Notification, NotificationStatus, Outbox
from app.resolvers.notifications import DELIVERY_QUEUE
from app.telegram.sender import SEND_TIMEOUT_S, ChatGone, NotNow, Refused, send

log = get_log(__name__)

WORKERS = 4
"""Messages in flight for one process: Telegram takes 30 a second over all, and answers within about 100 ms."""

LEASE_S = 4.0 * SEND_TIMEOUT_S
"""How long a row stays with a process that died with it. Longer than a call can take, so none is sent twice at once."""

RETRY_MAX_S = 3600.0
GIVE_UP_AFTER = timedelta(days=1)
"""News about a link is of no use a day later."""


@dataclass(frozen=True)
class Backoff(RetryStrategyProto):
    """Wait as long as Telegram says, if it says so; otherwise exponentially longer, with jitter, up to an hour."""

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
    """Make the subscriber that sends what is queued. Any number of processes may run one."""
    broker = OutboxBroker(
        clients.engine,
        outbox_table=Outbox,
        dlq_table=DeadLetter,
        apply_types=False,
        logger=library_log,
        graceful_timeout=10,
    )

    @broker.subscriber(
        DELIVERY_QUEUE,
        max_workers=WORKERS,
        lease_ttl_seconds=LEASE_S,
        retry_strategy=Backoff(
            ExponentialRetry(
                initial_delay_seconds=1,
                max_delay_seconds=RETRY_MAX_S,
                jitter_factor=0.5,
            )
        ),
        decoder=whole_message,
    )
    async def carry(message: OutboxMessage) -> None:
        await deliver(clients, bot, int(message.body))

    return broker


async def deliver(clients: Clients, bot: Bot, notification_id: int) -> None:
    """Send one notification, unless it is sent.

    What is about to happen is written down before Telegram is called. A process that dies in between leaves
    `SENDING`: whether the message went out is not known then, and it is sent again.

    Raises NotNow, or whatever else may pass: then the row in the outbox comes again, until it is too late.
    """
    async with clients.db() as session:
        notification = await _locked(session, notification_id)
        if notification.status in {NotificationStatus.SENT, NotificationStatus.FAILED}:
            return
        notification.begin_sending()
    try:
        message_id = await send(bot, notification.tg_chat_id, notification.text)
    except (ChatGone, Refused) as error:
        await _fail(clients, notification_id, error)
        return
    except Exception as error:
        if datetime.now(UTC) - notification.created_at < GIVE_UP_AFTER:
            raise
        await _fail(clients, notification_id, error)
        return
    async with clients.db() as session:
        notification = await _locked(session, notification_id)
        notification.sent(message_id, at=datetime.now(UTC))
    log.info("notification.sent", notification=notification_id, kind=notification.kind.value)


async def _fail(clients: Clients, notification_id: int, error: Exception) -> None:
    problem = without_bot_tokens(str(error))
    log.warning("notification.failed", notification=notification_id, error=problem)
    async with clients.db() as session:
        (await _locked(session, notification_id)).fail(problem)


async def _locked(session: AsyncSession, notification_id: int) -> Notification:
    return await session.get_one(Notification, notification_id, with_for_update=True)
