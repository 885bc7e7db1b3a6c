"""Calls of the Bot API: tokens, methods and formats of parameters."""

from typing import Any

import pytest
from aiogram.exceptions import (
    TelegramNotFound,
    TelegramUnauthorizedError,
)

from app.dev.telegram import create_telegram
from tests.dev.telegram.conftest import TOKEN, World, running_world


async def test_another_token_is_refused() -> None:
    """A stand-in with a token refuses other tokens."""
    async with running_world(create_telegram(token="1:other")) as world:
        with pytest.raises(TelegramUnauthorizedError):
            await world.bot.get_me()


async def test_unknown_method_is_refused(world: World) -> None:
    """A method that the stand-in does not support gets Telegram's error for unknown methods."""
    with pytest.raises(TelegramNotFound, match="method not found"):
        await world.bot.send_dice(1)


@pytest.mark.parametrize(
    "sent",
    [
        {"params": {"chat_id": "77", "text": "soup"}},
        {"data": {"chat_id": "77", "text": "soup"}},
        {"json": {"chat_id": "77", "text": "soup"}},
        {"json": {"chat_id": 77, "text": "soup"}},
        {"data": {"chat_id": "77"}, "files": {"text": (None, "soup")}},
    ],
    ids=["query", "form", "json", "json with a number", "multipart"],
)
async def test_parameters_are_accepted_in_every_format(world: World, sent: dict[str, Any]) -> None:
    """Parameters are accepted as query, form, multipart or JSON, and numbers also as strings."""
    await world.create_chat(id=77)

    response = await world.control.post(f"{world.address}/bot{TOKEN}/SENDMESSAGE", **sent)

    assert response.json()["result"]["text"] == "soup"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"text=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, 400),
        ({"json": {"chat_id": "--7", "text": "soup"}}, 400),
        ({"json": {"chat_id": 77, "text": "soup", "reply_markup": {"inline_keyboard": [[7]]}}}, 400),
        ({"json": {"chat_id": 77, "text": "soup", "reply_markup": "{"}}, 400),
        ({"json": {"chat_id": 77, "text": "soup", "entities": [{"type": 1}]}}, 400),
        ({"json": {"chat_id": {"a": [1]}, "text": ["soup"]}}, 400),
    ],
)
async def test_malformed_call_is_refused(world: World, sent: dict[str, Any], status: int) -> None:
    """A malformed call gets an error in the Bot API's format."""
    await world.create_chat(id=77)

    response = await world.control.post(f"{world.address}/bot{TOKEN}/sendMessage", **sent)

    assert (response.status_code, response.json()["ok"]) == (status, False)
