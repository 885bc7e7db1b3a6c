"""Updates by webhook: Telegram posts them to the api process."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import select

from app.bot.polling import Polling
from app.bot.webhook import CONSUMER, LOCK_S, SECRET_HEADER
from app.clients import Clients
from app.dev.telegram.chats import Chat
from app.dev.telegram.faults import FailureKind
from app.dev.telegram.updates import Webhook as WebhookAddress
from app.models import Cafe, Inbox, LinkRequest
from app.processes import bot
from app.processes.api import create_app
from app.settings import Settings, SettingsError
from app.telegram import texts
from tests.apis import calling_api, serving_api
from tests.bot.running import stop_polling
from tests.servers import DEADLINE_S, POLL_S, until
from tests.telegram_standin import TOKEN, World, read_in

PATH = "/telegram/updates"
URL = f"https://lunch-bot.example{PATH}"
SECRET = "the-secret_of-the-webhook"

REDIS_UNAVAILABLE = "redis://127.0.0.1:1"


@pytest.fixture
def webhook_settings(settings: Settings, world: World) -> Settings:
    """Settings of an installation with a webhook."""
    return settings.model_copy(
        update={
            "telegram_bot_token": SecretStr(TOKEN),
            "telegram_api_url": world.address,
            "telegram_webhook_url": URL,
            "telegram_webhook_secret": SecretStr(SECRET),
        }
    )


@asynccontextmanager
async def registered_api(world: World, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Run the api process until the block ends, with its address known to Telegram. The tests send the updates instead of the stand-in."""
    async with calling_api(settings) as api:
        await until(lambda: world.state.updates.webhook is not None)
        yield api


@pytest.fixture
async def api(world: World, webhook_settings: Settings, clients: Clients) -> AsyncIterator[httpx.AsyncClient]:
    """The api process with a webhook."""
    async with registered_api(world, webhook_settings) as client:
        yield client


def make_update(chat: Chat, text: str = "/help", update_id: int = 1001) -> dict[str, Any]:
    """Make Telegram's update for a message in a private chat."""
    assert chat.person is not None
    message = {"message_id": 1, "date": 1_790_000_000, "chat": chat.as_chat(), "from": chat.person.as_user()}
    command = {"type": "bot_command", "offset": 0, "length": len(text.split(maxsplit=1)[0])}
    return {"update_id": update_id, "message": message | {"text": text, "entities": [command]}}


async def post_update(api: httpx.AsyncClient, content: object, secret: str | None = SECRET) -> httpx.Response:
    """Post an update, as Telegram does."""
    return await api.post(PATH, json=content, headers={} if secret is None else {SECRET_HEADER: secret})


async def handled_updates(clients: Clients) -> list[str]:
    """Return the ids of the handled updates."""
    async with clients.db() as session:
        return list(await session.scalars(select(Inbox.event_id).where(Inbox.consumer == CONSUMER)))


async def test_an_update_is_handled(api: httpx.AsyncClient, private_chat: Chat) -> None:
    """A message is answered, and Telegram need not repeat the update."""
    response = await post_update(api, make_update(private_chat))

    assert response.status_code == 200
    assert read_in(private_chat) == [texts.help_("en")]


async def test_a_command_calls_its_operation(
    api: httpx.AsyncClient, world: World, private_chat: Chat, clients: Clients, cafe: Cafe
) -> None:
    """A command by webhook has the same effect as by polling."""
    await post_update(api, make_update(private_chat, f"/link {cafe.id}"))

    async with clients.db() as session:
        assert (await session.scalars(select(LinkRequest.tg_chat_id))).all() == [private_chat.id]


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET[:-1], SECRET + "x", SECRET.upper(), "ü"])
async def test_a_wrong_secret_is_refused(
    api: httpx.AsyncClient, private_chat: Chat, clients: Clients, secret: str | None
) -> None:
    """An update without the right secret is refused and not read."""
    headers = {} if secret is None else {SECRET_HEADER.encode(): secret.encode("latin-1")}

    response = await api.post(PATH, json=make_update(private_chat), headers=headers)

    assert (response.status_code, response.content) == (403, b"")
    assert read_in(private_chat) == []
    assert await handled_updates(clients) == []


