"""Telegram's stand-in over HTTP: its chats, the messages that users write, and the messages that they read."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from aiogram import Bot

from app.clients import Clients
from app.dev.telegram import create_telegram
from app.dev.telegram.chats import Chat, Person
from app.dev.telegram.faults import Failure, FailureKind
from app.dev.telegram.state import Telegram
from app.telegram.calls import open_bot
from app.telegram.limiter import Limiter
from app.telegram.sender import make_bot
from tests.servers import serving

TOKEN = "42:TEST-token"


class World:
    """The served stand-in with our bot."""

    def __init__(self, address: str, state: Telegram, bot: Bot) -> None:
        self.address = address
        self.state = state
        self.bot = bot

    def person(self, language: str = "en") -> Chat:
        """Add the private chat of a person who uses Telegram in `language`."""
        id_ = self.state.free_id("private")
        return self.state.add_chat(Chat(id_, "private", person=Person(id_, "Anna", "anna_k", language)))

    def group(self) -> Chat:
        """Add a group."""
        return self.state.add_chat(Chat(self.state.free_id("supergroup"), "supergroup", "Lunch"))

    def forum(self, *topics: int) -> Chat:
        """Add a group with these topics."""
        chat = self.group()
        for topic in topics:
            self.state.set_topic(chat, topic, "open")
        return chat

    def say(self, chat: Chat, text: str, person: Person | None = None, topic: int | None = None) -> None:
        """Write a message as `person`, as the person of a private chat, or as Boris in a group."""
        self.state.write(chat, person or chat.person or Person(77, "Boris", "boris", "en"), text, topic)

    def fail(self, kind: FailureKind, *, method: str = "sendMessage", times: int | None = 1, after: int = 1) -> None:
        """Make the next `times` calls of a method fail. `after` is Telegram's `retry_after`, in seconds."""
        retry_after = after if kind is FailureKind.RATE_LIMIT else None
        self.state.failures.add(Failure(method=method, kind=kind, times=times, retry_after=retry_after))

    @contextmanager
    def dropping_calls_that_hang(self) -> Iterator[None]:
        """Break the connections of calls that hang, until the block ends."""
        self.state.closing.set()
        try:
            yield
        finally:
            self.state.closing.clear()


@asynccontextmanager
async def limited_bot(world: World, clients: Clients, *, answers: bool = False) -> AsyncIterator[Bot]:
    """Open a bot that obeys Telegram's limits together with those of other processes."""
    async with open_bot(TOKEN, world.address, Limiter(clients.redis), answers=answers) as bot:
        yield bot


def read_in(chat: Chat) -> list[str]:
    """Return the bot's messages in a chat, as Telegram's HTML."""
    return [message.content.original for message in chat.messages.values() if message.is_from_bot]


def read_in_topic(chat: Chat, topic: int | None) -> list[str]:
    """Return the bot's messages in a topic of a chat; None for those without a topic."""
    messages = [message for message in chat.messages.values() if message.is_from_bot and message.thread_id == topic]
    return [message.content.original for message in messages]


@asynccontextmanager
async def served_world() -> AsyncIterator[World]:
    """Serve a stand-in during the block."""
    app = create_telegram(token=TOKEN)
    async with serving(app) as address:
        bot = make_bot(TOKEN, address)
        try:
            yield World(address, app.state.telegram, bot)
        finally:
            await bot.session.close()
            app.state.telegram.close()


@pytest.fixture(scope="module")
async def shared_world() -> AsyncIterator[World]:
    """One server for all tests of a module: its start and stop take half a second."""
    async with served_world() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> World:
    """The stand-in without chats, messages and failures."""
    shared_world.state.reset()
    return shared_world
