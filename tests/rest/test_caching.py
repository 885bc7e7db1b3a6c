"""HTTP caching of REST's answers."""

import httpx
import pytest

from app.models import Cafe, LinkRequest
from tests.conftest import Lunch

API = "/api/v1"


@pytest.fixture
def rest(called: httpx.AsyncClient, manager_token: str) -> httpx.AsyncClient:
    """A REST client with a manager's token."""
    called.headers["Authorization"] = f"Bearer {manager_token}"
    return called


async def test_a_changed_dish_changes_the_tag_of_the_menu(rest: httpx.AsyncClient, lunch: Lunch) -> None:
    """A client with the former menu gets the new one when a dish has changed."""
    path = f"{API}/cafes/1/menu"
    tag = (await rest.get(path)).headers["etag"]
    known = await rest.get(path, headers={"If-None-Match": tag})
    await rest.patch(f"{path}/1", json={"is_available": False})
    changed = await rest.get(path, headers={"If-None-Match": tag})

    assert (known.status_code, changed.status_code) == (304, 200)


async def test_a_read_has_a_tag(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """The same answer has the same tag (RFC 9110, section 8.8.3), and only the viewer's own cache may store it."""
    one, other = await rest.get(f"{API}/cafes/{cafe.id}"), await rest.get(f"{API}/cafes/{cafe.id}")

    assert one.headers["etag"] == other.headers["etag"]
    assert "private" in one.headers["cache-control"]
    assert "authorization" in one.headers["vary"].lower()


async def test_a_known_tag_is_answered_with_304(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """A client with the current answer gets 304 with the tag and without a body."""
    tag = (await rest.get(f"{API}/cafes/{cafe.id}")).headers["etag"]
    headers = (tag, f"W/{tag}", f'"x", {tag}', f'"x",W/{tag} , "y"', "*")

    answers = [await rest.get(f"{API}/cafes/{cafe.id}", headers={"If-None-Match": header}) for header in headers]

    assert [(answer.status_code, answer.content, answer.headers["etag"]) for answer in answers] == [
        (304, b"", tag) for _ in headers
    ]


async def test_an_unknown_tag_is_answered_with_200(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """A client with another tag gets the whole answer."""
    headers = ('"x"', "x", "", ",")

    answers = [await rest.get(f"{API}/cafes/{cafe.id}", headers={"If-None-Match": header}) for header in headers]

    assert [answer.status_code for answer in answers] == [200 for _ in headers]


async def test_a_change_gives_another_tag(rest: httpx.AsyncClient, linked: LinkRequest) -> None:
    """A client with the former answer gets the new one."""
    path = f"{API}/cafes/{linked.cafe_id}"
    tag = (await rest.get(path)).headers["etag"]
    await rest.patch(f"{path}/notifications", json={"enabled": False})

    response = await rest.get(path, headers={"If-None-Match": tag})

    assert (response.status_code, response.headers["etag"] == tag) == (200, False)


async def test_the_tag_depends_on_the_viewer(rest: httpx.AsyncClient, linked: LinkRequest, user_token: str) -> None:
    """A user, who sees no chat, gets another tag than a manager."""
    path = f"{API}/cafes/{linked.cafe_id}"
    tag = (await rest.get(path)).headers["etag"]

    response = await rest.get(path, headers={"If-None-Match": tag, "Authorization": f"Bearer {user_token}"})

    assert response.status_code == 200


async def test_the_answer_to_a_change_is_not_cached(rest: httpx.AsyncClient, pending: LinkRequest) -> None:
    """The answer to a change has `no-store`."""
    response = await rest.post(f"{API}/cafe-requests/{pending.id}/approve")

    assert response.headers["cache-control"] == "no-store"


async def test_head_is_get_without_a_body(rest: httpx.AsyncClient, cafe: Cafe) -> None:
    """HEAD has the headers of GET and no body (RFC 9110, section 9.3.2)."""
    got, head = await rest.get(f"{API}/cafes/{cafe.id}"), await rest.head(f"{API}/cafes/{cafe.id}")

    assert (head.status_code, head.headers["etag"]) == (200, got.headers["etag"])
