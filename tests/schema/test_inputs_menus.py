"""Both APIs refuse wrong users, cafes, menus and deadlines, without a change."""

from typing import Any

import pytest

from app.clients import Clients
from app.validation import DESCRIPTION_MAX_CHARACTERS
from tests.apis import ApiClient, rows
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_lunch
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

BAD_NAMES: tuple[object, ...] = ("", " \t ", "x" * 256, "a\0b", "a\nb", "a\tb", "a\u2028b", 5, True, None, ["x"], {})
BAD_DESCRIPTIONS: tuple[object, ...] = ("x" * (DESCRIPTION_MAX_CHARACTERS + 1), "\0", 5, None, ["x"])
BAD_ROLES: tuple[object, ...] = ("admin", "", 5)
BAD_TIMEZONES: tuple[object, ...] = (
    "",
    "Berlin",
    "UTC+3",
    "europe/berlin",
    "../etc/passwd",
    "localtime",
    "\0",
    5,
    None,
)
BAD_LANGUAGES: tuple[object, ...] = ("de", "", 5, None, ["en"])
BAD_SEARCHES: tuple[object, ...] = ("x" * 256, "\0")
BAD_CATEGORIES: tuple[object, ...] = ("dessert", "", 5, ["soup"])
BAD_CATEGORY_LISTS: tuple[object, ...] = (
    [],
    None,
    [None],
    ["dessert"],
    ["extra"],
    ["soup", "extra"],
    ["soup", "soup"],
    ["soup", 5],
    5,
    {},
)
BAD_PRICES: tuple[object, ...] = (
    "abc",
    "",
    "1.234",
    "-1",
    "-0.01",
    "100000000",
    "1e9999",
    "1_000",
    " 1",
    "1 ",
    "1,50",
    "+1",
    ".5",
    "5.",
    "١",
    "9" * 5000,
    "NaN",
    "Infinity",
    "sNaN",
    100_000_000,
    0.001,
    1e300,
    10**30,
    True,
    [1],
    {"amount": 1},
)


def deadline(**changes: Any) -> list[dict[str, Any]]:
    """Return a valid list of one deadline with `changes`; None stays, ... leaves the field out."""
    fields = {"weekday": 0, "deadline_time": "10:30", "is_enabled": True, "advance_days": 1} | changes
    return [{name: value for name, value in fields.items() if value is not ...}]


BAD_TIMES: tuple[object, ...] = (
    "25:00",
    "24:00",
    "10:60",
    "10:30:60",
    "10.30",
    "10",
    "1030",
    "103000",
    "9:30",
    "10:30:00.5",
    "10:30:00,5",
    "10:30:",
    "T10:30",
    "10:30+02:00",
    "10:30Z",
    "10:30 ",
    "10:30\n",
    "١٠:٣٠",
    "x",
    "",
    5,
    10,
    10.5,
    None,
    ...,
    ["10:30"],
)

BAD_DEADLINES: tuple[object, ...] = (
    None,
    "x",
    5,
    [None],
    ["x"],
    *(deadline(weekday=value) for value in (-1, 7, 2**31, "0", 1.5, True, None, ...)),
    *(deadline(advance_days=value) for value in (-1, 15, "1", 1.5, None)),
    *(deadline(is_enabled=value) for value in ("yes", 1, None)),
    *(deadline(deadline_time=value) for value in BAD_TIMES),
    deadline(nonsense=1),
    deadline(id=1),
    deadline() * 2,
    [deadline()],
)

EXTRA = {"cafe_id": 1, "name": "Tea", "category": "extra", "price": "1.00"}
COMBO = {"cafe_id": 1, "name": "Soup", "categories": ["soup"], "price": "1.00"}

