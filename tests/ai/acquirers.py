"""Many processes that take keys as fast as they can; some of them are killed, and others take their place.

    python -m tests.ai.acquirers <directory> <processes> <kills> <key>...

The directory gets a line for each grant in `grants`, written after the grant. Settings come from the environment. The
modules are imported once, and each process is forked from there.
"""

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from app.ai.key_pool import KeyPool, KeysResting
from app.clients import open_clients
from app.resolvers.gemini_keys import UsageLedger
from app.settings import Settings
from tests.ai.pools import keys

BETWEEN_KILLS_S = 0.1


async def take_all(file: int, names: list[str]) -> None:
    settings = Settings.load()
    async with open_clients(settings) as clients:
        pool = KeyPool(clients.redis, keys(*names), settings.gemini_max_requests_per_key, UsageLedger(clients))
        try:
            while True:
                grant = await pool.acquire()
                os.write(file, f"{grant.key.id}\n".encode())
        except KeysResting:
            return


def fork(file: int, names: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(take_all(file, names))
            status = 0
        finally:
            os._exit(status)
    return pid


def main() -> None:
    directory, processes, kills, *names = sys.argv[1:]
    file = os.open(Path(directory) / "grants", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    running = {fork(file, names) for _ in range(int(processes))}
    left = int(kills)
    while running:
        time.sleep(BETWEEN_KILLS_S if left else 0)
        if left:
            left -= 1
            os.kill(random.choice(sorted(running)), signal.SIGKILL)  # noqa: S311 no secret
        pid, status = os.wait() if not left else os.waitpid(-1, os.WNOHANG)
        while pid:
            running.discard(pid)
            if os.WIFSIGNALED(status):
                running.add(fork(file, names))
            elif os.WEXITSTATUS(status):
                sys.exit(1)
            pid, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)


if __name__ == "__main__":
    main()
