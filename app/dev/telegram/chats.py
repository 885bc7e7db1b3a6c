"""Chats, people and messages."""

import time
from dataclasses import dataclass, field
from typing import Literal

from app.dev.standins import Json
from app.dev.telegram.calls import BotApiError, bad_request
from app.dev.telegram.formatting import Entity

type ChatType = Literal["private", "group", "supergroup", "channel"]
type Membership = Literal["member", "administrator", "restricted", "left", "kicked"]
"""A restricted bot may not write."""

type TopicState = Literal["open", "closed"]

GENERAL = 1
"""The topic of messages without one, in a chat with topics. A bot cannot name it (https://core.telegram.org/api/forum)."""

MESSAGE_LENGTH = 4096
"""In UTF-16 code units, after entities parsing (https://core.telegram.org/bots/api#sendmessage)."""

FIRST_SUPERGROUP_ID = -1_000_000_000_001
"""Supergroups and channels have ids from here down (https://core.telegram.org/api/bots/ids)."""


@dataclass
class Person:
    """A person with a Telegram account."""

    id: int
    first_name: str
    username: str | None = None
    language_code: str = "en"

    def as_user(self) -> Json:
        """Return a `User` of the Bot API."""
        user: Json = {"id": self.id, "is_bot": False, "first_name": self.first_name}
        return user | _without_none(username=self.username, language_code=self.language_code)


@dataclass(frozen=True)
class Content:
    """The part of a message that an edit replaces."""

    text: str
    entities: list[Entity] = field(default_factory=list)
    keyboard: Json | None = None
    """The inline keyboard, as sent."""
    original: str = ""
    """The text before entities parsing."""
    parse_mode: str = ""

    def looks_like(self, other: "Content") -> bool:
        """Whether readers see the same text, entities and buttons."""
        return (self.text, self.entities, self.keyboard) == (other.text, other.entities, other.keyboard)


@dataclass
class Press:
    """A press of a button, with the bot's answer if there is one."""

    id: str
    chat_id: int
    callback_data: str
    sender: Json
    answer: Json | None = None


@dataclass
class Message:
    """A message in a chat, with its earlier versions and the presses of its buttons."""

    id: int
    date: int
    sender: Json
    content: Content
    reply_to: "Message | None" = None
    thread_id: int | None = None
    """The forum topic."""
    edit_date: int | None = None
    edits: list[Content] = field(default_factory=list)
    """Earlier versions, oldest first."""
    presses: list[Press] = field(default_factory=list)

    @property
    def is_from_bot(self) -> bool:
        """Whether the bot wrote it."""
        return bool(self.sender["is_bot"])

    def has_button(self, callback_data: str) -> bool:
        """Whether the message now has a button with this data."""
        rows = (self.content.keyboard or {}).get("inline_keyboard", [])
        return any(button.get("callback_data") == callback_data for row in rows for button in row)

    def edit(self, content: Content) -> None:
        """Replace the content and keep the old one.

        Raises BotApiError when the new content looks like the old.
        """
        if content.looks_like(self.content):
            raise bad_request(
                "message is not modified: specified new message content and reply markup are exactly the same as a "
                "current content and reply markup of the message"
            )
        self.edits.append(self.content)
        self.content = content
        self.edit_date = int(time.time())


@dataclass
class Chat:
    """A private chat with the bot, or a group."""

    id: int
    type: ChatType
    title: str = ""
    """Set for groups; a private chat has its person's name."""
    person: Person | None = None
    username: str | None = None
    membership: Membership = "member"
    members_may_write: bool = True
    """The default permission of a group. Administrators do not need it."""
    may_post: bool = True
    """Whether the bot, as an administrator of a channel, may post messages."""
    topics: dict[int, TopicState] = field(default_factory=dict)
    """The forum topics, if the chat has any. `GENERAL` is open if it is not in there."""
    messages: dict[int, Message] = field(default_factory=dict)

    @property
    def has_bot(self) -> bool:
        """Whether the bot is in the chat."""
        return self.membership not in {"left", "kicked"}

    def as_chat(self) -> Json:
        """Return a `Chat` of the Bot API."""
        if self.person is not None:
            return {"id": self.id, "type": "private", "first_name": self.person.first_name} | _without_none(
                username=self.person.username
            )
        is_forum = True if self.topics else None
        return {"id": self.id, "type": self.type, "title": self.title} | _without_none(
            username=self.username, is_forum=is_forum
        )

    def require_bot(self) -> None:
        """Raise BotApiError (403) if the bot is not here."""
        if self.has_bot:
            return
        if self.type == "private":
            raise BotApiError(403, "Forbidden: bot was blocked by the user")
        reason = "was kicked from" if self.membership == "kicked" else "is not a member of"
        raise BotApiError(403, f"Forbidden: bot {reason} the {self.type} chat")

    def require_writing(self, thread_id: int) -> None:
        """Raise BotApiError if the bot may not write here.

        Args:
            thread_id: The forum topic; 0 for the chat itself.
        """
        self.require_bot()
        is_administrator = self.membership == "administrator"
        if self.type == "channel" and not (is_administrator and self.may_post):
            raise bad_request("need administrator rights in the channel chat")
        may_write = is_administrator or (self.members_may_write and self.membership != "restricted")
        if self.type in {"group", "supergroup"} and not may_write:
            raise bad_request("not enough rights to send text messages to the chat")
        if thread_id and (thread_id == GENERAL or thread_id not in self.topics):
            raise bad_request("message thread not found")
        if self.topics.get(thread_id or GENERAL) == "closed":
            raise bad_request("TOPIC_CLOSED")

    def add(
        self, sender: Json, content: Content, reply_to: Message | None = None, thread_id: int | None = None
    ) -> Message:
        """Append a message to the chat."""
        message = Message(len(self.messages) + 1, int(time.time()), sender, content, reply_to, thread_id)
        self.messages[message.id] = message
        return message

    def message_json(self, message: Message) -> Json:
        """Return a `Message` of the Bot API. It contains the message that it replies to, but not that one's reply."""
        content = message.content
        reply = message.reply_to
        return {
            "message_id": message.id,
            "from": message.sender,
            "chat": self.as_chat(),
            "date": message.date,
            "text": content.text,
        } | _without_none(
            message_thread_id=message.thread_id,
            is_topic_message=True if message.thread_id else None,
            entities=content.entities or None,
            reply_markup=content.keyboard,
            edit_date=message.edit_date,
            reply_to_message=reply and self.message_json(Message(reply.id, reply.date, reply.sender, reply.content)),
        )


def find_chat_type(chat_id: int) -> ChatType:
    """Return the type of chat that has ids in this range."""
    if chat_id > 0:
        return "private"
    return "supergroup" if chat_id <= FIRST_SUPERGROUP_ID else "group"


def _without_none(**values: object) -> Json:
    return {name: value for name, value in values.items() if value is not None}
