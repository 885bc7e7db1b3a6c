"""Everything the stand-in knows, and what people do to it."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from app.dev.telegram.calls import Json, whole_number
from app.dev.telegram.chats import (
    MESSAGE_LENGTH,
    Chat,
    ChatType,
    Content,
    Membership,
    Message,
    Person,
    Press,
    type_of,
)
from app.dev.telegram.faults import Failures, RateLimits
from app.dev.telegram.formatting import mark_commands, utf16_length
from app.dev.telegram.updates import UpdateQueue

BOT_NAME = "Lunchbot"
BOT_USERNAME = "lunch_stand_in_bot"
DEFAULT_BOT_ID = 7_012_345_678

_FIRST_IDS: dict[ChatType, int] = {"private": 5_208_114_700, "group": -4_120_558_300, "supergroup": -1_002_184_226_500}
_ID_STEP = 7_919
"""Invented ids lie apart, so that no test comes to rely on neighbours."""


class Changes:
    """Tells everybody who looks on that something has changed."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[Json | None]] = set()

    def announce(self, kind: str, **details: object) -> None:
        """Tell all listeners."""
        for listener in self._listeners:
            listener.put_nowait({"kind": kind} | details)

    def close(self) -> None:
        """Tell all listeners that nothing more will come."""
        for listener in self._listeners:
            listener.put_nowait(None)

    @contextmanager
    def heard(self) -> Iterator[asyncio.Queue[Json | None]]:
        """A queue of every change from now on; None is the last."""
        listener: asyncio.Queue[Json | None] = asyncio.Queue()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)


class Telegram:
    """Everything the stand-in knows. One bot lives in it, whatever tokens it is called with."""

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
        """Forget chats, messages, updates, failures, refusals (how many of each code), commands and the webhook."""
        self.chats: dict[int, Chat] = {}
        self.presses: dict[str, Press] = {}
        self.commands: dict[tuple[str, str], list[Json]] = {}
        self.failures = Failures()
        self.limits = RateLimits(self._clock)
        self.refusals: Counter[int] = Counter()
        self.updates.forget()
        self.updates.allowed = []
        self.updates.set_webhook(None)
        self.changes.announce("reset")

    def close(self) -> None:
        """End what waits: long polls, hanging calls, event streams, the webhook. Call it before the server stops."""
        self.closing.set()
        self.changes.close()
        self.updates.set_webhook(None)

    def speak_as(self, token: str) -> None:
        """Let the bot be the one that the token names."""
        self._bot_id = int(token.partition(":")[0])

    def bot_user(self) -> Json:
        """The bot as a `User` of the Bot API."""
        return {"id": self._bot_id, "is_bot": True, "first_name": BOT_NAME, "username": BOT_USERNAME}

    def find_chat(self, wanted: str) -> Chat | None:
        """The chat by its id, or a supergroup by its @username."""
        if wanted.startswith("@"):
            name = wanted[1:].lower()
            return next((chat for chat in self.chats.values() if (chat.username or "").lower() == name), None)
        chat_id = whole_number(wanted)
        return None if chat_id is None else self.chats.get(chat_id)

    def free_id(self, kind: ChatType) -> int:
        """An id that no chat has yet, in the range of its type."""
        step = _ID_STEP if kind == "private" else -_ID_STEP
        return next(number for number in itertools.count(_FIRST_IDS[kind], step) if number not in self.chats)

    def add_chat(self, chat: Chat) -> Chat:
        """Put a chat into the world.

        Raises ValueError when its id is taken or out of its type's range.
        """
        if chat.id in self.chats:
            complaint = f"there is a chat {chat.id} already"
            raise ValueError(complaint)
        if type_of(chat.id) != chat.type:
            complaint = f"{chat.id} cannot be the id of a {chat.type} chat"
            raise ValueError(complaint)
        self.chats[chat.id] = chat
        self.changes.announce("chat", chat_id=chat.id)
        return chat

    def upgrade(self, chat: Chat, new_id: int | None) -> Chat:
        """The supergroup that a group becomes; made when it does not exist yet."""
        new_id = new_id or self.free_id("supergroup")
        return self.chats.get(new_id) or self.add_chat(Chat(new_id, "supergroup", chat.title))

    def write(self, chat: Chat, person: Person, text: str) -> tuple[Message, int | None]:
        """Let a person write; the message, and the id of the update if the bot gets one.

        Raises ValueError for a text that Telegram's clients would not send.
        """
        text = text.strip()
        if not text or utf16_length(text) > MESSAGE_LENGTH:
            complaint = f"a message has 1 to {MESSAGE_LENGTH} characters, this one {utf16_length(text)}"
            raise ValueError(complaint)
        written = chat.add(person.as_user(), Content(text, mark_commands(text, []), original=text))
        self.changes.announce("message", chat_id=chat.id)
        if chat.membership != "member":
            return written, None
        return written, self.updates.put("message", chat.message_json(written))

    def press(self, chat: Chat, message: Message, person: Person, callback_data: str) -> tuple[Press, int | None]:
        """Let a person press a button; the press, and the id of its update.

        Raises ValueError when there is no such button.
        """
        if not message.has_button(callback_data):
            complaint = f"message {message.id} has no button with the data {callback_data!r}"
            raise ValueError(complaint)
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
        self.changes.announce("message", chat_id=chat.id)
        return press, self.updates.put("callback_query", query) if chat.membership == "member" else None

    def answer_press(self, press: Press, answer: Json) -> None:
        """Show the person who pressed what the bot has to say to it."""
        press.answer = answer
        self.changes.announce("answer", chat_id=press.chat_id, **answer)

    def change_membership(self, chat: Chat, membership: Membership, actor: Json) -> int | None:
        """Add the bot, throw it out, or block it; the id of the update that tells the bot.

        Raises ValueError for a way out that the chat does not have.
        """
        if chat.type == "private" and membership == "left":
            complaint = "a person can only block the bot (kicked) or allow it (member)"
            raise ValueError(complaint)
        change = {
            "chat": chat.as_chat(),
            "from": actor,
            "date": int(time.time()),
            "old_chat_member": self._bot_as_member(chat.membership),
            "new_chat_member": self._bot_as_member(membership),
        }
        chat.membership = membership
        self.changes.announce("chat", chat_id=chat.id)
        return self.updates.put("my_chat_member", change)

    def _bot_as_member(self, membership: Membership) -> Json:
        member: Json = {"status": membership, "user": self.bot_user()}
        return member | {"until_date": 0} if membership == "kicked" else member
