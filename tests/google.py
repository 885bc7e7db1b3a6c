"""Google's side: the stand-in for Gemini over HTTP, and our client of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from pydantic import SecretStr

from app.ai.gemini import Gemini, open_gemini
from app.dev.gemini import create_gemini
from app.dev.gemini.faults import Fault, FaultKind
from app.dev.gemini.state import Gemini as StandIn
from app.settings import Settings
from tests.servers import serving

KEYS = {"AIza-one": "lunch", "AIza-two": "kitchen", "AQ.three": "kitchen"}
"""Keys, and their projects."""


@dataclass(frozen=True)
class Google:
    """Where the stand-in is, and what it knows."""

    url: str
    stand_in: StandIn

    def fails(self, kind: FaultKind, times: int | None = 1, **fields: object) -> None:
        """Have the next requests fail."""
        self.stand_in.faults.add(Fault.model_validate({"kind": kind, "times": times, **fields}))

    @property
    def requests(self) -> int:
        """How many have come with a good key."""
        return len(self.stand_in.requests)


@pytest.fixture
async def google() -> AsyncIterator[Google]:
    """Gemini, as long as the test runs."""
    app = create_gemini(keys=KEYS)
    async with serving(app) as url:
        yield Google(url, app.state.gemini)
        app.state.gemini.close()


@pytest.fixture
def settings_with_keys(settings: Settings, google: Google) -> Settings:
    """Settings with keys for the stand-in."""
    keys = tuple(SecretStr(f"{project}:{key}") for key, project in KEYS.items())
    return settings.model_copy(update={"gemini_api_url": google.url, "gemini_api_keys": keys})


@pytest.fixture
async def gemini(settings_with_keys: Settings) -> AsyncIterator[Gemini]:
    """Our client, which talks to the stand-in."""
    async with open_gemini(settings_with_keys) as opened:
        yield opened
