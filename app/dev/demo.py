"""The demo: the story of a lunch, played against the running system through its public APIs and its chats."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import aiohttp

from app.dev.addresses import Addresses
from app.dev.demo_client import POLL_S, ChatClient, Dashboard, SystemClient
from app.dev.people import MANAGER, MANAGERS_CHAT_ID
from app.dev.progress import PATIENCE_S, Progress
from app.dev.seed import USERS
from app.dev.seed.users import FIRST_TGID
from app.settings import Settings

CAFE_ID = 1
CHAT_ID = -1001000000001
CHAT = {"id": CHAT_ID, "type": "supergroup", "title": "Basil & Thyme: orders"}
COOK = {"id": 7001, "first_name": "Cleo", "username": "cleo_cooks", "language_code": "en"}

TGIDS = range(FIRST_TGID, FIRST_TGID + USERS)
ORDERING_TGIDS = TGIDS[:2]
MAX_DAYS_AHEAD = 60

SUBSCRIPTIONS = {
    "linkRequestUpdates": "subscription { linkRequestUpdates { id status tgChatId cafe { name } } }",
    "recommendationRunUpdates": "subscription { recommendationRunUpdates { date status total done failed } }",
    "notificationUpdates": "subscription { notificationUpdates { id kind date status acknowledgedBy } }",
}

CAFE_CHAT = "query ($id: ID!) { cafe(id: $id) { name tgChatId } }"
UNLINK = "mutation ($id: ID!) { unlink(cafeId: $id) { id } }"
PENDING_REQUESTS = """
  query ($id: ID!) {
    linkRequests(status: PENDING, cafeId: $id, first: 100) { nodes { id status tgChatId tgUsername } }
  }
"""
REJECT = "mutation ($id: ID!) { reject(requestId: $id) { id } }"
AVAILABILITY = "query ($id: ID!, $date: Date!) { orderAvailability(cafeId: $id, date: $date) { canOrder } }"
MENU = """
  query ($id: ID!) {
    cafe(id: $id) { combos { nodes { id categories } } menuItems(first: 100) { nodes { id category } } }
  }
"""
PLACE_ORDER = """
  mutation ($cafe: ID!, $date: Date!, $combo: ID!, $dishes: [ID!]!, $extras: [OrderExtraInput!], $tgid: TelegramId) {
    placeOrder(cafeId: $cafe, date: $date, comboId: $combo, dishIds: $dishes, extras: $extras, tgid: $tgid) {
      userName date totalPrice
    }
  }
"""
ANNOUNCE = "mutation ($id: ID!, $date: Date!) { announceDeadline(cafeId: $id, date: $date) }"
START_RUN = "mutation { startRecommendationRun { date status total requestBudget } }"
RUN = "query ($date: Date!) { recommendationRun(date: $date) { status total done failed } }"
KEYS = "{ geminiKeys { nodes { id used left state } } }"
RECOMMENDATIONS = """
  query ($tgid: TelegramId!) {
    recommendations(tgid: $tgid) { summary tips generatedAt stats { ordersCount favoriteDishes { name count } } }
  }
