"""Who may do what: every operation of the schema, by the role of who asks, and by whose it is."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from app.auth import PUBLIC, SELF, issue_token
from app.clients import Clients
from app.context import Context
from app.models import (
    Cafe,
    LinkRequest,
    Notification,
    NotificationKind,
    NotificationStatus,
    RecommendationRun,
    Role,
    User,
)
from app.resolvers import links, order_lines, orders
from app.schema.operations import operation_of
from app.settings import Settings
from tests.conftest import USER_TGID, Lunch
from tests.doors import CHAT, GEMINI_KEYS, Door, camel, rows
from tests.test_conventions import SCHEMA, operations

OTHER_TGID = 3003

IN_FOUR_DAYS = datetime.now(UTC).date() + timedelta(days=4)

OPERATIONS: dict[str, dict[str, object]] = {
    "me": {},
    "users": {},
    "user": {"tgid": USER_TGID},
    "create_user": {"tgid": 5, "name": "Olga"},
    "create_manager": {"tgid": 5, "name": "Olga"},
    "set_user_access": {"tgid": USER_TGID, "role": "manager"},
    "delete_user": {"tgid": OTHER_TGID},
    "cafes": {},
    "cafe": {"id": 1},
    "create_cafe": {"name": "Green Fork"},
    "update_cafe": {"id": 1, "name": "Green Fork"},
    "set_cafe_status": {"id": 1, "is_active": False},
    "delete_cafe": {"id": 1},
    "cafe.menu_items": {"id": 1},
    "create_menu_item": {"cafe_id": 1, "name": "Tea", "category": "extra", "price": "1.00"},
    "update_menu_item": {"cafe_id": 1, "id": 1, "name": "Tea"},
    "delete_menu_item": {"cafe_id": 1, "id": 2},
    "cafe.combos": {"id": 1},
    "create_combo": {"cafe_id": 1, "name": "Soup", "categories": ["soup"], "price": "1.00"},
    "update_combo": {"cafe_id": 1, "id": 1, "price": "1.00"},
    "delete_combo": {"cafe_id": 1, "id": 2},
    "cafe.deadlines": {"id": 1},
    "set_deadlines.deadlines": {"cafe_id": 1, "deadlines": []},
    "order_availability": {"cafe_id": 1, "date": IN_FOUR_DAYS},
    "order_week": {"cafe_id": 1},
    "orders": {},
    "order": {"id": 1},
    "place_order": {"cafe_id": 1, "date": IN_FOUR_DAYS, "combo_id": 2, "dish_ids": [3]},
    "update_order": {"id": 1, "notes": "Hot"},
    "cancel_order": {"id": 1},
    "order_summary": {"cafe_id": 1, "date": IN_FOUR_DAYS},
    "announce_deadline": {"cafe_id": 1, "date": IN_FOUR_DAYS},
    "notification_preview": {"cafe_id": 1, "date": IN_FOUR_DAYS},
    "notifications": {},
    "retry_notification": {"id": 1},
    "link_requests": {},
    "approve": {"request_id": 1},
    "reject": {"request_id": 1},
    "set_notifications": {"cafe_id": 1, "enabled": False},
    "unlink": {"cafe_id": 1},
    "recommendations": {"tgid": USER_TGID},
    "start_recommendation_run": {},
    "recommendation_run": {"date": IN_FOUR_DAYS},
    "gemini_keys": {},
}
"""All but what is public, with arguments for which they would do something."""

FOR_MANAGERS = (
    "users",
    "create_user",
    "create_manager",
    "set_user_access",
    "delete_user",
    "create_cafe",
    "update_cafe",
    "set_cafe_status",
    "delete_cafe",
    "create_menu_item",
    "update_menu_item",
    "delete_menu_item",
    "create_combo",
    "update_combo",
    "delete_combo",
    "cafe.deadlines",
    "set_deadlines.deadlines",
    "order_summary",
    "announce_deadline",
    "notification_preview",
    "notifications",
    "retry_notification",
    "link_requests",
    "approve",
    "reject",
    "set_notifications",
    "unlink",
    "start_recommendation_run",
    "recommendation_run",
    "gemini_keys",
)

OF_SOMEBODY_ELSE: dict[str, dict[str, object]] = {
    "user": {"tgid": OTHER_TGID},
    "orders": {"tgid": OTHER_TGID},
    "order": {"id": 2},
    "place_order": {"cafe_id": 1, "date": IN_FOUR_DAYS, "combo_id": 2, "dish_ids": [3], "tgid": OTHER_TGID},
    "update_order": {"id": 2, "notes": "Hot"},
    "cancel_order": {"id": 2},
    "recommendations": {"tgid": OTHER_TGID},
}
"""What users may do with what is their own, with arguments for which it is not."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"gemini_api_keys": GEMINI_KEYS})


