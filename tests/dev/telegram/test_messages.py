"""Messages and chats: formatting, limits, edits, buttons and membership."""

from typing import Any

import pytest
from aiogram.exceptions import (
    TelegramBadRequest,
    TelegramForbiddenError,
)
from aiogram.types import (
    BotCommand,
)

from tests.dev.telegram.conftest import World, create_keyboard


@pytest.mark.parametrize(("state", "reason"), [("closed", "TOPIC_CLOSED"), (None, "message thread not found")])
async def test_topic_refuses_messages(world: World, group: int, state: str | None, reason: str) -> None:
    """A message to a closed, deleted or unknown topic is refused."""
    await world.post(f"/chats/{group}/topics", thread_id=77)
    await world.bot.send_message(group, "soup", message_thread_id=77)
    await world.post(f"/chats/{group}/topics", thread_id=77, state=state)

    with pytest.raises(TelegramBadRequest, match=reason):
        await world.bot.send_message(group, "salad", message_thread_id=77)

    assert [(message["text"], message["thread_id"]) for message in await world.list_messages(group)] == [("soup", 77)]


async def test_message_in_a_topic_is_an_update(world: World, group: int) -> None:
    """The bot learns in which topic a person writes."""
    await world.post(f"/chats/{group}/topics", thread_id=77)
    await world.write(group, "soup", thread_id=77)

    [update] = await world.bot.get_updates()

    assert update.message is not None
    assert (update.message.message_thread_id, update.message.is_topic_message) == (77, True)


async def test_message_creates_the_chat(world: World) -> None:
    """A person's first message creates the chat."""
    await world.write(77, "/start", **{"from": {"id": 77, "first_name": "Boris", "language_code": "ru"}})

    assert (await world.bot.get_chat(77)).first_name == "Boris"


async def test_html_is_parsed(world: World, person: int) -> None:
    """A sent message contains text and entities, which aiogram renders as the same HTML."""
    sent = await world.bot.send_message(person, "<b>Борщ &amp; Co</b> 🍲 <i>now</i>", parse_mode="HTML")

    assert (sent.text, sent.html_text) == ("Борщ & Co 🍲 now", "<b>Борщ &amp; Co</b> 🍲 <i>now</i>")


async def test_original_text_is_kept(world: World, person: int) -> None:
    """The control API shows the text as sent and the text as read."""
    await world.bot.send_message(person, "<b>Soup</b>", parse_mode="HTML")

    [message] = await world.list_messages(person)
    assert (message["original_text"], message["text"]) == ("<b>Soup</b>", "Soup")


async def test_length_is_counted_after_parsing(world: World, person: int) -> None:
    """4096 UTF-16 code units are accepted, without counting tags and character references."""
    sent = await world.bot.send_message(person, f"<b>{'&amp;' * 4094}🍲</b>", parse_mode="HTML")

    assert len(sent.text or "") == 4095


async def test_too_long_message_is_refused(world: World, person: int) -> None:
    """2049 characters of two code units each are refused."""
    with pytest.raises(TelegramBadRequest, match="message is too long"):
        await world.bot.send_message(person, "🍲" * 2049)


async def test_empty_message_is_refused(world: World, person: int) -> None:
    """A message with only tags and white space is refused as empty."""
    with pytest.raises(TelegramBadRequest, match="message text is empty"):
        await world.bot.send_message(person, "<b> \n</b>", parse_mode="HTML")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("é <table>", 'Unsupported start tag "table" at byte offset 3'),
        ("1 < 2", 'Unsupported start tag "" at byte offset 2'),
        ("a <", "Unclosed start tag at byte offset 2"),
        ("<a@b.c> wrote", 'Unsupported start tag "a@b.c" at byte offset 0'),
        ("<b>x", 'Can\'t find end tag corresponding to start tag "b"'),
        ("x</b>", "Unexpected end tag at byte offset 1"),
        ("<b>x</i>", 'Unmatched end tag at byte offset 4, expected "</b>", found "</i>"'),
        ("<b>x</b", "Unclosed end tag at byte offset 4"),
        ("<span>x</span>", 'Tag "span" must have class "tg-spoiler" at byte offset 0'),
        ("<a href=/x>y</a>", "Unexpected end of name token at byte offset 8"),
        ('<a href="x>y</a>', "Unclosed start tag at byte offset 0"),
        ("<a href>y</a>", 'Expected equal sign in declaration of an attribute of the tag "a" at byte offset 0'),
    ],
)
async def test_bad_markup_is_refused(world: World, person: int, text: str, error: str) -> None:
    """Markup that Telegram cannot parse is refused with Telegram's error text."""
    with pytest.raises(TelegramBadRequest) as refusal:
        await world.bot.send_message(person, text, parse_mode="HTML")

    assert refusal.value.message == f"Bad Request: can't parse entities: {error}"


