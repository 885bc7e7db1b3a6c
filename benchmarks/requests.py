"""CPU per request and per live event of two versions.

    python -m benchmarks.requests --other PATH [--rounds N]
    python -m benchmarks.requests --other PATH --instructions

PATH is another checkout of this repository. Both versions get a database with the same demo data, the same Redis and
Kafka broker, and an api process. In each round each version answers each kind of request, one after the other, so a
machine that changes its speed changes both. The versions take turns in who goes first. The CPU time is that of the api
process, from the operating system, which counts in steps of 10 ms: so many requests make a round that a step is less
than 1 % of it. The ratio is this version to the other one: the median of the rounds.

With `--instructions`, Valgrind counts the instructions that the api processes execute, in one round. That takes half an
hour, but no other program on the machine changes the count. It varies by 3 % for the smallest requests, since it includes
what the process does in the background.

For live events both api processes read the same events from Kafka at the same time, and send them to as many
subscriptions each.
"""

import argparse
import asyncio
import json
import re
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median
from uuid import uuid4

import asyncpg
import httpx
import psutil
from aiokafka import AIOKafkaProducer
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from app.dev.embedded import EmbeddedServices, embedded
from app.events.cloudevents import headers_of
from app.events.types import LinkRequestCreated, Topic
from app.models import Cafe, LinkRequest
from benchmarks.running import HERE, run_api

SOCKETS = 10

CAFE_FIELDS = "id name description isActive tgChatId notificationsEnabled linkedAt timezone language createdAt"
ORDER_FIELDS = (
    "id tgid userName cafeId cafeName date status combo { id name price } dishes { menuItemId name category } "
    "extras { menuItemId name price quantity } notes totalPrice createdAt updatedAt"
)
QUERIES: Mapping[str, str] = {
    "me": "{ me { tgid name role isActive createdAt } }",
    "3 cafes": f"{{ cafes {{ nodes {{ {CAFE_FIELDS} }} totalCount }} }}",
    "3 cafes with menus": f"{{ cafes {{ nodes {{ {CAFE_FIELDS} menuItems(first: 40) {{ nodes {{ id name category price }} }} }} }} }}",
    "100 users": "{ users(first: 100) { edges { cursor node { tgid name role } } pageInfo { endCursor } } }",
    "50 orders": f"{{ orders(first: 50) {{ nodes {{ {ORDER_FIELDS} }} totalCount }} }}",
}
REST = {"REST: 50 orders": "/api/v1/orders?limit=50"}


@dataclass(frozen=True)
class Version:
    """A running api process. `cost` returns what it has used since its start."""

    name: str
    cost: Callable[[], float]
    client: httpx.AsyncClient

    @property
    def address(self) -> str:
        return str(self.client.base_url).replace("http", "ws") + "/graphql"


type Request = Callable[[Version], Awaitable[object]]


@dataclass(frozen=True)
class Measure:
    """What is measured, and how often.

    Args:
        divisor: The printed unit, in the unit of `Version.cost`.
        subscriptions: The subscriptions of each of the 10 sockets.
        subscribing_s: How long a socket may take to subscribe. The protocol does not confirm a subscription.
    """

    title: str
    unit: str
    divisor: float
    rounds: int
    requests: int
    events: int
    subscriptions: int
    subscribing_s: float

    @property
    def counts_instructions(self) -> bool:
        return self.unit == "Mi"

    def command(self, report: Path) -> list[str]:
        """The program that runs Python, if any."""
        valgrind = ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={report}"]
        return valgrind if self.counts_instructions else []

    def cost(self, pid: int, report: Path) -> float:
        """What a process has used since its start."""
        if not self.counts_instructions:
            times = psutil.Process(pid).cpu_times()
            return float(times.user + times.system)
        subprocess.run(["callgrind_control", "--dump", str(pid)], check=True, capture_output=True)  # noqa: S603, S607
        dumps = report.parent.glob(f"{report.name}.*")
        return sum(float(re.findall(r"^summary: (\d+)", dump.read_text(), re.MULTILINE)[0]) for dump in dumps)


def cpu_time(rounds: int) -> Measure:
    return Measure(
        "CPU of the api process", "ms", 0.001, rounds, requests=250, events=40, subscriptions=50, subscribing_s=1
    )


INSTRUCTIONS = Measure(
    "Instructions of the api process",
    "Mi",
    1e6,
    rounds=1,
    requests=40,
    events=10,
    subscriptions=10,
    subscribing_s=6,
)


async def main(other: Path, measure: Measure) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(embedded(Path(directory) / "services"))
            versions = [
                await stack.enter_async_context(running(name, checkout, services, measure, Path(directory)))
                for name, checkout in (("this", HERE), ("other", other))
            ]
            kinds: dict[str, Request] = {name: partial(query, text=text) for name, text in QUERIES.items()}
            kinds |= {name: partial(get, path=path) for name, path in REST.items()}
            print(f"{measure.title}, medians of {measure.rounds} rounds of {measure.requests} requests:")
            for name, request in kinds.items():
                await compare(name, versions, request, measure)
            await compare_live_events(versions, str(services.kafka_broker_url), measure)


