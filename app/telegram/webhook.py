"""Taking updates from Telegram by HTTP, in the api process, instead of asking for them.

https://core.telegram.org/bots/api#setwebhook
"""

import secrets
from urllib.parse import urlsplit

import stamina
from aiogram.exceptions import AiogramError
from aiogram.types import Update
from pydantic import ValidationError
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert
from starlette.requests import Request
from starlette.responses import Response

from app.clients import Clients
from app.errors import RETRY_AFTER_S, ServiceUnavailable, as_lunchbot_error
from app.log import get_log
from app.models import Inbox
from app.settings import Settings
from app.telegram.bot import create_dispatcher, set_commands
from app.telegram.sender import make_bot

log = get_log(__name__)

CONSUMER = "telegram-webhook"
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 a name, no secret
SETUP_RETRY_MAX_S = 30.0

CLAIM_S = 60
"""How long an update stays with a process that died with it; Telegram brings it again until it is taken."""


class Webhook:
    """The address that Telegram sends updates to.

    Raises SettingsError if the token or the secret is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self.bot = make_bot(settings.required("telegram_bot_token"), settings.telegram_api_url)
        self._url = str(settings.telegram_webhook_url)
        self._secret = settings.required("telegram_webhook_secret")
        self._dispatcher = create_dispatcher()

    @property
    def path(self) -> str:
        return urlsplit(self._url).path or "/"

    async def register(self) -> None:
        """Tell Telegram the address, however long Telegram is away."""
        async for attempt in stamina.retry_context(
            on=(AiogramError, OSError), attempts=None, timeout=None, wait_max=SETUP_RETRY_MAX_S
        ):
            with attempt:
                await set_commands(self.bot)
                await self.bot.set_webhook(
                    self._url,
                    secret_token=self._secret,
                    allowed_updates=self._dispatcher.resolve_used_update_types(),
                )
        log.info("webhook.registered")

    async def respond(self, request: Request) -> Response:
        """Take one update, once; what could not be handled is brought again."""
        if not secrets.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), self._secret.encode()):
            return Response(status_code=403)
        try:
            update = Update.model_validate_json(await request.body(), context={"bot": self.bot})
        except ValidationError as error:
            log.warning("webhook.unreadable", problems=error.error_count())
            return Response(status_code=400)
        clients: Clients = request.state.clients
        if not await _claim(clients, update.update_id):
            return Response(status_code=503, headers={"Retry-After": "1"})
        try:
            await self._once(clients, update)
        except Exception as error:
            if not isinstance(as_lunchbot_error(error), ServiceUnavailable):
                raise
            log.warning("webhook.not_now", update=update.update_id, error=repr(error))
            return Response(status_code=503, headers={"Retry-After": str(RETRY_AFTER_S)})
        finally:
            await _release(clients, update.update_id)
        return Response(status_code=200)

    async def _once(self, clients: Clients, update: Update) -> None:
        async with clients.db() as session:
            if await session.get(Inbox, (CONSUMER, str(update.update_id))) is not None:
                return
        await self._dispatcher.feed_update(self.bot, update, clients=clients)
        async with clients.db() as session:
            handled = insert(Inbox).values(consumer=CONSUMER, event_id=str(update.update_id))
            await session.execute(handled.on_conflict_do_nothing())


async def _claim(clients: Clients, update_id: int) -> bool:
    """Keep others from handling the same update at the same time. With Redis away the note of what was handled must do."""
    try:
        return bool(await clients.redis.set(_key(update_id), "1", nx=True, ex=CLAIM_S))
    except (RedisError, OSError) as error:
        log.warning("webhook.not_claimed", error=str(error))
        return True


async def _release(clients: Clients, update_id: int) -> None:
    try:
        await clients.redis.delete(_key(update_id))
    except (RedisError, OSError) as error:
        log.warning("webhook.not_released", error=str(error))


def _key(update_id: int) -> str:
    return f"telegram:update:{update_id}"
