"""From Kafka to Telegram: the consumer group `notifications`."""

from aiokafka import ConsumerRecord
from faststream import AckPolicy
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.inbox import handle_once, lenient, raw_record
from app.events.messages import CafeUnlinked, Event, LinkRequestApproved, LinkRequestRejected, Topic
from app.models import NotificationKind
from app.resolvers import notifications
from app.telegram import texts

GROUP = "notifications"

HEARTBEATS_PER_SESSION = 3
"""Two may be lost before a consumer counts as dead: Kafka's own advice for `heartbeat.interval.ms`."""


def register(clients: Clients) -> None:
    """Make `clients.kafka` read what chats are told of. One message at a time: partitions and replicas scale it."""

    @clients.kafka.subscriber(
        Topic.LINK_REQUESTS,
        group_id=GROUP,
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
    async def link_requests(record: ConsumerRecord) -> None:
        await handle_once(clients, GROUP, record, tell_chat)


async def tell_chat(session: AsyncSession, event: Event) -> None:
    """Tell the chat what was decided about it. It knows itself that it asked."""
    match event:
        case LinkRequestApproved():
            text = texts.approved(event.cafe_name, event.cafe.language)
            await notifications.queue(session, NotificationKind.LINK_APPROVED, event.cafe_id, event.tg_chat_id, text)
        case LinkRequestRejected():
            text = texts.rejected(event.cafe_name, event.reason, event.cafe.language)
            await notifications.queue(session, NotificationKind.LINK_REJECTED, event.cafe_id, event.tg_chat_id, text)
        case CafeUnlinked():
            text = texts.unlinked(event.name, event.language)
            await notifications.queue(session, NotificationKind.UNLINKED, event.id, event.former_tg_chat_id, text)
        case _:
            pass
