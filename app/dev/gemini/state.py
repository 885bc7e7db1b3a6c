"""The state of the stand-in: keys, quotas, faults, usage and recorded requests."""

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from app.dev.faults import FaultQueue
from app.dev.gemini.errors import Quota, Violation, key_invalid, key_missing, quota_exceeded
from app.dev.gemini.faults import Fault

PACIFIC = ZoneInfo("America/Los_Angeles")
"""Requests per day reset at midnight Pacific time (https://ai.google.dev/gemini-api/docs/rate-limits)."""

MINUTE = timedelta(minutes=1)

MAX_RECORDED_REQUESTS = 10_000
MAX_RECORDED_CHARACTERS = 20_000_000
"""In the texts of all recorded requests: long prompts must not fill the memory."""


@dataclass(frozen=True)
class RecordedRequest:
    """A request with a valid key. The texts are empty if the body is malformed."""

    key: str
    model: str
    system_instruction: str
    contents: str
    at: datetime

    @property
    def characters(self) -> int:
        """The length of the texts."""
        return len(self.system_instruction) + len(self.contents)


@dataclass
class Usage:
    """The requests of a key or a project on one day in California."""

    requests: int = 0
    served: int = 0
    """Requests answered with 200, whatever the content."""
    refused: Counter[int] = field(default_factory=Counter)
    """Requests answered with another status, by status."""

    @property
    def unanswered(self) -> int:
        """Requests that hang, were dropped, or are still in progress."""
        return self.requests - self.served - self.refused.total()

    def count_answer(self, status: int) -> None:
        """Count the answer of a request."""
        if status == 200:  # noqa: PLR2004 - HTTP's OK
            self.served += 1
        else:
            self.refused[status] += 1


class Quotas:
    """Limits on the requests of a project for a model: per day in California, and per any 60 seconds."""

    def __init__(self, per_day: int | None, per_minute: int | None) -> None:
        self.per_day = per_day
        self.per_minute = per_minute
        self._daily_counts: Counter[tuple[date, str, str]] = Counter()
        self._recent_requests: defaultdict[tuple[str, str], deque[datetime]] = defaultdict(deque)

    def consume(self, project: str, model: str, now: datetime) -> None:
        """Count one request.

        Raises ApiError (429) when a quota is used up; the request is not counted then.
        """
        day = (pacific_day(now), project, model)
        recent = self._recent_requests[project, model]
        while recent and recent[0] <= now - MINUTE:
            recent.popleft()
        violations = []
        retry_delay_s = 0
        if self.per_minute is not None and len(recent) >= self.per_minute:
            violations.append(Violation(Quota.PER_MINUTE, model, self.per_minute))
            retry_delay_s = math.ceil(((recent[0] if recent else now) + MINUTE - now).total_seconds())
        if self.per_day is not None and self._daily_counts[day] >= self.per_day:
            violations.append(Violation(Quota.PER_DAY, model, self.per_day))
            retry_delay_s = retry_delay_s or 60 - now.second
        if violations:
            raise quota_exceeded(violations, retry_delay_s)
        self._daily_counts[day] += 1
        if self.per_minute is not None:
            recent.append(now)


class Gemini:
    """The state of the stand-in."""

    def __init__(
        self,
        *,
        keys: Mapping[str, str] | None,
        per_day: int | None,
        per_minute: int | None,
        clock: Callable[[], datetime],
        latency_s: float,
    ) -> None:
        self.keys = keys
        self.per_day = per_day
        self.per_minute = per_minute
        self.clock = clock
        self.latency_s = latency_s
        self.closing = asyncio.Event()
        self.reset()

    def reset(self) -> None:
        """Remove requests, usage and faults, and restore the quotas."""
        self.faults: FaultQueue[Fault] = FaultQueue()
        self.quotas = Quotas(self.per_day, self.per_minute)
        self.requests: deque[RecordedRequest] = deque()
        self._characters = 0
        self.usage_of_keys: defaultdict[tuple[date, str], Usage] = defaultdict(Usage)
        self.usage_of_projects: defaultdict[tuple[date, str], Usage] = defaultdict(Usage)
        self.turned_away: Counter[int] = Counter()
        """Requests without a valid key, by the status of the answer."""

    def close(self) -> None:
        """End hanging calls. Call this before the server stops."""
        self.closing.set()

    def today(self) -> date:
        """Return the current date in California."""
        return pacific_day(self.clock())

    def get_project(self, key: str | None) -> str:
        """Return the project whose quota the key uses.

        Raises ApiError (403 without a key, 400 for an unknown key).
        """
        if not key:
            raise key_missing()
        if self.keys is None:
            return key
        if key not in self.keys:
            raise key_invalid()
        return self.keys[key]

    def count_request(self, key: str, project: str) -> tuple[Usage, Usage]:
        """Count a request for the key and its project; return both usages, which must count the answer too."""
        day = self.today()
        usages = self.usage_of_keys[day, key], self.usage_of_projects[day, project]
        for usage in usages:
            usage.requests += 1
        return usages

    def usage_of_key(self, key: str, day: date | None = None) -> Usage:
        """Return the usage of a key on a day, by default today."""
        return self.usage_of_keys.get((day or self.today(), key), Usage())

    def usage_of_project(self, project: str, day: date | None = None) -> Usage:
        """Return the usage of a project on a day, by default today."""
        return self.usage_of_projects.get((day or self.today(), project), Usage())

    def record_request(self, request: RecordedRequest) -> None:
        """Record a request, and drop the oldest ones above the limits."""
        self.requests.append(request)
        self._characters += request.characters
        while len(self.requests) > MAX_RECORDED_REQUESTS or (
            len(self.requests) > 1 and self._characters > MAX_RECORDED_CHARACTERS
        ):
            self._characters -= self.requests.popleft().characters


def pacific_day(moment: datetime) -> date:
    """Return the date in California."""
    return moment.astimezone(PACIFIC).date()
