"""`lunch-bot dev`: runs the whole system on this machine, without other installed services."""

import asyncio
import os
import secrets
import shlex
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvicorn
from dotenv import dotenv_values
from starlette.applications import Starlette

from app.clients import open_clients
from app.dev.addresses import Addresses, manager_bearer
from app.dev.demo import Demo, StepFailed
from app.dev.embedded import EmbeddedServices, Kafka, embedded
from app.dev.gemini import create_gemini
from app.dev.ports import free_port, is_free
from app.dev.seed import seed
from app.dev.service import Service
from app.dev.supervisor import COLOURS, Child, Output, keep_service_running
from app.dev.telegram import create_telegram
from app.migrate import migrate
from app.settings import DEFAULT_PORTS, Settings, SettingsError

DIRECTORY = Path(".lunch-bot")

MAX_PORT = 65_535
INTERRUPTED_STATUS = 130
"""The exit status that shells report for a program that Ctrl-C ended."""

TELEGRAM_PORT = 8081
"""The default port of Telegram's own Bot API server."""

GEMINI_PORT = 8082
GEMINI_KEYS = {"demo-key-1": "lunch", "demo-key-2": "cafe", "demo-key-3": "cafe"}
"""The project of each key."""

GEMINI_REQUESTS_PER_DAY = 200
"""About the quota that Google gives to a project."""

GEMINI_LATENCY_S = 0.1

ENV_FILE = DIRECTORY / "dev.env"

EMBEDDED_KAFKA_SETTINGS = {
    "KAFKA_FETCH_MAX_WAIT_MS": "5",
    "KAFKA_SESSION_TIMEOUT_MS": "2000",
    "KAFKA_IDEMPOTENCE": "false",
}
"""The embedded broker delays a fetch by up to half of the maximum wait, delays the first member of a group by half of
the session time-out, and has no idempotent producers."""


@dataclass(frozen=True)
class StandIns:
    """The addresses of the running stand-ins, None for the others, and the settings for them."""

    telegram_url: str | None
    gemini_url: str | None
    env: dict[str, str]


def run(*, demo: bool, once: bool) -> int:
    """Run the system until Ctrl-C, or with `once` until the demo ends; return the exit status.

    Raises SettingsError, EmbeddedError.
    """
    return asyncio.run(_run(demo=demo, once=once))


async def _run(*, demo: bool, once: bool) -> int:
    configured = {name: value for name, value in {**dotenv_values(), **os.environ}.items() if value}
    if demo:
        _validate_demo_settings(configured)
    api_port = _validate_port(configured)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(
            embedded(
                DIRECTORY,
                postgres="DATABASE_URL" not in configured,
                redis="REDIS_URL" not in configured,
                kafka="KAFKA_BROKER_URL" not in configured,
            )
        )
        stand_ins = await stack.enter_async_context(_run_stand_ins(configured))
        env = {"LOG_FORMAT": "console", "JWT_SECRET_KEY": _load_jwt_secret()} | configured
        env |= _service_settings(services) | stand_ins.env
        stack.enter_context(_env_file(env))
        settings = _load_settings(env)
        output = Output(is_held=demo)
        has_demo_data = demo or services.database_url is not None
        async with _keep_running(_create_children(env, api_port, output), output, services.services):
            # The processes still import their modules; a process that is faster than this retries.
            async with open_clients(settings) as clients:
                await migrate(clients.direct_engine)
                if has_demo_data:
                    await seed(clients)
            bearer = manager_bearer(settings) if has_demo_data else None
            api_url = f"http://127.0.0.1:{api_port}"
            addresses = Addresses(api_url, stand_ins.telegram_url, stand_ins.gemini_url, bearer)
            return await _serve(addresses, settings, output, stopped, demo=demo, once=once)