@pytest.mark.parametrize(
    ("html", "text", "entities"),
    [
        ("a &lt;b&gt; &quot;&#233;&#xe9;&nbsp;& c", 'a <b> "éé&nbsp;& c', []),
        ("<B>x</B>", "x", [{"type": "bold", "offset": 0, "length": 1}]),
        (
            "<s>a<u>b</u></s>",
            "ab",
            [{"type": "strikethrough", "offset": 0, "length": 2}, {"type": "underline", "offset": 1, "length": 1}],
        ),
        ('<span class="tg-spoiler">x</span>', "x", [{"type": "spoiler", "offset": 0, "length": 1}]),
        ("<blockquote expandable>x</blockquote>", "x", [{"type": "expandable_blockquote", "offset": 0, "length": 1}]),
        ("<b></b>x", "x", []),
        (
            '<a href="https://e.org/?a=1&amp;b=2">x</a>',
            "x",
            [{"type": "text_link", "offset": 0, "length": 1, "url": "https://e.org/?a=1&b=2"}],
        ),
        (
            '<pre><code class="language-sql">x</code></pre>',
            "x",
            [{"type": "pre", "offset": 0, "length": 1, "language": "sql"}],
        ),
    ],
)
async def test_html_becomes_entities(
    world: World, person: int, html: str, text: str, entities: list[dict[str, Any]]
) -> None:
    """Tags become entities, character references become characters, and unknown references stay unchanged."""
    await world.bot.send_message(person, html, parse_mode="HTML")

    [message] = await world.list_messages(person)
    assert (message["text"], message["entities"]) == (text, entities)


async def test_unknown_chat_is_refused(world: World) -> None:
    """A message to a chat that does not exist is refused."""
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await world.bot.send_message(404, "soup")


async def test_callback_data_over_64_bytes_is_refused(world: World, person: int) -> None:
    """The limit of callback data counts bytes, not characters."""
    with pytest.raises(TelegramBadRequest, match="BUTTON_DATA_INVALID"):
        await world.bot.send_message(person, "soup", reply_markup=create_keyboard("щ" * 33))


async def test_button_without_an_action_is_refused(world: World, person: int) -> None:
    """A message with a button without data or another action is refused."""
    with pytest.raises(TelegramBadRequest, match="Text buttons are unallowed in the inline keyboard"):
        await world.bot.send_message(person, "soup", reply_markup=create_keyboard(""))


async def test_answer_to_a_press_is_shown(world: World, person: int) -> None:
    """The control API shows the bot's answer to a press."""
    sent = await world.bot.send_message(person, "soup", reply_markup=create_keyboard("ack:1"))
    press = await world.post(f"/chats/{person}/press", message_id=sent.message_id, callback_data="ack:1")
    await world.bot.answer_callback_query(press["callback_query_id"], "Thank you", show_alert=True)

    [message] = await world.list_messages(person)
    assert message["presses"][0]["answer"] == {"text": "Thank you", "show_alert": True}


async def test_missing_button_cannot_be_pressed(world: World, person: int) -> None:
    """A press is refused if no button has its data."""
    sent = await world.bot.send_message(person, "soup")

    response = await world.control.post(
        f"/chats/{person}/press", json={"message_id": sent.message_id, "callback_data": "ack:1"}
    )

    assert response.json() == {"error": f"message {sent.message_id} has no button with the data 'ack:1'"}


async def test_edit_keeps_the_earlier_version(world: World, person: int) -> None:
    """An edited message has its new text and keeps the old one."""
    sent = await world.bot.send_message(person, "soup")
    await sent.edit_text("salad")

    [message] = await world.list_messages(person)
    assert (message["text"], message["edits"][0]["text"]) == ("salad", "soup")


async def test_edit_without_a_change_is_refused(world: World, person: int) -> None:
    """An edit that changes nothing is refused."""
    sent = await world.bot.send_message(person, "soup", reply_markup=create_keyboard("ack:1"))

    with pytest.raises(TelegramBadRequest, match="message is not modified"):
        await sent.edit_reply_markup(reply_markup=create_keyboard("ack:1"))


async def test_edit_of_the_text_removes_the_buttons(world: World, person: int) -> None:
    """An edit without a keyboard removes the message's buttons."""
    sent = await world.bot.send_message(person, "soup", reply_markup=create_keyboard("ack:1"))
    await sent.edit_text("soup, received")

    [message] = await world.list_messages(person)
    assert message["buttons"] == []


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("private", "kicked", "bot was blocked by the user"),
        ("group", "kicked", "bot was kicked from the group chat"),
        ("supergroup", "left", "bot is not a member of the supergroup chat"),
    ],
)
async def test_removed_bot_cannot_write(world: World, kind: str, status: str, reason: str) -> None:
    """A bot that was blocked, kicked or removed gets 403."""
    chat = await world.create_chat(type=kind)
    await world.post(f"/chats/{chat}/membership", status=status)

    with pytest.raises(TelegramForbiddenError, match=reason):
        await world.bot.send_message(chat, "soup")


async def test_bot_can_leave(world: World, group: int) -> None:
    """A bot that left a group cannot act in it."""
    await world.bot.leave_chat(group)

    with pytest.raises(TelegramForbiddenError):
        await world.bot.send_chat_action(group, "typing")


async def test_commands_are_stored(world: World) -> None:
    """getMyCommands returns the commands that setMyCommands set."""
    await world.bot.set_my_commands([BotCommand(command="link", description="Link a cafe")])

    assert [command.command for command in await world.bot.get_my_commands()] == ["link"]
