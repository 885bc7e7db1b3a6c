"""Updates that Telegram brings to the api process, instead of being asked for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import select

from app.clients import Clients
from app.dev.telegram.chats import Chat
from app.dev.telegram.faults import FailureKind
from app.dev.telegram.updates import Webhook as Destination
from app.main import create_app
from app.models import Cafe, Inbox, LinkRequest
from app.settings import Settings, SettingsError
from app.telegram import main, texts
from app.telegram.bot import create_dispatcher
from app.telegram.webhook import CLAIM_S, CONSUMER, SECRET_HEADER
from tests.doors import calling_api, serving_api
from tests.servers import DEADLINE_S, POLL_S, until
from tests.telegram.conftest import TOKEN, World, read_in

PATH = "/telegram/updates"
URL = f"https://lunch-bot.example{PATH}"
SECRET = "the-secret_of-the-webhook"

NOBODY_LISTENS = "redis://127.0.0.1:1"


@pytest.fixture
def told(settings: Settings, world: World) -> Settings:
    """Settings of an installation that takes updates by HTTP."""
    return settings.model_copy(
        update={
            "telegram_bot_token": SecretStr(TOKEN),
            "telegram_api_url": world.address,
            "telegram_webhook_url": URL,
            "telegram_webhook_secret": SecretStr(SECRET),
        }
    )


@asynccontextmanager
async def listening(world: World, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The api process at work, once Telegram knows its address. What the stand-in gets to send, tests send instead."""
    async with calling_api(settings) as api:
        await until(lambda: world.state.updates.webhook is not None)
        yield api


@pytest.fixture
async def api(world: World, told: Settings, clients: Clients) -> AsyncIterator[httpx.AsyncClient]:
    async with listening(world, told) as called:
        yield called


@pytest.fixture
def person(world: World) -> Chat:
    return world.person()


def update(chat: Chat, text: str = "/help", update_id: int = 1001) -> dict[str, Any]:
    """What Telegram brings when the chat's person has written."""
    assert chat.person is not None
    message = {"message_id": 1, "date": 1_790_000_000, "chat": chat.as_chat(), "from": chat.person.as_user()}
    command = {"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}
    return {"update_id": update_id, "message": message | {"text": text, "entities": [command]}}


async def bring(api: httpx.AsyncClient, content: object, secret: str | None = SECRET) -> httpx.Response:
    """Do as Telegram does."""
    return await api.post(PATH, json=content, headers={} if secret is None else {SECRET_HEADER: secret})


async def noted(clients: Clients) -> list[str]:
    """The updates that are known to be handled."""
    async with clients.db() as session:
        return list(await session.scalars(select(Inbox.event_id).where(Inbox.consumer == CONSUMER)))


async def test_an_update_is_handled(api: httpx.AsyncClient, person: Chat) -> None:
    """What somebody writes is answered, and Telegram need not bring it again."""
    response = await bring(api, update(person))

    assert response.status_code == 200
    assert read_in(person) == [texts.help_("en")]


async def test_an_operation_is_done(
    api: httpx.AsyncClient, world: World, person: Chat, clients: Clients, cafe: Cafe
) -> None:
    """A command does what it does when it was asked for."""
    await bring(api, update(person, f"/link {cafe.id}"))

    async with clients.db() as session:
        assert (await session.scalars(select(LinkRequest.tg_chat_id))).all() == [person.id]


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET[:-1], SECRET + "x", SECRET.upper(), "ü"])
async def test_who_does_not_know_the_secret_is_refused(
    api: httpx.AsyncClient, person: Chat, clients: Clients, secret: str | None
) -> None:
    """Only Telegram may bring updates; nothing of what others bring is looked at."""
    headers = {} if secret is None else {SECRET_HEADER.encode(): secret.encode("latin-1")}

    response = await api.post(PATH, json=update(person), headers=headers)

    assert (response.status_code, response.content) == (403, b"")
    assert read_in(person) == []
    assert await noted(clients) == []


@pytest.mark.parametrize("body", [b"", b"soup", b"[]", b"{}", b'{"update_id": "soup"}', b"\xff\xfe", b"null"])
async def test_what_is_no_update_is_refused(api: httpx.AsyncClient, body: bytes) -> None:
    """A body that cannot be read is a bad request, and no failure of ours."""
    response = await api.post(PATH, content=body, headers={SECRET_HEADER: SECRET})

    assert response.status_code == 400


async def test_a_secret_does_not_help_what_cannot_be_read(api: httpx.AsyncClient) -> None:
    """Who does not know the secret does not learn what can be read."""
    assert (await api.post(PATH, content=b"soup")).status_code == 403


