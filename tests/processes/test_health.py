"""The endpoints for operators: health, readiness, metrics."""

import asyncio
from collections.abc import Awaitable, Callable

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app.dev.embedded import Kafka
from app.dev.ports import free_port
from app.settings import Settings
from tests.apis import calling_api, serving_api
from tests.servers import DEADLINE_S, POLL_S

ALL_UP = {"status": "ok", "database": "ok", "redis": "ok", "kafka": "ok"}


async def test_a_process_that_answers_is_alive(called: httpx.AsyncClient) -> None:
    """The health of a process does not depend on a service."""
    response = await called.get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_process_without_services_is_alive(settings: Settings) -> None:
    """With all services unavailable the process is alive but not ready: a restart would not help."""
    nowhere = {
        "database_url": SecretStr(f"postgresql+asyncpg://postgres@127.0.0.1:{free_port()}/none"),
        "redis_url": SecretStr(f"redis://127.0.0.1:{free_port()}"),
    }
    async with calling_api(settings.model_copy(update=nowhere)) as api:
        alive, ready = await api.get("/healthz"), await api.get("/readyz")

    assert alive.status_code == 200
    assert (ready.status_code, ready.json()) == (503, dict.fromkeys(ALL_UP, "unavailable"))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("database", {"database_url": SecretStr("postgresql+asyncpg://postgres@127.0.0.1:1/none")}),
        ("redis", {"redis_url": SecretStr("redis://127.0.0.1:1")}),
        ("kafka", {}),
    ],
)
async def test_an_unavailable_service_is_named(settings: Settings, name: str, changes: dict[str, object]) -> None:
    """A process without Kafka, or another service, is not ready, and the answer names the service."""
    async with calling_api(settings.model_copy(update=changes)) as api:
        response = await api.get("/readyz")

    assert response.status_code == 503
    assert response.json() == ALL_UP | {"status": "unavailable", "kafka": "unavailable", name: "unavailable"}


async def test_a_standby_is_not_ready(settings: Settings, standby: Callable[[], Awaitable[object]]) -> None:
    """A database that accepts no changes is unavailable; after a failover the process is ready without a restart."""
    async with calling_api(settings) as api:
        during = (await api.get("/readyz")).json()
        await standby()
        after = (await api.get("/readyz")).json()

    assert (during["database"], after["database"]) == ("unavailable", "ok")


async def test_a_process_with_all_services_is_ready(kafka_settings: Settings, people: None) -> None:
    """The process is ready once Kafka is connected as well."""
    async with serving_api(kafka_settings) as served, httpx.AsyncClient(base_url=served.address) as api:
        response = await ready(api, 200)

    assert response.json() == ALL_UP


async def test_a_process_without_kafka_is_not_ready_any_more(kafka_settings: Settings, kafka: Kafka) -> None:
    """The readiness changes when Kafka becomes unavailable."""
    async with serving_api(kafka_settings) as served, httpx.AsyncClient(base_url=served.address) as api:
        await ready(api, 200)
        await kafka.stop()
        response = await ready(api, 503)

    assert response.json() == ALL_UP | {"status": "unavailable", "kafka": "unavailable"}


async def ready(api: httpx.AsyncClient, status: int) -> httpx.Response:
    """Wait until the answer has `status`."""
    async with asyncio.timeout(DEADLINE_S):
        while (response := await api.get("/readyz")).status_code != status:
            await asyncio.sleep(POLL_S)
    return response


async def test_metrics_are_for_prometheus(called: httpx.AsyncClient) -> None:
    """The metrics have the format of Prometheus."""
    response = await called.get("/metrics")

    names = {family.name for family in text_string_to_metric_families(response.text)}
    assert response.headers["content-type"].startswith("text/plain")
    assert {"python_info", "lunch_bot_subscriptions"} <= names
