"""Order summaries as CSV for spreadsheets."""

import codecs
import csv
import io
import re
from typing import Any

import httpx
import pytest

from app.rest.problem import PROBLEM_JSON
from app.rest.summary_csv import summary_csv
from tests.apis import an_order
from tests.conftest import USER_TGID, Lunch

CSV = {"Accept": "text/csv"}

FORMULAS = (
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "=cmd|' /C calc'!A0",
    "-2+3;4",
    "=1",
    "+7 900 1234567",
    " =1+1",
    'hi;=HYPERLINK("http://evil";"x")',
    "hi, =1+1",
    'hi";=1+1',
    "a\t=1+1",
    "a\n+1",
    "＝1+1",
    "；＝1",
)

TEXTS = (
    'Без лука, "пожалуйста"; и 🌶\nне острое',
    "a\r\nb\rc",
    "a,b;c\td",
    '"',
    "''",
    "'=1+1",
    "a - b",
    "x|y",
    "100%",
    "a=b",
    "1,5",
    "\u202eabc",
)

NOT_CSV: tuple[str | None, ...] = (
    None,
    "",
    "*/*",
    "application/json",
    "application/*",
    "application/json, text/csv",
    "text/csv, application/json",
    "application/json, text/csv;q=0.5",
    "text/csv;q=0.5, application/json",
    "text/csv;q=0",
    "text/csv;q=0, */*",
    "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "text/html",
    "image/png",
    "nonsense",
    "text",
    "/",
    "//",
    ";",
    ",,,",
    ";q=1",
    "text/csv/csv",
    '"text/csv',
    "a/b;q=" + "9" * 5000,
    "*/*," * 2000,
)

PREFERS_CSV = (
    "text/csv",
    "TEXT/CSV",
    "text/*",
    "text/csv; charset=utf-8",
    "text/csv;q=0.9, application/json;q=0.8",
    "text/csv, */*;q=0.1",
    "application/xml, text/csv;q=0.1",
)


def read(body: bytes) -> list[list[str]]:
    """Parse CSV as a program that knows the byte order mark."""
    return list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline="")))


def a_summary(name: str = "Borscht", notes: str = "Hot") -> dict[str, Any]:
    """Return a summary of REST in which everything has the same name."""
    return {
        "cafe_id": "1",
        "cafe_name": name,
        "date": "2026-01-01",
        "orders_count": 1,
        "total_price": "13.00",
        "combos": [{"id": "1", "name": name, "quantity": 1, "amount": "10.00"}],
        "dishes": [{"category": "soup", "dishes": [{"id": "1", "name": name, "quantity": 1}]}],
        "extras": [{"id": "5", "name": name, "quantity": 2, "amount": "3.00"}],
        "notes": [{"tgid": USER_TGID, "user_name": name, "notes": notes}],
    }


@pytest.fixture
def rest(called: httpx.AsyncClient, manager_token: str) -> httpx.AsyncClient:
    """A REST client with a manager's token and without an Accept header."""
    called.headers["Authorization"] = f"Bearer {manager_token}"
    del called.headers["Accept"]
    return called


@pytest.fixture
def path(lunch: Lunch) -> str:
    return f"/api/v1/cafes/{lunch.cafe.id}/summary/{lunch.open_date}"


async def order(rest: httpx.AsyncClient, lunch: Lunch, **changes: object) -> None:
    response = await rest.post("/api/v1/orders", json=an_order(lunch, date=str(lunch.open_date), **changes))
    assert response.status_code == 201


