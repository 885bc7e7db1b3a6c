"""Lets only one program use a directory of embedded services."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import stamina

from app.dev.service import EmbeddedFailed, EmbeddedInUse

LOCK_TIMEOUT_S = 2.0
"""A killed program and its services need a moment to end."""


@contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Hold `<directory>/lock`. The operating system releases it when the program ends, even by a crash.

    Raises EmbeddedInUse, EmbeddedFailed.
    """
    import fcntl  # noqa: PLC0415 (not on Windows)

    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = (directory / "lock").open("a+")
    except OSError as error:
        raise EmbeddedFailed(f"{directory} cannot be used: {error}") from None
    with file as lock:
        try:
            for attempt in stamina.retry_context(on=BlockingIOError, attempts=None, timeout=LOCK_TIMEOUT_S):
                with attempt:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise EmbeddedInUse(
                f"{directory} is used by process {lock.read() or '?'}: end that first, or use another directory."
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
