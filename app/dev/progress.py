"""What `lunch-bot dev` prints about its own work: a line for each step, with the seconds since the start."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from textwrap import indent

PATIENCE_S = 180.0
"""How long a start or a step of the demo may take. On a busy machine each takes many times as long as on an idle one."""

REMINDER_S = 10.0
"""How often a wait says that it still waits."""

INDENT = " " * 13
TITLE_WIDTH = 38


class Progress:
    """Prints steps as they begin and end."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def begin(self, title: str) -> None:
        self._print("…", title)

    def done(self, title: str, result: str) -> None:
        """Print a step with its result: beside the title, or below it if the result has several lines."""
        if "\n" in result:
            self._print("✓", title)
            print(indent(result, INDENT), flush=True)
        else:
            self._print("✓", f"{title:<{TITLE_WIDTH}} {result}")

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Say that the block begins, and how long it took when it has ended without an error."""
        self.begin(title)
        began = time.monotonic()
        yield
        self.done(title, f"done in {time.monotonic() - began:.1f} s")

    @asynccontextmanager
    async def waiting(self, describe: Callable[[], str]) -> AsyncIterator[None]:
        """Say every `REMINDER_S` seconds that the block still waits, and what for."""

        async def remind() -> None:
            while True:
                await asyncio.sleep(REMINDER_S)
                self.begin(f"Still waiting for: {describe()}")

        reminding = asyncio.create_task(remind())
        try:
            yield
        finally:
            reminding.cancel()

    def _print(self, mark: str, text: str) -> None:
        print(f"{time.monotonic() - self._began:6.1f} s  {mark} {text}", flush=True)
