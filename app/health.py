"""What operators ask each process: is it alive, can it work, what does it count."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.clients import Clients

CHECK_TIMEOUT_S = 2.0
"""A service that takes longer to say hello is as good as away."""


async def healthz(_request: Request) -> Response:
    """Alive: the event loop answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Say for each service that we need whether it answers; 503 when one does not."""
    clients: Clients = request.state.clients
    checks: Mapping[str, Callable[[], Awaitable[object]]] = {
        "database": lambda: _database(clients),
        "redis": clients.redis.ping,
        "kafka": lambda: _kafka(clients),
    }
    answers = dict(zip(checks, await asyncio.gather(*map(_answers, checks.values())), strict=True))
    ready = all(answers.values())
    return JSONResponse(
        {"status": "ok" if ready else "unavailable"}
        | {name: "ok" if up else "unavailable" for name, up in answers.items()},
        status_code=200 if ready else 503,
    )


async def metrics(_request: Request) -> Response:
    """The counters of this process, for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _answers(check: Callable[[], Awaitable[object]]) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check() is not False
    except Exception:  # noqa: BLE001 whatever it is, the service did not answer
        return False


async def _database(clients: Clients) -> None:
    async with clients.engine.connect() as connection:
        await connection.execute(sa.select(1))


async def _kafka(clients: Clients) -> bool:
    return await clients.kafka.ping(timeout=CHECK_TIMEOUT_S)


routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
