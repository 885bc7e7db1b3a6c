"""The bot: its commands, its buttons, and changes of its chats."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
import sqlalchemy as sa
from aiogram.types import InlineKeyboardMarkup
from pydantic import SecretStr
from sqlmodel import col, select

from app.ai.recommendation import Recommendation
from app.ai.stats import FavoriteDish, OrderStats
from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients, open_clients
from app.dev.telegram.chats import Chat, Membership, Message, Person, Press
from app.dev.telegram.faults import FailureKind
from app.dev.telegram.state import BOT_USERNAME
from app.events.types import LinkRequestCreated
from app.handlers.links import handle_link_event
from app.handlers.notifications import NotYet, deliver
from app.models import (
    Cafe,
    Language,
    LinkRequest,
    LinkRequestStatus,
    Notification,
    NotificationKind,
    NotificationStatus,
    Outbox,
    Role,
    User,
)
from app.processes.bot import create_app
from app.resolvers import links
from app.services.notifications import DeliveryTask, notify
from app.services.recommendations import store_recommendations
from app.settings import Settings
from app.telegram import buttons, notification_texts, texts
from app.telegram.limiter import Limiter
from tests.bot.running import answer, polling_bot, until_handled
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_cafe, add_lunch, event_types
from tests.servers import serving, until
from tests.telegram_standin import TOKEN, World, read_in, read_in_topic
from tests.user_factory import add_ordering_user

DATABASE_UNAVAILABLE = "postgresql+asyncpg://lunch@127.0.0.1:1/lunch"
REDIS_UNAVAILABLE = "redis://127.0.0.1:1"

DATE = date(2026, 11, 24)
ORDERS = "📋 <b>Basil &amp; Thyme</b>\n👤 <b>Anna</b>: 1 &lt; 2"

MARIA = Person(MANAGER_TGID, "Maria")
IVAN = Person(USER_TGID, "Ivan")
BORIS = Person(77, "Boris", "boris")
VERA = Person(88, "Вера", language_code="ru")

ANONYMOUS = Person(1_087_968_824, "Group", "GroupAnonymousBot")
CHANNEL = Person(136_817_688, "Channel", "Channel_Bot")
POST = Person(777_000, "Telegram")


def chat_context(clients: Clients, chat: Chat) -> Context:
    """Make the context of an operation that a chat calls."""
    return Context(clients, source="test", caller=Caller(telegram_chat=chat.id))


def labels(keyboard: InlineKeyboardMarkup) -> list[str]:
    return [button.text for row in keyboard.inline_keyboard for button in row]


def received_label(locale: str) -> str:
    [label] = labels(buttons.received(1, locale))
    return label


def last_message(chat: Chat) -> Message:
    """Return the bot's last message in a chat."""
    return [message for message in chat.messages.values() if message.is_from_bot][-1]


def buttons_under(message: Message) -> dict[str, str]:
    """Return the present buttons of a message: labels and data."""
    rows = (message.content.keyboard or {}).get("inline_keyboard", [])
    return {button["text"]: button["callback_data"] for row in rows for button in row}


def start_press(world: World, chat: Chat, label: str, person: Person | None = None) -> Press:
    """Press a button under the last message, as `person`, as the person of a private chat, or as Boris in a group."""
    message = last_message(chat)
    press, _update = world.state.press(chat, message, person or chat.person or BORIS, buttons_under(message)[label])
    return press


async def press_button(world: World, chat: Chat, label: str, person: Person | None = None) -> str | None:
    """Press a button, wait for the bot, and return the text that it shows: None if the bot has not answered the press."""
    found = start_press(world, chat, label, person)
    await until_handled(world)
    return None if found.answer is None else found.answer["text"]


@dataclass(frozen=True)
class Place:
    """A chat, a person who writes there, and the language of that person's Telegram."""

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


async def test_start_explains_the_bot(bot: World, place: Place) -> None:
    """`/start` says what the bot does, and how to begin."""
    assert await answer(bot, place.chat, "/start", place.person) == texts.start(place.locale)


async def test_help_lists_the_commands(bot: World, place: Place) -> None:
    """`/help` lists the commands."""
    assert await answer(bot, place.chat, "/help", place.person) == texts.help_(place.locale)


async def test_other_text_is_answered_with_help(bot: World, private_chat: Chat) -> None:
    """In a private chat the bot answers any other text with its help."""
    assert await answer(bot, private_chat, "Hello?") == texts.help_("en")


async def test_other_text_in_a_group_is_ignored(bot: World, group: Chat) -> None:
    """In a group the bot answers commands only."""
    bot.say(group, "Who has the soup?")
    await answer(bot, group, "/help")

    assert read_in(group) == [texts.help_("en")]


@pytest.mark.parametrize(("language", "locale"), [("ru", "ru"), ("ru-RU", "ru"), ("de", "en")])
async def test_the_bot_answers_in_the_users_language(bot: World, language: str, locale: str) -> None:
    """A user whose Telegram is in Russian gets Russian, every other user English."""
    assert await answer(bot, bot.person(language), "/start") == texts.start(locale)


async def test_in_a_group_the_language_is_that_of_the_sender(bot: World, group: Chat) -> None:
    """The answer is in the language of the user who sent the command."""
    await answer(bot, group, "/help", VERA)
    await answer(bot, group, "/help", BORIS)

    assert read_in(group) == [texts.help_("ru"), texts.help_("en")]


async def test_a_command_with_the_bots_name_is_answered(bot: World, group: Chat, cafe: Cafe) -> None:
    """In a group Telegram's clients add the bot's name to a command."""
    text = await answer(bot, group, f"/link@{BOT_USERNAME} {cafe.id}")

    assert text == texts.link_requested(cafe.name, "en")


async def test_a_command_to_another_bot_is_ignored(bot: World, group: Chat) -> None:
    """A group may have several bots."""
    bot.say(group, "/help@another_bot")
    await answer(bot, group, "/status")

    assert read_in(group) == [texts.status_none("en")]


async def test_link_makes_a_request(bot: World, group: Chat, clients: Clients, cafe: Cafe) -> None:
    """`/link` with a cafe's number makes a link request for the chat."""
    await answer(bot, group, f"/link {cafe.id}", BORIS)

    request = await links.get_chat_status(chat_context(clients, group))
    assert isinstance(request, LinkRequest)
    assert (request.cafe_id, request.tg_chat_id) == (cafe.id, group.id)


