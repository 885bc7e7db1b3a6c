"""What Telegram's answers mean for a message: taken, surely not taken, or nobody knows."""

import asyncio

import pytest
from structlog.testing import capture_logs

from app.dev.telegram.faults import Failure, FailureKind
from app.telegram import buttons
from app.telegram.sender import (
    UNKNOWN_RETRY_AFTER_S,
    ChatGone,
    ChatMoved,
    NotNow,
    OutcomeUnknown,
    Refused,
    Unreachable,
    make_bot,
    send,
    understood,
    without_markup,
)
from tests.conftest import free_port
from tests.servers import until
from tests.telegram.conftest import TOKEN, World, read_in

TEXT = "<b>Soup</b> &amp; salad"


async def test_a_message_is_sent(world: World) -> None:
    """What is sent is read in the chat, as HTML, and known by its number."""
    chat = world.group()

    message_id = await send(world.bot, chat.id, TEXT)

    assert chat.messages[message_id].content.text == "Soup & salad"


MEANINGS = {
    FailureKind.RATE_LIMIT: NotNow,
    FailureKind.SERVER_ERROR: OutcomeUnknown,
    FailureKind.BAD_GATEWAY: OutcomeUnknown,
    FailureKind.DROP_BEFORE: OutcomeUnknown,
    FailureKind.DROP_AFTER: OutcomeUnknown,
    FailureKind.BLOCKED: ChatGone,
    FailureKind.KICKED: ChatGone,
    FailureKind.MIGRATE: ChatMoved,
}
"""The two others have tests of their own: a call that hangs, and markup that cannot be parsed."""


@pytest.mark.parametrize("kind", MEANINGS)
async def test_what_a_failure_means(world: World, kind: FailureKind) -> None:
    """Each way in which Telegram can fail is a class of its own."""
    chat = world.group()
    world.fail(kind)

    with pytest.raises(MEANINGS[kind]):
        await send(world.bot, chat.id, TEXT)


def test_each_failure_has_a_meaning() -> None:
    """Nothing that the stand-in can do is left out here."""
    assert {*MEANINGS, FailureKind.HANG, FailureKind.BAD_ENTITIES} == set(FailureKind)


async def test_a_call_that_hangs_has_no_known_outcome(world: World) -> None:
    """Who gets no answer cannot know whether Telegram has taken the message."""
    chat = world.group()
    world.fail(FailureKind.HANG)
    sending = asyncio.create_task(send(world.bot, chat.id, TEXT))
    await until(lambda: not world.state.failures.pending())

    with world.dropping_calls_that_hang(), pytest.raises(OutcomeUnknown):
        await sending


async def test_a_connection_that_breaks_may_have_carried_the_message(world: World) -> None:
    """The reason why the outcome is not known: the work may have been done."""
    chat = world.group()
    world.fail(FailureKind.DROP_AFTER)

    with pytest.raises(OutcomeUnknown):
        await send(world.bot, chat.id, TEXT)

    assert read_in(chat) == [TEXT]


async def test_telegrams_wait_is_told(world: World) -> None:
    """A 429 says for how long nothing may be sent."""
    chat = world.group()
    world.fail(FailureKind.RATE_LIMIT, after=17)

    with pytest.raises(NotNow) as refused:
        await send(world.bot, chat.id, TEXT)

    assert refused.value.retry_after == 17


async def test_a_wait_that_is_not_told_is_assumed(world: World) -> None:
    """A 429 without `retry_after` is one too."""
    chat = world.group()
    world.state.failures.add(Failure(kind=FailureKind.RATE_LIMIT))

    with pytest.raises(NotNow) as refused:
        await send(world.bot, chat.id, TEXT)

    assert refused.value.retry_after == UNKNOWN_RETRY_AFTER_S


async def test_where_a_group_has_moved_is_told(world: World) -> None:
    """A group that became a supergroup names its new id."""
    chat = world.group()
    new_id = world.state.free_id("supergroup")
    world.state.failures.add(Failure(kind=FailureKind.MIGRATE, migrate_to_chat_id=new_id))

    with pytest.raises(ChatMoved) as moved:
        await send(world.bot, chat.id, TEXT)

    assert moved.value.chat_id == new_id


