"""People, through both doors."""

from datetime import datetime, timedelta

import pytest

from app.clients import Clients
from app.models import Role, User
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch
from tests.doors import Answer, Door, an_order, walk

LARGEST = 2**52 - 1


@pytest.fixture
async def crowd(clients: Clients, people: None) -> None:
    """With Ivan and Maria six people, two of one name, one who is switched off."""
    async with clients.db() as session:
        session.add(User(tgid=7, name="Анна", role=Role.MANAGER))
        session.add(User(tgid=8, name="Olga 100%"))
        session.add(User(tgid=200, name="Olga"))
        session.add(User(tgid=9, name="Olga", is_active=False))


@pytest.mark.parametrize(("operation", "role"), [("create_user", "user"), ("create_manager", "manager")])
async def test_a_person_is_added(manager_door: Door, operation: str, role: str) -> None:
    """Who is added has a name without spaces around it and a role, and is switched on."""
    answer = await manager_door(operation, tgid=LARGEST, name="  Ольга 🍲 ")

    created_at = datetime.fromisoformat(answer.data.pop("created_at"))
    assert answer.data == {"tgid": LARGEST, "name": "Ольга 🍲", "role": role, "is_active": True}
    assert created_at.utcoffset() == timedelta(0)


async def test_a_person_is_found(manager_door: Door) -> None:
    """A manager may read anybody, and finds what was added."""
    added = (await manager_door("create_user", tgid=5, name="Olga")).data

    assert (await manager_door("user", tgid=5)).data == added


async def test_people_come_by_name(manager_door: Door, crowd: None) -> None:
    """The list is in the order of names, then ids, on pages of whatever size."""
    walks = {first: await walk(manager_door, "users", key="tgid", first=first) for first in (1, 4, 100)}

    by_name = [USER_TGID, MANAGER_TGID, 9, 200, 8, 7]
    assert walks == dict.fromkeys(walks, by_name)


async def test_people_are_searched(manager_door: Door, crowd: None) -> None:
    """By a part of the name in either case, taken literally, or by the whole id."""
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

    answers = {search: await manager_door("users", search=search) for search in found}

    assert {search: _found(answer) for search, answer in answers.items()} == found


async def test_people_are_filtered(manager_door: Door, crowd: None) -> None:
    """Filters go together, and the total counts what they leave."""
    filters: list[tuple[dict[str, object], set[int]]] = [
        ({"role": "manager"}, {7, MANAGER_TGID}),
        ({"is_active": False}, {9}),
        ({"is_active": True, "role": "user"}, {8, 200, USER_TGID}),
        ({"search": "olga", "is_active": True}, {8, 200}),
        ({"search": "olga", "role": "manager"}, set()),
    ]

    answers = [await manager_door("users", **wanted) for wanted, _ in filters]

    assert [_found(answer) for answer in answers] == [found for _, found in filters]


def _found(answer: Answer) -> set[int]:
    """Who is in the list, whose total counts them."""
    found = {person["tgid"] for person in answer.data["items"]}
    assert answer.data["total"] == len(found)
    return found


async def test_pages_of_those_who_are_searched(manager_door: Door, crowd: None) -> None:
    """A cursor goes on where a filtered list was left."""
    assert await walk(manager_door, "users", key="tgid", search="olga", first=1) == [9, 200, 8]


async def test_who_is_switched_off_may_do_nothing(manager_door: Door, door: Door, user_token: str) -> None:
    """Their token helps no more, until they are switched on again."""
    off = await manager_door("set_user_access", tgid=USER_TGID, is_active=False)
    refused = await door.signed(user_token)("me")
    on = await manager_door("set_user_access", tgid=USER_TGID, is_active=True)
    let_in = await door.signed(user_token)("me")

    assert (off.data["is_active"], refused.code) == (False, "FORBIDDEN")
    assert (on.data["is_active"], let_in.code) == (True, None)


async def test_who_is_made_a_manager_is_one(manager_door: Door, door: Door, user_token: str) -> None:
    """With the token that they have; and no more once the role is taken away."""
    raised = await manager_door("set_user_access", tgid=USER_TGID, role="manager")
    let_in = await door.signed(user_token)("users")
    lowered = await manager_door("set_user_access", tgid=USER_TGID, role="user")
    refused = await door.signed(user_token)("users")

    assert (raised.data["role"], let_in.code) == ("manager", None)
    assert (lowered.data["role"], refused.code) == ("user", "FORBIDDEN")


async def test_access_that_is_not_given_stays(manager_door: Door) -> None:
    """Without arguments nothing changes."""
    before = (await manager_door("set_user_access", tgid=USER_TGID, is_active=False)).data

    answers = [
        await manager_door("set_user_access", tgid=USER_TGID),
        await manager_door("set_user_access", tgid=USER_TGID, role=None, is_active=None),
    ]

    assert [answer.data for answer in answers] == [before, before]


async def test_who_has_not_ordered_is_deleted(manager_door: Door) -> None:
    """The answer says so, and the person is gone."""
    answer = await manager_door("delete_user", tgid=USER_TGID)

    assert (answer.data["id"], answer.data["deleted"]) == (str(USER_TGID), True)
    assert (await manager_door("user", tgid=USER_TGID)).code == "NOT_FOUND"


async def test_who_has_ordered_is_kept(manager_door: Door, lunch: Lunch) -> None:
    """The answer says so, and the person is switched off; the order stays."""
    order = (await manager_door("place_order", **an_order(lunch, tgid=USER_TGID))).data

    answer = await manager_door("delete_user", tgid=USER_TGID)

    assert (answer.data["id"], answer.data["deleted"]) == (str(USER_TGID), False)
    assert "kept" in answer.data["message"]
    assert (await manager_door("user", tgid=USER_TGID)).data["is_active"] is False
    assert (await manager_door("order", id=order["id"])).data == order
