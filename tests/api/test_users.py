"""Users, in both APIs."""

from datetime import datetime, timedelta

import pytest

from app.clients import Clients
from app.models import Role, User
from tests.apis import Answer, ApiClient, an_order, walk
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch

LARGEST = 2**52 - 1


@pytest.fixture
async def crowd(clients: Clients, people: None) -> None:
    """Six users with Ivan and Maria; two have the same name, one is deactivated."""
    async with clients.db() as session:
        session.add(User(tgid=7, name="Анна", role=Role.MANAGER))
        session.add(User(tgid=8, name="Olga 100%"))
        session.add(User(tgid=200, name="Olga"))
        session.add(User(tgid=9, name="Olga", is_active=False))


@pytest.mark.parametrize(("operation", "role"), [("create_user", "user"), ("create_manager", "manager")])
async def test_a_user_is_added(manager_client: ApiClient, operation: str, role: str) -> None:
    """A new user has a name without spaces around it, a role, and is active."""
    answer = await manager_client(operation, tgid=LARGEST, name="  Ольга 🍲 ")

    created_at = datetime.fromisoformat(answer.data.pop("created_at"))
    assert answer.data == {"tgid": LARGEST, "name": "Ольга 🍲", "role": role, "is_active": True}
    assert created_at.utcoffset() == timedelta(0)


async def test_a_user_is_found(manager_client: ApiClient) -> None:
    """A manager may read every user."""
    added = (await manager_client("create_user", tgid=5, name="Olga")).data

    assert (await manager_client("user", tgid=5)).data == added


async def test_users_are_sorted_by_name(manager_client: ApiClient, crowd: None) -> None:
    """The list is sorted by name and id, with any page size."""
    walks = {first: await walk(manager_client, "users", key="tgid", first=first) for first in (1, 4, 100)}

    by_name = [USER_TGID, MANAGER_TGID, 9, 200, 8, 7]
    assert walks == dict.fromkeys(walks, by_name)


async def test_users_are_searched(manager_client: ApiClient, crowd: None) -> None:
    """A search finds a part of the name in upper or lower case, literally, or the whole id."""
    found: dict[str, set[int]] = {
        "olga": {8, 9, 200},
        "LG": {8, 9, 200},
        "анна": {7},
        "%": {8},
        "_": set(),
        "200": {200},
        str(MANAGER_TGID): {MANAGER_TGID},
        "20": set(),
        "9" * 17: set(),
        "": {7, 8, 9, 200, USER_TGID, MANAGER_TGID},
    }

    answers = {search: await manager_client("users", search=search) for search in found}

    assert {search: _found(answer) for search, answer in answers.items()} == found


async def test_users_are_filtered(manager_client: ApiClient, crowd: None) -> None:
    """Several filters apply together, and the total counts the matches."""
    filters: list[tuple[dict[str, object], set[int]]] = [
        ({"role": "manager"}, {7, MANAGER_TGID}),
        ({"is_active": False}, {9}),
        ({"is_active": True, "role": "user"}, {8, 200, USER_TGID}),
        ({"search": "olga", "is_active": True}, {8, 200}),
        ({"search": "olga", "role": "manager"}, set()),
    ]

    answers = [await manager_client("users", **wanted) for wanted, _ in filters]

    assert [_found(answer) for answer in answers] == [found for _, found in filters]


def _found(answer: Answer) -> set[int]:
    """Return the users in a list, whose total is their number."""
    found = {user["tgid"] for user in answer.data["items"]}
    assert answer.data["total"] == len(found)
    return found


async def test_pages_of_searched_users(manager_client: ApiClient, crowd: None) -> None:
    """A cursor works in a filtered list."""
    assert await walk(manager_client, "users", key="tgid", search="olga", first=1) == [9, 200, 8]


async def test_a_deactivated_user_may_do_nothing(
    manager_client: ApiClient, api_client: ApiClient, user_token: str
) -> None:
    """The token of a deactivated user works again after an activation."""
    off = await manager_client("set_user_access", tgid=USER_TGID, is_active=False)
    refused = await api_client.signed(user_token)("me")
    on = await manager_client("set_user_access", tgid=USER_TGID, is_active=True)
    let_in = await api_client.signed(user_token)("me")

    assert (off.data["is_active"], refused.code) == (False, "FORBIDDEN")
    assert (on.data["is_active"], let_in.code) == (True, None)


async def test_a_new_manager_keeps_the_token(manager_client: ApiClient, api_client: ApiClient, user_token: str) -> None:
    """The same token gives the rights of the current role."""
    raised = await manager_client("set_user_access", tgid=USER_TGID, role="manager")
    let_in = await api_client.signed(user_token)("users")
    lowered = await manager_client("set_user_access", tgid=USER_TGID, role="user")
    refused = await api_client.signed(user_token)("users")

    assert (raised.data["role"], let_in.code) == ("manager", None)
    assert (lowered.data["role"], refused.code) == ("user", "FORBIDDEN")


async def test_access_without_arguments_changes_nothing(manager_client: ApiClient) -> None:
    """Without arguments nothing changes."""
    before = (await manager_client("set_user_access", tgid=USER_TGID, is_active=False)).data

    answers = [
        await manager_client("set_user_access", tgid=USER_TGID),
        await manager_client("set_user_access", tgid=USER_TGID, role=None, is_active=None),
    ]

    assert [answer.data for answer in answers] == [before, before]


async def test_a_user_without_orders_is_deleted(manager_client: ApiClient) -> None:
    """The answer says so, and the user is not found any more."""
    answer = await manager_client("delete_user", tgid=USER_TGID)

    assert (answer.data["id"], answer.data["deleted"]) == (str(USER_TGID), True)
    assert (await manager_client("user", tgid=USER_TGID)).code == "NOT_FOUND"


async def test_a_user_with_orders_is_deactivated(manager_client: ApiClient, lunch: Lunch) -> None:
    """The answer says so; the user is deactivated and the order stays."""
    order = (await manager_client("place_order", **an_order(lunch, tgid=USER_TGID))).data

    answer = await manager_client("delete_user", tgid=USER_TGID)

    assert (answer.data["id"], answer.data["deleted"]) == (str(USER_TGID), False)
    assert "instead" in answer.data["message"]
    assert (await manager_client("user", tgid=USER_TGID)).data["is_active"] is False
    assert (await manager_client("order", id=order["id"])).data == order
