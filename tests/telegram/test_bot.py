"""What the bot does when somebody writes to it, presses a button of its, or throws it out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import col, select

from app.ai.recommendation import Recommendation
from app.ai.stats import FavoriteDish, OrderStats
from app.clients import Clients, open_clients
from app.context import Context
from app.dev.telegram.chats import Chat, Membership, Message, Person, Press
from app.dev.telegram.faults import FailureKind
from app.dev.telegram.state import BOT_USERNAME
from app.events.handlers import tell_chats
from app.events.messages import LinkRequestCreated
from app.models import (
    Cafe,
    Language,
    LinkRequest,
    LinkRequestStatus,
    Notification,
    NotificationKind,
    NotificationStatus,
    Outbox,
    User,
)
from app.resolvers import chats, links
from app.resolvers.notifications import queue
from app.resolvers.recommendations import keep
from app.settings import Settings
from app.telegram import buttons, texts
from app.telegram.bot import create_dispatcher
from app.telegram.limiter import Limiter
from app.telegram.main import create_app, poll
from app.workers.deliveries import Turns, deliver
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_cafe, add_lunch, event_types
from tests.diners import add_diner
from tests.servers import serving, until
from tests.telegram.conftest import TOKEN, World, read_in

NOBODY_LISTENS = "postgresql+asyncpg://lunch@127.0.0.1:1/lunch"
NO_REDIS = "redis://127.0.0.1:1"

DATE = date(2026, 11, 24)
ORDERS = "📋 <b>Basil &amp; Thyme</b>\n👤 <b>Anna</b>: 1 &lt; 2"

MARIA = Person(MANAGER_TGID, "Maria")
IVAN = Person(USER_TGID, "Ivan")
BORIS = Person(77, "Boris", "boris")
VERA = Person(88, "Вера", language_code="ru")


@asynccontextmanager
async def polling(world: World, clients: Clients) -> AsyncIterator[None]:
    """Run the bot beside the block, as the bot process does."""
    dispatcher = create_dispatcher()
    task = asyncio.create_task(poll(dispatcher, world.bot, clients))
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


async def handled(world: World) -> None:
    """Wait until the bot has done with everything that has happened: then it confirms the updates."""
    await until(lambda: not len(world.state.updates))


def last_message(chat: Chat) -> Message:
    """What the bot wrote last."""
    return [message for message in chat.messages.values() if message.is_from_bot][-1]


def buttons_under(message: Message) -> dict[str, str]:
    """The buttons that are there now: what stands on each, and its data."""
    rows = (message.content.keyboard or {}).get("inline_keyboard", [])
    return {button["text"]: button["callback_data"] for row in rows for button in row}


def press(world: World, chat: Chat, label: str, person: Person | None = None) -> Press:
    """Let the chat's person, or one in a group, press a button under the last message."""
    message = last_message(chat)
    pressed, _update = world.state.press(chat, message, person or chat.person or BORIS, buttons_under(message)[label])
    return pressed


async def pressed(world: World, chat: Chat, label: str, person: Person | None = None) -> str | None:
    """Press a button, and return what is shown to whoever has pressed it: None if nothing stopped the waiting sign."""
    found = press(world, chat, label, person)
    await handled(world)
    return None if found.answer is None else found.answer["text"]


@dataclass(frozen=True)
class Place:
    """A chat, somebody who writes there, and the language of their Telegram."""

    chat: Chat
    person: Person
    locale: str


@pytest.fixture(
    params=[(kind, language) for kind in ("private", "group") for language in Language],
    ids=lambda it: f"{it[0]}-{it[1]}",
)
def place(request: pytest.FixtureRequest, world: World) -> Place:
    """Each kind of chat, in each language."""
    kind, language = request.param
    if kind == "group":
        return Place(world.group(), VERA if language == "ru" else BORIS, language)
    chat = world.person(language)
    assert chat.person is not None
    return Place(chat, chat.person, language)


async def test_start_says_what_the_bot_is_for(bot: World, place: Place) -> None:
    """One who opens the bot reads what it does, and how to begin."""
    assert await answer(bot, place.chat, "/start", place.person) == texts.start(place.locale)


async def test_help_lists_the_commands(bot: World, place: Place) -> None:
    """The list of commands can be asked for."""
    assert await answer(bot, place.chat, "/help", place.person) == texts.help_(place.locale)


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
    await answer(bot, group, "/help", VERA)
    await answer(bot, group, "/help", BORIS)

    assert read_in(group) == [texts.help_("ru"), texts.help_("en")]


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
    await answer(bot, group, f"/link {cafe.id}", BORIS)

    request = await chats.chat_status(anybody, group.id)
    assert isinstance(request, LinkRequest)
    assert (request.cafe_id, request.tg_chat_id, request.tg_username) == (cafe.id, group.id, "boris")


async def test_who_asks_for_a_cafe_is_told(bot: World, place: Place, cafe: Cafe) -> None:
    """The chat reads that its request waits for a manager."""
    asked = await answer(bot, place.chat, f"/link {cafe.id}", place.person)

    assert asked == texts.requested(cafe.name, place.locale)


