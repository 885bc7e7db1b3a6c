"""Access to every operation of the schema, by the role of the viewer and by the owner of the row."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
import sqlalchemy as sa

from app.auth.access import PUBLIC, Self
from app.auth.context import Context
from app.auth.tokens import issue_token
from app.clients import Clients
from app.models import (
    Cafe,
    LinkRequest,
    Notification,
    NotificationKind,
    NotificationStatus,
    RecommendationRun,
    Role,
    User,
    orders,
)
from app.resolvers import links
from app.resolvers import orders as orders_resolver
from app.schema.operations import operation_of
from app.settings import Settings
from tests.apis import CHAT, GEMINI_KEYS, ApiClient, camel, rows
from tests.conftest import USER_TGID, Lunch
from tests.test_conventions import SCHEMA, WITHOUT_REST, operations

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
"""All operations that are not public, with arguments with which they succeed for a manager."""

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

OF_ANOTHER_USER: dict[str, dict[str, object]] = {
    "user": {"tgid": OTHER_TGID},
    "orders": {"tgid": OTHER_TGID},
    "order": {"id": 2},
    "place_order": {"cafe_id": 1, "date": IN_FOUR_DAYS, "combo_id": 2, "dish_ids": [3], "tgid": OTHER_TGID},
    "update_order": {"id": 2, "notes": "Hot"},
    "cancel_order": {"id": 2},
    "recommendations": {"tgid": OTHER_TGID},
}
"""Operations that users may call for their own rows, with rows of another user."""

WRONG_OF_ANOTHER_USER: list[tuple[str, dict[str, object]]] = [
    ("orders", {"tgid": OTHER_TGID, "from_date": "1999-01-01"}),
    ("orders", {"tgid": OTHER_TGID, "first": 0}),
    ("place_order", {"cafe_id": 0, "date": "1999-01-01", "combo_id": 0, "dish_ids": [0], "tgid": OTHER_TGID}),
]
"""Operations on rows of another user, which the arguments name, with wrong values."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"gemini_api_keys": GEMINI_KEYS})


@pytest.fixture
async def world(clients: Clients, anonymous: Context, manager: Context, lunch: Lunch) -> None:
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
        session.add(RecommendationRun(date=IN_FOUR_DAYS, request_budget=1, started_at=datetime.now(UTC)))
    await links.link_request(anonymous, lunch.cafe.id, CHAT, "kitchen")
    fields = orders.OrderInput(combo_id=lunch.light.id, dish_ids=[lunch.salad.id])
    for tgid in (USER_TGID, OTHER_TGID):
        await orders_resolver.place_order(manager, lunch.cafe.id, lunch.open_date, fields, tgid)


def test_the_tables_are_complete() -> None:
    """The tables have all operations that are not public, those for managers, and those for the user's own rows."""
    assert SCHEMA.subscription_type is not None
    without = SCHEMA.subscription_type.fields.keys() | WITHOUT_REST.keys()
    fields = {name: field for name, field in operations() if name not in without}
    access = {name: operation_of(field).access for name, field in fields.items()}
    own = {
        name
        for name, field in fields.items()
        if access[name] in {Role.USER, Self("tgid")} and ("tgid" in field.args or str(field.type) == "Order!")
    }

    assert _named(OPERATIONS) == {name for name, who in access.items() if who is not PUBLIC}
    assert _named(FOR_MANAGERS) == {name for name, who in access.items() if who is Role.MANAGER}
    assert _named(OF_ANOTHER_USER) == own


def _named(table: Iterable[str]) -> set[str]:
    """Return the operations of a table under the names of `operations`: a mutation has the name of its root field."""
    assert SCHEMA.mutation_type is not None
    names = {camel(name) for name in table}
    return {root if (root := name.partition(".")[0]) in SCHEMA.mutation_type.fields else name for name in names}