async def test_an_update_of_another_kind_is_taken(api: httpx.AsyncClient, clients: Clients) -> None:
    """What the bot has nothing to say to is taken all the same: Telegram would bring it for ever."""
    response = await bring(
        api, {"update_id": 5, "poll_answer": {"poll_id": "1", "option_ids": [], "option_persistent_ids": []}}
    )

    assert response.status_code == 200
    assert await noted(clients) == ["5"]


async def test_an_update_is_only_posted(api: httpx.AsyncClient) -> None:
    """There is nothing to be read at the address."""
    assert (await api.get(PATH, headers={SECRET_HEADER: SECRET})).status_code == 405


async def test_an_update_that_comes_twice_is_handled_once(api: httpx.AsyncClient, person: Chat) -> None:
    """Telegram brings an update again when it has not heard our answer."""
    first = await bring(api, update(person))
    second = await bring(api, update(person))

    assert (first.status_code, second.status_code) == (200, 200)
    assert len(read_in(person)) == 1


async def test_an_update_that_comes_to_two_replicas_is_handled_once(
    world: World, told: Settings, clients: Clients, person: Chat
) -> None:
    """What one api process has handled the other does not."""
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(listening(world, told)) for _ in range(2)]
        responses = [await bring(api, update(person)) for api in replicas]

    assert [response.status_code for response in responses] == [200, 200]
    assert len(read_in(person)) == 1


async def test_other_updates_are_others(api: httpx.AsyncClient, person: Chat) -> None:
    """It is the update's id that counts, not what is in it."""
    await bring(api, update(person, update_id=1))
    await bring(api, update(person, update_id=2))

    assert len(read_in(person)) == 2


@asynccontextmanager
async def handling(
    world: World, api: httpx.AsyncClient, content: object
) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """An update that is being handled during the block: its answer hangs, and fails after the block."""
    world.fail(FailureKind.HANG)
    task = asyncio.create_task(bring(api, content))
    await until(lambda: not world.state.failures.pending())
    yield task
    with world.dropping_calls_that_hang():
        await task


async def test_of_two_at_once_one_is_handled(
    api: httpx.AsyncClient, world: World, person: Chat, clients: Clients
) -> None:
    """An update that comes again while it is handled has to wait: then it is known whether it need be handled."""
    async with handling(world, api, update(person)) as first:
        second = await bring(api, update(person))

    assert (first.result().status_code, second.status_code) == (200, 503)
    assert second.headers["Retry-After"] == "1"
    assert read_in(person) == [texts.try_later("en")]
    assert await noted(clients) == ["1001"]


async def test_one_that_is_handled_does_not_hold_up_others(api: httpx.AsyncClient, world: World, person: Chat) -> None:
    """An update that takes long does not keep another from being handled."""
    async with handling(world, api, update(person)):
        other = await bring(api, update(person, update_id=1002))
        answers = read_in(person)

    assert other.status_code == 200
    assert answers == [texts.help_("en")]


async def test_many_at_once_are_handled_once(
    api: httpx.AsyncClient, person: Chat, clients: Clients, cafe: Cafe
) -> None:
    """However often an update comes at the same time, one of them is handled, and the others are answered."""
    responses = await asyncio.gather(*(bring(api, update(person, f"/link {cafe.id}")) for _ in range(8)))

    assert {response.status_code for response in responses} <= {200, 503}
    assert 200 in {response.status_code for response in responses}
    assert read_in(person) == [texts.requested(cafe.name, "en")]


async def test_what_a_process_died_with_is_handled_when_it_comes_again(
    api: httpx.AsyncClient, world: World, person: Chat, clients: Clients
) -> None:
    """A process that dies while it handles an update leaves a claim, and no note: when the claim ends it is handled."""
    async with handling(world, api, update(person)):
        [claim] = await clients.redis.keys("telegram:update:*")
        left_for_s = await clients.redis.ttl(claim)
    async with clients.db() as session:
        await session.execute(sa.delete(Inbox))
    await clients.redis.set(claim, "1")

    too_early = await bring(api, update(person))
    await clients.redis.pexpire(claim, 1)
    async with asyncio.timeout(DEADLINE_S):
        while await clients.redis.exists(claim):
            await asyncio.sleep(POLL_S)
    later = await bring(api, update(person))

    assert 0 < left_for_s <= CLAIM_S
    assert (too_early.status_code, later.status_code) == (503, 200)
    assert read_in(person)[-1] == texts.help_("en")


async def test_no_claim_is_left(api: httpx.AsyncClient, person: Chat, clients: Clients) -> None:
    """An update that was handled leaves nothing in Redis."""
    await bring(api, update(person))

    assert await clients.redis.keys("telegram:update:*") == []


