"""The Bot API's methods as far as the project uses them: https://core.telegram.org/bots/api.

Where the documentation is silent, answers and descriptions of errors are those seen from the real service.
"""

import re
from collections.abc import Callable
from typing import Any

import orjson

from app.dev.telegram.calls import BotApiError, Call, Json, bad_request, whole_number
from app.dev.telegram.chats import MESSAGE_LENGTH, Chat, Content, Message
from app.dev.telegram.formatting import mark_commands, parse_html, trim, utf16_length
from app.dev.telegram.state import Telegram
from app.dev.telegram.updates import Webhook

CALLBACK_DATA_BYTES = 64
CALLBACK_ANSWER_LENGTH = 200
UPDATES_AT_ONCE = 100
COMMANDS_IN_MENU = 100
COMMAND_DESCRIPTION_LENGTH = 256

_SECRET_TOKEN = re.compile(r"[A-Za-z0-9_-]{0,256}")
_COMMAND_NAME = re.compile(r"[a-z0-9_]{1,32}")
_CHAT_ACTIONS = {
    "typing",
    "upload_photo",
    "record_video",
    "upload_video",
    "record_voice",
    "upload_voice",
    "upload_document",
    "choose_sticker",
    "find_location",
    "record_video_note",
    "upload_video_note",
}


def get_me(telegram: Telegram, _: Call) -> Json:
    """The bot. Privacy mode is off: it reads everything in its groups."""
    abilities = {"can_join_groups": True, "can_read_all_group_messages": True, "supports_inline_queries": False}
    return telegram.bot_user() | abilities | {"can_connect_to_business": False, "has_main_web_app": False}


async def get_updates(telegram: Telegram, call: Call) -> list[Json]:
    """Long polling."""
    if telegram.updates.webhook is not None:
        reason = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
        raise BotApiError(409, f"Conflict: {reason}")
    _choose_updates(telegram, call)
    limit = call.integer("limit", default=UPDATES_AT_ONCE)
    return await telegram.updates.poll(
        offset=call.integer("offset"),
        limit=limit if 1 <= limit <= UPDATES_AT_ONCE else UPDATES_AT_ONCE,
        timeout_s=call.integer("timeout"),
    )


def _choose_updates(telegram: Telegram, call: Call) -> None:
    """The choice holds for calls that make none, until another is made."""
    allowed = call.json("allowed_updates", "allowed updates")
    if isinstance(allowed, list):
        telegram.updates.allowed = [str(kind) for kind in allowed]


def set_webhook(telegram: Telegram, call: Call) -> bool:
    """Send updates to a URL. Plain HTTP is taken too, which the real service refuses: there is no TLS at a desk."""
    url = call.text("url")
    if not url:
        return delete_webhook(telegram, call)
    if not url.startswith(("https://", "http://")):
        raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
    if not _SECRET_TOKEN.fullmatch(call.text("secret_token")):
        raise bad_request("secret token contains unallowed characters")
    _choose_updates(telegram, call)
    _drop_pending(telegram, call)
    telegram.updates.set_webhook(Webhook(url, call.text("secret_token")))
    return True


def delete_webhook(telegram: Telegram, call: Call) -> bool:
    """Go back to getUpdates."""
    _drop_pending(telegram, call)
    telegram.updates.set_webhook(None)
    return True


def _drop_pending(telegram: Telegram, call: Call) -> None:
    if call.flag("drop_pending_updates"):
        telegram.updates.forget()


def get_webhook_info(telegram: Telegram, _: Call) -> Json:
    """Where updates go, and the last time that they could not."""
    webhook = telegram.updates.webhook
    info: Json = {
        "url": webhook.url if webhook else "",
        "has_custom_certificate": False,
        "pending_update_count": len(telegram.updates),
    }
    if webhook and webhook.last_error_date:
        info |= {"last_error_date": webhook.last_error_date, "last_error_message": webhook.last_error_message}
    return info


