"""The wait for the processes of `lunch-bot dev`."""

from pathlib import Path

import pytest

from app.dev.ports import free_port
from app.dev.progress import Progress
from app.dev.readiness import NotReady, wait_until_ready
from app.dev.supervisor import Child, Output
from app.processes.api import create_app
from app.settings import Settings
from tests.servers import serving


def child(name: str, port: object, directory: Path) -> Child:
    return Child(name, {"PORT": str(port)}, colour=36, output=Output(), log=directory / f"{name}.log")


async def test_a_process_that_does_not_answer_is_named(tmp_path: Path) -> None:
    """The error has the address of the process, and the end of its log."""
    silent = child("worker", free_port(), tmp_path)
    silent.log.write_text("".join(f"line {number}\n" for number in range(100)))

    with pytest.raises(NotReady) as raised:
        await wait_until_ready([silent], {}, Progress(), timeout_s=0.5)

    message = str(raised.value)
    assert f"worker ({silent.address}/readyz): no answer. {silent.log} ends with:" in message
    assert message.endswith("    line 98\n    line 99")


async def test_an_unavailable_service_is_named(tmp_path: Path, settings: Settings) -> None:
    """A process that answers but cannot reach a service is named with the service and the place of its log."""
    async with serving(create_app(settings)) as address:
        api = child("api", address.rpartition(":")[2], tmp_path)
        with pytest.raises(NotReady, match=r"cannot reach kafka \(see kafka\.log\)\. .*api\.log is empty"):
            await wait_until_ready([api], {"kafka": "kafka.log"}, Progress(), timeout_s=5)


@pytest.mark.slow
async def test_a_ready_process_ends_the_wait(
    tmp_path: Path, kafka_settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    """When each process reaches its services the wait ends, and each of them is printed."""
    async with serving(create_app(kafka_settings)) as address:
        await wait_until_ready([child("api", address.rpartition(":")[2], tmp_path)], {}, Progress())

    assert f"✓ The process api is ready               {address}\n" in capsys.readouterr().out
