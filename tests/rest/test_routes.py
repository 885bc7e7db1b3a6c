"""REST's own part of the operations: parameters, bodies, methods, shapes."""

import re
from typing import Any

import httpx
import pytest

from app.clients import Clients
from app.models import Cafe, LinkRequest
from app.rest.problem import PROBLEM_JSON
from tests.apis import CHAT, rows
from tests.conftest import MANAGER_TGID, Lunch, add_cafe
from tests.test_conventions import STORED

API = "/api/v1"


@pytest.fixture
def rest(called: httpx.AsyncClient, manager_token: str) -> httpx.AsyncClient:
    """A REST client with a manager's token."""
    called.headers["Authorization"] = f"Bearer {manager_token}"
    return called


def problem(response: httpx.Response) -> tuple[int, str, tuple[str, ...]]:
    """Return the status, the code and the fields of a problem document."""
    body: dict[str, Any] = response.json()
    assert response.headers["content-type"] == PROBLEM_JSON
    return response.status_code, body["code"], tuple(error["field"] for error in body.get("errors", ()))


MALFORMED_BODIES = (
    b"{",
    b"[]",
    b"42",
    b'"x"',
    b"null",
    b"true",
    b'{"reason": "\xff"}',
    b"reason=x",
    b"[" * 100_000,
    b'{"reason": NaN}',
)

UNKNOWN_PARAMETERS: dict[tuple[str, bytes | None], str] = {
    ("GET /cafes?first=5", None): "first",
    ("GET /cafes?limit=1&nonsense=1", None): "nonsense",
    ("GET /users/me?tgid=5", None): "tgid",
    ("GET /cafe-requests?cafeId=1", None): "cafeId",
    ("GET /cafes/1?cafe_id=2", None): "cafe_id",
    ("POST /cafe-requests/1/approve", b'{"reason": "x"}'): "reason",
    ("POST /cafe-requests/1/reject", b'{"request_id": 2}'): "request_id",
    ("POST /cafe-requests/1/reject", b'{"reason": "x", "status": "approved"}'): "status",
    ("POST /cafe-requests/1/reject?nonsense=1", None): "nonsense",
    ("PATCH /cafes/1/notifications", b'{"enabled": false, "cafe_id": 1}'): "cafe_id",
    ("POST /cafes/1/link-request", b'{"tgChatId": 1}'): "tgChatId",
    ("DELETE /cafes/1/link?force=true", None): "force",
    ("GET /cafes/1/menu?first=5", None): "first",
    ("GET /cafes/1/menu?id=2", None): "id",
    ("GET /cafes/1/combos?category=soup", None): "category",
    ("GET /cafes/1/deadlines?limit=5", None): "limit",
    ("PATCH /cafes/1/menu/1", b'{"cafe_id": 2}'): "cafe_id",
    ("PATCH /cafes/1/menu/1", b'{"id": 2}'): "id",
    ("PATCH /cafes/1/combos/1", b'{"combo_id": 2}'): "combo_id",
    ("PATCH /cafes/1", b'{"isActive": true}'): "isActive",
    ("PUT /cafes/1/deadlines", b'{"deadlines": [], "cafe_id": 1}'): "cafe_id",
    ("PUT /cafes/1/deadlines", b'{"deadlines": [], "week": []}'): "week",
    ("PUT /cafes/1/deadlines", b'{"deadlines": [{"weekday": 0, "deadlineTime": "10:30"}]}'): "deadlines",
    ("POST /orders", b'{"extras": [{"menuItemId": 5}]}'): "extras",
    ("PATCH /orders/1", b'{"tgid": 5}'): "tgid",
    ("GET /orders?fromDate=2026-01-01", None): "fromDate",
    ("GET /orders/availability/2026-01-01?cafe_id=1&date=2026-01-02", None): "date",
    ("DELETE /users/5?tgid=6", None): "tgid",
    ("GET /users/5/recommendations?tgid=6", None): "tgid",
    ("POST /recommendation-runs", b'{"date": "2026-01-01"}'): "date",
    ("GET /recommendation-runs/2026-01-01?date=2026-01-02", None): "date",
    ("GET /gemini-keys?first=5", None): "first",
}


