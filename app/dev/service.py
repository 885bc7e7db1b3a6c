"""An embedded service: a child process that is started on a free port, watched and stopped."""

import asyncio
import importlib.util
import math
import os
import signal
import stat
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, ClassVar

from app.dev.launcher import launcher_command
from app.dev.ports import free_port

START_TIMEOUT_S = 180
"""Enough for initdb or a crash recovery on a busy machine with two cores."""

START_ATTEMPTS = 10
ATTEMPT_PAUSE_S = 0.2
"""A start fails if its port is taken, or if backends of a killed PostgreSQL still hold its memory for up to a second."""

STOP_STEP_S = 1.6
"""Time to wait after each signal, from a graceful stop to SIGKILL: the three signals of PostgreSQL fit into 5 s."""

POLL_S = 0.01
"""During a start or a stop."""

WATCH_S = 0.5
"""While a service runs. A program that waits should not be seen in `top`."""

MAX_LOG_BYTES = 10_000_000
"""A larger log is truncated at the next start."""

SHOWN_LOG_LINES = 8
"""Number of last log lines in an error."""


class EmbeddedError(RuntimeError):
    """An embedded service is not available; the message is for the person at the terminal."""


class EmbeddedUnavailable(EmbeddedError):
    """The extra is not installed, or its binary does not run on this machine."""


class EmbeddedInUse(EmbeddedError):
    """Another program uses this directory."""


class EmbeddedFailed(EmbeddedError):
    """A service did not start; the message ends with the last lines of its log."""