@pytest.mark.parametrize("username", ["lunch_group", None])
@pytest.mark.parametrize("person", [BORIS, ANONYMOUS, CHANNEL, POST], ids=lambda person: person.first_name)
async def test_a_request_has_the_username_of_the_group(
    bot: World, group: Chat, clients: Clients, cafe: Cafe, person: Person, username: str | None
) -> None:
    """The request of a group has the group's username or none, never that of its sender."""
    group.username = username
    await answer(bot, group, f"/link {cafe.id}", person)

    request = await links.get_chat_status(chat_context(clients, group))
    assert isinstance(request, LinkRequest)
    assert request.tg_username == username


async def test_a_request_has_the_username_of_a_private_chat(
    bot: World, private_chat: Chat, clients: Clients, cafe: Cafe
) -> None:
    """The request of a private chat has the username of its person."""
    await answer(bot, private_chat, f"/link {cafe.id}")

    request = await links.get_chat_status(chat_context(clients, private_chat))
    assert isinstance(request, LinkRequest)
    assert request.tg_username == "anna_k"


TOPIC, OTHER_TOPIC = 77, 88


@pytest.fixture
def forum(world: World) -> Chat:
    """A group with topics."""
    return world.forum(TOPIC, OTHER_TOPIC)


@pytest.mark.parametrize("command", ["/link {}", "/start link_{}", "/status", "/unlink", "/help"])
async def test_a_topic_is_answered_there(bot: World, forum: Chat, cafe: Cafe, command: str) -> None:
    """The answer to a command in a topic is in the same topic."""
    await answer(bot, forum, command.format(cafe.id), topic=TOPIC)

    assert read_in_topic(forum, TOPIC) == read_in(forum)


@pytest.mark.parametrize(
    ("topics", "expected"),
    [((TOPIC,), TOPIC), ((None,), None), ((TOPIC, OTHER_TOPIC), OTHER_TOPIC), ((TOPIC, None), None)],
)
async def test_a_request_has_the_topic_in_which_it_was_made(
    bot: World, forum: Chat, clients: Clients, cafe: Cafe, topics: tuple[int | None, ...], expected: int | None
) -> None:
    """A request is for the topic in which the chat has asked, the last time if it has asked again."""
    for topic in topics:
        await answer(bot, forum, f"/link {cafe.id}", topic=topic)

    request = await links.get_chat_status(chat_context(clients, forum))
    assert isinstance(request, LinkRequest)
    assert request.tg_thread_id == expected


async def test_a_reply_is_not_in_a_topic(bot: World, group: Chat, clients: Clients, cafe: Cafe) -> None:
    """In a group without topics Telegram gives a reply a thread, to which the bot cannot write."""
    message = {
        "message_id": 8,
        "date": 1_790_000_000,
        "chat": group.as_chat(),
        "from": BORIS.as_user(),
        "text": f"/link {cafe.id}",
        "entities": [{"type": "bot_command", "offset": 0, "length": 5}],
        "message_thread_id": 5,
    }
    bot.state.updates.put("message", message)
    await until_handled(bot)

    request = await links.get_chat_status(chat_context(clients, group))
    assert isinstance(request, LinkRequest)
    assert request.tg_thread_id is None


async def test_link_is_answered(bot: World, place: Place, cafe: Cafe) -> None:
    """The chat reads that its request waits for a manager."""
    text = await answer(bot, place.chat, f"/link {cafe.id}", place.person)

    assert text == texts.link_requested(cafe.name, place.locale)


async def test_a_deep_link_makes_a_request(bot: World, place: Place, clients: Clients, cafe: Cafe) -> None:
    """The link `t.me/<bot>?startgroup=link_<cafe id>` replaces `/link`."""
    text = await answer(bot, place.chat, f"/start link_{cafe.id}", place.person)

    assert text == texts.link_requested(cafe.name, place.locale)
    assert isinstance(await links.get_chat_status(chat_context(clients, place.chat)), LinkRequest)


async def test_a_deep_link_with_the_bots_name_makes_a_request(bot: World, group: Chat, cafe: Cafe) -> None:
    """In a group Telegram's clients add the bot's name to `/start`."""
    text = await answer(bot, group, f"/start@{BOT_USERNAME} link_{cafe.id}")

    assert text == texts.link_requested(cafe.name, "en")


@pytest.mark.parametrize("link", ["link_", "link_soup", "link_-1", "link_1_2", "link_" + "9" * 30])
async def test_a_deep_link_without_a_number_is_explained(bot: World, group: Chat, link: str) -> None:
    """A broken deep link is answered with the usage of `/link`."""
    assert await answer(bot, group, f"/start {link}") == texts.link_usage("en")


async def test_a_deep_link_to_an_unknown_cafe_is_explained(bot: World, group: Chat) -> None:
    """The answer to a link to a deleted cafe says that there is no such cafe."""
    assert await answer(bot, group, "/start link_999") == texts.no_such_cafe("999", "en")


async def test_another_deep_link_is_a_start(bot: World, private_chat: Chat) -> None:
    """The bot ignores any other parameter of `/start`."""
    assert await answer(bot, private_chat, "/start from_the_newsletter") == texts.start("en")


async def test_names_are_escaped(bot: World, group: Chat, clients: Clients) -> None:
    """A cafe's name is shown as text, with any characters."""
    cafe = await add_cafe(clients, '<b>Basil</b> & "Thyme" \'n <script>')
    await answer(bot, group, f"/link {cafe.id}")

    message = list(group.messages.values())[-1]
    assert cafe.name in message.content.text


@pytest.mark.parametrize(
    "command",
    ["/link", "/link ", "/link soup", "/link 1.5", "/link -1", "/link 1 2", "/link ١", "/link ²", "/link 9" + "9" * 30],
)
async def test_an_invalid_number_is_explained(bot: World, group: Chat, cafe: Cafe, command: str) -> None:
    """Without a valid number the bot answers with the usage of `/link`."""
    assert await answer(bot, group, command) == texts.link_usage("en")


@pytest.mark.parametrize("number", ["999", "0", "9" * 18])
async def test_an_unknown_cafe_is_explained(bot: World, group: Chat, number: str) -> None:
    """The answer to a request for an unknown cafe says that there is no such cafe."""
    assert await answer(bot, group, f"/link {number}") == texts.no_such_cafe(number, "en")


@pytest.fixture
async def linked(bot: World, group: Chat, clients: Clients) -> Cafe:
    """A cafe that is linked to the group."""
    return await add_linked_cafe(clients, group)


async def test_a_linked_cafe_cannot_be_requested(bot: World, private_chat: Chat, linked: Cafe) -> None:
    """The answer to a request for a linked cafe says so."""
    assert await answer(bot, private_chat, f"/link {linked.id}") == texts.cafe_already_linked("en")


@pytest.mark.usefixtures("linked")
async def test_a_linked_chat_cannot_request_another_cafe(bot: World, group: Chat, cafe: Cafe) -> None:
    """The answer to a request from a linked chat says so."""
    assert await answer(bot, group, f"/link {cafe.id}") == texts.chat_already_linked("en")