@pytest.mark.parametrize("body", [b"", b"soup", b"[]", b"{}", b'{"update_id": "soup"}', b"\xff\xfe", b"null"])
async def test_an_unreadable_body_is_a_bad_request(api: httpx.AsyncClient, body: bytes) -> None:
    """A body that is not an update is a bad request."""
    response = await api.post(PATH, content=body, headers={SECRET_HEADER: SECRET})

    assert response.status_code == 400


UNREADABLE: dict[str, Any] = {
    "unreadable": {"message": {"text": "soup"}},
    "half a character": {"message": {"text": "\ud83c"}},
    "unknown type": {"thought_of_you": {"text": "soup"}},
    "no type": {},
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE)
async def test_an_update_that_cannot_be_read_is_accepted(
    api: httpx.AsyncClient, private_chat: Chat, content: dict[str, Any]
) -> None:
    """An update that aiogram cannot read is accepted, because Telegram would repeat it before the next ones of its chat."""
    body = json.dumps({"update_id": 7} | content)
    response = await api.post(PATH, content=body, headers={SECRET_HEADER: SECRET})
    await post_update(api, make_update(private_chat))

    assert (response.status_code, response.content) == (200, b"")
    assert read_in(private_chat) == [texts.help_("en")]


async def test_an_update_whose_handler_always_fails_is_accepted(
    api: httpx.AsyncClient, private_chat: Chat, clients: Clients
) -> None:
    """An update that fails for its own reason is answered in the chat, and Telegram does not repeat it."""
    async with clients.db() as session:
        await session.execute(sa.text("DROP TABLE cafes CASCADE"))

    response = await post_update(api, make_update(private_chat, "/status"))

    assert response.status_code == 200
    assert read_in(private_chat) == [texts.try_later("en")]
    assert await handled_updates(clients) == ["1001"]


async def test_the_secret_is_checked_before_the_body(api: httpx.AsyncClient) -> None:
    """Without the secret a caller does not learn whether a body is readable."""
    assert (await api.post(PATH, content=b"soup")).status_code == 403


async def test_an_update_of_another_kind_is_accepted(api: httpx.AsyncClient, clients: Clients) -> None:
    """An update that the bot does not handle is accepted, because Telegram would repeat it."""
    response = await post_update(
        api, {"update_id": 5, "poll_answer": {"poll_id": "1", "option_ids": [], "option_persistent_ids": []}}
    )

    assert response.status_code == 200
    assert await handled_updates(clients) == ["5"]


async def test_only_post_is_allowed(api: httpx.AsyncClient) -> None:
    """The address does not answer GET."""
    assert (await api.get(PATH, headers={SECRET_HEADER: SECRET})).status_code == 405


async def test_an_update_that_comes_twice_is_handled_once(api: httpx.AsyncClient, private_chat: Chat) -> None:
    """An update that Telegram repeats is handled once."""
    first = await post_update(api, make_update(private_chat))
    second = await post_update(api, make_update(private_chat))

    assert (first.status_code, second.status_code) == (200, 200)
    assert len(read_in(private_chat)) == 1


async def test_an_update_that_comes_to_two_replicas_is_handled_once(
    world: World, webhook_settings: Settings, clients: Clients, private_chat: Chat
) -> None:
    """A replica does not handle an update that another replica has handled."""
    async with AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(registered_api(world, webhook_settings)) for _ in range(2)]
        responses = [await post_update(api, make_update(private_chat)) for api in replicas]

    assert [response.status_code for response in responses] == [200, 200]
    assert len(read_in(private_chat)) == 1


async def test_updates_with_different_ids_are_handled_separately(api: httpx.AsyncClient, private_chat: Chat) -> None:
    """Two updates with the same content and different ids are two updates."""
    await post_update(api, make_update(private_chat, update_id=1))
    await post_update(api, make_update(private_chat, update_id=2))

    assert len(read_in(private_chat)) == 2


@asynccontextmanager
async def handling_update(
    world: World, api: httpx.AsyncClient, content: object
) -> AsyncIterator[asyncio.Task[httpx.Response]]:
    """Handle an update during the block: the bot's answer hangs, and fails after the block."""
    world.fail(FailureKind.HANG)
    task = asyncio.create_task(post_update(api, content))
    await until(lambda: not world.state.failures.pending())
    yield task
    with world.dropping_calls_that_hang():
        await task