USERS = (
    *(bad("create_user", "tgid", value, name="Olga") for value in (*BAD_CHAT_IDS, -5)),
    *(bad("create_user", "name", value, tgid=5) for value in BAD_NAMES),
    bad("create_manager", "tgid", -5, name="Olga"),
    bad("create_manager", "name", "", tgid=5),
    Refused("create_user", {"tgid": 5}, fields=("name",)),
    conflict("ALREADY_EXISTS", "create_user", tgid=USER_TGID, name="Olga"),
    conflict("ALREADY_EXISTS", "create_manager", tgid=MANAGER_TGID, name="Olga"),
    *(bad("user", "tgid", value) for value in ("x", "0", 2**52, "1.5", "1e3", "9" * 5000)),
    *(bad("users", "search", value) for value in BAD_SEARCHES),
    *(bad("users", "role", value) for value in BAD_ROLES),
    *(bad("users", "is_active", value) for value in ("yes", 1, "")),
    *(bad("users", "first", value) for value in BAD_PAGE_SIZES),
    *(bad("users", "skip", value) for value in BAD_SKIPS),
    *(
        bad("users", "after", value)
        for value in (
            "x",
            cursor("Ivan", USER_TGID, of="cafes"),
            cursor("a\0", 1, of="users"),
            cursor(1, 1, of="users"),
        )
    ),
    *(bad("set_user_access", "role", value, tgid=USER_TGID) for value in BAD_ROLES),
    *(bad("set_user_access", "is_active", value, tgid=USER_TGID) for value in BAD_BOOLEANS if value is not None),
    *(bad(operation, "tgid", value) for operation in ("set_user_access", "delete_user") for value in ("x", 0, 2**52)),
    *(bad(operation, "tgid", MANAGER_TGID) for operation in ("set_user_access", "delete_user")),
    *(
        not_found(operation, "user", id_, tgid=id_)
        for operation in ("user", "set_user_access", "delete_user")
        for id_ in (ANOTHER_ID, -ANOTHER_ID)
    ),
)

CAFES = (
    *(bad("create_cafe", "name", value) for value in BAD_NAMES),
    *(bad("create_cafe", "description", value, name="New") for value in BAD_DESCRIPTIONS),
    *(bad("create_cafe", "timezone", value, name="New") for value in BAD_TIMEZONES),
    *(bad("create_cafe", "language", value, name="New") for value in BAD_LANGUAGES),
    Refused("create_cafe", {}, fields=("name",)),
    *(bad("update_cafe", "id", value, name="New") for value in BAD_IDS),
    *(bad("update_cafe", "name", value, id=1) for value in BAD_NAMES),
    *(bad("update_cafe", "description", value, id=1) for value in BAD_DESCRIPTIONS),
    *(bad("update_cafe", "timezone", value, id=1) for value in BAD_TIMEZONES),
    *(bad("update_cafe", "language", value, id=1) for value in BAD_LANGUAGES),
    *(bad("set_cafe_status", "is_active", value, id=1) for value in BAD_BOOLEANS),
    Refused("set_cafe_status", {"id": 1}, fields=("is_active",)),
    *(bad("cafes", "search", value) for value in BAD_SEARCHES),
    *(bad("cafes", "is_active", value) for value in ("yes", 1)),
    *(bad("delete_cafe", "id", value) for value in ("x", "0")),
    not_found("update_cafe", "cafe", id=ANOTHER_ID, name="New"),
    not_found("set_cafe_status", "cafe", id=ANOTHER_ID, is_active=True),
    not_found("delete_cafe", "cafe", id=ANOTHER_ID),
)

