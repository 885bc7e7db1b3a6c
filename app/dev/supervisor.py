"""Keeps processes running: logs and shows their output with their names, and restarts those that end."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.dev.launcher import launcher_command
from app.dev.service import Service, open_log

STOP_TIMEOUT_S = 2.0
"""Time for a graceful stop of the processes. The services stop after them; together this takes at most 5 s."""

RESTART_PAUSE_S = 1.0
COLOURS = (36, 33, 35, 32, 34)
NAME_WIDTH = 8


@dataclass
class Output:
    """The output of the processes in the terminal. While it is quiet, it has no log lines."""

    is_quiet: bool = False

    def write_line(self, text: str) -> None:
        if not self.is_quiet:
            self.notify(text)

    def notify(self, text: str) -> None:
        """Write a line that the person at the terminal must see."""
        print(text, flush=True)


@dataclass
class Child:
    """The process `lunch-bot <name>`."""

    name: str
    env: Mapping[str, str]
    colour: int
    output: Output
    log: Path
    process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.env['PORT']}"

    async def keep_running(self) -> None:
        """Run the process, and restart it when it ends, until cancelled."""
        while True:
            # It ends when this process ends, and gets Ctrl-C only from this process.
            self.process = await asyncio.create_subprocess_exec(
                *launcher_command(signal.SIGTERM, os.getuid(), os.getgid()),
                *(sys.executable, "-m", "app", self.name),
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            await self._show_lines(self.process)
            status = await self.process.wait()
            self.output.notify(self._named(f"ended with {status}; restarting it. Its log is {self.log}"))
            await asyncio.sleep(RESTART_PAUSE_S)

    async def stop(self) -> None:
        """Stop the process gracefully, or kill it after STOP_TIMEOUT_S."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def _show_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with open_log(self.log) as log:
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:  # longer than the buffer
                    continue
                if not line:
                    return
                log.write(line)
                log.flush()
                self.output.write_line(self._named(line.decode(errors="replace").rstrip()))

    def _named(self, text: str) -> str:
        name = f"{self.name:<{NAME_WIDTH}}|"
        return f"\033[{self.colour}m{name}\033[0m {text}" if sys.stdout.isatty() else f"{name} {text}"


async def keep_service_running(service: Service, output: Output, dependents: Sequence[Child]) -> None:
    """Restart an embedded service on its port whenever it ends, and then restart `dependents`.

    The broker loses its data when it ends, and running clients would wait for events that no longer exist.
    """
    while True:
        status = await service.wait()
        output.notify(f"{service.name:<{NAME_WIDTH}}| ended with {status}; restarting it. Its log is {service.log}")
        await asyncio.sleep(RESTART_PAUSE_S)
        await service.start()
        await asyncio.gather(*(child.stop() for child in dependents))
