"""The real processes of `lunch-bot dev`."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from app.dev.directory_lock import directory_lock
from app.dev.ports import free_port
from app.dev.service import read_log_tail
from app.settings import DEFAULT_PORTS, Settings
from tests.servers import until

pytestmark = pytest.mark.slow

START_S = 200.0
STOP_S = 60.0

STARTED = [
    "Loading the program",
    "Starting PostgreSQL, Redis, Kafka",
    "Migrating the database",
    "Adding the demo data that are missing",
    "The database has demo data",
]

STORY = [
    "A dashboard subscribes by WebSocket",
    "The cafe's chat asks for a link",
    "The API lists the request",
    "The dashboard shows the request",
    "The bot answers in the cafe's chat",
    "The managers' chat gets the request",
    "The manager presses a button there",
    "The dashboard shows the approval",
    "The managers' chat shows the decision",
    "The bot tells the cafe's chat",
    "A date is open for orders",
    "A user orders",
    "A user orders",
    "The manager announces the date",
    "The cafe's chat gets the order list",
    "The dashboard shows it as sent",
    "The cook presses «Received»",
    "The dashboard shows the confirmation",
    "The manager starts the night's run",
    "The recommendations are ready",
    "The Gemini keys show their requests",
    "A user has a recommendation",
    "The user reads it by GraphQL",
    "The user reads the same by REST",
    "The user asks the bot",
    "The bot answers",
]


@asynccontextmanager
async def lunch_bot(
    directory: Path, *arguments: str, **env: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """Run `lunch-bot` in `directory` without outside settings; yield the process and its output lines."""
    outside = {name.upper() for name in Settings.model_fields}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", *arguments),
        cwd=directory,
        env={name: value for name, value in os.environ.items() if name not in outside} | env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines: list[str] = []
    reading = asyncio.create_task(_read(process.stdout, lines))
    try:
        yield process, lines
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


async def _read(stream: asyncio.StreamReader, lines: list[str]) -> None:
    async for line in stream:
        lines.append(line.decode().rstrip())  # noqa: PERF401 the tests read the list meanwhile


@pytest.mark.timeout(300)
async def test_the_demo_is_played(tmp_path: Path) -> None:
    """In an empty folder `lunch-bot dev --demo --once` prints each step of its start, plays the story, and exits with 0."""
    async with lunch_bot(tmp_path, "dev", "--demo", "--once", PORT=str(free_port())) as (process, lines):
        async with asyncio.timeout(START_S):
            status = await process.wait()

    steps = [re.split(" {2,}", line.split("✓ ")[1])[0] for line in lines if " s  ✓ " in line]
    ready = sorted(steps[len(STARTED) : len(STARTED) + len(DEFAULT_PORTS)])
    # If the run was started by the schedule, its end may come before the step.
    story = [
        step
        for step in steps[len(STARTED) + len(DEFAULT_PORTS) :]
        if not step.startswith("The dashboard shows the finished")
    ]
    assert status == 0, "\n".join([*lines, *logs(tmp_path)])
    assert steps[: len(STARTED)] == STARTED
    assert ready == sorted(f"The process {name} is ready" for name in DEFAULT_PORTS)
    assert story == STORY


def logs(directory: Path) -> list[str]:
    """Return the last lines of each process and service."""
    return [
        f"{log.name}: {line}" for log in directory.glob(".lunch-bot/*.log") for line in read_log_tail(log).splitlines()
    ]


@pytest.mark.timeout(300)
async def test_dev_serves_until_ctrl_c(tmp_path: Path) -> None:
    """A killed process is restarted; Ctrl-C ends everything."""
    async with lunch_bot(tmp_path, "dev", PORT=str(free_port())) as (process, lines):
        await until(lambda: any("Ctrl-C" in line for line in lines), START_S)
        family = psutil.Process(process.pid).children(recursive=True)
        next(child for child in family if child.cmdline()[-1] == "worker").kill()
        await until(lambda: any(re.match(r"worker +\| ended with -9", line) for line in lines))
        begun = len(lines)
        await until(lambda: any(re.match(r"worker .*listening", line) for line in lines[begun:]), START_S)
        family += psutil.Process(process.pid).children(recursive=True)

        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(STOP_S):
            await process.wait()

    assert process.returncode == 0
    assert (tmp_path / ".lunch-bot/worker.log").read_text().count("process.listening") == 2
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


async def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    """If PORT is taken, `lunch-bot dev` prints one line and starts nothing."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with server, lunch_bot(tmp_path, "dev", PORT=str(port)) as (process, lines):
        await process.wait()

    assert lines == [f"lunch-bot: PORT: {port} is taken; give another, such as PORT=8100 lunch-bot dev"]
    assert process.returncode == 2


async def test_every_wrong_setting_is_one_line(tmp_path: Path) -> None:
    """Before it starts anything, `lunch-bot dev` names every setting that a process or the demo cannot use."""
    (tmp_path / ".env").write_text("LUNCH_TIMEZONE=Mars\n", encoding="utf-8")
    wrong = {"GEMINI_API_KEYS": "AIza-key", "PORT": "http", "TELEGRAM_WEBHOOK_URL": "https://lunch.example/updates"}

    async with lunch_bot(tmp_path, "dev", "--demo", **wrong) as (process, lines):
        await process.wait()

    assert sorted(line.split(": ")[1] for line in lines) == [
        "GEMINI_API_KEYS",
        "LUNCH_TIMEZONE",
        "PORT",
        "TELEGRAM_WEBHOOK_SECRET",
        "TELEGRAM_WEBHOOK_URL",
    ]
    assert process.returncode == 2
    assert not (tmp_path / ".lunch-bot").exists()


async def test_a_second_dev_in_a_folder_is_one_clear_line(tmp_path: Path) -> None:
    """If another program uses the data, its process is named, and not the port that it has taken as well."""
    data = tmp_path / ".lunch-bot"
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    with directory_lock(data):
        async with server, lunch_bot(tmp_path, "dev", PORT=str(port)) as (process, lines):
            await process.wait()

    expected = f".lunch-bot is used by process {os.getpid()}: end that first, or use another directory."
    assert lines == [f"lunch-bot: {expected}"]
    assert process.returncode == 1
