"""The delivery of updates to the bot: polling, handlers of aiogram, and webhooks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiogram import Dispatcher
from aiogram.exceptions import (
    TelegramConflictError,
)
from aiogram.filters import Command, CommandObject, CommandStart
from aiogram.types import (
    CallbackQuery,
    Message,
    Update,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.dev.telegram.conftest import DEADLINE_S, World, create_keyboard
from tests.servers import serving, until


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


async def test_typed_command_reaches_the_dispatcher(
    world: World, person: int, dispatch: Callable[[Dispatcher], Awaitable[None]]
) -> None:
    """A command that a person types reaches aiogram's handler for it."""
    dispatcher = Dispatcher()
    received: asyncio.Queue[str | None] = asyncio.Queue()

    @dispatcher.message(Command("link"))
    async def handle_link(_: Message, command: CommandObject) -> None:
        received.put_nowait(command.args)

    await dispatch(dispatcher)
    await world.write(person, "/link 7")

    assert await asyncio.wait_for(received.get(), DEADLINE_S) == "7"


async def test_deep_link_in_a_group_reaches_the_dispatcher(
    world: World, group: int, dispatch: Callable[[Dispatcher], Awaitable[None]]
) -> None:
    """A startgroup link arrives as /start with its payload."""
    dispatcher = Dispatcher()
    received: asyncio.Queue[str | None] = asyncio.Queue()

    @dispatcher.message(CommandStart(deep_link=True))
    async def handle_start(_: Message, command: CommandObject) -> None:
        received.put_nowait(command.args)

    await dispatch(dispatcher)
    await world.write(group, f"/start@{(await world.bot.me()).username} link_7")

    assert await asyncio.wait_for(received.get(), DEADLINE_S) == "link_7"


async def test_handler_can_reply(world: World, person: int, dispatch: Callable[[Dispatcher], Awaitable[None]]) -> None:
    """The reply of a handler follows the person's message in the chat."""
    dispatcher = Dispatcher()

    @dispatcher.message()
    async def echo(message: Message) -> None:
        await message.reply(f"You said {message.text}")

    await dispatch(dispatcher)
    await world.write(person, "soup")
    await until(lambda: len(world.state.chats[person].messages) == 2)

    assert [message["text"] for message in await world.list_messages(person)] == ["soup", "You said soup"]


async def test_command_gets_an_entity(world: World, person: int) -> None:
    """A typed command has a bot_command entity, measured in UTF-16 code units."""
    await world.write(person, "🍲 /status")

    [update] = await world.bot.get_updates()

    entities = update.message.entities  # type: ignore[union-attr]
    assert entities
    assert [(entity.type, entity.offset, entity.length) for entity in entities] == [("bot_command", 3, 7)]


async def test_update_is_repeated_until_it_is_confirmed(world: World, person: int) -> None:
    """Without an offset getUpdates returns the same updates again."""
    await world.write(person, "one")

    assert await world.bot.get_updates() == await world.bot.get_updates()


async def test_offset_confirms_updates(world: World, person: int) -> None:
    """An offset removes the updates before it."""
    first = (await world.write(person, "one"))["update_id"]
    second = (await world.write(person, "two"))["update_id"]

    assert [update.update_id for update in await world.bot.get_updates(offset=first + 1)] == [second]


async def test_negative_offset_counts_from_the_end(world: World, person: int) -> None:
    """Offset -1 returns the last update and removes the others."""
    await world.write(person, "one")
    last = (await world.write(person, "two"))["update_id"]

    assert [update.update_id for update in await world.bot.get_updates(offset=-1)] == [last]


async def test_long_poll_ends_with_the_update(world: World, person: int) -> None:
    """A waiting getUpdates returns when an update arrives."""
    polling = asyncio.create_task(world.bot.get_updates(timeout=5))
    await until(lambda: world.state.updates.is_polled)

    await world.write(person, "soup")

    assert [update.message.text for update in await polling] == ["soup"]  # type: ignore[union-attr]


