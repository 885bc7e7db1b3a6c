"""Link requests and the links of cafes, in both APIs."""

from datetime import UTC, datetime, timedelta

import pytest

from app.clients import Clients
from app.models import Cafe, LinkRequest, LinkRequestStatus
from app.services.pagination import MAX_SKIP
from tests.apis import CHAT, OTHER_CHAT, ApiClient, rows, walk
from tests.conftest import MANAGER_TGID, add_cafe


@pytest.fixture
async def requests(clients: Clients, people: None) -> list[LinkRequest]:
    """Seven requests for two cafes, of every status, the oldest first; two of them were made at the same time."""
    one, other = await add_cafe(clients), await add_cafe(clients, "Green Fork")
    at = datetime(2026, 1, 1, tzinfo=UTC)
    made = [
        LinkRequest(
            cafe_id=cafe.id,
            tg_chat_id=-number,
            status=status,
            created_at=at + timedelta(minutes=min(number, 6)),
            processed_at=None if status is LinkRequestStatus.PENDING else at,
        )
        for number, (cafe, status) in enumerate(
            [
                (one, LinkRequestStatus.PENDING),
                (one, LinkRequestStatus.REJECTED),
                (other, LinkRequestStatus.PENDING),
                (other, LinkRequestStatus.APPROVED),
                (one, LinkRequestStatus.PENDING),
                (other, LinkRequestStatus.REJECTED),
                (one, LinkRequestStatus.REJECTED),
            ],
            start=1,
        )
    ]
    async with clients.db() as session:
        for request in made:
            session.add(request)
            await session.flush()
    return made


def newest_first(requests: list[LinkRequest]) -> list[str]:
    return [str(request.id) for request in reversed(requests)]


async def test_a_link_request_needs_no_token(api_client: ApiClient, cafe: Cafe) -> None:
    """A request without a token is pending until a manager decides."""
    answer = await api_client("link_request", cafe_id=cafe.id, tg_chat_id=CHAT, tg_username="kitchen")

    assert {name: answer.data[name] for name in ("cafe_id", "cafe_name", "tg_chat_id", "tg_username", "status")} == {
        "cafe_id": str(cafe.id),
        "cafe_name": cafe.name,
        "tg_chat_id": CHAT,
        "tg_username": "kitchen",
        "status": "pending",
    }


async def test_an_expired_token_does_not_prevent_public_operations(api_client: ApiClient, cafe: Cafe) -> None:
    """A public operation does not check the token."""
    headers = ("Bearer nonsense", "nonsense", "Basic dTpw")

    answers = [
        await api_client.authorized(header)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT) for header in headers
    ]

    assert {answer.code for answer in answers} == {None}


async def test_a_repeated_request_is_one_request(
    api_client: ApiClient, clients: Clients, cafe: Cafe, pending: LinkRequest
) -> None:
    """The same request again returns the first one."""
    before = await rows(clients)

    answer = await api_client("link_request", cafe_id=cafe.id, tg_chat_id=CHAT, tg_username="kitchen")

    assert answer.data["id"] == str(pending.id)
    assert await rows(clients) == before


async def test_a_chat_id_has_up_to_52_bits(api_client: ApiClient, cafe: Cafe) -> None:
    """Telegram's largest ids are returned unchanged."""
    chats = [1, -1, 2**52 - 1, -(2**52) + 1]

    answers = [await api_client("link_request", cafe_id=cafe.id, tg_chat_id=chat) for chat in chats]

    assert [answer.data["tg_chat_id"] for answer in answers] == chats


async def test_an_approval_has_a_manager_and_a_time(manager_client: ApiClient, pending: LinkRequest) -> None:
    """An approved request has the manager and the time of the approval."""
    answer = await manager_client("approve", request_id=pending.id)

    assert (answer.data["status"], answer.data["processed_by"]) == ("approved", MANAGER_TGID)
    assert datetime.fromisoformat(answer.data["processed_at"]).utcoffset() == timedelta(0)


async def test_an_approval_links_the_cafe(manager_client: ApiClient, pending: LinkRequest) -> None:
    """After an approval the cafe has the chat."""
    await manager_client("approve", request_id=pending.id)

    cafe = (await manager_client("cafe", id=pending.cafe_id)).data
    assert (cafe["tg_chat_id"], cafe["tg_username"], cafe["linked_at"] is None) == (CHAT, "kitchen", False)


async def test_a_manager_rejects_with_a_reason(manager_client: ApiClient, pending: LinkRequest) -> None:
    """A rejected request has the reason, in any alphabet."""
    answer = await manager_client("reject", request_id=pending.id, reason="Нет такой кухни 🍲")

    assert (answer.data["status"], answer.data["reason"]) == ("rejected", "Нет такой кухни 🍲")


async def test_a_rejection_needs_no_reason(manager_client: ApiClient, pending: LinkRequest) -> None:
    """A manager may reject without a reason."""
    answer = await manager_client("reject", request_id=pending.id)

    assert (answer.data["status"], answer.data["reason"]) == ("rejected", None)