async def test_a_deep_link_asks_for_a_cafe(bot: World, place: Place, anybody: Context, cafe: Cafe) -> None:
    """One who follows `t.me/<bot>?startgroup=link_<cafe id>` need not type anything."""
    asked = await answer(bot, place.chat, f"/start link_{cafe.id}", place.person)

    assert asked == texts.requested(cafe.name, place.locale)
    assert isinstance(await chats.chat_status(anybody, place.chat.id), LinkRequest)


async def test_a_deep_link_by_name_asks_for_a_cafe(bot: World, group: Chat, cafe: Cafe) -> None:
    """In a group Telegram's clients put the bot's name behind `/start`."""
    asked = await answer(bot, group, f"/start@{BOT_USERNAME} link_{cafe.id}")

    assert asked == texts.requested(cafe.name, "en")


@pytest.mark.parametrize("link", ["link_", "link_soup", "link_-1", "link_1_2", "link_" + "9" * 30])
async def test_a_deep_link_without_a_number_is_explained(bot: World, group: Chat, link: str) -> None:
    """A link that somebody has broken leads to how `/link` is used."""
    assert await answer(bot, group, f"/start {link}") == texts.link_usage("en")


async def test_a_deep_link_to_nowhere_is_named(bot: World, group: Chat) -> None:
    """A link to a cafe that is gone says so."""
    assert await answer(bot, group, "/start link_999") == texts.no_such_cafe("999", "en")


async def test_another_deep_link_is_a_start(bot: World, person: Chat) -> None:
    """What follows `/start` and is no link of ours means nothing."""
    assert await answer(bot, person, "/start from_the_newsletter") == texts.start("en")


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
    return await linked_to(clients, group)


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


async def test_a_strange_chat_has_no_status(bot: World, place: Place) -> None:
    """A chat that never asked reads how to."""
    assert await answer(bot, place.chat, "/status", place.person) == texts.status_none(place.locale)


async def test_a_pending_request_is_a_status(bot: World, place: Place, anybody: Context, cafe: Cafe) -> None:
    """A chat that has asked reads that it is waiting."""
    await links.link_request(anybody, cafe.id, place.chat.id)

    assert await answer(bot, place.chat, "/status", place.person) == texts.status_pending(cafe.name, place.locale)


async def linked_to(clients: Clients, chat: Chat, name: str = "Green Fork", **fields: object) -> Cafe:
    """Add a cafe that is linked to the chat."""
    return await add_cafe(clients, name, tg_chat_id=chat.id, linked_at=datetime.now(UTC), **fields)


def status_of(cafe: Cafe, locale: str = "en", **known: Any) -> str:
    """What a linked chat reads of itself, if nothing more is known of it."""
    things = {"is_active": True, "enabled": True, "next_deadline": None, "last_sent": None} | known
    return texts.status_linked(cafe.name, locale=locale, **things)


async def test_a_linked_chat_knows_its_cafe(bot: World, place: Place, clients: Clients) -> None:
    """A linked chat reads whose orders it gets."""
    cafe = await linked_to(clients, place.chat)

    assert await answer(bot, place.chat, "/status", place.person) == status_of(cafe, place.locale)


async def test_a_switched_off_chat_knows_it(bot: World, group: Chat, manager: Context, linked: Cafe) -> None:
    """A linked chat reads that it gets nothing for the time being."""
    await links.set_notifications(manager, linked.id, enabled=False)

    assert await answer(bot, group, "/status") == status_of(linked, enabled=False)


async def test_the_chat_of_a_cafe_that_is_closed_knows_it(bot: World, group: Chat, clients: Clients) -> None:
    """A linked chat reads that its cafe takes no orders."""
    cafe = await linked_to(clients, group, is_active=False)

    assert await answer(bot, group, "/status") == status_of(cafe, is_active=False)


@pytest.fixture
async def tokyo(group: Chat, clients: Clients) -> Lunch:
    """A cafe in Tokyo where one can order, linked to the group: the deadline of each day is at 10:30 the day before."""
    return await add_lunch(clients, tg_chat_id=group.id, linked_at=datetime.now(UTC), timezone="Asia/Tokyo")


async def test_a_linked_chat_knows_its_next_deadline(bot: World, group: Chat, tokyo: Lunch) -> None:
    """A linked chat reads when ordering closes next, in the cafe's time."""
    now = datetime.now(ZoneInfo("Asia/Tokyo"))
    today = datetime.combine(now, time(10, 30), now.tzinfo)
    closes_at = today if now < today else today + timedelta(days=1)

    assert await answer(bot, group, "/status") == status_of(tokyo.cafe, next_deadline=closes_at)


async def test_a_linked_chat_knows_its_last_delivery(bot: World, group: Chat, clients: Clients) -> None:
    """A linked chat reads when orders came last, in the cafe's time."""
    cafe = await linked_to(clients, group, timezone="Asia/Tokyo")
    sent = await delivered(bot, clients, cafe)
    assert sent.sent_at is not None

    status = await answer(bot, group, "/status")

    assert status == status_of(cafe, last_sent=sent.sent_at.astimezone(ZoneInfo("Asia/Tokyo")))


