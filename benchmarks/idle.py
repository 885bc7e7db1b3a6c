"""The CPU that `lunch-bot dev` uses while nothing happens, and how fast it still reacts.

    python -m benchmarks.idle [--seconds N] [--updates N]

It runs `lunch-bot dev` in an empty folder, waits until the first recommendations are made, and adds up the CPU seconds of
each process and its children, from the operating system. Then it measures the time from the begin of a link request over
GraphQL to its live update, which goes through the outbox, the relay, Kafka and a WebSocket.

Measured on two shared cores, in percent of one core, idle for 60 s:

    process                     5 ms, 6 partitions      30 ms, 1 partition
    Kafka (Tansu)                            28.33                    5.11
    events                                   11.43                    2.73
    api                                       7.64                    1.91
    worker                                    0.82                    0.37
    dev, with the stand-ins                   0.70                    0.28
    Redis                                     0.50                    0.25
    PostgreSQL                                0.22                    0.17
    bot                                       0.38                    0.15
    total                                    50.02                   10.97

The milliseconds are KAFKA_FETCH_MAX_WAIT_MS. Nearly all of it is the embedded broker, which answers an empty fetch after
half of this time, looks at each partition meanwhile, and is asked again. With 5 ms a live update takes 26 ms on a machine
that does nothing else. On a busy one 30 ms made it 17 ms longer; 50 ms and 100 ms made it 30 ms and 72 ms longer, with
8.6 % and 6.0 % of a core in total. The other processes only wake for their own timers: uvicorn's (10 times a second), arq's (twice a
second), the relay's lock (every 2 s) and the outbox (at most every second, beside LISTEN).
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles

import aiohttp
import psutil
from dotenv import dotenv_values

from app.dev.addresses import Addresses
from app.dev.demo import RUN, START_RUN
from app.dev.demo_client import SystemClient
from app.dev.ports import free_port
from app.settings import Settings

HERE = Path(__file__).parent.parent
START_TIMEOUT_S = 180.0
RUN_TIMEOUT_S = 180.0
SETTLE_S = 15.0
"""Afterwards PostgreSQL still writes."""

UPDATE_TIMEOUT_S = 10.0

SUBSCRIPTION = {"linkRequestUpdates": "subscription { linkRequestUpdates { id status } }"}
REQUEST_LINK = "mutation ($chat: TelegramId!) { linkRequest(cafeId: 1, tgChatId: $chat) { id } }"
REJECT = "mutation ($id: ID!) { reject(requestId: $id) { id } }"


@asynccontextmanager
async def dev(directory: Path, api_port: int) -> AsyncIterator[psutil.Process]:
    """Run `lunch-bot dev` in `directory`, without settings of this machine."""
    known = {name.upper() for name in Settings.model_fields}
    env = {name: value for name, value in os.environ.items() if name not in known}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "dev"),
        cwd=directory,
        env={**env, "PYTHONPATH": str(HERE), "PORT": str(api_port)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    started = asyncio.Event()

    async def read(output: asyncio.StreamReader) -> None:
        async for line in output:
            if b"Ctrl-C" in line:
                started.set()

    reading = asyncio.create_task(read(process.stdout))
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await started.wait()
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        await process.wait()
        await reading


def usage(dev_process: psutil.Process) -> tuple[Counter[str], Counter[str]]:
    """Return the CPU seconds and the context switches of each part of the system until now."""
    cpu, switches = Counter[str](), Counter[str]()
    for process in (dev_process, *dev_process.children(recursive=True)):
        part = name_of(process, dev_process)
        times = process.cpu_times()
        cpu[part] += times.user + times.system
        switches[part] += process.num_ctx_switches().voluntary
    return cpu, switches


def name_of(process: psutil.Process, dev_process: psutil.Process) -> str:
    if process == dev_process:
        return "dev, with the stand-ins"
    command = process.cmdline()
    if "app" in command:
        return command[-1]
    return {"redis-server": "Redis", "tansu": "Kafka (Tansu)"}.get(process.name(), "PostgreSQL")


@asynccontextmanager
async def system_client(directory: Path, api_port: int) -> AsyncIterator[SystemClient]:
    values = {name.lower(): value for name, value in dotenv_values(directory / ".lunch-bot/dev.env").items()}
    async with aiohttp.ClientSession() as http:
        yield SystemClient(Addresses(f"http://127.0.0.1:{api_port}", None), Settings.model_validate(values), http)


async def settle(client: SystemClient) -> None:
    """Let the day's recommendations be made, as the worker would do by itself, and wait until they are."""
    date = (await client.graphql(START_RUN))["startRecommendationRun"]["date"]
    async with asyncio.timeout(RUN_TIMEOUT_S):
        while (await client.graphql(RUN, date=date))["recommendationRun"]["status"] != "FINISHED":
            await asyncio.sleep(1)
    await asyncio.sleep(SETTLE_S)


async def measure_updates(client: SystemClient, number: int) -> list[float]:
    """Return the milliseconds from each change to its live update."""
    took = []
    async with client.dashboard(SUBSCRIPTION) as dashboard, asyncio.timeout(number * UPDATE_TIMEOUT_S):
        for chat in range(1, number + 1):
            began = time.perf_counter()
            request = (await client.graphql(REQUEST_LINK, chat=-chat))["linkRequest"]
            while await dashboard.next_update(id=request["id"]) is None:
                pass
            took.append((time.perf_counter() - began) * 1000)
            await client.graphql(REJECT, id=request["id"])
            while await dashboard.next_update(id=request["id"], status="REJECTED") is None:
                pass
            await asyncio.sleep(0.1 + 0.01 * (chat % 7))  # not in step with what polls
    return took


async def main(seconds: float, updates: int) -> None:
    port = free_port()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        async with dev(Path(directory), port) as process, system_client(Path(directory), port) as client:
            await settle(client)
            cpu_before, switches_before = usage(process)
            began = time.monotonic()
            await asyncio.sleep(seconds)
            cpu_after, switches_after = usage(process)
            took_s = time.monotonic() - began
            cpu, switches = cpu_after - cpu_before, switches_after - switches_before
            print(f"{'process':<24} {'% of a core':>12} {'wakes/s':>9}")
            for part in sorted(cpu_after, key=lambda part: -cpu[part]):
                print(f"{part:<24} {100 * cpu[part] / took_s:>12.2f} {switches[part] / took_s:>9.1f}")
            print(f"{'total':<24} {100 * cpu.total() / took_s:>12.2f} {switches.total() / took_s:>9.1f}")
            if updates:
                took = await measure_updates(client, updates)
                print(f"live update after {median(took):.1f} ms (95 % within {quantiles(took, n=20)[-1]:.1f} ms)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--updates", type=int, default=40)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.seconds, arguments.updates))
