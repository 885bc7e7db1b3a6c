"""Link requests and the links of cafes, through both doors."""

from datetime import UTC, datetime, timedelta

import pytest

from app.clients import Clients
from app.models import Cafe, LinkRequest, LinkRequestStatus
from tests.conftest import MANAGER_TGID, add_cafe
from tests.doors import CHAT, OTHER_CHAT, Door, rows, walk


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


async def test_anybody_may_ask_for_a_link(door: Door, cafe: Cafe) -> None:
    """A request needs no token, and waits for a manager."""
    answer = await door("link_request", cafe_id=cafe.id, tg_chat_id=CHAT, tg_username="kitchen")

    assert {name: answer.data[name] for name in ("cafe_id", "cafe_name", "tg_chat_id", "tg_username", "status")} == {
        "cafe_id": str(cafe.id),
        "cafe_name": cafe.name,
        "tg_chat_id": CHAT,
        "tg_username": "kitchen",
        "status": "pending",
    }


async def test_a_stale_token_does_not_keep_anybody_from_what_is_public(door: Door, cafe: Cafe) -> None:
    """Who may ask without a token may ask with a bad one."""
    headers = ("Bearer nonsense", "nonsense", "Basic dTpw")

    answers = [await door.authorized(header)("link_request", cafe_id=cafe.id, tg_chat_id=CHAT) for header in headers]

    assert {answer.code for answer in answers} == {None}


async def test_asking_twice_is_one_request(door: Door, clients: Clients, cafe: Cafe, pending: LinkRequest) -> None:
    """The same request again is no error, and no second request."""
    before = await rows(clients)

    answer = await door("link_request", cafe_id=cafe.id, tg_chat_id=CHAT, tg_username="kitchen")

    assert answer.data["id"] == str(pending.id)
    assert await rows(clients) == before


async def test_a_chat_id_has_up_to_52_bits(door: Door, cafe: Cafe) -> None:
    """Telegram's largest ids come back as they were."""
    chats = [1, -1, 2**52 - 1, -(2**52) + 1]

    answers = [await door("link_request", cafe_id=cafe.id, tg_chat_id=chat) for chat in chats]

    assert [answer.data["tg_chat_id"] for answer in answers] == chats


async def test_a_manager_approves(manager_door: Door, pending: LinkRequest) -> None:
    """An approval is signed and dated."""
    answer = await manager_door("approve", request_id=pending.id)

    assert (answer.data["status"], answer.data["processed_by"]) == ("approved", MANAGER_TGID)
    assert datetime.fromisoformat(answer.data["processed_at"]).utcoffset() == timedelta(0)


async def test_an_approval_links_the_cafe(manager_door: Door, pending: LinkRequest) -> None:
    """After an approval the cafe shows its chat."""
    await manager_door("approve", request_id=pending.id)

    cafe = (await manager_door("cafe", id=pending.cafe_id)).data
    assert (cafe["tg_chat_id"], cafe["tg_username"], cafe["linked_at"] is None) == (CHAT, "kitchen", False)


async def test_a_manager_rejects_with_a_reason(manager_door: Door, pending: LinkRequest) -> None:
    """A rejection keeps its reason, whatever alphabet it is in."""
    answer = await manager_door("reject", request_id=pending.id, reason="Нет такой кухни 🍲")

    assert (answer.data["status"], answer.data["reason"]) == ("rejected", "Нет такой кухни 🍲")


async def test_a_rejection_needs_no_reason(manager_door: Door, pending: LinkRequest) -> None:
    """A manager may reject without a word."""
    answer = await manager_door("reject", request_id=pending.id)

    assert (answer.data["status"], answer.data["reason"]) == ("rejected", None)


async def test_notifications_are_switched(manager_door: Door, linked: LinkRequest) -> None:
    """A switch that is off can be seen in the answer."""
    answer = await manager_door("set_notifications", cafe_id=linked.cafe_id, enabled=False)

    assert answer.data["notifications_enabled"] is False


async def test_unlinking_takes_the_chat_away(manager_door: Door, linked: LinkRequest) -> None:
    """After unlinking the cafe has no chat."""
    answer = await manager_door("unlink", cafe_id=linked.cafe_id)

    cafe = (await manager_door("cafe", id=linked.cafe_id)).data
    assert answer.code is None
    assert (cafe["tg_chat_id"], cafe["tg_username"], cafe["linked_at"]) == (None, None, None)