@asynccontextmanager
async def _run_stand_ins(configured: Mapping[str, str]) -> AsyncIterator[StandIns]:
    """Run the stand-ins for the services that have no settings."""
    telegram_url = gemini_url = None
    env: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        if "TELEGRAM_BOT_TOKEN" not in configured:
            token = f"1:{secrets.token_urlsafe(24)}"
            telegram = create_telegram(token=token)
            telegram_url = await stack.enter_async_context(
                _serve_app(telegram, TELEGRAM_PORT, telegram.state.telegram.close)
            )
            env |= {"TELEGRAM_BOT_TOKEN": token, "TELEGRAM_API_URL": telegram_url}
        if "GEMINI_API_KEYS" not in configured:
            gemini = create_gemini(keys=GEMINI_KEYS, per_day=GEMINI_REQUESTS_PER_DAY, latency_s=GEMINI_LATENCY_S)
            gemini_url = await stack.enter_async_context(_serve_app(gemini, GEMINI_PORT, gemini.state.gemini.close))
            keys = ",".join(f"{project}:{key}" for key, project in GEMINI_KEYS.items())
            env |= {"GEMINI_API_KEYS": keys, "GEMINI_API_URL": gemini_url}
        yield StandIns(telegram_url, gemini_url, env)


def _create_children(env: Mapping[str, str], api_port: int, output: Output) -> list[Child]:
    children = []
    for (name, default_port), colour in zip(DEFAULT_PORTS.items(), COLOURS, strict=False):
        port = api_port if name == "api" else _choose_port(default_port, other_than=api_port)
        children.append(Child(name, {**env, "PORT": str(port)}, colour, output))
    return children


async def _serve(
    addresses: Addresses, settings: Settings, output: Output, stopped: asyncio.Event, *, demo: bool, once: bool
) -> int:
    """Play the demo if requested, then serve until `stopped` is set, unless `once`; return the exit status."""
    story = asyncio.create_task(_play(addresses, settings, demo=demo))
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait({story, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not story.done():
        story.cancel()
        return INTERRUPTED_STATUS if demo else 0
    failure = story.exception()
    output.release(show=failure is not None)
    status = 0
    if isinstance(failure, StepFailed):
        print(f"✗ {failure}", flush=True)
        status = 1
    elif failure is not None:
        raise failure
    if not once:
        print(addresses.format(), flush=True)
        await stopping
        print("Stopping.", flush=True)
    return status


async def _play(addresses: Addresses, settings: Settings, *, demo: bool) -> None:
    """Play the demo, or only wait until the system is ready."""
    async with aiohttp.ClientSession() as http:
        story = Demo(addresses, settings, http)
        await (story.play() if demo else story.wait_until_ready())


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


@asynccontextmanager
async def _serve_app(app: Starlette, port: int, close: Callable[[], None]) -> AsyncIterator[str]:
    """Serve a stand-in in this process, and yield its address.

    At the end, `close` ends open polls, which would delay the server's stop.
    """
    server = uvicorn.Server(
        uvicorn.Config(app, port=_choose_port(port), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]  # this program handles signals
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{server.config.port}"
    finally:
        close()
        server.should_exit = True
        await serving


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


def _validate_demo_settings(configured: Mapping[str, str]) -> None:
    for name, service in (("TELEGRAM_BOT_TOKEN", "Telegram"), ("GEMINI_API_KEYS", "Gemini")):
        if name in configured:
            raise SettingsError(f"{name}: the demo uses the {service} stand-in; unset it")


def _validate_port(configured: Mapping[str, str]) -> int:
    """Return the port of the api process.

    Raises SettingsError if it is invalid or taken.
    """
    text = configured.get("PORT", str(DEFAULT_PORTS["api"]))
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PORT:
        raise SettingsError(f"PORT: {text} is not a port")
    if not is_free(int(text)):
        raise SettingsError(f"PORT: {text} is taken; give another, such as PORT=8100 lunch-bot dev")
    return int(text)


def _choose_port(port: int, *, other_than: int | None = None) -> int:
    """Return `port` if it is free, else another free port."""
    return port if port != other_than and is_free(port) else free_port()


def _load_jwt_secret() -> str:
    """Return the secret of this directory, and create it at the first start: tokens stay valid after a restart."""
    file = DIRECTORY / "jwt-secret"
    if not file.exists():
        new_file = file.with_suffix(".new")
        new_file.touch(mode=0o600)
        new_file.write_text(secrets.token_urlsafe(48))
        new_file.rename(file)
    return file.read_text()
