"""Notifications about links."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.types import (
    CafeUnlinked,
    Event,
    LinkRequestApproved,
    LinkRequestCreated,
    LinkRequestRejected,
    UnlinkReason,
)
from app.models import NotificationKind
from app.services.notifications import alert, notify
from app.telegram import notification_texts


async def handle_link_event(clients: Clients, session: AsyncSession, event: Event) -> None:
    """Notify the chat about the decision on its request, and the managers about what they must know or decide."""
    match event:
        case LinkRequestCreated():
            await notify(
                clients,
                session,
                NotificationKind.LINK_REQUESTED,
                event.cafe,
                link_request_id=event.id,
                facts={"chat_id": event.tg_chat_id, "username": event.tg_username},
            )
        case LinkRequestApproved():
            await notify(
                clients,
                session,
                NotificationKind.LINK_APPROVED,
                event.cafe,
                chat_id=event.tg_chat_id,
                thread_id=event.tg_thread_id,
            )
        case LinkRequestRejected():
            await notify(
                clients,
                session,
                NotificationKind.LINK_REJECTED,
                event.cafe,
                chat_id=event.tg_chat_id,
                thread_id=event.tg_thread_id,
                facts={"reason": event.reason},
            )
        case CafeUnlinked():
            await _notify_of_unlinking(clients, session, event)
        case _:
            pass


async def _notify_of_unlinking(clients: Clients, session: AsyncSession, event: CafeUnlinked) -> None:
    """Notify the chat if it can still be reached, and the managers unless one of them unlinked it."""
    if event.reason is not UnlinkReason.CHAT_GONE:
        await notify(
            clients,
            session,
            NotificationKind.UNLINKED,
            event,
            chat_id=event.former_tg_chat_id,
            thread_id=event.former_tg_thread_id,
        )
    if event.reason is UnlinkReason.CHAT_GONE:
        await alert(clients, session, event, notification_texts.chat_unreachable)
    elif event.reason is UnlinkReason.CHAT:
        await alert(clients, session, event, notification_texts.chat_unlinked_itself)
