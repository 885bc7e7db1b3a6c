"""The events process: the relay, the Kafka handlers, and the carrier of notifications."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from starlette.applications import Starlette

from app import health
from app.clients import Clients, open_clients
from app.events import handlers
from app.events.log import connect, relay
from app.process import beside
from app.settings import Settings
from app.telegram.sender import make_bot
from app.workers.deliveries import delivery_broker


class State(TypedDict):
    clients: Clients


def create_app(settings: Settings) -> Starlette:
    """Make the app of the events process: health on HTTP, work beside it."""
    token = settings.required("telegram_bot_token")

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[State]:
        async with open_clients(settings) as clients:
            bot = make_bot(token, settings.telegram_api_url)
            handlers.register(clients)
            deliveries = delivery_broker(clients, bot)

            try:
                async with beside(app, connect(settings, clients.kafka), relay(clients)):
                    await deliveries.start()
                    yield {"clients": clients}
                    await asyncio.gather(deliveries.stop(), clients.kafka.stop())
            finally:
                await bot.session.close()

    return Starlette(routes=health.routes, lifespan=lifespan)
