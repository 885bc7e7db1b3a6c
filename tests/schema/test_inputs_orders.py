"""Both APIs refuse wrong orders, without a change."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.auth.context import Context
from app.clients import Clients
from app.models import Cafe, Combo, Deadline, MenuCategory, MenuItem, User, orders
from app.models.orders import EXTRAS_MAX, NOTES_MAX_CHARACTERS
from app.resolvers import orders as orders_resolver
from app.services.deadlines import DAYS_AHEAD_MAX
from tests.apis import ApiClient, an_order, rows
from tests.conftest import USER_TGID, Lunch, add_lunch
from tests.schema.refusals import (
    ANOTHER_ID,
    BAD_CHAT_IDS,
    BAD_DATES,
    BAD_IDS,
    BAD_PAGE_SIZES,
    BAD_SKIPS,
    Refused,
    bad,
    cursor,
    expected,
    not_found,
    operations,
    outcomes,
)

TODAY = datetime.now(UTC).date()
OPEN: date = TODAY + timedelta(days=4)
OFF_TGID = 4004

ORDER: dict[str, Any] = {"cafe_id": 1, "date": OPEN, "combo_id": 1, "dish_ids": [1, 4]}

BAD_COMBOS: tuple[object, ...] = ("x", 0, -1, 1.5, 2**63, True, None, [1], ANOTHER_ID, 3, 5)
"""3 belongs to another cafe, 5 is not available."""

BAD_DISHES: tuple[object, ...] = (
    None,
    [],
    [None],
    ["x"],
    [0],
    [1.5],
    [True],
    [[1]],
    {},
    [1],
    [1, 2],
    [1, 1],
    [4, 4],
    [1, 3],
    [1, 3, 4],
    [1, 2, 3, 4],
    [1, 5],
    [1, 10],
    [1, ANOTHER_ID],
    [13, 4],
    [2**63, 4],
)
"""The combo has a soup (1, 2; 13 is not available) and a main (4); 3 is a salad, 5 an extra, 10 belongs to another cafe."""

BAD_EXTRAS: tuple[object, ...] = (
    None,
    "x",
    5,
    [None],
    ["x"],
    [5],
    *([{"menu_item_id": value}] for value in ("x", 0, None, 1.5, True, [5], 1, 11, 14, ANOTHER_ID, 2**63)),
    *([{"menu_item_id": 5, "quantity": value}] for value in (0, -1, 21, 2**31, 1.5, "2", True, None, [1])),
    [{"quantity": 1}],
    [{"menu_item_id": 5, "price": "0.01"}],
    [{"menu_item_id": 5, "nonsense": 1}],
    [{"menu_item_id": 5}, {"menu_item_id": 5}],
    [{"menu_item_id": 5}, {"menu_item_id": "5", "quantity": 2}],
    [{"menu_item_id": 5}, {"menu_item_id": 1}],
    [{"menu_item_id": number} for number in range(100, 101 + EXTRAS_MAX)],
)
"""1 is a dish, 11 belongs to another cafe, 14 is not available."""

BAD_NOTES: tuple[object, ...] = ("x" * (NOTES_MAX_CHARACTERS + 1), "a\0b", 5, True, None, ["x"])

PLACED = (
    *(bad("place_order", "cafe_id", value, **ORDER) for value in ("x", 0, None, 1.5, 2**63)),
    *(bad("place_order", "date", value, **ORDER) for value in (*BAD_DATES, None, [])),
    *(bad("place_order", "combo_id", value, **ORDER) for value in BAD_COMBOS),
    *(bad("place_order", "dish_ids", value, **ORDER) for value in BAD_DISHES),
    *(bad("place_order", "extras", value, **ORDER) for value in BAD_EXTRAS),
    *(bad("place_order", "notes", value, **ORDER) for value in BAD_NOTES),
    *(bad("place_order", "tgid", value, **ORDER) for value in BAD_CHAT_IDS if value is not None),
    bad("place_order", "tgid", OFF_TGID, **ORDER),
    *(
        Refused("place_order", {name: value for name, value in ORDER.items() if name != missing}, fields=(missing,))
        for missing in ORDER
    ),
    bad("place_order", "date", TODAY + timedelta(days=DAYS_AHEAD_MAX + 2), **ORDER),
    bad("place_order", "cafe_id", 3, **ORDER),
    bad("place_order", "date", OPEN, **ORDER | {"cafe_id": 4}),
    not_found("place_order", "cafe", **ORDER | {"cafe_id": ANOTHER_ID}),
    not_found("place_order", "user", tgid=ANOTHER_ID, **ORDER),
    not_found("place_order", "user", -ANOTHER_ID, tgid=-ANOTHER_ID, **ORDER),
    Refused("place_order", ORDER | {"date": OPEN - timedelta(days=1)}, "ALREADY_EXISTS", details={"order_id": "1"}),
)

CHANGED = (
    *(bad("update_order", "id", value, notes="") for value in BAD_IDS),
    *(bad("update_order", "combo_id", value, id=1) for value in BAD_COMBOS),
    *(bad("update_order", "dish_ids", value, id=1) for value in BAD_DISHES),
    *(bad("update_order", "extras", value, id=1) for value in BAD_EXTRAS),
    *(bad("update_order", "notes", value, id=1) for value in BAD_NOTES),
    Refused("update_order", {"id": 1, "combo_id": 2}, fields=("dish_ids",)),
    bad("update_order", "id", 2, notes="Hot"),
    not_found("update_order", "order", id=ANOTHER_ID, notes="Hot"),
    *(bad("cancel_order", "id", value) for value in ("x", "0")),
    not_found("cancel_order", "order", id=ANOTHER_ID),
)

READ = (
    *(bad("order", "id", value) for value in BAD_IDS),
    not_found("order", "order", id=ANOTHER_ID),
    *(bad("orders", name, value) for name in ("from_date", "to_date") for value in BAD_DATES),
    *(bad("orders", "tgid", value) for value in ("x", 0, 2**52, "", 1.5)),
    *(bad("orders", "cafe_id", value) for value in ("x", 0, "", "9" * 5000)),
    *(bad("orders", "status", value) for value in ("nonsense", "", "pending,confirmed", 5)),
    *(bad("orders", "first", value) for value in BAD_PAGE_SIZES),
    *(bad("orders", "skip", value) for value in BAD_SKIPS),
    *(
        bad("orders", "after", value)
        for value in (
            "",
            "x",
            cursor("2026-01-01", 1, of="users"),
            cursor("2026-01-01T00:00:00Z", 1, of="orders"),
            cursor("2026-01-01", "1", of="orders"),
            cursor("2026-01-01", 2**63, of="orders"),
            cursor("x", 1, of="orders"),
            cursor(1, 1, of="orders"),
            cursor("2026-01-01", of="orders"),
        )
    ),
    *(bad("order_availability", "date", value, cafe_id=1) for value in BAD_DATES if value != ""),
    *(bad("order_availability", "cafe_id", value, date=OPEN) for value in BAD_IDS),
    Refused("order_availability", {"date": OPEN}, fields=("cafe_id",)),
    not_found("order_availability", "cafe", cafe_id=ANOTHER_ID, date=OPEN),
    *(bad("order_week", "cafe_id", value) for value in ("x", 0)),
    Refused("order_week", {}, fields=("cafe_id",)),
    not_found("order_week", "cafe", cafe_id=ANOTHER_ID),
    *(bad("order_summary", "date", value, cafe_id=1) for value in BAD_DATES if value != ""),
    *(bad("order_summary", "cafe_id", value, date=OPEN) for value in ("x", 0)),
    not_found("order_summary", "cafe", cafe_id=ANOTHER_ID, date=OPEN),
)

REFUSALS = (*PLACED, *CHANGED, *READ)


@pytest.fixture
async def world(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """The manager's order 1 is pending, order 2 is cancelled.

    Cafe 1 has menu items 1 to 6 and combos 1 and 2, cafe 2 the next ones. Cafe 1 also has soup 13, extra 14 and combo 5,
    which are not available. Cafe 3 is deactivated, cafe 4 never delivers.
    """
    await add_lunch(clients, "Green Fork")
    async with clients.db() as session:
        session.add(User(tgid=OFF_TGID, name="Olga", is_active=False))
        off: dict[str, Any] = {"cafe_id": 1, "is_available": False}
        session.add(MenuItem(name="Okroshka", category=MenuCategory.SOUP, **off))
        await session.flush()
        session.add(MenuItem(name="Tea", category=MenuCategory.EXTRA, price=Decimal(1), **off))
        session.add(Combo(name="Soup", categories=[MenuCategory.SOUP], price=Decimal(3), **off))
        await session.flush()
        session.add(Cafe(name="Off", is_active=False))
        await session.flush()
        session.add(Cafe(name="Never"))
        session.add_all(Deadline(cafe_id=3, weekday=weekday, deadline_time=time(10, 30)) for weekday in range(7))
    fields = orders.OrderInput(combo_id=lunch.combo.id, dish_ids=[lunch.soup.id, lunch.main.id])
    await orders_resolver.place_order(manager, lunch.cafe.id, OPEN - timedelta(days=1), fields)
    cancelled = await orders_resolver.place_order(manager, lunch.cafe.id, OPEN - timedelta(days=2), fields)
    await orders_resolver.cancel_order(manager, cancelled.id)


@pytest.mark.parametrize("operation", operations(REFUSALS))
async def test_wrong_calls_are_refused(
    manager_client: ApiClient, clients: Clients, world: None, operation: str
) -> None:
    """Each wrong call gets its code and its wrong fields, and changes nothing."""
    wrong = [refused for refused in REFUSALS if refused.operation == operation]
    before = await rows(clients)

    assert await outcomes(manager_client, wrong) == expected(wrong)
    assert await rows(clients) == before


async def test_a_late_change_is_refused_with_the_deadline(
    user_client: ApiClient, clients: Clients, lunch: Lunch, manager: Context
) -> None:
    """After the deadline a user can place, change and cancel nothing; the error has the time of the deadline."""
    fields = orders.OrderInput(combo_id=lunch.light.id, dish_ids=[lunch.salad.id])
    yesterday = lunch.closed_date
    order = await orders_resolver.place_order(manager, lunch.cafe.id, yesterday, fields, USER_TGID)
    before = await rows(clients)

    answers = [
        await user_client("place_order", **an_order(lunch, date=yesterday)),
        await user_client("update_order", id=order.id, notes="Hot"),
        await user_client("cancel_order", id=order.id),
    ]

    assert [answer.code for answer in answers] == ["DEADLINE_PASSED"] * 3
    closed_at = datetime.combine(yesterday - timedelta(days=1), time(10, 30), UTC)
    assert [answer.details for answer in answers] == [{"closed_at": closed_at.isoformat()}] * 3
    assert await rows(clients) == before


async def test_a_second_order_is_refused_with_the_first_one(
    user_client: ApiClient, clients: Clients, lunch: Lunch
) -> None:
    """The error has the id of the existing order, so that the user can change it."""
    placed = (await user_client("place_order", **an_order(lunch))).data
    before = await rows(clients)

    answer = await user_client("place_order", **an_order(lunch, combo_id=lunch.light.id, dish_ids=[lunch.salad.id]))

    assert (answer.code, answer.details) == ("ALREADY_EXISTS", {"order_id": placed["id"]})
    assert await rows(clients) == before