async def test_what_is_no_order_is_no_delivery(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """That the request was approved, say, is not taken for a delivery."""
    await delivered(bot, clients, linked, NotificationKind.LINK_APPROVED)

    assert await answer(bot, group, "/status") == status_of(linked)


async def test_a_rejected_chat_has_no_status(bot: World, group: Chat, manager: Context, cafe: Cafe) -> None:
    """A chat that was turned down may ask anew."""
    request = await links.link_request(manager, cafe.id, group.id)
    await links.reject(manager, request.id)

    assert await answer(bot, group, "/status") == texts.status_none("en")


async def cafe_now(clients: Clients, cafe: Cafe) -> Cafe:
    async with clients.db() as session:
        return await session.get_one(Cafe, cafe.id)


async def last_event(clients: Clients) -> dict[str, Any]:
    """What was recorded last for Kafka."""
    async with clients.db() as session:
        payload = await session.scalar(sa.select(Outbox.c.payload).order_by(Outbox.c.id.desc()).limit(1))
    assert payload is not None
    event: dict[str, Any] = orjson.loads(payload)
    return event


async def test_a_strange_chat_has_nothing_to_unlink(bot: World, place: Place) -> None:
    """A chat that gets no orders reads that it does not."""
    assert await answer(bot, place.chat, "/unlink", place.person) == texts.status_none(place.locale)


async def test_unlinking_asks_first(bot: World, place: Place, clients: Clients) -> None:
    """One may have tapped `/unlink` by mistake."""
    cafe = await linked_to(clients, place.chat)

    asked = await answer(bot, place.chat, "/unlink", place.person)

    assert asked == texts.unlink_question(cafe.name, place.locale)
    offered = list(buttons_under(last_message(place.chat)))
    assert offered == [texts.unlink_button(place.locale), texts.keep_button(place.locale)]
    assert (await cafe_now(clients, cafe)).tg_chat_id == place.chat.id


async def test_yes_unlinks(bot: World, place: Place, clients: Clients) -> None:
    """One who is sure gets no orders any more, and everybody can know why."""
    cafe = await linked_to(clients, place.chat)
    await answer(bot, place.chat, "/unlink", place.person)

    shown = await pressed(bot, place.chat, texts.unlink_button(place.locale), place.person)

    assert shown == ""
    assert (await cafe_now(clients, cafe)).tg_chat_id is None
    assert await event_types(clients) == ["cafe.unlinked"]
    event = await last_event(clients)
    assert (event["reason"], event["former_tg_chat_id"]) == ("chat", place.chat.id)


async def test_a_question_is_answered_once(bot: World, group: Chat, linked: Cafe) -> None:
    """Under a question that was answered there are no buttons."""
    await answer(bot, group, "/unlink")
    await pressed(bot, group, "Yes, unlink")

    assert buttons_under(last_message(group)) == {}


async def test_no_keeps_the_link(bot: World, place: Place, clients: Clients) -> None:
    """One who was asked in time goes on getting orders, and reads that."""
    cafe = await linked_to(clients, place.chat)
    await answer(bot, place.chat, "/unlink", place.person)

    shown = await pressed(bot, place.chat, texts.keep_button(place.locale), place.person)

    assert shown == ""
    assert read_in(place.chat) == [texts.kept(cafe.name, place.locale)]
    assert buttons_under(last_message(place.chat)) == {}
    assert (await cafe_now(clients, cafe)).tg_chat_id == place.chat.id
    assert await event_types(clients) == []


async def test_two_who_unlink_at_once_do_it_once(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """The second of two who press at the same time finds nothing to do."""
    await answer(bot, group, "/unlink")
    press(bot, group, "Yes, unlink", BORIS)
    second = press(bot, group, "Yes, unlink", VERA)
    await handled(bot)

    assert second.answer == {"text": texts.not_of_this_chat("ru"), "show_alert": True}
    assert await event_types(clients) == ["cafe.unlinked"]


@pytest.mark.parametrize("label", ["Yes, unlink", "No, keep it"])
async def test_a_question_about_another_cafe_is_stale(
    bot: World, group: Chat, clients: Clients, manager: Context, linked: Cafe, label: str
) -> None:
    """A chat that has got another cafe since is not unlinked from that one by an old button."""
    await answer(bot, group, "/unlink")
    await links.unlink(manager, linked.id)
    other = await linked_to(clients, group, "Basil")

    shown = await pressed(bot, group, label)

    assert shown == texts.not_of_this_chat("en")
    assert (await cafe_now(clients, other)).tg_chat_id == group.id
    assert buttons_under(last_message(group)) == {}


async def delivered(
    world: World, clients: Clients, cafe: Cafe, kind: NotificationKind = NotificationKind.ORDERS, *parts: str
) -> Notification:
    """Send the cafe's chat a message, as an events process does, and return it."""
    assert cafe.tg_chat_id is not None
    async with clients.db() as session:
        queued = await queue(session, kind, cafe.id, cafe.tg_chat_id, parts or [ORDERS], date=DATE)
    assert queued is not None
    for part in range(len(queued.parts)):
        await deliver(clients, world.bot, Turns(Limiter(clients.redis)), queued.id, part)
    return await notification_now(clients, queued)


async def notification_now(clients: Clients, notification: Notification) -> Notification:
    async with clients.db() as session:
        return await session.get_one(Notification, notification.id)


async def test_received_is_noted(bot: World, place: Place, clients: Clients) -> None:
    """One who presses «Received» has acknowledged the orders, by name, and everybody can know it."""
    orders = await delivered(bot, clients, await linked_to(clients, place.chat, language=place.locale))
    before = datetime.now(UTC)

    shown = await pressed(bot, place.chat, texts.received_button(place.locale), place.person)

    now = await notification_now(clients, orders)
    assert shown == ""
    assert before <= (now.acknowledged_at or before - timedelta(1)) <= datetime.now(UTC)
    assert now.acknowledged_by == place.person.first_name
    assert (await event_types(clients))[-1] == "notification.acknowledged"
    event = await last_event(clients)
    assert (event["id"], event["acknowledged_by"]) == (orders.id, place.person.first_name)


@pytest.mark.parametrize("language", Language)
async def test_received_is_written_below(bot: World, group: Chat, clients: Clients, language: Language) -> None:
    """The kitchen sees who has read the orders and when, in its own language and time; the button is gone."""
    cafe = await linked_to(clients, group, language=language, timezone="Asia/Tokyo")
    orders = await delivered(bot, clients, cafe)

    await pressed(bot, group, texts.received_button(language), Person(99, "<b>Eve</b>"))

    at = (await notification_now(clients, orders)).acknowledged_at
    assert at is not None
    remark = texts.received("<b>Eve</b>", at.astimezone(ZoneInfo("Asia/Tokyo")), language)
    assert read_in(group) == [f"{ORDERS}\n\n{remark}"]
    assert buttons_under(last_message(group)) == {}


async def test_received_stands_below_the_last_part(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """Of orders in several parts the last has the button, and gets the remark; the others stay as they are."""
    await delivered(bot, clients, linked, NotificationKind.ORDERS, "first", "second")

    await pressed(bot, group, "Received")

    assert [text.split("\n")[0] for text in read_in(group)] == ["first", "second"]
    assert [len(message.edits) for message in group.messages.values()] == [0, 1]


async def test_the_first_to_press_has_received(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """The second of two who press at the same time is told so, and changes nothing."""
    orders = await delivered(bot, clients, linked)
    press(bot, group, "Received", BORIS)
    second = press(bot, group, "Received", VERA)
    await handled(bot)

    assert second.answer == {"text": texts.received_already("ru"), "show_alert": False}
    assert (await notification_now(clients, orders)).acknowledged_by == "Boris"
    assert "Boris" in read_in(group)[-1]
    assert (await event_types(clients)).count("notification.acknowledged") == 1


async def test_a_version_is_received_by_itself(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """To have read a correction is not to have read the orders."""
    orders = await delivered(bot, clients, linked)
    correction = await delivered(bot, clients, linked, NotificationKind.CORRECTION)

    await pressed(bot, group, "Received")

    assert (await notification_now(clients, orders)).acknowledged_at is None
    assert (await notification_now(clients, correction)).acknowledged_at is not None


async def test_a_button_left_by_a_failed_edit_goes_with_the_next_press(
    bot: World, group: Chat, clients: Clients, linked: Cafe
) -> None:
    """Where the remark could not be written it is written for whoever presses again, and names who was first."""
    await delivered(bot, clients, linked)
    bot.fail(FailureKind.SERVER_ERROR, method="editMessageText")
    await pressed(bot, group, "Received", BORIS)

    shown = await pressed(bot, group, "Received", VERA)

    assert shown == texts.received_already("ru")
    assert "Received by Boris" in read_in(group)[-1]
    assert buttons_under(last_message(group)) == {}


async def test_a_press_that_telegram_has_forgotten_counts(
    bot: World, group: Chat, clients: Clients, linked: Cafe
) -> None:
    """A bot that was away for an hour can answer no press any more, but does what was wanted."""
    orders = await delivered(bot, clients, linked)
    del bot.state.presses[press(bot, group, "Received").id]
    await handled(bot)

    assert (await notification_now(clients, orders)).acknowledged_at is not None
    assert buttons_under(last_message(group)) == {}


async def test_a_press_under_a_message_that_is_too_old_counts(
    bot: World, group: Chat, clients: Clients, linked: Cafe
) -> None:
    """Of a message that the bot cannot see any more Telegram tells only where it is."""
    orders = await delivered(bot, clients, linked)
    query = {
        "id": "1",
        "from": BORIS.as_user(),
        "message": {"chat": group.as_chat(), "message_id": 1, "date": 0},
        "chat_instance": "1",
        "data": buttons_under(last_message(group))["Received"],
    }
    bot.state.updates.put("callback_query", query)
    await handled(bot)

    assert (await notification_now(clients, orders)).acknowledged_by == "Boris"


async def test_a_button_of_another_chat_is_not_accepted(
    bot: World, group: Chat, person: Chat, clients: Clients, linked: Cafe
) -> None:
    """Whoever makes a button of another chat's message their own has acknowledged nothing."""
    orders = await delivered(bot, clients, linked)
    await bot.bot.send_message(person.id, "forged", reply_markup=buttons.received(orders.id, "en"))

    shown = await pressed(bot, person, "Received")

    assert shown == texts.not_of_this_chat("en")
    assert (await notification_now(clients, orders)).acknowledged_at is None
    assert read_in(person) == ["forged"]


async def test_a_button_of_no_message_is_not_accepted(bot: World, group: Chat) -> None:
    """A message that is not known, of another installation perhaps, is not this chat's."""
    await bot.bot.send_message(group.id, "old", reply_markup=buttons.received(999, "en"))

    assert await pressed(bot, group, "Received") == texts.not_of_this_chat("en")


async def test_what_is_not_to_be_acknowledged_is_not(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """Only what is to be cooked is acknowledged."""
    told = await delivered(bot, clients, linked, NotificationKind.LINK_APPROVED)
    await bot.bot.send_message(group.id, "forged", reply_markup=buttons.received(told.id, "en"))

    assert await pressed(bot, group, "Received") == texts.not_of_this_chat("en")


async def test_data_that_is_none_of_ours_is_left_alone(bot: World, group: Chat) -> None:
    """A button of an older version does nothing, and the bot goes on."""
    keyboard = buttons.received(1, "en")
    keyboard.inline_keyboard[0][0].callback_data = "received:soup"
    await bot.bot.send_message(group.id, "old", reply_markup=keyboard)

    assert await pressed(bot, group, "Received") is None


@pytest.fixture
async def managers(world: World) -> Chat:
    """The managers' chat."""
    return world.group()


@pytest.fixture
async def asked(
    bot: World, group: Chat, managers: Chat, manager: Context, anybody: Context, clients: Clients, cafe: Cafe
) -> LinkRequest:
    """The group asks for the cafe, and the managers' chat reads it."""
    request = await links.link_request(anybody, cafe.id, group.id, "kitchen")
    await tell_managers(bot, clients, managers, request)
    return request


async def tell_managers(world: World, clients: Clients, managers: Chat, request: LinkRequest) -> None:
    """Do what an events process does when it reads of a request."""
    async with clients.db() as session:
        await tell_chats(session, LinkRequestCreated.of(request), managers.id)
        waiting = select(Notification.id).where(
            col(Notification.link_request_id) == request.id, Notification.status == NotificationStatus.QUEUED
        )
        told = (await session.scalars(waiting)).one()
    await deliver(clients, world.bot, Turns(Limiter(clients.redis)), told, 0)


async def request_now(clients: Clients, request: LinkRequest) -> LinkRequest:
    async with clients.db() as session:
        return await session.get_one(LinkRequest, request.id)


async def test_managers_are_asked(managers: Chat, asked: LinkRequest, cafe: Cafe) -> None:
    """The managers' chat reads who asks for what, with a button for each answer."""
    assert read_in(managers) == [texts.link_requested(cafe.name, cafe.id, asked.tg_chat_id, "kitchen", "en")]
    assert list(buttons_under(last_message(managers))) == ["Approve", "Reject"]


async def test_a_manager_approves(
    bot: World, managers: Chat, group: Chat, clients: Clients, cafe: Cafe, asked: LinkRequest
) -> None:
    """A manager who presses «Approve» has linked the cafe, as if by the dashboard."""
    shown = await pressed(bot, managers, "Approve", MARIA)

    request = await request_now(clients, asked)
    assert shown == ""
    assert (request.status, request.processed_by) == (LinkRequestStatus.APPROVED, MANAGER_TGID)
    assert (await cafe_now(clients, cafe)).tg_chat_id == group.id
    assert (await event_types(clients))[-1] == "link_request.approved"


async def test_a_manager_rejects(bot: World, managers: Chat, clients: Clients, cafe: Cafe, asked: LinkRequest) -> None:
    """A manager who presses «Reject» has turned the chat down."""
    shown = await pressed(bot, managers, "Reject", MARIA)

    request = await request_now(clients, asked)
    assert shown == ""
    assert (request.status, request.processed_by) == (LinkRequestStatus.REJECTED, MANAGER_TGID)
    assert (await cafe_now(clients, cafe)).tg_chat_id is None
    assert (await event_types(clients))[-1] == "link_request.rejected"


@pytest.mark.parametrize(("label", "say"), [("Approve", texts.approved_by), ("Reject", texts.rejected_by)])
async def test_managers_see_who_has_decided(
    bot: World, managers: Chat, asked: LinkRequest, label: str, say: Any
) -> None:
    """Below the request stands who has decided; the buttons are gone, and the request reads as before."""
    [before] = read_in(managers)

    await pressed(bot, managers, label, MARIA)

    assert read_in(managers) == [f"{before}\n{say('Maria', 'en')}"]
    assert buttons_under(last_message(managers)) == {}


async def test_a_request_by_a_cafe_with_a_nasty_name_reads_as_before(
    bot: World, managers: Chat, manager: Context, clients: Clients, group: Chat
) -> None:
    """What was escaped stays escaped when the message is edited."""
    cafe = await add_cafe(clients, "<b>Basil</b> & Thyme &lt;")
    await tell_managers(bot, clients, managers, await links.link_request(manager, cafe.id, group.id))
    before = last_message(managers).content.text

    await pressed(bot, managers, "Reject", MARIA)

    assert last_message(managers).content.text == f"{before}\n❌ Rejected by Maria"


STRANGERS = [IVAN, BORIS, Person(78, "Мария", language_code="ru")]


@pytest.mark.parametrize("person", STRANGERS, ids=["user", "unknown", "unknown-ru"])
@pytest.mark.parametrize("label", ["Approve", "Reject"])
async def test_who_is_no_manager_decides_nothing(
    bot: World, managers: Chat, clients: Clients, asked: LinkRequest, person: Person, label: str
) -> None:
    """Somebody in the managers' chat who is none is refused, and the buttons stay for those who are."""
    shown = await pressed(bot, managers, label, person)

    assert shown == texts.only_managers(person.language_code)
    assert (await request_now(clients, asked)).status is LinkRequestStatus.PENDING
    assert list(buttons_under(last_message(managers))) == ["Approve", "Reject"]


async def test_a_manager_who_was_switched_off_decides_nothing(
    bot: World, managers: Chat, clients: Clients, asked: LinkRequest
) -> None:
    """Rights are those of now, not those of when the message was sent."""
    async with clients.db() as session:
        (await session.get_one(User, MANAGER_TGID)).is_active = False

    shown = await pressed(bot, managers, "Approve", MARIA)

    assert shown == texts.only_managers("en")
    assert (await request_now(clients, asked)).status is LinkRequestStatus.PENDING


async def test_a_request_is_decided_once(bot: World, managers: Chat, clients: Clients, asked: LinkRequest) -> None:
    """The second of two presses is told that there is a decision, and does not change it."""
    press(bot, managers, "Approve", MARIA)
    second = press(bot, managers, "Reject", MARIA)
    await handled(bot)

    assert second.answer == {"text": texts.processed_already("en"), "show_alert": True}
    assert (await request_now(clients, asked)).status is LinkRequestStatus.APPROVED
    assert read_in(managers)[-1].endswith(texts.approved_by("Maria", "en"))


async def test_a_request_decided_elsewhere_loses_its_buttons(
    bot: World, managers: Chat, manager: Context, asked: LinkRequest
) -> None:
    """A manager who comes after one at the dashboard is told so."""
    await links.reject(manager, asked.id)

    shown = await pressed(bot, managers, "Approve", MARIA)

    assert shown == texts.processed_already("en")
    assert buttons_under(last_message(managers)) == {}


async def test_a_request_that_is_gone_loses_its_buttons(bot: World, managers: Chat, manager: Context) -> None:
    """A request that is not known any more cannot be decided."""
    await bot.bot.send_message(managers.id, "old", reply_markup=buttons.decide(999, "en"))

    shown = await pressed(bot, managers, "Approve", MARIA)

    assert shown == texts.processed_already("en")
    assert buttons_under(last_message(managers)) == {}


async def test_a_cafe_that_was_linked_meanwhile_is_not_given_away(
    bot: World, managers: Chat, person: Chat, clients: Clients, manager: Context, cafe: Cafe, asked: LinkRequest
) -> None:
    """The second chat to be approved is not: the manager is told, and may still reject it."""
    await links.approve(manager, (await links.link_request(manager, cafe.id, person.id)).id)

    shown = await pressed(bot, managers, "Approve", MARIA)

    assert shown == texts.cafe_taken("en")
    assert (await cafe_now(clients, cafe)).tg_chat_id == person.id
    assert (await request_now(clients, asked)).status is LinkRequestStatus.PENDING
    assert list(buttons_under(last_message(managers))) == ["Approve", "Reject"]


async def test_a_chat_that_was_linked_meanwhile_gets_no_second_cafe(
    bot: World, managers: Chat, group: Chat, clients: Clients, manager: Context, cafe: Cafe, asked: LinkRequest
) -> None:
    """A chat that has got another cafe since does not get this one too."""
    other = await add_cafe(clients, "Other")
    await links.approve(manager, (await links.link_request(manager, other.id, group.id)).id)

    shown = await pressed(bot, managers, "Approve", MARIA)

    assert shown == texts.chat_taken("en")
    assert (await cafe_now(clients, cafe)).tg_chat_id is None


ADVICE = Recommendation(
    summary="You like <b>soup</b> & salad.",
    tips=("Try 1 < 2.", "Have <script> less often."),
    stats=OrderStats(
        orders_count=6,
        unique_dishes=3,
        total_dishes_available=40,
        favorite_dishes=(FavoriteDish(name="<i>Fish</i> & chips", count=4),),
    ),
    generated_at=datetime(2026, 3, 4, 2, 0, tzinfo=UTC),
)


async def add_colleague(clients: Clients, tgid: int, **fields: object) -> None:
    """Add a person to the programme for whom a recommendation was made."""
    async with clients.db() as session:
        session.add(User(tgid=tgid, name="Anna", **fields))  # type: ignore[arg-type]
    await keep(clients, [(tgid, ADVICE)], datetime(2026, 3, 4, 2, 30, tzinfo=UTC))


async def language_of(clients: Clients, tgid: int) -> Language:
    async with clients.db() as session:
        return (await session.get_one(User, tgid)).language


@pytest.mark.parametrize("language", Language)
async def test_a_person_reads_what_they_are_recommended(bot: World, clients: Clients, language: Language) -> None:
    """Last night's recommendation with its figures, in the words of the person's language."""
    person = bot.person(language)
    await add_colleague(clients, person.id)

    assert await answer(bot, person, "/recommendations") == texts.recommended(ADVICE, language)


async def test_a_recommendation_is_text(bot: World, person: Chat, clients: Clients) -> None:
    """Whatever is in a summary, a tip or the name of a dish is shown as it is."""
    await add_colleague(clients, person.id)

    await answer(bot, person, "/recommendations")

    shown = last_message(person).content
    assert shown.text.splitlines()[:3] == [
        "🍽 You like <b>soup</b> & salad.",
        "• Try 1 < 2.",
        "• Have <script> less often.",
    ]
    assert shown.text.splitlines()[-1] == "Most ordered: <i>Fish</i> & chips ×4"
    assert shown.entities == []


async def test_without_a_recommendation_there_are_figures(
    bot: World, person: Chat, clients: Clients, lunch: Lunch
) -> None:
    """One for whom none was made yet reads so, and what is known of their month."""
    await add_diner(clients, lunch, person.id, orders=4)

    told = await answer(bot, person, "/recommendations")

    assert told.splitlines() == [
        "There is no recommendation for you yet. I make them at night, once you have some orders.",
        "",
        "Last 30 days: 4 orders",
        "soups 50%, salads 0%, mains 50%, extras 0%",
        "2 of 6 dishes tried",
        "Most ordered: Borscht ×4, Pelmeni ×4",
    ]


@pytest.mark.parametrize("language", Language)
async def test_who_has_ordered_nothing_reads_that(bot: World, clients: Clients, language: Language) -> None:
    """One who is new has neither a recommendation nor figures."""
    person = bot.person(language)
    async with clients.db() as session:
        session.add(User(tgid=person.id, name="Anna"))

    told = await answer(bot, person, "/recommendations")

    assert told == texts.recommended(Recommendation(stats=OrderStats()), language)


@pytest.mark.parametrize("language", Language)
async def test_a_stranger_is_recommended_nothing(bot: World, language: Language) -> None:
    """One whom nobody has added reads whom to ask."""
    assert await answer(bot, bot.person(language), "/recommendations") == texts.not_known(language)


@pytest.mark.parametrize("language", Language)
async def test_who_is_switched_off_is_recommended_nothing(bot: World, clients: Clients, language: Language) -> None:
    """Not even what was made before; they read whom to ask."""
    person = bot.person(language)
    await add_colleague(clients, person.id, is_active=False)

    assert await answer(bot, person, "/recommendations") == texts.switched_off(language)


async def test_in_a_group_nobody_reads_what_one_is_recommended(bot: World, group: Chat, clients: Clients) -> None:
    """One who asks in a group is told to ask in private, whether they are known or not."""
    await add_colleague(clients, BORIS.id)

    await answer(bot, group, "/recommendations", BORIS)
    await answer(bot, group, "/recommendations", VERA)

    assert read_in(group) == [texts.only_in_private("en"), texts.only_in_private("ru")]


@pytest.mark.parametrize(
    ("tag", "before", "after"),
    [
        ("ru", Language.EN, Language.RU),
        ("ru-RU", Language.EN, Language.RU),
        ("en", Language.RU, Language.EN),
        ("de", Language.RU, Language.RU),
    ],
)
async def test_who_asks_for_a_recommendation_gets_the_next_in_their_language(
    bot: World, clients: Clients, tag: str, before: Language, after: Language
) -> None:
    """The language of their Telegram is noted, if it is one that we have texts in."""
    person = bot.person(tag)
    await add_colleague(clients, person.id, language=before)

    await answer(bot, person, "/recommendations")

    assert await language_of(clients, person.id) is after


async def test_without_redis_there_are_figures(
    world: World, settings: Settings, clients: Clients, person: Chat
) -> None:
    """What was made cannot be read then; one still gets an answer."""
    await add_colleague(clients, person.id)
    away = settings.model_copy(update={"redis_url": SecretStr(NO_REDIS)})

    async with open_clients(away) as without_redis, polling(world, without_redis):
        told = await answer(world, person, "/recommendations")

    assert told == texts.recommended(Recommendation(stats=OrderStats()), "en")


async def test_every_command_that_is_offered_is_understood(bot: World, person: Chat) -> None:
    """None but `/help` is answered with help, as small talk is."""
    answers = {name: await answer(bot, person, f"/{name}") for name in texts.command_descriptions("en")}

    assert [name for name, text in answers.items() if text == texts.help_("en")] == ["help"]


@pytest.mark.parametrize(("kind", "membership"), [("group", "kicked"), ("group", "left"), ("private", "kicked")])
async def test_a_chat_that_throws_the_bot_out_is_unlinked(
    bot: World, clients: Clients, kind: str, membership: Membership
) -> None:
    """A cafe whose chat cannot be reached any more is unlinked at once, and everybody can know why."""
    chat = bot.group() if kind == "group" else bot.person()
    cafe = await linked_to(clients, chat)

    bot.state.change_membership(chat, membership, BORIS.as_user())
    await handled(bot)

    assert (await cafe_now(clients, cafe)).tg_chat_id is None
    assert await event_types(clients) == ["cafe.unlinked"]
    event = await last_event(clients)
    assert (event["reason"], event["former_tg_chat_id"]) == ("chat_gone", chat.id)


async def test_a_chat_without_a_cafe_may_throw_the_bot_out(bot: World, group: Chat, clients: Clients) -> None:
    """Where nothing was linked nothing happens."""
    bot.state.change_membership(group, "kicked", BORIS.as_user())
    await handled(bot)

    assert await event_types(clients) == []


async def test_a_chat_that_lets_the_bot_in_stays_linked(
    bot: World, group: Chat, clients: Clients, linked: Cafe
) -> None:
    """To be added, or to get other rights, changes no link."""
    bot.state.change_membership(group, "member", BORIS.as_user())
    await handled(bot)

    assert (await cafe_now(clients, linked)).tg_chat_id == group.id


MOVED_FROM, MOVED_TO = -4_120_000_001, -1_002_120_000_001


async def move(world: World) -> None:
    """Let a group become a supergroup: a service message in the old group tells it."""
    message = {
        "message_id": 8,
        "date": 1_790_000_000,
        "chat": {"id": MOVED_FROM, "type": "group", "title": "Kitchen"},
        "from": BORIS.as_user(),
        "migrate_to_chat_id": MOVED_TO,
    }
    world.state.updates.put("message", message)
    await handled(world)


async def test_a_group_that_becomes_a_supergroup_keeps_its_cafe(bot: World, clients: Clients) -> None:
    """A cafe follows its group, and nobody need do anything."""
    cafe = await add_cafe(clients, tg_chat_id=MOVED_FROM, linked_at=datetime.now(UTC))

    await move(bot)

    assert (await cafe_now(clients, cafe)).tg_chat_id == MOVED_TO
    assert await event_types(clients) == []


async def test_a_request_follows_its_group(bot: World, clients: Clients, anybody: Context, cafe: Cafe) -> None:
    """A manager who decides after the group has moved links the chat that is there now."""
    request = await links.link_request(anybody, cafe.id, MOVED_FROM)

    await move(bot)

    assert (await request_now(clients, request)).tg_chat_id == MOVED_TO


async def test_what_is_to_be_sent_follows_its_group(bot: World, clients: Clients, cafe: Cafe) -> None:
    """A message that waits goes to the chat that is there now."""
    async with clients.db() as session:
        waiting = await queue(session, NotificationKind.LINK_APPROVED, cafe.id, MOVED_FROM, ["text"])
    assert waiting is not None

    await move(bot)

    assert (await notification_now(clients, waiting)).tg_chat_id == MOVED_TO


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


async def test_an_outage_is_told_to_who_wants_a_recommendation(lost: World, person: Chat) -> None:
    """While the database is away nobody is taken for a stranger."""
    assert await answer(lost, person, "/recommendations") == texts.try_later("en")


async def test_an_outage_is_told_to_who_presses(lost: World, group: Chat) -> None:
    """While the database is away a press is answered, and the button stays."""
    await lost.bot.send_message(group.id, "orders", reply_markup=buttons.received(1, "en"))

    shown = await pressed(lost, group, "Received")

    assert shown == texts.try_later("en")
    assert list(buttons_under(last_message(group))) == ["Received"]


async def test_help_is_to_be_had_during_an_outage(lost: World, person: Chat) -> None:
    """What needs no database works without."""
    assert await answer(lost, person, "/help") == texts.help_("en")


async def test_an_answer_that_fails_does_not_end_the_bot(bot: World, group: Chat) -> None:
    """The message behind one that could not be answered is answered."""
    bot.fail(FailureKind.BLOCKED, times=2)
    bot.say(group, "/help")
    await until(lambda: not bot.state.failures.pending())

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
    await until(lambda: not bot.state.failures.pending())
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
