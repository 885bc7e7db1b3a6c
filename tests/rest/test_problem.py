"""Problem documents (RFC 9457)."""

from typing import Any

import httpx
import pytest

from app import errors
from app.errors import LunchbotError, SlowConsumer
from app.models import LinkRequest
from app.rest.problem import CODES, PROBLEM_JSON, problem_response

STATUS = {
    "UNAUTHENTICATED": 401,
    "FORBIDDEN": 403,
    "NOT_FOUND": 404,
    "BAD_INPUT": 400,
    "GRAPHQL_INVALID": 400,
    "DEADLINE_PASSED": 400,
    "CAFE_ALREADY_LINKED": 409,
    "CHAT_ALREADY_LINKED": 409,
    "CAFE_NOT_LINKED": 409,
    "LINK_REQUEST_PROCESSED": 409,
    "ALREADY_EXISTS": 409,
    "RATE_LIMITED": 429,
    "SERVICE_UNAVAILABLE": 503,
    "INTERNAL": 500,
}
"""The contract's table. SLOW_CONSUMER only ends a stream."""


KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, LunchbotError) and hasattr(kind, "code") and kind is not SlowConsumer
]


@pytest.fixture
def rest(called: httpx.AsyncClient, manager_token: str) -> httpx.AsyncClient:
    called.headers["Authorization"] = f"Bearer {manager_token}"
    return called


async def test_a_problem_has_all_members(rest: httpx.AsyncClient) -> None:
    """A problem has the members of the standard, the code, the details and the id of the request."""
    response = await rest.get("/api/v1/cafes/999")

    assert (response.status_code, response.headers["content-type"]) == (404, PROBLEM_JSON)
    assert response.json() == {
        "type": "urn:lunch-bot:error:not-found",
        "title": "The resource does not exist.",
        "status": 404,
        "detail": "There is no cafe 999.",
        "code": "NOT_FOUND",
        "details": {"resource": "cafe", "id": "999"},
        "request_id": response.headers["x-request-id"],
    }


WRONG: tuple[tuple[str, str, dict[str, Any] | None, str], ...] = (
    ("GET", "/cafe-requests?limit=0", None, "limit"),
    ("GET", "/cafe-requests?limit=101", None, "limit"),
    ("GET", "/cafe-requests?limit=x", None, "limit"),
    ("GET", "/cafe-requests?skip=-1", None, "skip"),
    ("GET", "/cafe-requests?after=x", None, "after"),
    ("GET", "/cafe-requests?status=x", None, "status"),
    ("GET", "/cafe-requests?cafe_id=x", None, "cafe_id"),
    ("GET", "/cafes/x", None, "cafe_id"),
    ("POST", "/cafe-requests/x/approve", None, "request_id"),
    ("POST", "/cafes/x/link-request", {"tg_chat_id": 1}, "cafe_id"),
    ("POST", "/cafes/1/link-request", {"tg_chat_id": 0}, "tg_chat_id"),
    ("POST", "/cafes/1/link-request", {}, "tg_chat_id"),
    ("POST", "/cafes/1/link-request", {"tg_chat_id": 1, "tg_username": "\0"}, "tg_username"),
    ("PATCH", "/cafes/1/notifications", {}, "enabled"),
)
"""Method, path, body, and the wrong field."""


async def test_a_problem_uses_rests_names(rest: httpx.AsyncClient, linked: LinkRequest) -> None:
    """A field has REST's name in the list and in the sentence, and GraphQL's names appear nowhere."""
    for method, path, body, field in WRONG:
        answer = (await rest.request(method, f"/api/v1{path}", json=body)).json()

        [error] = answer["errors"]
        assert (error["field"], answer["detail"]) == (field, f"{field}: {error['detail']}"), path
        assert "$" not in error["detail"], path
        assert not error["detail"].startswith(field), path


async def test_a_problem_names_every_wrong_parameter(rest: httpx.AsyncClient) -> None:
    """One answer names two wrong parameters."""
    response = await rest.get("/api/v1/cafe-requests?status=x&limit=y")

    assert {error["field"] for error in response.json()["errors"]} == {"status", "limit"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_its_status(kind: type[LunchbotError]) -> None:
    """Codes and statuses are those of the contract."""
    assert kind.status == STATUS[kind.code]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_has_a_title(kind: type[LunchbotError]) -> None:
    """The title of a problem is a sentence for the caller."""
    title = (kind.__doc__ or "").partition("\n")[0]

    assert title.endswith(".")


def test_every_code_of_the_contract_is_known() -> None:
    """The code has exactly the error codes of the contract."""
    assert set(CODES) == set(STATUS) | {"SLOW_CONSUMER"}


def test_a_problem_without_a_request_has_no_id() -> None:
    """A problem outside of a request has no request id."""
    assert b"request_id" not in bytes(problem_response(SlowConsumer()).body)
