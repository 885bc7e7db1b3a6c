"""What the bot answers, to somebody who writes to it in Telegram."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from app.clients import Clients, open_clients
from app.context import Context
from app.dev.telegram.chats import Chat, Person
from app.dev.telegram.faults import FailureKind
from app.dev.telegram.state import BOT_USERNAME
from app.models import Cafe, LinkRequest
from app.resolvers import links
from app.settings import Settings
from app.telegram import texts
from app.telegram.bot import create_dispatcher
from app.telegram.main import create_app, poll
from tests.conftest import add_cafe
from tests.servers import serving, until
from tests.telegram.conftest import TOKEN, World, read_in

NOBODY_LISTENS = "postgresql+asyncpg://lunch@127.0.0.1:1/lunch"


@asynccontextmanager
async def polling(world: World, clients: Clients) -> AsyncIterator[None]:
    """Run the bot beside the block, as the bot process does."""
    dispatcher = create_dispatcher(clients)
    task = asyncio.create_task(poll(dispatcher, world.bot))
    await until(lambda: world.state.updates.is_polled)
    yield
    await dispatcher.stop_polling()
    await task


@pytest.fixture
async def bot(world: World, clients: Clients) -> AsyncIterator[World]:
    """The bot at work."""
    async with polling(world, clients):
        yield world


@pytest.fixture
def person(world: World) -> Chat:
    return world.person()


@pytest.fixture
def group(world: World) -> Chat:
    return world.group()


async def answer(world: World, chat: Chat, text: str, person: Person | None = None) -> str:
    """Write into a chat, and return what the bot answers."""
    before = len(read_in(chat))
    world.say(chat, text, person)
    await until(lambda: len(read_in(chat)) > before)
    return read_in(chat)[-1]


async def test_start_says_what_the_bot_is_for(bot: World, person: Chat) -> None:
    """One who opens the bot reads what it does, and how to begin."""
    assert await answer(bot, person, "/start") == texts.start("en")


async def test_help_lists_the_commands(bot: World, person: Chat) -> None:
    """The list of commands can be asked for."""
    assert await answer(bot, person, "/help") == texts.help_("en")


async def test_small_talk_is_answered_with_help(bot: World, person: Chat) -> None:
    """One who writes to the bot something else is told what it understands."""
    assert await answer(bot, person, "Hello?") == texts.help_("en")


async def test_people_in_a_group_are_left_alone(bot: World, group: Chat) -> None:
    """In a group the bot answers commands only."""
    bot.say(group, "Who has the soup?")
    await answer(bot, group, "/help")

    assert read_in(group) == [texts.help_("en")]


@pytest.mark.parametrize(("language", "locale"), [("ru", "ru"), ("ru-RU", "ru"), ("de", "en")])
async def test_the_bot_speaks_the_persons_language(bot: World, language: str, locale: str) -> None:
    """One whose Telegram is in Russian gets Russian, everybody else English."""
    assert await answer(bot, bot.person(language), "/start") == texts.start(locale)


async def test_in_a_group_the_bot_speaks_to_who_asks(bot: World, group: Chat) -> None:
    """The language is that of the one who wrote."""
    person = Person(88, "Иван", language_code="ru")

    assert await answer(bot, group, "/help", person) == texts.help_("ru")


async def test_a_command_to_the_bot_by_name_is_answered(bot: World, group: Chat, cafe: Cafe) -> None:
    """In a group Telegram's clients put the bot's name behind the command."""
    asked = await answer(bot, group, f"/link@{BOT_USERNAME} {cafe.id}")

    assert asked == texts.requested(cafe.name, "en")


async def test_a_command_to_another_bot_is_not_ours(bot: World, group: Chat) -> None:
    """Several bots may live in one group."""
    bot.say(group, "/help@another_bot")
    await answer(bot, group, "/status")

    assert read_in(group) == [texts.status_none("en")]


async def test_a_cafe_is_asked_for(bot: World, group: Chat, anybody: Context, cafe: Cafe) -> None:
    """`/link` with a cafe's number makes a request of the chat."""
    await answer(bot, group, f"/link {cafe.id}", Person(88, "Ivan", "ivan_k"))

    request = await links.chat_link(anybody, group.id)
    assert isinstance(request, LinkRequest)
    assert (request.cafe_id, request.tg_chat_id, request.tg_username) == (cafe.id, group.id, "ivan_k")


