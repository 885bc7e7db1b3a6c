"""Updates by webhook, in the api process.

https://core.telegram.org/bots/api#setwebhook
"""

import json
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from aiogram.types import Update
from redis.exceptions import LockError, RedisError
from sqlalchemy.dialects.postgresql import insert
from starlette.requests import Request
from starlette.responses import Response

from app.bot.dispatcher import set_commands, setup_attempts
from app.bot.handling import HandlingTimeout, UpdateHandler
from app.bot.turns import TooManyWaiting, TurnTimeout
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
"""How long an update stays locked after its process died, longer than its turn and its handling together. Telegram repeats
it until it is handled."""

TURN_PATIENCE_S = 10.0
"""How long an update waits for the earlier ones of its chat. Telegram sends those of one chat one after the other, so they
meet only after one of them has taken too long."""


class Webhook:
    """The address that Telegram sends updates to.

    Raises SettingsError if the token or the secret is missing.
    """

    def __init__(self, settings: Settings) -> None:
        self.bot = make_bot(settings.required("telegram_bot_token"), settings.telegram_api_url)
        self._url = str(settings.telegram_webhook_url)
        self._secret = settings.required("telegram_webhook_secret")
        self._handler = UpdateHandler(self.bot)

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
                    allowed_updates=list(self._handler.allowed_updates),
                )
        log.info("webhook.registered")

    async def respond(self, request: Request) -> Response:
        """Handle one update, once. After an outage Telegram repeats it. No other update is repeated: it would fail again."""
        if not secrets.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), self._secret.encode()):
            return Response(status_code=403)
        raw = _parse_body(await request.body())
        if raw is None:
            log.warning("webhook.unreadable")
            return Response(status_code=400)
        update = self._handler.parse(raw)
        if update is None:
            return Response(status_code=200)
        clients: Clients = request.state.clients
        async with _lock(clients, update.update_id) as is_mine:
            if not is_mine:
                return _try_again(1)
            try:
                async with self._handler.turn(update, TURN_PATIENCE_S):
                    await self._handle_once(clients, update)
            except (TooManyWaiting, TurnTimeout):
                log.warning("webhook.crowded", update=update.update_id)
                return _try_again(RETRY_AFTER_S)
            except Exception as error:
                if isinstance(as_lunchbot_error(error), ServiceUnavailable):
                    log.warning("webhook.deferred", update=update.update_id, error=repr(error))
                    return _try_again(RETRY_AFTER_S)
                log.exception("webhook.failed", update=update.update_id)
        return Response(status_code=200)

    async def _handle_once(self, clients: Clients, update: Update) -> None:
        async with clients.db() as session:
            if await session.get(Inbox, (CONSUMER, str(update.update_id))) is not None:
                return
        try:
            await self._handler.handle(update, clients)
        except HandlingTimeout:
            log.warning("update.failed", update=update.update_id, error="HandlingTimeout")
        async with clients.db() as session:
            handled = insert(Inbox).values(consumer=CONSUMER, event_id=str(update.update_id))
            await session.execute(handled.on_conflict_do_nothing())


def _parse_body(body: bytes) -> dict[str, Any] | None:
    """Return the update, or None if the body is not one."""
    try:
        raw = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) and isinstance(raw.get("update_id"), int) else None


def _try_again(after_s: int) -> Response:
    return Response(status_code=503, headers={"Retry-After": str(after_s)})


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
