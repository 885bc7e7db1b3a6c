"""Turns of chats."""

import asyncio

import pytest

from app.bot.turns import ChatTurns, TooManyWaiting, TurnTimeout
from tests.servers import until

CHATS = range(1, 6)


class Work:
    """Work that goes on until it may end, and the chats that are at it."""

    def __init__(self, turns: ChatTurns) -> None:
        self.turns = turns
        self.at_work: list[int] = []
        self.may_end = asyncio.Event()

    async def do(self, chat_id: int) -> None:
        async with self.turns.take(chat_id):
            self.at_work.append(chat_id)
            await self.may_end.wait()


async def test_a_flood_takes_one_place() -> None:
    """A chat with much work takes one of the places, and the other chats get the rest."""
    work = Work(ChatTurns(concurrency=3, max_waiting=10))
    tasks = [asyncio.create_task(work.do(chat_id)) for chat_id in (1, 1, 1, 1, 2, 3)]

    await until(lambda: len(work.at_work) == 3)
    at_work = list(work.at_work)
    work.may_end.set()
    await asyncio.gather(*tasks)

    assert at_work == [1, 2, 3]


async def test_the_places_are_limited() -> None:
    """No more chats are at work than there are places."""
    work = Work(ChatTurns(concurrency=3, max_waiting=10))
    tasks = [asyncio.create_task(work.do(chat_id)) for chat_id in CHATS]

    await until(lambda: len(work.at_work) == 3)
    with pytest.raises(TurnTimeout):
        async with work.turns.take(9, patience_s=0.01):
            pass
    work.may_end.set()
    await asyncio.gather(*tasks)

    assert sorted(work.at_work) == list(CHATS)


async def test_a_turn_that_does_not_come_is_given_up() -> None:
    """Work that waits too long for its chat gets no turn, and the turns after it come all the same."""
    work = Work(ChatTurns(concurrency=3, max_waiting=10))
    first = asyncio.create_task(work.do(1))
    await until(lambda: work.at_work)
    with pytest.raises(TurnTimeout):
        async with work.turns.take(1, patience_s=0.01):
            pass
    third = asyncio.create_task(work.do(1))
    work.may_end.set()
    await asyncio.gather(first, third)

    assert work.at_work == [1, 1]


async def test_the_waiting_work_of_a_chat_is_limited() -> None:
    """A chat that is full is refused, while others are not, and is accepted again afterwards."""
    work = Work(ChatTurns(concurrency=3, max_waiting=2))
    tasks = [asyncio.create_task(work.do(1)) for _ in range(3)]
    await until(lambda: work.at_work)
    other = asyncio.create_task(work.do(2))
    await until(lambda: 2 in work.at_work)
    work.may_end.set()
    results = await asyncio.gather(*tasks, other, return_exceptions=True)
    await work.do(1)

    assert [type(result) for result in results] == [type(None), type(None), TooManyWaiting, type(None)]


async def test_chats_without_work_take_no_memory() -> None:
    """Nothing is kept about a chat whose work is done, has failed, or was cancelled."""
    turns = ChatTurns(concurrency=2, max_waiting=1)
    work = Work(turns)
    cancelled = asyncio.create_task(work.do(1))
    await until(lambda: work.at_work)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    with pytest.raises(LookupError):
        async with turns.take(2):
            raise LookupError

    assert turns._lines == {}