async def test_who_asks_for_a_cafe_is_told(bot: World, group: Chat, cafe: Cafe) -> None:
    """The chat reads that its request waits for a manager."""
    assert await answer(bot, group, f"/link {cafe.id}") == texts.requested(cafe.name, "en")


async def test_names_are_escaped(bot: World, group: Chat, clients: Clients) -> None:
    """A cafe's name is text, whatever is in it."""
    cafe = await add_cafe(clients, '<b>Basil</b> & "Thyme" \'n <script>')
    await answer(bot, group, f"/link {cafe.id}")

    message = list(group.messages.values())[-1]
    assert cafe.name in message.content.text


@pytest.mark.parametrize(
    "command",
    ["/link", "/link ", "/link soup", "/link 1.5", "/link -1", "/link 1 2", "/link ١", "/link ²", "/link 9" + "9" * 30],
)
async def test_a_number_that_is_none_is_explained(bot: World, group: Chat, cafe: Cafe, command: str) -> None:
    """Without a number, or with nonsense in its place, the bot says how `/link` is used."""
    assert await answer(bot, group, command) == texts.link_usage("en")


@pytest.mark.parametrize("number", ["999", "0", "9" * 18])
async def test_a_cafe_that_is_not_there_is_named(bot: World, group: Chat, number: str) -> None:
    """One who asks for a cafe that does not exist is told so."""
    assert await answer(bot, group, f"/link {number}") == texts.no_such_cafe(number, "en")


@pytest.fixture
async def linked(bot: World, group: Chat, clients: Clients) -> Cafe:
    """A cafe that is linked to the group."""
    return await add_cafe(clients, "Green Fork", tg_chat_id=group.id, linked_at=datetime.now(UTC))


async def test_a_cafe_that_has_a_chat_is_not_to_be_had(bot: World, person: Chat, linked: Cafe) -> None:
    """One who asks for a linked cafe is told so."""
    assert await answer(bot, person, f"/link {linked.id}") == texts.cafe_already_linked("en")


@pytest.mark.usefixtures("linked")
async def test_a_chat_that_has_a_cafe_gets_no_other(bot: World, group: Chat, cafe: Cafe) -> None:
    """One who asks from a linked chat is told so."""
    assert await answer(bot, group, f"/link {cafe.id}") == texts.chat_already_linked("en")


async def test_who_asks_too_often_is_told_to_wait(world: World, settings: Settings, group: Chat, cafe: Cafe) -> None:
    """A chat may ask only so often in a minute, and is told for how long."""
    strict = settings.model_copy(update={"link_requests_per_minute": 1})
    async with open_clients(strict) as few, polling(world, few):
        await answer(world, group, f"/link {cafe.id}")
        refused = await answer(world, group, f"/link {cafe.id}")

    assert refused in {texts.too_many_requests(seconds, "en") for seconds in range(1, 61)}


async def test_one_chats_floods_do_not_keep_another_from_asking(
    world: World, settings: Settings, group: Chat, person: Chat, cafe: Cafe
) -> None:
    """Each chat is counted for itself."""
    strict = settings.model_copy(update={"link_requests_per_minute": 1})
    async with open_clients(strict) as few, polling(world, few):
        await answer(world, group, f"/link {cafe.id}")
        asked = await answer(world, person, f"/link {cafe.id}")

    assert asked == texts.requested(cafe.name, "en")


async def test_a_strange_chat_has_no_status(bot: World, group: Chat) -> None:
    """A chat that never asked reads how to."""
    assert await answer(bot, group, "/status") == texts.status_none("en")


async def test_a_pending_request_is_a_status(bot: World, group: Chat, anybody: Context, cafe: Cafe) -> None:
    """A chat that has asked reads that it is waiting."""
    await links.link_request(anybody, cafe.id, group.id)

    assert await answer(bot, group, "/status") == texts.status_pending(cafe.name, "en")


async def test_a_linked_chat_knows_its_cafe(bot: World, group: Chat, linked: Cafe) -> None:
    """A linked chat reads whose orders it gets."""
    assert await answer(bot, group, "/status") == texts.status_linked(linked.name, enabled=True, locale="en")


