"""GraphQL over HTTP: https://graphql.github.io/graphql-over-http/draft/."""

import re
from typing import Any

import httpx
import pytest

from app.clients import Clients
from app.models import Cafe, LinkRequest
from app.settings import Settings
from tests.apis import calling_api, rows
from tests.conftest import MANAGER_TGID

CODE = re.compile(r'"code":"(\w+)"')

JSON = "application/json"
GRAPHQL_RESPONSE = "application/graphql-response+json"

NOT_EXECUTED = {
    "syntax": "{ me { tgid ",
    "empty": " ",
    "unknown field": "{ nope }",
    "unknown argument": "{ me(x: 1) { tgid } }",
    "missing argument": "{ cafe { id } }",
    "leaf with a selection": "{ me { tgid { x } } }",
    "object without a selection": "{ me }",
    "wrong literal": '{ cafes(first: "x") { nodes { id } } }',
    "wrong enumeration": "{ linkRequests(status: NOPE) { nodes { id } } }",
    "unused variable": "query ($id: ID = 1) { me { tgid } }",
    "unknown variable": "{ cafe(id: $id) { id } }",
    "variable of a wrong type": "query ($id: Int = 1) { cafe(id: $id) { id } }",
    "variable of an unknown type": "query ($id: Nope) { me { tgid } }",
    "variable of an output type": "query ($id: User) { me { tgid } }",
    "variable with a wrong default": 'query ($n: Int = "x") { cafes(first: $n) { nodes { id } } }',
    "two variables of a name": "query ($id: ID!, $id: ID!) { cafe(id: $id) { id } }",
    "fragment cycle": "{ ...f } fragment f on Query { ...f }",
    "too deep": "{ " + "a { " * 30 + "b" + " }" * 31,
    "far too deep": "{ " + "a { " * 600 + "b" + " }" * 601,
    "too many aliases": "{ " + " ".join(f"a{n}: me {{ tgid }}" for n in range(51)) + " }",
    "too many directives": "{ me { tgid " + "@include(if: true) " * 51 + "} }",
    "too costly": "{ " + "cafes(first: 100) { nodes { id name description } } " * 40 + "}",
    "too many tokens": "{ me { " + "tgid " * 2000 + "} }",
    "too long": "{ me { tgid } } #" + "x" * 20_000,
    "too many comments": "{ me { tgid } }" + "#\n" * 2_000,
    "too many fields of one name": "{ " + "me { tgid } " * 140 + "}",
    "several introspections": "{ " + " ".join(f"a{n}: __schema {{ types {{ name }} }}" for n in range(20)) + " }",
    "too costly with a variable": "query ($n: Int! = 100) { "
    + " ".join(f"a{n}: cafes(first: $n) {{ nodes {{ id name description }} }}" for n in range(30))
    + " }",
    "unicode": '{ cafes(after: "\\ud800") { nodes { id } } }',
}

NOT_A_REQUEST = {
    "batch": b'[{"query": "{ me { tgid } }"}]',
    "empty batch": b"[]",
    "number": b"42",
    "string": b'"{ me { tgid } }"',
    "null": b"null",
    "true": b"true",
    "bad UTF-8": b'{"query": "\xff"}',
    "UTF-16": '{"query": "{ me { tgid } }"}'.encode("utf-16"),
    "nothing": b"",
    "half": b'{"query": ',
    "nested": b"[" * 100_000,
    "NaN": b'{"query": "{ me { tgid } }", "variables": {"a": NaN}}',
    "no query": b"{}",
    "query is null": b'{"query": null}',
    "query is a number": b'{"query": 1}',
    "query is a list": b'{"query": ["{ me { tgid } }"]}',
    "variables are a list": b'{"query": "{ me { tgid } }", "variables": []}',
    "variables are a string": b'{"query": "{ me { tgid } }", "variables": "{}"}',
    "extensions are a list": b'{"query": "{ me { tgid } }", "extensions": []}',
    "operation name is a number": b'{"query": "{ me { tgid } }", "operationName": 42}',
    "operation name is a list": b'{"query": "{ me { tgid } }", "operationName": [1]}',
    "only a fragment": b'{"query": "fragment f on User { tgid }"}',
    "operation name is unknown": b'{"query": "query A { me { tgid } }", "operationName": "B"}',
}


@pytest.fixture
def graphql(called: httpx.AsyncClient, manager_token: str) -> httpx.AsyncClient:
    """A client with a manager's token."""
    called.headers["Authorization"] = f"Bearer {manager_token}"
    return called


async def ask(graphql: httpx.AsyncClient, query: str, accept: str = JSON, **request: Any) -> httpx.Response:
    return await graphql.post("/graphql", json={"query": query, **request}, headers={"Accept": accept})


