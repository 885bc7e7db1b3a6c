"""From an HTTP request to a method of the Bot API, and the ways in which it can fail on the way."""

import asyncio
import re
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from app.dev.telegram.bot_api import METHODS, find_chat, get_updates
from app.dev.telegram.calls import BotApiError, Call, read_call, whole_number
from app.dev.telegram.faults import Failure, FailureKind
from app.dev.telegram.state import Telegram

_TOKEN = re.compile(r"[1-9][0-9]{0,17}:[A-Za-z0-9_-]+")


class JsonResponse(Response):
    """An answer of the Bot API or the control API."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write it as UTF-8."""
        return orjson.dumps(content)


class DroppedConnection(Response):
    """The head of an answer whose body never comes: the server closes the connection, the client sees it break."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send the head only."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1024")]})


async def answer(request: Request) -> Response:
    """One call of the Bot API."""
    try:
        return await _answer(request)
    except BotApiError as error:
        request.app.state.telegram.refusals[error.error_code] += 1
        return JsonResponse(error.as_json(), status_code=error.error_code)


async def _answer(request: Request) -> Response:
    telegram: Telegram = request.app.state.telegram
    token = request.path_params["token"]
    if not _TOKEN.fullmatch(token):
        raise BotApiError(404, "Not Found")
    if telegram.token not in {None, token}:
        raise BotApiError(401, "Unauthorized")
    telegram.speak_as(token)
    name = request.path_params["method"].lower()
    if name not in METHODS and name != "getupdates":
        raise BotApiError(404, "Not Found: method not found")
    call = await read_call(request)
    failure = telegram.failures.take(name, whole_number(call.text("chat_id").strip()))
    if failure is not None:
        return await _fail(request, telegram, name, call, failure)
    return JsonResponse({"ok": True, "result": await _perform(request, telegram, name, call)})


async def _perform(request: Request, telegram: Telegram, name: str, call: Call) -> Any:
    if name == "getupdates":
        return await unless_left(request, telegram, get_updates(telegram, call)) or []
    return METHODS[name](telegram, call)


async def _fail(request: Request, telegram: Telegram, name: str, call: Call, failure: Failure) -> Response:
    match failure.kind:
        case FailureKind.BAD_GATEWAY:
            page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
            return HTMLResponse(page, status_code=502)
        case FailureKind.HANG:
            await unless_left(request, telegram, asyncio.Event().wait())
        case FailureKind.DROP_AFTER:
            with suppress(BotApiError):
                await _perform(request, telegram, name, call)
        case FailureKind.MIGRATE:
            supergroup = telegram.upgrade(find_chat(telegram, call), failure.migrate_to_chat_id)
            failure.migrate_to_chat_id = supergroup.id
    refusal = failure.refusal()
    if refusal is not None:
        raise refusal
    return DroppedConnection()


async def unless_left[T](request: Request, telegram: Telegram, work: Coroutine[Any, Any, T]) -> T | None:
    """Wait for the work; None when the client has gone or the stand-in closes before it is done."""
    working = asyncio.ensure_future(work)
    waits = [working, asyncio.ensure_future(_client_left(request)), asyncio.ensure_future(telegram.closing.wait())]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for wait in waits:
            wait.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
