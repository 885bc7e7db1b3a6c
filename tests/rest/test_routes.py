"""REST's own side of the operations: parameters, bodies, tags, methods."""

from typing import Any

import httpx
import pytest

from app.clients import Clients
from app.models import Cafe, LinkRequest
from app.rest.problem import PROBLEM_JSON
from tests.conftest import add_cafe
from tests.doors import CHAT, rows

API = "/api/v1"


@pytest.fixture
def rest(called: httpx.AsyncClient, manager_token: str) -> httpx.AsyncClient:
    """A manager at the REST door."""
    called.headers["Authorization"] = f"Bearer {manager_token}"
    return called


def problem(response: httpx.Response) -> tuple[int, str, list[str]]:
    """What a problem says: status, code and fields."""
    body: dict[str, Any] = response.json()
    assert response.headers["content-type"] == PROBLEM_JSON
    return response.status_code, body["code"], [error["field"] for error in body.get("errors", [])]


NO_OBJECTS = (
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

NO_PARAMETERS: dict[tuple[str, bytes | None], str] = {
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
}


async def test_what_is_no_parameter_is_refused(rest: httpx.AsyncClient, clients: Clients, linked: LinkRequest) -> None:
    """A misspelled parameter is not left out in silence."""
    before = await rows(clients)

    told = {}
    for request_line, body in NO_PARAMETERS:
        method, path = request_line.split(" ")
        told[request_line, body] = problem(await rest.request(method, API + path, content=body))

    assert told == {request: (400, "BAD_INPUT", [field]) for request, field in NO_PARAMETERS.items()}
    assert await rows(clients) == before


async def test_a_body_that_is_no_object_is_refused(
    rest: httpx.AsyncClient, clients: Clients, pending: LinkRequest
) -> None:
    """What cannot be read is refused, and changes nothing."""
    before = await rows(clients)

    told = {
        body: problem(await rest.post(f"{API}/cafe-requests/{pending.id}/reject", content=body)) for body in NO_OBJECTS
    }

    assert told == dict.fromkeys(NO_OBJECTS, (400, "BAD_INPUT", ["body"]))
    assert await rows(clients) == before


@pytest.mark.parametrize("body", [None, b"", b"{}", b'{"reason": null}'])
async def test_a_body_may_be_left_out_where_nothing_in_it_is_needed(
    rest: httpx.AsyncClient, pending: LinkRequest, body: bytes | None
) -> None:
    """No body is an empty one."""
    response = await rest.post(f"{API}/cafe-requests/{pending.id}/reject", content=body)

    assert (response.status_code, response.json()["reason"]) == (200, None)


@pytest.mark.parametrize(("limit", "names"), [("1", 1), ("100", 3), (None, 3)])
async def test_a_number_in_the_address_is_a_number(
    rest: httpx.AsyncClient, clients: Clients, limit: str | None, names: int
) -> None:
    """The page size is read from the query."""
    for name in "abc":
        await add_cafe(clients, name)

    response = await rest.get(f"{API}/cafes", params={} if limit is None else {"limit": limit})

    assert len(response.json()["items"]) == names


async def test_only_digits_are_a_number(rest: httpx.AsyncClient) -> None:
    """What Python might read as a number is none in JSON."""
    limits = ("١", "1_0", "+1", "1e1", "0x1", " 1", "one", "1.0")

    told = {limit: problem(await rest.get(f"{API}/cafes", params={"limit": limit})) for limit in limits}

    assert told == dict.fromkeys(limits, (400, "BAD_INPUT", ["limit"]))


async def test_enumerations_are_lower_case(rest: httpx.AsyncClient, pending: LinkRequest) -> None:
    """REST's values are lower case, in both directions: no other spelling is one."""
    statuses = ("PENDING", "Pending", "nonsense", "")

    told = {status: problem(await rest.get(f"{API}/cafe-requests", params={"status": status})) for status in statuses}

    assert told == dict.fromkeys(statuses, (400, "BAD_INPUT", ["status"]))


async def test_a_list_has_its_shape(rest: httpx.AsyncClient, pending: LinkRequest) -> None:
    """Every list of REST's has rows, their number, and where the page ends."""
    body = (await rest.get(f"{API}/cafe-requests")).json()

    assert {name: type(value) for name, value in body.items()} == {"items": list, "total": int, "page_info": dict}
    assert set(body["page_info"]) == {"end_cursor", "has_next_page"}


async def test_a_request_has_its_shape(rest: httpx.AsyncClient, pending: LinkRequest) -> None:
    """A link request of REST's names its cafe."""
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


async def test_a_read_has_a_tag(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """The same answer has the same tag (RFC 9110, section 8.8.3), and is nobody else's to keep."""
    one, other = await rest.get(f"{API}/cafes/{cafe.id}"), await rest.get(f"{API}/cafes/{cafe.id}")

    assert one.headers["etag"] == other.headers["etag"]
    assert "private" in one.headers["cache-control"]
    assert "authorization" in one.headers["vary"].lower()


async def test_what_is_known_is_not_sent_again(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """Who has this answer gets 304 and the tag, and no body."""
    tag = (await rest.get(f"{API}/cafes/{cafe.id}")).headers["etag"]
    headers = (tag, f"W/{tag}", f'"x", {tag}', f'"x",W/{tag} , "y"', "*")

    answers = [await rest.get(f"{API}/cafes/{cafe.id}", headers={"If-None-Match": header}) for header in headers]

    assert [(answer.status_code, answer.content, answer.headers["etag"]) for answer in answers] == [
        (304, b"", tag) for _ in headers
    ]


async def test_what_is_not_known_is_sent(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """Another tag is no reason to send nothing."""
    headers = ('"x"', "x", "", ",")

    answers = [await rest.get(f"{API}/cafes/{cafe.id}", headers={"If-None-Match": header}) for header in headers]

    assert [answer.status_code for answer in answers] == [200 for _ in headers]


async def test_what_has_changed_has_another_tag(rest: httpx.AsyncClient, linked: LinkRequest) -> None:
    """Who has the former answer gets the new one."""
    path = f"{API}/cafes/{linked.cafe_id}"
    tag = (await rest.get(path)).headers["etag"]
    await rest.patch(f"{path}/notifications", json={"enabled": False})

    response = await rest.get(path, headers={"If-None-Match": tag})

    assert (response.status_code, response.headers["etag"] == tag) == (200, False)


async def test_what_others_may_not_see_has_another_tag(
    rest: httpx.AsyncClient, linked: LinkRequest, user_token: str
) -> None:
    """A user, who sees no chat, has an answer of their own."""
    path = f"{API}/cafes/{linked.cafe_id}"
    tag = (await rest.get(path)).headers["etag"]

    response = await rest.get(path, headers={"If-None-Match": tag, "Authorization": f"Bearer {user_token}"})

    assert response.status_code == 200


async def test_a_change_is_not_kept(rest: httpx.AsyncClient, pending: LinkRequest) -> None:
    """What a change answers is true only now."""
    response = await rest.post(f"{API}/cafe-requests/{pending.id}/approve")

    assert response.headers["cache-control"] == "no-store"


async def test_the_head_of_a_read(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """HEAD is GET without the body (RFC 9110, section 9.3.2)."""
    got, head = await rest.get(f"{API}/cafes/{cafe.id}"), await rest.head(f"{API}/cafes/{cafe.id}")

    assert (head.status_code, head.headers["etag"]) == (200, got.headers["etag"])


async def test_an_unknown_path_is_a_problem(rest: httpx.AsyncClient) -> None:
    """What is not there is told like anything else that is wrong."""
    paths = ("/nope", "/cafes/1/2/3", "/cafe-requests/1", "/cafe-requests/1/nope", "/", "")

    told = {path: problem(await rest.get(API + path)) for path in paths}

    assert told == dict.fromkeys(paths, (404, "NOT_FOUND", []))


async def test_a_method_that_a_path_has_not_is_a_problem(rest: httpx.AsyncClient) -> None:
    """405 says which methods there are."""
    allowed = {
        ("POST", "/cafes"): {"GET", "HEAD"},
        ("DELETE", "/cafes/1"): {"GET", "HEAD"},
        ("GET", "/cafe-requests/1/approve"): {"POST"},
        ("PUT", "/cafes/1/notifications"): {"PATCH"},
        ("POST", "/cafes/1/link"): {"DELETE"},
        ("POST", "/openapi.json"): {"GET", "HEAD"},
    }

    told = {(method, path): await rest.request(method, API + path) for method, path in allowed}

    assert {request: set(response.headers["allow"].split(", ")) for request, response in told.items()} == allowed
    assert {(response.status_code, response.headers["content-type"]) for response in told.values()} == {
        (405, PROBLEM_JSON)
    }


async def test_asking_may_be_signed(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """A request may be made with the token of a person: it is public all the same."""
    response = await rest.post(f"{API}/cafes/{cafe.id}/link-request", json={"tg_chat_id": CHAT})

    assert (response.status_code, response.json()["tg_chat_id"]) == (201, CHAT)
