"""What can be made to go wrong: failures on order, and the limits that Telegram keeps."""

import math
from collections import defaultdict, deque
from collections.abc import Callable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from app.dev.telegram.calls import BotApiError, bad_request
from app.dev.telegram.chats import FIRST_SUPERGROUP_ID

MESSAGES_PER_SECOND = 30
MESSAGES_PER_SECOND_IN_CHAT = 1
MESSAGES_PER_MINUTE_IN_GROUP = 20
"""https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this. The real service lets short bursts
pass; the stand-in does not, so that who passes here passes there."""


class FailureKind(StrEnum):
    """How a call fails."""

    RATE_LIMIT = "rate_limit"
    """429; without `retry_after` when none was ordered."""
    SERVER_ERROR = "server_error"
    """500 with a JSON body."""
    BAD_GATEWAY = "bad_gateway"
    """502 with an HTML body, as from the balancer in front of Telegram."""
    HANG = "hang"
    """No answer, and nothing done, for as long as the client waits."""
    DROP_BEFORE = "drop_before"
    """The connection breaks and nothing was done."""
    DROP_AFTER = "drop_after"
    """The connection breaks after the work was done: the client cannot know."""
    BLOCKED = "blocked"
    """403: the person blocked the bot."""
    KICKED = "kicked"
    """403: the group threw the bot out."""
    MIGRATE = "migrate"
    """400 with `migrate_to_chat_id`: the group became a supergroup."""
    BAD_ENTITIES = "bad_entities"
    """400: the markup cannot be parsed."""


class Failure(BaseModel):
    """An order to fail the next calls of a method, in one chat or in all."""

    model_config = ConfigDict(extra="forbid")

    method: str | None = None
    """Name of the Bot API method in any case; None means every method."""
    chat_id: int | None = None
    kind: FailureKind
    times: int | None = Field(default=1, ge=1)
    """How many calls; None means until the failures are deleted."""
    retry_after: int | None = Field(default=None, ge=1)
    """Seconds, for `rate_limit`."""
    migrate_to_chat_id: int | None = Field(default=None, le=FIRST_SUPERGROUP_ID)
    """For `migrate`; invented when missing."""

    def refusal(self) -> BotApiError | None:
        """The refusal in the Bot API's shape, None for the kinds that break the connection or its protocol."""
        moved = {"migrate_to_chat_id": self.migrate_to_chat_id}
        return {
            FailureKind.RATE_LIMIT: too_many_requests(self.retry_after),
            FailureKind.SERVER_ERROR: BotApiError(500, "Internal Server Error"),
            FailureKind.BLOCKED: BotApiError(403, "Forbidden: bot was blocked by the user"),
            FailureKind.KICKED: BotApiError(403, "Forbidden: bot was kicked from the group chat"),
            FailureKind.MIGRATE: BotApiError(400, "Bad Request: group chat was upgraded to a supergroup chat", moved),
            FailureKind.BAD_ENTITIES: bad_request(
                'can\'t parse entities: Unsupported start tag "failure" at byte offset 0'
            ),
        }.get(self.kind)


class Failures:
    """The failures on order; the oldest that fits a call is taken first."""

    def __init__(self) -> None:
        self._ordered: list[Failure] = []

    def order(self, failure: Failure) -> None:
        """Put a failure behind those already ordered."""
        self._ordered.append(failure)

    def clear(self) -> None:
        """Forget them all."""
        self._ordered.clear()

    def listed(self) -> list[Failure]:
        """What is still to come."""
        return list(self._ordered)

    def take(self, method: str, chat_id: int | None) -> Failure | None:
        """The failure that this call meets, used up by one."""
        for failure in self._ordered:
            names_method = failure.method is None or failure.method.lower() == method
            if names_method and failure.chat_id in {None, chat_id}:
                if failure.times is not None:
                    failure.times -= 1
                    if failure.times == 0:
                        self._ordered.remove(failure)
                return failure
        return None


class RateLimits:
    """Telegram's limits on messages, each as a sliding window that counts the messages it let through."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sent: defaultdict[tuple[float, int], deque[float]] = defaultdict(deque)

    def count(self, chat_id: int) -> None:
        """Count one message to the chat.

        Raises BotApiError (429 with `retry_after` in whole seconds) when it would be one too many.
        """
        now = self._clock()
        windows = [(1.0, 0, MESSAGES_PER_SECOND), (1.0, chat_id, MESSAGES_PER_SECOND_IN_CHAT)]
        if chat_id < 0:
            windows.append((60.0, chat_id, MESSAGES_PER_MINUTE_IN_GROUP))
        waits = []
        for seconds, of_chat, allowed in windows:
            sent = self._sent[seconds, of_chat]
            while sent and sent[0] + seconds <= now:
                sent.popleft()
            if len(sent) >= allowed:
                waits.append(sent[0] + seconds - now)
        if waits:
            raise too_many_requests(math.ceil(max(waits)))
        for seconds, of_chat, _ in windows:
            self._sent[seconds, of_chat].append(now)


def too_many_requests(retry_after: int | None) -> BotApiError:
    """Code 429, with the seconds to wait where they are known."""
    if retry_after is None:
        return BotApiError(429, "Too Many Requests")
    return BotApiError(429, f"Too Many Requests: retry after {retry_after}", {"retry_after": retry_after})