"""
USER = "query ($tgid: TelegramId!) { user(tgid: $tgid) { tgid name } }"


class StepFailed(Exception):
    """A step of the demo did not succeed; the message names the step and the reason."""


class Demo:
    """The demo. Each step waits for its result and prints it."""

    def __init__(
        self,
        addresses: Addresses,
        settings: Settings,
        http: aiohttp.ClientSession,
        progress: Progress,
        step_timeout_s: float = PATIENCE_S,
    ) -> None:
        self._addresses = addresses
        self._system = SystemClient(addresses, settings, http)
        self._chats = ChatClient(addresses, http)
        self._progress = progress
        self._step_timeout_s = step_timeout_s
        self._last_step = "The start"

    async def play(self) -> None:
        """Play the demo once.

        Raises StepFailed.
        """
        try:
            await self._play()
        except (aiohttp.ClientError, TimeoutError, TypeError, ValueError) as error:
            raise StepFailed(f"after «{self._last_step}»: {str(error) or type(error).__name__}") from error

    async def _play(self) -> None:
        self._print_chapter(
            "The story of a lunch: a cafe, its cook Cleo, the manager Maria, and users. "
            f"Their chats are on {self._addresses.telegram}/"
        )
        await self._chats.create(CHAT)
        await self._undo_earlier_demo()
        async with self._system.dashboard(SUBSCRIPTIONS) as dashboard:
            self._print_step("A dashboard subscribes by WebSocket", ", ".join(SUBSCRIPTIONS))
            self._print_chapter("1. The cafe asks for its orders in its chat, and the manager agrees")
            await self._play_link(dashboard)
            self._print_chapter("2. Users order, ordering closes, and the cafe gets the list")
            await self._play_lunch(dashboard)
            self._print_chapter("3. Every user gets a recommendation, without waiting for the night")
            await self._play_recommendations(dashboard)

    async def _play_link(self, dashboard: Dashboard) -> None:
        count = len(await self._chats.list_bot_texts(CHAT_ID))
        managers_count = len(await self._chats.list_bot_texts(MANAGERS_CHAT_ID))
        await self._chats.write(CHAT_ID, f"/link {CAFE_ID}", **{"from": COOK})
        self._print_step("The cafe's chat asks for a link", f"{COOK['first_name']}: /link {CAFE_ID}")
        request = await self._step("The API lists the request", self._find_pending_request)
        request_id = request["id"]
        await self._step(
            "The dashboard shows the request", lambda: dashboard.next_update(id=request_id, status="PENDING")
        )
        await self._step(
            "The bot answers in the cafe's chat", lambda: self._find_bot_text(count, "Asked for this chat")
        )
        await self._step("The managers' chat gets the request", lambda: self._find_question(managers_count))
        await self._step("The manager presses a button there", self._press_approve)
        await self._step(
            "The dashboard shows the approval", lambda: dashboard.next_update(id=request_id, status="APPROVED")
        )
        await self._step(
            "The managers' chat shows the decision",
            lambda: self._find_bot_text(managers_count, "Approved by", MANAGERS_CHAT_ID),
        )
        await self._step("The bot tells the cafe's chat", lambda: self._find_bot_text(count + 1, "approved"))

    async def _play_lunch(self, dashboard: Dashboard) -> None:
        count = len(await self._chats.list_bot_texts(CHAT_ID))
        date = await self._step("A date is open for orders", self._find_open_date)
        for tgid in ORDERING_TGIDS:
            await self._step("A user orders", partial(self._order, date, tgid))
        await self._step("The manager announces the date", lambda: self._announce(date))
        await self._step("The cafe's chat gets the order list", lambda: self._find_bot_text(count, "order for"))
        await self._step("The dashboard shows it as sent", lambda: dashboard.next_update(kind="ORDERS", status="SENT"))
        await self._step("The cook presses «Received»", self._press_received)
        await self._step("The dashboard shows the confirmation", lambda: self._find_acknowledgement(dashboard))

    async def _play_recommendations(self, dashboard: Dashboard) -> None:
        run = await self._step("The manager starts the night's run", self._start_run)
        await self._step("The recommendations are ready", lambda: self._find_finished_run(run["date"]))
        if run["status"] == "RUNNING":
            await self._step("The dashboard shows the finished run", lambda: dashboard.next_update(status="FINISHED"))
        await self._step("The Gemini keys show their requests", self._list_keys)
        user = await self._step("A user has a recommendation", self._find_recommended_user)
        tgid, name = user["tgid"], user["name"]
        recommendation = await self._step("The user reads it by GraphQL", partial(self._read, tgid))
        await self._step("The user reads the same by REST", partial(self._read_by_rest, tgid, recommendation))
        await self._chats.create({"id": tgid, "type": "private", "first_name": name})
        count = len(await self._chats.list_bot_texts(tgid))
        await self._chats.write(tgid, "/recommendations")
        self._print_step("The user asks the bot", f"{name}: /recommendations")
        await self._step("The bot answers", lambda: self._find_bot_text(count, recommendation["tips"][0], tgid))

    async def _step[T](self, title: str, find: Callable[[], Awaitable[T | None]]) -> T:
        """Call `find` until it returns a result; print the result and return it."""
        try:
            async with asyncio.timeout(self._step_timeout_s), self._progress.waiting(lambda: title):
                while (result := await find()) is None:
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise StepFailed(f"{title}: this did not happen within {self._step_timeout_s:.0f} s") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise StepFailed(f"{title}: {error}") from error
        self._print_step(title, result if isinstance(result, str) else json.dumps(result, ensure_ascii=False))
        return result

    def _print_step(self, title: str, result: str) -> None:
        self._last_step = title
        self._progress.done(title, result)

    def _print_chapter(self, title: str) -> None:
        print(f"\n{title}\n", flush=True)

    async def _undo_earlier_demo(self) -> None:
        """Remove the link and the link requests of an earlier demo, which are still in the database."""
        data = await self._system.graphql(CAFE_CHAT, id=CAFE_ID)
        if data["cafe"]["tgChatId"] is not None:
            count = len(await self._chats.list_bot_texts(CHAT_ID))
            await self._system.graphql(UNLINK, id=CAFE_ID)
            await self._step("The link of an earlier demo is removed", lambda: self._find_bot_text(count, "no longer"))
        data = await self._system.graphql(PENDING_REQUESTS, id=CAFE_ID)
        for request in data["linkRequests"]["nodes"]:
            await self._system.graphql(REJECT, id=request["id"])

    async def _find_bot_text(self, after: int, part: str, chat_id: int = CHAT_ID) -> str | None:
        """Return the first text of the bot that contains `part`, without the first `after` texts."""
        texts = await self._chats.list_bot_texts(chat_id)
        return next((text for text in texts[after:] if part in text), None)

    async def _find_pending_request(self) -> Any:
        data = await self._system.graphql(PENDING_REQUESTS, id=CAFE_ID)
        requests = data["linkRequests"]["nodes"]
        return requests[0] if requests else None

    async def _find_open_date(self) -> str | None:
        """Return the first date that is open for orders; the dates of earlier demos are closed."""
        for days in range(MAX_DAYS_AHEAD):
            date = (datetime.now(UTC).date() + timedelta(days=days)).isoformat()
            data = await self._system.graphql(AVAILABILITY, id=CAFE_ID, date=date)
            if data["orderAvailability"]["canOrder"]:
                return date
        return None

    async def _order(self, date: str, tgid: int) -> Any:
        """Order the first combo, the first dish of each of its categories, and an extra."""
        cafe = (await self._system.graphql(MENU, id=CAFE_ID))["cafe"]
        combo = cafe["combos"]["nodes"][0]
        first_items = {item["category"]: item["id"] for item in reversed(cafe["menuItems"]["nodes"])}
        data = await self._system.graphql(
            PLACE_ORDER,
            cafe=CAFE_ID,
            date=date,
            combo=combo["id"],
            dishes=[first_items[category] for category in combo["categories"]],
            extras=[{"menuItemId": first_items["EXTRA"], "quantity": 2}],
            tgid=tgid,
        )
        return data["placeOrder"]

    async def _announce(self, date: str) -> str | None:
        data = await self._system.graphql(ANNOUNCE, id=CAFE_ID, date=date)
        return date if data["announceDeadline"] else None

    async def _find_question(self, after: int) -> str | None:
        """Return the first message with buttons in the managers' chat, without the first `after` messages."""
        messages = await self._chats.list_bot_messages(MANAGERS_CHAT_ID)
        for message in messages[after:]:
            if buttons := "  ".join(f"[{button['text']}]" for row in message["buttons"] for button in row):
                return f"{message['text']}\n{buttons}"
        return None

    async def _press_approve(self) -> str | None:
        manager = {"id": MANAGER.id, "first_name": MANAGER.first_name, "username": MANAGER.username}
        return await self._press(MANAGERS_CHAT_ID, manager)

    async def _press_received(self) -> str | None:
        return await self._press(CHAT_ID, COOK)

    async def _press(self, chat_id: int, person: dict[str, Any]) -> str | None:
        """Press the first button of the newest message with buttons, as this person."""
        for message in reversed(await self._chats.list_messages(chat_id)):
            for button in (button for row in message["buttons"] for button in row):
                await self._chats.press(chat_id, message, button, person)
                return f"{person['first_name']} presses [{button['text']}]"
        return None

    async def _find_acknowledgement(self, dashboard: Dashboard) -> Any:
        update = await dashboard.next_update(kind="ORDERS")
        return update if update and update["acknowledgedBy"] else None

    async def _start_run(self) -> Any:
        return (await self._system.graphql(START_RUN))["startRecommendationRun"]

    async def _find_finished_run(self, date: str) -> Any:
        run = (await self._system.graphql(RUN, date=date))["recommendationRun"]
        return run if run["status"] == "FINISHED" else None

    async def _list_keys(self) -> str:
        keys = (await self._system.graphql(KEYS))["geminiKeys"]["nodes"]
        return "\n".join(f"{key['id']}: {key['used']} used, {key['left']} left, {key['state']}" for key in keys)

    async def _find_recommended_user(self) -> Any:
        for tgid in TGIDS:
            data = await self._system.graphql(RECOMMENDATIONS, tgid=tgid)
            if data["recommendations"]["summary"]:
                return (await self._system.graphql(USER, tgid=tgid))["user"]
        return None

    async def _read(self, tgid: int) -> Any:
        return (await self._system.graphql(RECOMMENDATIONS, user=tgid, tgid=tgid))["recommendations"]

    async def _read_by_rest(self, tgid: int, recommendation: Any) -> str | None:
        path = f"/api/v1/users/{tgid}/recommendations"
        status, body = await self._system.rest(path, user=tgid)
        is_same = all(body[field] == recommendation[field] for field in ("summary", "tips"))
        return f"GET {path}: {status}" if is_same else None
