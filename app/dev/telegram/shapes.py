"""Requests and responses of the control API."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.dev.standins import Json
from app.dev.telegram.chats import Chat, ChatType, Content, Membership, Message, Person, Press, TopicState

DEFAULT_PERSON = Person(5_300_700_900, "Alex", "alex_at_lunch")
"""Acts in a group when the request names no person."""

MAX_ID = 2**52
"""Telegram's ids have at most 52 significant bits (https://core.telegram.org/bots/api#chat)."""

type Name = Annotated[str, Field(min_length=1, max_length=255)]
type Username = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{3,32}$")]


class _Input(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Sender(_Input):
    """The person that acts."""

    id: int = Field(gt=0, lt=MAX_ID)
    first_name: Name = DEFAULT_PERSON.first_name
    username: Username | None = None
    language_code: str = "en"

    def to_person(self) -> Person:
        """Return the person."""
        return Person(self.id, self.first_name, self.username, self.language_code)


class NewChat(_Input):
    """A chat to create."""

    id: int | None = Field(default=None, gt=-MAX_ID, lt=MAX_ID)
    type: ChatType = "private"
    title: Name = "Lunch group"
    first_name: Name = DEFAULT_PERSON.first_name
    username: Username | None = None
    language_code: str = "en"
    status: Membership = "member"
    """The bot's membership; `left` creates a group without the bot."""


class _Action(_Input):
    sender: Sender | None = Field(default=None, alias="from")


class NewMessage(_Action):
    """A message from a person."""

    text: str
    thread_id: int | None = None
    """The forum topic."""


class ButtonPress(_Action):
    """A press of a button by a person."""

    message_id: int
    callback_data: str


class MembershipChange(_Action):
    """The bot's new membership in the chat."""

    status: Membership


class NewTopic(_Input):
    """A forum topic to open, close or delete."""

    thread_id: int = Field(gt=0, lt=MAX_ID)
    """1 is «General»."""
    state: TopicState | None = "open"
    """None deletes the topic."""


def chat_json(chat: Chat) -> Json:
    """Format a chat with its last message."""
    messages = list(chat.messages.values())
    return {
        "id": chat.id,
        "type": chat.type,
        "title": chat.title if chat.person is None else None,
        "first_name": chat.person.first_name if chat.person else None,
        "username": chat.person.username if chat.person else chat.username,
        "language_code": chat.person.language_code if chat.person else None,
        "status": chat.membership,
        "topics": [{"thread_id": thread_id, "state": state} for thread_id, state in chat.topics.items()],
        "message_count": len(messages),
        "last_message": message_json(messages[-1]) if messages else None,
    }


def message_json(message: Message) -> Json:
    """Format a message with its earlier versions and the presses of its buttons."""
    return {
        "message_id": message.id,
        "direction": "from_bot" if message.is_from_bot else "to_bot",
        "from": message.sender,
        "date": message.date,
        "edit_date": message.edit_date,
        "thread_id": message.thread_id,
        "reply_to_message_id": message.reply_to.id if message.reply_to else None,
        "edits": [content_json(content) for content in message.edits],
        "presses": [press_json(press) for press in message.presses],
    } | content_json(message.content)


def content_json(content: Content) -> Json:
    """Format one version of a message."""
    return {
        "text": content.text,
        "original_text": content.original,
        "parse_mode": content.parse_mode or None,
        "entities": content.entities,
        "buttons": (content.keyboard or {}).get("inline_keyboard", []),
    }


def press_json(press: Press) -> Json:
    """Format a press of a button; `answer` is None until the bot answers."""
    return {
        "callback_query_id": press.id,
        "callback_data": press.callback_data,
        "from": press.sender,
        "answer": press.answer,
    }
