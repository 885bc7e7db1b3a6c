"""Polling: updates that cannot be handled, floods, and the end of the process."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import structlog
from prometheus_client import REGISTRY
from pydantic import SecretStr
from structlog.testing import LogCapture

from app.bot.dispatcher import setup_attempts
from app.bot.handling import MAX_WAITING
from app.bot.polling import CROWDED, SILENCE_S, Polling
from app.clients import Clients
from app.dev.telegram.chats import Chat
from app.dev.telegram.faults import Failure, FailureKind
from app.processes.bot import create_app
from app.settings import Settings
from app.telegram import texts
from app.telegram.limiter import Limiter
from app.telegram.sender import RetryAfter
from tests.bot.running import answer, polling_bot, stop_polling, until_handled
from tests.servers import serving, until
from tests.telegram_standin import TOKEN, World, limited_bot, read_in

SECRET_TEXT = "Anna's diagnosis"


def counted(outcome: str) -> float:
    """Return how many updates have had this outcome in this process."""
    return REGISTRY.get_sample_value("lunch_bot_telegram_updates_total", {"outcome": outcome}) or 0


def unreadable_message(chat: Chat) -> dict[str, Any]:
    """Make a message that aiogram cannot read: its hidden sender has no name."""
    assert chat.person is not None
    return {
        "message_id": 7,
        "date": 1_790_000_000,
        "chat": chat.as_chat(),
        "from": chat.person.as_user(),
        "forward_origin": {"type": "hidden_user", "date": 1_422_450_181},
        "text": SECRET_TEXT,
    }


@pytest.fixture
def logged() -> Iterator[LogCapture]:
    """The lines that are logged during the test."""
    capture = LogCapture()
    before = structlog.get_config()["processors"]
    structlog.configure(processors=[capture])
    yield capture
    structlog.configure(processors=before)


@pytest.mark.parametrize("position", [0, 1, 2])
async def test_an_unreadable_update_does_not_stop_the_others(
    world: World, clients: Clients, private_chat: Chat, position: int
) -> None:
    """An update that cannot be read is skipped, wherever it is among the updates of one call."""
    other = world.person()
    said: list[Callable[[], object]] = [lambda: world.say(private_chat, "/status"), lambda: world.say(other, "/help")]
    said.insert(position, lambda: world.state.updates.put("message", unreadable_message(private_chat)))
    for say in said:
        say()

    async with polling_bot(world, clients):
        await until_handled(world)

    assert (read_in(private_chat), read_in(other)) == ([texts.status_none("en")], [texts.help_("en")])


async def test_an_unreadable_update_is_logged_once(
    world: World, clients: Clients, private_chat: Chat, logged: LogCapture
) -> None:
    """The log has one line with the id and the problem, and nothing that people wrote."""
    update_id = world.state.updates.put("message", unreadable_message(private_chat))
    before = counted("unreadable")

    async with polling_bot(world, clients):
        await until_handled(world)
        await answer(world, private_chat, "/help")

    [line] = [entry for entry in logged.entries if entry["event"].startswith("update.")]
    assert (line["event"], line["update"]) == ("update.unreadable", update_id)
    assert "message.forward_origin" in line["problems"][0]
    assert SECRET_TEXT not in str(logged.entries)
    assert counted("unreadable") == before + 1


async def test_an_unreadable_update_is_logged_once_while_another_is_in_hand(
    world: World, clients: Clients, private_chat: Chat, logged: LogCapture
) -> None:
    """Telegram repeats the update while an earlier one is in hand. The bot reads it once."""
    slow, other = world.person(), world.person()
    world.fail(FailureKind.HANG)
    world.say(slow, "/help")
    world.state.updates.put("message", unreadable_message(private_chat))

    async with polling_bot(world, clients):
        await answer(world, other, "/help")
        await answer(world, other, "/status")
        with world.dropping_calls_that_hang():
            await until_handled(world)

    assert [entry["event"] for entry in logged.entries].count("update.unreadable") == 1


async def test_an_update_of_an_unknown_type_is_skipped(
    world: World, clients: Clients, private_chat: Chat, logged: LogCapture
) -> None:
    """A type that is newer than aiogram is logged by its name."""
    world.state.updates.put("thought_of_you", {"text": SECRET_TEXT})
    before = counted("unknown")

    async with polling_bot(world, clients):
        assert await answer(world, private_chat, "/help") == texts.help_("en")

    [line] = [entry for entry in logged.entries if entry["event"] == "update.unknown"]
    assert line["fields"] == ["thought_of_you"]
    assert SECRET_TEXT not in str(logged.entries)
    assert counted("unknown") == before + 1


async def test_an_update_whose_handler_always_fails_is_confirmed(
    world: World, clients: Clients, private_chat: Chat
) -> None:
    """An update that fails for its own reason is answered, counted, and not repeated."""
    async with clients.db() as session:
        await session.execute(sa.text("DROP TABLE cafes CASCADE"))
    before = counted("failed")

    async with polling_bot(world, clients):
        failed = await answer(world, private_chat, "/status")
        await until_handled(world)
        helped = await answer(world, private_chat, "/help")

    assert (failed, helped) == (texts.try_later("en"), texts.help_("en"))
    assert counted("failed") == before + 1


async def test_ids_may_begin_again(bot: World, private_chat: Chat) -> None:
    """After a quiet week Telegram chooses the next id at random, and it may be lower."""
    await answer(bot, private_chat, "/help")
    await until_handled(bot)
    bot.state.updates._next_id = 1000

    assert await answer(bot, private_chat, "/status") == texts.status_none("en")
    await until_handled(bot)


async def test_a_flood_in_one_chat_does_not_delay_another(world: World, clients: Clients, private_chat: Chat) -> None:
    """A chat that floods the bot waits for its own answers, and no other chat does."""
    flooding = world.person()
    async with limited_bot(world, clients, answers=True) as limited, polling_bot(world, clients, limited):
        for _ in range(40):
            world.say(flooding, "/status")
        await answer(world, private_chat, "/status")
        answered = len(read_in(flooding))
        world.state.updates.clear()
        world.fail(FailureKind.BLOCKED, times=None)

    assert answered < 40


async def test_updates_are_handled_during_a_pause(world: World, clients: Clients, private_chat: Chat) -> None:
    """While Telegram accepts no messages of the bot, its updates are still fetched and handled."""
    async with limited_bot(world, clients, answers=True) as limited, polling_bot(world, clients, limited):
        await Limiter(clients.redis).pause(None, 600)
        world.say(private_chat, "/help")
        await until_handled(world)

    assert read_in(private_chat) == []


async def test_the_setup_waits_for_the_end_of_a_pause() -> None:
    """A process that sets up the bot during a pause tries again, and does not exit."""
    tries = 0
    async for attempt in setup_attempts():
        with attempt:
            tries += 1
            if tries == 1:
                raise RetryAfter(600)

    assert tries == 2


async def test_a_chat_is_answered_in_order(bot: World, private_chat: Chat) -> None:
    """An update waits for the earlier ones of its chat, while other chats are answered, each once."""
    other, third = bot.person(), bot.person()
    bot.state.failures.add(Failure(method="sendMessage", chat_id=private_chat.id, kind=FailureKind.HANG))
    bot.say(private_chat, "/help")
    bot.say(private_chat, "/status")

    await answer(bot, other, "/help")
    await answer(bot, third, "/help")
    before = read_in(private_chat)
    with bot.dropping_calls_that_hang():
        await until_handled(bot)

    assert before == []
    assert read_in(private_chat) == [texts.try_later("en"), texts.status_none("en")]
    assert (read_in(other), read_in(third)) == ([texts.help_("en")], [texts.help_("en")])


async def test_a_flood_hides_no_update_behind_it(bot: World, private_chat: Chat) -> None:
    """Telegram shows 100 unconfirmed updates. The bot reads those behind them too, and drops the excess of one chat."""
    flooding = bot.person()
    dropped = counted("dropped")
    bot.fail(FailureKind.HANG)
    for _ in range(MAX_WAITING + CROWDED):
        bot.say(flooding, "/help")

    text = await answer(bot, private_chat, "/help")
    with bot.dropping_calls_that_hang():
        await until(lambda: len(read_in(flooding)) == MAX_WAITING)

    assert text == texts.help_("en")
    assert counted("dropped") == dropped + CROWDED


async def test_updates_in_hand_are_finished_at_the_end(world: World, clients: Clients, private_chat: Chat) -> None:
    """A process that ends finishes what it has begun, and confirms it."""
    task = asyncio.create_task(Polling(world.bot, clients).run())
    world.fail(FailureKind.HANG)
    world.say(private_chat, "/help")
    await until(lambda: not world.state.failures.pending())

    stopped = asyncio.create_task(stop_polling(task))
    with world.dropping_calls_that_hang():
        await stopped

    assert read_in(private_chat) == [texts.try_later("en")]
    assert len(world.state.updates) == 0


async def test_polling_that_fails_for_long_does_not_work(world: World, clients: Clients, private_chat: Chat) -> None:
    """Polling works again after the first answer of Telegram."""
    clock = [0.0]
    polling = Polling(world.bot, clients, clock=lambda: clock[0])
    world.fail(FailureKind.SERVER_ERROR, method="getUpdates", times=None)
    task = asyncio.create_task(polling.run())
    clock[0] = SILENCE_S - 1
    before = await polling.is_working()
    clock[0] = SILENCE_S + 1
    during = await polling.is_working()
    world.state.failures.clear()
    await answer(world, private_chat, "/help")
    after = await polling.is_working()
    await stop_polling(task)

    assert (before, during, after) == (True, False, True)


async def test_the_bot_process_says_whether_polling_works(world: World, settings: Settings) -> None:
    """The readiness of the bot process names Telegram, beside the services of all processes."""
    update = {"telegram_bot_token": SecretStr(TOKEN), "telegram_api_url": world.address}
    async with (
        serving(create_app(settings.model_copy(update=update))) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        ready = (await client.get("/readyz")).json()

    assert ready["telegram"] == "ok"