async def test_requests_are_rate_limited(world: World, settings: Settings, group: Chat, cafe: Cafe) -> None:
    """A chat may make a limited number of requests per minute, and reads how long to wait."""
    strict = settings.model_copy(update={"link_requests_per_minute": 1})
    async with open_clients(strict) as few, polling_bot(world, few):
        await answer(world, group, f"/link {cafe.id}")
        text = await answer(world, group, f"/link {cafe.id}")

    assert text in {texts.too_many_requests(seconds, "en") for seconds in range(1, 61)}


async def test_the_rate_limit_is_per_chat(
    world: World, settings: Settings, group: Chat, private_chat: Chat, cafe: Cafe
) -> None:
    """A flood in one chat does not stop the requests of another."""
    strict = settings.model_copy(update={"link_requests_per_minute": 1})
    async with open_clients(strict) as few, polling_bot(world, few):
        await answer(world, group, f"/link {cafe.id}")
        text = await answer(world, private_chat, f"/link {cafe.id}")

    assert text == texts.link_requested(cafe.name, "en")


async def test_an_unknown_chat_has_no_status(bot: World, place: Place) -> None:
    """`/status` in an unlinked chat explains `/link`."""
    assert await answer(bot, place.chat, "/status", place.person) == texts.status_none(place.locale)


async def test_a_pending_request_is_a_status(bot: World, place: Place, anonymous: Context, cafe: Cafe) -> None:
    """`/status` in a chat with a pending request says that it waits."""
    await links.link_request(anonymous, cafe.id, place.chat.id)

    assert await answer(bot, place.chat, "/status", place.person) == texts.status_pending(cafe.name, place.locale)


async def add_linked_cafe(clients: Clients, chat: Chat, name: str = "Green Fork", **fields: object) -> Cafe:
    """Add a cafe that is linked to the chat."""
    return await add_cafe(clients, name, tg_chat_id=chat.id, linked_at=datetime.now(UTC), **fields)


def status_of(cafe: Cafe, locale: str = "en", **changes: Any) -> str:
    """Return the status text of a linked chat."""
    values = {"is_active": True, "enabled": True, "next_deadline": None, "last_sent": None} | changes
    return texts.status_linked(cafe.name, locale=locale, **values)


async def test_the_status_has_the_cafe(bot: World, place: Place, clients: Clients) -> None:
    """`/status` in a linked chat names the cafe."""
    cafe = await add_linked_cafe(clients, place.chat)

    assert await answer(bot, place.chat, "/status", place.person) == status_of(cafe, place.locale)


async def test_the_status_has_disabled_notifications(bot: World, group: Chat, manager: Context, linked: Cafe) -> None:
    """`/status` says that notifications are disabled."""
    await links.set_notifications(manager, linked.id, enabled=False)

    assert await answer(bot, group, "/status") == status_of(linked, enabled=False)


async def test_the_status_has_a_deactivated_cafe(bot: World, group: Chat, clients: Clients) -> None:
    """`/status` says that the cafe is deactivated."""
    cafe = await add_linked_cafe(clients, group, is_active=False)

    assert await answer(bot, group, "/status") == status_of(cafe, is_active=False)


@pytest.fixture
async def tokyo(group: Chat, clients: Clients) -> Lunch:
    """A cafe in Tokyo with a menu, linked to the group: each day's deadline is at 10:30 on the day before."""
    return await add_lunch(clients, tg_chat_id=group.id, linked_at=datetime.now(UTC), timezone="Asia/Tokyo")


async def test_the_status_has_the_next_deadline(bot: World, group: Chat, tokyo: Lunch) -> None:
    """`/status` has the next deadline, in the cafe's time zone."""
    now = datetime.now(ZoneInfo("Asia/Tokyo"))
    today = datetime.combine(now, time(10, 30), now.tzinfo)
    closes_at = today if now < today else today + timedelta(days=1)

    assert await answer(bot, group, "/status") == status_of(tokyo.cafe, next_deadline=closes_at)


async def test_the_status_has_the_last_delivery(bot: World, group: Chat, clients: Clients) -> None:
    """`/status` has the time of the last order list, in the cafe's time zone."""
    cafe = await add_linked_cafe(clients, group, timezone="Asia/Tokyo")
    sent = await deliver_notification(bot, clients, cafe)
    assert sent.sent_at is not None

    status = await answer(bot, group, "/status")

    assert status == status_of(cafe, last_sent=sent.sent_at.astimezone(ZoneInfo("Asia/Tokyo")))


