"""The events process: the relay, the Kafka handlers, and the delivery of notifications."""

import asyncio
from contextlib import AsyncExitStack

from starlette.applications import Starlette

from app.clients import Clients
from app.events.kafka import connect
from app.events.relay import relay
from app.handlers import subscribers
from app.handlers.notifications import delivery_broker
from app.processes import health
from app.processes.background import Parts, lifespan
from app.settings import Settings
from app.telegram.calls import open_bot
from app.telegram.limiter import Limiter


def create_app(settings: Settings) -> Starlette:
    """Make the app of the events process."""
    token = settings.required("telegram_bot_token")

    async def start(clients: Clients, stack: AsyncExitStack) -> Parts:
        limiter = Limiter(clients.redis)
        bot = await stack.enter_async_context(open_bot(token, settings.telegram_api_url, limiter))
        subscribers.register(clients)
        deliveries = delivery_broker(clients, bot)

        async def stop() -> None:
            await asyncio.gather(deliveries.stop(), clients.kafka.stop())

        await deliveries.start()
        return Parts([connect(settings, clients.kafka), relay(clients)], stop=stop)

    return Starlette(routes=health.routes, lifespan=lifespan(settings, start))
