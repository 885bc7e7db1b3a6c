"""Cafes and their deadlines, in both APIs."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from app.clients import Clients
from app.models import Cafe, LinkRequest
from tests.apis import ApiClient, an_order, walk
from tests.conftest import USER_TGID, Lunch, add_cafe

WEEK = [
    {"weekday": 0, "deadline_time": "10:30:00", "is_enabled": True, "advance_days": 1},
    {"weekday": 4, "deadline_time": "23:59:59", "is_enabled": False, "advance_days": 0},
    {"weekday": 6, "deadline_time": "00:00:00", "is_enabled": True, "advance_days": 14},
]


async def test_cafes_are_sorted_by_name(user_client: ApiClient, clients: Clients) -> None:
    """The cafes are sorted by name."""
    for name in ("Green Fork", "Basil & Thyme", "Пельменная №1"):
        await add_cafe(clients, name)

    answer = await user_client("cafes")

    assert [cafe["name"] for cafe in answer.data["items"]] == ["Basil & Thyme", "Green Fork", "Пельменная №1"]


async def test_cafes_with_the_same_name_are_on_one_page_each(user_client: ApiClient, clients: Clients) -> None:
    """Rows with the same name are each on exactly one page."""
    ids = [str((await add_cafe(clients)).id) for _ in range(3)]

    assert await walk(user_client, "cafes", first=1) == ids


async def test_cafes_are_searched(user_client: ApiClient, clients: Clients) -> None:
    """A search finds a part of the name in upper or lower case, literally; `is_active` filters as well."""
    for name in ("Green Fork", "Basil & Thyme", "Пельменная №1"):
        await add_cafe(clients, name, is_active=name != "Green Fork")
    filters: list[tuple[dict[str, object], list[str]]] = [
        ({"search": "ПЕЛЬМ"}, ["Пельменная №1"]),
        ({"search": "&"}, ["Basil & Thyme"]),
        ({"search": "%"}, []),
        ({"search": ""}, ["Basil & Thyme", "Green Fork", "Пельменная №1"]),
        ({"is_active": False}, ["Green Fork"]),
        ({"is_active": True, "search": "n"}, []),
        ({"is_active": False, "search": "n"}, ["Green Fork"]),
    ]

    answers = [await user_client("cafes", **wanted) for wanted, _ in filters]

    assert [([cafe["name"] for cafe in answer.data["items"]], answer.data["total"]) for answer in answers] == [
        (names, len(names)) for _, names in filters
    ]


async def test_a_cafe_is_found(user_client: ApiClient, cafe: Cafe) -> None:
    """Every user may read a cafe."""
    answer = await user_client("cafe", id=cafe.id)

    assert (answer.data["id"], answer.data["name"]) == (str(cafe.id), cafe.name)


async def test_a_cafe_needs_only_a_name(manager_client: ApiClient) -> None:
    """A new cafe is active, has no chat, and has the defaults."""
    answer = await manager_client("create_cafe", name=" Green Fork ")

    created_at = datetime.fromisoformat(answer.data.pop("created_at"))
    assert created_at.utcoffset() == timedelta(0)
    assert answer.data == {
        "id": "1",
        "name": "Green Fork",
        "description": "",
        "is_active": True,
        "tg_chat_id": None,
        "tg_username": None,
        "notifications_enabled": True,
        "linked_at": None,
        "timezone": "UTC",
        "language": "en",
    }


async def test_a_new_cafe_has_the_given_fields(manager_client: ApiClient) -> None:
    """Every given field is stored and read again."""
    given = {"name": "Пельменная №1", "description": "Две строки\n🥟", "timezone": "Asia/Almaty", "language": "ru"}

    created = (await manager_client("create_cafe", **given)).data

    assert {name: created[name] for name in given} == given
    assert (await manager_client("cafe", id=created["id"])).data == created


async def test_an_update_of_a_cafe_changes_the_given_fields(manager_client: ApiClient, cafe: Cafe) -> None:
    """The other fields do not change."""
    shown = (await manager_client("cafe", id=cafe.id)).data
    changes: list[dict[str, object]] = [
        {"name": "Green Fork"},
        {"description": "New"},
        {"timezone": "Europe/Berlin"},
        {"language": "ru"},
        {},
    ]

    for change in changes:
        answer = await manager_client("update_cafe", id=cafe.id, **change)

        shown |= change
        assert answer.data == shown
        assert (await manager_client("cafe", id=cafe.id)).data == shown


async def test_a_deactivated_cafe_takes_no_orders(
    manager_client: ApiClient, user_client: ApiClient, lunch: Lunch
) -> None:
    """A deactivated cafe takes orders again only after an activation."""
    off = await manager_client("set_cafe_status", id=lunch.cafe.id, is_active=False)
    refused = await user_client("place_order", **an_order(lunch))
    on = await manager_client("set_cafe_status", id=lunch.cafe.id, is_active=True)
    taken = await user_client("place_order", **an_order(lunch))

    assert (off.data["is_active"], refused.code, refused.fields) == (False, "BAD_INPUT", ("cafe_id",))
    assert (on.data["is_active"], taken.code) == (True, None)


async def test_a_cafe_without_orders_is_deleted(manager_client: ApiClient, lunch: Lunch) -> None:
    """The cafe is deleted with its menu, and the answer says so."""
    answer = await manager_client("delete_cafe", id=lunch.cafe.id)

    assert (answer.data["id"], answer.data["deleted"]) == (str(lunch.cafe.id), True)
    assert (await manager_client("cafe", id=lunch.cafe.id)).code == "NOT_FOUND"


async def test_a_cafe_with_orders_is_deactivated(manager_client: ApiClient, lunch: Lunch) -> None:
    """The cafe is deactivated and keeps its menu, and the answer says so."""
    order = (await manager_client("place_order", **an_order(lunch, tgid=USER_TGID))).data

    answer = await manager_client("delete_cafe", id=lunch.cafe.id)

    assert (answer.data["id"], answer.data["deleted"]) == (str(lunch.cafe.id), False)
    assert "instead" in answer.data["message"]
    assert (await manager_client("cafe", id=lunch.cafe.id)).data["is_active"] is False
    assert (await manager_client("order", id=order["id"])).data == order


async def test_a_cafe_with_a_chat_is_deactivated(manager_client: ApiClient, linked: LinkRequest) -> None:
    """A cafe with a history with a chat is deactivated instead of deleted."""
    answer = await manager_client("delete_cafe", id=linked.cafe_id)

    cafe = (await manager_client("cafe", id=linked.cafe_id)).data
    assert (answer.data["deleted"], cafe["is_active"], cafe["tg_chat_id"]) == (False, False, linked.tg_chat_id)


async def test_deadlines_are_read(manager_client: ApiClient, lunch: Lunch) -> None:
    """The deadlines are one for each weekday, Monday first, on one page."""
    answer = await manager_client("cafe.deadlines", id=lunch.cafe.id)

    assert answer.data["items"] == [
        {"weekday": weekday, "deadline_time": "10:30:00", "is_enabled": True, "advance_days": 1} for weekday in range(7)
    ]
    assert (answer.data["total"], answer.data["page_info"]["has_next_page"]) == (7, False)


async def test_the_answer_has_the_orders_without_delivery(
    user_client: ApiClient, manager_client: ApiClient, lunch: Lunch
) -> None:
    """The answer to a new week has the days whose orders it leaves without delivery, and so have the deadlines."""
    await user_client("place_order", **an_order(lunch))

    answer = await manager_client("set_deadlines.deadlines", cafe_id=lunch.cafe.id, deadlines=[])

    assert answer.data["orders_without_delivery"] == [{"date": str(lunch.open_date), "orders_count": 1}]
    assert (await manager_client("cafe.deadlines", id=lunch.cafe.id)).data == answer.data


async def test_deadlines_are_replaced(manager_client: ApiClient, lunch: Lunch) -> None:
    """The given deadlines, in any order, replace all existing ones."""
    answer = await manager_client("set_deadlines.deadlines", cafe_id=lunch.cafe.id, deadlines=WEEK[::-1])

    assert answer.data["items"] == WEEK
    assert (await manager_client("cafe.deadlines", id=lunch.cafe.id)).data == answer.data


async def test_a_deadline_is_enabled_and_a_day_ahead_by_default(manager_client: ApiClient, cafe: Cafe) -> None:
    """A deadline needs only a weekday and a time in minutes."""
    deadlines = [{"weekday": 0, "deadline_time": "10:30"}]

    answer = await manager_client("set_deadlines.deadlines", cafe_id=cafe.id, deadlines=deadlines)

    assert answer.data["items"] == WEEK[:1]


async def test_without_deadlines_there_are_no_deliveries(manager_client: ApiClient, lunch: Lunch) -> None:
    """An empty list of deadlines is valid."""
    answer = await manager_client("set_deadlines.deadlines", cafe_id=lunch.cafe.id, deadlines=[])

    assert answer.data == {
        "items": [],
        "total": 0,
        "page_info": {"end_cursor": None, "has_next_page": False},
        "orders_without_delivery": [],
    }
    week = (await manager_client("order_week", cafe_id=lunch.cafe.id)).data["items"]
    assert {day["refusal"] for day in week} == {"no_delivery"}


async def test_ordering_is_open_until_the_deadline(user_client: ApiClient, lunch: Lunch) -> None:
    """The answer has the deadline and the seconds that are left."""
    before = datetime.now(UTC)
    answer = await user_client("order_availability", cafe_id=lunch.cafe.id, date=lunch.open_date)
    after = datetime.now(UTC)

    closes_at = datetime.combine(lunch.open_date - timedelta(days=1), time(10, 30), UTC)
    seconds_left = answer.data.pop("seconds_left")
    assert (closes_at - after).total_seconds() - 1 <= seconds_left <= (closes_at - before).total_seconds()
    assert answer.data == {
        "cafe_id": str(lunch.cafe.id),
        "date": lunch.open_date.isoformat(),
        "can_order": True,
        "closes_at": closes_at.isoformat(),
        "refusal": None,
    }


async def test_a_refusal_has_a_reason(manager_client: ApiClient, lunch: Lunch) -> None:
    """Each refusal has a name, and a time only if there is a deadline."""
    cafe = {"cafe_id": lunch.cafe.id}
    passed = await manager_client("order_availability", **cafe, date=lunch.closed_date)
    far = await manager_client("order_availability", **cafe, date=lunch.open_date + timedelta(days=90))
    await manager_client("set_cafe_status", id=lunch.cafe.id, is_active=False)
    off = await manager_client("order_availability", **cafe, date=lunch.open_date)
    await manager_client("set_cafe_status", id=lunch.cafe.id, is_active=True)
    for combo in (lunch.combo, lunch.light):
        await manager_client("delete_combo", **cafe, id=combo.id)
    empty = await manager_client("order_availability", **cafe, date=lunch.open_date)
    await manager_client("set_deadlines.deadlines", **cafe, deadlines=[])
    never = await manager_client("order_availability", **cafe, date=lunch.open_date)

    answers = (passed, far, off, empty, never)
    assert [answer.data["refusal"] for answer in answers] == [
        "deadline_passed",
        "too_far_ahead",
        "cafe_deactivated",
        "nothing_on_the_menu",
        "no_delivery",
    ]
    assert [answer.data["closes_at"] is None for answer in answers] == [False, False, False, False, True]
    assert {(answer.data["can_order"], answer.data["seconds_left"]) for answer in answers} == {(False, None)}


async def test_the_week_begins_with_the_cafes_today(user_client: ApiClient, clients: Clients) -> None:
    """The week has seven days and begins with today in the cafe's time zone."""
    zone = "Pacific/Kiritimati"
    cafe = await add_cafe(clients, timezone=zone)
    before = datetime.now(ZoneInfo(zone)).date()

    answer = await user_client("order_week", cafe_id=cafe.id)

    after = datetime.now(ZoneInfo(zone)).date()
    dates = [day["date"] for day in answer.data["items"]]
    assert dates in [[(first + timedelta(days=days)).isoformat() for days in range(7)] for first in (before, after)]
    assert (answer.data["total"], answer.data["page_info"]["has_next_page"]) == (7, False)


async def test_the_week_agrees_with_each_day(user_client: ApiClient, lunch: Lunch) -> None:
    """A day of the week is equal to the availability of that date."""
    week = (await user_client("order_week", cafe_id=lunch.cafe.id)).data["items"]

    for day in week:
        alone = (await user_client("order_availability", cafe_id=lunch.cafe.id, date=day["date"])).data
        assert day | {"seconds_left": None} == alone | {"seconds_left": None}
    assert {"deadline_passed", None} == {day["refusal"] for day in week}
