"""Many processes that acquire keys as fast as they can. Some of them are killed and replaced.

    python -m tests.ai.acquirers <directory> <processes> <kills> <throttled> <key>...

After each grant, a process appends a line with the key's id to `<directory>/grants`, and reports the share `<throttled>`
of its requests as throttled. Settings come from the environment.
The main process imports the modules once, and forks the others.
"""

import asyncio
import os
import random
import signal
import sys
import time
from pathlib import Path

from app.ai.key_pool import KeyPool, KeysExhausted
from app.clients import open_clients
from app.services.gemini_keys import UsageLedger
from app.settings import Settings
from tests.ai.pools import parse_keys

BETWEEN_KILLS_S = 0.1


async def acquire_all(file: int, throttled: float, secrets: list[str]) -> None:
    settings = Settings.load()
    async with open_clients(settings) as clients:
        pool = KeyPool(clients.redis, parse_keys(*secrets), settings.gemini_max_requests_per_key, UsageLedger(clients))
        try:
            while True:
                grant = await pool.acquire()
                os.write(file, f"{grant.key.id}\n".encode())
                if random.random() < throttled:  # noqa: S311 not a secret
                    await pool.record_throttled(grant, "429")
        except KeysExhausted:
            return


def fork(file: int, throttled: float, secrets: list[str]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(acquire_all(file, throttled, secrets))
            status = 0
        finally:
            os._exit(status)
    return pid


def main() -> None:
    directory, processes, kills, throttled, *secrets = sys.argv[1:]
    file = os.open(Path(directory) / "grants", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    running = {fork(file, float(throttled), secrets) for _ in range(int(processes))}
    kills_left = int(kills)
    while running:
        time.sleep(BETWEEN_KILLS_S if kills_left else 0)
        if kills_left:
            kills_left -= 1
            os.kill(random.choice(sorted(running)), signal.SIGKILL)  # noqa: S311 not a secret
        pid, status = os.wait() if not kills_left else os.waitpid(-1, os.WNOHANG)
        while pid:
            running.discard(pid)
            if os.WIFSIGNALED(status):
                running.add(fork(file, float(throttled), secrets))
            elif os.WEXITSTATUS(status):
                sys.exit(1)
            pid, status = os.waitpid(-1, os.WNOHANG) if running else (0, 0)


if __name__ == "__main__":
    main()
