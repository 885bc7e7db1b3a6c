"""Cafes, and until when one may order from them, through both doors."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from app.clients import Clients
from app.models import Cafe, LinkRequest
from tests.conftest import USER_TGID, Lunch, add_cafe
from tests.doors import Door, an_order, walk

WEEK = [
    {"weekday": 0, "deadline_time": "10:30:00", "is_enabled": True, "advance_days": 1},
    {"weekday": 4, "deadline_time": "23:59:59", "is_enabled": False, "advance_days": 0},
    {"weekday": 6, "deadline_time": "00:00:00", "is_enabled": True, "advance_days": 14},
]


async def test_cafes_come_by_name(user_door: Door, clients: Clients) -> None:
    """The cafes are in the order of their names."""
    for name in ("Green Fork", "Basil & Thyme", "Пельменная №1"):
        await add_cafe(clients, name)

    answer = await user_door("cafes")

    assert [cafe["name"] for cafe in answer.data["items"]] == ["Basil & Thyme", "Green Fork", "Пельменная №1"]


async def test_cafes_of_one_name_are_pages_apart(user_door: Door, clients: Clients) -> None:
    """Rows that the order's first column does not tell apart are still on one page each."""
    ids = [str((await add_cafe(clients)).id) for _ in range(3)]

    assert await walk(user_door, "cafes", first=1) == ids


async def test_cafes_are_searched(user_door: Door, clients: Clients) -> None:
    """By a part of the name in either case, taken literally, and by whether they are switched on."""
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

    answers = [await user_door("cafes", **wanted) for wanted, _ in filters]

    assert [([cafe["name"] for cafe in answer.data["items"]], answer.data["total"]) for answer in answers] == [
        (names, len(names)) for _, names in filters
    ]


async def test_a_cafe_is_found(user_door: Door, cafe: Cafe) -> None:
    """Everybody who is signed in may read a cafe."""
    answer = await user_door("cafe", id=cafe.id)

    assert (answer.data["id"], answer.data["name"]) == (str(cafe.id), cafe.name)


async def test_a_cafe_needs_a_name_only(manager_door: Door) -> None:
    """A new cafe is switched on, has no chat, and is what nobody has said otherwise."""
    answer = await manager_door("create_cafe", name=" Green Fork ")

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


async def test_a_cafe_is_as_it_was_said_to_be(manager_door: Door) -> None:
    """Every field that a manager gives is kept, and read again."""
    given = {"name": "Пельменная №1", "description": "Две строки\n🥟", "timezone": "Asia/Almaty", "language": "ru"}

    created = (await manager_door("create_cafe", **given)).data

    assert {name: created[name] for name in given} == given
    assert (await manager_door("cafe", id=created["id"])).data == created


async def test_of_a_cafe_what_is_given_changes(manager_door: Door, cafe: Cafe) -> None:
    """The rest stays as it is."""
    shown = (await manager_door("cafe", id=cafe.id)).data
    changes: list[dict[str, object]] = [
        {"name": "Green Fork"},
        {"description": "New"},
        {"timezone": "Europe/Berlin"},
        {"language": "ru"},
        {},
    ]

    for change in changes:
        answer = await manager_door("update_cafe", id=cafe.id, **change)

        shown |= change
        assert answer.data == shown
        assert (await manager_door("cafe", id=cafe.id)).data == shown


async def test_a_cafe_that_is_switched_off_takes_no_orders(manager_door: Door, user_door: Door, lunch: Lunch) -> None:
    """Until it is switched on again."""
    off = await manager_door("set_cafe_status", id=lunch.cafe.id, is_active=False)
    refused = await user_door("place_order", **an_order(lunch))
    on = await manager_door("set_cafe_status", id=lunch.cafe.id, is_active=True)
    taken = await user_door("place_order", **an_order(lunch))

    assert (off.data["is_active"], refused.code, refused.fields) == (False, "BAD_INPUT", ("cafe_id",))
    assert (on.data["is_active"], taken.code) == (True, None)


async def test_a_cafe_without_orders_is_deleted(manager_door: Door, lunch: Lunch) -> None:
    """With its menu; the answer says so."""
    answer = await manager_door("delete_cafe", id=lunch.cafe.id)

    assert (answer.data["id"], answer.data["deleted"]) == (str(lunch.cafe.id), True)
    assert (await manager_door("cafe", id=lunch.cafe.id)).code == "NOT_FOUND"


async def test_a_cafe_with_orders_is_kept(manager_door: Door, lunch: Lunch) -> None:
    """And switched off, with its menu; the answer says so."""
    order = (await manager_door("place_order", **an_order(lunch, tgid=USER_TGID))).data

    answer = await manager_door("delete_cafe", id=lunch.cafe.id)

    assert (answer.data["id"], answer.data["deleted"]) == (str(lunch.cafe.id), False)
    assert "kept" in answer.data["message"]
    assert (await manager_door("cafe", id=lunch.cafe.id)).data["is_active"] is False
    assert (await manager_door("order", id=order["id"])).data == order