async def test_a_client_that_prefers_csv_gets_csv(rest: httpx.AsyncClient, path: str, lunch: Lunch) -> None:
    """The table has a row for each combo, dish, extra and note, a total, and a byte order mark, which Excel needs."""
    cola, cake = ({"menu_item_id": item.id, "quantity": 2} for item in (lunch.cola, lunch.cake))
    await order(rest, lunch, extras=[cola, cake], notes="Без лука")
    await order(rest, lunch, tgid=USER_TGID, extras=[cola], dish_ids=[lunch.other_soup.id, lunch.main.id])

    response = await rest.get(path, headers=CSV)

    assert (response.status_code, response.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert response.content.startswith(codecs.BOM_UTF8)
    assert read(response.content) == [
        ["section", "category", "name", "quantity", "amount", "notes"],
        ["combo", "", "Business lunch", "2", "20.00", ""],
        ["dish", "soup", "Borscht", "1", "", ""],
        ["dish", "soup", "Solyanka", "1", "", ""],
        ["dish", "main", "Pelmeni", "2", "", ""],
        ["extra", "extra", "Cola", "4", "6.00", ""],
        ["extra", "extra", "Honey cake", "2", "6.50", ""],
        ["note", "", "Maria", "", "", "Без лука"],
        ["total", "", "orders", "2", "32.50", ""],
    ]


async def test_the_table_has_the_names_of_the_orders(rest: httpx.AsyncClient, path: str, lunch: Lunch) -> None:
    """The table has the names that combos, dishes and extras were ordered by, also if the menu has others now."""
    await order(rest, lunch, extras=[{"menu_item_id": lunch.cola.id, "quantity": 1}])
    before = await rest.get(path, headers=CSV)
    of_cafe = f"/api/v1/cafes/{lunch.cafe.id}"
    await rest.patch(f"{of_cafe}/menu/{lunch.soup.id}", json={"name": "Pea soup with bacon"})
    await rest.patch(f"{of_cafe}/menu/{lunch.cola.id}", json={"name": "Champagne"})
    await rest.patch(f"{of_cafe}/combos/{lunch.combo.id}", json={"name": "Feast"})

    assert (await rest.get(path, headers=CSV)).text == before.text


async def test_a_day_without_orders_is_a_table(rest: httpx.AsyncClient, path: str) -> None:
    """The table of a day without orders has the header and a total of zero."""
    response = await rest.get(path, headers=CSV)

    assert read(response.content)[1:] == [["total", "", "orders", "0", "0.00", ""]]


async def test_a_client_that_does_not_prefer_csv_gets_json(rest: httpx.AsyncClient, path: str) -> None:
    """JSON is the answer without a preference, with an equal one, and with a malformed header."""
    answers = {accept: await rest.get(path, headers={} if accept is None else {"Accept": accept}) for accept in NOT_CSV}

    assert {accept: answer.headers["content-type"] for accept, answer in answers.items()} == dict.fromkeys(
        NOT_CSV, "application/json"
    )
    assert {answer.status_code for answer in answers.values()} == {200}


async def test_how_csv_is_preferred(rest: httpx.AsyncClient, path: str) -> None:
    """The preference is by type, in any case, by weight and by wildcard (RFC 9110, section 12.5.1)."""
    answers = {accept: await rest.get(path, headers={"Accept": accept}) for accept in PREFERS_CSV}

    assert {accept: answer.headers["content-type"] for accept, answer in answers.items()} == dict.fromkeys(
        PREFERS_CSV, "text/csv; charset=utf-8"
    )


@pytest.mark.parametrize("text", FORMULAS)
def test_nothing_is_a_formula(text: str) -> None:
    """A text that a spreadsheet would take for a formula gets an apostrophe, wherever it comes from."""
    rows = read(summary_csv(a_summary(text, text)).content)[1:]

    pieces = [piece.strip() for row in rows for cell in row for piece in re.split('[;,"\t\r\n]', cell)]
    assert [piece for piece in pieces if piece[:1] in {*"=+-@|%＝＋－＠"} and piece] == []
    assert sum("'" in cell for row in rows for cell in row) == 5


async def test_texts_of_users_are_not_formulas(rest: httpx.AsyncClient, path: str, lunch: Lunch) -> None:
    """Names of users, dishes and extras, and notes go through an order into the table without a formula."""
    rest_of_cafe = f"/api/v1/cafes/{lunch.cafe.id}"
    await rest.patch(f"{rest_of_cafe}/menu/{lunch.soup.id}", json={"name": "=1+1"})
    await rest.patch(f"{rest_of_cafe}/menu/{lunch.cola.id}", json={"name": "@cola"})
    await rest.patch(f"{rest_of_cafe}/combos/{lunch.combo.id}", json={"name": "+combo"})
    await rest.post("/api/v1/users", json={"tgid": 5, "name": "-1+1"})
    await order(rest, lunch, tgid=5, notes="=1+1", extras=[{"menu_item_id": lunch.cola.id}])

    response = await rest.get(path, headers=CSV)

    texts = [cell for row in read(response.content) for cell in row if cell.startswith("'")]
    assert texts == ["'+combo", "'=1+1", "'@cola", "'-1+1", "'=1+1"]


@pytest.mark.parametrize("text", TEXTS)
def test_other_texts_do_not_change(text: str) -> None:
    """Commas, quotes, lines and every alphabet are unchanged when the table is read."""
    combo, dish, extra, note, _ = read(summary_csv(a_summary(text, text)).content)[1:]

    assert (combo[2], dish[2], extra[2], note[2], note[5]) == (text,) * 5


def test_numbers_are_numbers() -> None:
    """Numbers get no apostrophe."""
    rows = read(summary_csv(a_summary()).content)

    assert [row[3] for row in rows] == ["quantity", "1", "1", "2", "", "1"]
    assert [row[4] for row in rows] == ["amount", "10.00", "", "3.00", "", "13.00"]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/cafes/999/summary/2026-01-01", 404, "NOT_FOUND"),
        ("/cafes/1/summary/x", 400, "BAD_INPUT"),
        ("/cafes/1/summary/2026-01-01?nonsense=1", 400, "BAD_INPUT"),
        ("/cafes/1/summary/2026-01-01/x", 404, "NOT_FOUND"),
    ],
)
async def test_an_error_is_a_problem_document(rest: httpx.AsyncClient, path: str, status: int, code: str) -> None:
    """A client that prefers CSV gets errors as JSON."""
    response = await rest.get(f"/api/v1{path}", headers=CSV)

    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM_JSON)
    assert response.json()["code"] == code