MENUS = (
    *(bad("create_menu_item", "cafe_id", value, **EXTRA) for value in ("x", "0")),
    *(bad("create_menu_item", "name", value, **EXTRA) for value in BAD_NAMES),
    *(bad("create_menu_item", "category", value, **EXTRA) for value in (*BAD_CATEGORIES, None)),
    *(bad("create_menu_item", "price", value, **EXTRA) for value in (*BAD_PRICES, None)),
    *(bad("create_menu_item", "description", value, **EXTRA) for value in BAD_DESCRIPTIONS),
    *(bad("create_menu_item", "is_available", value, **EXTRA) for value in BAD_BOOLEANS),
    bad("create_menu_item", "price", "1.00", cafe_id=1, name="Borscht", category="soup"),
    Refused("create_menu_item", {"cafe_id": 1, "name": "Tea", "category": "extra"}, fields=("price",)),
    Refused("create_menu_item", {"cafe_id": 1, "name": "Tea"}, fields=("category",)),
    *(bad("update_menu_item", "id", value, cafe_id=1) for value in BAD_IDS),
    *(bad("update_menu_item", "cafe_id", value, id=5) for value in ("x", "0")),
    *(bad("update_menu_item", "name", value, cafe_id=1, id=5) for value in BAD_NAMES),
    *(bad("update_menu_item", "category", value, cafe_id=1, id=5) for value in (*BAD_CATEGORIES, None)),
    *(bad("update_menu_item", "price", value, cafe_id=1, id=5) for value in (*BAD_PRICES, None)),
    *(bad("update_menu_item", "description", value, cafe_id=1, id=5) for value in BAD_DESCRIPTIONS),
    *(bad("update_menu_item", "is_available", value, cafe_id=1, id=5) for value in BAD_BOOLEANS),
    bad("update_menu_item", "price", "1.00", cafe_id=1, id=1),
    Refused("update_menu_item", {"cafe_id": 1, "id": 5, "category": "soup"}, fields=("price",)),
    Refused("update_menu_item", {"cafe_id": 1, "id": 1, "category": "extra"}, fields=("price",)),
    *(bad("delete_menu_item", "id", value, cafe_id=1) for value in ("x", "0")),
    *(bad("cafe.menu_items", "id", value) for value in ("x", "0")),
    *(bad("cafe.menu_items", "category", value, id=1) for value in ("dessert", "", 5)),
    *(bad("cafe.menu_items", "is_available", value, id=1) for value in ("yes", 1)),
    *(bad("cafe.menu_items", "first", value, id=1) for value in BAD_PAGE_SIZES),
    *(bad("cafe.menu_items", "skip", value, id=1) for value in BAD_SKIPS),
    *(
        bad("cafe.menu_items", "after", value, id=1)
        for value in ("x", cursor(1, of="combos"), cursor("1", of="menu_items"), cursor(2**63, of="menu_items"))
    ),
    not_found("create_menu_item", "cafe", **EXTRA | {"cafe_id": ANOTHER_ID}),
    not_found("cafe.menu_items", "cafe", id=ANOTHER_ID),
    *(
        not_found(operation, "menu_item", id_, cafe_id=cafe_id, id=id_)
        for operation in ("update_menu_item", "delete_menu_item")
        for cafe_id, id_ in ((1, ANOTHER_ID), (1, 7), (ANOTHER_ID, 1))
    ),
)

