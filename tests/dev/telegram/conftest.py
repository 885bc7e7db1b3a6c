"""A Telegram stand-in on a real server, its control API, and a bot of aiogram."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.types import (
    InlineKeyboardButton,
    InlineKeyboardMarkup,
)
from starlette.applications import Starlette

from app.dev.telegram import create_telegram
from tests.servers import serving

TOKEN = "42:TEST-token"
DEADLINE_S = 10


class PlainSession(AiohttpSession):
    """A session that closes immediately; aiogram's waits 250 ms for TLS, which these tests do not use."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class World:
    """A running stand-in, its control API, and a bot that talks to it."""

    def __init__(self, app: Starlette, address: str) -> None:
        self.address = address
        self.state = app.state.telegram
        self.bot = self.new_bot()
        self.control = httpx.AsyncClient(base_url=f"{address}/control", timeout=DEADLINE_S)

    def new_bot(self, token: str = TOKEN) -> Bot:
        server = TelegramAPIServer.from_base(self.address)
        return Bot(token, session=PlainSession(api=server, timeout=DEADLINE_S))

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        response = await self.control.post(path, json=body)
        response.raise_for_status()
        return dict(response.json())

    async def get(self, path: str) -> dict[str, Any]:
        return dict((await self.control.get(path)).raise_for_status().json())

    async def create_chat(self, **properties: Any) -> int:
        return int((await self.post("/chats", **properties))["id"])

    async def write(self, chat_id: int, text: str, **fields: Any) -> dict[str, Any]:
        return await self.post(f"/chats/{chat_id}/messages", text=text, **fields)

    async def list_messages(self, chat_id: int) -> list[dict[str, Any]]:
        return list((await self.get(f"/chats/{chat_id}/messages"))["messages"])

    async def add_failure(self, kind: str, **details: Any) -> None:
        await self.post("/failures", method="sendMessage", kind=kind, **details)


@asynccontextmanager
async def running_world(app: Starlette) -> AsyncIterator[World]:
    async with serving(app) as address:
        world = World(app, address)
        async with world.bot.session, world.control:
            yield world
        app.state.telegram.close()


@pytest.fixture(scope="module")
async def shared_world() -> AsyncIterator[World]:
    async with running_world(create_telegram()) as world:
        yield world


@pytest.fixture
async def world(shared_world: World) -> World:
    """The stand-in without chats. One server serves all tests of a module, because starting one takes 0.2 s."""
    await shared_world.post("/reset")
    return shared_world


@pytest.fixture
async def person(world: World) -> int:
    return await world.create_chat(first_name="Anna", username="anna_k")


@pytest.fixture
async def group(world: World) -> int:
    return await world.create_chat(type="supergroup", title="Café")


def create_keyboard(data: str) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="Received", callback_data=data)]])
