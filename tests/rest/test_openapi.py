"""`openapi.json` is valid OpenAPI 3.1, complete, and describes the real answers."""

import re
from datetime import UTC, date, datetime
from importlib.metadata import version
from typing import Any

import httpx
import pytest

from app.ai.recommendation import Recommendation
from app.ai.stats import FavoriteDish, OrderStats
from app.auth.context import Context
from app.clients import Clients
from app.models import LinkRequest, Notification, NotificationStatus, PauseReason, RecommendationRun
from app.resolvers import links
from app.rest.openapi import create_openapi
from app.rest.problem import CODES, PROBLEM_JSON
from app.rest.routes import PREFIX
from app.rest.stored import Route
from app.schema.schema import create_schema
from app.services.recommendations import store_recommendations
from app.settings import Settings
from tests.apis import GEMINI_KEYS, OTHER_CHAT, calling_api
from tests.conftest import USER_TGID, Lunch, add_cafe
from tests.notification_fixtures import change
from tests.test_conventions import STORED
from tests.user_factory import FIRST_ORDERING_USER, add_ordering_users

ROUTES = [operation.route for operation in STORED.values()]

OPENAPI = create_openapi(create_schema(), version("lunch-bot"))

TYPES = {"string", "integer", "number", "boolean", "object", "array", "null"}

PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}


ANYTHING = {"type": sorted(TYPES)}


@pytest.fixture
async def two_requests(clients: Clients, anonymous: Context, linked: LinkRequest) -> None:
    """Cafe 1 is linked by request 1; request 2, for cafe 2, is pending."""
    other = await add_cafe(clients, "Green Fork")
    await links.link_request(anonymous, other.id, OTHER_CHAT)


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, found) for path, item in OPENAPI["paths"].items() for method, found in item.items()]


def schemas(node: Any) -> list[dict[str, Any]]:
    """Return every schema in a part of the document, with the schemas inside them."""
    if isinstance(node, list):
        return [found for item in node for found in schemas(item)]
    if not isinstance(node, dict):
        return []
    below = [found for name, value in node.items() if name != "schema" for found in schemas(value)]
    return below + (_schema(node["schema"]) if "schema" in node else [])


def _schema(schema: dict[str, Any]) -> list[dict[str, Any]]:
    inner = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return [schema, *(found for child in inner for found in _schema(child))]


def misfits(schema: dict[str, Any], value: Any, place: str = "$") -> list[str]:
    """Return the places where `value` does not fit `schema`, for the part of JSON Schema that our document uses."""
    allowed = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if not any(isinstance(value, PYTHON_TYPES[name]) for name in allowed) or (
        isinstance(value, bool) and "boolean" not in allowed
    ):
        return [f"{place}: {value!r} is not {allowed}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{place}: {value!r} is not in {schema['enum']}"]
    if isinstance(value, dict):
        properties = schema.get("properties", dict.fromkeys(value, ANYTHING))
        unknown = [f"{place}: {name} is not described" for name in value.keys() - properties.keys()]
        missing = [f"{place}: {name} is missing" for name in set(schema.get("required", ())) - value.keys()]
        below = [
            problem
            for name in value.keys() & properties.keys()
            for problem in misfits(properties[name], value[name], f"{place}.{name}")
        ]
        return unknown + missing + below
    if isinstance(value, list):
        return [problem for item in value for problem in misfits(schema["items"], item, f"{place}[]")]
    return []


def described(method: str, path: str, status: str) -> dict[str, Any]:
    content = OPENAPI["paths"][PREFIX + path][method]["responses"][status]["content"]
    schema: dict[str, Any] = content["application/json"]["schema"]
    return schema


async def test_the_document_is_public(called: httpx.AsyncClient) -> None:
    """The document is public."""
    assert (await called.get(f"{PREFIX}/openapi.json")).json() == OPENAPI


