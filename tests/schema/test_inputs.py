"""Both APIs refuse wrong links and lists: with the code of the contract and the wrong field, and without a change."""

import base64

import pytest

from app.auth.context import Context
from app.clients import Clients
from app.models import Cafe, LinkRequest
from app.resolvers import links
from app.resolvers.cafes import BY_NAME
from tests.apis import CHAT, OTHER_CHAT, ApiClient, rows
from tests.conftest import add_cafe
from tests.schema.refusals import (
    ANOTHER_ID,
    BAD_BOOLEANS,
    BAD_CHAT_IDS,
    BAD_IDS,
    BAD_PAGE_SIZES,
    BAD_SKIPS,
    Refused,
    bad,
    conflict,
    cursor,
    expected,
    not_found,
    operations,
    outcomes,
)

BAD_USER_NAMES: tuple[object, ...] = ("x" * 256, "a\0b", 5, ["x"])
BAD_CURSORS = (
    "",
    "x",
    "not base64!",
    "é",
    cursor(),
    cursor(1),
    cursor("2026-01-01T00:00:00", 1),
    cursor("2026-01-01T00:00:00Z", "1"),
    cursor("2026-01-01T00:00:00Z", 2**63),
    cursor("2026-01-01T00:00:00Z", 1, 1),
    cursor("0001-01-01T00:00:00+14:00", 1),
    cursor("9999-12-31T23:59:59-14:00", 1),
    cursor("Basil & Thyme", 1),
    cursor("2026-01-01T00:00:00Z", 1, of="another list"),
    cursor(None, 1),
    base64.urlsafe_b64encode(b"\xff\xfe").decode(),
    base64.urlsafe_b64encode(b'{"a": 1}').decode(),
)

REFUSALS = (
    *(bad("link_request", "tg_chat_id", value, cafe_id=3) for value in BAD_CHAT_IDS),
    *(bad("link_request", "tg_username", value, cafe_id=3, tg_chat_id=CHAT) for value in BAD_USER_NAMES),
    *(bad("approve", "request_id", value) for value in BAD_IDS),
    *(bad("cafe", "id", value) for value in BAD_IDS),
    bad("reject", "request_id", "x"),
    bad("reject", "reason", "x" * 1001, request_id=2),
    bad("reject", "reason", "\0", request_id=2),
    bad("reject", "reason", 5, request_id=2),
    bad("link_request", "cafe_id", "x", tg_chat_id=CHAT),
    bad("unlink", "cafe_id", "x"),
    bad("set_notifications", "cafe_id", "x", enabled=True),
    *(bad("set_notifications", "enabled", value, cafe_id=1) for value in BAD_BOOLEANS),
    *(bad("link_requests", "status", value) for value in ("nonsense", "", "pending ", "pending,approved")),
    *(bad("link_requests", "cafe_id", value) for value in ("x", "0", "9" * 5000)),
    *(bad("link_requests", "first", value) for value in BAD_PAGE_SIZES),
    *(bad("cafes", "first", value) for value in (0, 101)),
    *(bad("link_requests", "skip", value) for value in BAD_SKIPS),
    *(bad("link_requests", "after", value) for value in BAD_CURSORS),
    *(
        bad("cafes", "after", value)
        for value in ("x", cursor("2026-01-01T00:00:00Z", 1), cursor("a\0b", 1, of=BY_NAME.name))
    ),
    Refused("link_request", {"cafe_id": 3}, fields=("tg_chat_id",)),
    Refused("set_notifications", {"cafe_id": 1}, fields=("enabled",)),
    not_found("cafe", "cafe", id=ANOTHER_ID),
    not_found("link_request", "cafe", cafe_id=ANOTHER_ID, tg_chat_id=CHAT),
    not_found("set_notifications", "cafe", cafe_id=ANOTHER_ID, enabled=True),
    not_found("unlink", "cafe", cafe_id=ANOTHER_ID),
    not_found("approve", "link_request", request_id=ANOTHER_ID),
    not_found("reject", "link_request", request_id=ANOTHER_ID),
    Refused("approve", {"request_id": 1}, "LINK_REQUEST_PROCESSED", details={"status": "APPROVED"}),
    Refused("reject", {"request_id": 1}, "LINK_REQUEST_PROCESSED", details={"status": "APPROVED"}),
    conflict("CAFE_ALREADY_LINKED", "link_request", cafe_id=1, tg_chat_id=OTHER_CHAT),
    conflict("CHAT_ALREADY_LINKED", "link_request", cafe_id=3, tg_chat_id=CHAT),
    conflict("CAFE_NOT_LINKED", "set_notifications", cafe_id=2, enabled=False),
    conflict("CAFE_NOT_LINKED", "unlink", cafe_id=2),
)


