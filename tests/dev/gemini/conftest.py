"""A Gemini stand-in on a real server, and a client of Google's SDK."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import aiohttp
import httpx
import pytest
from google import genai
from google.genai.errors import APIError
from google.genai.types import (
    GenerateContentConfig,
    GenerateContentResponse,
    HttpOptions,
    HttpRetryOptions,
)

from app.ai.prompts import Advice, CafeMenu, build_prompt
from app.ai.stats import OrderStats
from app.dev.gemini import create_gemini
from app.dev.gemini.faults import Fault, FaultKind
from app.dev.gemini.state import Gemini
from tests.servers import serving

MODEL = "gemini-3.5-flash-lite"
PATH = f"/v1/models/{MODEL}:generateContent"
PROJECTS = {"key-1": "shared", "key-2": "shared", "key-3": "own"}
MENU = [
    CafeMenu(
        "Green Fork",
        {
            "soup": ["Tomato soup", "Lentil soup"],
            "salad": ["Greek salad", "Caesar salad"],
            "main": ["Lasagne", "Beef stew", "Risotto"],
            "extra": ["Tea"],
        },
    ),
    CafeMenu("Самовар", {"soup": ["Борщ"], "salad": ["Винегрет"], "main": ["Котлета"]}),
]
DISHES = {name for cafe in MENU for names in cafe.dishes.values() for name in names}
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 15, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class World:
    """A running stand-in, and a client of the SDK."""

    def __init__(self, client: genai.Client, address: str, state: Gemini, clock: Clock) -> None:
        self.client = client
        self.address = address
        self.state = state
        self.clock = clock

    async def ask(
        self,
        contents: str = "Hello",
        *,
        key: str = "key-1",
        model: str = MODEL,
        timeout_ms: int = 10_000,
        version: str = "v1",
        **config: Any,
    ) -> GenerateContentResponse:
        options = HttpOptions(
            base_url=self.address,
            api_version=version,
            headers={"x-goog-api-key": key},
            timeout=timeout_ms,
            retry_options=HttpRetryOptions(attempts=1),
        )
        return await self.client.aio.models.generate_content(
            model=model, contents=contents, config=GenerateContentConfig(http_options=options, **config)
        )

    async def get_advice(self, stats: OrderStats, language: str = "en", menu: Sequence[CafeMenu] = MENU) -> Advice:
        generated = build_prompt(menu, stats, [], language)
        answer = await self.ask(
            generated.contents,
            system_instruction=generated.instruction,
            response_mime_type="application/json",
            response_json_schema=Advice.model_json_schema(),
        )
        return Advice.model_validate_json(answer.text or "", strict=True)

    async def error(self, **arguments: Any) -> APIError:
        with pytest.raises(APIError) as raised:
            await self.ask(**arguments)
        return raised.value

    def add_fault(self, kind: FaultKind, **details: Any) -> None:
        self.state.faults.add(Fault(kind=kind, **details))


@pytest.fixture(scope="module")
async def client() -> AsyncIterator[genai.Client]:
    """One client for all tests of a module, because creating one takes 0.2 s. The SDK's own session class would warn."""
    async with aiohttp.ClientSession() as session:
        client = genai.Client(api_key="none", http_options=HttpOptions(aiohttp_client=session))
        yield client
        await client.aio.aclose()
        client.close()


@pytest.fixture(scope="module")
async def shared_world(client: genai.Client) -> AsyncIterator[World]:
    clock = Clock()
    app = create_gemini(keys=PROJECTS, clock=clock)
    async with serving(app) as address:
        yield World(client, address, app.state.gemini, clock)
        app.state.gemini.close()


@pytest.fixture
async def world(shared_world: World) -> World:
    """The stand-in without quotas and requests. One server serves all tests of a module: starting one takes 0.1 s."""
    state = shared_world.state
    state.per_day = state.per_minute = None
    state.latency_s = 0
    state.reset()
    shared_world.clock.now = Clock().now
    return shared_world


@pytest.fixture
def daily_quota_world(world: World) -> World:
    """A stand-in with two requests a day for each project."""
    world.state.per_day = 2
    world.state.reset()
    return world


@pytest.fixture
def minute_quota_world(world: World) -> World:
    """A stand-in with two requests a minute for each project."""
    world.state.per_minute = 2
    world.state.reset()
    return world


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"x-goog-api-key": "key-1"}
    async with httpx.AsyncClient(base_url=world.address, headers=headers) as http:
        yield http


def find_detail(error: APIError, kind: str) -> dict[str, Any]:
    [detail] = [item for item in error.details["error"]["details"] if item["@type"].endswith(f"google.rpc.{kind}")]
    return dict(detail)


def exceeded_quotas(error: APIError) -> list[str]:
    return [violation["quotaId"] for violation in find_detail(error, "QuotaFailure")["violations"]]
