"""What a stranger's connection may cost: silent, slow, greedy and broken connections, over raw sockets."""

import asyncio
import json
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed, InvalidStatus

from app.events.types import LinkRequestEvent
from app.processes.api import create_app
from app.processes.server import MAX_HEADER_BYTES, HttpProtocol
from app.settings import Settings
from tests.apis import INIT, Served, connected, serving_api, signed_in
from tests.servers import DEADLINE_S, serving, until

pytestmark = pytest.mark.slow

HEAD = b"POST /api/v1/cafe-requests/1/reject HTTP/1.1\r\nHost: lunch\r\nContent-Type: application/json\r\n"
UPDATES = "subscription { linkRequestUpdates { id } }"
RESET = struct.pack("ii", 1, 0)


class Impatient(HttpProtocol):
    """Waits for a moment, so that tests are fast."""

    request_timeout_s = 0.2
    write_timeout_s = 0.2


class Raw:
    """A raw connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until_closed(self) -> bytes:
        """Return all that the server sends until it closes the connection."""
        received = b""
        async with asyncio.timeout(DEADLINE_S):
            try:
                while data := await self.reader.read(65_536):
                    received += data
            except ConnectionError:
                pass
        return received

    async def status(self) -> int:
        """Return the status of the next response."""
        async with asyncio.timeout(DEADLINE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return int(head.split(maxsplit=2)[1])

    def reset(self) -> None:
        """End the connection as a crashed peer does."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()


@asynccontextmanager
async def raw(address: str, **options: int) -> AsyncIterator[Raw]:
    """Open a raw connection to a server."""
    parts = urlsplit(address)
    assert parts.hostname
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, **options)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture
async def impatient(settings: Settings, people: None) -> AsyncIterator[str]:
    """The address of the api process's app with short time limits."""
    async with serving_api(settings, http=Impatient) as served:
        yield served.address


async def test_a_silent_connection_is_closed(impatient: str) -> None:
    """A connection without a request is closed without an answer."""
    async with raw(impatient) as connection:
        assert await connection.until_closed() == b""


@pytest.mark.parametrize(
    "part",
    [
        b"P",
        b"\r\n",
        HEAD,
        HEAD + b"X-Lunch: sou",
        HEAD + b"Content-Length: 100\r\n\r\n",
        HEAD + b'Content-Length: 100\r\n\r\n{"reason": ',
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhe",
        b"POST /graphql HTTP/1.1\r\nHost: lunch\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
        b"POST /telegram/nowhere HTTP/1.1\r\nHost: lunch\r\nContent-Le",
    ],
)
async def test_a_half_request_is_refused(impatient: str, part: bytes) -> None:
    """A request whose headers or body do not arrive gets 408, and its connection is closed."""
    async with raw(impatient) as connection:
        connection.send(part)

        assert (await connection.until_closed()).startswith(b"HTTP/1.1 408 Request Timeout\r\n")


async def test_a_half_request_behind_another_is_refused(impatient: str) -> None:
    """The limit is the same for each request of a connection."""
    async with raw(impatient) as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: lunch\r\n\r\n" + HEAD)

        received = await connection.until_closed()

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"HTTP/1.1 408 Request Timeout" in received


@pytest.mark.parametrize("head", [b"", HEAD, HEAD + b"Content-Length: 1000000\r\n\r\n"])
async def test_a_request_that_drips_is_refused(impatient: str, head: bytes) -> None:
    """A byte now and then does not keep a request alive."""
    async with raw(impatient) as connection:
        connection.send(head)
        ended = asyncio.create_task(connection.until_closed())
        while not ended.done():
            connection.send(b"x")
            await asyncio.sleep(0.02)

    assert b"HTTP/1.1 40" in await ended


async def test_a_rest_of_a_body_does_not_keep_a_connection(impatient: str) -> None:
    """A request that is answered before its body has arrived does not keep its connection."""
    async with raw(impatient) as connection:
        connection.send(b"POST /nope HTTP/1.1\r\nHost: lunch\r\nContent-Length: 1000000\r\n\r\n")
        status = await connection.status()
        ended = asyncio.create_task(connection.until_closed())
        while not ended.done():
            connection.send(b"x")
            await asyncio.sleep(0.02)

    assert status == 404


