"""The control API."""

import httpx
import orjson
import pytest

from app.dev.gemini.faults import FaultKind
from tests.dev.gemini.conftest import MODEL, World, find_detail


async def test_control_shows_requests(world: World, http: httpx.AsyncClient) -> None:
    """The control API lists the latest requests."""
    await world.ask("Hello", system_instruction="Be brief.")

    assert (await http.get("/control/requests")).json()["requests"] == [
        {
            "key": "key-1",
            "model": MODEL,
            "system_instruction": "Be brief.",
            "contents": "Hello",
            "at": "2026-01-15T12:00:00+00:00",
        }
    ]


async def test_control_shows_usage(world: World, http: httpx.AsyncClient) -> None:
    """The control API shows the usage by key and by project."""
    world.add_fault(FaultKind.UNAVAILABLE)
    await world.error()
    await world.ask()

    usage = (await http.get("/control/usage")).json()

    counts = {"day": "2026-01-15", "requests": 2, "served": 1, "unanswered": 0, "refused": {"503": 1}}
    assert usage == {
        "keys": [{"key": "key-1"} | counts],
        "projects": [{"project": "shared"} | counts],
        "turned_away": {},
    }


async def test_control_adds_faults(world: World, http: httpx.AsyncClient) -> None:
    """A fault that was added by the control API is listed and applies."""
    added = await http.post("/control/faults", json={"kind": "day_quota", "key": "key-1", "retry_delay_s": 5})
    listed = (await http.get("/control/faults")).json()["faults"]

    assert (added.status_code, listed) == (201, [added.json()])
    assert find_detail(await world.error(), "RetryInfo")["retryDelay"] == "5s"


async def test_control_deletes_faults(world: World, http: httpx.AsyncClient) -> None:
    """Requests succeed after the control API deleted the faults."""
    world.add_fault(FaultKind.UNAVAILABLE, times=None)
    await http.delete("/control/faults")

    assert (await world.ask()).text


async def test_control_resets_the_stand_in(daily_quota_world: World, http: httpx.AsyncClient) -> None:
    """A reset removes the usage and restores the quotas."""
    await daily_quota_world.ask()
    await daily_quota_world.ask()
    await http.post("/control/reset")

    assert (await http.get("/control/usage")).json() == {"keys": [], "projects": [], "turned_away": {}}
    assert (await daily_quota_world.ask()).text


@pytest.mark.parametrize(
    "body",
    [
        b"soup",
        b"[]",
        b"{}",
        b'{"kind": "flood"}',
        b'{"kind": "hang", "method": "x"}',
        b'{"kind": "hang", "times": 0}',
        b'{"kind": "hang", "retry_delay_s": 5}',
        b'{"kind": "day_quota", "retry_delay_s": -1}',
        b'{"kind": "day_quota", "retry_delay_s": NaN}',
        b'{"kind": "safety", "text": "x"}',
    ],
)
async def test_control_explains_invalid_input(http: httpx.AsyncClient, body: bytes) -> None:
    """The control API answers invalid input with a 400 that names the problem."""
    answer = await http.post("/control/faults", content=body)

    assert (answer.status_code, bool(orjson.loads(answer.content)["error"])) == (400, True)
