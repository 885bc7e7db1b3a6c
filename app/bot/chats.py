"""Changes of chats that Telegram reports."""

from aiogram.types import ChatMemberUpdated, Message

from app.clients import Clients
from app.services.links import migrate_chat, unlink_unreachable_chat


async def leave(event: ChatMemberUpdated, clients: Clients) -> None:
    """Unlink a chat that removed the bot now, before its next orders."""
    async with clients.db() as session:
        await unlink_unreachable_chat(session, event.chat.id)


async def migrate(message: Message, clients: Clients) -> None:
    """Follow a group that became a supergroup."""
    assert message.migrate_to_chat_id is not None
    async with clients.db() as session:
        await migrate_chat(session, message.chat.id, message.migrate_to_chat_id)