def test_the_document_has_the_required_members() -> None:
    """The document has the members that the specification requires."""
    assert re.fullmatch(r"3\.1\.\d+", OPENAPI["openapi"])
    assert {"title", "version"} <= OPENAPI["info"].keys()
    assert all(path.startswith("/") for path in OPENAPI["paths"])


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_described(route: Route) -> None:
    """Every route has an operation with the status of its success."""
    assert str(route.status) in OPENAPI["paths"][PREFIX + route.path][route.method.lower()]["responses"]


def test_only_routes_are_described() -> None:
    """Every described operation has a route."""
    assert {(method.upper(), path) for method, path, _ in operations()} == {
        (route.method, PREFIX + route.path) for route in ROUTES
    }


def test_operation_ids_are_unique() -> None:
    """Generated clients name their functions by these ids."""
    ids = [operation["operationId"] for _, _, operation in operations()]

    assert len(set(ids)) == len(ids)


def test_path_parameters_are_described() -> None:
    """Each variable of a path is a required parameter, and no parameter is described twice."""
    for method, path, operation in operations():
        parameters = operation.get("parameters", [])
        in_path = {parameter["name"] for parameter in parameters if parameter["in"] == "path" and parameter["required"]}
        assert in_path == set(re.findall(r"{(\w+)}", path)), (method, path)
        assert len({(parameter["name"], parameter["in"]) for parameter in parameters}) == len(parameters)


def test_every_answer_is_described() -> None:
    """Each answer has a description, and each error is a problem document."""
    for method, path, operation in operations():
        assert all(response["description"] for response in operation["responses"].values()), (method, path)
        assert PROBLEM_JSON in operation["responses"]["default"]["content"], (method, path)


def test_references_are_defined() -> None:
    """Each reference has a definition."""
    for schema in schemas(OPENAPI["paths"]):
        for part in schema.get("$ref", "#").split("/")[1:]:
            assert part in {"components", "schemas", *OPENAPI["components"]["schemas"]}


def test_types_are_json_types() -> None:
    """Each schema has a JSON type; an enumeration that may be null has null as a value."""
    for schema in schemas(OPENAPI["paths"]):
        types = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type", "object")]
        assert set(types) <= TYPES
        assert "null" not in types or None in schema.get("enum", [None])


def test_only_public_operations_need_no_token() -> None:
    """Every operation except link requests and the authentication has a security scheme."""
    public = {operation["operationId"] for _, _, operation in operations() if "security" not in operation}

    assert public == {"linkRequest", "authenticate"}
    assert OPENAPI["components"]["securitySchemes"]["bearer"]["type"] == "http"