async def test_a_slow_answer_is_not_interrupted() -> None:
    """The time limits are for the request, not for its answer."""

    async def answer_slowly(_request: Request) -> Response:
        await asyncio.sleep(5 * Impatient.request_timeout_s)
        return PlainTextResponse("late")

    async with (
        serving(Starlette(routes=[Route("/", answer_slowly)]), http=Impatient) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        assert (await client.get("/")).text == "late"


async def test_a_peer_that_does_not_read_is_dropped() -> None:
    """A response that nobody reads ends, together with the task that writes it."""
    ended = asyncio.Event()

    async def flood() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65_536
                await asyncio.sleep(0)
        finally:
            ended.set()

    async def respond(_request: Request) -> Response:
        return StreamingResponse(flood())

    async with (
        serving(Starlette(routes=[Route("/", respond)]), http=Impatient) as address,
        raw(address, limit=1024) as connection,
    ):
        connection.send(b"GET / HTTP/1.1\r\nHost: lunch\r\n\r\n")
        async with asyncio.timeout(DEADLINE_S):
            await ended.wait()


LONG = b"x" * (MAX_HEADER_BYTES + 1000)
MUCH = b"x" * 1_000_000


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"X-Lunch: " + MUCH,
        HEAD + b"X-Lunch: " + LONG + b"\r\n\r\n",
        HEAD + MUCH,
        HEAD + b"X: y\r\n" * MAX_HEADER_BYTES,
        b"GET /" + MUCH,
        b"GET /" + LONG + b" HTTP/1.1\r\nHost: lunch\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Lunch: " + MUCH,
    ],
    ids=["unfinished", "finished", "name", "many", "unfinished path", "path", "trailer"],
)
async def test_large_headers_are_refused(served: Served, request_: bytes) -> None:
    """A header block of more than 64 KB is refused while it is read."""
    async with raw(served.address) as connection:
        connection.send(request_)

        assert b"HTTP/1.1 431 Request Header Fields Too Large\r\n" in await connection.until_closed()


async def test_headers_of_the_maximum_size_are_read(served: Served) -> None:
    """A header block of almost 64 KB is accepted."""
    async with raw(served.address) as connection:
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: lunch\r\nX-Lunch: " + LONG[: MAX_HEADER_BYTES - 100])
        connection.send(b"\r\n\r\n")

        assert await connection.status() == 200


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Host: ", b"X-Lunch: " + b"x" * 60_000 + b"\r\nHost: "),
        (b"Host: ", b"X: y\r\n" * 200 + b"Host: "),
        (b"/graphql", b"/graphql?" + b"x" * 60_000),
        (b"/graphql", "/graphql?é".encode()),
        (b"Host: ", "X-Lunch: é\r\nHost: ".encode()),
        (b"Host: ", b"X-Lunch: \xff\r\nHost: "),
        (b"Version: 13", b"Version: 1"),
        (b"Key: dGhlIHNhbXBsZSBub25jZQ==", b"Key: x"),
        (b"graphql-transport-ws", b"graphql-ws"),
        (b"/graphql", b"/nope"),
        (b"GET", b"POST"),
    ],
)
async def test_an_odd_handshake_is_no_error(
    served: Served, caplog: pytest.LogCaptureFixture, old: bytes, new: bytes
) -> None:
    """A handshake that cannot be read, or is not for us, is answered, and is no error of ours."""
    with capture_logs() as logged:
        async with raw(served.address) as connection:
            connection.send(HANDSHAKE.replace(old, new))
            answer = await connection.reader.readuntil(b"\r\n")

    assert answer.startswith(b"HTTP/1.1 ")
    assert [line for line in logged if line["log_level"] in {"error", "critical"}] == []
    assert errors(caplog) == []


HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def test_a_socket_without_init_is_closed(settings: Settings, people: None) -> None:
    """A socket that sends no `connection_init` is closed with 4408."""
    app = create_app(settings, init_timeout=timedelta(milliseconds=100))
    async with serving_api(settings, app) as served, connected(served) as socket_:
        assert await socket_.closed() == 4408


async def test_an_address_may_open_so_many_connections(settings: Settings, people: None) -> None:
    """Beyond the limit of an address, sockets and requests are refused until it closes one."""
    async with (
        serving_api(settings.model_copy(update={"connections_per_address": 2})) as served,
        httpx.AsyncClient(base_url=served.address) as client,
        connected(served),
    ):
        async with connected(served):
            with pytest.raises(InvalidStatus) as refused:
                async with connected(served):
                    pass
            response = await client.get("/api/v1/users/me")
        await until_accepted(served)

    assert refused.value.response.status_code == 429
    assert json.loads(refused.value.response.body or b"")["code"] == "RATE_LIMITED"
    assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (
        429,
        "RATE_LIMITED",
        "5",
    )


