"""The delivery of updates to the bot: a queue that getUpdates reads, or a webhook."""

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import aiohttp

from app.dev.standins import Json
from app.dev.telegram.calls import BotApiError

MAX_POLL_S = 50
"""The real service shortens a longer `timeout` of getUpdates to this."""

POLL_GAP_S = 5
"""A bot polls again immediately; after this time without a poll it counts as stopped."""

WEBHOOK_TIMEOUT_S = 10
WEBHOOK_CONNECTIONS = 40
"""The default of `max_connections` (https://core.telegram.org/bots/api#setwebhook)."""

WEBHOOK_RETRY_S = 1
"""The real service backs off for longer; a developer who restarts the bot does not want to wait."""

OPT_IN_UPDATES = {"chat_member", "message_reaction", "message_reaction_count"}
"""Sent only if `allowed_updates` names them (https://core.telegram.org/bots/api#getupdates)."""

_log = logging.getLogger(__name__)


@dataclass
class Webhook:
    """The receiver of updates, and the last delivery error."""

    url: str
    secret_token: str
    last_error_date: int | None = None
    last_error_message: str = ""


@dataclass(eq=False)
class _Poll:
    timeout: asyncio.Timeout
    is_terminated: bool = False


class UpdateQueue:
    """Updates in the order of their ids, kept until the bot confirms them."""

    def __init__(self) -> None:
        self.allowed: list[str] = []
        self.webhook: Webhook | None = None
        self._pending: deque[Json] = deque()
        self._next_id = 100_000_001
        self._arrived = asyncio.Event()
        self._changed = asyncio.Event()
        self._poll: _Poll | None = None
        self._polled_at: float | None = None
        self._delivery: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def is_polled(self) -> bool:
        """Whether a getUpdates call is waiting now."""
        return self._poll is not None

    @property
    def has_receiver(self) -> bool:
        """Whether a program receives the updates: it polls, it polled within POLL_GAP_S, or it has a webhook."""
        has_just_polled = self._polled_at is not None and time.monotonic() - self._polled_at < POLL_GAP_S
        return self.is_polled or has_just_polled or self.webhook is not None

    def put(self, kind: str, content: Json) -> int | None:
        """Queue an update; return its id, or None when the bot's `allowed_updates` exclude this kind."""
        if kind not in self.allowed and (self.allowed or kind in OPT_IN_UPDATES):
            return None
        update_id = self._next_id
        self._next_id += 1
        self._pending.append({"update_id": update_id, kind: content})
        self._arrived.set()
        self._changed.set()
        return update_id

    def confirm(self, offset: int) -> None:
        """Drop the updates before `offset`; a negative offset counts from the end."""
        if offset < 0:
            while len(self._pending) > -offset:
                self._pending.popleft()
        while offset > 0 and self._pending and self._pending[0]["update_id"] < offset:
            self._pending.popleft()
        if not self._pending:
            self._arrived.clear()

    def clear(self) -> None:
        """Drop every update. Ids continue, so that a bot that keeps its offset misses no later update."""
        self._pending.clear()
        self._arrived.clear()

    async def poll(self, *, offset: int, limit: int, timeout_s: int) -> list[Json]:
        """Confirm updates, then wait for new ones, as getUpdates does.

        Raises BotApiError (409) when another poll starts meanwhile: the newer poll wins.
        """
        self._terminate_poll()
        self.confirm(offset)
        poll = self._poll = _Poll(asyncio.timeout(min(timeout_s, MAX_POLL_S)))
        try:
            async with poll.timeout:
                await self._arrived.wait()
        except TimeoutError:
            if poll.is_terminated:
                reason = "terminated by other getUpdates request; make sure that only one bot instance is running"
                raise BotApiError(409, f"Conflict: {reason}") from None
        finally:
            if self._poll is poll:
                self._poll = None
                self._polled_at = time.monotonic()
        return list(self._pending)[:limit]

    def _terminate_poll(self) -> None:
        if self._poll is not None and not self._poll.timeout.expired():
            self._poll.is_terminated = True
            self._poll.timeout.reschedule(asyncio.get_running_loop().time())

    def set_webhook(self, webhook: Webhook | None) -> None:
        """Start to send updates to a webhook; None stops that."""
        if self._delivery is not None:
            self._delivery.cancel()
            self._delivery = None
        self.webhook = webhook
        if webhook is not None:
            self._terminate_poll()
            self._delivery = asyncio.create_task(self._deliver(webhook))

    async def _deliver(self, webhook: Webhook) -> None:
        """Send the updates: those of one chat one by one, those of different chats side by side, as the real service."""
        headers = {"X-Telegram-Bot-Api-Secret-Token": webhook.secret_token} if webhook.secret_token else {}
        session = aiohttp.ClientSession(
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=WEBHOOK_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=WEBHOOK_CONNECTIONS),
        )
        busy: set[int] = set()
        async with session, asyncio.TaskGroup() as sending:
            while True:
                self._changed.clear()
                for update in self._pending:
                    chat_id = _chat_of(update)
                    if chat_id not in busy:
                        busy.add(chat_id)
                        task = sending.create_task(self._send(session, webhook, update))
                        task.add_done_callback(partial(self._free, busy, chat_id))
                await self._changed.wait()

    async def _send(self, session: aiohttp.ClientSession, webhook: Webhook, update: Json) -> None:
        """Send an update until the webhook accepts it."""
        while update in self._pending:
            try:
                async with session.post(webhook.url, json=update) as response:
                    response.raise_for_status()
            except (aiohttp.ClientError, TimeoutError) as error:
                _log.warning("The webhook did not accept update %d: %r", update["update_id"], error)
                webhook.last_error_date = int(time.time())
                webhook.last_error_message = str(error) or "Connection timed out"
                await asyncio.sleep(WEBHOOK_RETRY_S)
            else:
                with suppress(ValueError):  # the queue was cleared
                    self._pending.remove(update)

    def _free(self, busy: set[int], chat_id: int, _: asyncio.Task[None]) -> None:
        busy.discard(chat_id)
        self._changed.set()


def _chat_of(update: Json) -> int:
    """Return the id of the chat that an update is about; 0 if it is about none."""
    content: Json = next((value for name, value in update.items() if name != "update_id"), {})
    chat = content.get("chat") or content.get("message", {}).get("chat") or content.get("from") or {"id": 0}
    return int(chat["id"])
