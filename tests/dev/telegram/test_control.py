"""The control API and the page."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.dev.telegram.conftest import DEADLINE_S, World


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chats", {"type": "secret"}),
        ("/chats", {"type": "private", "id": -5}),
        ("/chats/soup/messages", {"text": "x"}),
        ("/chats/77/messages", {"text": " "}),
        ("/chats/77/press", {"message_id": 1, "callback_data": "x"}),
        ("/chats/77/membership", {"status": "left"}),
        ("/failures", {"kind": "flood"}),
    ],
)
async def test_control_explains_invalid_input(world: World, path: str, body: dict[str, Any]) -> None:
    """The control API answers invalid input with a 400 that names the problem."""
    response = await world.control.post(path, json=body)

    assert (response.status_code, bool(response.json()["error"])) == (400, True)


async def test_events_report_changes(world: World, person: int) -> None:
    """The event stream reports a new message."""
    async with world.control.stream("GET", "/events") as events:
        lines = events.aiter_lines()
        await anext(lines)
        await world.bot.send_message(person, "soup")
        async with asyncio.timeout(DEADLINE_S):
            change = await _first_data(lines)

    assert json.loads(change) == {"kind": "message", "chat_id": person}


async def _first_data(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        if line.startswith("data: "):
            return line.removeprefix("data: ")
    raise AssertionError("the stream ended without data")


async def test_reset_removes_everything(world: World, person: int) -> None:
    """A reset removes all chats."""
    await world.write(person, "soup")
    await world.post("/reset")

    assert (await world.get("/chats"))["chats"] == []


async def test_page_loads_only_its_own_files(world: World) -> None:
    """The page's policy allows only its own files."""
    page = await world.control.get(f"{world.address}/")

    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'")
