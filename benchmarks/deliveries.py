"""How orders reach kitchens: real processes, a real broker, and a Telegram that keeps its limits and fails on demand.

.venv/bin/python -m benchmarks.deliveries [scenario …]
"""

import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from app.dev.telegram.faults import Failure, FailureKind
from app.telegram.limiter import BOT_INTERVAL_MS
from app.workers.deadlines import announce_passed
from tests.e2e.system import Kitchen, System, next_minute, soon, system

KITCHENS = 300
KILLS = 8
SENDERS = ("events-1", "events-2", "events-3")


REPEATED = "🔁"


class Told:
    """When the kitchens have got their messages."""

    def __init__(self, running: System, kitchens: list[Kitchen]) -> None:
        self.running = running
        self.kitchens = kitchens
        self.times: list[float] = []

    async def all(self, within_s: float) -> None:
        """Watch until each kitchen has its message."""
        async with asyncio.timeout(within_s):
            while len(self.times) < len(self.kitchens):
                count = sum(bool(self.running.told(kitchen)) for kitchen in self.kitchens)
                self.times += [time.monotonic()] * (count - len(self.times))
                await asyncio.sleep(0.01)

    async def finished(self, within_s: float) -> None:
        """Watch until nothing is waiting or on its way any more."""
        async with asyncio.timeout(within_s):
            while not all(row.is_finished for row in await self.running.notifications()):
                await asyncio.sleep(0.2)

    def summary(self, began: float) -> str:
        messages = [self.running.told(kitchen) for kitchen in self.kitchens]
        again = [texts for texts in messages if len(texts) > 1]
        unmarked = sum(REPEATED not in text for texts in again for text in texts[1:])
        return (
            f"first message after {self.times[0] - began:.1f} s, last after {self.times[-1] - began:.1f} s; "
            f"messages per kitchen {dict(Counter(map(len, messages)))}, repeats not marked {unmarked}, "
            f"429s {self.running.telegram.refusals[429]}"
        )


async def begin(running: System) -> None:
    """Start three events processes and a worker."""
    for name in SENDERS:
        await running.start(name, "events")
    await running.start("worker", "worker")
    await running.listening(*SENDERS, "worker")


async def plain(running: System) -> str:
    """All at one deadline, three events processes."""
    await begin(running)
    date, deadline = next_minute()
    told = Told(running, await running.add_kitchens(KITCHENS, date, deadline))
    await asyncio.sleep((deadline - datetime.now(UTC)).total_seconds())
    began = time.monotonic()
    await told.all(90)
    await told.finished(30)
    took, minimum = told.times[-1] - told.times[0], (KITCHENS - 1) * BOT_INTERVAL_MS / 1000
    return f"{told.summary(began)}; between first and last {took / minimum:.2f} of the limiter's minimum"


async def killed(running: System) -> str:
    """An events process is killed (SIGKILL) every second or so while they send, and started again."""
    await begin(running)
    date, deadline = soon()
    told = Told(running, await running.add_kitchens(KITCHENS, date, deadline))
    began = time.monotonic()
    await announce_passed(running.clients, datetime.now(UTC))
    watching = asyncio.create_task(told.all(240))
    kills = 0
    while not watching.done() and kills < KILLS:
        await asyncio.sleep(random.uniform(0.5, 2.5))  # noqa: S311 - it only has to be irregular
        name = random.choice(SENDERS)  # noqa: S311 - the same
        await running.kill(name)
        kills += 1
        await running.start(name, "events")
    await watching
    await told.finished(120)
    return f"{kills} kills; {told.summary(began)}"


async def kafka_away(running: System) -> str:
    """The broker stands still for 20 s when the deadline passes."""
    await begin(running)
    date, deadline = soon()
    told = Told(running, await running.add_kitchens(KITCHENS, date, deadline))
    running.kafka.pause()
    began = time.monotonic()
    await announce_passed(running.clients, datetime.now(UTC))
    await asyncio.sleep(20)
    running.kafka.resume()
    await told.all(120)
    await told.finished(30)
    return told.summary(began)


async def told_thrice(running: System) -> str:
    """Each deadline's event comes three times, with ids of their own."""
    await begin(running)
    date, deadline = soon()
    kitchens = await running.add_kitchens(KITCHENS, date, deadline)
    told = Told(running, kitchens)
    began = time.monotonic()
    await announce_passed(running.clients, datetime.now(UTC))
    for _ in range(2):
        await running.tell_again(kitchens, date)
    await told.all(120)
    await told.finished(30)
    return f"{told.summary(began)}; rows {len(await running.notifications())}"


async def faults(running: System) -> str:
    """One kitchen for each way in which Telegram can fail, the first call of each."""
    await begin(running)
    date, deadline = soon()
    kitchens = await running.add_kitchens(len(FailureKind), date, deadline)
    for kind, kitchen in zip(FailureKind, kitchens, strict=True):
        retry_after = 3 if kind is FailureKind.RATE_LIMIT else None
        running.telegram.failures.add(
            Failure(method="sendMessage", chat_id=kitchen.chat_id, kind=kind, retry_after=retry_after)
        )
    began = time.monotonic()
    await announce_passed(running.clients, datetime.now(UTC))
    told = Told(running, kitchens)
    await asyncio.sleep(1)
    await told.finished(120)
    rows = {row.cafe_id: row for row in await running.notifications()}
    lines = [f"all is done after {time.monotonic() - began:.1f} s"]
    for kind, kitchen in zip(FailureKind, kitchens, strict=True):
        row = rows[kitchen.cafe_id]
        texts = running.told(Kitchen(kitchen.cafe_id, row.tg_chat_id))
        marked = sum(REPEATED in text for text in texts)
        lines.append(
            f"{kind.value}: {row.status.value}, attempts {row.attempts}, messages {len(texts)}, marked {marked}"
        )
    return "\n  ".join(lines)


SCENARIOS = {scenario.__name__: scenario for scenario in (plain, killed, kafka_away, told_thrice, faults)}


def show_logs(directory: Path) -> None:
    """Print the ends of what the processes have logged."""
    for log in directory.glob("*.log"):
        print(log.name, log.read_text()[-3000:])


async def main(names: list[str]) -> None:
    for name in names or SCENARIOS:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            async with system(Path(directory)) as running:
                try:
                    print(f"{name}: {await SCENARIOS[name](running)}", flush=True)
                except BaseException:
                    show_logs(Path(directory))
                    raise


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