async def until_accepted(served: Served) -> None:
    """Wait until a socket is accepted."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                async with connected(served):
                    return
            except InvalidStatus:
                await asyncio.sleep(0.01)


async def test_a_viewer_may_open_so_many_sockets(
    settings: Settings, people: None, manager_token: str, user_token: str
) -> None:
    """Beyond the limit of a viewer, sockets are closed with 1013 until the viewer closes one. Others are not affected."""
    async with serving_api(settings.model_copy(update={"sockets_per_viewer": 1})) as served:
        async with signed_in(served, manager_token), signed_in(served, user_token), connected(served) as second:
            await second.say(INIT | {"payload": {"Authorization": f"Bearer {manager_token}"}})
            refused = await second.closed()
        await until_signed_in(served, manager_token)

    assert refused == 1013


async def until_signed_in(served: Served, token: str) -> None:
    """Wait until a socket of the viewer is acknowledged."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            with suppress(ConnectionClosed):
                async with signed_in(served, token):
                    return


def disconnect_by_fin(connection: Raw) -> None:
    connection.writer.close()


@pytest.mark.parametrize("disconnect", [Raw.reset, disconnect_by_fin], ids=["reset", "fin"])
@pytest.mark.parametrize("stage", ["body", "graphql body", "response", "sse", "graphql sse", "handshake", "socket"])
async def test_a_client_may_disconnect_at_any_time(
    served: Served,
    caplog: pytest.LogCaptureFixture,
    manager_token: str,
    event: LinkRequestEvent,
    disconnect: Callable[[Raw], None],
    stage: str,
) -> None:
    """A client that disconnects in the middle of something is no error, even if an event comes at that moment."""
    authorization = b"Host: lunch\r\nAuthorization: Bearer %s\r\n" % manager_token.encode()
    query = json.dumps({"query": UPDATES}).encode()
    body_head = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(query)
    requests = {
        "body": HEAD + b"Content-Length: 100\r\n\r\n{",
        "graphql body": b"POST /graphql HTTP/1.1\r\n" + authorization + body_head + query[:-1],
        "response": b"GET /api/v1/openapi.json HTTP/1.1\r\nHost: lunch\r\n\r\n" * 20,
        "sse": b"GET /api/v1/cafe-requests/events HTTP/1.1\r\n" + authorization + b"\r\n",
        "graphql sse": b"POST /graphql HTTP/1.1\r\nAccept: text/event-stream\r\n" + authorization + body_head + query,
        "handshake": HANDSHAKE,
        "socket": HANDSHAKE,
    }
    with capture_logs() as logged, in_progress(served) as is_over:
        async with raw(served.address) as connection:
            connection.send(requests[stage])
            if stage == "socket":
                await connection.status()
                payload = {"Authorization": f"Bearer {manager_token}"}
                connection.send(text_frame({"type": "connection_init", "payload": payload}))
                connection.send(text_frame({"type": "subscribe", "id": "1", "payload": {"query": UPDATES}}))
            if stage in {"sse", "graphql sse", "socket"}:
                await served.listened_to()
            else:
                await asyncio.sleep(0)
            disconnect(connection)
            for _ in range(20):
                served.happen(event)
                await asyncio.sleep(0)
        await until(is_over)

    assert [line for line in logged if line["log_level"] in {"error", "critical"}] == []
    assert errors(caplog) == []


@contextmanager
def in_progress(served: Served) -> Iterator[Callable[[], bool]]:
    """Know when all requests and subscriptions of the server are over: their tasks have ended."""
    before = asyncio.all_tasks()

    def is_over() -> bool:
        names = [str(task.get_coro()) for task in asyncio.all_tasks() - before]
        return not served.live.subscriptions and not any("run_asgi" in name for name in names)

    yield is_over


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The errors in the logs of libraries."""
    serious = (record for record in caplog.records if record.levelno >= logging.ERROR)
    return [record.getMessage() for record in serious if record.name != "aiokafka"]  # there is no Kafka


def text_frame(message: object) -> bytes:
    """A client's text frame (RFC 6455, section 5.2), with a mask of zeros."""
    payload = json.dumps(message).encode()
    return b"\x81" + struct.pack("!BH", 0x80 | 126, len(payload)) + bytes(4) + payload
