"""The bot process: long polling."""

from contextlib import AsyncExitStack

from starlette.applications import Starlette

from app.bot.polling import Polling
from app.clients import Clients
from app.events.kafka import connect
from app.processes import health
from app.processes.background import Parts, lifespan
from app.settings import NO_POLLING, Settings, SettingsError
from app.telegram.calls import open_bot
from app.telegram.limiter import Limiter


def create_app(settings: Settings) -> Starlette:
    """Make the app of the bot process."""
    token = settings.required("telegram_bot_token")
    if settings.telegram_webhook_url is not None:
        raise SettingsError(f"TELEGRAM_WEBHOOK_URL: {NO_POLLING}")

    async def start(clients: Clients, stack: AsyncExitStack) -> Parts:
        limiter = Limiter(clients.redis)
        bot = await stack.enter_async_context(open_bot(token, settings.telegram_api_url, limiter, answers=True))
        polling = Polling(bot, clients)
        return Parts(
            [polling.run(), connect(settings, clients.kafka)], state={"checks": {"telegram": polling.is_working}}
        )

    return Starlette(routes=health.routes, lifespan=lifespan(settings, start))
