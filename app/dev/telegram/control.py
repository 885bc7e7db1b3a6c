"""The control API: tests and the page act for people, and inject failures. Invalid input gets a JSON 400."""

import asyncio
from collections.abc import AsyncIterator

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from app.dev.control import ControlApi
from app.dev.standins import JsonResponse
from app.dev.telegram.calls import parse_integer
from app.dev.telegram.chats import Chat, Person, find_chat_type
from app.dev.telegram.faults import Failure
from app.dev.telegram.shapes import (
    DEFAULT_PERSON,
    MAX_ID,
    ButtonPress,
    MembershipChange,
    NewChat,
    NewMessage,
    NewTopic,
    Sender,
    chat_json,
    message_json,
    press_json,
)
from app.dev.telegram.state import Telegram

KEEP_ALIVE_S = 15
"""Interval of comments on an idle event stream: proxies close silent connections after 30 to 60 s."""


async def show_bot(_: Request, telegram: Telegram) -> Response:
    """Show the bot, its command menu, and whether a program receives its updates."""
    commands = [command for menu in telegram.commands.values() for command in menu]
    return JsonResponse(
        telegram.bot_user()
        | {
            "commands": list({command["command"]: command for command in commands}.values()),
            "is_polling": telegram.updates.is_polled,
            "is_listening": telegram.updates.has_receiver,
            "webhook": telegram.updates.webhook.url if telegram.updates.webhook else None,
            "pending_updates": len(telegram.updates),
        }
    )


async def list_chats(_: Request, telegram: Telegram) -> Response:
    """List all chats, oldest first."""
    return JsonResponse({"chats": [chat_json(chat) for chat in telegram.chats.values()]})


async def create_chat(request: Request, telegram: Telegram) -> Response:
    """Create a chat; the bot gets no update."""
    new = NewChat.model_validate_json(await request.body())
    chat_id = telegram.free_id(new.type) if new.id is None else new.id
    if new.type == "private":
        person = Person(chat_id, new.first_name, new.username, new.language_code)
        chat = Chat(chat_id, new.type, person=person, membership=new.status)
    else:
        chat = Chat(chat_id, new.type, new.title, username=new.username, membership=new.status)
    return JsonResponse(chat_json(telegram.add_chat(chat)), status_code=201)


async def list_messages(request: Request, telegram: Telegram) -> Response:
    """List the messages of a chat, oldest first."""
    chat = _get_chat(request, telegram)
    messages = [message_json(message) for message in chat.messages.values()]
    return JsonResponse({"chat": chat_json(chat), "messages": messages})


async def write_message(request: Request, telegram: Telegram) -> Response:
    """Write to the bot as a person; create the chat if it does not exist."""
    new = NewMessage.model_validate_json(await request.body())
    chat_id = _parse_chat_id(request)
    chat = telegram.chats.get(chat_id) or _new_chat(new.sender, chat_id)
    person = _get_person(chat, new.sender)
    if chat_id not in telegram.chats:
        telegram.add_chat(chat)
    message, update_id = telegram.write(chat, person, new.text, new.thread_id)
    return JsonResponse(message_json(message) | {"update_id": update_id}, status_code=201)


async def press_button(request: Request, telegram: Telegram) -> Response:
    """Press a button under a message of the bot, as a person."""
    button = ButtonPress.model_validate_json(await request.body())
    chat = _get_chat(request, telegram)
    message = chat.messages.get(button.message_id)
    if message is None:
        raise ValueError(f"there is no message {button.message_id} in chat {chat.id}")
    person = _get_person(chat, button.sender)
    press, update_id = telegram.press(chat, message, person, button.callback_data)
    return JsonResponse(press_json(press) | {"update_id": update_id}, status_code=201)


async def change_membership(request: Request, telegram: Telegram) -> Response:
    """Set the bot's membership: `kicked` blocks or removes it, `left` takes it out of a group, `member` adds it."""
    change = MembershipChange.model_validate_json(await request.body())
    chat = _get_chat(request, telegram)
    actor = _get_person(chat, change.sender).as_user()
    update_id = telegram.change_membership(chat, change.status, actor)
    return JsonResponse(chat_json(chat) | {"update_id": update_id})


async def set_topic(request: Request, telegram: Telegram) -> Response:
    """Open, close or delete a forum topic of a supergroup."""
    topic = NewTopic.model_validate_json(await request.body())
    chat = _get_chat(request, telegram)
    telegram.set_topic(chat, topic.thread_id, topic.state)
    return JsonResponse(chat_json(chat))


async def stream_changes(_: Request, telegram: Telegram) -> Response:
    """Stream every change as Server-Sent Events."""
    headers = {"Cache-Control": "no-store"}
    return StreamingResponse(_format_events(telegram), media_type="text/event-stream", headers=headers)


async def _format_events(telegram: Telegram) -> AsyncIterator[bytes]:
    with telegram.changes.subscribe() as changes:
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


def _parse_chat_id(request: Request) -> int:
    text = request.path_params["chat_id"]
    chat_id = parse_integer(text)
    if not chat_id or abs(chat_id) >= MAX_ID:
        raise ValueError(f"{text!r} is not a chat id")
    return chat_id


def _get_chat(request: Request, telegram: Telegram) -> Chat:
    chat_id = _parse_chat_id(request)
    if chat_id not in telegram.chats:
        raise ValueError(f"there is no chat {chat_id}")
    return telegram.chats[chat_id]


def _new_chat(sender: Sender | None, chat_id: int) -> Chat:
    if chat_id < 0:
        return Chat(chat_id, find_chat_type(chat_id), f"Group {chat_id}")
    person = sender.to_person() if sender else Person(chat_id, DEFAULT_PERSON.first_name)
    return Chat(chat_id, "private", person=person)


def _get_person(chat: Chat, sender: Sender | None) -> Person:
    """Return the person that acts in the chat: the sender, else the chat's own person or the default."""
    if sender is None:
        return chat.person or DEFAULT_PERSON
    if chat.person is not None and sender.id != chat.id:
        raise ValueError(f"in the private chat {chat.id} only its own person can act, not {sender.id}")
    return sender.to_person()


_api = ControlApi("telegram", JsonResponse)

CONTROL_ROUTES = [
    _api.route("GET", "/bot", show_bot),
    _api.route("GET", "/chats", list_chats),
    _api.route("POST", "/chats", create_chat),
    _api.route("GET", "/chats/{chat_id}/messages", list_messages),
    _api.route("POST", "/chats/{chat_id}/messages", write_message),
    _api.route("POST", "/chats/{chat_id}/press", press_button),
    _api.route("POST", "/chats/{chat_id}/membership", change_membership),
    _api.route("POST", "/chats/{chat_id}/topics", set_topic),
    *_api.fault_routes("failures", Failure),
    _api.reset_route(),
    _api.route("GET", "/events", stream_changes),
]