async def test_operations_require_a_token(api_client: ApiClient, clients: Clients, world: None) -> None:
    """A caller without a token is refused and changes nothing."""
    before = await rows(clients)

    answers = {name: await api_client(name, **arguments) for name, arguments in OPERATIONS.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(OPERATIONS, "UNAUTHENTICATED")
    assert await rows(clients) == before


async def test_users_may_not_call_operations_for_managers(
    user_client: ApiClient, clients: Clients, world: None
) -> None:
    """A user is refused by operations for managers and changes nothing."""
    before = await rows(clients)

    answers = {name: await user_client(name, **OPERATIONS[name]) for name in FOR_MANAGERS}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(FOR_MANAGERS, "FORBIDDEN")
    assert await rows(clients) == before


async def test_users_may_call_the_other_operations(user_client: ApiClient, world: None) -> None:
    """Users may call all other operations with their own rows."""
    answers = {
        name: await user_client(name, **arguments) for name, arguments in OPERATIONS.items() if name not in FOR_MANAGERS
    }

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(answers)


async def test_users_may_not_use_rows_of_other_users(user_client: ApiClient, clients: Clients, world: None) -> None:
    """A user can neither read nor change the rows of another user."""
    before = await rows(clients)

    answers = {name: await user_client(name, **arguments) for name, arguments in OF_ANOTHER_USER.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(OF_ANOTHER_USER, "FORBIDDEN")
    assert await rows(clients) == before


@pytest.mark.parametrize(("name", "arguments"), WRONG_OF_ANOTHER_USER)
async def test_wrong_values_for_another_user_are_forbidden(
    user_client: ApiClient, world: None, name: str, arguments: dict[str, object]
) -> None:
    """The owner is checked before the other arguments are validated."""
    assert (await user_client(name, **arguments)).code == "FORBIDDEN"


async def test_managers_may_use_rows_of_all_users(manager_client: ApiClient, world: None) -> None:
    """A manager may do with every user's rows what users may do with their own."""
    answers = {name: await manager_client(name, **arguments) for name, arguments in OF_ANOTHER_USER.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(OF_ANOTHER_USER)


async def test_the_role_comes_from_the_database(
    api_client: ApiClient, settings: Settings, pending: LinkRequest
) -> None:
    """A former manager whose token still says manager may not call operations for managers."""
    former = User(tgid=USER_TGID, name="", role=Role.MANAGER)

    answer = await api_client.signed(issue_token(settings, former))("approve", request_id=pending.id)

    assert answer.code == "FORBIDDEN"


async def test_a_deactivated_user_is_refused_immediately(
    manager_client: ApiClient, clients: Clients, world: None
) -> None:
    """A deactivated user is refused, even with a token that has not expired."""
    async with clients.db() as session:
        await session.execute(sa.text("UPDATE users SET is_active = false"))
    before = await rows(clients)

    answers = {name: await manager_client(name, **arguments) for name, arguments in OPERATIONS.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(OPERATIONS, "FORBIDDEN")
    assert await rows(clients) == before


async def test_authorization_comes_before_not_found(user_client: ApiClient) -> None:
    """A user without the right does not learn whether a row exists."""
    answers = [
        await user_client("approve", request_id=999),
        await user_client("set_deadlines.deadlines", cafe_id=999, deadlines=[]),
        await user_client("order_summary", cafe_id=999, date=IN_FOUR_DAYS),
        await user_client("announce_deadline", cafe_id=999, date=IN_FOUR_DAYS),
        await user_client("notification_preview", cafe_id=999, date=IN_FOUR_DAYS),
        await user_client("retry_notification", id=999),
        await user_client("recommendation_run", date=date(2026, 1, 1)),
        await user_client("recommendations", tgid=999),
        await user_client("user", tgid=999),
    ]

    assert [answer.code for answer in answers] == ["FORBIDDEN"] * 9


WRONG: dict[str, dict[str, object]] = {
    "create_cafe": {"name": "", "timezone": "Mars/Olympus"},
    "create_menu_item": {"cafe_id": "x", "name": "", "category": "extra", "price": "-1"},
    "set_deadlines.deadlines": {"cafe_id": 1, "deadlines": [{"weekday": 7, "deadline_time": "10:30"}]},
    "approve": {"request_id": "x"},
    "reject": {"request_id": 1, "reason": "x" * 1001},
    "notifications": {"first": 0, "date": "1999-12-31"},
    "recommendation_run": {"date": "1999-12-31"},
    "gemini_keys": {"first": 0, "after": "x"},
}
"""Operations for managers, with values that the schema accepts and the operations refuse."""


@pytest.mark.parametrize(("signed_in", "code"), [(True, "FORBIDDEN"), (False, "UNAUTHENTICATED")])
async def test_authorization_comes_before_validation(
    api_client: ApiClient, user_token: str, world: None, signed_in: bool, code: str
) -> None:
    """A caller without the right is refused for that, whatever else is wrong with the call."""
    client = api_client.signed(user_token) if signed_in else api_client

    answers = {name: await client(name, **arguments) for name, arguments in WRONG.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(WRONG, code)


async def test_managers_get_bad_input_for_the_same_calls(manager_client: ApiClient, world: None) -> None:
    """A manager gets BAD_INPUT for the same calls."""
    answers = {name: await manager_client(name, **arguments) for name, arguments in WRONG.items()}

    assert {name: answer.code for name, answer in answers.items()} == dict.fromkeys(WRONG, "BAD_INPUT")


async def test_link_requests_are_public(api_client: ApiClient, linked: LinkRequest, clients: Clients) -> None:
    """A public operation needs no token: the refusal is about the cafe, not about the caller."""
    assert (await api_client("link_request", cafe_id=linked.cafe_id, tg_chat_id=CHAT)).code == "CAFE_ALREADY_LINKED"


def data_and_errors(response: httpx.Response) -> tuple[object, list[tuple[str, list[str | int]]]]:
    """Return GraphQL's data, and the code and the path of each error."""
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
async def test_a_field_for_managers_is_refused_to_users(
    called: httpx.AsyncClient, user_token: str, world: None, document: str, path: list[str | int] | None
) -> None:
    """A user gets the fields that users may read, and an error for the field that they may not."""
    headers = {"Authorization": f"Bearer {user_token}"}

    data, errors = data_and_errors(await called.post("/graphql", json={"query": document}, headers=headers))

    assert data is not None
    assert errors == [("FORBIDDEN", path or ["orders", "nodes", 0, "cafe", "deadlines"])]


@pytest.mark.parametrize(
    "part",
    [
        "menuItems { nodes { name } }",
        "menuItems (first: 0) { totalCount }",
        "combos { totalCount }",
        "combos (skip: -1) { totalCount }",
        "deadlines { totalCount }",
    ],
)
async def test_a_field_of_a_public_result_is_not_public(called: httpx.AsyncClient, cafe: Cafe, part: str) -> None:
    """A link request without a token does not give access to the cafe's menu."""
    document = f"mutation {{ linkRequest(cafeId: 1, tgChatId: -1) {{ cafe {{ {part} }} }} }}"

    data, errors = data_and_errors(await called.post("/graphql", json={"query": document}))

    name = part.split(" ", maxsplit=1)[0]
    assert (data, errors) == (
        {"linkRequest": {"cafe": {name: None}}},
        [("UNAUTHENTICATED", ["linkRequest", "cafe", name])],
    )


async def test_a_field_of_a_public_result_is_open_to_users(
    called: httpx.AsyncClient, cafe: Cafe, user_token: str
) -> None:
    """A link request with a user's token may select what a user may read."""
    document = "mutation { linkRequest(cafeId: 1, tgChatId: -1) { cafe { menuItems { totalCount } } } }"

    response = await called.post(
        "/graphql", json={"query": document}, headers={"Authorization": f"Bearer {user_token}"}
    )

    assert response.json() == {"data": {"linkRequest": {"cafe": {"menuItems": {"totalCount": 0}}}}}
