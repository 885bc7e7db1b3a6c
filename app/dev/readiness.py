"""Waits until the processes of `lunch-bot dev` are ready, and says which are not."""

import asyncio
from collections.abc import Mapping, Sequence
from textwrap import indent

import aiohttp

from app.dev.progress import PATIENCE_S, Progress
from app.dev.service import read_log_tail
from app.dev.supervisor import Child

POLL_S = 0.2

ANSWER_TIMEOUT_S = 10.0
"""A process checks its services for up to 2 s before it answers."""


class NotReady(Exception):
    """Some processes were not ready in time. The message names each, with its problem and the end of its log."""


async def wait_until_ready(
    children: Sequence[Child], places: Mapping[str, str], progress: Progress, timeout_s: float = PATIENCE_S
) -> None:
    """Wait until each process answers, and reaches its services.

    Args:
        children: The processes.
        places: Where to look if a service is unavailable: its log, or the setting that has its address.
        progress: Prints each process that is ready.
        timeout_s: Seconds for all of them together.

    Raises NotReady.
    """
    problems = {child.name: "no answer" for child in children}

    async def wait_for(child: Child, http: aiohttp.ClientSession) -> None:
        while (problem := await _find_problem(http, child, places)) is not None:
            problems[child.name] = problem
            await asyncio.sleep(POLL_S)
        del problems[child.name]
        progress.done(f"The process {child.name} is ready", child.address)

    progress.begin(f"Waiting for the processes {', '.join(problems)}")
    try:
        async with (
            asyncio.timeout(timeout_s),
            progress.waiting(lambda: _join(problems)),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(ANSWER_TIMEOUT_S)) as http,
        ):
            await asyncio.gather(*(wait_for(child, http) for child in children))
    except TimeoutError:
        lines = [
            f"{child.name} ({_readyz(child)}): {problems[child.name]}. {_end_of_log(child)}"
            for child in children
            if child.name in problems
        ]
        raise NotReady("\n".join([f"Not everything is ready after {timeout_s:.0f} s:", *lines])) from None


async def _find_problem(http: aiohttp.ClientSession, child: Child, places: Mapping[str, str]) -> str | None:
    try:
        async with http.get(_readyz(child)) as response:
            answer: dict[str, str] = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return "no answer"
    unavailable = [name for name, state in answer.items() if name != "status" and state != "ok"]
    if not unavailable:
        return None
    return "cannot reach " + ", ".join(f"{name} (see {places.get(name, child.log)})" for name in unavailable)


def _join(problems: Mapping[str, str]) -> str:
    """Write the processes with the same problem together."""
    groups = {problem: [name for name in problems if problems[name] == problem] for problem in problems.values()}
    return "; ".join(f"{', '.join(names)}: {problem}" for problem, names in groups.items())


def _readyz(child: Child) -> str:
    return f"{child.address}/readyz"


def _end_of_log(child: Child) -> str:
    lines = read_log_tail(child.log)
    return f"{child.log} ends with:\n{indent(lines, '    ')}" if lines else f"{child.log} is empty."
