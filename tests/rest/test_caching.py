"""What may be kept of REST's answers, by whom, and for how long."""

import httpx
import pytest

from app.models import Cafe, LinkRequest
from tests.conftest import Lunch

API = "/api/v1"


@pytest.fixture
def rest(called: httpx.AsyncClient, manager_token: str) -> httpx.AsyncClient:
    """A manager at the REST door."""
    called.headers["Authorization"] = f"Bearer {manager_token}"
    return called


async def test_a_part_has_its_own_tag(rest: httpx.AsyncClient, lunch: Lunch) -> None:
    """Who has a cafe's menu gets it anew once a dish has changed."""
    path = f"{API}/cafes/1/menu"
    tag = (await rest.get(path)).headers["etag"]
    known = await rest.get(path, headers={"If-None-Match": tag})
    await rest.patch(f"{path}/1", json={"is_available": False})
    changed = await rest.get(path, headers={"If-None-Match": tag})

    assert (known.status_code, changed.status_code) == (304, 200)


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
