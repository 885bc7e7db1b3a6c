"""What operators ask each process."""

import asyncio

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from app.dev.embedded import Kafka
from app.settings import Settings
from tests.conftest import free_port
from tests.doors import calling_api, serving_api
from tests.servers import DEADLINE_S, POLL_S

ALL_UP = {"status": "ok", "database": "ok", "redis": "ok", "kafka": "ok"}


async def test_a_process_that_answers_is_alive(called: httpx.AsyncClient) -> None:
    """Alive does not depend on anybody else."""
    response = await called.get("/healthz")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_alive_without_any_service(settings: Settings) -> None:
    """With everything away the process is alive: to restart it would help nobody."""
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
async def test_a_service_that_is_away_is_named(settings: Settings, name: str, changes: dict[str, object]) -> None:
    """Without Kafka, and perhaps another, the process is not ready, and says for which."""
    async with calling_api(settings.model_copy(update=changes)) as api:
        response = await api.get("/readyz")

    assert response.status_code == 503
    assert response.json() == ALL_UP | {"status": "unavailable", "kafka": "unavailable", name: "unavailable"}


async def test_with_everything_there_it_is_ready(kafka_settings: Settings, people: None) -> None:
    """Ready, once Kafka is connected as well; and no longer so when Kafka goes."""
    async with serving_api(kafka_settings) as served, httpx.AsyncClient(base_url=served.address) as api:
        response = await ready(api, 200)

    assert response.json() == ALL_UP


async def test_a_kafka_that_goes_is_noticed(kafka_settings: Settings, kafka: Kafka) -> None:
    """Ready means now, not once."""
    async with serving_api(kafka_settings) as served, httpx.AsyncClient(base_url=served.address) as api:
        await ready(api, 200)
        await kafka.stop()
        response = await ready(api, 503)

    assert response.json() == ALL_UP | {"status": "unavailable", "kafka": "unavailable"}


async def ready(api: httpx.AsyncClient, status: int) -> httpx.Response:
    """Ask until the answer is `status`."""
    async with asyncio.timeout(DEADLINE_S):
        while (response := await api.get("/readyz")).status_code != status:
            await asyncio.sleep(POLL_S)
    return response


async def test_metrics_are_for_prometheus(called: httpx.AsyncClient) -> None:
    """The counters are in the form that Prometheus reads."""
    response = await called.get("/metrics")

    names = {family.name for family in text_string_to_metric_families(response.text)}
    assert response.headers["content-type"].startswith("text/plain")
    assert {"python_info", "lunch_bot_subscriptions"} <= names
