"""The state of the stand-in, and the actions of people in it."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.dev.faults import FaultQueue
from app.dev.standins import Json
from app.dev.telegram.calls import parse_integer
from app.dev.telegram.chats import (
    MESSAGE_LENGTH,
    Chat,
    ChatType,
    Content,
    Membership,
    Message,
    Person,
    Press,
    TopicState,
    find_chat_type,
)
from app.dev.telegram.faults import Failure, RateLimits
from app.dev.telegram.formatting import mark_commands, utf16_length
from app.dev.telegram.updates import UpdateQueue

BOT_NAME = "Lunchbot"
BOT_USERNAME = "lunch_stand_in_bot"
DEFAULT_BOT_ID = 7_012_345_678

_FIRST_IDS: dict[ChatType, int] = {"private": 5_208_114_700, "group": -4_120_558_300, "supergroup": -1_002_184_226_500}
PERMISSIONS = (
    "can_send_messages",
    "can_send_audios",
    "can_send_documents",
    "can_send_photos",
    "can_send_videos",
    "can_send_video_notes",
    "can_send_voice_notes",
    "can_send_polls",
    "can_send_other_messages",
    "can_add_web_page_previews",
    "can_react_to_messages",
    "can_edit_tag",
    "can_change_info",
    "can_invite_users",
    "can_pin_messages",
    "can_manage_topics",
)
"""What a group may forbid to its members (https://core.telegram.org/bots/api#chatpermissions)."""

ADMINISTRATOR_RIGHTS = (
    "can_be_edited",
    "is_anonymous",
    "can_manage_chat",
    "can_delete_messages",
    "can_manage_video_chats",
    "can_restrict_members",
    "can_promote_members",
    "can_change_info",
    "can_invite_users",
    "can_post_stories",
    "can_edit_stories",
    "can_delete_stories",
    "can_send_welcome_messages",
)
"""https://core.telegram.org/bots/api#chatmemberadministrator"""

_ID_STEP = 7_919
"""Distance between generated ids, so that no test relies on consecutive ids."""


class Changes:
    """Publishes changes of the state to its subscribers."""

    def __init__(self) -> None:
        self._subscribers: set[asyncio.Queue[Json | None]] = set()

    def publish(self, kind: str, **details: object) -> None:
        """Send a change to all subscribers."""
        for subscriber in self._subscribers:
            subscriber.put_nowait({"kind": kind} | details)

    def close(self) -> None:
        """End all subscriptions."""
        for subscriber in self._subscribers:
            subscriber.put_nowait(None)

    @contextmanager
    def subscribe(self) -> Iterator[asyncio.Queue[Json | None]]:
        """Yield a queue of every later change; None ends it."""
        subscriber: asyncio.Queue[Json | None] = asyncio.Queue()
        self._subscribers.add(subscriber)
        try:
            yield subscriber
        finally:
            self._subscribers.discard(subscriber)


class Telegram:
    """The state of the stand-in. It has one bot, which every valid token names."""

    def __init__(self, *, token: str | None, has_limits: bool, clock: Callable[[], float]) -> None:
        self.token = token
        self.has_limits = has_limits
        self.changes = Changes()
        self.updates = UpdateQueue()
        self.closing = asyncio.Event()
        self._clock = clock
        self._bot_id = int(token.partition(":")[0]) if token else DEFAULT_BOT_ID
        self._query_ids = itertools.count(4_382_100_117_000_001)
        self.reset()

    def reset(self) -> None:
        """Remove chats, messages, updates, failures, counts of refusals by code, commands and the webhook."""
        self.chats: dict[int, Chat] = {}
        self.presses: dict[str, Press] = {}
        self.commands: dict[tuple[str, str], list[Json]] = {}
        self.failures: FaultQueue[Failure] = FaultQueue()
        self.limits = RateLimits(self._clock)
        self.refusals: Counter[int] = Counter()
        self.updates.clear()
        self.updates.allowed = []
        self.updates.set_webhook(None)
        self.changes.publish("reset")

    def close(self) -> None:
        """End long polls, hanging calls, event streams and the webhook. Call this before the server stops."""
        self.closing.set()
        self.changes.close()
        self.updates.set_webhook(None)

    def set_bot_id(self, token: str) -> None:
        """Give the bot the id that the token contains."""
        self._bot_id = int(token.partition(":")[0])

    def bot_user(self) -> Json:
        """Return the bot as a `User` of the Bot API."""
        return {"id": self._bot_id, "is_bot": True, "first_name": BOT_NAME, "username": BOT_USERNAME}

    def find_chat(self, id_or_username: str) -> Chat | None:
        """Return a chat by its id, or a supergroup by its @username."""
        if id_or_username.startswith("@"):
            name = id_or_username[1:].lower()
            return next((chat for chat in self.chats.values() if (chat.username or "").lower() == name), None)
        chat_id = parse_integer(id_or_username)
        return None if chat_id is None else self.chats.get(chat_id)

    def free_id(self, kind: ChatType) -> int:
        """Return an unused id in the range of the chat type."""
        step = _ID_STEP if kind == "private" else -_ID_STEP
        first = _FIRST_IDS["supergroup" if kind == "channel" else kind]
        return next(number for number in itertools.count(first, step) if number not in self.chats)

    def add_chat(self, chat: Chat) -> Chat:
        """Add a chat.

        Raises ValueError when its id is taken or outside its type's range.
        """
        if chat.id in self.chats:
            raise ValueError(f"there is a chat {chat.id} already")
        if find_chat_type(chat.id) != ("supergroup" if chat.type == "channel" else chat.type):
            raise ValueError(f"{chat.id} cannot be the id of a {chat.type} chat")
        self.chats[chat.id] = chat
        self.changes.publish("chat", chat_id=chat.id)
        return chat

    def upgrade(self, chat: Chat, new_id: int | None) -> Chat:
        """Return the supergroup that a group becomes; create it if it does not exist."""
        new_id = new_id or self.free_id("supergroup")
        return self.chats.get(new_id) or self.add_chat(Chat(new_id, "supergroup", chat.title))

    def write(self, chat: Chat, person: Person, text: str, thread_id: int | None = None) -> tuple[Message, int | None]:
        """Add a person's message; return it, and the id of its update if the bot gets one.

        Raises ValueError for a text that Telegram's clients do not send, or for an unknown topic.
        """
        if thread_id is not None and thread_id not in chat.topics:
            raise ValueError(f"there is no topic {thread_id} in chat {chat.id}")
        text = text.strip()
        if not text or utf16_length(text) > MESSAGE_LENGTH:
            raise ValueError(f"a message has 1 to {MESSAGE_LENGTH} characters, this one {utf16_length(text)}")
        message = chat.add(person.as_user(), Content(text, mark_commands(text, []), original=text), thread_id=thread_id)
        self.changes.publish("message", chat_id=chat.id)
        if not chat.has_bot:
            return message, None
        return message, self.updates.put("message", chat.message_json(message))

    def press(self, chat: Chat, message: Message, person: Person, callback_data: str) -> tuple[Press, int | None]:
        """Press a button as a person; return the press, and the id of its update if the bot gets one.

        Raises ValueError when the message has no such button.
        """
        if not message.has_button(callback_data):
            raise ValueError(f"message {message.id} has no button with the data {callback_data!r}")
        press = Press(str(next(self._query_ids)), chat.id, callback_data, person.as_user())
        message.presses.append(press)
        self.presses[press.id] = press
        query = {
            "id": press.id,
            "from": press.sender,
            "message": chat.message_json(message),
            "chat_instance": str(chat.id * _ID_STEP),
            "data": callback_data,
        }
        self.changes.publish("message", chat_id=chat.id)
        return press, self.updates.put("callback_query", query) if chat.has_bot else None

    def answer_press(self, press: Press, answer: Json) -> None:
        """Show the bot's answer to the person who pressed."""
        press.answer = answer
        self.changes.publish("answer", chat_id=press.chat_id, **answer)

    def change_membership(self, chat: Chat, membership: Membership, actor: Json) -> int | None:
        """Add, remove or block the bot; return the id of the update about this.

        Raises ValueError for a membership that the type of chat does not have.
        """
        if chat.type == "private" and membership not in {"member", "kicked"}:
            raise ValueError("a person can only block the bot (kicked) or allow it (member)")
        change = {
            "chat": chat.as_chat(),
            "from": actor,
            "date": int(time.time()),
            "old_chat_member": self.bot_as_member(chat, chat.membership),
            "new_chat_member": self.bot_as_member(chat, membership),
        }
        chat.membership = membership
        self.changes.publish("chat", chat_id=chat.id)
        return self.updates.put("my_chat_member", change)

    def set_topic(self, chat: Chat, thread_id: int, state: TopicState | None) -> None:
        """Open or close a topic; None deletes it.

        Raises ValueError for a chat that cannot have topics.
        """
        if chat.type != "supergroup":
            raise ValueError(f"a {chat.type} chat has no topics")
        if state is None:
            chat.topics.pop(thread_id, None)
        else:
            chat.topics[thread_id] = state
        self.changes.publish("chat", chat_id=chat.id)

    def bot_as_member(self, chat: Chat, membership: Membership) -> Json:
        """Return the bot as a `ChatMember` of the Bot API."""
        member: Json = {"status": membership, "user": self.bot_user()}
        match membership:
            case "kicked":
                return member | {"until_date": 0}
            case "administrator":
                rights = dict.fromkeys(ADMINISTRATOR_RIGHTS, False)
                return member | rights | ({"can_post_messages": chat.may_post} if chat.type == "channel" else {})
            case "restricted":
                return member | {"is_member": True, "until_date": 0} | dict.fromkeys(PERMISSIONS, False)
            case _:
                return member
