"""Orders, and what a cafe is to cook, through both doors."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from app.clients import Clients
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_lunch
from tests.doors import Door, an_order, walk


@pytest.fixture
async def orders(manager_door: Door, clients: Clients, lunch: Lunch) -> list[Mapping[str, Any]]:
    """Seven orders of two people from two cafes, the oldest date first; the third is cancelled."""
    other = await add_lunch(clients, "Green Fork")
    placed = [
        await manager_door("place_order", **an_order(cafe, date=lunch.open_date + timedelta(days=days), tgid=tgid))
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
    cancelled = await manager_door("cancel_order", id=placed[2].data["id"])
    return [order.data if order is not placed[2] else cancelled.data for order in placed]


async def test_an_order_is_placed(user_door: Door, lunch: Lunch) -> None:
    """The answer is the order: what there is in it, for whom, and what it costs."""
    extras = [{"menu_item_id": lunch.cake.id}, {"menu_item_id": lunch.cola.id, "quantity": 4}]

    answer = await user_door("place_order", **an_order(lunch, extras=extras, notes="Без лука 🧅\nпожалуйста"))

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


async def test_an_order_is_read_as_it_was_placed(user_door: Door, lunch: Lunch) -> None:
    """By itself, and in the list."""
    placed = (await user_door("place_order", **an_order(lunch, extras=[{"menu_item_id": lunch.cola.id}]))).data

    assert (await user_door("order", id=placed["id"])).data == placed
    assert (await user_door("orders")).data["items"] == [placed]


async def test_a_manager_orders_for_others(manager_door: Door, lunch: Lunch) -> None:
    """The order is theirs."""
    answer = await manager_door("place_order", **an_order(lunch, tgid=USER_TGID))

    assert (answer.data["tgid"], answer.data["user_name"]) == (USER_TGID, "Ivan")


async def test_one_may_name_oneself(user_door: Door, lunch: Lunch) -> None:
    """Who orders for nobody else may say so."""
    answer = await user_door("place_order", **an_order(lunch, tgid=USER_TGID, extras=[], notes=""))

    assert answer.data["tgid"] == USER_TGID


async def test_after_the_deadline_a_manager_may(manager_door: Door, lunch: Lunch) -> None:
    """Order, change and cancel."""
    placed = await manager_door("place_order", **an_order(lunch, date=lunch.closed_date))
    changed = await manager_door("update_order", id=placed.data["id"], notes="Hot")
    cancelled = await manager_door("cancel_order", id=placed.data["id"])

    assert [answer.code for answer in (placed, changed, cancelled)] == [None, None, None]


async def test_of_an_order_what_is_given_changes(user_door: Door, lunch: Lunch) -> None:
    """The rest stays as it is, but for the time of the change."""
    extras = [{"menu_item_id": lunch.cola.id}]
    order = (await user_door("place_order", **an_order(lunch, extras=extras, notes="Cold"))).data

    for change, becomes in CHANGES:
        answer = await user_door("update_order", id=order["id"], **change)

        assert (answer.data["updated_at"] > order["updated_at"]) == bool(change)
        order |= becomes | {"updated_at": answer.data["updated_at"]}
        assert answer.data == order
        assert (await user_door("order", id=order["id"])).data == order


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


async def test_an_order_is_cancelled(user_door: Door, lunch: Lunch) -> None:
    """It stays to be read; cancelling it again changes nothing, and another may be placed."""
    placed = (await user_door("place_order", **an_order(lunch))).data

    answers = [await user_door("cancel_order", id=placed["id"]) for _ in range(2)]

    cancelled = placed | {"status": "cancelled", "updated_at": answers[0].data["updated_at"]}
    assert [answer.data for answer in answers] == [cancelled, cancelled]
    assert (await user_door("order", id=placed["id"])).data == cancelled
    assert (await user_door("place_order", **an_order(lunch))).data["status"] == "pending"


async def test_a_manager_reads_everybodys_orders(manager_door: Door, orders: list[Mapping[str, Any]]) -> None:
    """The latest date first, on pages of whatever size; of one date the latest order first."""
    answer = await manager_door("orders")

    assert (answer.data["items"], answer.data["total"]) == (orders[::-1], 7)
    walks = {first: await walk(manager_door, "orders", first=first) for first in (1, 3, 100)}
    newest_first = [order["id"] for order in orders[::-1]]
    assert walks == dict.fromkeys(walks, newest_first)


async def test_a_user_reads_their_own_orders(user_door: Door, orders: list[Mapping[str, Any]]) -> None:
    """And no others, whether they name themselves or not."""
    own = [order for order in orders[::-1] if order["tgid"] == USER_TGID]

    answers = [await user_door("orders"), await user_door("orders", tgid=USER_TGID)]

    assert [(answer.data["items"], answer.data["total"]) for answer in answers] == [(own, 4), (own, 4)]


async def test_orders_are_filtered(manager_door: Door, lunch: Lunch, orders: list[Mapping[str, Any]]) -> None:
    """Filters go together, dates include both ends, and the total counts what they leave."""
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

    answers = [await manager_door("orders", **wanted) for wanted, _ in filters]

    found = [([int(order["id"]) for order in answer.data["items"]], answer.data["total"]) for answer in answers]
    assert found == [(ids, len(ids)) for _, ids in filters]


async def test_pages_of_filtered_orders(user_door: Door, orders: list[Mapping[str, Any]]) -> None:
    """A cursor goes on where a filtered list was left."""
    assert await walk(user_door, "orders", cafe_id=1, first=1) == ["7", "4", "1"]


async def test_what_a_cafe_is_to_cook(manager_door: Door, lunch: Lunch) -> None:
    """Added up: the most ordered first; what is cancelled is left out."""
    for tgid, name in ((3, "Anna"), (4, "Boris"), (5, "Vera")):
        await manager_door("create_user", tgid=tgid, name=name)
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
    placed = [await manager_door("place_order", **an_order(lunch, **order)) for order in orders]
    await manager_door("cancel_order", id=placed[-1].data["id"])

    answer = await manager_door("order_summary", cafe_id=lunch.cafe.id, date=lunch.open_date)

    assert answer.data == {
        "cafe_id": "1",
        "cafe_name": "Basil & Thyme",
        "date": lunch.open_date.isoformat(),
        "orders_count": 4,
        "total_price": "48.50",
        "combos": [
            {"id": "1", "name": "Business lunch", "quantity": 3, "amount": "30.00"},
            {"id": "2", "name": "Light", "quantity": 1, "amount": "6.00"},
        ],
        "dishes": [
            {
                "category": "soup",
                "dishes": [
                    {"id": "2", "name": "Solyanka", "quantity": 2},
                    {"id": "1", "name": "Borscht", "quantity": 1},
                ],
            },
            {"category": "salad", "dishes": [{"id": "3", "name": "Vinaigrette", "quantity": 1}]},
            {"category": "main", "dishes": [{"id": "4", "name": "Pelmeni", "quantity": 3}]},
        ],
        "extras": [
            {"id": "5", "name": "Cola", "quantity": 4, "amount": "6.00"},
            {"id": "6", "name": "Honey cake", "quantity": 2, "amount": "6.50"},
        ],
        "notes": [
            {"tgid": 3, "user_name": "Anna", "notes": "First"},
            {"tgid": 5, "user_name": "Vera", "notes": "Last"},
        ],
    }


async def test_a_day_without_orders_is_nothing_to_cook(manager_door: Door, lunch: Lunch) -> None:
    """An empty summary is one, too."""
    answer = await manager_door("order_summary", cafe_id=lunch.cafe.id, date=lunch.open_date)

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
