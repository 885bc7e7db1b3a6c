"""Routes HTTP requests to the methods of the Bot API, and applies injected failures."""

import re
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from app.dev.standins import DroppedConnection, JsonResponse, bad_gateway_response, hang, run_until_disconnect
from app.dev.telegram.bot_api import METHODS, get_target_chat, get_updates
from app.dev.telegram.calls import BotApiError, Call, parse_call, parse_integer
from app.dev.telegram.faults import Failure, FailureKind
from app.dev.telegram.state import Telegram

_TOKEN = re.compile(r"[1-9][0-9]{0,17}:[A-Za-z0-9_-]+")


async def handle_call(request: Request) -> Response:
    """Answer one call of the Bot API."""
    try:
        return await _handle(request)
    except BotApiError as error:
        request.app.state.telegram.refusals[error.error_code] += 1
        return JsonResponse(error.as_json(), status_code=error.error_code)


async def _handle(request: Request) -> Response:
    telegram: Telegram = request.app.state.telegram
    token = request.path_params["token"]
    if not _TOKEN.fullmatch(token):
        raise BotApiError(404, "Not Found")
    if telegram.token not in {None, token}:
        raise BotApiError(401, "Unauthorized")
    telegram.set_bot_id(token)
    method = request.path_params["method"].lower()
    if method not in METHODS and method != "getupdates":
        raise BotApiError(404, "Not Found: method not found")
    call = await parse_call(request)
    chat_id = parse_integer(call.text("chat_id").strip())
    failure = telegram.failures.take(lambda failure: failure.matches(method, chat_id))
    if failure is not None:
        return await _fail(request, telegram, method, call, failure)
    return JsonResponse({"ok": True, "result": await _execute(request, telegram, method, call)})


async def _execute(request: Request, telegram: Telegram, method: str, call: Call) -> Any:
    if method == "getupdates":
        return await run_until_disconnect(request, telegram.closing, get_updates(telegram, call)) or []
    return METHODS[method](telegram, call)


async def _fail(request: Request, telegram: Telegram, method: str, call: Call, failure: Failure) -> Response:
    match failure.kind:
        case FailureKind.BAD_GATEWAY:
            return bad_gateway_response()
        case FailureKind.HANG:
            await hang(request, telegram.closing)
        case FailureKind.DROP_AFTER:
            with suppress(BotApiError):
                await _execute(request, telegram, method, call)
        case FailureKind.MIGRATE:
            supergroup = telegram.upgrade(get_target_chat(telegram, call), failure.migrate_to_chat_id)
            failure.migrate_to_chat_id = supergroup.id
    error = failure.to_error()
    if error is not None:
        raise error
    # The client sees an answer that starts and breaks off.
    return DroppedConnection(200, [(b"content-length", b"1024")])
