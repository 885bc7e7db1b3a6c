"""The bot process: long polling."""

from contextlib import AsyncExitStack

from starlette.applications import Starlette

from app.bot.polling import Polling
from app.clients import Clients
from app.events.kafka import connect
from app.processes import health
from app.processes.background import Parts, lifespan
from app.settings import Settings, SettingsError
from app.telegram.calls import obey_limits
from app.telegram.limiter import Limiter
from app.telegram.sender import make_bot


def create_app(settings: Settings) -> Starlette:
    """Make the app of the bot process."""
    token = settings.required("telegram_bot_token")
    if settings.telegram_webhook_url is not None:
        raise SettingsError("TELEGRAM_WEBHOOK_URL: is set, so the api process gets the updates, and no bot is needed")

    async def start(clients: Clients, stack: AsyncExitStack) -> Parts:
        bot = await stack.enter_async_context(make_bot(token, settings.telegram_api_url).context())
        obey_limits(bot, Limiter(clients.redis), answers=True)
        polling = Polling(bot, clients)
        return Parts(
            [polling.run(), connect(settings, clients.kafka)], state={"checks": {"telegram": polling.is_working}}
        )

    return Starlette(routes=health.routes, lifespan=lifespan(settings, start))