async def test_an_unknown_parameter_is_refused(rest: httpx.AsyncClient, clients: Clients, linked: LinkRequest) -> None:
    """A misspelled parameter is an error."""
    before = await rows(clients)

    answers = {}
    for request_line, body in UNKNOWN_PARAMETERS:
        method, path = request_line.split(" ")
        answers[request_line, body] = problem(await rest.request(method, API + path, content=body))

    assert answers == {request: (400, "BAD_INPUT", (field,)) for request, field in UNKNOWN_PARAMETERS.items()}
    assert await rows(clients) == before


async def test_a_malformed_body_is_refused(rest: httpx.AsyncClient, clients: Clients, pending: LinkRequest) -> None:
    """A body that is not a JSON object is refused and changes nothing."""
    before = await rows(clients)

    answers = {
        body: problem(await rest.post(f"{API}/cafe-requests/{pending.id}/reject", content=body))
        for body in MALFORMED_BODIES
    }

    assert answers == dict.fromkeys(MALFORMED_BODIES, (400, "BAD_INPUT", ("body",)))
    assert await rows(clients) == before


async def test_a_malformed_replacement_is_refused(rest: httpx.AsyncClient, clients: Clients, lunch: Lunch) -> None:
    """A replacement that is not a JSON object is refused and changes nothing."""
    before = await rows(clients)

    answers = {body: problem(await rest.put(f"{API}/cafes/1/deadlines", content=body)) for body in MALFORMED_BODIES}

    assert answers == dict.fromkeys(MALFORMED_BODIES, (400, "BAD_INPUT", ("body",)))
    assert await rows(clients) == before


async def test_a_replacement_is_idempotent(rest: httpx.AsyncClient, lunch: Lunch) -> None:
    """PUT is idempotent (RFC 9110, section 9.2.2), and its answer is equal to a later read."""
    week = {"deadlines": [{"weekday": 0, "deadline_time": "10:30"}]}

    answers = [await rest.put(f"{API}/cafes/1/deadlines", json=week) for _ in range(2)]

    read = await rest.get(f"{API}/cafes/1/deadlines")
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, read.json())] * 2
    assert {answer.headers["cache-control"] for answer in answers} == {"no-store"}


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"reason": null}'])
async def test_an_optional_body_may_be_left_out(
    rest: httpx.AsyncClient, pending: LinkRequest, body: bytes | None
) -> None:
    """A missing body is an empty object."""
    response = await rest.post(f"{API}/cafe-requests/{pending.id}/reject", content=body)

    assert (response.status_code, response.json()["reason"]) == (200, None)


@pytest.mark.parametrize(("limit", "names"), [("1", 1), ("100", 3), (None, 3)])
async def test_the_page_size_is_read_from_the_query(
    rest: httpx.AsyncClient, clients: Clients, limit: str | None, names: int
) -> None:
    """The page size is a number in the query."""
    for name in "abc":
        await add_cafe(clients, name)

    response = await rest.get(f"{API}/cafes", params={} if limit is None else {"limit": limit})

    assert len(response.json()["items"]) == names


async def test_only_digits_are_a_number(rest: httpx.AsyncClient) -> None:
    """Numbers in Python's other notations are refused."""
    limits = ("١", "1_0", "+1", "1e1", "0x1", " 1", "one", "1.0")

    answers = {limit: problem(await rest.get(f"{API}/cafes", params={"limit": limit})) for limit in limits}

    assert answers == dict.fromkeys(limits, (400, "BAD_INPUT", ("limit",)))


async def test_enumerations_are_lower_case(rest: httpx.AsyncClient, pending: LinkRequest) -> None:
    """REST's values are lower case in both directions; other spellings are refused."""
    statuses = ("PENDING", "Pending", "nonsense", "")

    answers = {
        status: problem(await rest.get(f"{API}/cafe-requests", params={"status": status})) for status in statuses
    }

    assert answers == dict.fromkeys(statuses, (400, "BAD_INPUT", ("status",)))


