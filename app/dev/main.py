"""`lunch-bot dev`: runs the whole system on this machine, without other installed services."""

import asyncio
import os
import secrets
import shlex
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass

import aiohttp

from app.clients import open_clients
from app.dev.addresses import Addresses, manager_bearer
from app.dev.demo import Demo, StepFailed
from app.dev.embedded import EmbeddedServices, Kafka, Postgres, Redis, embedded
from app.dev.ports import choose_port
from app.dev.progress import Progress
from app.dev.readiness import NotReady, wait_until_ready
from app.dev.seed import count_demo_data, seed
from app.dev.service import Service
from app.dev.stand_in_servers import run_stand_ins
from app.dev.start import DIRECTORY, Configuration
from app.dev.supervisor import COLOURS, Child, Output, keep_service_running
from app.migrate import migrate
from app.settings import DEFAULT_PORTS, Settings

INTERRUPTED_STATUS = 130
"""The exit status that shells report for a program that Ctrl-C ended."""

ENV_FILE = DIRECTORY / "dev.env"

EMBEDDED_KAFKA_SETTINGS = {
    "KAFKA_FETCH_MAX_WAIT_MS": "30",
    "KAFKA_PARTITIONS": "1",
    "KAFKA_SESSION_TIMEOUT_MS": "2000",
    "KAFKA_IDEMPOTENCE": "false",
}
"""The embedded broker delays a fetch by up to half of the maximum wait, and each fetch costs CPU for each partition: with
one partition and 30 ms it is hardly seen in `top`, and a live update still feels instant (`benchmarks/idle.py`). It delays
the first member of a group by half of the session time-out, and has no idempotent producers."""


@dataclass(frozen=True)
class Running:
    """The running system.

    Args:
        children: Its processes.
        places: Where to look if a service is unavailable: its log, or the setting that has its address.
    """

    children: list[Child]
    places: Mapping[str, str]
    addresses: Addresses
    settings: Settings
    output: Output
    progress: Progress


def run(configuration: Configuration, progress: Progress, *, demo: bool, once: bool) -> int:
    """Run the system until Ctrl-C, or with `once` until the demo ends; return the exit status.

    Raises SettingsError, EmbeddedError.
    """
    return asyncio.run(_run(configuration, progress, demo=demo, once=once))


async def _run(configuration: Configuration, progress: Progress, *, demo: bool, once: bool) -> int:
    configured = configuration.values
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(_run_services(configured, progress))
        stand_ins = await stack.enter_async_context(run_stand_ins(configured))
        env = {"LOG_FORMAT": "console", "JWT_SECRET_KEY": _load_jwt_secret(), **configured}
        env |= _service_settings(services) | stand_ins.env
        stack.enter_context(_env_file(env))
        settings = _load_settings(env)
        output = Output(is_quiet=demo)
        has_demo_data = demo or services.database_url is not None
        children = _create_children(env, configuration.api_port, output)
        async with _keep_running(children, output, services.services):
            # The processes still import their modules; a process that is faster than this retries.
            await _prepare_database(settings, progress, has_demo_data=has_demo_data)
            bearer = manager_bearer(settings) if has_demo_data else None
            addresses = Addresses(children[0].address, stand_ins.telegram_url, stand_ins.gemini_url, bearer)
            running = Running(children, _find_places(services), addresses, settings, output, progress)
            return await _serve(running, stopped, demo=demo, once=once)


@asynccontextmanager
async def _run_services(configured: Mapping[str, str], progress: Progress) -> AsyncIterator[EmbeddedServices]:
    """Run the services that have no settings."""
    missing = [kind for kind in (Postgres, Redis, Kafka) if kind.setting not in configured]
    services = embedded(DIRECTORY, postgres=Postgres in missing, redis=Redis in missing, kafka=Kafka in missing)
    async with AsyncExitStack() as stack:
        with progress.step(f"Starting {', '.join(kind.product for kind in missing)}") if missing else nullcontext():
            running = await stack.enter_async_context(services)
        yield running