async def test_of_two_simultaneous_deliveries_one_is_handled(
    api: httpx.AsyncClient, world: World, private_chat: Chat, clients: Clients
) -> None:
    """An update that comes again while it is handled is refused, and Telegram repeats it later."""
    async with handling_update(world, api, make_update(private_chat)) as first:
        second = await post_update(api, make_update(private_chat))

    assert (first.result().status_code, second.status_code) == (200, 503)
    assert second.headers["Retry-After"] == "1"
    assert read_in(private_chat) == [texts.try_later("en")]
    assert await handled_updates(clients) == ["1001"]


async def test_a_slow_update_does_not_delay_other_chats(
    api: httpx.AsyncClient, world: World, private_chat: Chat
) -> None:
    """An update of another chat is handled while one takes long."""
    other_chat = world.person()
    async with handling_update(world, api, make_update(private_chat)):
        other = await post_update(api, make_update(other_chat, update_id=1002))
        answers = read_in(other_chat)

    assert other.status_code == 200
    assert answers == [texts.help_("en")]


async def test_a_chat_is_answered_in_order(api: httpx.AsyncClient, world: World, private_chat: Chat) -> None:
    """An update waits for the earlier one of its chat."""
    other_chat = world.person()
    async with handling_update(world, api, make_update(private_chat)) as first:
        second = asyncio.create_task(post_update(api, make_update(private_chat, "/status", update_id=1002)))
        await post_update(api, make_update(other_chat, update_id=1003))
        before = read_in(private_chat)
    await second

    assert before == []
    assert (first.result().status_code, second.result().status_code) == (200, 200)
    assert read_in(private_chat) == [texts.try_later("en"), texts.status_none("en")]


async def test_simultaneous_deliveries_are_handled_once(
    api: httpx.AsyncClient, private_chat: Chat, clients: Clients, cafe: Cafe
) -> None:
    """Of many simultaneous deliveries of an update one is handled, and all get an answer."""
    responses = await asyncio.gather(
        *(post_update(api, make_update(private_chat, f"/link {cafe.id}")) for _ in range(8))
    )

    assert {response.status_code for response in responses} <= {200, 503}
    assert 200 in {response.status_code for response in responses}
    assert read_in(private_chat) == [texts.link_requested(cafe.name, "en")]


async def test_an_update_of_a_dead_process_is_handled_later(
    api: httpx.AsyncClient, world: World, private_chat: Chat, clients: Clients
) -> None:
    """A process that dies leaves a lock but no inbox row: when the lock expires, the update is handled."""
    async with handling_update(world, api, make_update(private_chat)):
        [lock] = await clients.redis.keys("telegram:update:*")
        expires_in_s = await clients.redis.ttl(lock)
    async with clients.db() as session:
        await session.execute(sa.delete(Inbox))
    await clients.redis.set(lock, "1")

    early = await post_update(api, make_update(private_chat))
    await clients.redis.pexpire(lock, 1)
    async with asyncio.timeout(DEADLINE_S):
        while await clients.redis.exists(lock):
            await asyncio.sleep(POLL_S)
    later = await post_update(api, make_update(private_chat))

    assert 0 < expires_in_s <= LOCK_S
    assert (early.status_code, later.status_code) == (503, 200)
    assert read_in(private_chat)[-1] == texts.help_("en")


async def test_a_lock_is_released_by_its_owner_only(
    api: httpx.AsyncClient, world: World, private_chat: Chat, clients: Clients
) -> None:
    """A process whose lock has expired does not release the lock that another process holds since."""
    async with handling_update(world, api, make_update(private_chat)) as first:
        [lock] = await clients.redis.keys("telegram:update:*")
        await clients.redis.set(lock, "another process", ex=LOCK_S)

    assert first.result().status_code == 200
    assert await clients.redis.get(lock) in {"another process", b"another process"}


async def test_no_lock_stays_after_an_update(api: httpx.AsyncClient, private_chat: Chat, clients: Clients) -> None:
    """A handled update leaves nothing in Redis."""
    await post_update(api, make_update(private_chat))

    assert await clients.redis.keys("telegram:update:*") == []


async def test_no_lock_stays_after_an_outage(
    world: World, webhook_settings: Settings, private_chat: Chat, clients: Clients
) -> None:
    """While the database is unavailable an update is not accepted, and Telegram may repeat it immediately."""
    broken = webhook_settings.model_copy(
        update={"database_url": SecretStr("postgresql+asyncpg://lunch@127.0.0.1:1/lunch")}
    )
    async with registered_api(world, broken) as api:
        response = await post_update(api, make_update(private_chat))

    assert response.status_code >= 500
    assert await clients.redis.keys("telegram:update:*") == []


