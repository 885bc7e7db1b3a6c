"""Keeps processes running: shows their output with their names, and restarts those that end."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.dev.launcher import launcher_command
from app.dev.service import Service

STOP_TIMEOUT_S = 2.0
"""Time for a graceful stop of the processes. The services stop after them; together this takes at most 5 s."""

RESTART_PAUSE_S = 1.0
COLOURS = (36, 33, 35, 32, 34)
NAME_WIDTH = 8


@dataclass
class Output:
    """The output of the processes. While `is_held`, lines are kept and shown only after a failure."""

    is_held: bool = False
    _held_lines: list[str] = field(default_factory=list)

    def write_line(self, text: str) -> None:
        if self.is_held:
            self._held_lines.append(text)
        else:
            print(text, flush=True)

    def release(self, *, show: bool) -> None:
        """Stop holding lines; print those held so far if `show`."""
        self.is_held = False
        if show:
            for text in self._held_lines:
                print(text, flush=True)
        self._held_lines.clear()


@dataclass
class Child:
    """The process `lunch-bot <name>`."""

    name: str
    env: Mapping[str, str]
    colour: int
    output: Output
    process: asyncio.subprocess.Process | None = None

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
            self._write(f"ended with {await self.process.wait()}; restarting it")
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
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the buffer
                continue
            if not line:
                return
            self._write(line.decode(errors="replace").rstrip())

    def _write(self, text: str) -> None:
        name = f"{self.name:<{NAME_WIDTH}}|"
        self.output.write_line(f"\033[{self.colour}m{name}\033[0m {text}" if sys.stdout.isatty() else f"{name} {text}")


async def keep_service_running(service: Service, output: Output, dependents: Sequence[Child]) -> None:
    """Restart an embedded service on its port whenever it ends, and then restart `dependents`.

    The broker loses its data when it ends, and running clients would wait for events that no longer exist.
    """
    while True:
        status = await service.wait()
        output.write_line(f"{service.name:<{NAME_WIDTH}}| ended with {status}; restarting it")
        await asyncio.sleep(RESTART_PAUSE_S)
        await service.start()
        await asyncio.gather(*(child.stop() for child in dependents))
