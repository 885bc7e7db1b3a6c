"""The connection to Kafka: what a refusal says, and what it leaves behind."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from app.clients import Clients, open_clients
from app.dev.embedded import Kafka
from app.events.kafka import connect
from app.settings import Settings
from tests.events.conftest import running
from tests.servers import until


@pytest.fixture
async def idempotent(kafka_settings: Settings) -> AsyncIterator[Clients]:
    """Clients with an idempotent producer. The embedded broker refuses it."""
    async with open_clients(kafka_settings.model_copy(update={"kafka_idempotence": True})) as opened:
        yield opened


async def test_a_refused_idempotent_producer_names_the_setting(idempotent: Clients) -> None:
    """Each failed attempt logs the setting, its value that helps, and the broker's error."""
    with capture_logs() as lines:
        async with running(connect(idempotent.settings, idempotent.kafka)):
            await until(lambda: len(lines) > 1)

    assert all("KAFKA_IDEMPOTENCE=false" in line["caused_by"] and "UnknownError" in line["caused_by"] for line in lines)


async def test_failed_attempts_leave_nothing_open(idempotent: Clients) -> None:
    """The producer of a failed attempt is closed: none of its tasks continues."""
    before = asyncio.all_tasks()

    with capture_logs() as lines:
        async with running(connect(idempotent.settings, idempotent.kafka)):
            await until(lambda: len(lines) > 2)

    assert asyncio.all_tasks() <= before


async def test_attempts_during_an_outage_leave_nothing_open(kafka: Kafka, kafka_clients: Clients) -> None:
    """Attempts to connect to an unavailable broker leave no client behind."""
    await kafka.stop()
    before = asyncio.all_tasks()

    with capture_logs() as lines:
        async with running(connect(kafka_clients.settings, kafka_clients.kafka)):
            await until(lambda: len(lines) > 1)

    assert asyncio.all_tasks() <= before
