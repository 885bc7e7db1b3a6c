"""Updates by webhook, in the api process.

https://core.telegram.org/bots/api#setwebhook
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from aiogram.types import Update
from pydantic import ValidationError
from redis.exceptions import LockError, RedisError
from sqlalchemy.dialects.postgresql import insert
from starlette.requests import Request
from starlette.responses import Response

from app.bot.dispatcher import create_dispatcher, set_commands, setup_attempts
from app.clients import Clients
from app.errors import RETRY_AFTER_S, ServiceUnavailable, as_lunchbot_error
from app.log import get_log
from app.models import Inbox
from app.settings import Settings
from app.telegram.sender import make_bot

log = get_log(__name__)

CONSUMER = "telegram-webhook"
SECRET_HEADER = "X-Telegram-Bot-Api-Secret-Token"  # noqa: S105 a header's name, not a secret

LOCK_S = 60
"""How long an update stays locked after its process died. Telegram repeats it until it is handled."""


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
        """Register the address with Telegram. While Telegram is unavailable, it retries."""
        async for attempt in setup_attempts():
            with attempt:
                await set_commands(self.bot)
                await self.bot.set_webhook(
                    self._url,
                    secret_token=self._secret,
                    allowed_updates=self._dispatcher.resolve_used_update_types(),
                )
        log.info("webhook.registered")

    async def respond(self, request: Request) -> Response:
        """Handle one update, once. After an error Telegram repeats it."""
        if not secrets.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), self._secret.encode()):
            return Response(status_code=403)
        try:
            update = Update.model_validate_json(await request.body(), context={"bot": self.bot})
        except ValidationError as error:
            log.warning("webhook.unreadable", problems=error.error_count())
            return Response(status_code=400)
        clients: Clients = request.state.clients
        async with _lock(clients, update.update_id) as is_mine:
            if not is_mine:
                return Response(status_code=503, headers={"Retry-After": "1"})
            try:
                await self._handle_once(clients, update)
            except Exception as error:
                if not isinstance(as_lunchbot_error(error), ServiceUnavailable):
                    raise
                log.warning("webhook.deferred", update=update.update_id, error=repr(error))
                return Response(status_code=503, headers={"Retry-After": str(RETRY_AFTER_S)})
        return Response(status_code=200)

    async def _handle_once(self, clients: Clients, update: Update) -> None:
        async with clients.db() as session:
            if await session.get(Inbox, (CONSUMER, str(update.update_id))) is not None:
                return
        await self._dispatcher.feed_update(self.bot, update, clients=clients)
        async with clients.db() as session:
            handled = insert(Inbox).values(consumer=CONSUMER, event_id=str(update.update_id))
            await session.execute(handled.on_conflict_do_nothing())


@asynccontextmanager
async def _lock(clients: Clients, update_id: int) -> AsyncIterator[bool]:
    """Keep other processes from handling the same update meanwhile. The value is False if one has it already.

    Without Redis, deduplication relies on the inbox table.
    """
    lock = clients.redis.lock(f"telegram:update:{update_id}", timeout=LOCK_S, blocking=False)
    try:
        is_mine = await lock.acquire()
    except (RedisError, OSError) as error:
        log.warning("webhook.not_locked", error=str(error))
        yield True
        return
    try:
        yield is_mine
    finally:
        if is_mine:
            try:
                await lock.release()
            except LockError:
                log.warning("webhook.lock_expired", update=update_id)
            except (RedisError, OSError) as error:
                log.warning("webhook.not_released", error=str(error))
