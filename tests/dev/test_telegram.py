"""The Telegram stand-in, used through the real aiogram and a real server."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from aiogram import Bot, Dispatcher
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramAPIError,
    TelegramBadRequest,
    TelegramConflictError,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.types import (
    BotCommand,
    CallbackQuery,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    Message,
    Update,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.dev.telegram import create_telegram

TOKEN = "42:TEST-token"
DEADLINE_S = 10


class PlainSession(AiohttpSession):
    """Closes at once: aiogram's waits 250 ms for TLS, of which there is none here."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class World:
    """A running stand-in, its control API, and a bot that talks to it."""

    def __init__(self, app: Starlette, address: str) -> None:
        self.address = address
        self.state = app.state.telegram
        self.bot = self.new_bot()
        self.control = httpx.AsyncClient(base_url=f"{address}/control", timeout=DEADLINE_S)

    def new_bot(self, token: str = TOKEN) -> Bot:
        server = TelegramAPIServer.from_base(self.address)
        return Bot(token, session=PlainSession(api=server, timeout=DEADLINE_S))

    async def post(self, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.control.post(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())

    async def get(self, path: str) -> dict[str, Any]:
        return dict((await self.control.get(path)).raise_for_status().json())

    async def chat(self, **properties: Any) -> int:
        return int((await self.post("/chats", **properties))["id"])

    async def say(self, chat: int, text: str, **more: Any) -> dict[str, Any]:
        return await self.post(f"/chats/{chat}/messages", text=text, **more)

    async def messages(self, chat: int) -> list[dict[str, Any]]:
        return list((await self.get(f"/chats/{chat}/messages"))["messages"])

    async def fail(self, kind: str, **details: Any) -> None:
        await self.post("/failures", method="sendMessage", kind=kind, **details)


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """The address under which a real server runs the app.

    asyncio turns Nagle's algorithm off only where the socket says that it is TCP; otherwise each answer takes 40 ms.
    """
    with socket.socket(proto=socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        running = asyncio.create_task(server.serve(sockets=[listener]))
        await until(lambda: server.started)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        if hasattr(app.state, "telegram"):
            app.state.telegram.close()
        server.should_exit = True
        await running


@asynccontextmanager
async def running_world(app: Starlette) -> AsyncIterator[World]:
    async with served(app) as address:
        world = World(app, address)
        async with world.bot.session, world.control:
            yield world


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds; give up at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(scope="module")
async def shared_world() -> AsyncIterator[World]:
    async with running_world(create_telegram()) as world:
        yield world


@pytest.fixture
async def world(shared_world: World) -> World:
    """The stand-in with nothing in it. One server serves all tests: to start and stop one takes 0.2 s."""
    await shared_world.post("/reset")
    return shared_world


@pytest.fixture
async def person(world: World) -> int:
    return await world.chat(first_name="Anna", username="anna_k")


@pytest.fixture
async def group(world: World) -> int:
    return await world.chat(type="supergroup", title="Café")


@pytest.fixture
async def dispatch(world: World) -> AsyncIterator[Callable[[Dispatcher], Awaitable[None]]]:
    """Start a dispatcher's polling, and stop it after the test."""
    polling: list[tuple[Dispatcher, asyncio.Task[None]]] = []

    async def start(dispatcher: Dispatcher) -> None:
        task = asyncio.create_task(
            dispatcher.start_polling(world.bot, handle_signals=False, close_bot_session=False, polling_timeout=5)
        )
        polling.append((dispatcher, task))
        await until(lambda: world.state.updates.is_polled)

    yield start
    for dispatcher, task in polling:
        await dispatcher.stop_polling()
        await task


def keyboard(data: str) -> InlineKeyboardMarkup:
    return InlineKeyboardMarkup(inline_keyboard=[[InlineKeyboardButton(text="Received", callback_data=data)]])


async def test_typed_command_reaches_the_dispatcher(
    world: World, person: int, dispatch: Callable[[Dispatcher], Awaitable[None]]
) -> None:
    """A command that somebody types arrives at aiogram's handler for it."""
    dispatcher = Dispatcher()
    heard: asyncio.Queue[str | None] = asyncio.Queue()

    @dispatcher.message(Command("link"))
    async def linked(_: Message, command: CommandObject) -> None:
        heard.put_nowait(command.args)

    await dispatch(dispatcher)
    await world.say(person, "/link 7")

    assert await asyncio.wait_for(heard.get(), DEADLINE_S) == "7"


async def test_deep_link_in_a_group_reaches_the_dispatcher(
    world: World, group: int, dispatch: Callable[[Dispatcher], Awaitable[None]]
) -> None:
    """A startgroup link arrives as /start with its payload, addressed to the bot."""
    dispatcher = Dispatcher()
    heard: asyncio.Queue[str | None] = asyncio.Queue()

    @dispatcher.message(CommandStart(deep_link=True))
    async def started(_: Message, command: CommandObject) -> None:
        heard.put_nowait(command.args)

    await dispatch(dispatcher)
    await world.say(group, f"/start@{(await world.bot.me()).username} link_7")

    assert await asyncio.wait_for(heard.get(), DEADLINE_S) == "link_7"


async def test_handler_can_answer(world: World, person: int, dispatch: Callable[[Dispatcher], Awaitable[None]]) -> None:
    """What a handler replies stands in the chat below what was written."""
    dispatcher = Dispatcher()

    @dispatcher.message()
    async def echo(message: Message) -> None:
        await message.reply(f"You said {message.text}")

    await dispatch(dispatcher)
    await world.say(person, "soup")
    await until(lambda: len(world.state.chats[person].messages) == 2)

    assert [message["text"] for message in await world.messages(person)] == ["soup", "You said soup"]


async def test_command_is_marked(world: World, person: int) -> None:
    """A typed command carries a bot_command entity, measured in UTF-16 code units."""
    await world.say(person, "🍲 /status")

    [update] = await world.bot.get_updates()

    assert [(e.type, e.offset, e.length) for e in update.message.entities] == [("bot_command", 3, 7)]  # type: ignore[union-attr]


async def test_message_opens_the_chat(world: World) -> None:
    """Writing to the bot is enough for the chat to exist."""
    await world.say(77, "/start", **{"from": {"id": 77, "first_name": "Boris", "language_code": "ru"}})

    assert (await world.bot.get_chat(77)).first_name == "Boris"


async def test_update_comes_again_until_it_is_confirmed(world: World, person: int) -> None:
    """Without an offset getUpdates returns the same updates again."""
    await world.say(person, "one")

    assert await world.bot.get_updates() == await world.bot.get_updates()


async def test_offset_confirms(world: World, person: int) -> None:
    """An offset forgets the updates before it."""
    first = (await world.say(person, "one"))["update_id"]
    second = (await world.say(person, "two"))["update_id"]

    assert [update.update_id for update in await world.bot.get_updates(offset=first + 1)] == [second]


async def test_negative_offset_counts_from_the_end(world: World, person: int) -> None:
    """Offset -1 gives the last update and forgets the others."""
    await world.say(person, "one")
    last = (await world.say(person, "two"))["update_id"]

    assert [update.update_id for update in await world.bot.get_updates(offset=-1)] == [last]


async def test_long_poll_ends_with_the_update(world: World, person: int) -> None:
    """A waiting getUpdates returns as soon as there is something."""
    polling = asyncio.create_task(world.bot.get_updates(timeout=5))
    await until(lambda: world.state.updates.is_polled)

    await world.say(person, "soup")

    assert [update.message.text for update in await polling] == ["soup"]  # type: ignore[union-attr]


async def test_kinds_not_asked_for_are_not_queued(world: World, person: int) -> None:
    """After allowed_updates, an update of another kind is not made."""
    await world.bot.get_updates(allowed_updates=["callback_query"])

    assert (await world.say(person, "soup"))["update_id"] is None


async def test_second_poller_ends_the_first(world: World) -> None:
    """Of two bots that poll with one token the first is told of the conflict."""
    first = asyncio.create_task(world.bot.get_updates(timeout=5))
    await until(lambda: world.state.updates.is_polled)

    async with world.new_bot() as second:
        await second.get_updates()

    with pytest.raises(TelegramConflictError, match="terminated by other getUpdates request"):
        await first


async def test_client_that_leaves_ends_its_poll(world: World) -> None:
    """A poll whose client has gone is over."""
    polling = asyncio.create_task(world.bot.get_updates(timeout=50))
    await until(lambda: world.state.updates.is_polled)
    polling.cancel()

    await until(lambda: not world.state.updates.is_polled)

    assert not world.state.updates.is_polled


async def test_html_is_parsed(world: World, person: int) -> None:
    """A sent message comes back without its tags, as aiogram renders it again."""
    sent = await world.bot.send_message(person, "<b>Борщ &amp; Co</b> 🍲 <i>now</i>", parse_mode="HTML")

    assert (sent.text, sent.html_text) == ("Борщ & Co 🍲 now", "<b>Борщ &amp; Co</b> 🍲 <i>now</i>")


async def test_original_text_is_kept(world: World, person: int) -> None:
    """The control API shows the text as it was sent beside the text as it is read."""
    await world.bot.send_message(person, "<b>Soup</b>", parse_mode="HTML")

    [message] = await world.messages(person)
    assert (message["original_text"], message["text"]) == ("<b>Soup</b>", "Soup")


async def test_length_counts_after_parsing(world: World, person: int) -> None:
    """4096 UTF-16 code units are not too long, whatever the tags and entities around them take."""
    sent = await world.bot.send_message(person, f"<b>{'&amp;' * 4094}🍲</b>", parse_mode="HTML")

    assert len(sent.text or "") == 4095


async def test_too_long_message_is_refused(world: World, person: int) -> None:
    """2049 characters of two code units each are too many."""
    with pytest.raises(TelegramBadRequest, match="message is too long"):
        await world.bot.send_message(person, "🍲" * 2049)


async def test_empty_message_is_refused(world: World, person: int) -> None:
    """A message of nothing but tags and white space is empty."""
    with pytest.raises(TelegramBadRequest, match="message text is empty"):
        await world.bot.send_message(person, "<b> \n</b>", parse_mode="HTML")


@pytest.mark.parametrize(
    ("text", "complaint"),
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
async def test_bad_markup_is_refused(world: World, person: int, text: str, complaint: str) -> None:
    """Markup that Telegram cannot parse is refused in Telegram's words."""
    with pytest.raises(TelegramBadRequest) as refusal:
        await world.bot.send_message(person, text, parse_mode="HTML")

    assert refusal.value.message == f"Bad Request: can't parse entities: {complaint}"


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
    """Tags become entities, references become characters, and unknown references stay as they are."""
    await world.bot.send_message(person, html, parse_mode="HTML")

    [message] = await world.messages(person)
    assert (message["text"], message["entities"]) == (text, entities)


async def test_unknown_chat_is_refused(world: World) -> None:
    """A chat that nobody made cannot be written to."""
    with pytest.raises(TelegramBadRequest, match="chat not found"):
        await world.bot.send_message(404, "soup")


async def test_callback_data_over_64_bytes_is_refused(world: World, person: int) -> None:
    """The limit of callback data is in bytes, not characters."""
    with pytest.raises(TelegramBadRequest, match="BUTTON_DATA_INVALID"):
        await world.bot.send_message(person, "soup", reply_markup=keyboard("щ" * 33))


async def test_button_that_does_nothing_is_refused(world: World, person: int) -> None:
    """A button without data or any other action cannot stand under a message."""
    with pytest.raises(TelegramBadRequest, match="Text buttons are unallowed in the inline keyboard"):
        await world.bot.send_message(person, "soup", reply_markup=keyboard(""))


async def test_another_token_is_refused() -> None:
    """A stand-in that was given a token knows no other."""
    async with running_world(create_telegram(token="1:other")) as world:
        with pytest.raises(TelegramUnauthorizedError):
            await world.bot.get_me()


async def test_unknown_method_is_refused(world: World) -> None:
    """A method that the stand-in does not have is answered as Telegram answers one it does not have."""
    with pytest.raises(TelegramNotFound, match="method not found"):
        await world.bot.send_dice(1)


@pytest.mark.parametrize(
    ("kind", "details", "raised"),
    [
        ("rate_limit", {"retry_after": 5}, TelegramRetryAfter),
        ("rate_limit", {}, TelegramAPIError),
        ("server_error", {}, TelegramServerError),
        ("bad_gateway", {}, ClientDecodeError),
        ("drop_before", {}, TelegramNetworkError),
        ("drop_after", {}, TelegramNetworkError),
        ("blocked", {}, TelegramForbiddenError),
        ("kicked", {}, TelegramForbiddenError),
        ("migrate", {}, TelegramMigrateToChat),
        ("bad_entities", {}, TelegramBadRequest),
    ],
)
async def test_ordered_failure_raises(
    world: World, group: int, kind: str, details: dict[str, Any], raised: type[Exception]
) -> None:
    """Each kind of failure reaches the caller as the exception that the real one would."""
    await world.fail(kind, chat_id=group, **details)

    with pytest.raises(raised) as failure:
        await world.bot.send_message(group, "soup")

    assert type(failure.value) is raised


async def test_hanging_call_times_out(world: World, person: int) -> None:
    """A call that hangs ends with the client's patience."""
    await world.fail("hang")

    with pytest.raises(TelegramNetworkError, match="timeout"):
        await world.bot.send_message(person, "soup", request_timeout=1)


@pytest.mark.parametrize(("kind", "stored"), [("drop_before", 0), ("drop_after", 1)])
async def test_drop_leaves_the_outcome_unknown(world: World, person: int, kind: str, stored: int) -> None:
    """A connection that breaks may do so before or after the message was stored."""
    await world.fail(kind)
    with pytest.raises(TelegramNetworkError):
        await world.bot.send_message(person, "soup")

    assert len(await world.messages(person)) == stored


async def test_group_can_be_followed_after_migration(world: World) -> None:
    """The chat that a migrated group names can be written to."""
    group = await world.chat(type="group")
    await world.fail("migrate", migrate_to_chat_id=-1_002_000_000_007)
    with pytest.raises(TelegramMigrateToChat) as moved:
        await world.bot.send_message(group, "soup")

    assert (await world.bot.send_message(moved.value.migrate_to_chat_id, "soup")).chat.type == "supergroup"


async def test_failure_ends_after_its_times(world: World, person: int) -> None:
    """A failure ordered for two calls spares the third."""
    await world.fail("server_error", times=2)
    for _ in range(2):
        with pytest.raises(TelegramServerError):
            await world.bot.send_message(person, "soup")

    assert (await world.bot.send_message(person, "soup")).text == "soup"


async def test_endless_failure_ends_when_deleted(world: World, person: int) -> None:
    """A failure with no number of times lasts until the failures are deleted."""
    await world.fail("server_error", times=None)
    with pytest.raises(TelegramServerError):
        await world.bot.send_message(person, "soup")
    await world.control.delete("/failures")

    assert (await world.bot.send_message(person, "soup")).text == "soup"


async def test_failure_of_one_chat_spares_the_others(world: World, person: int, group: int) -> None:
    """A failure that names a chat leaves other chats alone."""
    await world.fail("blocked", chat_id=person)

    assert (await world.bot.send_message(group, "soup")).text == "soup"


async def test_pressed_button_reaches_the_dispatcher(
    world: World, person: int, dispatch: Callable[[Dispatcher], Awaitable[None]]
) -> None:
    """A pressed button arrives as a callback query with the button's data."""
    dispatcher = Dispatcher()
    heard: asyncio.Queue[str | None] = asyncio.Queue()

    @dispatcher.callback_query()
    async def received(query: CallbackQuery) -> None:
        heard.put_nowait(query.data)

    await dispatch(dispatcher)
    sent = await world.bot.send_message(person, "soup", reply_markup=keyboard("ack:1"))
    await world.post(f"/chats/{person}/press", message_id=sent.message_id, callback_data="ack:1")

    assert await asyncio.wait_for(heard.get(), DEADLINE_S) == "ack:1"


async def test_answer_to_a_press_is_shown(world: World, person: int) -> None:
    """What the bot answers to a press stands beside the press."""
    sent = await world.bot.send_message(person, "soup", reply_markup=keyboard("ack:1"))
    press = await world.post(f"/chats/{person}/press", message_id=sent.message_id, callback_data="ack:1")
    await world.bot.answer_callback_query(press["callback_query_id"], "Thank you", show_alert=True)

    [message] = await world.messages(person)
    assert message["presses"][0]["answer"] == {"text": "Thank you", "show_alert": True}


async def test_button_that_is_not_there_cannot_be_pressed(world: World, person: int) -> None:
    """A press needs a button that has this data."""
    sent = await world.bot.send_message(person, "soup")

    answer = await world.control.post(
        f"/chats/{person}/press", json={"message_id": sent.message_id, "callback_data": "ack:1"}
    )

    assert answer.json() == {"error": f"message {sent.message_id} has no button with the data 'ack:1'"}


async def test_edit_keeps_the_earlier_version(world: World, person: int) -> None:
    """An edited message shows its new text and remembers the old one."""
    sent = await world.bot.send_message(person, "soup")
    await sent.edit_text("salad")

    [message] = await world.messages(person)
    assert (message["text"], message["edits"][0]["text"]) == ("salad", "soup")


async def test_edit_without_a_difference_is_refused(world: World, person: int) -> None:
    """Editing a message into itself is an error."""
    sent = await world.bot.send_message(person, "soup", reply_markup=keyboard("ack:1"))

    with pytest.raises(TelegramBadRequest, match="message is not modified"):
        await sent.edit_reply_markup(reply_markup=keyboard("ack:1"))


async def test_edit_of_the_text_alone_takes_the_buttons_away(world: World, person: int) -> None:
    """Without a keyboard in the edit there is none under the message."""
    sent = await world.bot.send_message(person, "soup", reply_markup=keyboard("ack:1"))
    await sent.edit_text("soup, received")

    [message] = await world.messages(person)
    assert message["buttons"] == []


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("private", "kicked", "bot was blocked by the user"),
        ("group", "kicked", "bot was kicked from the group chat"),
        ("supergroup", "left", "bot is not a member of the supergroup chat"),
    ],
)
async def test_bot_that_was_put_out_cannot_write(world: World, kind: str, status: str, reason: str) -> None:
    """Where the bot was blocked, kicked or taken away it gets 403."""
    chat = await world.chat(type=kind)
    await world.post(f"/chats/{chat}/membership", status=status)

    with pytest.raises(TelegramForbiddenError, match=reason):
        await world.bot.send_message(chat, "soup")


async def test_membership_is_told(world: World, group: int) -> None:
    """Throwing the bot out makes a my_chat_member update."""
    await world.post(f"/chats/{group}/membership", status="kicked")

    [update] = await world.bot.get_updates()
    assert update.my_chat_member.new_chat_member.status == "kicked"  # type: ignore[union-attr]


async def test_bot_can_leave(world: World, group: int) -> None:
    """A group that the bot has left is closed to it."""
    await world.bot.leave_chat(group)

    with pytest.raises(TelegramForbiddenError):
        await world.bot.send_chat_action(group, "typing")


async def test_commands_are_kept(world: World) -> None:
    """The menu that was set is the menu that is got."""
    await world.bot.set_my_commands([BotCommand(command="link", description="Link a cafe")])

    assert [command.command for command in await world.bot.get_my_commands()] == ["link"]


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
async def limited(clock: list[float]) -> AsyncIterator[World]:
    async with running_world(create_telegram(limits=True, clock=lambda: clock[0])) as world:
        yield world


async def test_thirty_first_message_of_a_second_is_refused(limited: World) -> None:
    """Over all chats 30 messages a second pass, and the next is told how long to wait."""
    chats = [await limited.chat() for _ in range(31)]
    for chat in chats[:30]:
        await limited.bot.send_message(chat, "soup")

    with pytest.raises(TelegramRetryAfter) as refusal:
        await limited.bot.send_message(chats[30], "soup")

    assert refusal.value.retry_after == 1


async def test_second_message_to_a_chat_has_to_wait(limited: World, clock: list[float]) -> None:
    """A chat takes one message, and another one a second later."""
    chat = await limited.chat()
    await limited.bot.send_message(chat, "soup")
    with pytest.raises(TelegramRetryAfter):
        await limited.bot.send_message(chat, "salad")
    clock[0] += 1

    assert (await limited.bot.send_message(chat, "salad")).text == "salad"


async def test_twenty_first_message_of_a_minute_to_a_group_is_refused(limited: World, clock: list[float]) -> None:
    """A group takes 20 messages a minute; the wait lasts until the first of them is a minute old."""
    group = await limited.chat(type="group")
    for _ in range(20):
        await limited.bot.send_message(group, "soup")
        clock[0] += 2

    with pytest.raises(TelegramRetryAfter) as refusal:
        await limited.bot.send_message(group, "soup")

    assert refusal.value.retry_after == 20


async def test_webhook_gets_updates_with_its_secret(world: World, person: int) -> None:
    """Once a webhook is set, updates are posted to it with the secret in the header."""
    got: asyncio.Queue[tuple[str | None, Update]] = asyncio.Queue()

    async def take(request: Request) -> Response:
        update = Update.model_validate_json(await request.body())
        got.put_nowait((request.headers.get("X-Telegram-Bot-Api-Secret-Token"), update))
        return Response()

    async with served(Starlette(routes=[Route("/hook", take, methods=["POST"])])) as address:
        await world.bot.set_webhook(f"{address}/hook", secret_token="s3cret")
        await world.say(person, "soup")
        secret, update = await asyncio.wait_for(got.get(), DEADLINE_S)

    assert (secret, update.message and update.message.text) == ("s3cret", "soup")


async def test_polling_conflicts_with_a_webhook(world: World) -> None:
    """While a webhook is set getUpdates is refused."""
    await world.bot.set_webhook("http://127.0.0.1:9/hook")

    with pytest.raises(TelegramConflictError, match="webhook is active"):
        await world.bot.get_updates()


@pytest.mark.parametrize(
    "sent",
    [
        {"params": {"chat_id": "77", "text": "soup"}},
        {"data": {"chat_id": "77", "text": "soup"}},
        {"json": {"chat_id": "77", "text": "soup"}},
        {"json": {"chat_id": 77, "text": "soup"}},
        {"data": {"chat_id": "77"}, "files": {"text": (None, "soup")}},
    ],
    ids=["query", "form", "json", "json with a number", "multipart"],
)
async def test_parameters_come_in_any_form(world: World, sent: dict[str, Any]) -> None:
    """Query, form, multipart and JSON are the same to Telegram, and so are numbers and their spelling."""
    await world.chat(id=77)

    answer = await world.control.post(f"{world.address}/bot{TOKEN}/SENDMESSAGE", **sent)

    assert answer.json()["result"]["text"] == "soup"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({"content": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, 400),
        ({"content": b"text=%ff", "headers": {"Content-Type": "application/x-www-form-urlencoded"}}, 400),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}}, 400),
        ({"json": {"chat_id": "--7", "text": "soup"}}, 400),
        ({"json": {"chat_id": 77, "text": "soup", "reply_markup": {"inline_keyboard": [[7]]}}}, 400),
        ({"json": {"chat_id": 77, "text": "soup", "reply_markup": "{"}}, 400),
        ({"json": {"chat_id": 77, "text": "soup", "entities": [{"type": 1}]}}, 400),
        ({"json": {"chat_id": {"a": [1]}, "text": ["soup"]}}, 400),
    ],
)
async def test_nonsense_is_refused(world: World, sent: dict[str, Any], status: int) -> None:
    """Whatever is sent, the answer is a refusal in the Bot API's shape."""
    await world.chat(id=77)

    answer = await world.control.post(f"{world.address}/bot{TOKEN}/sendMessage", **sent)

    assert (answer.status_code, answer.json()["ok"]) == (status, False)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chats", {"type": "channel"}),
        ("/chats", {"type": "private", "id": -5}),
        ("/chats/soup/messages", {"text": "x"}),
        ("/chats/77/messages", {"text": " "}),
        ("/chats/77/press", {"message_id": 1, "callback_data": "x"}),
        ("/chats/77/membership", {"status": "left"}),
        ("/failures", {"kind": "flood"}),
    ],
)
async def test_control_explains_bad_input(world: World, path: str, body: dict[str, Any]) -> None:
    """The control API answers bad input with a 400 that says what is wrong."""
    answer = await world.control.post(path, json=body)

    assert (answer.status_code, bool(answer.json()["error"])) == (400, True)


async def test_events_tell_of_changes(world: World, person: int) -> None:
    """Whoever looks on hears of a new message."""
    async with world.control.stream("GET", "/events") as events:
        lines = events.aiter_lines()
        await anext(lines)
        await world.bot.send_message(person, "soup")
        async with asyncio.timeout(DEADLINE_S):
            change = next(iter([line async for line in _first_data(lines)]))

    assert json.loads(change) == {"kind": "message", "chat_id": person}


async def _first_data(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        if line.startswith("data: "):
            yield line.removeprefix("data: ")
            return


async def test_reset_forgets_everything(world: World, person: int) -> None:
    """After a reset there are no chats."""
    await world.say(person, "soup")
    await world.post("/reset")

    assert (await world.get("/chats"))["chats"] == []


async def test_page_loads_nothing_from_elsewhere(world: World) -> None:
    """The page's policy allows its own files only."""
    page = await world.control.get(f"{world.address}/")

    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'; script-src 'self'")