async def test_notifications_can_be_disabled(manager_client: ApiClient, linked: LinkRequest) -> None:
    """The answer says whether notifications are enabled."""
    answer = await manager_client("set_notifications", cafe_id=linked.cafe_id, enabled=False)

    assert answer.data["notifications_enabled"] is False


async def test_an_unlinked_cafe_has_no_chat(manager_client: ApiClient, linked: LinkRequest) -> None:
    """After an unlinking the cafe has no chat."""
    answer = await manager_client("unlink", cafe_id=linked.cafe_id)

    cafe = (await manager_client("cafe", id=linked.cafe_id)).data
    assert answer.code is None
    assert (cafe["tg_chat_id"], cafe["tg_username"], cafe["linked_at"]) == (None, None, None)


async def test_requests_come_newest_first(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """The list begins with the newest request."""
    answer = await manager_client("link_requests")

    assert [row["id"] for row in answer.data["items"]] == newest_first(requests)


async def test_requests_of_one_status(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """A list of one status has and counts only requests of that status."""
    for status in LinkRequestStatus:
        wanted = newest_first([request for request in requests if request.status is status])

        answer = await manager_client("link_requests", status=status.value)

        assert [row["id"] for row in answer.data["items"]] == wanted
        assert answer.data["total"] == len(wanted)


async def test_requests_of_one_cafe_and_status(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """Several filters apply together."""
    cafe_id = requests[0].cafe_id

    answer = await manager_client("link_requests", cafe_id=cafe_id, status="pending")

    assert [row["id"] for row in answer.data["items"]] == newest_first(
        [row for row in requests if row.cafe_id == cafe_id and row.status is LinkRequestStatus.PENDING]
    )


async def test_an_unknown_cafe_has_no_requests(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """A filter without matches gives an empty list."""
    answer = await manager_client("link_requests", cafe_id=999)

    assert answer.data == {"items": [], "total": 0, "page_info": {"end_cursor": None, "has_next_page": False}}


async def test_pages_give_each_request_once(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """The pages together have every row once and in order, with any page size."""
    walks = {first: await walk(manager_client, "link_requests", first=first) for first in (1, 2, 3, 7, 100)}

    assert walks == dict.fromkeys(walks, newest_first(requests))


async def test_pages_of_a_filtered_list(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """A cursor works in a filtered list."""
    wanted = [row for row in requests if row.status is LinkRequestStatus.REJECTED]

    assert await walk(manager_client, "link_requests", first=1, status="rejected") == newest_first(wanted)


async def test_every_page_counts_the_whole_list(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """The total of every page is that of the whole list."""
    cursor = (await manager_client("link_requests", first=5)).data["page_info"]["end_cursor"]

    assert (await manager_client("link_requests", first=1, after=cursor)).data["total"] == len(requests)


async def test_skip_leaves_rows_out(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """`skip` leaves out rows, after the cursor if there is one."""
    cursor = (await manager_client("link_requests", first=2)).data["page_info"]["end_cursor"]

    answer = await manager_client("link_requests", first=2, after=cursor, skip=1)

    assert [row["id"] for row in answer.data["items"]] == newest_first(requests)[3:5]


async def test_skip_may_go_beyond_the_end(manager_client: ApiClient, requests: list[LinkRequest]) -> None:
    """A `skip` beyond the end gives an empty page."""
    answer = await manager_client("link_requests", skip=MAX_SKIP)

    assert (answer.data["items"], answer.data["page_info"]["has_next_page"]) == ([], False)


async def test_users_do_not_see_the_chat_of_a_cafe(user_client: ApiClient, linked: LinkRequest) -> None:
    """A user sees the cafe without its chat."""
    cafe = (await user_client("cafe", id=linked.cafe_id)).data

    assert (cafe["tg_chat_id"], cafe["tg_username"], cafe["linked_at"]) == (None, None, None)


async def test_users_do_not_see_chats_in_a_list(user_client: ApiClient, linked: LinkRequest) -> None:
    """A user sees no chats in the list of cafes."""
    answer = await user_client("cafes")

    assert [cafe["tg_chat_id"] for cafe in answer.data["items"]] == [None]


async def test_managers_see_chats(manager_client: ApiClient, linked: LinkRequest) -> None:
    """A manager sees the chats in the list of cafes."""
    answer = await manager_client("cafes")

    assert [cafe["tg_chat_id"] for cafe in answer.data["items"]] == [CHAT]


async def test_a_caller_without_a_role_sees_no_chat(api_client: ApiClient, cafe: Cafe, manager_token: str) -> None:
    """The answer to a request shows only the requesting chat."""
    answer = await api_client("link_request", cafe_id=cafe.id, tg_chat_id=OTHER_CHAT)

    assert answer.data["tg_chat_id"] == OTHER_CHAT
    assert answer.data["processed_by"] is None
