"""A bot that polls, and what people do in its chats."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiogram import Bot

from app.bot.polling import Polling
from app.clients import Clients
from app.dev.telegram.chats import Chat, Person
from tests.servers import until
from tests.telegram_standin import World, read_in


@asynccontextmanager
async def polling_bot(world: World, clients: Clients, bot: Bot | None = None) -> AsyncIterator[None]:
    """Run the bot during the block, as the bot process does."""
    task = asyncio.create_task(Polling(bot or world.bot, clients).run())
    await until(lambda: world.state.updates.is_polled)
    yield
    await stop_polling(task)


async def stop_polling(task: asyncio.Task[None]) -> None:
    """Stop polling, as the end of the process does."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def answer(world: World, chat: Chat, text: str, person: Person | None = None, topic: int | None = None) -> str:
    """Write into a chat, and return the bot's answer."""
    before = len(read_in(chat))
    world.say(chat, text, person, topic)
    await until(lambda: len(read_in(chat)) > before)
    return read_in(chat)[-1]


async def until_handled(world: World) -> None:
    """Wait until the bot has handled all updates: then it confirms them."""
    await until(lambda: not len(world.state.updates))
