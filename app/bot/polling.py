"""Updates by long polling, in the bot process."""

import asyncio
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from aiogram import Bot
from aiogram.dispatcher.dispatcher import DEFAULT_BACKOFF_CONFIG
from aiogram.exceptions import AiogramError
from aiogram.methods import TelegramMethod
from aiogram.utils.backoff import Backoff

from app.bot.dispatcher import set_commands, setup_attempts
from app.bot.handling import UpdateHandler
from app.bot.turns import TooManyWaiting
from app.clients import Clients
from app.log import get_log
from app.redaction import redact
from app.telegram.sender import CALL_TIMEOUT_S, RetryAfter

log = get_log(__name__)

POLL_S = 10
"""How long Telegram keeps a call open while there is no update."""

NEXT_LOOK_S = 0.5
"""How soon Telegram is asked for more updates while some are in hand: it repeats those, and so it answers immediately."""

CROWDED = 50
"""With more updates in hand than this, they are confirmed before they are handled. Telegram shows 100 unconfirmed updates
at most, so those of a flood would hide the updates behind them."""

MAX_IN_HAND = 1000
"""Some megabytes. With so many updates in hand no more are fetched: then ten chats flood the bot."""

SILENCE_S = 60.0
"""After so long without an answer of Telegram polling does not work. A call takes 20 s at most, and the next one begins
within 5 s."""

FINISH_S = 10.0
"""How long updates in hand may take at the end of the process, which must exit within 30 s."""


class GetRawUpdates(TelegramMethod[list[dict[str, Any]]]):
    """Gets the updates as they came. aiogram's `GetUpdates` fails for all of them if it cannot read one of them."""

    __returning__ = list[dict[str, Any]]
    __api_method__ = "getUpdates"

    offset: int | None
    limit: int | None
    timeout: int
    allowed_updates: list[str]


class Polling:
    """Polls for updates.

    An update is confirmed to Telegram only after it was handled, and is not lost with a process that dies. A repeated
    update does no harm. A flood is the exception: see `CROWDED`.

    Args:
        clock: Returns a time in seconds.
    """

    def __init__(self, bot: Bot, clients: Clients, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._bot = bot
        self._clients = clients
        self._handler = UpdateHandler(bot)
        self._clock = clock
        self._answered_at = clock()
        self._next_id: int | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        """The updates that Telegram may repeat, or that are not handled yet, in their order."""

    async def is_working(self) -> bool:
        """Whether Telegram has answered lately."""
        return self._clock() - self._answered_at < SILENCE_S

    async def run(self) -> None:
        """Handle updates until it is cancelled. While Telegram is unavailable, it retries."""
        async for attempt in setup_attempts():
            with attempt:
                await set_commands(self._bot)
                await self._bot.delete_webhook()
        log.info("polling.started")
        backoff = Backoff(DEFAULT_BACKOFF_CONFIG)
        try:
            while True:
                try:
                    updates = await self._fetch(self._offset, timeout_s=POLL_S)
                except Exception as error:  # noqa: BLE001 the next call may work, whatever it is
                    wait_s = error.retry_after if isinstance(error, RetryAfter) else next(backoff)
                    log.warning("polling.failed", error=_describe(error), retry_s=round(wait_s, 1))
                    await asyncio.sleep(wait_s)
                    continue
                backoff.reset()
                self._answered_at = self._clock()
                for update_id, raw in updates.items():
                    self._take(update_id, raw)
                await self._wait()
        finally:
            await self._finish()

    async def _fetch(
        self, offset: int | None, *, timeout_s: int, limit: int | None = None
    ) -> Mapping[int, dict[str, Any]]:
        """Confirm the updates before `offset`, and get the next ones, by id."""
        call = GetRawUpdates(
            offset=offset, limit=limit, timeout=timeout_s, allowed_updates=list(self._handler.allowed_updates)
        )
        answer = await self._bot(call, request_timeout=timeout_s + CALL_TIMEOUT_S)
        if offset is not None:
            self._tasks = {id_: task for id_, task in self._tasks.items() if id_ >= offset or not task.done()}
        return {int(raw["update_id"]): raw for raw in answer}

    @property
    def _offset(self) -> int | None:
        """The oldest update that Telegram should keep."""
        in_hand = self._in_hand
        return self._next_id if not in_hand or len(in_hand) > CROWDED else next(iter(in_hand))

    @property
    def _in_hand(self) -> Mapping[int, asyncio.Task[None]]:
        """The updates that are not handled yet, oldest first."""
        return {id_: task for id_, task in self._tasks.items() if not task.done()}

    def _take(self, update_id: int, raw: dict[str, Any]) -> None:
        """Start to handle an update, if it is not a repeated one."""
        if update_id not in self._tasks:
            self._tasks[update_id] = asyncio.create_task(self._handle(raw))
            self._next_id = update_id + 1

    async def _handle(self, raw: dict[str, Any]) -> None:
        """Never raises: Telegram must not repeat an update that fails."""
        update = self._handler.parse(raw)
        if update is None:
            return
        try:
            async with self._handler.turn(update):
                await self._handler.handle(update, self._clients)
        except TooManyWaiting:
            log.warning("update.dropped", update=update.update_id)
        except Exception as error:  # noqa: BLE001 the handler of errors has logged it
            log.warning("update.failed", update=update.update_id, error=type(error).__name__)

    async def _wait(self) -> None:
        """Wait until it makes sense to ask for more updates."""
        in_hand = self._in_hand.values()
        if len(in_hand) >= MAX_IN_HAND:
            await asyncio.wait(in_hand, return_when=asyncio.FIRST_COMPLETED)
        elif 0 < len(in_hand) <= CROWDED:
            await asyncio.wait(in_hand, timeout=NEXT_LOOK_S)

    async def _finish(self) -> None:
        """Finish what is in hand, and confirm it. Telegram repeats what is not finished in time."""
        if self._in_hand:
            await asyncio.wait(self._in_hand.values(), timeout=FINISH_S)
        unfinished = self._in_hand
        for task in unfinished.values():
            task.cancel()
        await asyncio.gather(*unfinished.values(), return_exceptions=True)
        if self._tasks:
            with suppress(AiogramError, OSError):
                await self._fetch(next(iter(unfinished), self._next_id), timeout_s=0, limit=1)


def _describe(error: Exception) -> str:
    """Describe a failed call. An answer that cannot be decoded is left out: it has what people wrote."""
    return redact(str(getattr(error, "message", None) or repr(error)))
