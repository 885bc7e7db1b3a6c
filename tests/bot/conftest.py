"""The running bot, and its chats."""

from collections.abc import AsyncIterator

import pytest

from app.clients import Clients
from app.dev.telegram.chats import Chat
from tests.bot.running import polling_bot
from tests.telegram_standin import World


@pytest.fixture
async def bot(world: World, clients: Clients) -> AsyncIterator[World]:
    """The running bot."""
    async with polling_bot(world, clients):
        yield world


@pytest.fixture
def private_chat(world: World) -> Chat:
    """A private chat with the bot."""
    return world.person()


@pytest.fixture
def group(world: World) -> Chat:
    """A group with the bot."""
    return world.group()
