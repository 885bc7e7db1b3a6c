"""The story of a lunch, played against the running system through its public doors."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp

from app.dev.addresses import Addresses, colleagues_bearer, managers_bearer
from app.dev.seed.users import FIRST_TGID
from app.settings import Settings

CAFE_ID = 1
CHAT = {"id": -1001000000001, "type": "supergroup", "title": "Basil & Thyme — kitchen"}
COOK = {"id": 7001, "first_name": "Cleo", "username": "cleo_cooks", "language_code": "en"}

EATERS = (FIRST_TGID, FIRST_TGID + 1)
DAYS_AHEAD = 60
COLLEAGUES = range(FIRST_TGID, FIRST_TGID + 60)

RECOMMENDATIONS = """
  query ($tgid: TelegramId!) {
    recommendations(tgid: $tgid) { summary tips generatedAt stats { ordersCount favoriteDishes { name count } } }
  }
"""

SUBSCRIPTIONS = {
    "linkRequestUpdates": "subscription { linkRequestUpdates { id status tgChatId cafe { name } } }",
    "recommendationRunUpdates": "subscription { recommendationRunUpdates { date status total done failed } }",
    "notificationUpdates": "subscription { notificationUpdates { id kind date status acknowledgedBy } }",
}

STEP_TIMEOUT_S = 20.0
START_TIMEOUT_S = 60.0
POLL_S = 0.05


class StepFailed(Exception):
    """A step of the story did not happen; the message says which, and what was seen instead."""


class Demo:
    """The story. Each step waits for what it wants to see, and says what came."""

    def __init__(
        self,
        addresses: Addresses,
        settings: Settings,
        http: aiohttp.ClientSession,
        step_timeout_s: float = STEP_TIMEOUT_S,
    ) -> None:
        self._api = addresses.api
        self._chats = f"{addresses.telegram}/control/chats"
        self._settings = settings
        self._bearer = managers_bearer(settings)
        self._http = http
        self._step_timeout_s = step_timeout_s
        self._began = time.monotonic()
        self._last = "The start"

    async def play(self) -> None:
        """Play it once.

        Raises StepFailed.
        """
        try:
            await self._play()
        except (aiohttp.ClientError, TimeoutError, TypeError, ValueError) as error:
            raise StepFailed(f"after «{self._last}»: {str(error) or type(error).__name__}") from error

    async def _play(self) -> None:
        await self.wait_until_ready()
        await self._post(self._chats, CHAT)
        await self._forget_earlier_links()
        async with self._dashboard() as updates:
            await self._play_link(updates)
            await self._play_lunch(updates)
            await self._play_recommendations(updates)

    async def _play_link(self, updates: aiohttp.ClientWebSocketResponse) -> None:
        told = len(await self._answers())
        await self._post(f"{self._chats}/{CHAT['id']}/messages", {"text": f"/link {CAFE_ID}", "from": COOK})
        self._say("The kitchen's chat writes to the bot", f"{COOK['first_name']}: /link {CAFE_ID}")
        request = await self._see("The request is there", self._pending)
        await self._see("The dashboard has seen it", lambda: self._update(updates, id=request["id"], status="PENDING"))
        await self._see("The bot has answered in the chat", lambda: self._answer(told, "Asked for this chat"))
        await self._see("A manager approves it", lambda: self._approve(request["id"]))
        await self._see(
            "The dashboard has seen that", lambda: self._update(updates, id=request["id"], status="APPROVED")
        )
        await self._see("The chat has been told", lambda: self._answer(told + 1, "approved"))

    async def _play_lunch(self, updates: aiohttp.ClientWebSocketResponse) -> None:
        told = len(await self._answers())
        date = await self._see("There is a day that one can order for", self._open_date)
        for tgid in EATERS:
            await self._see("A colleague orders", partial(self._order, date, tgid))
        await self._see("The deadline passes (a manager announces it)", lambda: self._announce(date))
        await self._see("The kitchen has its orders", lambda: self._answer(told, "order for"))
        await self._see("The dashboard has seen it sent", lambda: self._update(updates, kind="ORDERS", status="SENT"))
        await self._see("The kitchen presses «Received»", self._press_received)
        await self._see("The dashboard has seen that", lambda: self._acknowledged(updates))

    async def _play_recommendations(self, updates: aiohttp.ClientWebSocketResponse) -> None:
        run = await self._see("A manager has recommendations made", self._start_run)
        await self._see("They are made", lambda: self._finished(run["date"]))
        if run["status"] == "RUNNING":
            await self._see("The dashboard has seen them made", lambda: self._update(updates, status="FINISHED"))
        await self._see("The keys have had their share", self._keys)
        tgid = await self._see("There is a colleague who got one", self._recommended)
        read = await self._see("They read it by GraphQL", partial(self._read, tgid))
        await self._see("They read the same by REST", partial(self._read_by_rest, tgid, read))
        await self._post(self._chats, {"id": tgid, "type": "private", "first_name": "Colleague"})
        told = len(await self._answers(tgid))
        await self._post(f"{self._chats}/{tgid}/messages", {"text": "/recommendations"})
        await self._see("They ask the bot", lambda: self._answer(told, read["tips"][0], tgid))

    async def wait_until_ready(self) -> None:
        """Wait until the api answers, and all that it needs.

        Raises StepFailed.
        """
        await self._see("The system is ready", self._ready, START_TIMEOUT_S)

    async def _see[T](self, title: str, look: Callable[[], Awaitable[T | None]], timeout_s: float | None = None) -> T:
        """Look until there is something, say it, and return it."""
        timeout_s = timeout_s or self._step_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while (seen := await look()) is None:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise StepFailed(f"{title}: this did not happen within {timeout_s:.0f} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise StepFailed(f"{title}: {error}") from error
        self._say(title, seen if isinstance(seen, str) else json.dumps(seen, ensure_ascii=False))
        return seen

    def _say(self, title: str, seen: str) -> None:
        self._last = title
        print(f"{time.monotonic() - self._began:6.2f} s  ✓ {title:<36}  {seen}", flush=True)

    async def _ready(self) -> str | None:
        with suppress(aiohttp.ClientError):
            async with self._http.get(f"{self._api}/readyz") as response:
                answer: dict[str, str] = await response.json()
                if response.status == HTTPStatus.OK:
                    return ", ".join(name for name in answer if name != "status")
        return None

    async def _forget_earlier_links(self) -> None:
        """Undo what an earlier demo has left: its data outlive it."""
        cafe = await self._graphql("query ($id: ID!) { cafe(id: $id) { name tgChatId } }", id=CAFE_ID)
        if cafe["cafe"]["tgChatId"] is not None:
            told = len(await self._answers())
            await self._graphql("mutation ($id: ID!) { unlink(cafeId: $id) { id } }", id=CAFE_ID)
            await self._see("The link of an earlier demo is undone", lambda: self._answer(told, "no longer"))
        earlier = await self._graphql(
            "query ($id: ID!) { linkRequests(status: PENDING, cafeId: $id, first: 100) { nodes { id } } }", id=CAFE_ID
        )
        for request in earlier["linkRequests"]["nodes"]:
            await self._graphql("mutation ($id: ID!) { reject(requestId: $id) { id } }", id=request["id"])

    @asynccontextmanager
    async def _dashboard(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Subscribe as a dashboard does (graphql-transport-ws), and wait until the server listens for us."""
        before = await self._subscriptions()
        async with self._http.ws_connect(f"{self._api}/graphql", protocols=["graphql-transport-ws"]) as socket:
            await socket.send_json({"type": "connection_init", "payload": {"Authorization": self._bearer}})
            await socket.receive_json()
            for id_, query in SUBSCRIPTIONS.items():
                await socket.send_json({"type": "subscribe", "id": id_, "payload": {"query": query}})
            async with asyncio.timeout(STEP_TIMEOUT_S):
                while await self._subscriptions() < before + len(SUBSCRIPTIONS):
                    await asyncio.sleep(POLL_S)
            self._say("A dashboard listens on a WebSocket", ", ".join(SUBSCRIPTIONS))
            yield socket

    async def _subscriptions(self) -> float:
        async with self._http.get(f"{self._api}/metrics") as response:
            lines = (await response.text()).splitlines()
        return float(next(line for line in lines if line.startswith("lunch_bot_subscriptions ")).split()[1])

    async def _pending(self) -> Any:
        found = await self._graphql(
            "query ($id: ID!) { linkRequests(status: PENDING, cafeId: $id) { nodes { id status tgChatId tgUsername } } }",
            id=CAFE_ID,
        )
        requests = found["linkRequests"]["nodes"]
        return requests[0] if requests else None

    async def _update(self, updates: aiohttp.ClientWebSocketResponse, **wanted: object) -> Any:
        """Take the next update, if it says what is wanted."""
        message = await updates.receive_json()
        if message["type"] != "next":
            raise ValueError(f"the socket said {message}")
        [update] = message["payload"]["data"].values()
        return update if all(update.get(name) == value for name, value in wanted.items()) else None

    async def _acknowledged(self, updates: aiohttp.ClientWebSocketResponse) -> Any:
        update = await self._update(updates, kind="ORDERS")
        return update if update and update["acknowledgedBy"] else None

    async def _open_date(self) -> str | None:
        """Find a day that can be ordered for; those of earlier demos are closed."""
        for days in range(DAYS_AHEAD):
            date = (datetime.now(UTC).date() + timedelta(days=days)).isoformat()
            found = await self._graphql(
                "query ($id: ID!, $date: Date!) { orderAvailability(cafeId: $id, date: $date) { canOrder } }",
                id=CAFE_ID,
                date=date,
            )
            if found["orderAvailability"]["canOrder"]:
                return date
        return None

    async def _order(self, date: str, tgid: int) -> Any:
        """Order the first combo with the first dishes of its categories, and an extra."""
        menu = await self._graphql(
            "query ($id: ID!) { cafe(id: $id) { combos { nodes { id categories } } "
            "menuItems(first: 100) { nodes { id category } } } }",
            id=CAFE_ID,
        )
        items = menu["cafe"]["menuItems"]["nodes"]
        combo = menu["cafe"]["combos"]["nodes"][0]
        first = {item["category"]: item["id"] for item in reversed(items)}
        placed = await self._graphql(
            "mutation ($cafe: ID!, $date: Date!, $combo: ID!, $dishes: [ID!]!, $extras: [OrderExtraInput!], $tgid: "
            "TelegramId) { placeOrder(cafeId: $cafe, date: $date, comboId: $combo, dishIds: $dishes, extras: $extras, "
            "tgid: $tgid) { userName date totalPrice } }",
            cafe=CAFE_ID,
            date=date,
            combo=combo["id"],
            dishes=[first[category] for category in combo["categories"]],
            extras=[{"menuItemId": first["EXTRA"], "quantity": 2}],
            tgid=tgid,
        )
        return placed["placeOrder"]

    async def _announce(self, date: str) -> str | None:
        announced = await self._graphql(
            "mutation ($id: ID!, $date: Date!) { announceDeadline(cafeId: $id, date: $date) }", id=CAFE_ID, date=date
        )
        return date if announced["announceDeadline"] else None

    async def _start_run(self) -> Any:
        started = await self._graphql("mutation { startRecommendationRun { date status total keysSufficeFor } }")
        return started["startRecommendationRun"]

    async def _finished(self, date: str) -> Any:
        query = "query ($date: Date!) { recommendationRun(date: $date) { status total done failed } }"
        run = (await self._graphql(query, date=date))["recommendationRun"]
        return run if run["status"] == "FINISHED" else None

    async def _keys(self) -> Any:
        return (await self._graphql("{ geminiKeys { nodes { id used left state } } }"))["geminiKeys"]["nodes"]

    async def _recommended(self) -> int | None:
        for tgid in COLLEAGUES:
            found = await self._graphql(RECOMMENDATIONS, tgid=tgid)
            if found["recommendations"]["summary"]:
                return tgid
        return None

    async def _read(self, tgid: int) -> Any:
        bearer = colleagues_bearer(self._settings, tgid)
        return (await self._graphql(RECOMMENDATIONS, bearer, tgid=tgid))["recommendations"]

    async def _read_by_rest(self, tgid: int, read: Any) -> str | None:
        headers = {"Authorization": colleagues_bearer(self._settings, tgid)}
        async with self._http.get(f"{self._api}/api/v1/users/{tgid}/recommendations", headers=headers) as response:
            found = await response.json()
        same = (found["summary"], found["tips"]) == (read["summary"], read["tips"])
        return f"GET /api/v1/users/{tgid}/recommendations: {response.status}" if same else None

    async def _press_received(self) -> str | None:
        """Press the newest button of the kitchen's chat, as one of the cooks."""
        async with self._http.get(f"{self._chats}/{CHAT['id']}/messages") as response:
            messages = (await response.json())["messages"]
        for message in reversed(messages):
            for button in (button for row in message["buttons"] for button in row):
                press = {"message_id": message["message_id"], "callback_data": button["callback_data"], "from": COOK}
                await self._post(f"{self._chats}/{CHAT['id']}/press", press)
                return f"{COOK['first_name']} presses {button['text']}"
        return None

    async def _approve(self, request_id: str) -> Any:
        approved = await self._graphql(
            "mutation ($id: ID!) { approve(requestId: $id) { id status processedBy } }", id=request_id
        )
        return approved["approve"]

    async def _answers(self, chat_id: object = CHAT["id"]) -> list[str]:
        async with self._http.get(f"{self._chats}/{chat_id}/messages") as response:
            messages = (await response.json())["messages"]
        return [message["text"] for message in messages if message["direction"] == "from_bot"]

    async def _answer(self, after: int, part: str, chat_id: object = CHAT["id"]) -> str | None:
        return next((text for text in (await self._answers(chat_id))[after:] if part in text), None)

    async def _graphql(self, query: str, bearer: str | None = None, **variables: object) -> dict[str, Any]:
        answer = await self._post(
            f"{self._api}/graphql", {"query": query, "variables": variables}, Authorization=bearer or self._bearer
        )
        if "errors" in answer:
            raise ValueError(answer["errors"][0]["message"])
        data: dict[str, Any] = answer["data"]
        return data

    async def _post(self, url: str, body: object, **headers: str) -> Any:
        async with self._http.post(url, json=body, headers=headers) as response:
            return await response.json()
