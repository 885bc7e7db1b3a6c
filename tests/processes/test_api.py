"""The api process: what holds for every request, and its pages."""

import re
from collections.abc import AsyncIterator

import httpx
import pytest

from app.processes.api import STATIC
from app.processes.middleware import MAX_BODY_BYTES
from app.rest.problem import PROBLEM_JSON
from app.settings import Settings
from tests.apis import calling_api

built = pytest.mark.skipif(not STATIC.is_dir(), reason="the pages are not built; `make setup` builds them")

DASHBOARD = "https://dashboard.example"


async def test_a_request_keeps_its_id(called: httpx.AsyncClient) -> None:
    """The id of a request is in the answer."""
    given = ["abc-123", "A.b_c-9", "x" * 64]

    responses = [await called.get("/healthz", headers={"X-Request-Id": id_}) for id_ in given]

    assert [response.headers["x-request-id"] for response in responses] == given


async def test_a_request_without_a_valid_id_gets_one(called: httpx.AsyncClient) -> None:
    """An id that could damage a log line is replaced."""
    given = (b"", b"x" * 65, b"a b", b"a\tb", b'"', b"<script>", "é".encode(), b"a\xff")

    responses = [await called.get("/healthz", headers=[(b"X-Request-Id", id_)]) for id_ in given]
    responses.append(await called.get("/healthz"))

    assert all(re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"]) for response in responses)


async def test_every_answer_has_an_id(called: httpx.AsyncClient) -> None:
    """Every answer, also an error, has an id for the logs."""
    paths = ("/nope", "/graphql", "/api/v1/users/me", "/api/v1/openapi.json", "/metrics", "/static/x")

    assert all([(await called.get(path)).headers["x-request-id"] for path in paths])


async def test_ids_are_unique(called: httpx.AsyncClient) -> None:
    """Each request gets a different id."""
    ids = {(await called.get("/healthz")).headers["x-request-id"] for _ in range(3)}

    assert len(ids) == 3


@pytest.mark.parametrize("path", ["/graphql", "/api/v1/cafe-requests/1/reject"])
async def test_a_body_that_is_too_large_is_refused(api: httpx.AsyncClient, path: str) -> None:
    """A body is refused for its Content-Length, before it is read."""
    response = await api.post(path, content=b"x" * (MAX_BODY_BYTES + 1), headers={"Content-Type": "application/json"})

    assert (response.status_code, "BAD_INPUT" in response.text) == (400, True)


@pytest.mark.parametrize("path", ["/graphql", "/api/v1/cafe-requests/1/reject"])
async def test_a_body_of_unknown_length_is_counted(api: httpx.AsyncClient, path: str) -> None:
    """A body in chunks is refused as soon as it is too large."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(12):
            yield b"x" * 100_000

    response = await api.post(path, content=chunks(), headers={"Content-Type": "application/json"})

    assert (response.status_code, "BAD_INPUT" in response.text) == (400, True)


async def test_a_body_may_be_as_large_as_the_limit(called: httpx.AsyncClient) -> None:
    """A body of the maximum size is read."""
    body = b'{"reason": "' + b"x" * (MAX_BODY_BYTES - 14) + b'"}'
    assert len(body) == MAX_BODY_BYTES

    response = await called.post("/api/v1/cafe-requests/1/reject", content=body)

    assert response.json()["code"] == "UNAUTHENTICATED"


async def test_an_unknown_path_is_a_problem(called: httpx.AsyncClient) -> None:
    """The answer to a path outside of the APIs is a problem document."""
    response = await called.get("/nope")

    assert (response.status_code, response.headers["content-type"]) == (404, PROBLEM_JSON)
    assert response.json()["code"] == "NOT_FOUND"


@built
@pytest.mark.parametrize("path", ["/api/docs", "/graphql"])
async def test_pages_are_served(api: httpx.AsyncClient, path: str) -> None:
    """The process serves the API documentation and GraphiQL."""
    response = await api.get(path, headers={"Accept": "text/html"})

    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")


@built
@pytest.mark.parametrize("path", ["/api/docs", "/graphql"])
async def test_pages_load_nothing_from_elsewhere(called: httpx.AsyncClient, path: str) -> None:
    """Every script and style is on this host, and the Content-Security-Policy enforces it: the pages need no internet."""
    page = await called.get(path, headers={"Accept": "text/html"})

    files = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert files
    assert [file for file in files if not file.startswith(("/static/", "data:"))] == []
    assert "default-src 'self'" in page.headers["content-security-policy"]


@built
@pytest.mark.parametrize("path", ["/api/docs", "/graphql"])
async def test_the_files_of_pages_are_served(called: httpx.AsyncClient, path: str) -> None:
    """Each file that a page names is served with its type."""
    page = await called.get(path, headers={"Accept": "text/html"})

    for file in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        response = await called.get(file)
        assert response.status_code == 200, file
        assert file.endswith((".js", ".css", ".svg", ".ico", ".png")), file
        assert "html" not in response.headers["content-type"], file


async def test_nothing_but_pages_is_served(called: httpx.AsyncClient) -> None:
    """No path leads out of the folder of the pages."""
    paths = ("/static/../main.py", "/static/%2e%2e/main.py", "/static/..%2fmain.py", "/static/")

    responses = [await called.get(path) for path in paths]

    assert [(response.status_code, response.headers["content-type"]) for response in responses] == [
        (404, PROBLEM_JSON) for _ in paths
    ]


async def test_browsers_do_not_guess_types(called: httpx.AsyncClient) -> None:
    """The answer has `nosniff`."""
    assert (await called.get("/api/v1/openapi.json")).headers["x-content-type-options"] == "nosniff"


async def test_other_origins_may_not_read(called: httpx.AsyncClient) -> None:
    """Without CORS_ORIGINS no other origin is allowed."""
    response = await called.get("/healthz", headers={"Origin": "https://evil.example"})

    assert "access-control-allow-origin" not in response.headers


async def test_allowed_origins_may_read(settings: Settings, people: None) -> None:
    """An origin of CORS_ORIGINS is allowed, and sees the headers that it needs."""
    async with calling_api(settings.model_copy(update={"cors_origins": (DASHBOARD,)})) as api:
        response = await api.get("/healthz", headers={"Origin": DASHBOARD})

    assert response.headers["access-control-allow-origin"] == DASHBOARD
    assert {"ETag", "Retry-After", "X-Request-Id"} <= set(response.headers["access-control-expose-headers"].split(", "))


@pytest.mark.parametrize(("origin", "status"), [(DASHBOARD, 200), ("https://evil.example", 400)])
async def test_a_preflight_is_answered(settings: Settings, people: None, origin: str, status: int) -> None:
    """A preflight of an allowed origin gets the methods and headers of the APIs."""
    async with calling_api(settings.model_copy(update={"cors_origins": (DASHBOARD,)})) as api:
        response = await api.options(
            "/api/v1/cafes/1/notifications",
            headers={
                "Origin": origin,
                "Access-Control-Request-Method": "PATCH",
                "Access-Control-Request-Headers": "authorization, content-type",
            },
        )

    assert response.status_code == status
