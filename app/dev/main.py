"""`lunch-bot dev`: everything on this machine, with nothing installed."""

import asyncio
import os
import secrets
import shlex
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from pathlib import Path

import aiohttp
import uvicorn
from dotenv import dotenv_values
from starlette.applications import Starlette

from app.clients import open_clients
from app.dev.addresses import Addresses, managers_bearer
from app.dev.demo import Demo, StepFailed
from app.dev.embedded import Addresses as Services
from app.dev.embedded import Kafka, embedded
from app.dev.gemini import create_gemini
from app.dev.seed import seed
from app.dev.service import Service, free_port
from app.dev.supervisor import COLOURS, Child, Output, keep_service
from app.dev.telegram import create_telegram
from app.migrate import migrate
from app.settings import DEFAULT_PORTS, Settings, SettingsError

DIRECTORY = Path(".lunch-bot")

MAX_PORT = 65_535
INTERRUPTED_STATUS = 130
"""What shells say for a program that Ctrl-C ended before it was done."""

TELEGRAM_PORT = 8081
"""The port of Telegram's own server for bots, when one runs it oneself."""

GEMINI_PORT = 8082
GEMINI_KEYS = {"demo-key-1": "lunch", "demo-key-2": "kitchen", "demo-key-3": "kitchen"}
GEMINI_PER_DAY = 200
"""As many as Google gives to a project, or a few more than we use of it."""

GEMINI_LATENCY_S = 0.1

ENV_FILE = DIRECTORY / "dev.env"

KAFKA_OF_OURS = {"KAFKA_FETCH_MAX_WAIT_MS": "5", "KAFKA_SESSION_TIMEOUT_MS": "2000", "KAFKA_IDEMPOTENCE": "false"}
"""The embedded broker holds a fetch for up to half of the wait, lets a group's first member wait for half of the session
time-out, and has no idempotent producers."""


def run(*, demo: bool, once: bool) -> int:
    """Run the system until Ctrl-C, or with `once` until the demo is over; return the exit status.

    Raises SettingsError, EmbeddedError.
    """
    return asyncio.run(_run(demo=demo, once=once))


async def _run(*, demo: bool, once: bool) -> int:
    given = {name: value for name, value in {**dotenv_values(), **os.environ}.items() if value}
    if demo and "TELEGRAM_BOT_TOKEN" in given:
        raise SettingsError("TELEGRAM_BOT_TOKEN: the demo plays with the Telegram stand-in; unset it")
    if demo and "GEMINI_API_KEYS" in given:
        raise SettingsError("GEMINI_API_KEYS: the demo plays with the Gemini stand-in; unset it")
    api_port = _own_port(given)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)

    async with AsyncExitStack() as stack:
        services = await stack.enter_async_context(
            embedded(
                DIRECTORY,
                postgres="DATABASE_URL" not in given,
                redis="REDIS_URL" not in given,
                kafka="KAFKA_BROKER_URL" not in given,
            )
        )
        telegram_url = gemini_url = None
        env = {"LOG_FORMAT": "console", "JWT_SECRET_KEY": _jwt_secret()} | given | _addresses(services)
        if services.kafka_broker_url:
            env |= KAFKA_OF_OURS
        if "TELEGRAM_BOT_TOKEN" not in given:
            token = f"1:{secrets.token_urlsafe(24)}"
            telegram = create_telegram(token=token)
            telegram_url = await stack.enter_async_context(
                _served(telegram, TELEGRAM_PORT, telegram.state.telegram.close)
            )
            env |= {"TELEGRAM_BOT_TOKEN": token, "TELEGRAM_API_URL": telegram_url}
        if "GEMINI_API_KEYS" not in given:
            gemini = create_gemini(keys=GEMINI_KEYS, per_day=GEMINI_PER_DAY, latency_s=GEMINI_LATENCY_S)
            gemini_url = await stack.enter_async_context(_served(gemini, GEMINI_PORT, gemini.state.gemini.close))
            keys = ",".join(f"{project}:{key}" for key, project in GEMINI_KEYS.items())
            env |= {"GEMINI_API_KEYS": keys, "GEMINI_API_URL": gemini_url}
        stack.enter_context(_written(env))
        settings = _settings(env)
        output = Output(held=demo)
        children = [
            Child(name, env | {"PORT": str(port if name == "api" else _free(port, but=api_port))}, colour, output)
            for (name, port), colour in zip((DEFAULT_PORTS | {"api": api_port}).items(), COLOURS, strict=False)
        ]
        async with _kept_running(children, output, services.services):
            # The processes are still importing; one that is quicker than this tries again.
            async with open_clients(settings) as clients:
                await migrate(clients.engine)
                if demo or services.database_url:
                    await seed(clients)
            seeded = demo or services.database_url is not None
            bearer = managers_bearer(settings) if seeded else None
            addresses = Addresses(f"http://127.0.0.1:{api_port}", telegram_url, gemini_url, bearer)
            return await _play(addresses, settings, output, stopped, demo=demo, once=once)


