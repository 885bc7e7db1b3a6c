"""Everything the stand-in knows: keys, quotas, faults, and what has arrived."""

import asyncio
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from app.dev.gemini.errors import Quota, Violation, key_invalid, key_missing, quota_exceeded
from app.dev.gemini.faults import Faults

PACIFIC = ZoneInfo("America/Los_Angeles")
"""Requests per day reset at midnight Pacific time (https://ai.google.dev/gemini-api/docs/rate-limits)."""

MINUTE = timedelta(minutes=1)

REQUESTS_KEPT = 10_000
CHARACTERS_KEPT = 20_000_000
"""Their texts together: prompts may be long, and memory is not endless."""


@dataclass(frozen=True)
class SeenRequest:
    """A request that has come with a good key. The texts are empty where the body could not be read."""

    key: str
    model: str
    system_instruction: str
    contents: str
    at: datetime

    @property
    def characters(self) -> int:
        """The length of its texts."""
        return len(self.system_instruction) + len(self.contents)


@dataclass
class Usage:
    """What has come for a key or a project on one day of California."""

    requests: int = 0
    served: int = 0
    """Answered with 200, whatever was in it."""
    refused: Counter[int] = field(default_factory=Counter)
    """Answered with another status: how many of each."""

    @property
    def unanswered(self) -> int:
        """Those that hang, were dropped, or are just being answered."""
        return self.requests - self.served - self.refused.total()

    def count_answer(self, status: int) -> None:
        """Note how a request was answered."""
        if status == 200:  # noqa: PLR2004 - HTTP's OK
            self.served += 1
        else:
            self.refused[status] += 1


class Quotas:
    """How many requests a project may make for a model, by the day of California and within any 60 seconds."""

    def __init__(self, per_day: int | None, per_minute: int | None) -> None:
        self.per_day = per_day
        self.per_minute = per_minute
        self._of_day: Counter[tuple[date, str, str]] = Counter()
        self._of_minute: defaultdict[tuple[str, str], deque[datetime]] = defaultdict(deque)

    def take(self, project: str, model: str, now: datetime) -> None:
        """Count one request.

        Raises ApiError (429) when it would be one too many; it is not counted then.
        """
        day = (pacific_day(now), project, model)
        latest = self._of_minute[project, model]
        while latest and latest[0] <= now - MINUTE:
            latest.popleft()
        violations = []
        retry_delay_s = 0
        if self.per_minute is not None and len(latest) >= self.per_minute:
            violations.append(Violation(Quota.PER_MINUTE, model, self.per_minute))
            retry_delay_s = math.ceil(((latest[0] if latest else now) + MINUTE - now).total_seconds())
        if self.per_day is not None and self._of_day[day] >= self.per_day:
            violations.append(Violation(Quota.PER_DAY, model, self.per_day))
            retry_delay_s = retry_delay_s or 60 - now.second
        if violations:
            raise quota_exceeded(violations, retry_delay_s)
        self._of_day[day] += 1
        if self.per_minute is not None:
            latest.append(now)


class Gemini:
    """The stand-in's state."""

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
        """Forget requests, usage, what is used of the quotas, and faults."""
        self.faults = Faults()
        self.quotas = Quotas(self.per_day, self.per_minute)
        self.requests: deque[SeenRequest] = deque()
        self._characters = 0
        self.usage_of_keys: defaultdict[tuple[date, str], Usage] = defaultdict(Usage)
        self.usage_of_projects: defaultdict[tuple[date, str], Usage] = defaultdict(Usage)
        self.turned_away: Counter[int] = Counter()
        """Requests without a good key, by the status of the answer."""

    def close(self) -> None:
        """End hanging calls. Call it before the server stops."""
        self.closing.set()

    def today(self) -> date:
        """The day of California."""
        return pacific_day(self.clock())

    def project_of(self, key: str | None) -> str:
        """The project whose quota the key uses.

        Raises ApiError (403 without a key, 400 for one that is not known).
        """
        if not key:
            raise key_missing()
        if self.keys is None:
            return key
        if key not in self.keys:
            raise key_invalid()
        return self.keys[key]

    def count_request(self, key: str, project: str) -> tuple[Usage, Usage]:
        """Count a request for the key and its project; the answer is to be counted there too."""
        day = self.today()
        usages = self.usage_of_keys[day, key], self.usage_of_projects[day, project]
        for usage in usages:
            usage.requests += 1
        return usages

    def usage_of_key(self, key: str, day: date | None = None) -> Usage:
        """What has come with the key on a day, by default today."""
        return self.usage_of_keys.get((day or self.today(), key), Usage())

    def usage_of_project(self, project: str, day: date | None = None) -> Usage:
        """What has come for the project on a day, by default today."""
        return self.usage_of_projects.get((day or self.today(), project), Usage())

    def remember(self, request: SeenRequest) -> None:
        """Keep a request among the latest."""
        self.requests.append(request)
        self._characters += request.characters
        while len(self.requests) > REQUESTS_KEPT or (len(self.requests) > 1 and self._characters > CHARACTERS_KEPT):
            self._characters -= self.requests.popleft().characters


def pacific_day(moment: datetime) -> date:
    """The calendar date in California."""
    return moment.astimezone(PACIFIC).date()