async def _prepare_database(settings: Settings, progress: Progress, *, has_demo_data: bool) -> None:
    async with open_clients(settings) as clients:
        with progress.step("Migrating the database"):
            await migrate(clients.direct_engine)
        if has_demo_data:
            with progress.step("Adding the demo data that are missing"):
                await seed(clients)
            progress.done("The database has demo data", str(await count_demo_data(clients)))


def _create_children(env: Mapping[str, str], api_port: int, output: Output) -> list[Child]:
    children = []
    for (name, default_port), colour in zip(DEFAULT_PORTS.items(), COLOURS, strict=False):
        port = api_port if name == "api" else choose_port(default_port, other_than=api_port)
        children.append(Child(name, {**env, "PORT": str(port)}, colour, output, DIRECTORY / f"{name}.log"))
    return children


def _find_places(services: EmbeddedServices) -> dict[str, str]:
    logs = {service.name: str(DIRECTORY / service.log.name) for service in services.services}
    return {
        "database": logs.get(Postgres.name, Postgres.setting),
        "redis": logs.get(Redis.name, Redis.setting),
        "kafka": logs.get(Kafka.name, Kafka.setting),
    }


async def _serve(running: Running, stopped: asyncio.Event, *, demo: bool, once: bool) -> int:
    """Play the demo if requested, then serve until `stopped` is set, unless `once`; return the exit status."""
    story = asyncio.create_task(_play(running, demo=demo))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({story, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not story.done():
        story.cancel()
        return INTERRUPTED_STATUS if demo else 0
    failure = story.exception()
    running.output.is_quiet = False
    status = 0
    if isinstance(failure, StepFailed | NotReady):
        print(f"\n✗ {failure}\n\nThe logs of all processes and services are in {DIRECTORY}/.", flush=True)
        status = 1
    elif failure is not None:
        raise failure
    if not once:
        print(running.addresses.format(), flush=True)
        await stopping
        print("Stopping.", flush=True)
    return status


async def _play(running: Running, *, demo: bool) -> None:
    """Wait until the system is ready, and play the demo if requested."""
    await wait_until_ready(running.children, running.places, running.progress)
    if demo:
        async with aiohttp.ClientSession() as http:
            await Demo(running.addresses, running.settings, http, running.progress).play()


@asynccontextmanager
async def _keep_running(children: list[Child], output: Output, services: tuple[Service, ...]) -> AsyncIterator[None]:
    keepers = [asyncio.create_task(child.keep_running()) for child in children]
    keepers += [
        asyncio.create_task(keep_service_running(service, output, children if service.name == Kafka.name else ()))
        for service in services
    ]
    try:
        yield
    finally:
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await asyncio.gather(*(child.stop() for child in children))


@contextmanager
def _env_file(env: Mapping[str, str]) -> Iterator[None]:
    """Keep a file with the settings of the running system, so that other commands can use it."""
    known = {name.upper() for name in Settings.model_fields} - {"PORT"}
    ENV_FILE.touch(mode=0o600)
    ENV_FILE.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items() if name in known))
    try:
        yield
    finally:
        ENV_FILE.unlink(missing_ok=True)


def _service_settings(services: EmbeddedServices) -> dict[str, str]:
    urls = {
        "DATABASE_URL": services.database_url,
        "REDIS_URL": services.redis_url,
        "KAFKA_BROKER_URL": services.kafka_broker_url,
    }
    env = {name: url for name, url in urls.items() if url}
    return env | EMBEDDED_KAFKA_SETTINGS if services.kafka_broker_url else env


def _load_settings(env: Mapping[str, str]) -> Settings:
    os.environ.update(env)
    return Settings.load()


def _load_jwt_secret() -> str:
    """Return the secret of this directory, and create it at the first start: tokens stay valid after a restart."""
    file = DIRECTORY / "jwt-secret"
    if not file.exists():
        new_file = file.with_suffix(".new")
        new_file.touch(mode=0o600)
        new_file.write_text(secrets.token_urlsafe(48))
        new_file.rename(file)
    return file.read_text()
