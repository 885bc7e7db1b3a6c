"""Background tasks of a process, and the lifespan that all processes share."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette

from app.clients import Clients, open_clients
from app.log import get_log
from app.settings import Settings

log = get_log(__name__)


@dataclass(frozen=True)
class Parts:
    """The parts of a process.

    Args:
        tasks: Run in the background.
        state: What requests find in their state beside `clients`.
        stop: Stops the parts in order, before the tasks are cancelled.
    """

    tasks: Sequence[Coroutine[Any, Any, None]]
    state: Mapping[str, Any] = field(default_factory=dict)
    stop: Callable[[], Awaitable[object]] | None = None


def lifespan(
    settings: Settings, start: Callable[[Clients, AsyncExitStack], Awaitable[Parts]]
) -> Callable[[Starlette], AbstractAsyncContextManager[Mapping[str, Any]]]:
    """Make the lifespan of a process: open the clients, start its parts, run its tasks in the background.

    Args:
        start: Starts the parts. What must be closed after the tasks goes on the stack.
    """

    @asynccontextmanager
    async def run(app: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        async with AsyncExitStack() as stack:
            clients = await stack.enter_async_context(open_clients(settings))
            parts = await start(clients, stack)
            async with run_background(app, *parts.tasks):
                yield {"clients": clients, **parts.state}
                if parts.stop is not None:
                    await parts.stop()

    return run


@asynccontextmanager
async def run_background(app: Starlette, *coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `coroutines` during the block, at most as long as it. If one of them fails, the process exits with an error.

    A supervisor restarts the process. That is simpler than a process with a missing part.
    """

    def exit_on_failure(task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        log.critical("task.failed", task=str(task.get_coro()), exc_info=task.exception())
        app.state.failed = True
        signal.raise_signal(signal.SIGTERM)

    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(exit_on_failure)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
