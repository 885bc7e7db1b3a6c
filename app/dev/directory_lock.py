"""Lets only one program use a directory of embedded services."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.dev.service import EmbeddedFailed, EmbeddedInUse

LOCK_TIMEOUT_S = 2.0
"""A killed program and its services need a moment to end."""

POLL_S = 0.05


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
        give_up_at = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > give_up_at:
                    lock.seek(0)
                    raise EmbeddedInUse(
                        f"{directory} is used by process {lock.read() or '?'}: end that first, or use another directory."
                    ) from None
                time.sleep(POLL_S)
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
