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

from app.dev.ports import free_port
from app.settings import Settings
from tests.servers import until

pytestmark = pytest.mark.slow

START_S = 90.0
STOP_S = 60.0


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
    """In an empty folder `lunch-bot dev --demo --once` plays every step and exits with 0."""
    async with lunch_bot(tmp_path, "dev", "--demo", "--once", PORT=str(free_port())) as (process, lines):
        async with asyncio.timeout(START_S):
            status = await process.wait()

    story = [line.split("✓")[1].split("  ")[0].strip() for line in lines if "✓" in line]
    # If the run was started by the schedule, its end may come before the step.
    story = [step for step in story if step != "The dashboard shows the finished run"]
    assert (status, story) == (
        0,
        [
            "The system is ready",
            "A dashboard subscribes by WebSocket",
            "The cafe's chat asks for a link",
            "The request is there",
            "The dashboard shows the request",
            "The bot answers in the chat",
            "A manager approves the request",
            "The dashboard shows the approval",
            "The bot confirms the link",
            "A date is open for orders",
            "A user orders",
            "A user orders",
            "A manager announces the date",
            "The cafe gets the order list",
            "The dashboard shows it as sent",
            "A cook presses «Received»",
            "The dashboard shows the confirmation",
            "A manager starts recommendations",
            "The recommendations are ready",
            "The keys show their requests",
            "A user has a recommendation",
            "The user reads it by GraphQL",
            "The user reads the same by REST",
            "The user asks the bot",
        ],
    ), "\n".join(lines)


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
    assert not [child for child in family if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


async def test_a_taken_port_is_one_clear_line(tmp_path: Path) -> None:
    """If PORT is taken, `lunch-bot dev` prints one line and starts nothing."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    async with server, lunch_bot(tmp_path, "dev", PORT=str(port)) as (process, lines):
        await process.wait()

    assert lines == [f"lunch-bot: PORT: {port} is taken; give another, such as PORT=8100 lunch-bot dev"]
    assert process.returncode == 2
