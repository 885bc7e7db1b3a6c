"""Keeps processes running: their lines are shown with their names, one that ends is started again."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from app.dev.service import LAUNCHER, Service
from app.log import get_log

log = get_log(__name__)

STOP_S = 2.0
"""How long processes may take to end in order: with the services after them all is gone within 5 s of Ctrl-C."""

RESTART_PAUSE_S = 1.0
COLOURS = (36, 33, 35, 32, 34)
NAME_WIDTH = 8


@dataclass
class Output:
    """What the processes write. While `held`, lines are kept; they are shown only if something goes wrong."""

    held: bool = False
    _kept: list[str] = field(default_factory=list)

    def line(self, text: str) -> None:
        if self.held:
            self._kept.append(text)
        else:
            print(text, flush=True)

    def release(self, *, show: bool) -> None:
        self.held = False
        if show:
            for text in self._kept:
                print(text, flush=True)
        self._kept.clear()


@dataclass
class Child:
    """One process of ours, `lunch-bot <name>`."""

    name: str
    env: Mapping[str, str]
    colour: int
    output: Output
    process: asyncio.subprocess.Process | None = None

    async def keep_running(self) -> None:
        """Run it, again and again, until cancelled."""
        while True:
            # It ends when we do, however we do; and the terminal's Ctrl-C comes to it through us.
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", LAUNCHER),
                *map(str, (os.getpid(), signal.SIGTERM.value, os.getuid(), os.getgid())),
                *(sys.executable, "-m", "app", self.name),
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
            await self._show_lines(self.process)
            self._say(f"ended with {await self.process.wait()}; starting it again")
            await asyncio.sleep(RESTART_PAUSE_S)

    async def stop(self) -> None:
        """End it in order, or by force if that takes too long."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
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
            self._say(line.decode(errors="replace").rstrip())

    def _say(self, text: str) -> None:
        name = f"{self.name:<{NAME_WIDTH}}|"
        self.output.line(f"\033[{self.colour}m{name}\033[0m {text}" if sys.stdout.isatty() else f"{name} {text}")


async def keep_service(service: Service, output: Output, dependents: Sequence[Child]) -> None:
    """Start an embedded service again, on its port, whenever it ends, and `dependents` after it.

    The broker forgets everything when it ends, and clients that live through that wait for what will not come.
    """
    while True:
        status = await service.wait()
        output.line(f"{service.name:<{NAME_WIDTH}}| ended with {status}; starting it again")
        await asyncio.sleep(RESTART_PAUSE_S)
        await service.start()
        await asyncio.gather(*(child.stop() for child in dependents))