async def test_requests_come_newest_first(manager_door: Door, requests: list[LinkRequest]) -> None:
    """The list begins with the newest."""
    answer = await manager_door("link_requests")

    assert [row["id"] for row in answer.data["items"]] == newest_first(requests)


async def test_requests_of_one_status(manager_door: Door, requests: list[LinkRequest]) -> None:
    """The list can be of one status, and counts only those."""
    for status in LinkRequestStatus:
        wanted = newest_first([request for request in requests if request.status is status])

        answer = await manager_door("link_requests", status=status.value)

        assert [row["id"] for row in answer.data["items"]] == wanted
        assert answer.data["total"] == len(wanted)


async def test_requests_of_one_cafe_and_status(manager_door: Door, requests: list[LinkRequest]) -> None:
    """Filters go together."""
    cafe_id = requests[0].cafe_id

    answer = await manager_door("link_requests", cafe_id=cafe_id, status="pending")

    assert [row["id"] for row in answer.data["items"]] == newest_first(
        [row for row in requests if row.cafe_id == cafe_id and row.status is LinkRequestStatus.PENDING]
    )


async def test_requests_of_an_unknown_cafe_are_none(manager_door: Door, requests: list[LinkRequest]) -> None:
    """A filter that nothing fits gives an empty list."""
    answer = await manager_door("link_requests", cafe_id=999)

    assert answer.data == {"items": [], "total": 0, "page_info": {"end_cursor": None, "has_next_page": False}}


async def test_pages_give_each_request_once(manager_door: Door, requests: list[LinkRequest]) -> None:
    """From page to page until the end: every row once, in order, with pages of whatever size."""
    walks = {first: await walk(manager_door, "link_requests", first=first) for first in (1, 2, 3, 7, 100)}

    assert walks == dict.fromkeys(walks, newest_first(requests))


async def test_pages_of_a_filtered_list(manager_door: Door, requests: list[LinkRequest]) -> None:
    """A cursor goes on where a filtered list was left."""
    wanted = [row for row in requests if row.status is LinkRequestStatus.REJECTED]

    assert await walk(manager_door, "link_requests", first=1, status="rejected") == newest_first(wanted)


async def test_every_page_counts_the_whole_list(manager_door: Door, requests: list[LinkRequest]) -> None:
    """The total is not that of the page, nor of what is left."""
    cursor = (await manager_door("link_requests", first=5)).data["page_info"]["end_cursor"]

    assert (await manager_door("link_requests", first=1, after=cursor)).data["total"] == len(requests)


async def test_a_list_can_begin_further_on(manager_door: Door, requests: list[LinkRequest]) -> None:
    """`skip` leaves out rows, behind the cursor if there is one."""
    cursor = (await manager_door("link_requests", first=2)).data["page_info"]["end_cursor"]

    answer = await manager_door("link_requests", first=2, after=cursor, skip=1)

    assert [row["id"] for row in answer.data["items"]] == newest_first(requests)[3:5]


async def test_a_list_can_begin_behind_its_end(manager_door: Door, requests: list[LinkRequest]) -> None:
    """Skipping everything leaves an empty page."""
    answer = await manager_door("link_requests", skip=2**31 - 1)

    assert (answer.data["items"], answer.data["page_info"]["has_next_page"]) == ([], False)


async def test_chats_are_for_managers(user_door: Door, linked: LinkRequest) -> None:
    """A user sees the cafe, but not its chat."""
    cafe = (await user_door("cafe", id=linked.cafe_id)).data

    assert (cafe["tg_chat_id"], cafe["tg_username"], cafe["linked_at"]) == (None, None, None)


async def test_chats_in_a_list_are_for_managers(user_door: Door, linked: LinkRequest) -> None:
    """Nor does a user see the chats in the list of cafes."""
    answer = await user_door("cafes")

    assert [cafe["tg_chat_id"] for cafe in answer.data["items"]] == [None]


async def test_managers_see_chats(manager_door: Door, linked: LinkRequest) -> None:
    """A manager sees the chats in the list of cafes."""
    answer = await manager_door("cafes")

    assert [cafe["tg_chat_id"] for cafe in answer.data["items"]] == [CHAT]


async def test_who_asks_without_a_role_sees_no_chat(door: Door, cafe: Cafe, manager_token: str) -> None:
    """A request's own answer shows the chat that asks, and nobody else's."""
    answer = await door("link_request", cafe_id=cafe.id, tg_chat_id=OTHER_CHAT)

    assert answer.data["tg_chat_id"] == OTHER_CHAT
    assert answer.data["processed_by"] is None