def set_my_commands(telegram: Telegram, call: Call) -> bool:
    """The menu of commands, for a scope and a language."""
    commands = call.json("commands", "commands")
    if not isinstance(commands, list):
        raise bad_request("can't parse commands: expected an Array of BotCommand")
    if len(commands) > COMMANDS_IN_MENU:
        raise bad_request("BOT_COMMANDS_TOO_MUCH")
    for command in commands:
        if not isinstance(command, dict) or not _COMMAND_NAME.fullmatch(str(command.get("command")).removeprefix("/")):
            raise bad_request("BOT_COMMAND_INVALID")
        if not 1 <= len(str(command.get("description", ""))) <= COMMAND_DESCRIPTION_LENGTH:
            raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
    telegram.commands[_commands_key(call)] = [
        {"command": str(command["command"]).removeprefix("/"), "description": str(command["description"])}
        for command in commands
    ]
    telegram.changes.announce("bot")
    return True


def get_my_commands(telegram: Telegram, call: Call) -> list[Json]:
    """The menu of exactly this scope and language."""
    return telegram.commands.get(_commands_key(call), [])


def _commands_key(call: Call) -> tuple[str, str]:
    scope = call.json("scope", "scope") or {"type": "default"}
    return orjson.dumps(scope, option=orjson.OPT_SORT_KEYS).decode(), call.text("language_code")


def send_message(telegram: Telegram, call: Call) -> Json:
    """Write into a chat."""
    content = _read_content(call)
    chat = find_chat(telegram, call)
    chat.require_bot()
    reply_to = _replied_to(chat, call)
    if telegram.has_limits:
        telegram.limits.count(chat.id)
    message = chat.add(telegram.bot_user(), content, reply_to)
    telegram.changes.announce("message", chat_id=chat.id)
    return chat.message_json(message)


def edit_message_text(telegram: Telegram, call: Call) -> Json:
    """Replace text and buttons of one of the bot's messages."""
    content = _read_content(call)
    return _edit(telegram, call, lambda _: content)


def edit_message_reply_markup(telegram: Telegram, call: Call) -> Json:
    """Replace the buttons under one of the bot's messages."""
    keyboard = _read_keyboard(call)
    return _edit(telegram, call, lambda old: Content(old.text, old.entities, keyboard, old.original, old.parse_mode))


def _edit(telegram: Telegram, call: Call, change: Callable[[Content], Content]) -> Json:
    chat = find_chat(telegram, call)
    chat.require_bot()
    if not call.integer("message_id"):
        raise bad_request("message identifier is not specified")
    message = chat.messages.get(call.integer("message_id"))
    if message is None:
        raise bad_request("message to edit not found")
    if not message.is_from_bot:
        raise bad_request("message can't be edited")
    message.edit(change(message.content))
    telegram.changes.announce("message", chat_id=chat.id)
    return chat.message_json(message)


def answer_callback_query(telegram: Telegram, call: Call) -> bool:
    """Stop the waiting sign on a pressed button, perhaps with a word to the person."""
    press = telegram.presses.get(call.text("callback_query_id"))
    if press is None:
        raise bad_request("query is too old and response timeout expired or query ID is invalid")
    if utf16_length(call.text("text")) > CALLBACK_ANSWER_LENGTH:
        raise bad_request("MESSAGE_TOO_LONG")
    telegram.answer_press(press, {"text": call.text("text"), "show_alert": call.flag("show_alert")})
    return True


def get_chat(telegram: Telegram, call: Call) -> Json:
    """What there is to know about a chat. Works for a person who blocked the bot, not for a group that it left."""
    chat = find_chat(telegram, call)
    if chat.type != "private":
        chat.require_bot()
    gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
    return chat.as_chat() | {
        "accent_color_id": abs(chat.id) % 7,
        "max_reaction_count": 11,
        "accepted_gift_types": dict.fromkeys(gifts, chat.type == "private"),
    }


def send_chat_action(telegram: Telegram, call: Call) -> bool:
    """Show that the bot is typing."""
    chat = find_chat(telegram, call)
    chat.require_bot()
    if call.text("action") not in _CHAT_ACTIONS:
        raise bad_request("wrong parameter action in request")
    telegram.changes.announce("action", chat_id=chat.id, action=call.text("action"))
    return True


def leave_chat(telegram: Telegram, call: Call) -> bool:
    """Take the bot out of a group."""
    chat = find_chat(telegram, call)
    if chat.type == "private":
        raise bad_request("chat member status can't be changed in private chats")
    chat.require_bot()
    telegram.change_membership(chat, "left", telegram.bot_user())
    return True


