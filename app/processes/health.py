"""Health and metrics of a process."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from app.clients import Clients

CHECK_TIMEOUT_S = 2.0
"""A service that answers later counts as unavailable."""

READINESS_KEY, READINESS_MS = "readyz", 1000
"""A key that Redis keeps for a moment. A replica, or a Redis that cannot store anything, refuses it."""


async def healthz(_request: Request) -> Response:
    """Whether the process is alive: its event loop answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Whether each service answers, by name. The status is 503 if one does not.

    A process may have `checks` of its own in its state.
    """
    clients: Clients = request.state.clients
    checks: Mapping[str, Callable[[], Awaitable[object]]] = {
        "database": lambda: _database(clients),
        "redis": lambda: clients.redis.set(READINESS_KEY, "", px=READINESS_MS),
        "kafka": lambda: _kafka(clients),
        **getattr(request.state, "checks", {}),
    }
    answers = dict(zip(checks, await asyncio.gather(*map(_is_available, checks.values())), strict=True))
    ready = all(answers.values())
    return JSONResponse(
        {"status": "ok" if ready else "unavailable"}
        | {name: "ok" if up else "unavailable" for name, up in answers.items()},
        status_code=200 if ready else 503,
    )


async def metrics(_request: Request) -> Response:
    """The metrics of this process for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _is_available(check: Callable[[], Awaitable[object]]) -> bool:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check() is not False
    except Exception:  # noqa: BLE001 with any error the service is unavailable
        return False


async def _database(clients: Clients) -> bool:
    """Whether PostgreSQL accepts changes. A connection to a standby, which a failover has left, is closed."""
    async with clients.engine.connect() as connection:
        is_read_only = await connection.scalar(sa.text("SHOW transaction_read_only")) == "on"
        if is_read_only:
            await connection.invalidate()
        return not is_read_only


async def _kafka(clients: Clients) -> bool:
    return await clients.kafka.ping(timeout=CHECK_TIMEOUT_S)


routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
