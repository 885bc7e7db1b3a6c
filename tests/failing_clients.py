"""A program whose clients fail in every way, one line of the log for each: `python -m tests.failing_clients`.

The services are servers in this program that refuse, hang, reset, answer with 500, or do not accept the secret.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from pydantic import SecretStr
from sqlalchemy import text

from app.ai.gemini import open_gemini
from app.ai.prompts import Prompt
from app.clients import open_clients
from app.dev.ports import free_port
from app.events.kafka import connect
from app.log import configure, get_log, log_context
from app.settings import Settings
from app.telegram.sender import make_bot, send

log = get_log(__name__)

SHORT_S = 1.0
"""How long a call waits for a service that does not answer."""

LONG_S = 60.0
"""How long a call waits for a service that answers, on a busy machine."""

RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER` with which a closed connection is reset."""

SSL_REQUEST = 80877103
"""PostgreSQL's first message asks for TLS with this number."""

type Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
type Call = Callable[[Settings, float], Awaitable[None]]


async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with what is not HTTP: aiohttp's error for it contains the address."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"garbage\r\n\r\n")
    writer.close()


def http(status: bytes, body: bytes | None = None) -> Serve:
    """Answer with `status`. Without a body, the answer repeats the request, as a badly configured proxy does."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        sent = head if body is None else body
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(sent), sent))
        await writer.drain()
        writer.close()

    return answer


async def wrong_postgres_password(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        (length,) = struct.unpack("!i", await reader.readexactly(4))
        message = await reader.readexactly(length - 4)
        if struct.unpack("!i", message[:4]) == (SSL_REQUEST,):
            writer.write(b"N")
            continue
        fields = b'SFATAL\0C28P01\0Mpassword authentication failed for user "lunch"\0\0'
        writer.write(b"E" + struct.pack("!i", len(fields) + 4) + fields)
        writer.close()
        return


async def wrong_redis_password(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readline():
        writer.write(b"-WRONGPASS invalid username-password pair or user is disabled.\r\n")


async def call_telegram(settings: Settings, timeout_s: float) -> None:
    token = settings.required("telegram_bot_token")
    async with make_bot(token, settings.telegram_api_url).context() as bot:
        bot.session.timeout = timeout_s
        await send(bot, 1, "lunch")


async def call_gemini(settings: Settings, timeout_s: float) -> None:
    async with open_gemini(settings) as gemini:
        key = SecretStr(settings.gemini_api_keys[0].get_secret_value().rpartition(":")[2])
        await gemini.ask(key, Prompt("Advise.", "{}"), timeout_s)


async def call_postgres(settings: Settings, _timeout_s: float) -> None:
    async with open_clients(settings) as clients, clients.db() as session:
        await session.execute(text("SELECT 1"))


async def call_redis(settings: Settings, _timeout_s: float) -> None:
    async with open_clients(settings) as clients:
        await clients.redis.ping()


async def call_kafka(settings: Settings, _timeout_s: float) -> None:
    async with open_clients(settings) as clients, asyncio.timeout(SHORT_S):  # it would retry without end
        await connect(settings, clients.kafka)


EVERYWHERE: dict[str, Serve] = {"timeout": hang, "reset": reset}

CLIENTS: dict[str, tuple[Call, dict[str, Serve]]] = {
    "telegram": (
        call_telegram,
        EVERYWHERE
        | {
            "garbage": garbage,
            "500": http(b"500 Internal Server Error"),
            "not JSON": http(b"200 OK"),
            "wrong secret": http(b"401 Unauthorized", b'{"ok":false,"error_code":401,"description":"Unauthorized"}'),
        },
    ),
    "gemini": (
        call_gemini,
        EVERYWHERE
        | {
            "garbage": garbage,
            "500": http(b"500 Internal Server Error"),
            "not JSON": http(b"200 OK"),
            "wrong secret": http(b"403 Forbidden"),
        },
    ),
    "postgres": (call_postgres, EVERYWHERE | {"wrong secret": wrong_postgres_password}),
    "redis": (call_redis, EVERYWHERE | {"wrong secret": wrong_redis_password}),
    "kafka": (call_kafka, EVERYWHERE),
}


async def main() -> None:
    configure("test", Settings.load())
    async with AsyncExitStack() as stack:
        calls = []
        for client, (call, faults) in CLIENTS.items():
            calls.append(fail(client, "refused", call, free_port()))
            for fault, serve in faults.items():
                server = await stack.enter_async_context(await asyncio.start_server(serve, "127.0.0.1", 0))
                calls.append(fail(client, fault, call, server.sockets[0].getsockname()[1]))
        await asyncio.gather(*calls)


async def fail(client: str, fault: str, call: Call, port: int) -> None:
    """Log how a call fails: in a line of our own, and in a task that nobody waits for."""
    with log_context(client=client, fault=fault):
        settings = _at(Settings.load(), port)
        try:
            await call(settings, SHORT_S if fault == "timeout" else LONG_S)
        except Exception as error:
            log.exception("failed", error=error, text=str(error))
            forgotten = asyncio.create_task(_raise(error))
            await asyncio.wait({forgotten})
            del forgotten


async def _raise(error: Exception) -> None:
    raise error


def _at(settings: Settings, port: int) -> Settings:
    """Put every service on `port`, with the secrets of the settings."""
    return settings.model_copy(
        update={
            "telegram_api_url": f"http://127.0.0.1:{port}",
            "gemini_api_url": f"http://127.0.0.1:{port}",
            "kafka_broker_url": f"127.0.0.1:{port}",
            "database_url": SecretStr(settings.database_url.get_secret_value().replace(":1/", f":{port}/")),
            "redis_url": SecretStr(settings.redis_url.get_secret_value().replace(":1/", f":{port}/")),
        }
    )


if __name__ == "__main__":
    asyncio.run(main())
