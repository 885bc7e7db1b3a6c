"""The delivery of orders to cafes: real processes, a real broker, and a Telegram stand-in with rate limits and failures.

.venv/bin/python -m benchmarks.deliveries [scenario …]
"""

import asyncio
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import psutil

from app.auth.context import Context
from app.auth.viewer import Caller, Viewer
from app.dev.telegram.chats import Chat
from app.dev.telegram.faults import Failure, FailureKind
from app.models import Cafe, NotificationKind, NotificationStatus, Role, User
from app.resolvers import links
from app.services.notifications import notify
from app.telegram.limiter import BOT_INTERVAL_MS
from app.workers.deadlines import announce_passed
from tests.e2e.system import FIRST_GROUP, LinkedCafe, System, next_minute, soon, system

CAFES = 300
FETCH_MAX_WAIT_MS = "50"
"""The embedded broker answers after half of this. With the 5 ms of the tests the processes would mostly poll."""

APPROVALS = 60
NEIGHBOURS = 16
BACKLOG = 500
MANAGERS = FIRST_GROUP - CAFES - 1
MANAGER = Viewer(1, Role.MANAGER)
KILLS = 8
SENDERS = ("events-1", "events-2", "events-3")


REPEATED = "🔁"


type Disturbance = AbstractAsyncContextManager[None]


class Watch:
    """The times at which cafes get their messages."""

    def __init__(self, running: System, cafes: list[LinkedCafe]) -> None:
        self.running = running
        self.cafes = cafes
        self.times: list[float] = []

    async def all(self, within_s: float) -> None:
        """Wait until each cafe has its message."""
        async with asyncio.timeout(within_s):
            while len(self.times) < len(self.cafes):
                count = sum(bool(self.running.messages_to(cafe)) for cafe in self.cafes)
                self.times += [time.monotonic()] * (count - len(self.times))
                await asyncio.sleep(0.01)

    async def finished(self, within_s: float) -> None:
        """Wait until all notifications are finished."""
        async with asyncio.timeout(within_s):
            while not all(row.is_finished for row in await self.running.notifications()):
                await asyncio.sleep(0.2)

    def summary(self, began: float) -> str:
        messages = [self.running.messages_to(cafe) for cafe in self.cafes]
        again = [texts for texts in messages if len(texts) > 1]
        unmarked = sum(REPEATED not in text for texts in again for text in texts[1:])
        return (
            f"first message after {self.times[0] - began:.1f} s, last after {self.times[-1] - began:.1f} s; "
            f"messages per cafe {dict(Counter(map(len, messages)))}, repeats not marked {unmarked}, "
            f"429s {self.running.telegram.refusals[429]}"
        )


async def begin(running: System) -> None:
    """Start three events processes and a worker."""
    for name in SENDERS:
        await running.start(name, "events")
    await running.start("worker", "worker")
    await running.listening(*SENDERS, "worker", within_s=300)


async def plain(running: System) -> str:
    """All cafes have the same deadline; three events processes send."""
    await begin(running)
    date, deadline = next_minute()
    watch = Watch(running, await running.add_cafes(CAFES, date, deadline))
    await asyncio.sleep((deadline - datetime.now(UTC)).total_seconds())
    began = time.monotonic()
    await watch.all(90)
    await watch.finished(30)
    took, minimum = watch.times[-1] - watch.times[0], (CAFES - 1) * BOT_INTERVAL_MS / 1000
    return f"{watch.summary(began)}; between first and last {took / minimum:.2f} of the limiter's minimum"


async def killed(running: System) -> str:
    """An events process is killed (SIGKILL) about every second during the deliveries, and restarted."""
    await begin(running)
    date, deadline = soon()
    watch = Watch(running, await running.add_cafes(CAFES, date, deadline))
    began = time.monotonic()
    await announce_passed(running.clients, datetime.now(UTC))
    watching = asyncio.create_task(watch.all(240))
    kills = 0
    while not watching.done() and kills < KILLS:
        await asyncio.sleep(random.uniform(0.5, 2.5))  # noqa: S311 - the interval only has to be irregular
        name = random.choice(SENDERS)  # noqa: S311 - the same
        await running.kill(name)
        kills += 1
        await running.start(name, "events")
    await watching
    await watch.finished(120)
    return f"{kills} kills; {watch.summary(began)}"


