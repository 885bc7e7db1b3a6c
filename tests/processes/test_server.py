"""The server of a process, and the end of a process."""

import asyncio
import os
import signal
import sys
from contextlib import nullcontext

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from app.dev.ports import free_port
from app.processes.server import WEBSOCKET_MAX_BYTES, WebSocketProtocol
from tests.servers import DEADLINE_S, POLL_S, until

pytestmark = pytest.mark.slow

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)

PROGRAM = """
import sys
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from app.processes import health
from app.processes.background import run_background
from app.processes.server import serve
from app.settings import Settings

async def work():
    if sys.argv[1] == "fail":
        raise RuntimeError("it fails")

async def echo(socket):
    await socket.accept()
    while True:
        await socket.send_text(await socket.receive_text())

@asynccontextmanager
async def lifespan(app):
    async with run_background(app, work()):
        yield

sys.exit(serve(Starlette(routes=[*health.routes, WebSocketRoute("/echo", echo)], lifespan=lifespan), Settings(_env_file=None), 0))
"""


async def program(argument: str, port: int, **settings: str) -> asyncio.subprocess.Process:
    """Start a process with one background task."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, argument),
        env={
            **os.environ,
            "DATABASE_URL": "postgresql+asyncpg://nobody@127.0.0.1:1/none",
            "REDIS_URL": "redis://127.0.0.1:1/0",
            "KAFKA_BROKER_URL": "127.0.0.1:1",
            "JWT_SECRET_KEY": "a secret for tests that is long enough",
            "PORT": str(port),
            **settings,
        },
        stderr=asyncio.subprocess.DEVNULL,
    )


async def answers(port: int) -> None:
    """Wait until the process answers."""
    async with asyncio.timeout(DEADLINE_S), httpx.AsyncClient() as client:
        while True:
            try:
                await client.get(f"http://127.0.0.1:{port}/healthz")
            except httpx.TransportError:
                await asyncio.sleep(POLL_S)
            else:
                return


async def test_a_peer_that_does_not_read_is_dropped() -> None:
    """The connection to a stalled reader ends after the keep-alive time-out, together with the task that sends to it."""
    ended = asyncio.Event()

    async def flood(socket: WebSocket) -> None:
        await socket.accept()
        try:
            while True:
                await socket.send_text("x" * 65_536)
        finally:
            ended.set()

    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=[WebSocketRoute("/", flood)]),
            port=free_port(),
            log_config=None,
            ws=WebSocketProtocol,
            ws_ping_interval=0.1,
            ws_ping_timeout=0.1,
        )
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.config.port, limit=1024)
    writer.write(HANDSHAKE)
    await reader.readline()

    async with asyncio.timeout(DEADLINE_S):
        await ended.wait()

    writer.transport.abort()
    server.should_exit = True
    await serving


async def open_idle(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Make a request on a connection that stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"}")
    return reader, writer


async def test_an_idle_connection_stays_open_as_long_as_the_setting_says() -> None:
    """An idle connection to a process with a short HTTP_KEEP_ALIVE is closed first, though it is the younger one."""
    ports = free_port(), free_port()
    processes = [await program("serve", ports[0]), await program("serve", ports[1], HTTP_KEEP_ALIVE="1s")]
    try:
        for port in ports:
            await answers(port)
        older, writer = await open_idle(ports[0])
        younger, other_writer = await open_idle(ports[1])
        async with asyncio.timeout(DEADLINE_S):
            await younger.read()

        assert not older.at_eof()
        for each in (writer, other_writer):
            each.close()
            await each.wait_closed()
    finally:
        for process in processes:
            process.kill()
            await process.wait()


async def test_a_message_has_a_limit() -> None:
    """A message of the maximum size is read; a longer one closes the socket with 1009."""
    port = free_port()
    process = await program("serve", port)
    await answers(port)

    async with asyncio.timeout(DEADLINE_S), connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as socket:
        await socket.send("x" * WEBSOCKET_MAX_BYTES)
        assert len(await socket.recv()) == WEBSOCKET_MAX_BYTES
        await socket.send("x" * (WEBSOCKET_MAX_BYTES + 1))
        await socket.wait_closed()

    assert socket.close_code == 1009
    process.terminate()
    await process.wait()


async def test_sigterm_ends_a_process_with_0() -> None:
    """A process that gets SIGTERM exits with 0."""
    port = free_port()
    process = await program("serve", port)
    await answers(port)

    process.send_signal(signal.SIGTERM)

    assert await process.wait() == 0


async def test_a_process_with_a_failed_task_exits_with_1() -> None:
    """A process without one of its tasks does not continue: a supervisor restarts it."""
    process = await program("fail", free_port())

    assert await process.wait() == 1
