"""The server of a process: one HTTP port, and an orderly shutdown on SIGTERM or Ctrl-C."""

import asyncio
import gc
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, override

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
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


REQUEST_TIMEOUT_S = 10.0
"""How long the headers and the body of a request may take to arrive, or a new connection to send its first one."""

MIN_BYTES_PER_S = 10_000
"""A request may take a second longer for each so many bytes: a body of the maximum size has 110 s on a slow network."""

WRITE_TIMEOUT_S = 20.0
"""A peer that does not read its response for this long is disconnected, like a WebSocket's."""

MAX_HEADER_BYTES = 65_536
"""The names and values of all headers, with the path. Servers commonly allow 8 to 64 KB."""


class HttpProtocol(HttpToolsProtocol):
    """Ends connections that are silent, send too slowly, do not read, or send too many headers.

    The library's protocol has no limit for any of it, so each such connection would cost memory for as long as the peer
    likes.
    """

    request_timeout_s = REQUEST_TIMEOUT_S
    write_timeout_s = WRITE_TIMEOUT_S

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arrival: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._began_at = 0.0
        self._received_bytes = 0
        self._header_bytes = 0
        self._unparsed_bytes = 0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in the library
        super().connection_made(transport)
        self._await_request()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._arrival is None:
            self._await_request()
        self._received_bytes += len(data)
        self._unparsed_bytes += len(data)
        super().data_received(data)
        if self._unparsed_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)  # one header that has not ended yet

    @override
    def on_message_begin(self) -> None:
        self._header_bytes = self._unparsed_bytes = 0
        if self._arrival is None:  # behind another request
            self._await_request()
            self._received_bytes = 1
        super().on_message_begin()

    @override
    def on_url(self, url: bytes) -> None:
        self._count_header(len(url))
        super().on_url(url)

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._unparsed_bytes = 0
        self._count_header(len(name) + len(value))
        super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._unparsed_bytes = 0
        super().on_headers_complete()

    @override
    def on_body(self, body: bytes) -> None:
        self._unparsed_bytes = 0
        super().on_body(body)

    @override
    def on_message_complete(self) -> None:
        self._unparsed_bytes = 0
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None
        super().on_message_complete()

    @override
    def send_400_response(self, msg: str) -> None:
        if self._header_bytes > MAX_HEADER_BYTES:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            super().send_400_response(msg)

    @override
    def handle_websocket_upgrade(self) -> None:
        self._stop_timers()
        super().handle_websocket_upgrade()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        self._await_reading()

    @override
    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
        super().resume_writing()

    def _await_reading(self) -> None:
        """Abort the connection unless the peer reads something in time."""
        unread = self.transport.get_write_buffer_size()

        def check() -> None:
            if self.transport.get_write_buffer_size() < unread:
                self._await_reading()
            else:
                self.transport.abort()

        self._stalled = self.loop.call_later(self.write_timeout_s, check)

    @override
    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection. What the peer has not read by now, it will not read."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    @property
    def _last_cycle(self) -> RequestResponseCycle | None:
        """The newest request with its response. The library's type does not say that there is none at first."""
        return self.cycle

    def _await_request(self) -> None:
        """From now on a request must arrive."""
        self._began_at = self.loop.time()
        self._received_bytes = 0
        self._arrival = self.loop.call_later(self.request_timeout_s, self._check_arrival)

    def _check_arrival(self) -> None:
        """End the connection if the request is too late. While the app does not read, it is not late."""
        left_s = self._began_at + self.request_timeout_s + self._received_bytes / MIN_BYTES_PER_S - self.loop.time()
        cycle = self._last_cycle
        is_answering = cycle is not None and not cycle.response_complete and not cycle.more_body
        if left_s <= 0 and not is_answering and not self.flow.read_paused:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self._arrival = self.loop.call_later(max(left_s, self.request_timeout_s / 10), self._check_arrival)

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > MAX_HEADER_BYTES:
            raise ValueError("too many headers")  # the parser stops, and the library calls `send_400_response`

    def _refuse(self, status: HTTPStatus) -> None:
        """Answer with `status`, unless there was no request or its response has begun, and close the connection."""
        cycle = self._last_cycle
        is_answered = cycle is not None and cycle.response_started and not cycle.response_complete
        if self._received_bytes and not is_answered:
            self.transport.write(_short_response(status))
        if cycle is not None:
            cycle.disconnected = True  # the app does not answer a second time
            cycle.message_event.set()
        self.transport.close()

    def _stop_timers(self) -> None:
        for timer in (self._arrival, self._stalled):
            if timer is not None:
                timer.cancel()


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """Disconnects a peer that does not answer, and refuses a handshake that cannot be read.

    The library's protocol would wait until the peer reads the close frame, and would not answer such a handshake at all.
    """

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated:
            self.transport.write(_short_response(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE))
            self.transport.close()

    @override
    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()


def _short_response(status: HTTPStatus) -> bytes:
    return f"HTTP/1.1 {status} {status.phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


class Server(uvicorn.Server):
    """Exits in order on a signal. The library's server would then raise the signal again."""

    @contextmanager
    @override
    def capture_signals(self) -> Generator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


def server_config(app: Starlette, **changes: Any) -> uvicorn.Config:
    """Make uvicorn's configuration for a process."""
    options: dict[str, Any] = {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "http": HttpProtocol,
        "ws": WebSocketProtocol,
        "ws_per_message_deflate": False,
        "ws_max_size": WEBSOCKET_MAX_BYTES,
        "ws_ping_interval": WEBSOCKET_PING_S,
        "ws_ping_timeout": WEBSOCKET_PING_S,
        "timeout_graceful_shutdown": GRACEFUL_SHUTDOWN_S,
    }
    return uvicorn.Config(app, **options | changes)


def _raise_file_limit() -> None:
    """Open as many sockets as the system allows: many systems begin with a limit of 1,024 files."""
    with suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 (not on Windows)

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


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
    _raise_file_limit()
    config = server_config(
        app, host=settings.host, port=port, timeout_keep_alive=round(settings.http_keep_alive.total_seconds())
    )
    server = Server(config)
    gc.collect()
    gc.freeze()  # otherwise each full collection walks all modules as well: about 250 ms at a stretch
    log.info("process.listening", address=f"{settings.host}:{port}")
    server.run(sockets=[listener])
    log.info("process.ended")
    return 0 if server.started and not getattr(app.state, "failed", False) else 1