async def test_a_switched_off_chat_knows_it(bot: World, group: Chat, manager: Context, linked: Cafe) -> None:
    """A linked chat reads that it gets nothing for the time being."""
    await links.set_notifications(manager, linked.id, enabled=False)

    assert await answer(bot, group, "/status") == texts.status_linked(linked.name, enabled=False, locale="en")


async def test_a_rejected_chat_has_no_status(bot: World, group: Chat, manager: Context, cafe: Cafe) -> None:
    """A chat that was turned down may ask anew."""
    request = await links.link_request(manager, cafe.id, group.id)
    await links.reject(manager, request.id)

    assert await answer(bot, group, "/status") == texts.status_none("en")


@pytest.mark.parametrize(("language", "locale"), [(None, "en"), ("ru", "ru")])
async def test_telegram_offers_the_commands(bot: World, language: str | None, locale: str) -> None:
    """The menu beside the input field has the commands, in the person's language."""
    menu = await bot.bot.get_my_commands(language_code=language)

    assert {command.command: command.description for command in menu} == texts.command_descriptions(locale)


@pytest.fixture
async def lost(world: World, settings: Settings) -> AsyncIterator[World]:
    """The bot at work, without a database."""
    async with (
        open_clients(settings.model_copy(update={"database_url": SecretStr(NOBODY_LISTENS)})) as clients,
        polling(world, clients),
    ):
        yield world


@pytest.mark.parametrize("command", ["/link 1", "/status"])
async def test_an_outage_is_told(lost: World, group: Chat, command: str) -> None:
    """While the database is away the bot says that something is wrong, instead of nothing."""
    assert await answer(lost, group, command) == texts.try_later("en")


async def test_help_is_to_be_had_during_an_outage(lost: World, person: Chat) -> None:
    """What needs no database works without."""
    assert await answer(lost, person, "/help") == texts.help_("en")


async def test_an_answer_that_fails_does_not_end_the_bot(bot: World, group: Chat) -> None:
    """The message behind one that could not be answered is answered."""
    bot.fail(FailureKind.BLOCKED, times=2)
    bot.say(group, "/help")
    await until(lambda: not bot.state.failures.listed())

    assert await answer(bot, group, "/status") == texts.status_none("en")


async def test_telegram_may_be_away_at_first(world: World, clients: Clients, person: Chat) -> None:
    """A bot that begins during an outage of Telegram works when that is over."""
    world.fail(FailureKind.BAD_GATEWAY, method="setMyCommands")
    world.fail(FailureKind.DROP_BEFORE, method="setMyCommands")
    world.fail(FailureKind.RATE_LIMIT, method="getMe")

    async with polling(world, clients):
        assert await answer(world, person, "/start") == texts.start("en")


async def test_telegram_may_be_away_between(bot: World, person: Chat) -> None:
    """A bot whose polling fails goes on polling, and answers what was written meanwhile."""
    bot.fail(FailureKind.SERVER_ERROR, method="getUpdates")
    await answer(bot, person, "/help")
    bot.say(person, "/status")

    await until(lambda: len(read_in(person)) == 2)

    assert read_in(person)[-1] == texts.status_none("en")


async def test_a_message_is_confirmed_once_it_is_answered(bot: World, person: Chat) -> None:
    """Until the bot has answered Telegram keeps a message, so that a bot that dies meanwhile gets it again."""
    bot.fail(FailureKind.HANG)
    bot.say(person, "/help")
    await until(lambda: not bot.state.failures.listed())
    kept = len(bot.state.updates)

    with bot.dropping_calls_that_hang():
        await until(lambda: not len(bot.state.updates))

    assert kept == 1


async def test_a_bot_that_has_ended_does_not_poll(world: World, settings: Settings) -> None:
    """The process ends with its polling, and not before it: updates wait for the next."""
    told = {"telegram_bot_token": SecretStr(TOKEN), "telegram_api_url": world.address}
    async with serving(create_app(settings.model_copy(update=told))):
        await until(lambda: world.state.updates.is_polled)

    left = [task for task in asyncio.all_tasks() if "Dispatcher" in repr(task.get_coro())]
    for task in left:
        task.cancel()
    assert left == []