async def test_a_cafe_with_a_chat_is_kept(manager_door: Door, linked: LinkRequest) -> None:
    """What was agreed with a chat is not forgotten."""
    answer = await manager_door("delete_cafe", id=linked.cafe_id)

    cafe = (await manager_door("cafe", id=linked.cafe_id)).data
    assert (answer.data["deleted"], cafe["is_active"], cafe["tg_chat_id"]) == (False, False, linked.tg_chat_id)


async def test_deadlines_are_read(manager_door: Door, lunch: Lunch) -> None:
    """One for each weekday, Monday first, on one page."""
    answer = await manager_door("cafe.deadlines", id=lunch.cafe.id)

    assert answer.data["items"] == [
        {"weekday": weekday, "deadline_time": "10:30:00", "is_enabled": True, "advance_days": 1} for weekday in range(7)
    ]
    assert (answer.data["total"], answer.data["page_info"]["has_next_page"]) == (7, False)


async def test_deadlines_are_replaced(manager_door: Door, lunch: Lunch) -> None:
    """Those that are given, in whatever order, are all that there are."""
    answer = await manager_door("set_deadlines.deadlines", cafe_id=lunch.cafe.id, deadlines=WEEK[::-1])

    assert answer.data["items"] == WEEK
    assert (await manager_door("cafe.deadlines", id=lunch.cafe.id)).data == answer.data


async def test_a_deadline_is_enabled_and_a_day_ahead_if_nobody_says_otherwise(manager_door: Door, cafe: Cafe) -> None:
    """A weekday and a time are enough, to the minute."""
    deadlines = [{"weekday": 0, "deadline_time": "10:30"}]

    answer = await manager_door("set_deadlines.deadlines", cafe_id=cafe.id, deadlines=deadlines)

    assert answer.data["items"] == WEEK[:1]


async def test_no_deadlines_are_no_deliveries(manager_door: Door, lunch: Lunch) -> None:
    """An empty list is one, too."""
    answer = await manager_door("set_deadlines.deadlines", cafe_id=lunch.cafe.id, deadlines=[])

    assert answer.data == {"items": [], "total": 0, "page_info": {"end_cursor": None, "has_next_page": False}}
    week = (await manager_door("order_week", cafe_id=lunch.cafe.id)).data["items"]
    assert {day["refusal"] for day in week} == {"no_delivery"}


async def test_one_may_order_until_the_deadline(user_door: Door, lunch: Lunch) -> None:
    """Until when, and how long that is from now."""
    before = datetime.now(UTC)
    answer = await user_door("order_availability", cafe_id=lunch.cafe.id, date=lunch.open_date)
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


async def test_why_one_may_not_order(manager_door: Door, lunch: Lunch) -> None:
    """Each refusal has its name, and a time only if there is a deadline."""
    cafe = {"cafe_id": lunch.cafe.id}
    passed = await manager_door("order_availability", **cafe, date=lunch.closed_date)
    far = await manager_door("order_availability", **cafe, date=lunch.open_date + timedelta(days=90))
    await manager_door("set_cafe_status", id=lunch.cafe.id, is_active=False)
    off = await manager_door("order_availability", **cafe, date=lunch.open_date)
    await manager_door("set_cafe_status", id=lunch.cafe.id, is_active=True)
    for combo in (lunch.combo, lunch.light):
        await manager_door("delete_combo", **cafe, id=combo.id)
    empty = await manager_door("order_availability", **cafe, date=lunch.open_date)
    await manager_door("set_deadlines.deadlines", **cafe, deadlines=[])
    never = await manager_door("order_availability", **cafe, date=lunch.open_date)

    answers = (passed, far, off, empty, never)
    assert [answer.data["refusal"] for answer in answers] == [
        "deadline_passed",
        "too_far_ahead",
        "cafe_switched_off",
        "nothing_on_the_menu",
        "no_delivery",
    ]
    assert [answer.data["closes_at"] is None for answer in answers] == [False, False, False, False, True]
    assert {(answer.data["can_order"], answer.data["seconds_left"]) for answer in answers} == {(False, None)}


async def test_the_week_begins_with_the_cafes_today(user_door: Door, clients: Clients) -> None:
    """Seven days, each with what is known of it, as of the cafe's own calendar."""
    zone = "Pacific/Kiritimati"
    cafe = await add_cafe(clients, timezone=zone)
    before = datetime.now(ZoneInfo(zone)).date()

    answer = await user_door("order_week", cafe_id=cafe.id)

    after = datetime.now(ZoneInfo(zone)).date()
    dates = [day["date"] for day in answer.data["items"]]
    assert dates in [[(first + timedelta(days=days)).isoformat() for days in range(7)] for first in (before, after)]
    assert (answer.data["total"], answer.data["page_info"]["has_next_page"]) == (7, False)


async def test_the_week_says_what_each_day_says(user_door: Door, lunch: Lunch) -> None:
    """A day of the week is what one reads of it alone."""
    week = (await user_door("order_week", cafe_id=lunch.cafe.id)).data["items"]

    for day in week:
        alone = (await user_door("order_availability", cafe_id=lunch.cafe.id, date=day["date"])).data
        assert day | {"seconds_left": None} == alone | {"seconds_left": None}
    assert {"deadline_passed", None} == {day["refusal"] for day in week}