def codes(response: httpx.Response) -> set[str]:
    return {error["extensions"]["code"] for error in response.json()["errors"]}


@pytest.mark.parametrize(("accept", "status"), [(JSON, 200), (GRAPHQL_RESPONSE, 400)])
async def test_an_invalid_document_is_not_executed(graphql: httpx.AsyncClient, accept: str, status: int) -> None:
    """The answer has a code and no `data`; only the newer media type has the status 400."""
    responses = {name: await ask(graphql, document, accept) for name, document in NOT_EXECUTED.items()}

    assert {
        name: (codes(response), "data" in response.json(), response.status_code) for name, response in responses.items()
    } == dict.fromkeys(NOT_EXECUTED, ({"GRAPHQL_INVALID"}, False, status))


@pytest.mark.parametrize(
    "accept", [JSON, GRAPHQL_RESPONSE, f"{GRAPHQL_RESPONSE}, {JSON};q=0.9", f"nonsense, {GRAPHQL_RESPONSE}", "*/*"]
)
async def test_an_answer_has_the_accepted_type(graphql: httpx.AsyncClient, accept: str) -> None:
    """Only clients that accept the newer media type get it."""
    response = await ask(graphql, "{ me { tgid } }", accept)

    expected = GRAPHQL_RESPONSE if GRAPHQL_RESPONSE in accept else JSON
    assert response.headers["content-type"].split(";")[0] == expected
    assert response.json() == {"data": {"me": {"tgid": MANAGER_TGID}}}


@pytest.mark.parametrize(("accept", "status"), [(JSON, 200), (GRAPHQL_RESPONSE, 400)])
async def test_a_wrong_variable_is_bad_input(graphql: httpx.AsyncClient, accept: str, status: int) -> None:
    """The error names the variable, and nothing is executed."""
    response = await ask(graphql, "query ($id: ID!) { cafe(id: $id) { id } }", accept, variables={"id": 1.5})

    [error] = response.json()["errors"]
    assert error["extensions"] == bad_input("id", "ID cannot represent value: 1.5")
    assert ("data" in response.json(), response.status_code) == (False, status)


@pytest.mark.parametrize("accept", [JSON, GRAPHQL_RESPONSE])
async def test_an_executed_operation_is_answered_with_200(graphql: httpx.AsyncClient, accept: str) -> None:
    """An operation with a failed field has `data` and the status 200."""
    response = await ask(graphql, "{ cafe(id: 999) { id } }", accept)

    assert (response.status_code, response.json()["data"], codes(response)) == (200, None, {"NOT_FOUND"})


async def test_null_for_a_required_argument_is_bad_input(graphql: httpx.AsyncClient) -> None:
    """A nullable variable in a required argument is found during the execution, and is BAD_INPUT as well."""
    response = await ask(graphql, "query ($n: Int = 5) { cafes(first: $n) { nodes { id } } }", variables={"n": None})

    [error] = response.json()["errors"]
    detail = "Expected variable '$n' provided to non-null type 'Int!' not to be None."
    assert error["extensions"] == bad_input("first", detail)


LITERALS = {
    "linkRequest(cafeId: 1, tgChatId: 0)": "tgChatId",
    'linkRequest(cafeId: 1, tgChatId: "1")': "tgChatId",
    "linkRequest(cafeId: 1, tgChatId: 4503599627370496)": "tgChatId",
    f"linkRequest(cafeId: 1, tgChatId: {'9' * 5000})": "tgChatId",
    "linkRequest(cafeId: 1, tgChatId: 1.5)": "tgChatId",
    f"linkRequest(cafeId: {'9' * 5000}, tgChatId: 1)": "cafeId",
    'linkRequest(cafeId: "x", tgChatId: 1)': "cafeId",
}


def bad_input(field: str, detail: str) -> dict[str, Any]:
    """Return the extensions of a BAD_INPUT error that names one field."""
    return {"code": "BAD_INPUT", "details": {"field": field, "errors": [{"field": field, "detail": detail}]}}


async def test_a_literal_is_checked_like_a_variable(graphql: httpx.AsyncClient, clients: Clients, cafe: Cafe) -> None:
    """A wrong literal in the document is BAD_INPUT, and the error names the argument."""
    before = await rows(clients)

    errors = {
        literal: (await ask(graphql, f"mutation {{ {literal} {{ id }} }}")).json()["errors"] for literal in LITERALS
    }

    for literal, field in LITERALS.items():
        [error] = errors[literal]
        [problem] = error["extensions"]["details"]["errors"]
        assert error["extensions"] == bad_input(field, problem["detail"])
    assert await rows(clients) == before