COMBOS = (
    *(bad("create_combo", "cafe_id", value, **COMBO) for value in ("x", "0")),
    *(bad("create_combo", "name", value, **COMBO) for value in BAD_NAMES),
    *(bad("create_combo", "categories", value, **COMBO) for value in BAD_CATEGORY_LISTS),
    *(bad("create_combo", "price", value, **COMBO) for value in (*BAD_PRICES, None)),
    *(bad("create_combo", "description", value, **COMBO) for value in BAD_DESCRIPTIONS),
    *(bad("create_combo", "is_available", value, **COMBO) for value in BAD_BOOLEANS),
    Refused("create_combo", {"cafe_id": 1, "name": "Soup", "price": 1}, fields=("categories",)),
    *(bad("update_combo", "id", value, cafe_id=1) for value in BAD_IDS),
    *(bad("update_combo", "name", value, cafe_id=1, id=1) for value in BAD_NAMES),
    *(bad("update_combo", "categories", value, cafe_id=1, id=1) for value in BAD_CATEGORY_LISTS),
    *(bad("update_combo", "price", value, cafe_id=1, id=1) for value in (*BAD_PRICES, None)),
    *(bad("update_combo", "description", value, cafe_id=1, id=1) for value in BAD_DESCRIPTIONS),
    *(bad("update_combo", "is_available", value, cafe_id=1, id=1) for value in BAD_BOOLEANS),
    *(bad("delete_combo", "id", value, cafe_id=1) for value in ("x", "0")),
    *(bad("cafe.combos", "first", value, id=1) for value in BAD_PAGE_SIZES),
    *(bad("cafe.combos", "skip", value, id=1) for value in BAD_SKIPS),
    *(bad("cafe.combos", "after", value, id=1) for value in ("x", cursor(1, of="menu_items"))),
    not_found("create_combo", "cafe", **COMBO | {"cafe_id": ANOTHER_ID}),
    not_found("cafe.combos", "cafe", id=ANOTHER_ID),
    *(
        not_found(operation, "combo", id_, cafe_id=cafe_id, id=id_)
        for operation in ("update_combo", "delete_combo")
        for cafe_id, id_ in ((1, ANOTHER_ID), (1, 3), (ANOTHER_ID, 1))
    ),
)

DEADLINES = (
    *(bad("set_deadlines.deadlines", "cafe_id", value, deadlines=[]) for value in BAD_IDS),
    *(bad("set_deadlines.deadlines", "deadlines", value, cafe_id=1) for value in BAD_DEADLINES),
    Refused("set_deadlines.deadlines", {"cafe_id": 1}, fields=("deadlines",)),
    Refused("set_deadlines.deadlines", {"cafe_id": 1, "deadlines": [{}]}, fields=("deadlines",) * 2),
    not_found("set_deadlines.deadlines", "cafe", cafe_id=ANOTHER_ID, deadlines=deadline()),
    *(bad("cafe.deadlines", "id", value) for value in ("x", "0")),
    not_found("cafe.deadlines", "cafe", id=ANOTHER_ID),
)

REFUSALS = (*USERS, *CAFES, *MENUS, *COMBOS, *DEADLINES)


@pytest.fixture
async def world(clients: Clients, lunch: Lunch) -> None:
    """Cafe 1 has menu items 1 to 6 (5 and 6 are extras) and combos 1 and 2, cafe 2 the next ones."""
    await add_lunch(clients, "Green Fork")


@pytest.mark.parametrize("operation", operations(REFUSALS))
async def test_wrong_calls_are_refused(
    manager_client: ApiClient, clients: Clients, world: None, operation: str
) -> None:
    """Each wrong call gets its code and its wrong fields, and changes nothing."""
    wrong = [refused for refused in REFUSALS if refused.operation == operation]
    before = await rows(clients)

    assert await outcomes(manager_client, wrong) == expected(wrong)
    assert await rows(clients) == before


async def test_nan_and_infinity_are_refused(manager_client: ApiClient, clients: Clients, world: None) -> None:
    """JSON has neither NaN nor infinity (RFC 8259, section 6), so the body is not JSON."""
    for value in (float("nan"), float("inf"), float("-inf")):
        answer = await manager_client("create_menu_item", **EXTRA | {"price": value})

        assert (answer.code, answer.response.status_code) == ("BAD_INPUT", 400)


async def test_a_single_value_is_a_list_of_one(manager_client: ApiClient, world: None) -> None:
    """Both APIs accept a single value for a list (GraphQL, section 3.11)."""
    [one] = deadline()
    week = await manager_client("set_deadlines.deadlines", cafe_id=1, deadlines=one)
    combo = await manager_client("update_combo", cafe_id=1, id=1, categories="salad")

    assert [day["weekday"] for day in week.data["items"]] == [0]
    assert combo.data["categories"] == ["salad"]