def find_chat(telegram: Telegram, call: Call) -> Chat:
    """The chat that the call is about.

    Raises BotApiError when there is none.
    """
    wanted = call.text("chat_id").strip()
    if not wanted:
        raise bad_request("chat_id is empty")
    chat = telegram.find_chat(wanted)
    if chat is None:
        raise bad_request("chat not found")
    return chat


def _read_content(call: Call) -> Content:
    """Text, entities and buttons of a message to be sent, checked as the real service checks them."""
    original = call.text("text")
    parse_mode = call.text("parse_mode")
    if parse_mode.lower() not in {"", "html"}:
        raise bad_request("unsupported parse_mode")
    if parse_mode:
        text, entities = parse_html(original)
    else:
        text, entities = original, _read_entities(call)
    text, entities = trim(text, entities)
    if not text:
        raise bad_request("message text is empty")
    if utf16_length(text) > MESSAGE_LENGTH:
        raise bad_request("message is too long")
    return Content(text, mark_commands(text, entities), _read_keyboard(call), original, parse_mode)


def _read_entities(call: Call) -> list[Json]:
    entities = call.json("entities", "entities") or []
    if not isinstance(entities, list) or not all(_is_entity(entity) for entity in entities):
        raise bad_request("can't parse entities: expected an Array of MessageEntity")
    return entities


def _is_entity(entity: object) -> bool:
    if not isinstance(entity, dict) or not isinstance(entity.get("type"), str):
        return False
    return isinstance(entity.get("offset"), int) and isinstance(entity.get("length"), int)


def _read_keyboard(call: Call) -> Json | None:
    """The inline keyboard; other kinds of keyboard are taken and forgotten, as they show in no message."""
    markup = call.json("reply_markup", "reply keyboard markup")
    if markup is None:
        return None
    if not isinstance(markup, dict):
        raise bad_request("object expected as reply markup")
    rows = markup.get("inline_keyboard", [])
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise bad_request('field "inline_keyboard" of the InlineKeyboardMarkup must be an Array of Arrays')
    for row in rows:
        for button in row:
            _check_button(button)
    kept = [row for row in rows if row]
    return {"inline_keyboard": kept} if kept else None


def _check_button(button: object) -> None:
    if not isinstance(button, dict):
        raise bad_request("can't parse inline keyboard button: InlineKeyboardButton must be an Object")
    if not isinstance(button.get("text"), str):
        raise bad_request('can\'t parse inline keyboard button: Field "text" must be of type String')
    actions = [value for name, value in button.items() if name != "text" and value]
    data = button.get("callback_data", "")
    if not isinstance(data, str):
        raise bad_request('can\'t parse inline keyboard button: Field "callback_data" must be of type String')
    if not actions:
        raise bad_request("can't parse inline keyboard button: Text buttons are unallowed in the inline keyboard")
    if len(data.encode()) > CALLBACK_DATA_BYTES:
        raise bad_request("BUTTON_DATA_INVALID")


def _replied_to(chat: Chat, call: Call) -> Message | None:
    reply = call.json("reply_parameters", "reply parameters")
    if not isinstance(reply, dict):
        return None
    message = chat.messages.get(whole_number(str(reply.get("message_id"))) or 0)
    if message is None and not reply.get("allow_sending_without_reply"):
        raise bad_request("message to be replied not found")
    return message


METHODS: dict[str, Callable[[Telegram, Call], Any]] = {
    "getme": get_me,
    "setwebhook": set_webhook,
    "deletewebhook": delete_webhook,
    "getwebhookinfo": get_webhook_info,
    "setmycommands": set_my_commands,
    "getmycommands": get_my_commands,
    "sendmessage": send_message,
    "editmessagetext": edit_message_text,
    "editmessagereplymarkup": edit_message_reply_markup,
    "answercallbackquery": answer_callback_query,
    "getchat": get_chat,
    "sendchataction": send_chat_action,
    "leavechat": leave_chat,
}
"""By their names in lower case: Telegram does not mind the case. getUpdates is the one that waits, and stands apart."""
