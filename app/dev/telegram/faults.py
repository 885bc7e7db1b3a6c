"""Faults that can be injected into Bot API calls, and Telegram's rate limits."""

import math
from collections import defaultdict, deque
from collections.abc import Callable
from enum import StrEnum

from pydantic import Field

from app.dev.faults import InjectedFault
from app.dev.telegram.calls import BotApiError, bad_request
from app.dev.telegram.chats import FIRST_SUPERGROUP_ID

MESSAGES_PER_SECOND = 30
MESSAGES_PER_SECOND_IN_CHAT = 1
MESSAGES_PER_MINUTE_IN_GROUP = 20
"""https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this. The real service allows short
bursts; the stand-in does not, so that a client that satisfies the stand-in satisfies Telegram."""


class FailureKind(StrEnum):
    """The way in which a call fails."""

    RATE_LIMIT = "rate_limit"
    """429; without `retry_after` when the failure names none."""
    SERVER_ERROR = "server_error"
    """500 with a JSON body."""
    BAD_GATEWAY = "bad_gateway"
    """502 with an HTML body, as from the load balancer in front of Telegram."""
    HANG = "hang"
    """No answer as long as the client waits; the call has no effect."""
    DROP_BEFORE = "drop_before"
    """The connection breaks; the call has no effect."""
    DROP_AFTER = "drop_after"
    """The connection breaks after the call took effect: the client does not know the outcome."""
    BLOCKED = "blocked"
    """403: the person blocked the bot."""
    KICKED = "kicked"
    """403: the group removed the bot."""
    MIGRATE = "migrate"
    """400 with `migrate_to_chat_id`: the group became a supergroup."""
    BAD_ENTITIES = "bad_entities"
    """400: the markup cannot be parsed."""


class Failure(InjectedFault):
    """An injected failure of the next calls of a method, in one chat or in all chats."""

    method: str | None = None
    """Name of the Bot API method, in any case; None means every method."""
    chat_id: int | None = None
    kind: FailureKind
    retry_after: int | None = Field(default=None, ge=1)
    """Seconds, for `rate_limit`."""
    migrate_to_chat_id: int | None = Field(default=None, le=FIRST_SUPERGROUP_ID)
    """For `migrate`; the stand-in chooses an id when it is missing."""

    def matches(self, method: str, chat_id: int | None) -> bool:
        """Whether a call of `method` (in lower case) meets this failure."""
        is_method = self.method is None or self.method.lower() == method
        return is_method and self.chat_id in {None, chat_id}

    def to_error(self) -> BotApiError | None:
        """Return the Bot API's error; None for the kinds that break the connection or the protocol."""
        migration = {"migrate_to_chat_id": self.migrate_to_chat_id}
        return {
            FailureKind.RATE_LIMIT: too_many_requests(self.retry_after),
            FailureKind.SERVER_ERROR: BotApiError(500, "Internal Server Error"),
            FailureKind.BLOCKED: BotApiError(403, "Forbidden: bot was blocked by the user"),
            FailureKind.KICKED: BotApiError(403, "Forbidden: bot was kicked from the group chat"),
            FailureKind.MIGRATE: BotApiError(
                400, "Bad Request: group chat was upgraded to a supergroup chat", migration
            ),
            FailureKind.BAD_ENTITIES: bad_request(
                'can\'t parse entities: Unsupported start tag "failure" at byte offset 0'
            ),
        }.get(self.kind)


class RateLimits:
    """Telegram's limits on messages, each as a sliding window of the messages that it let through."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sent: defaultdict[tuple[float, int], deque[float]] = defaultdict(deque)

    def count_message(self, chat_id: int) -> None:
        """Count one message to the chat.

        Raises BotApiError (429 with `retry_after` in whole seconds) when a limit is reached.
        """
        now = self._clock()
        windows = [(1.0, 0, MESSAGES_PER_SECOND), (1.0, chat_id, MESSAGES_PER_SECOND_IN_CHAT)]
        if chat_id < 0:
            windows.append((60.0, chat_id, MESSAGES_PER_MINUTE_IN_GROUP))
        waits = []
        for seconds, window_chat_id, limit in windows:
            sent = self._sent[seconds, window_chat_id]
            while sent and sent[0] + seconds <= now:
                sent.popleft()
            if len(sent) >= limit:
                waits.append(sent[0] + seconds - now)
        if waits:
            raise too_many_requests(math.ceil(max(waits)))
        for seconds, window_chat_id, _ in windows:
            self._sent[seconds, window_chat_id].append(now)


def too_many_requests(retry_after: int | None) -> BotApiError:
    """Return code 429, with the seconds to wait if they are known."""
    if retry_after is None:
        return BotApiError(429, "Too Many Requests")
    return BotApiError(429, f"Too Many Requests: retry after {retry_after}", {"retry_after": retry_after})