class Service(ABC):
    """A service with its data in `<directory>/<name>` and its log in `<directory>/<name>.log`.

    It keeps its port when it is restarted. Only one program may use a directory: `embedded` ensures this; other
    callers must ensure it themselves.
    """

    name: ClassVar[str]
    product: ClassVar[str]
    setting: ClassVar[str]
    package: ClassVar[str]
    binary_path: ClassVar[str]
    not_ready_errors: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        """Without `port`, the first start chooses a free one. Raises EmbeddedUnavailable."""
        self.home = directory.resolve() / self.name
        self.log = directory.resolve() / f"{self.name}.log"
        self.binary = self._find_binary()
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """The value of the setting `setting` for this service."""

    @property
    def stop_signals(self) -> tuple[int, ...]:
        """Signals to try in this order before SIGKILL, the most graceful first."""
        return (signal.SIGTERM,)

    @property
    def account(self) -> tuple[int, int]:
        """The user id and group id that the service runs as."""
        return os.getuid(), os.getgid()

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """Return the arguments of the binary. They contain `home`, which identifies leftover processes."""

    @property
    def environment(self) -> dict[str, str]:
        """Additional environment variables of the service."""
        return {}

    async def prepare(self) -> None:
        """Create the data directory."""
        self.home.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    async def is_ready(self, port: int) -> bool:
        """Whether this process answers, and not another one that took the port first."""

    @property
    def port(self) -> int:
        if self._port is None:
            raise RuntimeError(f"{self.product} has not been started")
        return self._port

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise RuntimeError(f"{self.product} has not been started")
        return self._process

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Start the service, and return when it answers. Raises EmbeddedFailed, EmbeddedUnavailable."""
        if self.is_alive:
            return
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._end_leftovers()
                await self.prepare()
                for _ in range(START_ATTEMPTS):
                    if await self._start_on(self._port or free_port()):
                        return
                    await asyncio.sleep(ATTEMPT_PAUSE_S)
        except TimeoutError:
            self.kill()
            raise self._failure(f"did not answer within {START_TIMEOUT_S} s") from None
        except OSError as error:
            self.kill()
            raise EmbeddedFailed(f"{self.product} cannot use {self.home}: {error}") from None
        except BaseException:
            self.kill()
            raise
        raise self._failure("found its port or memory in use")

    async def stop(self) -> None:
        """Send each stop signal, then SIGKILL, with STOP_STEP_S between them, until the service ends."""
        try:
            for number in (*self.stop_signals, signal.SIGKILL):
                if self._process is None or self._process.poll() is not None:
                    return
                self._process.send_signal(number)
                await wait_until(lambda: not self.is_alive, within_s=STOP_STEP_S)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the service, like a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Suspend the service: its connections stay open and get no answer."""
        self._started.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Resume a paused service."""
        self._started.send_signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Wait until the service ends; return its exit code, which is negative for a signal."""
        await wait_until(lambda: not self.is_alive, every_s=WATCH_S)
        return self._started.returncode

    async def _start_on(self, port: int) -> bool:
        """Start the service on `port` and wait until it answers; return false if the port or its memory is in use."""
        self._spawn(self.binary, *self.command(port))
        while self.is_alive:
            try:
                if await self.is_ready(port):
                    self._port = port
                    return True
            except self.not_ready_errors:
                pass
            await asyncio.sleep(POLL_S)
        if " in use" in self._log_tail():
            return False
        self._check_binary_runs()
        raise self._failure("ended during its start")

    def _spawn(self, program: Path, *arguments: str, cwd: Path | None = None) -> None:
        """Run a program of this service in its own session and with a minimal environment.

        In our session it would receive the terminal's Ctrl-C before we do. Variables such as OTEL_… and PG… are for
        other programs.
        """
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        with open_log(self.log) as log:
            self._log_start = os.fstat(log.fileno()).st_size
            self._process = subprocess.Popen(  # noqa: S603 (our own binary)
                [*launcher_command(self.stop_signals[0], *self.account), str(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd or self.home,
                env={**kept, "LC_ALL": "C", "TZ": "UTC", **self.environment},
                start_new_session=True,
            )

    async def _end_leftovers(self) -> None:
        """Stop a process that a killed program left running on this data directory.

        Its binary and the data directory among its arguments identify it.
        """
        try:
            import psutil  # noqa: PLC0415 (part of the extra)
        except ImportError:
            raise self._unavailable("no module named psutil") from None

        def has_ended(process: psutil.Process) -> bool:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()
                if not command or Path(command[0]).name != self.binary.name or str(self.home) not in command:
                    continue
                for number in (*self.stop_signals, signal.SIGKILL):
                    process.send_signal(number)
                    await wait_until(partial(has_ended, process), within_s=STOP_STEP_S)

    def _find_binary(self) -> Path:
        """Find the binary without importing its wheel: PostgreSQL's takes 0.2 s and warns about XDG_RUNTIME_DIR."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or spec.origin is None:
            raise self._unavailable(f"no module named {self.package}")
        binary = (Path(spec.origin).parent / self.binary_path).resolve()
        if not binary.is_file():
            raise self._unavailable(f"{self.package} has no {self.binary_path} for this platform")
        if not os.access(binary, os.X_OK):
            try:
                binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
            except OSError:
                raise self._unavailable(f"{binary} is not executable") from None
        return binary

    def _check_binary_runs(self) -> None:
        try:
            version = subprocess.run(  # noqa: S603 (our own binary)
                [self.binary, "--version"], capture_output=True, check=False, text=True, timeout=STOP_STEP_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._unavailable(f"the binary does not run here ({error})") from None
        if version.returncode != 0:
            raise self._unavailable(f"the binary does not run here ({version.stderr.strip() or version.returncode})")

    def _unavailable(self, reason: str) -> EmbeddedUnavailable:
        return EmbeddedUnavailable(
            f"No embedded {self.product}: {reason}. Install lunch-bot[embedded], or set {self.setting}."
        )

    def _failure(self, reason: str) -> EmbeddedFailed:
        return EmbeddedFailed(f"{self.product} {reason}. {self.log} ends with:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return read_log_tail(self.log, self._log_start)


def open_log(path: Path) -> BinaryIO:
    """Open a log, to append to it."""
    log = path.open("ab")
    if log.tell() > MAX_LOG_BYTES:
        log.truncate(0)
    return log


def read_log_tail(path: Path, start: int = 0) -> str:
    """Return the last lines of a log, without those before `start` (in bytes)."""
    if not path.exists():
        return ""
    with path.open("rb") as log:
        log.seek(start)
        return "\n".join(log.read().decode(errors="replace").splitlines()[-SHOWN_LOG_LINES:])


async def wait_until(condition: Callable[[], bool], *, within_s: float = math.inf, every_s: float = POLL_S) -> bool:
    """Wait until `condition` holds, and check it every `every_s` seconds; return false after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every_s)
    return True


def add_mode(path: Path, bits: int) -> None:
    """Add permission bits to `path` if any of them is missing."""
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(stat.S_IMODE(mode) | bits)
