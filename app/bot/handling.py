"""Handling of updates, the same by polling and by webhook."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiogram import Bot
from aiogram.dispatcher.middlewares.user_context import UserContextMiddleware
from aiogram.types import Update
from aiogram.types.update import UpdateTypeLookupError
from prometheus_client import Counter
from pydantic import ValidationError

from app.bot.dispatcher import create_dispatcher
from app.bot.turns import ChatTurns, TooManyWaiting
from app.clients import Clients
from app.log import get_log

log = get_log(__name__)

UPDATES = Counter(
    "lunch_bot_telegram_updates_total",
    "Updates of Telegram, by outcome: handled, failed, unreadable, unknown, dropped.",
    ["outcome"],
)

CONCURRENCY = 20
"""How many updates a process handles at the same time: as many as it has connections to the database at the least."""

MAX_WAITING = 100
"""How many updates of one chat may wait: as many as one answer of Telegram may have."""

HANDLING_TIMEOUT_S = 45.0
"""An update that takes longer has failed. A handler makes a few calls to Telegram, of at most 10 s each."""

MAX_PROBLEMS = 3
"""How many problems of an unreadable update are logged: the later ones are the same for another type."""


class HandlingTimeout(Exception):
    """An update took too long. A retry would not help."""


class UpdateHandler:
    """Handles updates: those of different chats side by side, those of one chat in order."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._dispatcher = create_dispatcher()
        self._turns = ChatTurns(concurrency=CONCURRENCY, max_waiting=MAX_WAITING)

    @property
    def allowed_updates(self) -> Sequence[str]:
        """The types of updates that have a handler."""
        return self._dispatcher.resolve_used_update_types()

    def parse(self, raw: Mapping[str, Any]) -> Update | None:
        """Parse an update. Returns None if that is not possible: a retry would not help, so it is logged and counted.

        The log has the names of fields, and nothing of their content.
        """
        try:
            update = Update.model_validate(raw, context={"bot": self._bot})
            update.event_type  # noqa: B018 raises UpdateTypeLookupError
        except UpdateTypeLookupError:
            UPDATES.labels("unknown").inc()
            log.warning("update.unknown", update=raw["update_id"], fields=sorted(raw.keys() - {"update_id"}))
        except Exception as error:  # noqa: BLE001 no update may keep the bot from the next one
            UPDATES.labels("unreadable").inc()
            log.warning("update.unreadable", update=raw["update_id"], problems=_problems(error))
        else:
            return update
        return None

    @asynccontextmanager
    async def turn(self, update: Update, patience_s: float | None = None) -> AsyncIterator[None]:
        """Run the block when the earlier updates of the chat are handled.

        Raises TooManyWaiting, TurnTimeout.
        """
        where = UserContextMiddleware.resolve_event_context(update)
        try:
            async with self._turns.take(where.chat_id or where.user_id or 0, patience_s):
                yield
        except TooManyWaiting:
            UPDATES.labels("dropped").inc()
            raise

    async def handle(self, update: Update, clients: Clients) -> None:
        """Handle an update in its turn.

        Raises HandlingTimeout, and the error that an outage causes. Any other error is logged, and answered in the chat.
        """
        outcome = "failed"
        try:
            async with asyncio.timeout(HANDLING_TIMEOUT_S) as limit:
                error = await self._dispatcher.feed_update(self._bot, update, clients=clients)
            if not isinstance(error, Exception):
                outcome = "handled"
        except TimeoutError as error:
            raise HandlingTimeout if limit.expired() else error from None
        finally:
            UPDATES.labels(outcome).inc()


def _problems(error: Exception) -> Sequence[str]:
    if not isinstance(error, ValidationError):
        return [type(error).__name__]
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return [f"{'.'.join(map(str, problem['loc']))}: {problem['type']}" for problem in problems[:MAX_PROBLEMS]]