async def _play(
    addresses: Addresses, settings: Settings, output: Output, stopped: asyncio.Event, *, demo: bool, once: bool
) -> int:
    """Play the demo if it is wanted, then serve until told to stop, unless once is enough."""
    story = asyncio.create_task(_story(addresses, settings, demo=demo))
    ending = asyncio.create_task(stopped.wait())
    await asyncio.wait({story, ending}, return_when=asyncio.FIRST_COMPLETED)
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
        print(addresses.shown(), flush=True)
        await ending
        print("Stopping.", flush=True)
    return status


async def _story(addresses: Addresses, settings: Settings, *, demo: bool) -> None:
    async with aiohttp.ClientSession() as http:
        story = Demo(addresses, settings, http)
        await (story.play() if demo else story.wait_until_ready())


@asynccontextmanager
async def _kept_running(children: list[Child], output: Output, services: tuple[Service, ...]) -> AsyncIterator[None]:
    keepers = [asyncio.create_task(child.keep_running()) for child in children]
    keepers += [
        asyncio.create_task(keep_service(service, output, children if service.name == Kafka.name else ()))
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
async def _served(app: Starlette, port: int, close: Callable[[], None]) -> AsyncIterator[str]:
    """Serve a stand-in in this process. `close` ends what waits in it: open polls would hold up the end."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=_free(port), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    )
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]  # signals are ours
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
def _written(env: Mapping[str, str]) -> Iterator[None]:
    """Write the settings of what runs here to a file, as long as it runs: other commands can be told to use them."""
    known = {name.upper() for name in Settings.model_fields} - {"PORT"}
    ENV_FILE.touch(mode=0o600)
    ENV_FILE.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in env.items() if name in known))
    try:
        yield
    finally:
        ENV_FILE.unlink(missing_ok=True)


def _addresses(services: Services) -> dict[str, str]:
    return {
        name: url
        for name, url in (
            ("DATABASE_URL", services.database_url),
            ("REDIS_URL", services.redis_url),
            ("KAFKA_BROKER_URL", services.kafka_broker_url),
        )
        if url
    }


def _settings(env: Mapping[str, str]) -> Settings:
    os.environ.update(env)
    return Settings.load()


def _own_port(given: Mapping[str, str]) -> int:
    text = given.get("PORT", str(DEFAULT_PORTS["api"]))
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PORT:
        raise SettingsError(f"PORT: {text} is not a port")
    if not _is_free(int(text)):
        raise SettingsError(f"PORT: {text} is taken; give another, such as PORT=8100 lunch-bot dev")
    return int(text)


def _free(port: int, *, but: int | None = None) -> int:
    return port if port != but and _is_free(port) else free_port()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _jwt_secret() -> str:
    """Return this directory's secret, made once, so that tokens outlive a restart."""
    file = DIRECTORY / "jwt-secret"
    if not file.exists():
        fresh = file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_urlsafe(48))
        fresh.rename(file)
    return file.read_text()