def test_codes_are_listed() -> None:
    """The problem schema has every error code."""
    assert set(OPENAPI["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]) == set(CODES)


def test_enumerations_are_lower_case() -> None:
    """Enumerations have the values of the answers; null is a value of an optional one."""
    values = {value for schema in schemas(OPENAPI["paths"]) for value in schema.get("enum", [])}

    assert {"pending", "manager", "en", "soup", "confirmed", "no_delivery", None} <= values
    assert all(value.islower() for value in values - {None})


@pytest.mark.parametrize(
    ("method", "path", "route", "body"),
    [
        ("get", "/users/me", None, None),
        ("get", "/cafes", None, None),
        ("get", "/cafes/1", "/cafes/{cafe_id}", None),
        ("get", "/cafe-requests", None, None),
        ("post", "/cafe-requests/2/approve", "/cafe-requests/{request_id}/approve", None),
        ("post", "/cafe-requests/2/reject", "/cafe-requests/{request_id}/reject", {"reason": "No"}),
        ("patch", "/cafes/1/notifications", "/cafes/{cafe_id}/notifications", {"enabled": False}),
        ("post", "/cafes/2/link-request", "/cafes/{cafe_id}/link-request", {"tg_chat_id": -1003}),
    ],
)
async def test_answers_are_as_described(
    called: httpx.AsyncClient,
    manager_token: str,
    two_requests: None,
    method: str,
    path: str,
    route: str | None,
    body: dict[str, Any] | None,
) -> None:
    """An answer has exactly the described fields and types."""
    response = await called.request(
        method, PREFIX + path, json=body, headers={"Authorization": f"Bearer {manager_token}"}
    )

    schema = described(method, route or path, str(response.status_code))
    assert misfits(schema, response.json()) == []


async def test_answers_about_ordering_are_as_described(
    called: httpx.AsyncClient, manager_token: str, lunch: Lunch
) -> None:
    """Answers about users, cafes, menus, deadlines and orders fit the document, and so do the bodies of the requests."""
    extras = [{"menu_item_id": str(lunch.cola.id), "quantity": 2}]
    order = {"combo_id": "1", "dish_ids": ["1", "4"], "extras": extras, "notes": "Hot", "tgid": USER_TGID}
    item = {"name": "Tea", "category": "extra", "price": "1.00", "description": "", "is_available": True}
    combo = {"name": "Soup", "categories": ["soup"], "price": "3.00", "description": "", "is_available": True}
    week = [{"weekday": 0, "deadline_time": "10:30", "is_enabled": True, "advance_days": 1}]
    cafe = {"name": "Green Fork", "description": "", "timezone": "UTC", "language": "ru"}
    calls: list[tuple[str, str, str, dict[str, Any]]] = [
        ("post", "/users", "/users", {"tgid": 5, "name": "Olga"}),
        ("post", "/users/managers", "/users/managers", {"tgid": 6, "name": "Pyotr"}),
        ("get", "/users", "/users", {}),
        ("get", "/users/5", "/users/{tgid}", {}),
        ("patch", "/users/5/access", "/users/{tgid}/access", {"is_active": False, "role": "manager"}),
        ("delete", "/users/5", "/users/{tgid}", {}),
        ("post", "/cafes", "/cafes", cafe),
        ("patch", "/cafes/2", "/cafes/{cafe_id}", cafe),
        ("patch", "/cafes/2/status", "/cafes/{cafe_id}/status", {"is_active": True}),
        ("delete", "/cafes/2", "/cafes/{cafe_id}", {}),
        ("post", "/cafes/1/menu", "/cafes/{cafe_id}/menu", item),
        ("patch", "/cafes/1/menu/5", "/cafes/{cafe_id}/menu/{item_id}", item),
        ("get", "/cafes/1/menu", "/cafes/{cafe_id}/menu", {}),
        ("delete", "/cafes/1/menu/6", "/cafes/{cafe_id}/menu/{item_id}", {}),
        ("post", "/cafes/1/combos", "/cafes/{cafe_id}/combos", combo),
        ("patch", "/cafes/1/combos/3", "/cafes/{cafe_id}/combos/{combo_id}", combo),
        ("get", "/cafes/1/combos", "/cafes/{cafe_id}/combos", {}),
        ("delete", "/cafes/1/combos/3", "/cafes/{cafe_id}/combos/{combo_id}", {}),
        ("post", "/orders", "/orders", order | {"cafe_id": "1", "date": lunch.open_date.isoformat()}),
        ("patch", "/orders/1", "/orders/{order_id}", {"notes": "Cold", "dish_ids": ["2", "4"]}),
        ("get", "/orders/1", "/orders/{order_id}", {}),
        ("get", "/orders", "/orders", {}),
        ("get", f"/cafes/1/summary/{lunch.open_date}", "/cafes/{cafe_id}/summary/{date}", {}),
        ("delete", "/orders/1", "/orders/{order_id}", {}),
        ("get", "/orders/availability/week?cafe_id=1", "/orders/availability/week", {}),
        ("get", f"/orders/availability/{lunch.closed_date}?cafe_id=1", "/orders/availability/{date}", {}),
        ("put", "/cafes/1/deadlines", "/cafes/{cafe_id}/deadlines", {"deadlines": week}),
        ("get", "/cafes/1/deadlines", "/cafes/{cafe_id}/deadlines", {}),
    ]
    called.headers["Authorization"] = f"Bearer {manager_token}"

    wrong = []
    for method, path, route, body in calls:
        response = await called.request(method, PREFIX + path, json=body or None)
        wrong += misfits(described(method, route, str(response.status_code)), response.json(), f"{method} {path}")
        if body:
            [content] = OPENAPI["paths"][PREFIX + route][method]["requestBody"]["content"].values()
            wrong += misfits(content["schema"], body, f"{method} {path} sent")

    assert wrong == []


async def test_answers_about_notifications_are_as_described(
    called: httpx.AsyncClient, clients: Clients, manager_token: str, announced: Notification
) -> None:
    """Answers about notifications fit the document, also a text, a truth value and null."""
    calls = [
        ("get", "/notifications", "/notifications"),
        ("post", "/notifications/1/retry", "/notifications/{notification_id}/retry"),
        ("get", f"/cafes/1/notification-preview/{announced.date}", "/cafes/{cafe_id}/notification-preview/{date}"),
        ("post", f"/cafes/1/deadlines/{announced.date}/announce", "/cafes/{cafe_id}/deadlines/{date}/announce"),
        ("delete", "/orders/1", "/orders/{order_id}"),
        ("get", f"/cafes/1/notification-preview/{announced.date}", "/cafes/{cafe_id}/notification-preview/{date}"),
    ]
    await change(clients, announced, status=NotificationStatus.FAILED, error="no such chat")
    called.headers["Authorization"] = f"Bearer {manager_token}"

    wrong = []
    for method, path, route in calls:
        response = await called.request(method, PREFIX + path)
        wrong += misfits(described(method, route, str(response.status_code)), response.json(), f"{method} {path}")

    assert wrong == []


async def test_answers_about_recommendations_are_as_described(
    settings: Settings, clients: Clients, manager_token: str, lunch: Lunch, people: None
) -> None:
    """Recommendations, statistics, running and paused runs, and keys fit the document."""
    await add_ordering_users(clients, lunch, 2)
    await store_recommendations(clients, [(FIRST_ORDERING_USER, RECOMMENDATION)], datetime.now(UTC))
    run = RecommendationRun(date=date(2026, 3, 4), request_budget=1, started_at=datetime.now(UTC))
    run.pause(PauseReason.QUOTA_EXHAUSTED, datetime.now(UTC))
    async with clients.db() as session:
        session.add(run)
    calls = [
        ("get", f"/users/{FIRST_ORDERING_USER}/recommendations", "/users/{tgid}/recommendations"),
        ("get", f"/users/{FIRST_ORDERING_USER + 1}/recommendations", "/users/{tgid}/recommendations"),
        ("get", "/recommendation-runs/2026-03-04", "/recommendation-runs/{date}"),
        ("post", "/recommendation-runs", "/recommendation-runs"),
        ("get", "/gemini-keys", "/gemini-keys"),
    ]

    wrong = []
    async with calling_api(settings.model_copy(update={"gemini_api_keys": GEMINI_KEYS})) as api:
        for method, path, route in calls:
            response = await api.request(method, PREFIX + path, headers={"Authorization": f"Bearer {manager_token}"})
            wrong += misfits(described(method, route, str(response.status_code)), response.json(), f"{method} {path}")

    assert wrong == []


RECOMMENDATION = Recommendation(
    summary="You like soup.",
    tips=("Try the salad.",),
    stats=OrderStats(orders_count=5, favorite_dishes=(FavoriteDish(name="Borscht", count=3),)),
    generated_at=datetime.now(UTC),
)


async def test_problems_are_as_described(called: httpx.AsyncClient) -> None:
    """Problem documents fit the document."""
    bodies = [(await called.get(PREFIX + path)).json() for path in ("/users/me", "/cafes?nonsense=1", "/nope")]

    assert [misfits(OPENAPI["components"]["schemas"]["Problem"], body) for body in bodies] == [[], [], []]


def test_no_two_stored_operations_have_the_same_route() -> None:
    """Each stored operation has a separate route."""
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES) == len(STORED)