async def test_a_list_has_its_shape(rest: httpx.AsyncClient, pending: LinkRequest) -> None:
    """Every list has its rows, their number and the end of the page."""
    body = (await rest.get(f"{API}/cafe-requests")).json()

    assert {name: type(value) for name, value in body.items()} == {"items": list, "total": int, "page_info": dict}
    assert set(body["page_info"]) == {"end_cursor", "has_next_page"}


async def test_a_link_request_has_its_shape(rest: httpx.AsyncClient, pending: LinkRequest) -> None:
    """A link request has the name of its cafe."""
    [row] = (await rest.get(f"{API}/cafe-requests")).json()["items"]

    assert set(row) == {
        "id",
        "cafe_id",
        "cafe_name",
        "tg_chat_id",
        "tg_username",
        "status",
        "reason",
        "created_at",
        "processed_at",
        "processed_by",
    }


async def test_an_unknown_path_is_a_problem(rest: httpx.AsyncClient) -> None:
    """The answer to an unknown path is a problem document."""
    paths = ("/nope", "/cafes/1/2/3", "/cafe-requests/1", "/cafe-requests/1/nope", "/", "")

    answers = {path: problem(await rest.get(API + path)) for path in paths}

    assert answers == dict.fromkeys(paths, (404, "NOT_FOUND", ()))


async def test_an_unknown_method_is_a_problem(rest: httpx.AsyncClient) -> None:
    """The 405 answer names the allowed methods."""
    allowed = {
        ("DELETE", "/cafes"): {"GET", "HEAD", "POST"},
        ("POST", "/cafes/1"): {"GET", "HEAD", "PATCH", "DELETE"},
        ("GET", "/cafe-requests/1/approve"): {"POST"},
        ("PUT", "/cafes/1/notifications"): {"PATCH"},
        ("POST", "/cafes/1/link"): {"DELETE"},
        ("POST", "/openapi.json"): {"GET", "HEAD"},
    }

    answers = {(method, path): await rest.request(method, API + path) for method, path in allowed}

    assert {request: set(response.headers["allow"].split(", ")) for request, response in answers.items()} == allowed
    assert {(response.status_code, response.headers["content-type"]) for response in answers.values()} == {
        (405, PROBLEM_JSON)
    }


async def test_each_path_names_all_its_methods(rest: httpx.AsyncClient) -> None:
    """The 405 answer names all methods of a path, and HEAD beside GET."""
    methods: dict[str, set[str]] = {}
    for route in (operation.route for operation in STORED.values()):
        methods.setdefault(route.path, set()).update({"GET", "HEAD"} if route.method == "GET" else {route.method})

    answers = {path: await rest.request("TRACE", API + re.sub(r"{\w+}", "1", path)) for path in methods}

    assert {path: set(response.headers["allow"].split(", ")) for path, response in answers.items()} == methods
    assert {problem(response) for response in answers.values()} == {(405, "BAD_INPUT", ("method",))}


async def test_a_literal_path_comes_before_a_parameter(rest: httpx.AsyncClient, lunch: Lunch) -> None:
    """`me` is not an id and `week` is not a date; another method belongs to the path with the parameter."""
    me, week = await rest.get(f"{API}/users/me"), await rest.get(f"{API}/orders/availability/week?cafe_id=1")
    deleted = await rest.delete(f"{API}/users/me")

    assert (me.json()["tgid"], len(week.json()["items"])) == (MANAGER_TGID, 7)
    assert problem(deleted) == (400, "BAD_INPUT", ("tgid",))


async def test_a_link_request_may_have_a_token(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """A public operation accepts a token."""
    response = await rest.post(f"{API}/cafes/{cafe.id}/link-request", json={"tg_chat_id": CHAT})

    assert (response.status_code, response.json()["tg_chat_id"]) == (201, CHAT)
