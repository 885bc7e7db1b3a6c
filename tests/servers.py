"""Servers for tests: our own apps and the stand-ins, on real ports, in the event loop of the test."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette

from app.processes.api import create_app
from app.processes.server import server_config
from app.settings import Settings

DEADLINE_S = 30.0
POLL_S = 0.01


@asynccontextmanager
async def serving(app: Starlette, **options: object) -> AsyncIterator[str]:
    """Serve `app` on a free port, as a process does but for uvicorn's `options`, and yield its address."""
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(server_config(app, timeout_graceful_shutdown=1, lifespan="on", **options))
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    task = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started or task.done())
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def until(condition: Callable[[], object], within_s: float = DEADLINE_S) -> None:
    """Wait for `condition`.

    Raises TimeoutError after `within_s` seconds.
    """
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(POLL_S)


@pytest.fixture
async def api(settings: Settings, people: None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the api process's app, without Kafka."""
    async with serving(create_app(settings)) as address, httpx.AsyncClient(base_url=address) as client:
        yield client
