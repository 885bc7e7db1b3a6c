"""The stand-in for Gemini over HTTP, and a client of it."""

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
"""The keys that the stand-in accepts, with their projects."""


@dataclass(frozen=True)
class GeminiStandIn:
    """The running stand-in."""

    url: str
    stand_in: StandIn

    def fails(self, kind: FaultKind, times: int | None = 1, **fields: object) -> None:
        """Make the next `times` requests fail; all requests if it is None."""
        self.stand_in.faults.add(Fault.model_validate({"kind": kind, "times": times, **fields}))

    @property
    def requests(self) -> int:
        """The number of requests with a valid key."""
        return len(self.stand_in.requests)


@pytest.fixture
async def gemini_standin() -> AsyncIterator[GeminiStandIn]:
    """A stand-in for Gemini."""
    app = create_gemini(keys=KEYS)
    async with serving(app) as url:
        yield GeminiStandIn(url, app.state.gemini)
        app.state.gemini.close()


@pytest.fixture
def settings_with_keys(settings: Settings, gemini_standin: GeminiStandIn) -> Settings:
    """Settings with keys for the stand-in."""
    keys = tuple(SecretStr(f"{project}:{key}") for key, project in KEYS.items())
    return settings.model_copy(update={"gemini_api_url": gemini_standin.url, "gemini_api_keys": keys})


@pytest.fixture
async def gemini(settings_with_keys: Settings) -> AsyncIterator[Gemini]:
    """A client of the stand-in."""
    async with open_gemini(settings_with_keys) as opened:
        yield opened
