"""The same behaviour of every operation in both APIs."""

import re
from datetime import UTC, date, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from app.ai.recommendation import Recommendation
from app.ai.stats import FavoriteDish, OrderStats
from app.auth.context import Context
from app.clients import Clients
from app.models import (
    Cafe,
    LinkRequest,
    MenuCategory,
    MenuItem,
    Notification,
    NotificationKind,
    PauseReason,
    RecommendationRun,
)
from app.resolvers import links
from app.services.deadlines import close_day
from app.services.gemini_keys import key_pool
from app.services.recommendations import store_recommendations
from app.settings import Settings
from tests.apis import CHAT, GEMINI_KEYS, OTHER_CHAT, REST, ApiClient, GraphQLClient, RestClient, an_order
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_cafe, add_lunch
from tests.init_data import BOT, init_data
from tests.test_conventions import STORED

TODAY = datetime.now(UTC).date()
YESTERDAY, IN_THREE_DAYS = TODAY - timedelta(days=1), TODAY + timedelta(days=3)

RECOMMENDATION = Recommendation(
    summary="You like soup.",
    tips=("Try the salad.",),
    stats=OrderStats(orders_count=5, favorite_dishes=(FavoriteDish(name="Борщ", count=3),)),
    generated_at=datetime.now(UTC),
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"telegram_bot_token": SecretStr(BOT), "gemini_api_keys": GEMINI_KEYS})


def paused_run(date: date) -> RecommendationRun:
    """Return a paused run that is half done."""
    run = RecommendationRun(
        date=date, total=4, done=1, failed=1, request_budget=3, started_by=MANAGER_TGID, started_at=datetime.now(UTC)
    )
    run.pause(PauseReason.QUOTA_EXHAUSTED, datetime.now(UTC) + timedelta(hours=1))
    return run


def notification(kind: NotificationKind, cafe_id: int, parts: list[str], date: date | None = None) -> Notification:
    return Notification(kind=kind, cafe_id=cafe_id, tg_chat_id=CHAT, parts=parts, date=date)


def test_the_table_has_every_route() -> None:
    """The tests' table has all routes of REST except the event streams."""
    routes = {
        (operation.route.method, operation.route.path) for operation in STORED.values() if not operation.is_subscription
    }

    assert {(method, re.sub(r"{\w+}", "{}", path)) for method, path in REST.values()} == {
        (method, re.sub(r"{\w+}", "{}", path)) for method, path in routes
    }


async def test_me_is_the_owner_of_the_token(user_client: ApiClient) -> None:
    """`me` returns the owner of the token."""
    answer = await user_client("me")

    assert (answer.data["tgid"], answer.data["role"]) == (USER_TGID, "user")


async def test_a_page_has_20_rows_by_default(user_client: ApiClient, clients: Clients) -> None:
    """The default page size is 20, for lists from the database and for lists from memory."""
    lunch = await add_lunch(clients)
    async with clients.db() as session:
        session.add_all(Cafe(name=f"{number:02}") for number in range(20))
        session.add_all(
            MenuItem(cafe_id=lunch.cafe.id, name="Soup", category=MenuCategory.SOUP) for number in range(20)
        )

    answers = [await user_client("cafes"), await user_client("cafe.menu_items", id=lunch.cafe.id)]

    assert [(len(answer.data["items"]), answer.data["page_info"]["has_next_page"]) for answer in answers] == [
        (20, True)
    ] * 2