async def test_no_claim_is_left_by_what_failed(world: World, told: Settings, person: Chat, clients: Clients) -> None:
    """While the database is away an update is not taken, and Telegram may bring it again at once."""
    lost = told.model_copy(update={"database_url": SecretStr("postgresql+asyncpg://lunch@127.0.0.1:1/lunch")})
    async with listening(world, lost) as api:
        response = await bring(api, update(person))

    assert response.status_code >= 500
    assert await clients.redis.keys("telegram:update:*") == []


async def test_without_redis_updates_are_handled(
    world: World, told: Settings, person: Chat, clients: Clients, cafe: Cafe
) -> None:
    """While Redis is away the note of what was handled must do."""
    async with listening(world, told.model_copy(update={"redis_url": SecretStr(NOBODY_LISTENS)})) as api:
        first = await bring(api, update(person, f"/link {cafe.id}"))
        second = await bring(api, update(person, f"/link {cafe.id}"))

    assert (first.status_code, second.status_code) == (200, 200)
    assert read_in(person) == [texts.requested(cafe.name, "en")]


@pytest.mark.usefixtures("api")
async def test_telegram_is_told_the_address(world: World) -> None:
    """At its start the process tells Telegram where to bring updates, and the secret to show."""
    registered = world.state.updates.webhook

    assert registered is not None
    assert (registered.url, registered.secret_token) == (URL, SECRET)


@pytest.mark.usefixtures("api")
async def test_telegram_is_told_what_to_bring(world: World) -> None:
    """Only what the bot understands is brought; what it needs is."""
    assert sorted(world.state.updates.allowed) == ["callback_query", "message", "my_chat_member"]


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(("language", "locale"), [(None, "en"), ("ru", "ru")])
async def test_telegram_is_told_the_commands(world: World, language: str | None, locale: str) -> None:
    """The menu of commands is there without a bot process, too."""
    menu = await world.bot.get_my_commands(language_code=language)

    assert {command.command: command.description for command in menu} == texts.command_descriptions(locale)


async def test_telegram_may_be_away_at_the_start(world: World, told: Settings, person: Chat) -> None:
    """The process serves what it can, and registers as soon as Telegram is there."""
    world.fail(FailureKind.BAD_GATEWAY, method="setMyCommands")
    world.fail(FailureKind.RATE_LIMIT, method="setWebhook")

    async with listening(world, told) as api:
        assert (await bring(api, update(person))).status_code == 200


@pytest.mark.usefixtures("clients")
async def test_what_is_written_in_telegram_is_answered(world: World, told: Settings, person: Chat) -> None:
    """From Telegram through a proxy, the process and back."""
    async with serving_api(told) as api:
        await until(lambda: world.state.updates.webhook is not None)
        world.state.updates.set_webhook(Destination(f"{api.address}{PATH}", SECRET))
        world.say(person, "/start")
        await until(lambda: read_in(person))

    assert read_in(person) == [texts.start("en")]


async def test_without_an_address_there_is_no_door(settings: Settings) -> None:
    """Where no webhook is set nothing takes updates."""
    async with calling_api(settings) as api:
        assert (await bring(api, {"update_id": 1})).status_code == 404


@pytest.mark.parametrize("missing", ["telegram_bot_token", "telegram_webhook_secret"])
def test_what_a_webhook_needs_must_be_set(told: Settings, missing: str) -> None:
    """A webhook without a token or a secret is refused before anything starts, in one line that names the setting."""
    with pytest.raises(SettingsError) as refused:
        create_app(told.model_copy(update={missing: None}))

    assert str(refused.value) == f"{missing.upper()}: is not set"


def test_the_bot_process_leaves_it_to_the_webhook(told: Settings) -> None:
    """Of polling and a webhook there can be one: with both set the bot process refuses to run, in one line."""
    with pytest.raises(SettingsError) as refused:
        main.create_app(told)

    [line] = str(refused.value).splitlines()
    assert line.startswith("TELEGRAM_WEBHOOK_URL: ")


async def test_polling_ends_an_old_webhook(world: World, clients: Clients, person: Chat) -> None:
    """An installation that goes back to polling is not kept from it by the address that Telegram still has."""
    await world.bot.set_webhook("https://old.example/updates")
    dispatcher = create_dispatcher()
    task = asyncio.create_task(main.poll(dispatcher, world.bot, clients))
    await until(lambda: world.state.updates.is_polled)

    world.say(person, "/start")
    await until(lambda: read_in(person))
    await dispatcher.stop_polling()
    await task

    assert world.state.updates.webhook is None
