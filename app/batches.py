"""Reads by key that are combined: one query for many that wait."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context


class Batches[Key, Value]:
    """Reads values by key, one batch at a time. The keys that are asked for during a read are the next batch.

    A value is never older than its question, because the read begins after it. A thousand simultaneous questions need
    one connection and a few queries. A single question is one query, as without batches.

    Args:
        read: Returns the values of the keys that exist.
    """

    def __init__(self, read: Callable[[set[Key]], Awaitable[Mapping[Key, Value]]]) -> None:
        self._read = read
        self._waiting: list[tuple[Key, asyncio.Future[Value | None]]] = []
        self._reading: asyncio.Task[None] | None = None

    async def find(self, key: Key) -> Value | None:
        """Return the value of `key`, or None. Raises the error of the read."""
        future: asyncio.Future[Value | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((key, future))
        if self._reading is None:
            # An empty context: what the task logs belongs to no request.
            self._reading = asyncio.create_task(self._read_batches(), context=Context())
        return await future

    async def _read_batches(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                await self._read_batch(batch)
        finally:
            self._reading = None

    async def _read_batch(self, batch: list[tuple[Key, asyncio.Future[Value | None]]]) -> None:
        try:
            found = await self._read({key for key, _ in batch})
        except Exception as error:  # noqa: BLE001 those who wait get it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for key, future in batch:
            if not future.done():  # the one who asked was cancelled
                future.set_result(found.get(key))