async def test_updates_outside_allowed_updates_are_not_queued(world: World, person: int) -> None:
    """After allowed_updates, no update of another kind is created."""
    await world.bot.get_updates(allowed_updates=["callback_query"])

    assert (await world.write(person, "soup"))["update_id"] is None


async def test_second_poller_ends_the_first(world: World) -> None:
    """When a second bot polls with the same token, the first gets a conflict."""
    first = asyncio.create_task(world.bot.get_updates(timeout=5))
    await until(lambda: world.state.updates.is_polled)

    async with world.new_bot() as second:
        await second.get_updates()

    with pytest.raises(TelegramConflictError, match="terminated by other getUpdates request"):
        await first


async def test_disconnected_client_ends_its_poll(world: World) -> None:
    """A poll ends when its client disconnects."""
    polling = asyncio.create_task(world.bot.get_updates(timeout=50))
    await until(lambda: world.state.updates.is_polled)
    polling.cancel()

    await until(lambda: not world.state.updates.is_polled)

    assert not world.state.updates.is_polled


async def test_pressed_button_reaches_the_dispatcher(
    world: World, person: int, dispatch: Callable[[Dispatcher], Awaitable[None]]
) -> None:
    """A press of a button arrives as a callback query with the button's data."""
    dispatcher = Dispatcher()
    received: asyncio.Queue[str | None] = asyncio.Queue()

    @dispatcher.callback_query()
    async def handle_press(query: CallbackQuery) -> None:
        received.put_nowait(query.data)

    await dispatch(dispatcher)
    sent = await world.bot.send_message(person, "soup", reply_markup=create_keyboard("ack:1"))
    await world.post(f"/chats/{person}/press", message_id=sent.message_id, callback_data="ack:1")

    assert await asyncio.wait_for(received.get(), DEADLINE_S) == "ack:1"


async def test_membership_change_is_an_update(world: World, group: int) -> None:
    """Kicking the bot creates a my_chat_member update."""
    await world.post(f"/chats/{group}/membership", status="kicked")

    [update] = await world.bot.get_updates()
    assert update.my_chat_member.new_chat_member.status == "kicked"  # type: ignore[union-attr]


async def test_webhook_gets_updates_with_its_secret(world: World, person: int) -> None:
    """Updates are posted to the webhook with the secret in the header."""
    posted: asyncio.Queue[tuple[str | None, Update]] = asyncio.Queue()

    async def handle_update(request: Request) -> Response:
        update = Update.model_validate_json(await request.body())
        posted.put_nowait((request.headers.get("X-Telegram-Bot-Api-Secret-Token"), update))
        return Response()

    async with serving(Starlette(routes=[Route("/hook", handle_update, methods=["POST"])])) as address:
        await world.bot.set_webhook(f"{address}/hook", secret_token="s3cret")
        await world.write(person, "soup")
        secret, update = await asyncio.wait_for(posted.get(), DEADLINE_S)

    assert (secret, update.message and update.message.text) == ("s3cret", "soup")


async def test_webhook_gets_the_updates_of_one_chat_in_order(world: World, person: int, group: int) -> None:
    """An update of a chat is sent when the one before it was accepted; the other chats do not wait for it."""
    posted: list[str] = []
    may_answer = asyncio.Event()

    async def handle_update(request: Request) -> Response:
        update = Update.model_validate_json(await request.body())
        assert update.message is not None
        posted.append(str(update.message.text))
        if update.message.chat.id == person:
            await may_answer.wait()
        return Response()

    async with serving(Starlette(routes=[Route("/hook", handle_update, methods=["POST"])])) as address:
        await world.bot.set_webhook(f"{address}/hook")
        for chat, text in [(person, "one"), (person, "two"), (group, "three"), (group, "four")]:
            await world.write(chat, text)
        await until(lambda: "four" in posted)
        before = list(posted)
        may_answer.set()
        await until(lambda: "two" in posted)

    assert before == ["one", "three", "four"]


async def test_polling_conflicts_with_a_webhook(world: World) -> None:
    """getUpdates is refused while a webhook is set."""
    await world.bot.set_webhook("http://127.0.0.1:9/hook")

    with pytest.raises(TelegramConflictError, match="webhook is active"):
        await world.bot.get_updates()
