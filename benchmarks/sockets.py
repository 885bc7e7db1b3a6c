"""Many sockets that subscribe at the same time.

    python -m benchmarks.sockets [--sockets N] [--within SECONDS] [--viewers N] [--checkout PATH]

An api process with real services gets N sockets, each with the token of one of the viewers. Once all are open, they
subscribe, evenly within some seconds, and then each subscription gets an event. Printed are the errors by code, and the
time from the first subscription to the last event. The sockets are in this process, which shares the machine with the api
process.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
from aiokafka import AIOKafkaProducer
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from app.dev.embedded import embedded
from benchmarks.requests import cpu_time, running, send_event
from benchmarks.running import HERE, manager_token

FIRST_TGID = 10_000
DOCUMENT = "subscription { linkRequestUpdates { id status } }"
EVENT_TIMEOUT_S = 120


async def main(sockets: int, within_s: float, viewers: int, checkout: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(embedded(Path(directory) / "services"))
            version = await stack.enter_async_context(
                running("this", checkout, services, cpu_time(rounds=1), Path(directory))
            )
            database_url = f"{str(services.database_url).rpartition('/')[0]}/benchmark_this"
            tokens = await add_viewers(database_url, viewers)
            producer = AIOKafkaProducer(bootstrap_servers=str(services.kafka_broker_url))
            await producer.start()
            began = time.perf_counter()
            results = await asyncio.gather(
                *(open_socket(stack, version.address, tokens[n % viewers]) for n in range(sockets))
            )
            opened = [one for one in results if not isinstance(one, str)]
            print(f"{len(opened)} of {sockets} sockets were open after {time.perf_counter() - began:.1f} s")
            began, used = time.perf_counter(), version.cost()
            received = asyncio.gather(*(subscribe(socket, n * within_s / sockets) for n, socket in enumerate(opened)))
            while not received.done():  # a subscription is not confirmed, so the first events may be too early
                await asyncio.sleep(0.5)
                await send_event(producer)
            codes = Counter(await received) + Counter(one for one in results if isinstance(one, str))
            cost = (version.cost() - used) * 1000 / sockets
            print(f"answers: {dict(codes)} after {time.perf_counter() - began:.1f} s, {cost:.1f} ms CPU a socket")
            await producer.stop()


async def add_viewers(database_url: str, number: int) -> Sequence[str]:
    """Add managers, and return their tokens."""
    connection = await asyncpg.connect(database_url.replace("postgresql+asyncpg", "postgresql"))
    tgids = range(FIRST_TGID, FIRST_TGID + number)
    await connection.executemany(
        "INSERT INTO users (tgid, name, role) VALUES ($1, 'Maria', 'manager')", [(tgid,) for tgid in tgids]
    )
    await connection.close()
    return [manager_token(tgid) for tgid in tgids]


async def open_socket(stack: AsyncExitStack, address: str, token: str) -> ClientConnection | str:
    """Open and initialize a socket, or return why it was refused."""
    try:
        socket = await stack.enter_async_context(
            connect(
                address,
                subprotocols=[Subprotocol("graphql-transport-ws")],
                proxy=None,
                ping_interval=None,
                open_timeout=None,
            )
        )
        await socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
        await socket.recv()
    except InvalidStatus as error:
        return str(error.response.status_code)
    except (OSError, WebSocketException) as error:
        return type(error).__name__
    return socket


async def subscribe(socket: ClientConnection, after_s: float) -> str:
    """Subscribe, and return `next` for the first event, or the code of an error."""
    await asyncio.sleep(after_s)
    try:
        async with asyncio.timeout(EVENT_TIMEOUT_S):
            await socket.send(json.dumps({"type": "subscribe", "id": "1", "payload": {"query": DOCUMENT}}))
            message = json.loads(await socket.recv())
    except (TimeoutError, WebSocketException) as error:
        return type(error).__name__
    if message["type"] == "next" and message["payload"].get("data"):
        return "next"
    errors = message["payload"] if message["type"] == "error" else message["payload"]["errors"]
    return str(errors[0]["extensions"]["code"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--within", type=float, default=1.0, help="seconds")
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--checkout", type=Path, default=HERE)
    given = parser.parse_args()
    sys.exit(asyncio.run(main(given.sockets, given.within, given.viewers, given.checkout)))