async def test_a_table_is_for_managers(rest: httpx.AsyncClient, path: str, user_token: str) -> None:
    """A user gets a problem document."""
    response = await rest.get(path, headers=CSV | {"Authorization": f"Bearer {user_token}"})

    assert (response.status_code, response.headers["content-type"]) == (403, PROBLEM_JSON)


async def test_each_form_has_its_tag(rest: httpx.AsyncClient, path: str) -> None:
    """CSV and JSON have different tags, because they are two answers at one URL."""
    as_json, as_csv = await rest.get(path), await rest.get(path, headers=CSV)
    tags = [response.headers["etag"] for response in (as_json, as_csv)]

    again = [
        (await rest.get(path, headers=accept | {"If-None-Match": tag})).status_code
        for accept in ({}, CSV)
        for tag in tags
    ]

    assert again == [304, 200, 200, 304]


async def test_the_vary_header_names_what_the_answer_depends_on(rest: httpx.AsyncClient, path: str) -> None:
    """The Vary header has Authorization and Accept (RFC 9110, section 12.5.5), also in a 304."""
    as_json, as_csv = await rest.get(path), await rest.get(path, headers=CSV)
    known = await rest.get(path, headers=CSV | {"If-None-Match": as_csv.headers["etag"]})

    for answer in (as_json, as_csv, known):
        assert {"Authorization", "Accept"} <= {name.strip() for name in answer.headers["vary"].split(",")}


async def test_head_is_get_without_a_body(rest: httpx.AsyncClient, path: str) -> None:
    """HEAD has the headers of GET and no body (RFC 9110, section 9.3.2)."""
    got, head = await rest.get(path, headers=CSV), await rest.head(path, headers=CSV)

    assert (head.status_code, head.headers["content-type"], head.headers["etag"]) == (
        200,
        "text/csv; charset=utf-8",
        got.headers["etag"],
    )
