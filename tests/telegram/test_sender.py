"""The meaning of Telegram's answers for a message: accepted, certainly not accepted, or delivery unknown."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.dev.ports import free_port
from app.dev.telegram.chats import GENERAL, TopicState
from app.dev.telegram.faults import Failure, FailureKind
from app.telegram import buttons
from app.telegram.sender import (
    UNKNOWN_RETRY_AFTER_S,
    ChatGone,
    ChatMoved,
    DeliveryUnknown,
    Refused,
    RetryAfter,
    TopicUnavailable,
    Unreachable,
    make_bot,
    remove_markup,
    send,
    translate_errors,
)
from tests.failing_clients import garbage
from tests.servers import until
from tests.telegram_standin import TOKEN, World, read_in, read_in_topic

TEXT = "<b>Soup</b> &amp; salad"


async def test_a_message_is_sent(world: World) -> None:
    """A sent message is in the chat, as HTML, with the returned id."""
    chat = world.group()

    message_id = await send(world.bot, chat.id, TEXT)

    assert chat.messages[message_id].content.text == "Soup & salad"


TOPIC = 77


async def test_a_message_is_sent_to_its_topic(world: World) -> None:
    """A message is in the topic, and only there."""
    chat = world.forum(TOPIC)

    await send(world.bot, chat.id, TEXT, thread_id=TOPIC)

    assert (read_in_topic(chat, TOPIC), read_in(chat)) == ([TEXT], [TEXT])


@pytest.mark.parametrize("state", ["closed", None])
async def test_without_its_topic_a_message_is_sent_to_the_chat(world: World, state: TopicState | None) -> None:
    """A message for a closed or deleted topic goes to the chat itself, once, and the log says so."""
    chat = world.forum(TOPIC)
    world.state.set_topic(chat, TOPIC, state)

    with capture_logs() as logs:
        message_id = await send(world.bot, chat.id, TEXT, thread_id=TOPIC)

    assert (read_in_topic(chat, None), read_in(chat)) == ([TEXT], [TEXT])
    assert list(chat.messages) == [message_id]
    assert [(line["event"], line["thread"]) for line in logs] == [("telegram.topic_unavailable", TOPIC)]


async def test_without_any_topic_a_message_is_refused(world: World) -> None:
    """If the chat itself is closed as well, the message is certainly not sent."""
    chat = world.forum(TOPIC)
    world.state.set_topic(chat, TOPIC, None)
    world.state.set_topic(chat, GENERAL, "closed")

    with pytest.raises(TopicUnavailable) as raised:
        await send(world.bot, chat.id, TEXT, thread_id=TOPIC)

    assert not raised.value.is_deleted
    assert read_in(chat) == []


@pytest.mark.parametrize("state", ["open", None])
async def test_markup_that_cannot_be_parsed_is_sent_as_text_to_the_topic(
    world: World, state: TopicState | None
) -> None:
    """Both remedies work together: plain text, in the topic or in the chat itself."""
    chat = world.forum(TOPIC)
    world.state.set_topic(chat, TOPIC, state)

    await send(world.bot, chat.id, "<b>Soup</i>", thread_id=TOPIC)

    assert read_in_topic(chat, TOPIC if state else None) == ["Soup"]


MEANINGS = {
    FailureKind.RATE_LIMIT: RetryAfter,
    FailureKind.SERVER_ERROR: DeliveryUnknown,
    FailureKind.BAD_GATEWAY: DeliveryUnknown,
    FailureKind.DROP_BEFORE: DeliveryUnknown,
    FailureKind.DROP_AFTER: DeliveryUnknown,
    FailureKind.BLOCKED: ChatGone,
    FailureKind.KICKED: ChatGone,
    FailureKind.MIGRATE: ChatMoved,
}
"""The two other kinds have separate tests: a call that hangs, and markup that cannot be parsed."""


@pytest.mark.parametrize("kind", MEANINGS)
async def test_each_kind_of_failure_raises_its_error(world: World, kind: FailureKind) -> None:
    """Each kind of failure in Telegram raises a separate class of error."""
    chat = world.group()
    world.fail(kind)

    with pytest.raises(MEANINGS[kind]):
        await send(world.bot, chat.id, TEXT)


def test_each_kind_of_failure_is_tested() -> None:
    """The tests cover every kind of failure that the stand-in can produce."""
    assert {*MEANINGS, FailureKind.HANG, FailureKind.BAD_ENTITIES} == set(FailureKind)


async def test_the_delivery_is_unknown_after_a_call_that_hangs(world: World) -> None:
    """Without an answer the sender cannot know whether Telegram has accepted the message."""
    chat = world.group()
    world.fail(FailureKind.HANG)
    sending = asyncio.create_task(send(world.bot, chat.id, TEXT))
    await until(lambda: not world.state.failures.pending())

    with world.dropping_calls_that_hang(), pytest.raises(DeliveryUnknown):
        await sending


async def test_a_broken_connection_may_have_delivered_the_message(world: World) -> None:
    """The delivery is unknown because Telegram may have sent the message before the connection broke."""
    chat = world.group()
    world.fail(FailureKind.DROP_AFTER)

    with pytest.raises(DeliveryUnknown):
        await send(world.bot, chat.id, TEXT)

    assert read_in(chat) == [TEXT]


async def test_a_rate_limit_has_its_retry_after(world: World) -> None:
    """A 429 says for how long the bot must wait."""
    chat = world.group()
    world.fail(FailureKind.RATE_LIMIT, after=17)

    with pytest.raises(RetryAfter) as raised:
        await send(world.bot, chat.id, TEXT)

    assert raised.value.retry_after == 17


async def test_a_rate_limit_without_retry_after_has_a_default(world: World) -> None:
    """A 429 without `retry_after` is also a rate limit, with a default time."""
    chat = world.group()
    world.state.failures.add(Failure(kind=FailureKind.RATE_LIMIT))

    with pytest.raises(RetryAfter) as raised:
        await send(world.bot, chat.id, TEXT)

    assert raised.value.retry_after == UNKNOWN_RETRY_AFTER_S


async def test_a_moved_group_has_its_new_id(world: World) -> None:
    """The error for a group that became a supergroup has its new id."""
    chat = world.group()
    new_id = world.state.free_id("supergroup")
    world.state.failures.add(Failure(kind=FailureKind.MIGRATE, migrate_to_chat_id=new_id))

    with pytest.raises(ChatMoved) as raised:
        await send(world.bot, chat.id, TEXT)

    assert raised.value.chat_id == new_id


async def test_an_unknown_chat_is_gone(world: World) -> None:
    """A chat that Telegram does not know counts as gone."""
    with pytest.raises(ChatGone, match="chat not found"):
        await send(world.bot, -404, TEXT)


async def test_a_message_that_is_too_long_is_refused(world: World) -> None:
    """Telegram refuses a text that is too long, and a retry would not help."""
    with pytest.raises(Refused, match="message is too long"):
        await send(world.bot, world.group().id, "x" * 4097)


async def test_unparsable_markup_is_removed(world: World) -> None:
    """A mistake of ours in the markup does not keep a cafe from its orders."""
    chat = world.group()
    world.fail(FailureKind.BAD_ENTITIES)

    message_id = await send(world.bot, chat.id, TEXT)

    assert [(sent.id, sent.content.text, sent.content.entities) for sent in chat.messages.values()] == [
        (message_id, "Soup & salad", [])
    ]


async def test_a_plain_text_keeps_its_buttons(world: World) -> None:
    """A message that is sent as plain text can still be marked as received."""
    chat = world.group()
    world.fail(FailureKind.BAD_ENTITIES)

    message_id = await send(world.bot, chat.id, TEXT, buttons.received(7, "en"))

    assert chat.messages[message_id].has_button("received:7")


async def test_unparsable_markup_is_logged(world: World) -> None:
    """The log has our mistake, without the text that users wrote."""
    world.fail(FailureKind.BAD_ENTITIES)

    with capture_logs() as lines:
        await send(world.bot, world.group().id, TEXT)

    assert [(line["log_level"], line["event"]) for line in lines] == [("error", "telegram.unparsable")]
    assert TEXT not in str(lines)


async def test_unknown_and_unclosed_tags_are_removed(world: World) -> None:
    """Tags that Telegram does not know, or that are not closed, are removed."""
    chat = world.group()

    await send(world.bot, chat.id, "<b>Soup &amp; <pot>salad")

    assert read_in(chat) == ["Soup & salad"]


async def test_plain_text_is_tried_once(world: World) -> None:
    """A text that Telegram does not accept as plain text either is refused."""
    chat = world.group()
    world.fail(FailureKind.BAD_ENTITIES, times=None)

    with pytest.raises(Refused, match="can't parse entities"):
        await send(world.bot, chat.id, TEXT)

    assert read_in(chat) == []


async def test_nothing_is_sent_without_a_connection() -> None:
    """Without a connection to Telegram the message is certainly not sent."""
    async with make_bot(TOKEN, f"http://127.0.0.1:{free_port()}").context() as bot:
        with pytest.raises(Unreachable):
            await send(bot, -1, TEXT)


async def test_an_unknown_token_is_temporary(world: World) -> None:
    """An operator can correct a wrong token, so the message may be retried."""
    async with make_bot("42:WRONG-token", world.address).context() as bot:
        with pytest.raises(Unreachable, match="Unauthorized"):
            await send(bot, world.group().id, TEXT)


async def test_errors_do_not_contain_the_token() -> None:
    """The error of a failed call contains no secret, even if the error of the library contains the address."""
    server = await asyncio.start_server(garbage, "127.0.0.1", 0)
    async with server, make_bot(TOKEN, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}").context() as bot:
        with pytest.raises(DeliveryUnknown) as raised:
            await send(bot, -1, TEXT)

    assert TOKEN in str(raised.value.__cause__)
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize("kind", [FailureKind.KICKED, FailureKind.MIGRATE, FailureKind.SERVER_ERROR])
async def test_other_calls_raise_the_same_errors(world: World, kind: FailureKind) -> None:
    """The meaning of an answer does not depend on the method."""
    chat = world.group()
    world.fail(kind, method="getChat")

    with pytest.raises(MEANINGS[kind]):
        await translate_errors(world.bot.get_chat(chat.id))


@pytest.mark.parametrize(
    ("html", "plain"),
    [
        ("<b>Soup</b> &amp; salad", "Soup & salad"),
        ("1 &lt; 2 &gt; 0", "1 < 2 > 0"),
        ("&amp;lt;", "&lt;"),
        ('<a href="https://cafe.example">Soup</a>', "Soup"),
        ("no markup", "no markup"),
    ],
)
def test_markup_is_removed(html: str, plain: str) -> None:
    """Tags are removed, and escaped characters are unescaped."""
    assert remove_markup(html) == plain