async def test_without_redis_updates_are_handled(
    world: World, webhook_settings: Settings, private_chat: Chat, clients: Clients, cafe: Cafe
) -> None:
    """While Redis is unavailable the inbox still deduplicates updates."""
    async with registered_api(
        world, webhook_settings.model_copy(update={"redis_url": SecretStr(REDIS_UNAVAILABLE)})
    ) as api:
        first = await post_update(api, make_update(private_chat, f"/link {cafe.id}"))
        second = await post_update(api, make_update(private_chat, f"/link {cafe.id}"))

    assert (first.status_code, second.status_code) == (200, 200)
    assert read_in(private_chat) == [texts.link_requested(cafe.name, "en")]


@pytest.mark.usefixtures("api")
async def test_the_address_is_registered(world: World) -> None:
    """At its start the process registers its address and its secret with Telegram."""
    registered = world.state.updates.webhook

    assert registered is not None
    assert (registered.url, registered.secret_token) == (URL, SECRET)


@pytest.mark.usefixtures("api")
async def test_only_handled_kinds_of_updates_are_registered(world: World) -> None:
    """The process registers exactly the kinds of updates that the bot handles."""
    assert sorted(world.state.updates.allowed) == ["callback_query", "message", "my_chat_member"]


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize(("language", "locale"), [(None, "en"), ("ru", "ru")])
async def test_the_commands_are_registered(world: World, language: str | None, locale: str) -> None:
    """The menu of commands exists without a bot process, too."""
    menu = await world.bot.get_my_commands(language_code=language)

    assert {command.command: command.description for command in menu} == texts.command_descriptions(locale)


async def test_telegram_may_be_unavailable_at_the_start(
    world: World, webhook_settings: Settings, private_chat: Chat
) -> None:
    """The process serves, and registers its address as soon as Telegram is available."""
    world.fail(FailureKind.BAD_GATEWAY, method="setMyCommands")
    world.fail(FailureKind.RATE_LIMIT, method="setWebhook")

    async with registered_api(world, webhook_settings) as api:
        assert (await post_update(api, make_update(private_chat))).status_code == 200


@pytest.mark.usefixtures("clients")
async def test_a_message_in_telegram_is_answered(world: World, webhook_settings: Settings, private_chat: Chat) -> None:
    """A message goes from Telegram to the process, and the answer comes back."""
    async with serving_api(webhook_settings) as api:
        await until(lambda: world.state.updates.webhook is not None)
        world.state.updates.set_webhook(WebhookAddress(f"{api.address}{PATH}", SECRET))
        world.say(private_chat, "/start")
        await until(lambda: read_in(private_chat))

    assert read_in(private_chat) == [texts.start("en")]


async def test_without_a_webhook_there_is_no_route(settings: Settings) -> None:
    """Without a webhook address in the settings the api process accepts no updates."""
    async with calling_api(settings) as api:
        assert (await post_update(api, {"update_id": 1})).status_code == 404


@pytest.mark.parametrize("missing", ["telegram_bot_token", "telegram_webhook_secret"])
def test_a_webhook_needs_a_token_and_a_secret(webhook_settings: Settings, missing: str) -> None:
    """A webhook without a token or a secret is refused before the start, in one line that names the setting."""
    with pytest.raises(SettingsError) as raised:
        create_app(webhook_settings.model_copy(update={missing: None}))

    assert str(raised.value) == f"{missing.upper()}: is not set"


def test_the_bot_process_refuses_to_run_beside_a_webhook(webhook_settings: Settings) -> None:
    """Polling and a webhook exclude each other: with a webhook the bot process refuses to start, in one line."""
    with pytest.raises(SettingsError) as raised:
        bot.create_app(webhook_settings)

    [line] = str(raised.value).splitlines()
    assert line.startswith("TELEGRAM_WEBHOOK_URL: ")


async def test_polling_ends_an_old_webhook(world: World, clients: Clients, private_chat: Chat) -> None:
    """A bot that polls deletes the webhook address that Telegram still has."""
    await world.bot.set_webhook("https://old.example/updates")
    task = asyncio.create_task(Polling(world.bot, clients).run())
    await until(lambda: world.state.updates.is_polled)

    world.say(private_chat, "/start")
    await until(lambda: read_in(private_chat))
    await stop_polling(task)

    assert world.state.updates.webhook is None