@pytest.fixture
async def world(clients: Clients, anybody: Context, manager: Context, lunch: Lunch) -> None:
    """Cafe 1 has a menu and a pending request; order 1 is the user's, order 2 another user's; message 1 has failed.

    There is a run in four days, and none today.
    """
    async with clients.db() as session:
        session.add(User(tgid=OTHER_TGID, name="Olga"))
        session.add(
            Notification(
                cafe_id=lunch.cafe.id,
                kind=NotificationKind.UNLINKED,
                tg_chat_id=CHAT,
                parts=["Unlinked"],
                status=NotificationStatus.FAILED,
            )
        )
        session.add(RecommendationRun(date=IN_FOUR_DAYS, keys_suffice_for=1, started_at=datetime.now(UTC)))
    await links.link_request(anybody, lunch.cafe.id, CHAT, "kitchen")
    fields = order_lines.OrderFields(combo_id=lunch.light.id, dish_ids=[lunch.salad.id])
    for tgid in (USER_TGID, OTHER_TGID):
        await orders.place_order(manager, lunch.cafe.id, lunch.open_date, fields, tgid)


def test_the_tables_leave_nothing_out() -> None:
    """They are the schema's operations: all but the public ones, those for managers, those for one's own."""
    assert SCHEMA.subscription_type is not None
    fields = {name: field for name, field in operations() if name not in SCHEMA.subscription_type.fields}
    allowed = {name: operation_of(field).allowed for name, field in fields.items()}
    own = {
        name
        for name, field in fields.items()
        if allowed[name] in {Role.USER, SELF} and ("tgid" in field.args or str(field.type) == "Order!")
    }

    assert _named(OPERATIONS) == {name for name, who in allowed.items() if who is not PUBLIC}
    assert _named(FOR_MANAGERS) == {name for name, who in allowed.items() if who is Role.MANAGER}
    assert _named(OF_SOMEBODY_ELSE) == own


def _named(table: Iterable[str]) -> set[str]:
    """The operations of a table, as `operations` calls them: what changes something is named for that."""
    assert SCHEMA.mutation_type is not None
    names = {camel(name) for name in table}
    return {root if (root := name.partition(".")[0]) in SCHEMA.mutation_type.fields else name for name in names}


async def test_without_a_token_nothing_but_asking_works(door: Door, clients: Clients, world: None) -> None:
    """Whoever is not signed in is refused, and changes nothing."""
    before = await rows(clients)

    answers = {name: await door(name, **arguments) for name, arguments in OPERATIONS.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(OPERATIONS, "UNAUTHENTICATED")
    assert await rows(clients) == before


async def test_users_may_not_do_what_is_for_managers(user_door: Door, clients: Clients, world: None) -> None:
    """A user is forbidden what is for managers, and changes nothing."""
    before = await rows(clients)

    answers = {name: await user_door(name, **OPERATIONS[name]) for name in FOR_MANAGERS}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(FOR_MANAGERS, "FORBIDDEN")
    assert await rows(clients) == before


async def test_users_may_do_the_rest(user_door: Door, world: None) -> None:
    """With what is their own."""
    answers = {
        name: await user_door(name, **arguments) for name, arguments in OPERATIONS.items() if name not in FOR_MANAGERS
    }

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers)


