"""What the benchmarks measure: an empty database, and an api process with demo data."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from app.auth.tokens import issue_token
from app.clients import Clients, open_clients
from app.dev.embedded import EmbeddedServices, embedded
from app.dev.ports import free_port
from app.migrate import migrate
from app.models import Role, User
from app.settings import Settings

HERE = Path(__file__).parent.parent
SECRET = "a secret for benchmarks that is long enough"  # noqa: S105 signs tokens of this run only
MANAGER_TGID = 1

UNAVAILABLE = "127.0.0.1:1"


@asynccontextmanager
async def open_database() -> AsyncIterator[Clients]:
    """Start PostgreSQL with an empty, migrated database, and no other service."""
    with tempfile.TemporaryDirectory() as directory:
        async with embedded(Path(directory) / "services", redis=False, kafka=False) as services:
            settings = make_settings(str(services.database_url))
            async with open_clients(settings) as clients:
                await migrate(clients.direct_engine)
                yield clients


@dataclass(frozen=True)
class RunningApi:
    """A running api process, and the Authorization header of a manager."""

    pid: int
    address: str
    authorization: str


@asynccontextmanager
async def run_api(
    checkout: Path, services: EmbeddedServices, database_url: str, *, under: Sequence[str] = (), **env: str
) -> AsyncIterator[RunningApi]:
    """Run the api process of a checkout, with demo data, until the block ends.

    Args:
        under: A command that runs the process.
        env: Settings that differ from those here.
    """
    port = free_port()
    environment = {
        **{key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "LANG"}},
        "PYTHONPATH": str(checkout),
        "DATABASE_URL": database_url,
        "REDIS_URL": str(services.redis_url),
        "KAFKA_BROKER_URL": str(services.kafka_broker_url),
        "KAFKA_IDEMPOTENCE": "false",
        "JWT_SECRET_KEY": SECRET,
        "PORT": str(port),
        **env,
    }

    async def run(*arguments: str, under: Sequence[str] = ()) -> asyncio.subprocess.Process:
        command = (*under, sys.executable, "-m", "app", *arguments)
        return await asyncio.create_subprocess_exec(*command, cwd=checkout, env=environment)

    for arguments in (
        ("migrate",),
        ("users", "add", "--tgid", str(MANAGER_TGID), "--name", "Maria", "--manager"),
        ("seed",),
    ):
        assert await (await run(*arguments)).wait() == 0
    process = await run("api", under=under)
    address = f"http://127.0.0.1:{port}"
    try:
        await until_ready(address)
        yield RunningApi(process.pid, address, f"Bearer {manager_token(MANAGER_TGID)}")
    finally:
        process.terminate()
        await process.wait()


async def until_ready(address: str) -> None:
    """Wait until a process and its services are ready."""
    async with httpx.AsyncClient(base_url=address, timeout=600) as client, asyncio.timeout(600):
        while True:
            try:
                if (await client.get("/readyz")).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


def manager_token(tgid: int) -> str:
    """Make a token for a manager, valid in every process that `run_api` runs."""
    settings = make_settings(f"postgresql+asyncpg://{UNAVAILABLE}/unused")
    return issue_token(settings, User(tgid=tgid, name="Maria", role=Role.MANAGER))


def make_settings(database_url: str) -> Settings:
    """Make settings with no service but a database."""
    return Settings(
        database_url=database_url,
        redis_url=f"redis://{UNAVAILABLE}",
        kafka_broker_url=UNAVAILABLE,
        jwt_secret_key=SECRET,
    )
