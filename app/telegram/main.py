"""The bot process: long polling."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TypedDict

import stamina
from aiogram import Bot, Dispatcher
from aiogram.exceptions import AiogramError
from starlette.applications import Starlette

from app import health
from app.clients import Clients, open_clients
from app.events.log import connect
from app.process import beside
from app.settings import Settings, SettingsError
from app.telegram.bot import create_dispatcher, set_commands
from app.telegram.limiter import Limiter, Paced
from app.telegram.sender import make_bot

SETUP_RETRY_MAX_S = 30.0


class State(TypedDict):
    clients: Clients


def create_app(settings: Settings) -> Starlette:
    """Make the app of the bot process: health on HTTP, polling beside it."""
    token = settings.required("telegram_bot_token")
    if settings.telegram_webhook_url is not None:
        raise SettingsError("TELEGRAM_WEBHOOK_URL: is set, so the api process takes the updates, and no bot is needed")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with open_clients(settings) as clients:
            bot = make_bot(token, settings.telegram_api_url)
            bot.session.middleware(Paced(Limiter(clients.redis)))
            dispatcher = create_dispatcher()
            try:
                async with beside(app, poll(dispatcher, bot, clients), connect(settings, clients.kafka)):
                    yield {"clients": clients}
                    with suppress(RuntimeError):  # it has not begun
                        await dispatcher.stop_polling()
            finally:
                await bot.session.close()

    return Starlette(routes=health.routes, lifespan=lifespan)


async def poll(dispatcher: Dispatcher, bot: Bot, clients: Clients) -> None:
    """Take updates until told to stop. Telegram may be away at first; later aiogram tries again by itself.

    One update after the other: only then is an update confirmed to Telegram after it was handled, and not lost with a
    process that dies. One that comes again is harmless: asking twice is one request.
    """
    async for attempt in stamina.retry_context(
        on=(AiogramError, OSError), attempts=None, timeout=None, wait_max=SETUP_RETRY_MAX_S
    ):
        with attempt:
            await set_commands(bot)
            await bot.delete_webhook()
            await dispatcher.start_polling(
                bot, handle_signals=False, close_bot_session=False, handle_as_tasks=False, clients=clients
            )