async def test_users_may_not_do_it_with_what_is_not_their_own(user_door: Door, clients: Clients, world: None) -> None:
    """What is somebody else's is neither read nor changed."""
    before = await rows(clients)

    answers = {name: await user_door(name, **arguments) for name, arguments in OF_SOMEBODY_ELSE.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(OF_SOMEBODY_ELSE, "FORBIDDEN")
    assert await rows(clients) == before


async def test_managers_may_do_it_for_everyone(manager_door: Door, world: None) -> None:
    """A manager may do with anybody's what users may with their own."""
    answers = {name: await manager_door(name, **arguments) for name, arguments in OF_SOMEBODY_ELSE.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(OF_SOMEBODY_ELSE)


async def test_the_database_knows_the_role(door: Door, settings: Settings, pending: LinkRequest) -> None:
    """Who was a manager when the token was issued, and is none now, may not do what is for managers."""
    former = User(tgid=USER_TGID, name="", role=Role.MANAGER)

    answer = await door.signed(issue_token(settings, former))("approve", request_id=pending.id)

    assert answer.code == "FORBIDDEN"


async def test_who_is_switched_off_is_refused_at_once(manager_door: Door, clients: Clients, world: None) -> None:
    """A token that has not expired does not help a user who is switched off."""
    async with clients.db() as session:
        await session.execute(sa.text("UPDATE users SET is_active = false"))
    before = await rows(clients)

    answers = {name: await manager_door(name, **arguments) for name, arguments in OPERATIONS.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(OPERATIONS, "FORBIDDEN")
    assert await rows(clients) == before


async def test_rights_come_before_what_there_is(user_door: Door) -> None:
    """Who may not know whether a request, a cafe's deadlines, a message, a run, or a person exists is not told."""
    answers = [
        await user_door("approve", request_id=999),
        await user_door("set_deadlines.deadlines", cafe_id=999, deadlines=[]),
        await user_door("order_summary", cafe_id=999, date=IN_FOUR_DAYS),
        await user_door("announce_deadline", cafe_id=999, date=IN_FOUR_DAYS),
        await user_door("notification_preview", cafe_id=999, date=IN_FOUR_DAYS),
        await user_door("retry_notification", id=999),
        await user_door("recommendation_run", date=date(2026, 1, 1)),
        await user_door("recommendations", tgid=999),
        await user_door("user", tgid=999),
    ]

    assert [answer.code for answer in answers] == ["FORBIDDEN"] * 9


async def test_asking_for_a_link_needs_nobody(door: Door, linked: LinkRequest, clients: Clients) -> None:
    """What is public says nothing of who may."""
    assert (await door("link_request", cafe_id=linked.cafe_id, tg_chat_id=CHAT)).code == "CAFE_ALREADY_LINKED"


def told(response: httpx.Response) -> tuple[object, list[tuple[str, list[str | int]]]]:
    """What GraphQL answers: the data, and for each error its code and its field."""
    body = response.json()
    return body["data"], [(error["extensions"]["code"], error["path"]) for error in body["errors"]]


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ("{ cafe(id: 1) { name deadlines { nodes { weekday } } } }", ["cafe", "deadlines"]),
        ("{ cafes { edges { node { d: deadlines { totalCount } } } } }", ["cafes", "edges", 0, "node", "d"]),
        ("{ orders { nodes { cafe { ...f } } } } fragment f on Cafe { deadlines { totalCount } }", None),
    ],
)
async def test_a_part_that_is_for_managers_is_refused(
    called: httpx.AsyncClient, user_token: str, world: None, document: str, path: list[str | int] | None
) -> None:
    """A user who may read the rest gets it, and is told which field they may not."""
    headers = {"Authorization": f"Bearer {user_token}"}

    data, errors = told(await called.post("/graphql", json={"query": document}, headers=headers))

    assert data is not None
    assert errors == [("FORBIDDEN", path or ["orders", "nodes", 0, "cafe", "deadlines"])]


@pytest.mark.parametrize("part", ["menuItems { nodes { name } }", "combos { totalCount }", "deadlines { totalCount }"])
async def test_a_part_of_what_is_public_is_not_public(called: httpx.AsyncClient, cafe: Cafe, part: str) -> None:
    """Who asks for a link without a token does not get to the cafe's menu by that."""
    document = f"mutation {{ linkRequest(cafeId: 1, tgChatId: -1) {{ cafe {{ {part} }} }} }}"

    data, errors = told(await called.post("/graphql", json={"query": document}))

    name = part.split(" ", maxsplit=1)[0]
    assert (data, errors) == (
        {"linkRequest": {"cafe": {name: None}}},
        [("UNAUTHENTICATED", ["linkRequest", "cafe", name])],
    )


async def test_a_part_of_what_is_public_is_for_those_who_may(
    called: httpx.AsyncClient, cafe: Cafe, user_token: str
) -> None:
    """Who signs the request although nobody has to may read what a user may."""
    document = "mutation { linkRequest(cafeId: 1, tgChatId: -1) { cafe { menuItems { totalCount } } } }"

    response = await called.post(
        "/graphql", json={"query": document}, headers={"Authorization": f"Bearer {user_token}"}
    )

    assert response.json() == {"data": {"linkRequest": {"cafe": {"menuItems": {"totalCount": 0}}}}}
