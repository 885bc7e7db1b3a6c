"""From Kafka to Telegram and to the workers: a consumer group for each."""

from datetime import UTC, datetime
from functools import partial

from aiokafka import ConsumerRecord
from faststream import AckPolicy
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.inbox import Effect, handle_once, lenient, raw_record
from app.events.messages import (
    CafeUnlinked,
    DeadlinePassed,
    Event,
    GenerateRecommendations,
    LinkRequestApproved,
    LinkRequestCreated,
    LinkRequestRejected,
    Topic,
    UnlinkReason,
    UnreadableEvent,
)
from app.log import get_log
from app.models import Cafe, NotificationKind
from app.resolvers import deadlines, notifications, runs
from app.resolvers.deadlines import DAYS_AHEAD_MAX
from app.resolvers.removal import KEEP
from app.telegram import texts

log = get_log(__name__)

NOTIFICATIONS = "notifications"
DAILY_TASKS = "daily-tasks"

LATE_DAYS = 1
"""A day that began a day ago may still be today somewhere."""

HEARTBEATS_PER_SESSION = 3
"""Two may be lost before a consumer counts as dead: Kafka's own advice for `heartbeat.interval.ms`."""


def register(clients: Clients) -> None:
    """Make `clients.kafka` read what chats are told of, and what is to be done each day."""
    tell = partial(tell_chats, managers_chat_id=clients.settings.telegram_manager_chat_id)
    _handle(clients, NOTIFICATIONS, tell, Topic.LINK_REQUESTS, Topic.DEADLINES)
    _handle(clients, DAILY_TASKS, partial(start_task, clients=clients), Topic.DAILY_TASKS)


def _handle(clients: Clients, group: str, effect: Effect, *topics: Topic) -> None:
    """Have a consumer group do `effect` for each event. One message at a time: partitions and replicas scale it."""

    @clients.kafka.subscriber(
        *topics,
        group_id=group,
        ack_policy=AckPolicy.ACK,
        auto_offset_reset="earliest",
        max_workers=1,
        fetch_max_wait_ms=clients.settings.kafka_fetch_max_wait_ms,
        session_timeout_ms=clients.settings.kafka_session_timeout_ms,
        heartbeat_interval_ms=clients.settings.kafka_session_timeout_ms // HEARTBEATS_PER_SESSION,
        parser=lenient,
        no_reply=True,
        decoder=raw_record,
    )
    async def handle(record: ConsumerRecord) -> None:
        await handle_once(clients, group, record, effect)


async def start_task(_session: AsyncSession, event: Event, clients: Clients) -> None:
    """Start what is to be done: a transaction of its own, which may be done twice, for it then finds that it goes on."""
    match event:
        case GenerateRecommendations() if clients.settings.gemini_api_keys:
            await runs.start(clients, datetime.now(UTC))
        case GenerateRecommendations():
            log.warning("recommendations.no_keys")
        case _:
            pass


async def tell_chats(session: AsyncSession, event: Event, managers_chat_id: int | None) -> None:
    """Tell a cafe's chat what concerns it, and the managers' chat, if there is one, what they have to know or decide."""
    match event:
        case DeadlinePassed():
            await close_and_announce(session, event)
        case LinkRequestCreated() if managers_chat_id is not None:
            text = texts.link_requested(
                event.cafe_name, event.cafe_id, event.tg_chat_id, event.tg_username, texts.DEFAULT_LOCALE
            )
            await notifications.queue(
                session,
                NotificationKind.LINK_REQUESTED,
                event.cafe_id,
                managers_chat_id,
                [text],
                link_request_id=event.id,
            )
        case LinkRequestApproved():
            text = texts.approved(event.cafe_name, event.cafe.language)
            await notifications.queue(session, NotificationKind.LINK_APPROVED, event.cafe_id, event.tg_chat_id, [text])
        case LinkRequestRejected():
            text = texts.rejected(event.cafe_name, event.reason, event.cafe.language)
            await notifications.queue(session, NotificationKind.LINK_REJECTED, event.cafe_id, event.tg_chat_id, [text])
        case CafeUnlinked():
            await tell_of_unlinking(session, event, managers_chat_id)
        case _:
            pass


async def close_and_announce(session: AsyncSession, event: DeadlinePassed) -> None:
    """Close the day, if another producer says that its deadline has passed, and have the cafe told what to cook.

    Raises UnreadableEvent for a cafe or a date of which this cannot be said.
    """
    now = datetime.now(UTC)
    if not -LATE_DAYS <= (event.date - now.date()).days <= DAYS_AHEAD_MAX:
        raise UnreadableEvent(f"date: {event.date} is not a day that orders are taken for")
    if await session.get(Cafe, event.cafe_id, with_for_update=KEEP) is None:
        raise UnreadableEvent(f"cafe_id: there is no cafe {event.cafe_id}")
    await deadlines.close_day(session, event.cafe_id, event.date, min(event.timestamp, now))
    await notifications.announce(session, event.cafe_id, event.date, is_correction=False)


async def tell_of_unlinking(session: AsyncSession, event: CafeUnlinked, managers_chat_id: int | None) -> None:
    """Tell the chat, if it still listens; and the managers, if it was not one of them who unlinked it."""
    if event.reason is not UnlinkReason.CHAT_GONE:
        text = texts.unlinked(event.name, event.language)
        await notifications.queue(session, NotificationKind.UNLINKED, event.id, event.former_tg_chat_id, [text])
    if event.reason is not UnlinkReason.MANAGER:
        say = texts.chat_gone if event.reason is UnlinkReason.CHAT_GONE else texts.chat_has_left
        text = say(event.name, event.id, texts.DEFAULT_LOCALE)
        await notifications.alert(session, managers_chat_id, event.id, text)
