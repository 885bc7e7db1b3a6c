"""Parses and validates the content of a message that the bot sends: text, entities, keyboard and reply."""

from app.dev.standins import Json
from app.dev.telegram.calls import Call, bad_request, parse_integer
from app.dev.telegram.chats import MESSAGE_LENGTH, Chat, Content, Message
from app.dev.telegram.formatting import mark_commands, parse_html, trim, utf16_length

MAX_CALLBACK_DATA_BYTES = 64


def parse_content(call: Call) -> Content:
    """Parse text, entities and buttons.

    Raises BotApiError in the cases in which the real service refuses them.
    """
    original = call.text("text")
    parse_mode = call.text("parse_mode")
    if parse_mode.lower() not in {"", "html"}:
        raise bad_request("unsupported parse_mode")
    if parse_mode:
        text, entities = parse_html(original)
    else:
        text, entities = original, _parse_entities(call)
    text, entities = trim(text, entities)
    if not text:
        raise bad_request("message text is empty")
    if utf16_length(text) > MESSAGE_LENGTH:
        raise bad_request("message is too long")
    return Content(text, mark_commands(text, entities), parse_keyboard(call), original, parse_mode)


def _parse_entities(call: Call) -> list[Json]:
    entities = call.json("entities", "entities") or []
    if not isinstance(entities, list) or not all(_is_entity(entity) for entity in entities):
        raise bad_request("can't parse entities: expected an Array of MessageEntity")
    return entities


def _is_entity(entity: object) -> bool:
    if not isinstance(entity, dict) or not isinstance(entity.get("type"), str):
        return False
    return isinstance(entity.get("offset"), int) and isinstance(entity.get("length"), int)


def parse_keyboard(call: Call) -> Json | None:
    """Parse the inline keyboard. Other kinds of keyboard are accepted and ignored: they are not part of a message."""
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
            _validate_button(button)
    rows = [row for row in rows if row]
    return {"inline_keyboard": rows} if rows else None


def _validate_button(button: object) -> None:
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
    if len(data.encode()) > MAX_CALLBACK_DATA_BYTES:
        raise bad_request("BUTTON_DATA_INVALID")


def find_replied_message(chat: Chat, call: Call) -> Message | None:
    """Return the message that the new one replies to.

    Raises BotApiError when a required message does not exist.
    """
    reply = call.json("reply_parameters", "reply parameters")
    if not isinstance(reply, dict):
        return None
    message = chat.messages.get(parse_integer(str(reply.get("message_id"))) or 0)
    if message is None and not reply.get("allow_sending_without_reply"):
        raise bad_request("message to be replied not found")
    return message
