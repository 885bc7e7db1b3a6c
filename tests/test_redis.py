"""Connections to Redis: one reading of its address, and failovers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from limits import RateLimitItemPerMinute
from pydantic import SecretStr
from redis.asyncio import Redis as RedisClient
from redis.exceptions import ReadOnlyError, ResponseError

from app.ai.gemini import open_gemini
from app.clients import Clients, open_clients
from app.dev.embedded import Redis
from app.errors import ServiceUnavailable, as_lunchbot_error
from app.settings import Settings
from app.telegram.sender import make_bot
from app.workers.jobs import create_worker, stop_worker
from tests.apis import calling_api
from tests.servers import until
from tests.tls import Certificates, pass_on, tls_relay

PASSWORD = "p@ss/w:rd#1?%"


@asynccontextmanager
async def started(directory: Path) -> AsyncIterator[Redis]:
    """A Redis for one test, which may change its configuration."""
    service = Redis(directory, durable=False)
    await service.start()
    yield service
    await service.stop()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Redis]:
    async with started(tmp_path / "node") as service:
        yield service


@pytest.fixture
async def other_node(tmp_path: Path) -> AsyncIterator[Redis]:
    async with started(tmp_path / "other") as service:
        yield service


@asynccontextmanager
async def opened(settings: Settings, url: str) -> AsyncIterator[Clients]:
    """Clients with another address of Redis, which was read as the processes read it."""
    read = Settings.model_validate(settings.model_dump() | {"redis_url": url})
    async with open_clients(read) as clients:
        yield clients


async def use_everywhere(clients: Clients) -> None:
    """Use Redis through each of its clients: ours, the rate limiter's, the queue's and the worker's."""
    await clients.redis.set("key", "value")
    await clients.limiter.hit(RateLimitItemPerMinute(10), "test")
    await clients.jobs.enqueue_job("nothing")
    async with make_bot("1:x", "http://127.0.0.1:1").context() as bot, open_gemini(clients.settings) as gemini:
        worker = create_worker(clients, bot, gemini)
        running = asyncio.create_task(worker.async_run())
        await until(lambda: worker.jobs_failed or running.done())
        await stop_worker(worker)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert worker.jobs_failed, "the worker has taken the job, which has no function"


@pytest.mark.parametrize(
    "authority",
    [f":{quote(PASSWORD, safe='')}@", f"lunch:{quote(PASSWORD, safe='')}@", f"l%40nch:{quote(PASSWORD, safe='')}@"],
)
async def test_every_client_reads_the_password(settings: Settings, node: Redis, authority: str) -> None:
    """User names and passwords with special characters are percent-encoded, for every client of Redis."""
    async with RedisClient.from_url(node.url) as admin:
        for name in ("default", "lunch", "l@nch"):
            await admin.acl_setuser(name, enabled=True, passwords=[f"+{PASSWORD}"], keys="*", categories=["+@all"])
        await admin.acl_setuser("default", enabled=True, reset_passwords=True, passwords=[f"+{PASSWORD}"])

    async with opened(settings, f"redis://{authority}127.0.0.1:{node.port}/0") as clients:
        await use_everywhere(clients)


@pytest.mark.parametrize("path", ["", "/", "/3", "?db=3"])
async def test_every_client_uses_the_same_database(settings: Settings, node: Redis, path: str) -> None:
    """An address without a number means database 0, for every client of Redis."""
    async with opened(settings, f"redis://127.0.0.1:{node.port}{path}") as clients:
        await use_everywhere(clients)
        used = {int(name.removeprefix("db")) for name in await clients.redis.info("keyspace")}

    assert used == ({3} if "3" in path else {0})


async def test_every_client_uses_tls(settings: Settings, node: Redis, certificates: Certificates) -> None:
    """With rediss:// every client verifies the certificate with the given authority."""
    async with tls_relay(certificates, int(node.port or 0)) as port:
        options = f"ssl_ca_certs={quote(str(certificates.authority))}&ssl_check_hostname=true"
        async with opened(settings, f"rediss://127.0.0.1:{port}/0?{options}") as clients:
            await use_everywhere(clients)


