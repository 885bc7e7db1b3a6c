"""The logs of all processes during a bad day: one JSON object a line, and no secret in any."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from app.auth.tokens import issue_token
from app.dev.gemini.faults import Fault, FaultKind
from app.dev.telegram.faults import Failure, FailureKind
from app.models import NotificationStatus, Role, User
from tests.e2e.system import GEMINI_KEYS, SECRET, TOKEN, System, soon, system
from tests.servers import DEADLINE_S, POLL_S, until

pytestmark = pytest.mark.slow

PROCESSES = ("api", "events", "worker", "bot")
MANAGER_TGID = 1001


@pytest.mark.timeout(400)
async def test_a_whole_run_is_json_without_secrets(tmp_path: Path) -> None:
    """Telegram and Gemini fail, Kafka is unavailable for a while, clients are refused, and the processes stop."""
    async with system(tmp_path, LOG_FORMAT="json") as running:
        token = await add_manager(running)
        for kind in (FailureKind.SERVER_ERROR, FailureKind.BAD_GATEWAY, FailureKind.DROP_AFTER, FailureKind.BLOCKED):
            running.telegram.failures.add(Failure(method="sendMessage", kind=kind, times=1))
            running.telegram.failures.add(Failure(method="getUpdates", kind=kind, times=1))
        for fault in (FaultKind.SERVER_ERROR, FaultKind.HTML_BAD_GATEWAY, FaultKind.FORBIDDEN):
            running.gemini.faults.add(Fault(kind=fault, times=1))
        for process in PROCESSES:
            await running.start(process, process)
        await running.listening(*PROCESSES, within_s=120)
        date, deadline = soon()
        await running.add_cafes(5, date, deadline)
        await call(running, token)
        await running.kafka.stop()
        await until(lambda: "Unable" in (tmp_path / "events.log").read_text(), within_s=90)
        await running.kafka.start()
        await delivered(running)

    lines = {process: (tmp_path / f"{process}.log").read_text().splitlines() for process in PROCESSES}
    text = "\n".join(line for process in PROCESSES for line in lines[process])
    out = "".join((tmp_path / f"{process}.out").read_text() for process in PROCESSES)
    assert all(json.loads(line)["process"] == process for process in PROCESSES for line in lines[process])
    assert [secret for secret in (TOKEN, SECRET, token, *GEMINI_KEYS) if secret in text] == []
    assert out == ""
    assert [word for word in ("request.finished", "notification.deferred") if word not in text] == []
    assert steps_of_libraries(lines["events"]) == []


def steps_of_libraries(lines: list[str]) -> list[str]:
    """Return the lines of FastStream about each message that it handles."""
    parsed = [json.loads(line) for line in lines]
    return [line["event"] for line in parsed if line["logger"].startswith("faststream") and line["level"] == "info"]


async def add_manager(running: System) -> str:
    """Add a manager, and return a token."""
    manager = User(tgid=MANAGER_TGID, name="Maria", role=Role.MANAGER)
    async with running.clients.db() as session:
        session.add(manager)
    return issue_token(running.clients.settings, manager)


async def call(running: System, token: str) -> None:
    """Make requests with and without success, and start a run of recommendations."""
    address = f"http://127.0.0.1:{running.ports['api']}"
    async with httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {token}"}) as client:
        for method, path in (("GET", "/users/me"), ("GET", "/cafes/999"), ("POST", "/recommendation-runs")):
            await client.request(method, f"/api/v1{path}", timeout=DEADLINE_S)
        await client.post("/graphql", content=b"{")


async def delivered(running: System) -> None:
    """Wait until each list has arrived, or was given up."""
    final = {NotificationStatus.SENT, NotificationStatus.FAILED}
    async with asyncio.timeout(200):
        while not (rows := await running.notifications()) or {row.status for row in rows} - final:
            await asyncio.sleep(POLL_S)