PAGES = (
    "query ($n: Int!) { "
    + " ".join(f"a{n}: cafes(first: $n) {{ nodes {{ id name description }} }}" for n in range(30))
    + " }"
)


async def test_a_variable_costs_its_value(graphql: httpx.AsyncClient, cafe: Cafe) -> None:
    """A page size of 20 is within the cost, 100 is beyond it, and a wrong value is BAD_INPUT, whatever came before."""
    answers = [await ask(graphql, PAGES, variables={"n": n}) for n in (20, 100, 20, 101, "20", None)]

    assert [codes(answer) if "errors" in answer.json() else None for answer in answers] == [
        None,
        {"GRAPHQL_INVALID"},
        None,
        {"BAD_INPUT"},
        {"BAD_INPUT"},
        {"BAD_INPUT"},
    ]


NOTHING_TO_EXECUTE: dict[str, dict[str, Any]] = {
    "no query": {},
    "null": {"query": None},
    "empty": {"query": ""},
    "white space": {"query": " \n"},
    "a comment": {"query": "# x"},
    "only a fragment": {"query": "fragment f on Query { me { tgid } }"},
    "unknown name": {"query": "query A { me { tgid } }", "operationName": "B"},
    "empty name": {"query": "query A { me { tgid } }", "operationName": ""},
    "several operations": {"query": "query A { me { tgid } } query B { me { tgid } }"},
    "several subscriptions": {
        "query": "subscription A { linkRequestUpdates { id } } subscription B { linkRequestUpdates { id } }"
    },
    "too long": {"query": "{ me { tgid } } #" + "x" * 20_000},
    "too costly": {"query": PAGES, "variables": {"n": 100}},
}


async def test_a_stream_without_an_operation_is_refused(graphql: httpx.AsyncClient) -> None:
    """A request for an event stream that has nothing to execute gets the same code as one for a single answer."""
    answers = {
        name: await graphql.post("/graphql", json=request, headers={"Accept": "text/event-stream"})
        for name, request in NOTHING_TO_EXECUTE.items()
    }

    assert {name: tuple(CODE.findall(answer.text)) for name, answer in answers.items()} == dict.fromkeys(
        NOTHING_TO_EXECUTE, ("GRAPHQL_INVALID",)
    )


async def test_a_malformed_request_is_answered_in_json(called: httpx.AsyncClient) -> None:
    """The answer to a malformed body is 400 with an error that has a code."""
    responses = {
        name: await called.post("/graphql", content=body, headers={"Content-Type": JSON})
        for name, body in NOT_A_REQUEST.items()
    }

    assert {
        name: (
            response.status_code,
            response.headers["content-type"],
            codes(response) <= {"BAD_INPUT", "GRAPHQL_INVALID"},
        )
        for name, response in responses.items()
    } == dict.fromkeys(NOT_A_REQUEST, (400, JSON, True))


async def test_a_body_of_another_type_is_refused(called: httpx.AsyncClient) -> None:
    """A form on another site can send such types without a preflight, so they are not read."""
    types = ("", "text/plain", "application/x-www-form-urlencoded", "application/graphql")

    responses = [
        await called.post("/graphql", content=b'{"query": "{ __typename }"}', headers={"Content-Type": type_})
        for type_ in types
    ]

    assert [(response.status_code, codes(response)) for response in responses] == [
        (400, {"GRAPHQL_INVALID"}) for _ in types
    ]


async def test_a_form_is_refused(called: httpx.AsyncClient) -> None:
    """The API has no uploads."""
    response = await called.post(
        "/graphql", files={"operations": (None, '{"query": "{ __typename }"}'), "map": (None, "{}")}
    )

    assert (response.status_code, codes(response)) == (400, {"GRAPHQL_INVALID"})


async def test_a_query_may_come_by_get(graphql: httpx.AsyncClient, cafe: Cafe) -> None:
    """GET reads; the variables are JSON in the URL."""
    response = await graphql.get(
        "/graphql",
        params={"query": "query ($id: ID!) { cafe(id: $id) { name } }", "variables": f'{{"id": {cafe.id}}}'},
    )

    assert response.json() == {"data": {"cafe": {"name": cafe.name}}}


async def test_malformed_variables_are_refused_by_get(graphql: httpx.AsyncClient) -> None:
    """Variables in the URL are validated like those in a body."""
    variables = ("[", "[]", "42", "null x", b"\xed\xa0\x80")

    responses = [
        await graphql.get("/graphql", params={"query": "{ me { tgid } }", "variables": wrong}) for wrong in variables
    ]

    assert [(response.status_code, response.headers["content-type"]) for response in responses] == [
        (400, JSON) for _ in variables
    ]


