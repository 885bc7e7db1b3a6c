"""The server of a process: one HTTP port, and an orderly shutdown on SIGTERM or Ctrl-C."""

import gc
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import override

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from app.log import get_log
from app.settings import Settings, SettingsError

log = get_log(__name__)

GRACEFUL_SHUTDOWN_S = 20
"""Requests in progress get this long. With the clean-up after them, a process exits within 30 s of SIGTERM."""

WEBSOCKET_MAX_BYTES = 65_536
"""A longer message closes the socket with 1009. A document has up to 20,000 characters."""

WEBSOCKET_PING_S = 20.0
"""A peer that does not answer a ping for the same time is disconnected."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Disconnects a peer that does not answer. The library's protocol would wait until the peer reads the close frame."""

    @override
    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()


class Server(uvicorn.Server):
    """Exits in order on a signal. The library's server would then raise the signal again."""

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
            timeout_keep_alive=round(settings.http_keep_alive.total_seconds()),
        )
    )
    gc.collect()
    gc.freeze()  # otherwise each full collection walks all modules as well: about 250 ms at a stretch
    log.info("process.listening", address=f"{settings.host}:{port}")
    server.run(sockets=[listener])
    log.info("process.ended")
    return 0 if server.started and not getattr(app.state, "failed", False) else 1
