"""Whether the bot may write to a chat, found out without a message.

https://core.telegram.org/bots/api#chatmember, https://core.telegram.org/bots/api#chatpermissions
"""

from aiogram import Bot
from aiogram.enums import ChatAction, ChatType
from aiogram.types import (
    ChatFullInfo,
    ChatMemberAdministrator,
    ChatMemberBanned,
    ChatMemberLeft,
    ChatMemberOwner,
    ChatMemberRestricted,
    ResultChatMemberUnion,
)

from app.telegram.sender import ChatGone, MayNotWrite, translate_errors


async def require_writing(bot: Bot, chat_id: int, thread_id: int | None = None) -> None:
    """Check that the bot may write to a chat, or to a forum topic in it.

    A chat action, which shows «typing» for 5 s, is refused by a person who has blocked the bot, and by a closed or deleted
    topic. The rights of the bot say whether it may write to a group or channel.

    Raises MayNotWrite, TopicUnavailable, ChatGone, and the other errors of `send`.
    """
    chat = await translate_errors(bot.get_chat(chat_id))
    if chat.type != ChatType.PRIVATE:
        _require_rights(chat, await translate_errors(bot.get_chat_member(chat_id, bot.id)))
    if chat.type == ChatType.PRIVATE or chat.is_forum or thread_id is not None:
        await translate_errors(bot.send_chat_action(chat_id, ChatAction.TYPING, message_thread_id=thread_id))


def _require_rights(chat: ChatFullInfo, member: ResultChatMemberUnion) -> None:
    """Raises MayNotWrite, ChatGone."""
    members_may = chat.permissions is None or chat.permissions.can_send_messages is not False
    match member:
        case ChatMemberLeft() | ChatMemberBanned() | ChatMemberRestricted(is_member=False):
            raise ChatGone("the bot is not a member of the chat")
        case ChatMemberOwner():
            may_write = True
        case ChatMemberAdministrator():
            may_write = chat.type != ChatType.CHANNEL or bool(member.can_post_messages)
        case ChatMemberRestricted():
            may_write = member.can_send_messages and members_may
        case _:
            may_write = chat.type != ChatType.CHANNEL and members_may
    if not may_write:
        raise MayNotWrite("the bot has no right to send messages to the chat")
