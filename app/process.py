"""How a process runs: one HTTP port, tasks beside it that must not end, and an orderly end on SIGTERM or Ctrl-C."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, override

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.log import get_log
from app.settings import Settings, SettingsError

log = get_log(__name__)

GRACEFUL_SHUTDOWN_S = 20
"""Requests in hand get this long; with the clean-up after them a process ends within 30 s of SIGTERM."""

WEBSOCKET_MAX_BYTES = 1_000_000
"""As much as a body over HTTP may have: a message carries the same documents."""

WEBSOCKET_PING_S = 20.0
"""A peer that has not answered a ping for as long again is gone."""


@asynccontextmanager
async def beside(app: Starlette, *coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run `coroutines` beside the block, at most as long as it. If one of them fails, the process ends, and not with 0.

    Whatever supervises us starts it anew: that is simpler than to go on with half a process.
    """

    def end_if_failed(task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        log.critical("task.failed", task=str(task.get_coro()), exc_info=task.exception())
        app.state.failed = True
        signal.raise_signal(signal.SIGTERM)

    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    for task in tasks:
        task.add_done_callback(end_if_failed)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Drops a peer that does not answer; the stock protocol waits for one who does not read to read its farewell."""

    @override
    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()


class Server(uvicorn.Server):
    """Ends in order on a signal, and leaves it at that; the stock server then dies of the signal all the same."""

    @contextmanager
    @override
    def capture_signals(self) -> Generator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def serve(app: Starlette, settings: Settings, default_port: int) -> int:
    """Serve `app` until SIGTERM or SIGINT, and return the exit status.

    Raises SettingsError if the port is taken.
    """
    port = settings.port or default_port
    listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET, proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"PORT: cannot listen on {settings.host}:{port}: {error.strerror}") from None
    server = Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=port,
            log_config=None,
            access_log=False,
            server_header=False,
            ws=WebSocketProtocol,
            ws_per_message_deflate=False,
            ws_max_size=WEBSOCKET_MAX_BYTES,
            ws_ping_interval=WEBSOCKET_PING_S,
            ws_ping_timeout=WEBSOCKET_PING_S,
            timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
        )
    )
    log.info("process.listening", address=f"{settings.host}:{port}")
    server.run(sockets=[listener])
    log.info("process.ended")
    return 0 if server.started and not getattr(app.state, "failed", False) else 1