class Address:
    """An address that leads to one node at a time. Open connections stay with their node."""

    def __init__(self, node: Redis) -> None:
        self.node = node
        self.port = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        node_reader, node_writer = await asyncio.open_connection("127.0.0.1", self.node.port)
        await asyncio.gather(pass_on(reader, node_writer), pass_on(node_reader, writer), return_exceptions=True)


@pytest.fixture
async def address(node: Redis) -> AsyncIterator[Address]:
    """An address that leads to the first node."""
    address = Address(node)
    server = await asyncio.start_server(address.accept, "127.0.0.1", 0)
    address.port = server.sockets[0].getsockname()[1]
    async with server:
        yield address


@pytest.fixture
async def failing_over(settings: Settings, address: Address) -> AsyncIterator[Clients]:
    """Clients with connections to the first node."""
    async with opened(settings, f"redis://127.0.0.1:{address.port}") as clients:
        await asyncio.gather(*(clients.redis.set(f"key {number}", "") for number in range(5)))
        yield clients


async def demote(node: Redis, primary: Redis) -> None:
    """Make a node a replica of another one. It keeps its connections."""
    async with RedisClient.from_url(node.url) as admin:
        await admin.replicaof("127.0.0.1", primary.port)


async def test_after_a_failover_the_next_command_uses_the_new_primary(
    failing_over: Clients, address: Address, node: Redis, other_node: Redis
) -> None:
    """A connection to a demoted node is replaced: commands, scripts and pipelines succeed without a restart."""
    await demote(node, other_node)
    address.node = other_node

    await failing_over.redis.set("key", "new")
    await failing_over.redis.register_script("return redis.call('SET', KEYS[1], 'new')")(keys=["script"])
    async with failing_over.redis.pipeline() as pipeline:
        pipeline.set("pipeline", "new")
        await pipeline.execute()
    async with RedisClient.from_url(other_node.url) as admin:
        assert await admin.mget("key", "script", "pipeline") == [b"new"] * 3


async def test_while_there_is_no_primary_redis_is_unavailable(
    failing_over: Clients, node: Redis, other_node: Redis
) -> None:
    """As long as the address leads to a replica, changes fail as if Redis is unavailable."""
    await demote(node, other_node)

    with pytest.raises(ReadOnlyError) as error:
        await failing_over.redis.set("key", "new")

    assert isinstance(as_lunchbot_error(error.value), ServiceUnavailable)


async def test_a_replica_is_not_ready(settings: Settings, address: Address, node: Redis, other_node: Redis) -> None:
    """A process whose Redis is a replica is not ready; after the failover it is."""
    url = SecretStr(f"redis://127.0.0.1:{address.port}")
    async with calling_api(settings.model_copy(update={"redis_url": url})) as api:
        before = (await api.get("/readyz")).json()["redis"]
        await demote(node, other_node)
        during = (await api.get("/readyz")).json()["redis"]
        address.node = other_node
        after = (await api.get("/readyz")).json()["redis"]

    assert (before, during, after) == ("ok", "unavailable", "ok")


@pytest.mark.parametrize(
    ("name", "value"), [("min-replicas-to-write", "1"), ("maxmemory", "1")], ids=["too few replicas", "memory is full"]
)
@pytest.mark.parametrize("in_pipeline", [False, True])
async def test_a_redis_that_accepts_no_changes_is_unavailable(
    settings: Settings, node: Redis, name: str, value: str, in_pipeline: bool
) -> None:
    """Too few replicas or a full memory are an outage of Redis, not an error of ours."""
    async with opened(settings, node.url) as clients:
        await clients.redis.config_set(name, value)
        pipeline = clients.redis.pipeline(transaction=False)
        pipeline.set("key", "value")

        with pytest.raises(ResponseError) as error:
            await (pipeline.execute() if in_pipeline else clients.redis.set("key", "value"))

    assert isinstance(as_lunchbot_error(error.value), ServiceUnavailable)