async def test_a_chat_that_is_not_there_is_gone(world: World) -> None:
    """Telegram does not know the chat, however often it is asked."""
    with pytest.raises(ChatGone, match="chat not found"):
        await send(world.bot, -404, TEXT)


async def test_a_message_that_is_too_long_is_refused(world: World) -> None:
    """A text that Telegram does not take is refused, whatever is tried."""
    with pytest.raises(Refused, match="message is too long"):
        await send(world.bot, world.group().id, "x" * 4097)


async def test_markup_that_cannot_be_parsed_is_left_out(world: World) -> None:
    """A mistake of ours in the markup does not keep a kitchen from its orders."""
    chat = world.group()
    world.fail(FailureKind.BAD_ENTITIES)

    message_id = await send(world.bot, chat.id, TEXT)

    assert [(it.id, it.content.text, it.content.entities) for it in chat.messages.values()] == [
        (message_id, "Soup & salad", [])
    ]


async def test_text_without_markup_keeps_its_buttons(world: World) -> None:
    """What is sent as plain text can be marked as received all the same."""
    chat = world.group()
    world.fail(FailureKind.BAD_ENTITIES)

    message_id = await send(world.bot, chat.id, TEXT, buttons.received(7, "en"))

    assert chat.messages[message_id].has_button("received:7")


async def test_markup_that_cannot_be_parsed_is_logged(world: World) -> None:
    """Our mistake is in the log, without what people have written."""
    world.fail(FailureKind.BAD_ENTITIES)

    with capture_logs() as lines:
        await send(world.bot, world.group().id, TEXT)

    assert [(line["log_level"], line["event"]) for line in lines] == [("error", "telegram.unparsable")]
    assert TEXT not in str(lines)


async def test_real_markup_that_cannot_be_parsed_is_left_out(world: World) -> None:
    """Tags that Telegram does not know, or that are not closed, go."""
    chat = world.group()

    await send(world.bot, chat.id, "<b>Soup &amp; <pot>salad")

    assert read_in(chat) == ["Soup & salad"]


async def test_plain_text_is_tried_once(world: World) -> None:
    """A text that Telegram does not take as plain text either is refused."""
    chat = world.group()
    world.fail(FailureKind.BAD_ENTITIES, times=None)

    with pytest.raises(Refused, match="can't parse entities"):
        await send(world.bot, chat.id, TEXT)

    assert read_in(chat) == []


async def test_a_telegram_that_is_not_there_has_taken_nothing() -> None:
    """Where no connection is made, nothing was sent."""
    async with make_bot(TOKEN, f"http://127.0.0.1:{free_port()}").context() as bot:
        with pytest.raises(Unreachable):
            await send(bot, -1, TEXT)


async def test_a_token_that_is_not_known_may_be_set_right(world: World) -> None:
    """A wrong token is the operator's to mend, and no fault of the message."""
    async with make_bot("42:WRONG-token", world.address).context() as bot:
        with pytest.raises(Unreachable, match="Unauthorized"):
            await send(bot, world.group().id, TEXT)


async def test_failures_do_not_name_the_token() -> None:
    """What is logged and kept of a failure has no secret in it."""
    async with make_bot(TOKEN, f"http://127.0.0.1:{free_port()}").context() as bot:
        with pytest.raises(Unreachable) as failed:
            await send(bot, -1, TEXT)

    assert TOKEN not in str(failed.value)


@pytest.mark.parametrize("kind", [FailureKind.KICKED, FailureKind.MIGRATE, FailureKind.SERVER_ERROR])
async def test_other_calls_fail_alike(world: World, kind: FailureKind) -> None:
    """What an answer means does not depend on what was asked."""
    chat = world.group()
    world.fail(kind, method="getChat")

    with pytest.raises(MEANINGS[kind]):
        await understood(world.bot.get_chat(chat.id))


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
def test_markup_is_taken_out(html: str, plain: str) -> None:
    """Tags go, and what was escaped is read as it was meant."""
    assert without_markup(html) == plain
