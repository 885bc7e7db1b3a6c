"""Reads that are combined."""

import asyncio

import pytest

from app.batches import Batches


class Store:
    """Values by key, and the reads of them. A read waits until it may end."""

    def __init__(self, **values: int) -> None:
        self.values = values
        self.reads: list[set[str]] = []
        self.may_end = asyncio.Event()
        self.batches = Batches(self.read)

    async def read(self, keys: set[str]) -> dict[str, int]:
        self.reads.append(keys)
        found = {key: self.values[key] for key in keys if key in self.values}
        await self.may_end.wait()
        if "broken" in keys:
            raise ConnectionError("the store is unavailable")
        return found

    async def asked(self, *keys: str) -> list[asyncio.Task[int | None]]:
        """Ask for keys, and wait until the questions have been put."""
        tasks = [asyncio.create_task(self.batches.find(key)) for key in keys]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks


async def test_questions_during_a_read_share_the_next_one() -> None:
    """However many ask during a read, there is one more read, of each key once."""
    store = Store(a=1, b=2)
    first = await store.asked("a")
    others = await store.asked("b", "c", "b", "a")

    store.may_end.set()

    assert await asyncio.gather(*first, *others) == [1, 2, None, 2, 1]
    assert store.reads == [{"a"}, {"a", "b", "c"}]


async def test_a_value_is_not_older_than_its_question() -> None:
    """A question during a read is answered by a later read: it sees what has changed meanwhile."""
    store = Store(a=1)
    first = await store.asked("a")
    store.values["a"] = 2
    second = await store.asked("a")

    store.may_end.set()

    assert await asyncio.gather(*first, *second) == [1, 2]


async def test_a_failed_read_fails_its_questions_only() -> None:
    """All who share a failed read get its error, and the next read works."""
    store = Store(a=1)
    first = await store.asked("broken")
    second = await store.asked("a")

    store.may_end.set()

    with pytest.raises(ConnectionError):
        await first[0]
    assert await second[0] == 1


async def test_a_cancelled_question_leaves_the_others() -> None:
    """If one who asks gives up, the others of the same read get their values."""
    store = Store(a=1, b=2)
    first, second = await store.asked("a", "b")

    first.cancel()
    store.may_end.set()

    assert await second == 2
    assert first.cancelled()
