"""The clients of the demo: GraphQL, REST and a dashboard of the system, and chats of the Telegram stand-in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from app.dev.addresses import Addresses, manager_bearer, user_bearer
from app.settings import Settings

POLL_S = 0.05
SUBSCRIBE_TIMEOUT_S = 20.0


class Dashboard:
    """A WebSocket with subscriptions."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def next_update(self, **expected: object) -> Any:
        """Receive the next update; return it if its fields have the expected values, else None."""
        message = await self._socket.receive_json()
        if message["type"] != "next":
            raise ValueError(f"unexpected WebSocket message {message}")
        [update] = message["payload"]["data"].values()
        return update if all(update.get(name) == value for name, value in expected.items()) else None


class SystemClient:
    """The system's public APIs. Requests are the manager's unless a method takes a user."""

    def __init__(self, addresses: Addresses, settings: Settings, http: aiohttp.ClientSession) -> None:
        self._api = addresses.api
        self._settings = settings
        self._manager_bearer = manager_bearer(settings)
        self._http = http

    async def graphql(self, query: str, *, user: int | None = None, **variables: object) -> dict[str, Any]:
        """Execute an operation as the manager, or as the user with this id; return its data.

        Raises ValueError with the first error.
        """
        bearer = self._manager_bearer if user is None else user_bearer(self._settings, user)
        body = {"query": query, "variables": variables}
        async with self._http.post(f"{self._api}/graphql", json=body, headers={"Authorization": bearer}) as response:
            answer = await response.json()
        if "errors" in answer:
            raise ValueError(answer["errors"][0]["message"])
        data: dict[str, Any] = answer["data"]
        return data

    async def rest(self, path: str, *, user: int) -> tuple[int, Any]:
        """GET `path` as the user with this id; return the status and the body."""
        headers = {"Authorization": user_bearer(self._settings, user)}
        async with self._http.get(f"{self._api}{path}", headers=headers) as response:
            return response.status, await response.json()

    @asynccontextmanager
    async def dashboard(self, subscriptions: dict[str, str]) -> AsyncIterator[Dashboard]:
        """Subscribe by graphql-transport-ws, and wait until the server has all subscriptions."""
        before = await self._count_subscriptions()
        async with self._http.ws_connect(f"{self._api}/graphql", protocols=["graphql-transport-ws"]) as socket:
            await socket.send_json({"type": "connection_init", "payload": {"Authorization": self._manager_bearer}})
            await socket.receive_json()
            for id_, query in subscriptions.items():
                await socket.send_json({"type": "subscribe", "id": id_, "payload": {"query": query}})
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                while await self._count_subscriptions() < before + len(subscriptions):
                    await asyncio.sleep(POLL_S)
            yield Dashboard(socket)

    async def _count_subscriptions(self) -> float:
        async with self._http.get(f"{self._api}/metrics") as response:
            lines = (await response.text()).splitlines()
        return float(next(line for line in lines if line.startswith("lunch_bot_subscriptions ")).split()[1])


class ChatClient:
    """The control API of the Telegram stand-in."""

    def __init__(self, addresses: Addresses, http: aiohttp.ClientSession) -> None:
        self._chats = f"{addresses.telegram}/control/chats"
        self._http = http

    async def create(self, chat: dict[str, Any]) -> None:
        """Create a chat; an existing one stays as it is."""
        await self._post(self._chats, chat)

    async def write(self, chat_id: int, text: str, **fields: object) -> None:
        """Write to the bot."""
        await self._post(f"{self._chats}/{chat_id}/messages", {"text": text, **fields})

    async def press(self, chat_id: int, message: dict[str, Any], button: dict[str, Any], sender: object) -> None:
        """Press a button under a message."""
        press = {"message_id": message["message_id"], "callback_data": button["callback_data"], "from": sender}
        await self._post(f"{self._chats}/{chat_id}/press", press)

    async def list_messages(self, chat_id: int) -> list[dict[str, Any]]:
        """Return the messages of a chat, oldest first."""
        async with self._http.get(f"{self._chats}/{chat_id}/messages") as response:
            return list((await response.json())["messages"])

    async def list_bot_messages(self, chat_id: int) -> list[dict[str, Any]]:
        """Return the messages of the bot in a chat, oldest first."""
        return [message for message in await self.list_messages(chat_id) if message["direction"] == "from_bot"]

    async def list_bot_texts(self, chat_id: int) -> list[str]:
        """Return the texts of the bot's messages in a chat, oldest first."""
        return [message["text"] for message in await self.list_bot_messages(chat_id)]

    async def _post(self, url: str, body: object) -> None:
        async with self._http.post(url, json=body) as response:
            await response.json()