async def kafka_unavailable(running: System) -> str:
    """The broker is paused for 20 s when the deadline passes."""
    await begin(running)
    date, deadline = soon()
    watch = Watch(running, await running.add_cafes(CAFES, date, deadline))
    running.kafka.pause()
    began = time.monotonic()
    await announce_passed(running.clients, datetime.now(UTC))
    await asyncio.sleep(20)
    running.kafka.resume()
    await watch.all(120)
    await watch.finished(30)
    return watch.summary(began)


async def repeated_events(running: System) -> str:
    """Each event of a deadline comes three times, with different ids."""
    await begin(running)
    date, deadline = soon()
    cafes = await running.add_cafes(CAFES, date, deadline)
    watch = Watch(running, cafes)
    began = time.monotonic()
    await announce_passed(running.clients, datetime.now(UTC))
    for _ in range(2):
        await running.repeat_deadline_event(cafes, date)
    await watch.all(120)
    await watch.finished(30)
    return f"{watch.summary(began)}; rows {len(await running.notifications())}"


async def faults(running: System) -> str:
    """The first call of each cafe fails, in every way in which Telegram can fail."""
    await begin(running)
    date, deadline = soon()
    cafes = await running.add_cafes(len(FailureKind), date, deadline)
    for kind, cafe in zip(FailureKind, cafes, strict=True):
        retry_after = 3 if kind is FailureKind.RATE_LIMIT else None
        running.telegram.failures.add(
            Failure(method="sendMessage", chat_id=cafe.chat_id, kind=kind, retry_after=retry_after)
        )
    began = time.monotonic()
    await announce_passed(running.clients, datetime.now(UTC))
    watch = Watch(running, cafes)
    await asyncio.sleep(1)
    await watch.finished(120)
    rows = {row.cafe_id: row for row in await running.notifications()}
    lines = [f"everything is finished after {time.monotonic() - began:.1f} s"]
    for kind, cafe in zip(FailureKind, cafes, strict=True):
        row = rows[cafe.cafe_id]
        texts = running.messages_to(LinkedCafe(cafe.cafe_id, row.tg_chat_id))
        marked = sum(REPEATED in text for text in texts)
        lines.append(
            f"{kind.value}: {row.status.value}, attempts {row.attempts}, messages {len(texts)}, marked {marked}"
        )
    return "\n  ".join(lines)


async def approvals(running: System, disturbance: Disturbance | None = None) -> str:
    """Cafes ask for links, the managers' chat gets the requests, and all are approved at the same time."""
    async with running.clients.db() as session:
        session.add(User(tgid=MANAGER.tgid, name="Maria", role=Role.MANAGER))
        cafes = [Cafe(name=f"Cafe {index}") for index in range(APPROVALS)]
        session.add_all(cafes)
    running.telegram.add_chat(Chat(MANAGERS, "supergroup", "Managers"))
    linked = [LinkedCafe(cafe.id, FIRST_GROUP - index) for index, cafe in enumerate(cafes)]
    for cafe in linked:
        running.telegram.add_chat(Chat(cafe.chat_id, "supergroup", f"Cafe {cafe.cafe_id}"))
    await begin(running)
    manager = Context(running.clients, "benchmark", Caller(viewer=MANAGER))
    watch = Watch(running, linked)
    async with disturbance or nullcontext():
        requests = [
            await links.link_request(Context(running.clients, str(cafe.chat_id)), cafe.cafe_id, cafe.chat_id)
            for cafe in linked
        ]
        began, cpu_began, lines_began = time.monotonic(), cpu_seconds(running), count_log_lines(running)
        await asyncio.gather(*(links.approve(manager, request.id) for request in requests))
        await watch.all(600)
        cpu = cpu_seconds(running) - cpu_began
    minimum = (APPROVALS - 1) * BOT_INTERVAL_MS / 1000
    took = (watch.times[-1] - watch.times[0]) / minimum
    sent = sum(row.status is NotificationStatus.SENT for row in await running.notifications())
    lines = count_log_lines(running) - lines_began
    return (
        f"{watch.summary(began)}; between first and last {took:.2f} of the limiter's minimum; {sent} sent, {lines} log lines, "
        f"{1000 * cpu / sent:.0f} ms of CPU a message"
    )


