"""The methods of the Bot API that the project uses: https://core.telegram.org/bots/api.

Where the documentation gives no details, answers and errors match those observed on the real service.
"""

import re
from collections.abc import Callable
from typing import Any

import orjson

from app.dev.standins import Json
from app.dev.telegram.calls import BotApiError, Call, bad_request
from app.dev.telegram.chats import Chat, Content
from app.dev.telegram.content import find_replied_message, parse_content, parse_keyboard
from app.dev.telegram.formatting import utf16_length
from app.dev.telegram.state import PERMISSIONS, Telegram
from app.dev.telegram.updates import Webhook

MAX_CALLBACK_ANSWER_LENGTH = 200
MAX_UPDATES_PER_CALL = 100
MAX_COMMANDS = 100
MAX_COMMAND_DESCRIPTION_LENGTH = 256

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
    """Return the bot. Its privacy mode is off: it reads every message in its groups."""
    abilities = {"can_join_groups": True, "can_read_all_group_messages": True, "supports_inline_queries": False}
    return telegram.bot_user() | abilities | {"can_connect_to_business": False, "has_main_web_app": False}


async def get_updates(telegram: Telegram, call: Call) -> list[Json]:
    """Wait for updates by long polling."""
    if telegram.updates.webhook is not None:
        reason = "can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
        raise BotApiError(409, f"Conflict: {reason}")
    _set_allowed_updates(telegram, call)
    limit = call.integer("limit", default=MAX_UPDATES_PER_CALL)
    return await telegram.updates.poll(
        offset=call.integer("offset"),
        limit=limit if 1 <= limit <= MAX_UPDATES_PER_CALL else MAX_UPDATES_PER_CALL,
        timeout_s=call.integer("timeout"),
    )


def _set_allowed_updates(telegram: Telegram, call: Call) -> None:
    """The setting stays for later calls that have none."""
    allowed = call.json("allowed_updates", "allowed updates")
    if isinstance(allowed, list):
        telegram.updates.allowed = [str(kind) for kind in allowed]


def set_webhook(telegram: Telegram, call: Call) -> bool:
    """Send updates to a URL. The stand-in also accepts plain HTTP, which the real service refuses."""
    url = call.text("url")
    if not url:
        return delete_webhook(telegram, call)
    if not url.startswith(("https://", "http://")):
        raise bad_request("bad webhook: An HTTPS URL must be provided for webhook")
    if not _SECRET_TOKEN.fullmatch(call.text("secret_token")):
        raise bad_request("secret token contains unallowed characters")
    _set_allowed_updates(telegram, call)
    _drop_pending(telegram, call)
    telegram.updates.set_webhook(Webhook(url, call.text("secret_token")))
    return True


def delete_webhook(telegram: Telegram, call: Call) -> bool:
    """Return to getUpdates."""
    _drop_pending(telegram, call)
    telegram.updates.set_webhook(None)
    return True


def _drop_pending(telegram: Telegram, call: Call) -> None:
    if call.flag("drop_pending_updates"):
        telegram.updates.clear()


def get_webhook_info(telegram: Telegram, _: Call) -> Json:
    """Return the webhook and its last delivery error."""
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
    """Set the command menu for a scope and a language."""
    commands = call.json("commands", "commands")
    if not isinstance(commands, list):
        raise bad_request("can't parse commands: expected an Array of BotCommand")
    if len(commands) > MAX_COMMANDS:
        raise bad_request("BOT_COMMANDS_TOO_MUCH")
    for command in commands:
        if not isinstance(command, dict) or not _COMMAND_NAME.fullmatch(str(command.get("command")).removeprefix("/")):
            raise bad_request("BOT_COMMAND_INVALID")
        if not 1 <= len(str(command.get("description", ""))) <= MAX_COMMAND_DESCRIPTION_LENGTH:
            raise bad_request("BOT_COMMAND_DESCRIPTION_INVALID")
    telegram.commands[_commands_key(call)] = [
        {"command": str(command["command"]).removeprefix("/"), "description": str(command["description"])}
        for command in commands
    ]
    telegram.changes.publish("bot")
    return True


def get_my_commands(telegram: Telegram, call: Call) -> list[Json]:
    """Return the command menu of exactly this scope and language."""
    return telegram.commands.get(_commands_key(call), [])


def _commands_key(call: Call) -> tuple[str, str]:
    scope = call.json("scope", "scope") or {"type": "default"}
    return orjson.dumps(scope, option=orjson.OPT_SORT_KEYS).decode(), call.text("language_code")