@asynccontextmanager
async def running(
    name: str, checkout: Path, services: EmbeddedServices, measure: Measure, directory: Path
) -> AsyncIterator[Version]:
    """Run the api process of a checkout, with demo data."""
    database_url = await create_database(str(services.database_url), f"benchmark_{name}")
    report = directory / f"instructions-{name}"
    settings = {"KAFKA_FETCH_MAX_WAIT_MS": "20", "LOG_LEVEL": "WARNING"}
    async with (
        run_api(checkout, services, database_url, under=measure.command(report), **settings) as api,
        httpx.AsyncClient(base_url=api.address, headers={"Authorization": api.authorization}, timeout=600) as client,
    ):
        yield Version(name, partial(measure.cost, api.pid, report), client)


async def create_database(server_url: str, name: str) -> str:
    connection = await asyncpg.connect(server_url.replace("postgresql+asyncpg", "postgresql"))
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    base, _, rest = server_url.rpartition("/")
    return f"{base}/{name}{rest[rest.index('?') :] if '?' in rest else ''}"


async def get(version: Version, path: str) -> None:
    (await version.client.get(path)).raise_for_status()


async def query(version: Version, text: str) -> None:
    response = await version.client.post("/graphql", json={"query": text})
    assert "errors" not in response.json(), response.text


async def compare(name: str, versions: Sequence[Version], request: Request, measure: Measure) -> None:
    for version in versions:
        await request(version)
    used: dict[str, list[float]] = {version.name: [] for version in versions}
    for number in range(measure.rounds):
        for version in versions if number % 2 == 0 else reversed(versions):
            before = version.cost()
            for _ in range(measure.requests):
                await request(version)
            used[version.name].append((version.cost() - before) / measure.requests)
    print_row(name, used, measure)


def print_row(name: str, used: Mapping[str, Sequence[float]], measure: Measure) -> None:
    this, other = used["this"], used["other"]
    ratios = [mine / theirs for mine, theirs in zip(this, other, strict=True) if theirs]
    cost = {version: median(values) / measure.divisor for version, values in used.items()}
    print(
        f"  {name:24} this {cost['this']:7.3f} {measure.unit}, other {cost['other']:7.3f} {measure.unit}, "
        f"ratio {median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
        flush=True,
    )


async def compare_live_events(versions: Sequence[Version], broker: str, measure: Measure) -> None:
    """Subscribe many times in each version, and send the same events to both."""
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    async with AsyncExitStack() as stack:
        sockets = [
            await stack.enter_async_context(subscribed(version, measure))
            for version in versions
            for _ in range(SOCKETS)
        ]
        used: dict[str, list[float]] = {version.name: [] for version in versions}
        for _ in range(measure.rounds):
            before = {version.name: version.cost() for version in versions}
            receiving = [
                asyncio.create_task(receive(socket, measure.events * measure.subscriptions)) for socket in sockets
            ]
            for _ in range(measure.events):
                await send_event(producer)
            async with asyncio.timeout(600):
                await asyncio.gather(*receiving)
            for version in versions:
                frames = measure.events * SOCKETS * measure.subscriptions
                used[version.name].append((version.cost() - before[version.name]) / frames)
    await producer.stop()
    print_row(f"event × {SOCKETS * measure.subscriptions} subscribers", used, measure)


@asynccontextmanager
async def subscribed(version: Version, measure: Measure) -> AsyncIterator[ClientConnection]:
    """A socket with its subscriptions."""
    async with connect(
        version.address,
        subprotocols=[Subprotocol("graphql-transport-ws")],
        proxy=None,
        max_queue=None,
        ping_interval=None,
    ) as socket:
        payload = {"Authorization": version.client.headers["Authorization"]}
        await socket.send(json.dumps({"type": "connection_init", "payload": payload}))
        await socket.recv()
        document = "subscription { linkRequestUpdates { id status tgChatId createdAt cafe { id name } } }"
        for number in range(measure.subscriptions):
            subscribe = {"type": "subscribe", "id": str(number), "payload": {"query": document}}
            await socket.send(json.dumps(subscribe))
        await asyncio.sleep(measure.subscribing_s)
        yield socket


async def receive(socket: ClientConnection, frames: int) -> None:
    for _ in range(frames):
        await socket.recv()


async def send_event(producer: AIOKafkaProducer) -> None:
    now = datetime.now(UTC)
    cafe = Cafe(id=1, name="Basil & Thyme", created_at=now)
    event = LinkRequestCreated.of(LinkRequest(id=1, cafe_id=1, cafe=cafe, tg_chat_id=-1001, created_at=now))
    headers = [(name, value.encode()) for name, value in headers_of(str(uuid4()), event, now).items()]
    await producer.send_and_wait(
        Topic.LINK_REQUESTS, event.model_dump_json().encode(), key=event.key.encode(), headers=headers
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--other", type=Path, required=True, help="another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--instructions", action="store_true", help="count instructions; requires Valgrind")
    options = parser.parse_args()
    asyncio.run(main(options.other.resolve(), INSTRUCTIONS if options.instructions else cpu_time(options.rounds)))
