"""The menus of cafes, in both APIs."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.apis import ApiClient, an_order, walk
from tests.conftest import Lunch


def ids(answer: Any) -> list[int]:
    return [int(row["id"]) for row in answer.data["items"]]


async def test_a_menu_is_read(user_client: ApiClient, lunch: Lunch) -> None:
    """A menu has all items of the cafe, in the order of their creation."""
    answer = await user_client("cafe.menu_items", id=lunch.cafe.id)

    shown = ("id", "cafe_id", "name", "category", "price", "is_available")
    assert [tuple(item[name] for name in shown) for item in answer.data["items"]] == [
        ("1", "1", "Borscht", "soup", None, True),
        ("2", "1", "Solyanka", "soup", None, True),
        ("3", "1", "Vinaigrette", "salad", None, True),
        ("4", "1", "Pelmeni", "main", None, True),
        ("5", "1", "Cola", "extra", "1.50", True),
        ("6", "1", "Honey cake", "extra", "3.25", True),
    ]
    assert answer.data["total"] == 6


async def test_a_menu_is_filtered(manager_client: ApiClient, lunch: Lunch) -> None:
    """Several filters apply together, and the total counts the matches."""
    await manager_client("update_menu_item", cafe_id=lunch.cafe.id, id=lunch.other_soup.id, is_available=False)
    filters: list[tuple[dict[str, object], list[int]]] = [
        ({"category": "soup"}, [1, 2]),
        ({"category": "extra"}, [5, 6]),
        ({"is_available": False}, [2]),
        ({"is_available": True, "category": "soup"}, [1]),
        ({"is_available": False, "category": "salad"}, []),
    ]

    answers = [await manager_client("cafe.menu_items", id=lunch.cafe.id, **wanted) for wanted, _ in filters]

    assert [(ids(answer), answer.data["total"]) for answer in answers] == [(found, len(found)) for _, found in filters]


async def test_a_menu_has_pages(user_client: ApiClient, lunch: Lunch) -> None:
    """The pages together have every item once and in order, with any page size, also of a filtered menu."""
    walks = {
        (first, category): await walk(user_client, "cafe.menu_items", id=lunch.cafe.id, first=first, category=category)
        for first in (1, 4, 100)
        for category in ("soup", "extra")
    }

    assert walks == {
        (first, category): wanted
        for first in (1, 4, 100)
        for category, wanted in (("soup", ["1", "2"]), ("extra", ["5", "6"]))
    }


async def test_skip_leaves_menu_items_out(user_client: ApiClient, lunch: Lunch) -> None:
    """`skip` leaves out items, after the cursor if there is one."""
    cursor = (await user_client("cafe.menu_items", id=lunch.cafe.id, first=2)).data["page_info"]["end_cursor"]

    answer = await user_client("cafe.menu_items", id=lunch.cafe.id, first=2, after=cursor, skip=1)

    assert (ids(answer), answer.data["total"], answer.data["page_info"]["has_next_page"]) == ([4, 5], 6, True)


async def test_a_dish_is_added(manager_client: ApiClient, lunch: Lunch) -> None:
    """A dish has no price."""
    answer = await manager_client("create_menu_item", cafe_id=lunch.cafe.id, name=" Уха 🐟 ", category="soup")

    created_at = datetime.fromisoformat(answer.data.pop("created_at"))
    assert created_at.utcoffset() == timedelta(0)
    assert answer.data == {
        "id": "7",
        "cafe_id": "1",
        "name": "Уха 🐟",
        "description": "",
        "category": "soup",
        "price": None,
        "is_available": True,
    }


async def test_an_extra_has_a_price(manager_client: ApiClient, lunch: Lunch) -> None:
    """A price may be a text or a number; the answer and later reads have two decimal places."""
    fields = {"name": "Tea", "category": "extra", "description": "Hot", "is_available": False}
    prices: list[tuple[object, str]] = [
        ("4.50", "4.50"),
        ("4.5", "4.50"),
        ("4", "4.00"),
        (4, "4.00"),
        (4.5, "4.50"),
        (0, "0.00"),
        ("0.01", "0.01"),
        ("99999999.99", "99999999.99"),
        (99999999.99, "99999999.99"),
        ("-0", "0.00"),
        ("4.500", "4.50"),
    ]

    answers = [
        await manager_client("create_menu_item", cafe_id=lunch.cafe.id, price=price, **fields) for price, _ in prices
    ]

    assert [{name: answer.data[name] for name in (*fields, "price")} for answer in answers] == [
        fields | {"price": kept} for _, kept in prices
    ]
    there = (await manager_client("cafe.menu_items", id=lunch.cafe.id, category="extra", skip=2)).data["items"]
    assert there == [answer.data for answer in answers]


async def test_an_update_of_a_menu_item_changes_the_given_fields(manager_client: ApiClient, lunch: Lunch) -> None:
    """The other fields do not change; an extra that becomes a dish loses its price."""
    item = (await manager_client("cafe.menu_items", id=lunch.cafe.id, category="extra", first=1)).data["items"][0]
    changes: list[dict[str, object]] = [
        {"name": "Kvass"},
        {"description": "Cold"},
        {"price": "2.00"},
        {"is_available": False},
        {"category": "soup", "price": None},
        {},
    ]

    for change in changes:
        answer = await manager_client("update_menu_item", cafe_id=lunch.cafe.id, id=lunch.cola.id, **change)

        item |= change
        assert answer.data == item
        assert item in (await manager_client("cafe.menu_items", id=lunch.cafe.id)).data["items"]


@pytest.mark.parametrize(("operation", "kept"), [("delete_menu_item", "soup"), ("delete_combo", "combo")])
async def test_a_row_with_orders_becomes_unavailable(
    manager_client: ApiClient, lunch: Lunch, operation: str, kept: str
) -> None:
    """The answer says so, and the order does not change."""
    order = (await manager_client("place_order", **an_order(lunch))).data
    row = getattr(lunch, kept)

    answer = await manager_client(operation, cafe_id=lunch.cafe.id, id=row.id)

    assert (answer.data["id"], answer.data["deleted"]) == (str(row.id), False)
    assert "instead" in answer.data["message"]
    part = "cafe.combos" if kept == "combo" else "cafe.menu_items"
    there = {it["id"]: it["is_available"] for it in (await manager_client(part, id=lunch.cafe.id)).data["items"]}
    assert there[str(row.id)] is False
    assert (await manager_client("order", id=order["id"])).data == order


@pytest.mark.parametrize(
    ("operation", "gone", "part"),
    [("delete_menu_item", "soup", "cafe.menu_items"), ("delete_combo", "combo", "cafe.combos")],
)
async def test_a_row_without_orders_is_deleted(
    manager_client: ApiClient, lunch: Lunch, operation: str, gone: str, part: str
) -> None:
    """The answer says so, and the menu does not have the row any more."""
    row = getattr(lunch, gone)

    answer = await manager_client(operation, cafe_id=lunch.cafe.id, id=row.id)

    assert (answer.data["id"], answer.data["deleted"]) == (str(row.id), True)
    assert row.id not in ids(await manager_client(part, id=lunch.cafe.id))
    assert (await manager_client(operation, cafe_id=lunch.cafe.id, id=row.id)).code == "NOT_FOUND"


async def test_combos_are_read(user_client: ApiClient, lunch: Lunch) -> None:
    """The combos of a cafe come in the order of their creation, in pages."""
    answer = await user_client("cafe.combos", id=lunch.cafe.id)

    shown = ("id", "cafe_id", "name", "categories", "price", "is_available")
    assert [tuple(combo[name] for name in shown) for combo in answer.data["items"]] == [
        ("1", "1", "Business lunch", ["soup", "main"], "10.00", True),
        ("2", "1", "Light", ["salad"], "6.00", True),
    ]
    assert answer.data["total"] == 2
    assert await walk(user_client, "cafe.combos", id=lunch.cafe.id, first=1) == ["1", "2"]


async def test_a_combo_is_added(manager_client: ApiClient, lunch: Lunch) -> None:
    """The categories of a combo are in the order of the meal."""
    fields = {"name": "Full", "description": "Everything", "price": "12.30", "is_available": False}

    answer = await manager_client("create_combo", cafe_id=lunch.cafe.id, categories=["main", "salad", "soup"], **fields)

    assert datetime.fromisoformat(answer.data.pop("created_at")).utcoffset() == timedelta(0)
    assert answer.data == fields | {"id": "3", "cafe_id": "1", "categories": ["soup", "salad", "main"]}


async def test_a_combo_is_available_by_default(manager_client: ApiClient, lunch: Lunch) -> None:
    """A new combo is available and has no description."""
    answer = await manager_client("create_combo", cafe_id=lunch.cafe.id, name="Soup", categories=["soup"], price=3)

    assert (answer.data["is_available"], answer.data["description"]) == (True, "")


async def test_an_update_of_a_combo_changes_the_given_fields(manager_client: ApiClient, lunch: Lunch) -> None:
    """The other fields do not change."""
    combo = (await manager_client("cafe.combos", id=lunch.cafe.id, first=1)).data["items"][0]
    changes: list[dict[str, object]] = [
        {"name": "Обед"},
        {"description": "Two courses"},
        {"price": "0.00"},
        {"is_available": False},
        {"categories": ["soup", "salad", "main"]},
        {},
    ]

    for change in changes:
        answer = await manager_client("update_combo", cafe_id=lunch.cafe.id, id=lunch.combo.id, **change)

        combo |= change
        assert answer.data == combo
        assert combo in (await manager_client("cafe.combos", id=lunch.cafe.id)).data["items"]