async def test_other_notifications_are_not_deliveries(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """A notification without orders, such as an approval, is not the last delivery."""
    await deliver_notification(bot, clients, linked, NotificationKind.LINK_APPROVED)

    assert await answer(bot, group, "/status") == status_of(linked)


async def test_a_rejected_chat_has_no_status(bot: World, group: Chat, manager: Context, cafe: Cafe) -> None:
    """A chat whose request was rejected may ask again."""
    request = await links.link_request(manager, cafe.id, group.id)
    await links.reject(manager, request.id)

    assert await answer(bot, group, "/status") == texts.status_none("en")


async def cafe_now(clients: Clients, cafe: Cafe) -> Cafe:
    async with clients.db() as session:
        return await session.get_one(Cafe, cafe.id)


async def last_event(clients: Clients) -> dict[str, Any]:
    """Return the value of the last event in the outbox."""
    async with clients.db() as session:
        payload = await session.scalar(sa.select(Outbox.c.payload).order_by(Outbox.c.id.desc()).limit(1))
    assert payload is not None
    event: dict[str, Any] = orjson.loads(payload)
    return event


async def test_an_unlinked_chat_has_nothing_to_unlink(bot: World, place: Place) -> None:
    """`/unlink` in an unlinked chat says that the chat gets no orders."""
    assert await answer(bot, place.chat, "/unlink", place.person) == texts.status_none(place.locale)


async def test_unlink_asks_for_a_confirmation(bot: World, place: Place, clients: Clients) -> None:
    """`/unlink` may be a mistake, so the bot asks first."""
    cafe = await add_linked_cafe(clients, place.chat)

    text = await answer(bot, place.chat, "/unlink", place.person)

    assert text == texts.unlink_question(cafe.name, place.locale)
    assert list(buttons_under(last_message(place.chat))) == labels(buttons.unlink(cafe.id, place.locale))
    assert (await cafe_now(clients, cafe)).tg_chat_id == place.chat.id


async def test_yes_unlinks_the_cafe(bot: World, place: Place, clients: Clients) -> None:
    """A press on «Yes, unlink» unlinks the cafe, and an event has the reason."""
    cafe = await add_linked_cafe(clients, place.chat)
    await answer(bot, place.chat, "/unlink", place.person)

    yes, _no = labels(buttons.unlink(cafe.id, place.locale))
    shown = await press_button(bot, place.chat, yes, place.person)

    assert shown == ""
    assert (await cafe_now(clients, cafe)).tg_chat_id is None
    assert await event_types(clients) == ["cafe.unlinked"]
    event = await last_event(clients)
    assert (event["reason"], event["former_tg_chat_id"]) == ("chat", place.chat.id)


async def test_an_answered_question_has_no_buttons(bot: World, group: Chat, linked: Cafe) -> None:
    """The buttons disappear after the answer."""
    await answer(bot, group, "/unlink")
    await press_button(bot, group, "Yes, unlink")

    assert buttons_under(last_message(group)) == {}


async def test_no_keeps_the_link(bot: World, place: Place, clients: Clients) -> None:
    """A press on «No, keep it» keeps the link, and the question becomes the answer."""
    cafe = await add_linked_cafe(clients, place.chat)
    await answer(bot, place.chat, "/unlink", place.person)

    _yes, no = labels(buttons.unlink(cafe.id, place.locale))
    shown = await press_button(bot, place.chat, no, place.person)

    assert shown == ""
    assert read_in(place.chat) == [texts.still_linked(cafe.name, place.locale)]
    assert buttons_under(last_message(place.chat)) == {}
    assert (await cafe_now(clients, cafe)).tg_chat_id == place.chat.id
    assert await event_types(clients) == []


async def test_simultaneous_presses_unlink_once(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """The second of two simultaneous presses has no effect."""
    await answer(bot, group, "/unlink")
    start_press(bot, group, "Yes, unlink", BORIS)
    second = start_press(bot, group, "Yes, unlink", VERA)
    await until_handled(bot)

    assert second.answer == {"text": texts.wrong_chat("ru"), "show_alert": True}
    assert await event_types(clients) == ["cafe.unlinked"]


@pytest.mark.parametrize("label", ["Yes, unlink", "No, keep it"])
async def test_a_question_about_another_cafe_is_stale(
    bot: World, group: Chat, clients: Clients, manager: Context, linked: Cafe, label: str
) -> None:
    """An old button does not unlink the cafe that the chat has got since."""
    await answer(bot, group, "/unlink")
    await links.unlink(manager, linked.id)
    other = await add_linked_cafe(clients, group, "Basil")

    shown = await press_button(bot, group, label)

    assert shown == texts.wrong_chat("en")
    assert (await cafe_now(clients, other)).tg_chat_id == group.id
    assert buttons_under(last_message(group)) == {}


async def deliver_notification(
    world: World, clients: Clients, cafe: Cafe, kind: NotificationKind = NotificationKind.ORDERS, *parts: str
) -> Notification:
    """Send a notification to the cafe's chat, as an events process does, and return it."""
    async with clients.db() as session:
        queued = await notify(
            clients,
            session,
            kind,
            cafe,
            chat_id=cafe.tg_chat_id,
            date=DATE,
            text=lambda _cafe, *, locale: parts or [ORDERS],  # noqa: ARG005 the same in each language
        )
    assert queued is not None
    for part in range(len(queued.parts)):
        await deliver_part(world, clients, DeliveryTask(notification_id=queued.id, part=part))
    return await notification_now(clients, queued)


async def deliver_part(world: World, clients: Clients, task: DeliveryTask) -> None:
    """Send one part as soon as the chat may get it."""
    while True:
        try:
            await deliver(clients, world.bot, Limiter(clients.redis), task)
        except NotYet as turn:
            await asyncio.sleep(turn.retry_after)
        else:
            return


async def notification_now(clients: Clients, notification: Notification) -> Notification:
    async with clients.db() as session:
        return await session.get_one(Notification, notification.id)


async def test_received_acknowledges_the_orders(bot: World, place: Place, clients: Clients) -> None:
    """A press on «Received» records the acknowledgement with the user's name, and an event."""
    orders = await deliver_notification(bot, clients, await add_linked_cafe(clients, place.chat, language=place.locale))
    before = datetime.now(UTC)

    shown = await press_button(bot, place.chat, received_label(place.locale), place.person)

    now = await notification_now(clients, orders)
    assert shown == ""
    assert before <= (now.acknowledged_at or before - timedelta(1)) <= datetime.now(UTC)
    assert now.acknowledged_by == place.person.first_name
    assert (await event_types(clients))[-1] == "notification.acknowledged"
    event = await last_event(clients)
    assert (event["id"], event["acknowledged_by"]) == (orders.id, place.person.first_name)


@pytest.mark.parametrize("language", Language)
async def test_an_acknowledgement_is_written_below_the_message(
    bot: World, group: Chat, clients: Clients, language: Language
) -> None:
    """The cafe reads who has received the orders and when, in its language and time zone; the button disappears."""
    cafe = await add_linked_cafe(clients, group, language=language, timezone="Asia/Tokyo")
    orders = await deliver_notification(bot, clients, cafe)

    await press_button(bot, group, received_label(language), Person(99, "<b>Eve</b>"))

    at = (await notification_now(clients, orders)).acknowledged_at
    assert at is not None
    remark = texts.received("<b>Eve</b>", at.astimezone(ZoneInfo("Asia/Tokyo")), language)
    assert read_in(group) == [f"{ORDERS}\n\n{remark}"]
    assert buttons_under(last_message(group)) == {}


@pytest.mark.parametrize("person", [ANONYMOUS, CHANNEL], ids=lambda person: person.first_name)
async def test_an_anonymous_acknowledgement_has_the_name_of_the_chat(
    bot: World, group: Chat, clients: Clients, linked: Cafe, person: Person
) -> None:
    """An administrator who stays anonymous has the name of the chat, not that of Telegram's placeholder."""
    orders = await deliver_notification(bot, clients, linked)

    await press_button(bot, group, "Received", person)

    assert (await notification_now(clients, orders)).acknowledged_by == group.title
    assert f"Received by {group.title}" in read_in(group)[-1]


async def test_an_acknowledgement_is_below_the_last_part(
    bot: World, group: Chat, clients: Clients, linked: Cafe
) -> None:
    """The last part of an order list has the button and gets the remark; the other parts do not change."""
    await deliver_notification(bot, clients, linked, NotificationKind.ORDERS, "first", "second")

    await press_button(bot, group, "Received")

    assert [text.split("\n")[0] for text in read_in(group)] == ["first", "second"]
    assert [len(message.edits) for message in group.messages.values()] == [0, 1]


async def test_the_first_press_acknowledges(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """The second of two simultaneous presses changes nothing, and its user reads so."""
    orders = await deliver_notification(bot, clients, linked)
    start_press(bot, group, "Received", BORIS)
    second = start_press(bot, group, "Received", VERA)
    await until_handled(bot)

    assert second.answer == {"text": texts.already_received("ru"), "show_alert": False}
    assert (await notification_now(clients, orders)).acknowledged_by == "Boris"
    assert "Boris" in read_in(group)[-1]
    assert (await event_types(clients)).count("notification.acknowledged") == 1


async def test_versions_are_acknowledged_separately(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """The acknowledgement of a correction does not acknowledge the order list."""
    orders = await deliver_notification(bot, clients, linked)
    correction = await deliver_notification(bot, clients, linked, NotificationKind.CORRECTION)

    await press_button(bot, group, "Received")

    assert (await notification_now(clients, orders)).acknowledged_at is None
    assert (await notification_now(clients, correction)).acknowledged_at is not None


async def test_the_next_press_repeats_a_failed_edit(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """If the remark could not be written, the next press writes it, with the name of the first user."""
    await deliver_notification(bot, clients, linked)
    bot.fail(FailureKind.SERVER_ERROR, method="editMessageText")
    await press_button(bot, group, "Received", BORIS)

    shown = await press_button(bot, group, "Received", VERA)

    assert shown == texts.already_received("ru")
    assert "Received by Boris" in read_in(group)[-1]
    assert buttons_under(last_message(group)) == {}


async def test_a_press_that_telegram_has_forgotten_counts(
    bot: World, group: Chat, clients: Clients, linked: Cafe
) -> None:
    """A bot that was unavailable for an hour cannot answer the press any more, but has its effect."""
    orders = await deliver_notification(bot, clients, linked)
    del bot.state.presses[start_press(bot, group, "Received").id]
    await until_handled(bot)

    assert (await notification_now(clients, orders)).acknowledged_at is not None
    assert buttons_under(last_message(group)) == {}


async def test_a_press_under_an_inaccessible_message_counts(
    bot: World, group: Chat, clients: Clients, linked: Cafe
) -> None:
    """A press counts even if Telegram gives the bot only the place of the message."""
    orders = await deliver_notification(bot, clients, linked)
    query = {
        "id": "1",
        "from": BORIS.as_user(),
        "message": {"chat": group.as_chat(), "message_id": 1, "date": 0},
        "chat_instance": "1",
        "data": buttons_under(last_message(group))["Received"],
    }
    bot.state.updates.put("callback_query", query)
    await until_handled(bot)

    assert (await notification_now(clients, orders)).acknowledged_by == "Boris"


async def test_a_button_of_another_chat_is_not_accepted(
    bot: World, group: Chat, private_chat: Chat, clients: Clients, linked: Cafe
) -> None:
    """A forged button for another chat's message acknowledges nothing."""
    orders = await deliver_notification(bot, clients, linked)
    await bot.bot.send_message(private_chat.id, "forged", reply_markup=buttons.received(orders.id, "en"))

    shown = await press_button(bot, private_chat, "Received")

    assert shown == texts.wrong_chat("en")
    assert (await notification_now(clients, orders)).acknowledged_at is None
    assert read_in(private_chat) == ["forged"]


async def test_a_button_of_an_unknown_notification_is_not_accepted(bot: World, group: Chat) -> None:
    """A button for an unknown notification, for example of another installation, is refused."""
    await bot.bot.send_message(group.id, "old", reply_markup=buttons.received(999, "en"))

    assert await press_button(bot, group, "Received") == texts.wrong_chat("en")


async def test_only_orders_can_be_acknowledged(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """A notification without orders cannot be acknowledged."""
    approval = await deliver_notification(bot, clients, linked, NotificationKind.LINK_APPROVED)
    await bot.bot.send_message(group.id, "forged", reply_markup=buttons.received(approval.id, "en"))

    assert await press_button(bot, group, "Received") == texts.wrong_chat("en")


async def test_unknown_button_data_is_ignored(bot: World, group: Chat) -> None:
    """A button of an older version has no effect, and the bot continues."""
    keyboard = buttons.received(1, "en")
    keyboard.inline_keyboard[0][0].callback_data = "received:soup"
    await bot.bot.send_message(group.id, "old", reply_markup=keyboard)

    assert await press_button(bot, group, "Received") is None


@pytest.fixture
async def managers_chat(world: World) -> Chat:
    """The managers' chat."""
    return world.group()


@pytest.fixture
async def pending_request(
    bot: World, group: Chat, managers_chat: Chat, manager: Context, anonymous: Context, clients: Clients, cafe: Cafe
) -> LinkRequest:
    """A link request of the group, which the managers' chat has read."""
    request = await links.link_request(anonymous, cafe.id, group.id, "basil_cafe")
    await notify_managers(bot, clients, managers_chat, request)
    return request


async def notify_managers(world: World, clients: Clients, managers_chat: Chat, request: LinkRequest) -> None:
    """Handle the event of a link request, and deliver the notification, as an events process does."""
    settings = clients.settings.model_copy(update={"telegram_manager_chat_id": managers_chat.id})
    async with clients.db() as session:
        await handle_link_event(replace(clients, settings=settings), session, LinkRequestCreated.of(request))
        queued = select(Notification.id).where(
            col(Notification.link_request_id) == request.id, Notification.status == NotificationStatus.QUEUED
        )
        notification_id = (await session.scalars(queued)).one()
    task = DeliveryTask(notification_id=notification_id, part=0)
    await deliver_part(world, clients, task)


async def request_now(clients: Clients, request: LinkRequest) -> LinkRequest:
    async with clients.db() as session:
        return await session.get_one(LinkRequest, request.id)


async def test_managers_get_a_link_request(managers_chat: Chat, pending_request: LinkRequest, cafe: Cafe) -> None:
    """The managers' chat reads which chat asks for which cafe, with a button for each decision."""
    assert read_in(managers_chat) == [
        notification_texts.link_requested(cafe, chat_id=pending_request.tg_chat_id, username="basil_cafe", locale="en")
    ]
    assert list(buttons_under(last_message(managers_chat))) == ["Approve", "Reject"]


async def test_a_manager_approves(
    bot: World, managers_chat: Chat, group: Chat, clients: Clients, cafe: Cafe, pending_request: LinkRequest
) -> None:
    """A press on «Approve» links the cafe, like an approval through the dashboard."""
    shown = await press_button(bot, managers_chat, "Approve", MARIA)

    request = await request_now(clients, pending_request)
    assert shown == ""
    assert (request.status, request.processed_by) == (LinkRequestStatus.APPROVED, MANAGER_TGID)
    assert (await cafe_now(clients, cafe)).tg_chat_id == group.id
    assert (await event_types(clients))[-1] == "link_request.approved"


async def test_a_manager_rejects(
    bot: World, managers_chat: Chat, clients: Clients, cafe: Cafe, pending_request: LinkRequest
) -> None:
    """A press on «Reject» rejects the request."""
    shown = await press_button(bot, managers_chat, "Reject", MARIA)

    request = await request_now(clients, pending_request)
    assert shown == ""
    assert (request.status, request.processed_by) == (LinkRequestStatus.REJECTED, MANAGER_TGID)
    assert (await cafe_now(clients, cafe)).tg_chat_id is None
    assert (await event_types(clients))[-1] == "link_request.rejected"


@pytest.mark.parametrize(("label", "remark"), [("Approve", texts.approved_by), ("Reject", texts.rejected_by)])
async def test_a_decision_is_written_below_the_request(
    bot: World, managers_chat: Chat, pending_request: LinkRequest, label: str, remark: Any
) -> None:
    """The manager's name is below the request, whose text stays; the buttons disappear."""
    [before] = read_in(managers_chat)

    await press_button(bot, managers_chat, label, MARIA)

    assert read_in(managers_chat) == [f"{before}\n{remark('Maria', 'en')}"]
    assert buttons_under(last_message(managers_chat)) == {}


async def test_an_anonymous_administrator_does_not_decide(
    bot: World, managers_chat: Chat, clients: Clients, pending_request: LinkRequest
) -> None:
    """A press without a person is refused, even if Telegram's placeholder was added as a manager."""
    async with clients.db() as session:
        session.add(User(tgid=ANONYMOUS.id, name="Group", role=Role.MANAGER))

    shown = await press_button(bot, managers_chat, "Approve", ANONYMOUS)

    assert shown == texts.only_managers("en")
    assert (await request_now(clients, pending_request)).status is LinkRequestStatus.PENDING


async def test_an_edited_request_keeps_its_escaping(
    bot: World, managers_chat: Chat, manager: Context, clients: Clients, group: Chat
) -> None:
    """An escaped name stays escaped when the message is edited."""
    cafe = await add_cafe(clients, "<b>Basil</b> & Thyme &lt;")
    await notify_managers(bot, clients, managers_chat, await links.link_request(manager, cafe.id, group.id))
    before = last_message(managers_chat).content.text

    await press_button(bot, managers_chat, "Reject", MARIA)

    assert last_message(managers_chat).content.text == f"{before}\n❌ Rejected by Maria"


OTHER_USERS = [IVAN, BORIS, Person(78, "Мария", language_code="ru")]


@pytest.mark.parametrize("person", OTHER_USERS, ids=["user", "unknown", "unknown-ru"])
@pytest.mark.parametrize("label", ["Approve", "Reject"])
async def test_only_managers_decide(
    bot: World, managers_chat: Chat, clients: Clients, pending_request: LinkRequest, person: Person, label: str
) -> None:
    """A user without the role is refused, and the buttons stay for managers."""
    shown = await press_button(bot, managers_chat, label, person)

    assert shown == texts.only_managers(person.language_code)
    assert (await request_now(clients, pending_request)).status is LinkRequestStatus.PENDING
    assert list(buttons_under(last_message(managers_chat))) == ["Approve", "Reject"]


async def test_a_deactivated_manager_is_refused(
    bot: World, managers_chat: Chat, clients: Clients, pending_request: LinkRequest
) -> None:
    """The present rights count, not those at the time of the message."""
    async with clients.db() as session:
        (await session.get_one(User, MANAGER_TGID)).is_active = False

    shown = await press_button(bot, managers_chat, "Approve", MARIA)

    assert shown == texts.only_managers("en")
    assert (await request_now(clients, pending_request)).status is LinkRequestStatus.PENDING


async def test_a_request_is_decided_once(
    bot: World, managers_chat: Chat, clients: Clients, pending_request: LinkRequest
) -> None:
    """The second of two presses does not change the decision, and its user reads so."""
    start_press(bot, managers_chat, "Approve", MARIA)
    second = start_press(bot, managers_chat, "Reject", MARIA)
    await until_handled(bot)

    assert second.answer == {"text": texts.already_processed("en"), "show_alert": True}
    assert (await request_now(clients, pending_request)).status is LinkRequestStatus.APPROVED
    assert read_in(managers_chat)[-1].endswith(texts.approved_by("Maria", "en"))


async def test_a_request_decided_elsewhere_loses_its_buttons(
    bot: World, managers_chat: Chat, manager: Context, pending_request: LinkRequest
) -> None:
    """After a decision in the dashboard a press is refused, and the buttons disappear."""
    await links.reject(manager, pending_request.id)

    shown = await press_button(bot, managers_chat, "Approve", MARIA)

    assert shown == texts.already_processed("en")
    assert buttons_under(last_message(managers_chat)) == {}


async def test_an_unknown_request_loses_its_buttons(bot: World, managers_chat: Chat, manager: Context) -> None:
    """A request that does not exist any more cannot be decided."""
    await bot.bot.send_message(managers_chat.id, "old", reply_markup=buttons.decide(999, "en"))

    shown = await press_button(bot, managers_chat, "Approve", MARIA)

    assert shown == texts.already_processed("en")
    assert buttons_under(last_message(managers_chat)) == {}


async def test_a_cafe_that_was_linked_meanwhile_is_not_linked_again(
    bot: World,
    managers_chat: Chat,
    private_chat: Chat,
    clients: Clients,
    manager: Context,
    cafe: Cafe,
    pending_request: LinkRequest,
) -> None:
    """The approval of a second chat is refused, and the manager may still reject the request."""
    await links.approve(manager, (await links.link_request(manager, cafe.id, private_chat.id)).id)

    shown = await press_button(bot, managers_chat, "Approve", MARIA)

    assert shown == texts.cafe_taken("en")
    assert (await cafe_now(clients, cafe)).tg_chat_id == private_chat.id
    assert (await request_now(clients, pending_request)).status is LinkRequestStatus.PENDING
    assert list(buttons_under(last_message(managers_chat))) == ["Approve", "Reject"]


async def test_a_chat_that_was_linked_meanwhile_gets_no_second_cafe(
    bot: World,
    managers_chat: Chat,
    group: Chat,
    clients: Clients,
    manager: Context,
    cafe: Cafe,
    pending_request: LinkRequest,
) -> None:
    """The approval for a chat that has got another cafe since is refused."""
    other = await add_cafe(clients, "Other")
    await links.approve(manager, (await links.link_request(manager, other.id, group.id)).id)

    shown = await press_button(bot, managers_chat, "Approve", MARIA)

    assert shown == texts.chat_taken("en")
    assert (await cafe_now(clients, cafe)).tg_chat_id is None


RECOMMENDATION = Recommendation(
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


async def add_user_with_recommendation(clients: Clients, tgid: int, **fields: object) -> None:
    """Add a user who has a recommendation."""
    async with clients.db() as session:
        session.add(User(tgid=tgid, name="Anna", **fields))  # type: ignore[arg-type]
    await store_recommendations(clients, [(tgid, RECOMMENDATION)], datetime(2026, 3, 4, 2, 30, tzinfo=UTC))


async def language_of(clients: Clients, tgid: int) -> Language:
    async with clients.db() as session:
        return (await session.get_one(User, tgid)).language


@pytest.mark.parametrize("language", Language)
async def test_recommendations_shows_the_recommendation(bot: World, clients: Clients, language: Language) -> None:
    """`/recommendations` shows last night's recommendation with its statistics, in the user's language."""
    chat = bot.person(language)
    await add_user_with_recommendation(clients, chat.id)

    assert await answer(bot, chat, "/recommendations") == texts.recommended(RECOMMENDATION, language)


async def test_a_recommendation_is_escaped(bot: World, private_chat: Chat, clients: Clients) -> None:
    """Summary, tips and dish names are shown unchanged, with any characters."""
    await add_user_with_recommendation(clients, private_chat.id)

    await answer(bot, private_chat, "/recommendations")

    shown = last_message(private_chat).content
    assert shown.text.splitlines()[:3] == [
        "🍽 You like <b>soup</b> & salad.",
        "• Try 1 < 2.",
        "• Have <script> less often.",
    ]
    assert shown.text.splitlines()[-1] == "Most ordered: <i>Fish</i> & chips ×4"
    assert shown.entities == []


async def test_without_a_recommendation_there_are_statistics(
    bot: World, private_chat: Chat, clients: Clients, lunch: Lunch
) -> None:
    """A user without a recommendation reads so, with the statistics of the month."""
    await add_ordering_user(clients, lunch, private_chat.id, orders=4)

    text = await answer(bot, private_chat, "/recommendations")

    assert text.splitlines() == [
        "There is no recommendation for you yet. I make recommendations at night, for users with enough orders.",
        "",
        "Last 30 days: 4 orders",
        "soups 50%, salads 0%, mains 50%, extras 0%",
        "2 of 6 dishes tried",
        "Most ordered: Borscht ×4, Pelmeni ×4",
    ]


@pytest.mark.parametrize("language", Language)
async def test_a_user_without_orders_reads_so(bot: World, clients: Clients, language: Language) -> None:
    """A new user has neither a recommendation nor statistics."""
    chat = bot.person(language)
    async with clients.db() as session:
        session.add(User(tgid=chat.id, name="Anna"))

    text = await answer(bot, chat, "/recommendations")

    assert text == texts.recommended(Recommendation(stats=OrderStats()), language)


@pytest.mark.parametrize("language", Language)
async def test_an_unknown_user_gets_no_recommendation(bot: World, language: Language) -> None:
    """An unknown user reads that a manager must add them first."""
    assert await answer(bot, bot.person(language), "/recommendations") == texts.unknown_user(language)


@pytest.mark.parametrize("language", Language)
async def test_a_deactivated_user_gets_no_recommendation(bot: World, clients: Clients, language: Language) -> None:
    """A deactivated user gets no recommendation, not even an earlier one."""
    chat = bot.person(language)
    await add_user_with_recommendation(clients, chat.id, is_active=False)

    assert await answer(bot, chat, "/recommendations") == texts.deactivated(language)


async def test_a_group_gets_no_recommendations(bot: World, group: Chat, clients: Clients) -> None:
    """In a group the bot points known and unknown users to the private chat."""
    await add_user_with_recommendation(clients, BORIS.id)

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
async def test_recommendations_updates_the_users_language(
    bot: World, clients: Clients, tag: str, before: Language, after: Language
) -> None:
    """`/recommendations` stores the language of the user's Telegram, if it has texts."""
    chat = bot.person(tag)
    await add_user_with_recommendation(clients, chat.id, language=before)

    await answer(bot, chat, "/recommendations")

    assert await language_of(clients, chat.id) is after


async def test_without_redis_there_are_statistics(
    world: World, settings: Settings, clients: Clients, private_chat: Chat
) -> None:
    """While Redis is unavailable a user still gets an answer."""
    await add_user_with_recommendation(clients, private_chat.id)
    broken = settings.model_copy(update={"redis_url": SecretStr(REDIS_UNAVAILABLE)})

    async with open_clients(broken) as without_redis, polling_bot(world, without_redis):
        text = await answer(world, private_chat, "/recommendations")

    assert text == texts.recommended(Recommendation(stats=OrderStats()), "en")


async def test_every_command_of_the_menu_is_handled(bot: World, private_chat: Chat) -> None:
    """Only `/help` is answered with the help."""
    answers = {name: await answer(bot, private_chat, f"/{name}") for name in texts.command_descriptions("en")}

    assert [name for name, text in answers.items() if text == texts.help_("en")] == ["help"]


@pytest.mark.parametrize(("kind", "membership"), [("group", "kicked"), ("group", "left"), ("private", "kicked")])
async def test_a_chat_that_removes_the_bot_is_unlinked(
    bot: World, clients: Clients, kind: str, membership: Membership
) -> None:
    """A cafe whose chat removes or blocks the bot is unlinked immediately, and an event has the reason."""
    chat = bot.group() if kind == "group" else bot.person()
    cafe = await add_linked_cafe(clients, chat)

    bot.state.change_membership(chat, membership, BORIS.as_user())
    await until_handled(bot)

    assert (await cafe_now(clients, cafe)).tg_chat_id is None
    assert await event_types(clients) == ["cafe.unlinked"]
    event = await last_event(clients)
    assert (event["reason"], event["former_tg_chat_id"]) == ("chat_gone", chat.id)


async def test_an_unlinked_chat_may_remove_the_bot(bot: World, group: Chat, clients: Clients) -> None:
    """The removal from an unlinked chat has no effect."""
    bot.state.change_membership(group, "kicked", BORIS.as_user())
    await until_handled(bot)

    assert await event_types(clients) == []


async def test_a_new_membership_keeps_the_link(bot: World, group: Chat, clients: Clients, linked: Cafe) -> None:
    """The bot's addition to a chat, or a change of its rights, does not change a link."""
    bot.state.change_membership(group, "member", BORIS.as_user())
    await until_handled(bot)

    assert (await cafe_now(clients, linked)).tg_chat_id == group.id


MOVED_FROM, MOVED_TO = -4_120_000_001, -1_002_120_000_001


async def migrate_group(world: World) -> None:
    """Make a group a supergroup: a service message in the old group says so."""
    message = {
        "message_id": 8,
        "date": 1_790_000_000,
        "chat": {"id": MOVED_FROM, "type": "group", "title": "Basil"},
        "from": BORIS.as_user(),
        "migrate_to_chat_id": MOVED_TO,
    }
    world.state.updates.put("message", message)
    await until_handled(world)


async def test_a_group_that_becomes_a_supergroup_keeps_its_cafe(bot: World, clients: Clients) -> None:
    """The link follows the group to its new id, without an event."""
    cafe = await add_cafe(clients, tg_chat_id=MOVED_FROM, linked_at=datetime.now(UTC))

    await migrate_group(bot)

    assert (await cafe_now(clients, cafe)).tg_chat_id == MOVED_TO
    assert await event_types(clients) == []


async def test_topics_do_not_follow_a_group(bot: World, clients: Clients, cafe: Cafe) -> None:
    """A link and a waiting notification have no topic in the supergroup."""
    linked = await add_cafe(
        clients, "Green Fork", tg_chat_id=MOVED_FROM, tg_thread_id=TOPIC, linked_at=datetime.now(UTC)
    )
    async with clients.db() as session:
        waiting = await notify(
            clients, session, NotificationKind.LINK_APPROVED, cafe, chat_id=MOVED_FROM, thread_id=TOPIC
        )
    assert waiting is not None

    await migrate_group(bot)

    assert (await cafe_now(clients, linked)).tg_thread_id is None
    assert (await notification_now(clients, waiting)).tg_thread_id is None


async def test_a_request_follows_its_group(bot: World, clients: Clients, anonymous: Context, cafe: Cafe) -> None:
    """A request that is approved after the migration links the present chat."""
    request = await links.link_request(anonymous, cafe.id, MOVED_FROM)

    await migrate_group(bot)

    assert (await request_now(clients, request)).tg_chat_id == MOVED_TO


async def test_a_notification_follows_its_group(bot: World, clients: Clients, cafe: Cafe) -> None:
    """A notification that waits goes to the present chat."""
    async with clients.db() as session:
        waiting = await notify(clients, session, NotificationKind.LINK_APPROVED, cafe, chat_id=MOVED_FROM)
    assert waiting is not None

    await migrate_group(bot)

    assert (await notification_now(clients, waiting)).tg_chat_id == MOVED_TO


@pytest.mark.parametrize(("language", "locale"), [(None, "en"), ("ru", "ru")])
async def test_the_commands_are_registered(bot: World, language: str | None, locale: str) -> None:
    """Telegram's menu has the commands, in the user's language."""
    menu = await bot.bot.get_my_commands(language_code=language)

    assert {command.command: command.description for command in menu} == texts.command_descriptions(locale)


@pytest.fixture
async def bot_without_database(world: World, settings: Settings) -> AsyncIterator[World]:
    """The running bot, while the database is unavailable."""
    async with (
        open_clients(settings.model_copy(update={"database_url": SecretStr(DATABASE_UNAVAILABLE)})) as clients,
        polling_bot(world, clients),
    ):
        yield world


@pytest.mark.parametrize("command", ["/link 1", "/status"])
async def test_an_outage_is_explained(bot_without_database: World, group: Chat, command: str) -> None:
    """While the database is unavailable the bot answers that something does not work."""
    assert await answer(bot_without_database, group, command) == texts.try_later("en")


async def test_an_outage_does_not_make_a_user_unknown(bot_without_database: World, private_chat: Chat) -> None:
    """While the database is unavailable a user is not refused as unknown."""
    assert await answer(bot_without_database, private_chat, "/recommendations") == texts.try_later("en")


async def test_an_outage_is_explained_after_a_press(bot_without_database: World, group: Chat) -> None:
    """While the database is unavailable a press is answered, and the button stays."""
    await bot_without_database.bot.send_message(group.id, "orders", reply_markup=buttons.received(1, "en"))

    shown = await press_button(bot_without_database, group, "Received")

    assert shown == texts.try_later("en")
    assert list(buttons_under(last_message(group))) == ["Received"]


async def test_help_works_during_an_outage(bot_without_database: World, private_chat: Chat) -> None:
    """Commands without data work without the database."""
    assert await answer(bot_without_database, private_chat, "/help") == texts.help_("en")


async def test_an_answer_that_fails_does_not_end_the_bot(bot: World, group: Chat) -> None:
    """The bot handles the next message after one that it could not answer."""
    bot.fail(FailureKind.BLOCKED, times=2)
    bot.say(group, "/help")
    await until(lambda: not bot.state.failures.pending())

    assert await answer(bot, group, "/status") == texts.status_none("en")


async def test_telegram_may_be_unavailable_at_the_start(world: World, clients: Clients, private_chat: Chat) -> None:
    """A bot that starts during an outage of Telegram works after it."""
    world.fail(FailureKind.BAD_GATEWAY, method="setMyCommands")
    world.fail(FailureKind.DROP_BEFORE, method="setMyCommands")
    world.fail(FailureKind.RATE_LIMIT, method="getMe")

    async with polling_bot(world, clients):
        assert await answer(world, private_chat, "/start") == texts.start("en")


async def test_telegram_may_be_unavailable_between_polls(bot: World, private_chat: Chat) -> None:
    """A bot whose polling fails continues, and answers the messages of the outage."""
    bot.fail(FailureKind.SERVER_ERROR, method="getUpdates")
    await answer(bot, private_chat, "/help")
    bot.say(private_chat, "/status")

    await until(lambda: len(read_in(private_chat)) == 2)

    assert read_in(private_chat)[-1] == texts.status_none("en")


async def test_a_message_is_confirmed_after_its_answer(bot: World, private_chat: Chat) -> None:
    """Telegram keeps a message until the bot has answered it, so that a bot that dies gets it again."""
    bot.fail(FailureKind.HANG)
    bot.say(private_chat, "/help")
    await until(lambda: not bot.state.failures.pending())
    kept = len(bot.state.updates)

    with bot.dropping_calls_that_hang():
        await until(lambda: not len(bot.state.updates))

    assert kept == 1


async def test_a_stopped_bot_does_not_poll(world: World, settings: Settings) -> None:
    """The process ends together with its polling, and the next process gets the waiting updates."""
    update = {"telegram_bot_token": SecretStr(TOKEN), "telegram_api_url": world.address}
    async with serving(create_app(settings.model_copy(update=update))):
        await until(lambda: world.state.updates.is_polled)

    remaining = [task for task in asyncio.all_tasks() if "Polling" in repr(task.get_coro())]
    for task in remaining:
        task.cancel()
    assert remaining == []