def send_message(telegram: Telegram, call: Call) -> Json:
    """Send a message to a chat."""
    content = parse_content(call)
    chat = get_target_chat(telegram, call)
    thread_id = call.integer("message_thread_id")
    chat.require_writing(thread_id)
    reply_to = find_replied_message(chat, call)
    if telegram.has_limits:
        telegram.limits.count_message(chat.id)
    message = chat.add(telegram.bot_user(), content, reply_to, thread_id or None)
    telegram.changes.publish("message", chat_id=chat.id)
    return chat.message_json(message)


def edit_message_text(telegram: Telegram, call: Call) -> Json:
    """Replace the text and the buttons of a message of the bot."""
    content = parse_content(call)
    return _edit(telegram, call, lambda _: content)


def edit_message_reply_markup(telegram: Telegram, call: Call) -> Json:
    """Replace the buttons of a message of the bot."""
    keyboard = parse_keyboard(call)
    return _edit(telegram, call, lambda old: Content(old.text, old.entities, keyboard, old.original, old.parse_mode))


def _edit(telegram: Telegram, call: Call, change: Callable[[Content], Content]) -> Json:
    chat = get_target_chat(telegram, call)
    chat.require_bot()
    if not call.integer("message_id"):
        raise bad_request("message identifier is not specified")
    message = chat.messages.get(call.integer("message_id"))
    if message is None:
        raise bad_request("message to edit not found")
    if not message.is_from_bot:
        raise bad_request("message can't be edited")
    message.edit(change(message.content))
    telegram.changes.publish("message", chat_id=chat.id)
    return chat.message_json(message)


def answer_callback_query(telegram: Telegram, call: Call) -> bool:
    """Answer a press of a button, with or without a text for the person."""
    press = telegram.presses.get(call.text("callback_query_id"))
    if press is None:
        raise bad_request("query is too old and response timeout expired or query ID is invalid")
    if utf16_length(call.text("text")) > MAX_CALLBACK_ANSWER_LENGTH:
        raise bad_request("MESSAGE_TOO_LONG")
    telegram.answer_press(press, {"text": call.text("text"), "show_alert": call.flag("show_alert")})
    return True


def get_chat(telegram: Telegram, call: Call) -> Json:
    """Return a chat. This works for a person who blocked the bot, but not for a private group that the bot left."""
    chat = get_target_chat(telegram, call)
    if chat.type != "private" and chat.username is None:
        chat.require_bot()
    permissions = {"permissions": dict.fromkeys(PERMISSIONS, chat.members_may_write)}
    gifts = ("unlimited_gifts", "limited_gifts", "unique_gifts", "premium_subscription", "gifts_from_channels")
    return (
        chat.as_chat()
        | ({} if chat.type in {"private", "channel"} else permissions)
        | {
            "accent_color_id": abs(chat.id) % 7,
            "max_reaction_count": 11,
            "accepted_gift_types": dict.fromkeys(gifts, chat.type == "private"),
        }
    )


def get_chat_member(telegram: Telegram, call: Call) -> Json:
    """Return the bot as a member of a chat. Other members are not known here."""
    chat = get_target_chat(telegram, call)
    if chat.username is None:
        chat.require_bot()
    if call.integer("user_id") != telegram.bot_user()["id"]:
        raise bad_request("member not found")
    return telegram.bot_as_member(chat, chat.membership)


def send_chat_action(telegram: Telegram, call: Call) -> bool:
    """Show a chat action, such as typing."""
    chat = get_target_chat(telegram, call)
    chat.require_writing(call.integer("message_thread_id"))
    if call.text("action") not in _CHAT_ACTIONS:
        raise bad_request("wrong parameter action in request")
    telegram.changes.publish("action", chat_id=chat.id, action=call.text("action"))
    return True


def leave_chat(telegram: Telegram, call: Call) -> bool:
    """Remove the bot from a group."""
    chat = get_target_chat(telegram, call)
    if chat.type == "private":
        raise bad_request("chat member status can't be changed in private chats")
    chat.require_bot()
    telegram.change_membership(chat, "left", telegram.bot_user())
    return True


def get_target_chat(telegram: Telegram, call: Call) -> Chat:
    """Return the chat that `chat_id` names.

    Raises BotApiError when it does not exist.
    """
    chat_id = call.text("chat_id").strip()
    if not chat_id:
        raise bad_request("chat_id is empty")
    chat = telegram.find_chat(chat_id)
    if chat is None:
        raise bad_request("chat not found")
    return chat


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
    "getchatmember": get_chat_member,
    "sendchataction": send_chat_action,
    "leavechat": leave_chat,
}
"""Methods by name in lower case, as Telegram ignores case. getUpdates is missing because it waits: see dispatch.py."""