def cpu_seconds(running: System) -> float:
    """Return the CPU time of the events processes until now."""
    times = [psutil.Process(running.processes[name].pid).cpu_times() for name in SENDERS]
    return sum(time.user + time.system for time in times)


def count_log_lines(running: System) -> int:
    """Count the lines that the events processes have logged until now."""
    return sum(len((running.logs / f"{name}.log").read_text().splitlines()) for name in SENDERS)


@asynccontextmanager
async def neighbours() -> AsyncIterator[None]:
    """Run processes that never wait."""
    spinning = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass") for _ in range(NEIGHBOURS)
    ]
    try:
        yield
    finally:
        for neighbour in spinning:
            neighbour.kill()
            await neighbour.wait()


@asynccontextmanager
async def suspensions(running: System) -> AsyncIterator[None]:
    """Stop each process of the system for 100 ms in each 300 ms."""

    def signal_all(number: signal.Signals) -> None:
        for process in running.processes.values():
            process.send_signal(number)

    async def suspend() -> None:
        while True:
            signal_all(signal.SIGSTOP)
            await asyncio.sleep(0.1)
            signal_all(signal.SIGCONT)
            await asyncio.sleep(0.2)

    suspending = asyncio.create_task(suspend())
    try:
        yield
    finally:
        suspending.cancel()
        signal_all(signal.SIGCONT)


async def busy(running: System) -> str:
    """The approvals beside 16 processes that never wait."""
    return await approvals(running, neighbours())


async def suspended(running: System) -> str:
    """The approvals, while each process is stopped for 100 ms in each 300 ms."""
    return await approvals(running, suspensions(running))


async def backlog(running: System) -> str:
    """The approvals, while 500 messages wait for one chat."""
    chat_id = FIRST_GROUP - APPROVALS
    running.telegram.add_chat(Chat(chat_id, "supergroup", "Flooded"))
    async with running.clients.db() as session:
        cafe = Cafe(name="Flooded")
        session.add(cafe)
        await session.flush()
        for _ in range(BACKLOG):
            await notify(running.clients, session, NotificationKind.UNLINKED, cafe, chat_id=chat_id)
    return await approvals(running)


SCENARIOS = {
    scenario.__name__: scenario
    for scenario in (
        plain,
        killed,
        kafka_unavailable,
        repeated_events,
        faults,
        approvals,
        busy,
        suspended,
        backlog,
    )
}
WITH_MANAGERS = (approvals, busy, suspended, backlog)


def show_logs(directory: Path) -> None:
    """Print the last lines of the logs."""
    for log in directory.glob("*.log"):
        print(log.name, log.read_text()[-3000:])


async def main(names: list[str]) -> None:
    for name in names or SCENARIOS:
        with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
            chat = {"TELEGRAM_MANAGER_CHAT_ID": str(MANAGERS)} if SCENARIOS[name] in WITH_MANAGERS else {}
            async with system(Path(directory), KAFKA_FETCH_MAX_WAIT_MS=FETCH_MAX_WAIT_MS, **chat) as running:
                try:
                    print(f"{name}: {await SCENARIOS[name](running)}", flush=True)
                except BaseException:
                    show_logs(Path(directory))
                    raise


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