REPEATABLE: tuple[tuple[str, dict[str, object]], ...] = (
    ("me", {}),
    ("user", {"tgid": USER_TGID}),
    ("user", {"tgid": 999}),
    ("users", {"role": "user", "first": 1}),
    ("users", {"role": "nonsense"}),
    ("create_user", {"tgid": USER_TGID, "name": "Ivan"}),
    ("create_manager", {"tgid": 5, "name": ""}),
    ("set_user_access", {"tgid": USER_TGID, "is_active": True, "role": "user"}),
    ("set_user_access", {"tgid": MANAGER_TGID}),
    ("delete_user", {"tgid": 999}),
    ("authenticate", {"init_data": ""}),
    ("cafes", {}),
    ("cafes", {"search": "basil", "is_active": True}),
    ("cafe", {"id": 1}),
    ("cafe", {"id": 999}),
    ("create_cafe", {"name": "x", "timezone": "Europe/Nowhere"}),
    ("update_cafe", {"id": 2, "name": "Green Fork", "language": "ru"}),
    ("set_cafe_status", {"id": 2, "is_active": True}),
    ("delete_cafe", {"id": 1}),
    ("cafe.menu_items", {"id": 2, "category": "soup", "first": 1}),
    ("cafe.menu_items", {"id": 2, "is_available": False}),
    ("cafe.menu_items", {"id": 999}),
    ("create_menu_item", {"cafe_id": 2, "name": "Cake", "category": "extra"}),
    ("update_menu_item", {"cafe_id": 2, "id": 5, "price": "1.50"}),
    ("update_menu_item", {"cafe_id": 1, "id": 5, "price": "1.50"}),
    ("delete_menu_item", {"cafe_id": 2, "id": 1}),
    ("cafe.combos", {"id": 2, "first": 1, "skip": 1}),
    ("create_combo", {"cafe_id": 2, "name": "x", "categories": ["extra"], "price": 1}),
    ("update_combo", {"cafe_id": 2, "id": 1, "categories": ["main", "soup"]}),
    ("delete_combo", {"cafe_id": 2, "id": 1}),
    ("cafe.deadlines", {"id": 2}),
    ("set_deadlines.deadlines", {"cafe_id": 1, "deadlines": [{"weekday": 6, "deadline_time": "10:30"}]}),
    ("set_deadlines.deadlines", {"cafe_id": 1, "deadlines": []}),
    ("order_availability", {"cafe_id": 1, "date": "2026-01-01"}),
    ("order_week", {"cafe_id": 1}),
    ("orders", {}),
    ("orders", {"status": "pending", "cafe_id": 2, "first": 1}),
    ("order", {"id": 1}),
    ("place_order", {"cafe_id": 2, "date": date(2026, 1, 1), "combo_id": 2, "dish_ids": []}),
    ("update_order", {"id": 1, "combo_id": 999}),
    ("update_order", {"id": 1, "extras": [{"menu_item_id": 1}]}),
    ("cancel_order", {"id": 2}),
    ("cancel_order", {"id": 999}),
    ("order_summary", {"cafe_id": 2, "date": IN_THREE_DAYS}),
    ("announce_deadline", {"cafe_id": 2, "date": YESTERDAY}),
    ("announce_deadline", {"cafe_id": 999, "date": IN_THREE_DAYS}),
    ("notification_preview", {"cafe_id": 2, "date": IN_THREE_DAYS}),
    ("notification_preview", {"cafe_id": 1, "date": IN_THREE_DAYS}),
    ("notifications", {}),
    ("notifications", {"status": "failed", "cafe_id": 1, "date": YESTERDAY, "first": 1}),
    ("notifications", {"status": "nonsense"}),
    ("retry_notification", {"id": 2}),
    ("retry_notification", {"id": 999}),
    ("link_requests", {"status": "approved", "first": 1}),
    ("link_requests", {"first": 1, "skip": 1}),
    ("link_requests", {"status": "nonsense"}),
    ("link_request", {"cafe_id": 1, "tg_chat_id": CHAT}),
    ("approve", {"request_id": 1}),
    ("reject", {"request_id": 1}),
    ("set_notifications", {"cafe_id": 1, "enabled": False}),
    ("unlink", {"cafe_id": 2}),
    ("recommendations", {"tgid": USER_TGID}),
    ("recommendations", {"tgid": MANAGER_TGID}),
    ("recommendations", {"tgid": 999}),
    ("start_recommendation_run", {}),
    ("recommendation_run", {"date": IN_THREE_DAYS}),
    ("recommendation_run", {"date": "2026-01-01"}),
    ("recommendation_run", {"date": "x"}),
    ("gemini_keys", {}),
    ("gemini_keys", {"first": 1, "skip": 1}),
    ("gemini_keys", {"first": 0}),
)
"""Calls that give the same result twice. Cafe 1 is linked; cafe 2 takes orders and has order 1, and order 2, which is
cancelled. Yesterday's deadline of cafe 2 is announced; cafe 1 has message 1 for that day, which failed, and message 2.
The user has a recommendation, the manager has none; one key is disabled, and the run in three days is paused."""


async def test_both_apis_answer_the_same(
    called: httpx.AsyncClient, clients: Clients, manager_token: str, linked: LinkRequest, lunch: Lunch
) -> None:
    """REST's answer is GraphQL's answer in another spelling."""
    graphql, rest = (kind(called).signed(manager_token) for kind in (GraphQLClient, RestClient))
    extras = [{"menu_item_id": lunch.cola.id, "quantity": 2}]
    for tgid in (USER_TGID, MANAGER_TGID):
        order = await rest("place_order", **an_order(lunch, extras=extras, notes="Без лука", tgid=tgid))
    await rest("cancel_order", id=order.data["id"])
    async with clients.db() as session:
        await close_day(session, lunch.cafe.id, YESTERDAY, datetime.now(UTC))
        failed = notification(NotificationKind.REMINDER, linked.cafe_id, ["<b>Soup</b>"], date=YESTERDAY)
        failed.fail("no such chat")
        session.add_all([failed, notification(NotificationKind.LINK_APPROVED, linked.cafe_id, ["Linked", "for good"])])
        session.add(paused_run(IN_THREE_DAYS))
    await store_recommendations(clients, [(USER_TGID, RECOMMENDATION)], datetime.now(UTC))
    await key_pool(clients).disable(await key_pool(clients).acquire(), "403")

    for operation, arguments in REPEATABLE:
        assert await graphql(operation, **arguments) == await rest(operation, **arguments), operation


