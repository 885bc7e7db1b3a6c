"""One BAD_INPUT error names every wrong field of a call, in both APIs."""

from typing import Any

import httpx
import pytest

from app.clients import Clients
from app.models.orders import NOTES_MAX_CHARACTERS
from app.validation import DESCRIPTION_MAX_CHARACTERS
from tests.apis import ApiClient, an_order, rows
from tests.conftest import Lunch
from tests.schema.refusals import Refused, expected, operations, outcomes

TOO_LONG = "x" * (DESCRIPTION_MAX_CHARACTERS + 1)
NOTES = "x" * (NOTES_MAX_CHARACTERS + 1)

CAFE: dict[str, Any] = {"name": " ", "description": TOO_LONG, "timezone": "Mars/Olympus"}
ITEM: dict[str, Any] = {"name": "a\nb", "description": TOO_LONG, "price": "-1"}
COMBO: dict[str, Any] = {"name": "", "description": "\0", "categories": ["soup", "soup"], "price": "-1"}
BAD_EXTRAS = [{"menu_item_id": 5, "quantity": 0}, {"menu_item_id": 6, "quantity": 21}]

REFUSALS = (
    Refused("create_cafe", CAFE, fields=("name", "description", "timezone")),
    Refused("update_cafe", {"id": 1} | CAFE, fields=("name", "description", "timezone")),
    Refused("create_menu_item", {"cafe_id": 1, "category": "extra"} | ITEM, fields=("name", "description", "price")),
    Refused("update_menu_item", {"cafe_id": 1, "id": 1} | ITEM, fields=("name", "description", "price")),
    Refused("update_menu_item", {"cafe_id": "x", "id": 0, "name": "Tea"}, fields=("id", "cafe_id")),
    Refused(
        "update_menu_item",
        {"cafe_id": "x", "id": 0} | ITEM,
        fields=("id", "cafe_id", "name", "description", "price"),
    ),
    Refused("create_combo", {"cafe_id": 1} | COMBO, fields=("name", "description", "categories", "price")),
    Refused("update_combo", {"cafe_id": 1, "id": 1} | COMBO, fields=("name", "description", "categories", "price")),
    Refused("update_order", {"id": 1, "dish_ids": [1, 2, 3, 4], "notes": NOTES}, fields=("dish_ids", "notes")),
    Refused(
        "orders",
        {"first": 0, "skip": -1, "from_date": "1999-12-31", "to_date": "2100-01-01"},
        fields=("first", "skip", "from_date", "to_date"),
    ),
    Refused("orders", {"from_date": "2026-031", "to_date": "20260131"}, fields=("from_date", "to_date")),
    Refused(
        "set_deadlines.deadlines",
        {"cafe_id": 1, "deadlines": [{"weekday": day, "deadline_time": "10.30"} for day in range(2)]},
        fields=("deadlines", "deadlines"),
    ),
    Refused("notifications", {"first": 101, "skip": -1, "date": "1999-12-31"}, fields=("first", "skip", "date")),
    Refused("cafes", {"first": 101, "search": NOTES}, fields=("first", "search")),
)


@pytest.mark.parametrize("operation", operations(REFUSALS))
async def test_an_error_names_every_wrong_field(
    manager_client: ApiClient, clients: Clients, lunch: Lunch, operation: str
) -> None:
    """A call with several wrong fields gets one error, which names them all, and changes nothing."""
    wrong = [refused for refused in REFUSALS if refused.operation == operation]
    before = await rows(clients)

    assert await outcomes(manager_client, wrong) == expected(wrong)
    assert await rows(clients) == before


async def test_an_error_names_every_wrong_field_of_an_order(user_client: ApiClient, lunch: Lunch) -> None:
    """A wrong date, wrong extras and notes that are too long are named together; each wrong extra is a problem."""
    answer = await user_client("place_order", **an_order(lunch, date="1999-12-31", extras=BAD_EXTRAS, notes=NOTES))

    assert (answer.code, answer.fields) == ("BAD_INPUT", ("date", "extras", "extras", "notes"))


async def test_rest_names_the_place_of_each_problem(called: httpx.AsyncClient, manager_token: str) -> None:
    """A problem inside a list has its index and REST's name of the field; the sentence of the error has all problems."""
    deadlines = [
        {"weekday": 7, "deadline_time": "10:30"},
        {"weekday": -1, "deadline_time": "10:30", "advance_days": 99},
    ]

    response = await called.put(
        "/api/v1/cafes/1/deadlines",
        json={"deadlines": deadlines},
        headers={"Authorization": f"Bearer {manager_token}"},
    )

    problem = response.json()
    places = [error["detail"].partition(": ")[0] for error in problem["errors"]]
    assert {error["field"] for error in problem["errors"]} == {"deadlines"}
    assert places == ["[0].weekday", "[1].weekday", "[1].advance_days"]
    assert problem["detail"] == "; ".join(f"deadlines: {error['detail']}" for error in problem["errors"])


async def test_graphql_names_every_wrong_field_in_one_error(called: httpx.AsyncClient, manager_token: str) -> None:
    """`details.errors` has each field with what is wrong, `details.field` is the first one, the message has them all."""
    document = f"""mutation {{
      setDeadlines(cafeId: 1, deadlines: [{{ weekday: 7, deadlineTime: "10:30", advanceDays: 99 }}]) {{ id }}
      createCafe(name: "", timezone: "Mars", description: "{TOO_LONG}") {{ id }}
    }}"""

    response = await called.post(
        "/graphql", json={"query": document}, headers={"Authorization": f"Bearer {manager_token}"}
    )

    [error] = response.json()["errors"]
    details = error["extensions"]["details"]
    assert [problem["detail"].partition(": ")[0] for problem in details["errors"]] == [
        "[0].weekday",
        "[0].advanceDays",
    ]
    assert details["field"] == "deadlines"
    assert error["message"] == "; ".join(f"deadlines: {problem['detail']}" for problem in details["errors"])


@pytest.mark.parametrize("value", ["10.30", 1030])
async def test_a_wrong_time_is_explained(called: httpx.AsyncClient, manager_token: str, value: object) -> None:
    """The error names the place of a wrong time, and how times are written."""
    response = await called.put(
        "/api/v1/cafes/1/deadlines",
        json={"deadlines": [{"weekday": 0, "deadline_time": value}]},
        headers={"Authorization": f"Bearer {manager_token}"},
    )

    assert response.json()["errors"] == [
        {"field": "deadlines", "detail": "[0].deadline_time: must be a local time such as 10:30 or 10:30:00"}
    ]


@pytest.mark.parametrize("date", ['"2026-031"', "20260131", "5.0"])
async def test_a_wrong_date_in_a_document_is_explained(
    called: httpx.AsyncClient, manager_token: str, date: str
) -> None:
    """The error names the argument of a wrong date that is written in the document, and how dates are written."""
    response = await called.post(
        "/graphql",
        json={"query": f"mutation {{ announceDeadline(cafeId: 1, date: {date}) }}"},
        headers={"Authorization": f"Bearer {manager_token}"},
    )

    [error] = response.json()["errors"]
    assert (error["extensions"]["code"], error["message"]) == (
        "BAD_INPUT",
        "date: must be a date such as 2026-01-31",
    )