async def test_a_mutation_by_get_is_refused(graphql: httpx.AsyncClient, clients: Clients, linked: LinkRequest) -> None:
    """A link on another site cannot change anything."""
    before = await rows(clients)

    response = await graphql.get("/graphql", params={"query": "mutation { unlink(cafeId: 1) { id } }"})

    assert (response.is_client_error, codes(response)) == (True, {"GRAPHQL_INVALID"})
    assert await rows(clients) == before


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_subscription_needs_a_stream(graphql: httpx.AsyncClient, method: str) -> None:
    """A subscription is refused if the client accepts no event stream."""
    query = "subscription { linkRequestUpdates { id } }"
    request = {"params": {"query": query}} if method == "GET" else {"json": {"query": query}}

    response = await graphql.request(method, "/graphql", **request)  # type: ignore[arg-type]

    assert (response.status_code, codes(response)) == (400, {"GRAPHQL_INVALID"})


async def test_other_methods_are_not_allowed(called: httpx.AsyncClient) -> None:
    """The 405 answer names the allowed methods."""
    responses = [await called.request(method, "/graphql") for method in ("PUT", "PATCH", "DELETE")]

    assert [(response.status_code, response.headers["allow"], codes(response)) for response in responses] == [
        (405, "GET, POST", {"GRAPHQL_INVALID"})
    ] * 3


async def test_a_document_may_have_several_operations(graphql: httpx.AsyncClient) -> None:
    """The name of the operation selects one."""
    response = await ask(graphql, "query A { me { tgid } } query B { me { name } }", operationName="B")

    assert response.json() == {"data": {"me": {"name": "Maria"}}}


async def test_one_of_several_operations_must_be_named(graphql: httpx.AsyncClient) -> None:
    """Without a name no operation is executed (GraphQL, section 6.1)."""
    response = await ask(graphql, "query A { me { tgid } } query B { me { name } }")

    assert codes(response) == {"GRAPHQL_INVALID"}


async def test_a_failed_root_field_fails_the_operation(graphql: httpx.AsyncClient) -> None:
    """Root fields are never null, so the answer has no data; the error has the path."""
    response = await ask(graphql, "{ a: me { tgid } b: cafe(id: 999) { id } }")

    assert response.json()["data"] is None
    assert [error["path"] for error in response.json()["errors"]] == [["b"]]


async def test_sibling_fields_run_concurrently(graphql: httpx.AsyncClient, cafe: Cafe) -> None:
    """Fields of one operation run at the same time and do not disturb each other."""
    fields = " ".join(f"a{n}: cafe(id: {cafe.id}) {{ name }} b{n}: me {{ name }}" for n in range(20))

    response = await ask(graphql, f"{{ {fields} }}")

    assert len(response.json()["data"]) == 40


async def test_a_link_request_has_its_cafe(graphql: httpx.AsyncClient, linked: LinkRequest) -> None:
    """A link request has its cafe, with the chat for managers."""
    response = await ask(graphql, "{ linkRequests { nodes { cafe { name tgChatId } } } }")

    assert response.json()["data"]["linkRequests"]["nodes"] == [
        {"cafe": {"name": linked.cafe.name, "tgChatId": linked.tg_chat_id}}
    ]


async def test_a_connection_has_page_info(graphql: httpx.AsyncClient, linked: LinkRequest) -> None:
    """The page info has the cursors of this page, and whether there are more pages on either side."""
    response = await ask(
        graphql,
        "{ cafes { edges { cursor node { id } } nodes { id }"
        " pageInfo { startCursor endCursor hasNextPage hasPreviousPage } } }",
    )

    cafes = response.json()["data"]["cafes"]
    [edge] = cafes["edges"]
    assert [edge["node"]] == cafes["nodes"]
    assert cafes["pageInfo"] == {
        "startCursor": edge["cursor"],
        "endCursor": edge["cursor"],
        "hasNextPage": False,
        "hasPreviousPage": False,
    }


async def test_introspection_can_be_disabled(settings: Settings, people: None) -> None:
    """The setting disables introspection at the endpoint."""
    async with calling_api(settings.model_copy(update={"graphql_introspection": False})) as api:
        response = await ask(api, "{ __schema { queryType { name } } }")

    assert codes(response) == {"GRAPHQL_INVALID"}


@pytest.mark.parametrize(("introspection", "served"), [(True, (200, "text/html")), (False, (404, JSON))])
async def test_graphiql_needs_introspection(
    settings: Settings, people: None, introspection: bool, served: tuple[int, str]
) -> None:
    """A browser gets GraphiQL only if it may read the schema."""
    async with calling_api(settings.model_copy(update={"graphql_introspection": introspection})) as api:
        page = await api.get("/graphql", headers={"Accept": "text/html"})

    assert (page.status_code, page.headers["content-type"].split(";")[0]) == served
