"""Injected failures, and Telegram's rate limits."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiogram.exceptions import (
    ClientDecodeError,
    TelegramAPIError,
    TelegramBadRequest,
    TelegramForbiddenError,
    TelegramMigrateToChat,
    TelegramNetworkError,
    TelegramRetryAfter,
    TelegramServerError,
)

from app.dev.telegram import create_telegram
from tests.dev.telegram.conftest import World, running_world


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
async def test_failure_raises_the_exception_of_aiogram(
    world: World, group: int, kind: str, details: dict[str, Any], raised: type[Exception]
) -> None:
    """Each kind of failure raises the same exception as the real service."""
    await world.add_failure(kind, chat_id=group, **details)

    with pytest.raises(raised) as failure:
        await world.bot.send_message(group, "soup")

    assert type(failure.value) is raised


async def test_hanging_call_times_out(world: World, person: int) -> None:
    """A call that hangs ends with the client's time-out."""
    await world.add_failure("hang")

    with pytest.raises(TelegramNetworkError, match="timeout"):
        await world.bot.send_message(person, "soup", request_timeout=1)


@pytest.mark.parametrize(("kind", "stored"), [("drop_before", 0), ("drop_after", 1)])
async def test_drop_leaves_the_outcome_unknown(world: World, person: int, kind: str, stored: int) -> None:
    """A connection breaks before or after the message is stored, depending on the kind of failure."""
    await world.add_failure(kind)
    with pytest.raises(TelegramNetworkError):
        await world.bot.send_message(person, "soup")

    assert len(await world.list_messages(person)) == stored


async def test_migrated_group_accepts_messages(world: World) -> None:
    """The supergroup that the migration error names accepts messages."""
    group = await world.create_chat(type="group")
    await world.add_failure("migrate", migrate_to_chat_id=-1_002_000_000_007)
    with pytest.raises(TelegramMigrateToChat) as moved:
        await world.bot.send_message(group, "soup")

    assert (await world.bot.send_message(moved.value.migrate_to_chat_id, "soup")).chat.type == "supergroup"


async def test_failure_ends_after_its_number_of_calls(world: World, person: int) -> None:
    """A failure for two calls does not affect the third."""
    await world.add_failure("server_error", times=2)
    for _ in range(2):
        with pytest.raises(TelegramServerError):
            await world.bot.send_message(person, "soup")

    assert (await world.bot.send_message(person, "soup")).text == "soup"


async def test_unlimited_failure_ends_when_deleted(world: World, person: int) -> None:
    """A failure without a number of calls lasts until the failures are deleted."""
    await world.add_failure("server_error", times=None)
    with pytest.raises(TelegramServerError):
        await world.bot.send_message(person, "soup")
    await world.control.delete("/failures")

    assert (await world.bot.send_message(person, "soup")).text == "soup"


async def test_failure_of_one_chat_does_not_affect_others(world: World, person: int, group: int) -> None:
    """A failure for one chat does not affect other chats."""
    await world.add_failure("blocked", chat_id=person)

    assert (await world.bot.send_message(group, "soup")).text == "soup"


@pytest.fixture
def clock() -> list[float]:
    return [1000.0]


@pytest.fixture
async def limited_world(clock: list[float]) -> AsyncIterator[World]:
    async with running_world(create_telegram(limits=True, clock=lambda: clock[0])) as world:
        yield world


async def test_thirty_first_message_of_a_second_is_refused(limited_world: World) -> None:
    """Over all chats, 30 messages a second are accepted; the next is refused with the time to wait."""
    chats = [await limited_world.create_chat() for _ in range(31)]
    for chat in chats[:30]:
        await limited_world.bot.send_message(chat, "soup")

    with pytest.raises(TelegramRetryAfter) as refusal:
        await limited_world.bot.send_message(chats[30], "soup")

    assert refusal.value.retry_after == 1


async def test_second_message_to_a_chat_has_to_wait(limited_world: World, clock: list[float]) -> None:
    """A chat accepts one message a second."""
    chat = await limited_world.create_chat()
    await limited_world.bot.send_message(chat, "soup")
    with pytest.raises(TelegramRetryAfter):
        await limited_world.bot.send_message(chat, "salad")
    clock[0] += 1

    assert (await limited_world.bot.send_message(chat, "salad")).text == "salad"


async def test_twenty_first_message_of_a_minute_to_a_group_is_refused(limited_world: World, clock: list[float]) -> None:
    """A group accepts 20 messages a minute; the wait lasts until the first of them is a minute old."""
    group = await limited_world.create_chat(type="group")
    for _ in range(20):
        await limited_world.bot.send_message(group, "soup")
        clock[0] += 2

    with pytest.raises(TelegramRetryAfter) as refusal:
        await limited_world.bot.send_message(group, "soup")

    assert refusal.value.retry_after == 20
