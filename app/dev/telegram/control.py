"""The control API: what people and tests use to play the other side. Bad input is told in a JSON 400."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.dev.control import control_route
from app.dev.telegram.calls import whole_number
from app.dev.telegram.chats import Chat, Person, type_of
from app.dev.telegram.dispatch import JsonResponse
from app.dev.telegram.faults import Failure
from app.dev.telegram.shapes import (
    MAX_ID,
    STRANGER,
    ButtonPress,
    MembershipChange,
    NewChat,
    NewMessage,
    Sender,
    chat_json,
    message_json,
    press_json,
)
from app.dev.telegram.state import Telegram

KEEP_ALIVE_S = 15
"""How often an idle event stream says that it is alive; proxies cut silent ones after 30 to 60 s."""


async def show_bot(_: Request, telegram: Telegram) -> Response:
    """Who the bot is, its menu of commands, and whether somebody runs it."""
    commands = [command for menu in telegram.commands.values() for command in menu]
    return JsonResponse(
        telegram.bot_user()
        | {
            "commands": list({command["command"]: command for command in commands}.values()),
            "is_polling": telegram.updates.is_polled,
            "is_listening": telegram.updates.is_taken,
            "webhook": telegram.updates.webhook.url if telegram.updates.webhook else None,
            "pending_updates": len(telegram.updates),
        }
    )


async def list_chats(_: Request, telegram: Telegram) -> Response:
    """All chats, the oldest first."""
    return JsonResponse({"chats": [chat_json(chat) for chat in telegram.chats.values()]})


async def create_chat(request: Request, telegram: Telegram) -> Response:
    """Make a chat; the bot is told nothing."""
    new = NewChat.model_validate_json(await request.body())
    chat_id = telegram.free_id(new.type) if new.id is None else new.id
    if new.type == "private":
        person = Person(chat_id, new.first_name, new.username, new.language_code)
        chat = Chat(chat_id, new.type, person=person, membership=new.status)
    else:
        chat = Chat(chat_id, new.type, new.title, username=new.username, membership=new.status)
    return JsonResponse(chat_json(telegram.add_chat(chat)), status_code=201)


async def list_messages(request: Request, telegram: Telegram) -> Response:
    """Everything in a chat, the oldest first."""
    chat = _chat_of(request, telegram)
    return JsonResponse({"chat": chat_json(chat), "messages": [message_json(m) for m in chat.messages.values()]})


async def write_message(request: Request, telegram: Telegram) -> Response:
    """Let somebody write to the bot; a chat that does not exist begins with this."""
    new = NewMessage.model_validate_json(await request.body())
    chat_id = _chat_id_of(request)
    chat = telegram.chats.get(chat_id) or _chat_begun_by(new.sender, chat_id)
    person = _person_for(chat, new.sender)
    if chat_id not in telegram.chats:
        telegram.add_chat(chat)
    message, update_id = telegram.write(chat, person, new.text)
    return JsonResponse(message_json(message) | {"update_id": update_id}, status_code=201)


async def press_button(request: Request, telegram: Telegram) -> Response:
    """Let somebody press a button under a message of the bot."""
    wanted = ButtonPress.model_validate_json(await request.body())
    chat = _chat_of(request, telegram)
    message = chat.messages.get(wanted.message_id)
    if message is None:
        complaint = f"there is no message {wanted.message_id} in chat {chat.id}"
        raise ValueError(complaint)
    person = _person_for(chat, wanted.sender)
    press, update_id = telegram.press(chat, message, person, wanted.callback_data)
    return JsonResponse(press_json(press) | {"update_id": update_id}, status_code=201)


async def change_membership(request: Request, telegram: Telegram) -> Response:
    """Block the bot or throw it out (kicked), take it away (left), let it in again (member)."""
    wanted = MembershipChange.model_validate_json(await request.body())
    chat = _chat_of(request, telegram)
    actor = _person_for(chat, wanted.sender).as_user()
    update_id = telegram.change_membership(chat, wanted.status, actor)
    return JsonResponse(chat_json(chat) | {"update_id": update_id})


async def order_failure(request: Request, telegram: Telegram) -> Response:
    """Let the next calls of a method fail."""
    failure = Failure.model_validate_json(await request.body())
    telegram.failures.order(failure)
    return JsonResponse(failure.model_dump(mode="json"), status_code=201)


async def list_failures(_: Request, telegram: Telegram) -> Response:
    """The failures that are still to come."""
    return JsonResponse({"failures": [failure.model_dump(mode="json") for failure in telegram.failures.listed()]})


async def clear_failures(_: Request, telegram: Telegram) -> Response:
    """Let everything work again."""
    telegram.failures.clear()
    return JsonResponse({"failures": []})


async def reset(_: Request, telegram: Telegram) -> Response:
    """Begin anew."""
    telegram.reset()
    return JsonResponse({"ok": True})


async def stream_changes(_: Request, telegram: Telegram) -> Response:
    """Server-Sent Events: one for everything that changes."""
    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(_event_lines(telegram), media_type="text/event-stream", headers=headers)


async def _event_lines(telegram: Telegram) -> AsyncIterator[bytes]:
    with telegram.changes.heard() as changes:
        yield b"retry: 1000\n\n"
        while True:
            try:
                async with asyncio.timeout(KEEP_ALIVE_S):
                    change = await changes.get()
            except TimeoutError:
                yield b": alive\n\n"
                continue
            if change is None:
                return
            yield b"data: " + orjson.dumps(change) + b"\n\n"


def _chat_id_of(request: Request) -> int:
    written = request.path_params["chat_id"]
    chat_id = whole_number(written)
    if not chat_id or abs(chat_id) >= MAX_ID:
        complaint = f"{written!r} is no chat id"
        raise ValueError(complaint)
    return chat_id


def _chat_of(request: Request, telegram: Telegram) -> Chat:
    chat_id = _chat_id_of(request)
    if chat_id not in telegram.chats:
        complaint = f"there is no chat {chat_id}"
        raise ValueError(complaint)
    return telegram.chats[chat_id]


def _chat_begun_by(sender: Sender | None, chat_id: int) -> Chat:
    if chat_id < 0:
        return Chat(chat_id, type_of(chat_id), f"Group {chat_id}")
    person = sender.person() if sender else Person(chat_id, STRANGER.first_name)
    return Chat(chat_id, "private", person=person)


def _person_for(chat: Chat, sender: Sender | None) -> Person:
    if sender is None:
        return chat.person or STRANGER
    if chat.person is not None and sender.id != chat.id:
        complaint = f"in the private chat {chat.id} only its own person can act, not {sender.id}"
        raise ValueError(complaint)
    return sender.person()


_route = partial(control_route, state="telegram", answer=JsonResponse)

CONTROL_ROUTES = [
    _route("/bot", show_bot, "GET"),
    _route("/chats", list_chats, "GET"),
    _route("/chats", create_chat, "POST"),
    _route("/chats/{chat_id}/messages", list_messages, "GET"),
    _route("/chats/{chat_id}/messages", write_message, "POST"),
    _route("/chats/{chat_id}/press", press_button, "POST"),
    _route("/chats/{chat_id}/membership", change_membership, "POST"),
    _route("/failures", list_failures, "GET"),
    _route("/failures", order_failure, "POST"),
    _route("/failures", clear_failures, "DELETE"),
    _route("/reset", reset, "POST"),
    _route("/events", stream_changes, "GET"),
]