@pytest.fixture
async def world(clients: Clients, anonymous: Context, linked: LinkRequest) -> None:
    """Cafe 1 is linked, 2 has a pending request, 3 has nothing."""
    other = await add_cafe(clients, "Green Fork")
    await links.link_request(anonymous, other.id, OTHER_CHAT)
    await add_cafe(clients, "Пельменная №1")


@pytest.mark.parametrize("operation", operations(REFUSALS))
async def test_wrong_calls_are_refused(
    manager_client: ApiClient, clients: Clients, world: None, operation: str
) -> None:
    """Each wrong call gets its code and its wrong fields, and changes nothing."""
    wrong = [refused for refused in REFUSALS if refused.operation == operation]
    before = await rows(clients)

    assert await outcomes(manager_client, wrong) == expected(wrong)
    assert await rows(clients) == before


async def test_an_approval_for_a_linked_cafe_is_refused(
    manager_client: ApiClient, anonymous: Context, manager: Context, clients: Clients, cafe: Cafe, pending: LinkRequest
) -> None:
    """A request for a cafe that is linked since then cannot be approved, and does not change."""
    other = await links.link_request(anonymous, cafe.id, OTHER_CHAT)
    await links.approve(manager, pending.id)
    before = await rows(clients)

    answer = await manager_client("approve", request_id=other.id)

    assert answer.code == "CAFE_ALREADY_LINKED"
    assert await rows(clients) == before


async def test_an_approval_for_a_linked_chat_is_refused(
    manager_client: ApiClient, anonymous: Context, manager: Context, clients: Clients, pending: LinkRequest
) -> None:
    """A request of a chat that is linked since then cannot be approved, and does not change."""
    other = await links.link_request(anonymous, (await add_cafe(clients, "Green Fork")).id, CHAT)
    await links.approve(manager, pending.id)
    before = await rows(clients)

    answer = await manager_client("approve", request_id=other.id)

    assert answer.code == "CHAT_ALREADY_LINKED"
    assert await rows(clients) == before


async def test_half_of_a_surrogate_pair_is_refused(api_client: ApiClient, clients: Clients, cafe: Cafe) -> None:
    """Half of a surrogate pair is not a text, so the body is not JSON (RFC 8259, section 8.2)."""
    before = await rows(clients)

    answers = [
        await api_client("link_request", cafe_id=cafe.id, tg_chat_id=CHAT, tg_username=name)
        for name in ("\ud800", "a\udfffb")
    ]

    assert [(answer.code, answer.response.status_code) for answer in answers] == [("BAD_INPUT", 400)] * 2
    assert await rows(clients) == before


async def test_a_user_name_is_up_to_255_characters_of_any_alphabet(api_client: ApiClient, cafe: Cafe) -> None:
    """The limit counts characters, not bytes."""
    names = {-number: name for number, name in enumerate(["x" * 255, "🍲" * 255, "имя", "", "a b"], start=1)}

    answers = [
        await api_client("link_request", cafe_id=cafe.id, tg_chat_id=chat, tg_username=name)
        for chat, name in names.items()
    ]

    assert [answer.data["tg_username"] for answer in answers] == list(names.values())


@pytest.mark.parametrize("name", ["cafes", "link_requests"])
async def test_the_largest_page_has_100_rows(manager_client: ApiClient, name: str) -> None:
    """A page size of 100 is accepted."""
    assert (await manager_client(name, first=100)).code is None


async def test_a_cursor_belongs_to_one_list(manager_client: ApiClient, linked: LinkRequest) -> None:
    """A cursor of one list is refused by another list."""
    place = (await manager_client("link_requests")).data["page_info"]["end_cursor"]

    answer = await manager_client("cafes", after=place)

    assert (answer.code, answer.fields) == ("BAD_INPUT", ("after",))
