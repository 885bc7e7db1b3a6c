"""What chats are told."""

from sqlalchemy.ext.asyncio import AsyncSession

from app.events.log import outbox
from app.models import Notification, NotificationKind

DELIVERY_QUEUE = "telegram"
"""The outbox queue whose rows are the ids of notifications to send."""


async def queue(session: AsyncSession, kind: NotificationKind, cafe_id: int, chat_id: int, text: str) -> Notification:
    """Note a message to a chat, to be sent once the caller's transaction is committed.

    Args:
        chat_id: Telegram's id of the chat.
        text: Telegram's HTML, at most 4,096 characters.
    """
    notification = Notification(kind=kind, cafe_id=cafe_id, tg_chat_id=chat_id, text=text)
    session.add(notification)
    await session.flush()
    await outbox.publish(str(notification.id).encode(), queue=DELIVERY_QUEUE, session=session)
    return notification