def test_every_operation_is_compared() -> None:
    """The table of compared calls has every operation."""
    assert {operation for operation, _ in REPEATABLE} == REST.keys()


async def test_success_has_the_status_of_the_contract(
    called: httpx.AsyncClient,
    clients: Clients,
    anonymous: Context,
    manager_token: str,
    linked: LinkRequest,
    lunch: Lunch,
) -> None:
    """REST answers 200, 201 for a new row, 202 for work that goes on, and 204 without a body for an unlinking."""
    third = await add_cafe(clients, "Pelmeni")
    requests = [await links.link_request(anonymous, lunch.cafe.id, chat) for chat in (-1003, -1004)]
    rest = RestClient(called).signed(manager_token)
    cafe, extra = {"cafe_id": lunch.cafe.id}, {"category": "extra", "price": "1"}
    week = [{"weekday": 0, "deadline_time": "10:30"}]
    async with clients.db() as session:
        failed = notification(NotificationKind.LINK_REJECTED, lunch.cafe.id, ["Rejected"])
        failed.fail("no such chat")
        session.add(failed)

    answers = {
        "authenticate": await rest("authenticate", init_data=init_data(USER_TGID)),
        "me": await rest("me"),
        "users": await rest("users"),
        "user": await rest("user", tgid=USER_TGID),
        "create_user": await rest("create_user", tgid=5, name="Olga"),
        "create_manager": await rest("create_manager", tgid=6, name="Pyotr"),
        "set_user_access": await rest("set_user_access", tgid=5, is_active=False),
        "delete_user": await rest("delete_user", tgid=5),
        "cafes": await rest("cafes"),
        "cafe": await rest("cafe", id=lunch.cafe.id),
        "create_cafe": await rest("create_cafe", name="New"),
        "update_cafe": await rest("update_cafe", id=third.id, name="Newer"),
        "set_cafe_status": await rest("set_cafe_status", id=third.id, is_active=True),
        "cafe.menu_items": await rest("cafe.menu_items", id=lunch.cafe.id),
        "create_menu_item": await rest("create_menu_item", **cafe, **extra, name="Tea"),
        "update_menu_item": await rest("update_menu_item", **cafe, id=lunch.cola.id, name="Kvass"),
        "delete_menu_item": await rest("delete_menu_item", **cafe, id=lunch.cake.id),
        "cafe.combos": await rest("cafe.combos", id=lunch.cafe.id),
        "create_combo": await rest("create_combo", **cafe, name="Soup", categories=["soup"], price="3"),
        "update_combo": await rest("update_combo", **cafe, id=lunch.combo.id, price="11"),
        "delete_combo": await rest("delete_combo", **cafe, id=lunch.light.id),
        "cafe.deadlines": await rest("cafe.deadlines", id=lunch.cafe.id),
        "order_availability": await rest("order_availability", **cafe, date=lunch.open_date),
        "order_week": await rest("order_week", **cafe),
        "place_order": (placed := await rest("place_order", **an_order(lunch))),
        "orders": await rest("orders"),
        "order": await rest("order", id=placed.data["id"]),
        "update_order": await rest("update_order", id=placed.data["id"], notes="Hot"),
        "cancel_order": await rest("cancel_order", id=placed.data["id"]),
        "order_summary": await rest("order_summary", **cafe, date=lunch.open_date),
        "announce_deadline": await rest("announce_deadline", **cafe, date=lunch.open_date),
        "notification_preview": await rest("notification_preview", **cafe, date=lunch.open_date),
        "notifications": await rest("notifications"),
        "retry_notification": await rest("retry_notification", id=failed.id),
        "set_deadlines.deadlines": await rest("set_deadlines.deadlines", **cafe, deadlines=week),
        "link_request": await rest("link_request", cafe_id=third.id, tg_chat_id=OTHER_CHAT),
        "link_requests": await rest("link_requests"),
        "approve": await rest("approve", request_id=requests[0].id),
        "reject": await rest("reject", request_id=requests[1].id),
        "set_notifications": await rest("set_notifications", **cafe, enabled=False),
        "unlink": await rest("unlink", **cafe),
        "delete_cafe": await rest("delete_cafe", id=third.id),
        "recommendations": await rest("recommendations", tgid=USER_TGID),
        "start_recommendation_run": (run := await rest("start_recommendation_run")),
        "recommendation_run": await rest("recommendation_run", date=run.data["date"]),
        "gemini_keys": await rest("gemini_keys"),
    }

    assert answers.keys() == REST.keys()
    assert {name: answer.response.status_code for name, answer in answers.items()} == dict.fromkeys(
        REST, 200
    ) | dict.fromkeys(CREATE, 201) | dict.fromkeys(ACCEPT, 202) | {"unlink": 204}
    assert answers["unlink"].response.content == b""


CREATE = (
    "create_user",
    "create_manager",
    "create_cafe",
    "create_menu_item",
    "create_combo",
    "place_order",
    "link_request",
)
ACCEPT = ("announce_deadline", "retry_notification", "start_recommendation_run")
