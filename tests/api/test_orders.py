"""Orders and order summaries, in both APIs."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from app.clients import Clients
from tests.apis import ApiClient, an_order, walk
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_lunch


@pytest.fixture
async def orders(manager_client: ApiClient, clients: Clients, lunch: Lunch) -> list[Mapping[str, Any]]:
    """Seven orders of two users from two cafes, the oldest date first; the third is cancelled."""
    other = await add_lunch(clients, "Green Fork")
    placed = [
        await manager_client("place_order", **an_order(cafe, date=lunch.open_date + timedelta(days=days), tgid=tgid))
        for days, cafe, tgid in [
            (0, lunch, USER_TGID),
            (0, other, USER_TGID),
            (0, lunch, MANAGER_TGID),
            (1, lunch, USER_TGID),
            (1, other, MANAGER_TGID),
            (2, lunch, MANAGER_TGID),
            (3, lunch, USER_TGID),
        ]
    ]
    cancelled = await manager_client("cancel_order", id=placed[2].data["id"])
    return [order.data if order is not placed[2] else cancelled.data for order in placed]


async def test_an_order_is_placed(user_client: ApiClient, lunch: Lunch) -> None:
    """The answer has the contents, the user and the total price of the order."""
    extras = [{"menu_item_id": lunch.cake.id}, {"menu_item_id": lunch.cola.id, "quantity": 4}]

    answer = await user_client("place_order", **an_order(lunch, extras=extras, notes="Без лука 🧅\nпожалуйста"))

    created_at, updated_at = (answer.data.pop(name) for name in ("created_at", "updated_at"))
    assert datetime.fromisoformat(created_at).utcoffset() == timedelta(0)
    assert created_at == updated_at
    assert answer.data == {
        "id": "1",
        "tgid": USER_TGID,
        "user_name": "Ivan",
        "cafe_id": "1",
        "cafe_name": "Basil & Thyme",
        "date": lunch.open_date.isoformat(),
        "status": "pending",
        "combo": {"id": "1", "name": "Business lunch", "price": "10.00"},
        "dishes": [
            {"menu_item_id": "1", "name": "Borscht", "category": "soup"},
            {"menu_item_id": "4", "name": "Pelmeni", "category": "main"},
        ],
        "extras": [
            {"menu_item_id": "5", "name": "Cola", "price": "1.50", "quantity": 4},
            {"menu_item_id": "6", "name": "Honey cake", "price": "3.25", "quantity": 1},
        ],
        "notes": "Без лука 🧅\nпожалуйста",
        "total_price": "19.25",
    }


async def test_an_order_is_read_as_it_was_placed(user_client: ApiClient, lunch: Lunch) -> None:
    """The order and the list of orders have what the user placed."""
    placed = (await user_client("place_order", **an_order(lunch, extras=[{"menu_item_id": lunch.cola.id}]))).data

    assert (await user_client("order", id=placed["id"])).data == placed
    assert (await user_client("orders")).data["items"] == [placed]


async def test_a_manager_may_order_for_a_user(manager_client: ApiClient, lunch: Lunch) -> None:
    """The order belongs to that user."""
    answer = await manager_client("place_order", **an_order(lunch, tgid=USER_TGID))

    assert (answer.data["tgid"], answer.data["user_name"]) == (USER_TGID, "Ivan")


async def test_users_may_name_themselves(user_client: ApiClient, lunch: Lunch) -> None:
    """A user may give their own Telegram id."""
    answer = await user_client("place_order", **an_order(lunch, tgid=USER_TGID, extras=[], notes=""))

    assert answer.data["tgid"] == USER_TGID


async def test_a_manager_may_change_orders_after_the_deadline(manager_client: ApiClient, lunch: Lunch) -> None:
    """A manager may place, change and cancel an order after the deadline."""
    placed = await manager_client("place_order", **an_order(lunch, date=lunch.closed_date))
    changed = await manager_client("update_order", id=placed.data["id"], notes="Hot")
    cancelled = await manager_client("cancel_order", id=placed.data["id"])

    assert [answer.code for answer in (placed, changed, cancelled)] == [None, None, None]


async def test_an_update_of_an_order_changes_the_given_fields(user_client: ApiClient, lunch: Lunch) -> None:
    """The other fields do not change, except the time of the change."""
    extras = [{"menu_item_id": lunch.cola.id}]
    order = (await user_client("place_order", **an_order(lunch, extras=extras, notes="Cold"))).data

    for change, becomes in CHANGES:
        answer = await user_client("update_order", id=order["id"], **change)

        assert (answer.data["updated_at"] > order["updated_at"]) == bool(change)
        order |= becomes | {"updated_at": answer.data["updated_at"]}
        assert answer.data == order
        assert (await user_client("order", id=order["id"])).data == order


CHANGES: tuple[tuple[dict[str, object], dict[str, object]], ...] = (
    ({"notes": "Hot"}, {"notes": "Hot"}),
    ({"notes": ""}, {"notes": ""}),
    (
        {"extras": [{"menu_item_id": 6, "quantity": 2}]},
        {
            "extras": [{"menu_item_id": "6", "name": "Honey cake", "price": "3.25", "quantity": 2}],
            "total_price": "16.50",
        },
    ),
    ({"extras": []}, {"extras": [], "total_price": "10.00"}),
    (
        {"dish_ids": [4, 2]},
        {
            "dishes": [
                {"menu_item_id": "2", "name": "Solyanka", "category": "soup"},
                {"menu_item_id": "4", "name": "Pelmeni", "category": "main"},
            ]
        },
    ),
    (
        {"combo_id": 2, "dish_ids": [3]},
        {
            "combo": {"id": "2", "name": "Light", "price": "6.00"},
            "dishes": [{"menu_item_id": "3", "name": "Vinaigrette", "category": "salad"}],
            "total_price": "6.00",
        },
    ),
    ({}, {}),
)


async def test_an_order_is_cancelled(user_client: ApiClient, lunch: Lunch) -> None:
    """A cancelled order can be read; a second cancellation changes nothing, and a new order may be placed."""
    placed = (await user_client("place_order", **an_order(lunch))).data

    answers = [await user_client("cancel_order", id=placed["id"]) for _ in range(2)]

    cancelled = placed | {"status": "cancelled", "updated_at": answers[0].data["updated_at"]}
    assert [answer.data for answer in answers] == [cancelled, cancelled]
    assert (await user_client("order", id=placed["id"])).data == cancelled
    assert (await user_client("place_order", **an_order(lunch))).data["status"] == "pending"


async def test_a_manager_reads_all_orders(manager_client: ApiClient, orders: list[Mapping[str, Any]]) -> None:
    """The list begins with the latest date and, within a date, the latest order, with any page size."""
    answer = await manager_client("orders")

    assert (answer.data["items"], answer.data["total"]) == (orders[::-1], 7)
    walks = {first: await walk(manager_client, "orders", first=first) for first in (1, 3, 100)}
    newest_first = [order["id"] for order in orders[::-1]]
    assert walks == dict.fromkeys(walks, newest_first)


async def test_a_user_reads_their_own_orders(user_client: ApiClient, orders: list[Mapping[str, Any]]) -> None:
    """A user gets only their own orders, with or without their Telegram id as a filter."""
    own = [order for order in orders[::-1] if order["tgid"] == USER_TGID]

    answers = [await user_client("orders"), await user_client("orders", tgid=USER_TGID)]

    assert [(answer.data["items"], answer.data["total"]) for answer in answers] == [(own, 4), (own, 4)]


async def test_orders_are_filtered(manager_client: ApiClient, lunch: Lunch, orders: list[Mapping[str, Any]]) -> None:
    """Several filters apply together, dates include both ends, and the total counts the matches."""
    day: date = lunch.open_date
    next_day = day + timedelta(days=1)
    filters: list[tuple[dict[str, object], list[int]]] = [
        ({"tgid": MANAGER_TGID}, [6, 5, 3]),
        ({"cafe_id": 2}, [5, 2]),
        ({"cafe_id": 999}, []),
        ({"tgid": 999}, []),
        ({"from_date": next_day}, [7, 6, 5, 4]),
        ({"to_date": next_day}, [5, 4, 3, 2, 1]),
        ({"from_date": next_day, "to_date": next_day}, [5, 4]),
        ({"from_date": next_day, "to_date": day}, []),
        ({"status": "cancelled"}, [3]),
        ({"status": "confirmed"}, []),
        ({"status": "pending", "tgid": MANAGER_TGID, "cafe_id": 1, "to_date": next_day}, []),
        ({"status": "pending", "tgid": USER_TGID, "cafe_id": 1, "from_date": day, "to_date": next_day}, [4, 1]),
    ]

    answers = [await manager_client("orders", **wanted) for wanted, _ in filters]

    found = [([int(order["id"]) for order in answer.data["items"]], answer.data["total"]) for answer in answers]
    assert found == [(ids, len(ids)) for _, ids in filters]


async def test_pages_of_filtered_orders(user_client: ApiClient, orders: list[Mapping[str, Any]]) -> None:
    """A cursor works in a filtered list."""
    assert await walk(user_client, "orders", cafe_id=1, first=1) == ["7", "4", "1"]


async def test_a_summary_adds_up_the_orders(manager_client: ApiClient, lunch: Lunch) -> None:
    """A summary has the most ordered first and leaves out cancelled orders."""
    for tgid, name in ((3, "Anna"), (4, "Boris"), (5, "Vera")):
        await manager_client("create_user", tgid=tgid, name=name)
    cola, cake = ({"menu_item_id": item.id, "quantity": 2} for item in (lunch.cola, lunch.cake))
    light = {"combo_id": lunch.light.id, "dish_ids": [lunch.salad.id]}
    soup = {"dish_ids": [lunch.other_soup.id, lunch.main.id]}
    orders: list[dict[str, object]] = [
        {"tgid": 5, "notes": "Last"},
        {"tgid": 4, "extras": [cola, cake], **soup},
        {"tgid": 3, "extras": [cola], "notes": "First", **light},
        {"tgid": USER_TGID, **soup},
        {"tgid": MANAGER_TGID, "notes": "Never", "extras": [cake], **light},
    ]
    placed = [await manager_client("place_order", **an_order(lunch, **order)) for order in orders]
    await manager_client("cancel_order", id=placed[-1].data["id"])

    answer = await manager_client("order_summary", cafe_id=lunch.cafe.id, date=lunch.open_date)

    assert answer.data == {
        "cafe_id": "1",
        "cafe_name": "Basil & Thyme",
        "date": lunch.open_date.isoformat(),
        "orders_count": 4,
        "total_price": "48.50",
        "combos": [
            {"combo_id": "1", "name": "Business lunch", "quantity": 3, "amount": "30.00"},
            {"combo_id": "2", "name": "Light", "quantity": 1, "amount": "6.00"},
        ],
        "dishes": [
            {
                "category": "soup",
                "dishes": [
                    {"menu_item_id": "2", "name": "Solyanka", "quantity": 2},
                    {"menu_item_id": "1", "name": "Borscht", "quantity": 1},
                ],
            },
            {"category": "salad", "dishes": [{"menu_item_id": "3", "name": "Vinaigrette", "quantity": 1}]},
            {"category": "main", "dishes": [{"menu_item_id": "4", "name": "Pelmeni", "quantity": 3}]},
        ],
        "extras": [
            {"menu_item_id": "5", "name": "Cola", "quantity": 4, "amount": "6.00"},
            {"menu_item_id": "6", "name": "Honey cake", "quantity": 2, "amount": "6.50"},
        ],
        "notes": [
            {"tgid": 3, "user_name": "Anna", "notes": "First"},
            {"tgid": 5, "user_name": "Vera", "notes": "Last"},
        ],
    }


async def test_a_renamed_combo_has_the_name_of_the_order(
    user_client: ApiClient, manager_client: ApiClient, lunch: Lunch
) -> None:
    """Both APIs show the names of the order after the menu was renamed, in the order and in the summary."""
    await user_client("place_order", **an_order(lunch, extras=[{"menu_item_id": lunch.cola.id}]))
    calls = [("orders", {}), ("order_summary", {"cafe_id": lunch.cafe.id, "date": lunch.open_date})]
    before = [(await manager_client(name, **arguments)).data for name, arguments in calls]
    for item in (lunch.soup, lunch.cola):
        await manager_client("update_menu_item", cafe_id=lunch.cafe.id, id=item.id, name="Champagne")
    await manager_client("update_combo", cafe_id=lunch.cafe.id, id=lunch.combo.id, name="Feast")

    assert [(await manager_client(name, **arguments)).data for name, arguments in calls] == before


async def test_a_day_without_orders_has_an_empty_summary(manager_client: ApiClient, lunch: Lunch) -> None:
    """The summary of a day without orders is empty."""
    answer = await manager_client("order_summary", cafe_id=lunch.cafe.id, date=lunch.open_date)

    assert answer.data == {
        "cafe_id": "1",
        "cafe_name": "Basil & Thyme",
        "date": lunch.open_date.isoformat(),
        "orders_count": 0,
        "total_price": "0.00",
        "combos": [],
        "dishes": [],
        "extras": [],
        "notes": [],
    }
