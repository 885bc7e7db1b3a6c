"""The limits of one document."""

from typing import Any

import pytest
from graphql import get_introspection_query, parse

from app.schema.documents import MAX_ERRORS
from app.schema.limits import (
    MAX_ALIASES,
    MAX_CHARACTERS,
    MAX_COMMENTS,
    MAX_COST,
    MAX_DEPTH,
    MAX_DIRECTIVES,
    MAX_TOKENS,
    find_excess,
    find_excess_cost,
    may_exceed_cost,
)
from app.schema.schema import create_schema
from app.services.pagination import DEFAULT_PAGE_SIZE

SCHEMA = create_schema()

HANGS_AFTER_S = 60
"""Much more than these documents need, and much less than a walk over each path of nested fragments needs."""


def complaints(document: str) -> list[str]:
    """Return the errors of these limits alone."""
    return [error.message for error in find_excess(parse(document))]


def complaints_about_cost(document: str, name: str | None = None, /, **variables: object) -> list[str]:
    """Return the errors of the cost with these variables."""
    return [error.message for error in find_excess_cost(SCHEMA._schema, parse(document), name, variables)]


def nested(depth: int) -> str:
    return "{ " + "a { " * (depth - 1) + "a" + " }" * depth


def spread(levels: int, times: int = 2) -> str:
    """Make fragments of which each spreads the next one `times` times: `times ** levels` paths."""
    fragments = (
        f"fragment f{level} on Query {{ {f'...f{level + 1} ' * times} }}"
        if level < levels
        else f"fragment f{level} on Query {{ me {{ name }} }}"
        for level in range(levels + 1)
    )
    return "\n".join(["{ ...f0 }", *fragments])


@pytest.mark.parametrize(
    ("document", "what"),
    [
        (nested(MAX_DEPTH), None),
        (nested(MAX_DEPTH + 1), "depth"),
        ("{ " + " ".join(f"a{n}: me {{ name }}" for n in range(MAX_ALIASES)) + " }", None),
        ("{ " + " ".join(f"a{n}: me {{ name }}" for n in range(MAX_ALIASES + 1)) + " }", "aliases"),
        ("{ me { name " + "@include(if: true) " * MAX_DIRECTIVES + "} }", None),
        ("{ me { name " + "@include(if: true) " * (MAX_DIRECTIVES + 1) + "} }", "directives"),
        (
            "{ ...f " + "@include(if: true) " * (MAX_DIRECTIVES + 1) + "} fragment f on Query { me { name } }",
            "directives",
        ),
        ("{ ... " + "@include(if: true) " * (MAX_DIRECTIVES + 1) + "{ me { name } } }", "directives"),
    ],
)
def test_a_document_above_a_limit_is_refused(document: str, what: str | None) -> None:
    """A document at the limit is valid; with one more it is refused, and the error names the limit."""
    assert [message.split("'s ")[1].split(" ")[0] for message in complaints(document)] == ([what] if what else [])


@pytest.mark.parametrize(
    ("selected", "cost"),
    [
        ("me { name } ", 2),
        ("...named ", 2),
        ("cafes { totalCount } ", 2),
        ("cafes { nodes { id name } } ", 1 + DEFAULT_PAGE_SIZE * 3),
        ("cafes { edges { node { id } } } ", 1 + DEFAULT_PAGE_SIZE * 3),
        ("cafes { ... { nodes { id name } } } ", 1 + DEFAULT_PAGE_SIZE * 3),
        ("cafes { ...page } ", 1 + DEFAULT_PAGE_SIZE * 3),
        ("cafes(first: 7) { nodes { id name } } ", 1 + 7 * 3),
        ("cafes(first: 7) { ...page } ", 1 + 7 * 3),
        ("cafes(first: 1000000) { nodes { id name } } ", 1 + 3),
    ],
)
def test_a_field_of_a_list_costs_each_row(selected: str, cost: int) -> None:
    """A field of a list counts once for each row of a page, in every form of selection."""
    fragments = "fragment named on Query { me { name } } fragment page on CafeConnection { nodes { id name } }"
    copies = MAX_COST // cost

    within, beyond = (f"{{ {selected * n} }} {fragments}" for n in (copies, copies + 1))

    assert complaints(within) == []
    assert complaints(beyond) == [f"This operation's cost is {cost * (copies + 1)}; at most {MAX_COST} is allowed."]


@pytest.mark.parametrize("first", ["-1", "-1000000", "0"])
def test_a_negative_page_size_costs_one_row(first: str) -> None:
    """A page size that will be refused does not lower the cost of other fields."""
    page = "cafes(first: 100) { nodes { id name description } }"
    document = (
        "{ " + " ".join(f"a{n}: {page}" for n in range(30)) + f" b: cafes(first: {first}) {{ nodes {{ id }} }} }}"
    )

    assert any("cost" in message for message in complaints(document))


@pytest.mark.parametrize("first", ["9" * 5000, "1.5", '"a"', "null", "[1]", "{}"])
def test_a_wrong_page_size_is_left_to_other_rules(first: str) -> None:
    """Other rules validate the values of arguments."""
    assert complaints(f"{{ cafes(first: {first}) {{ nodes {{ id }} }} }}") == []


THIRTY_PAGES = " ".join(f"a{n}: cafes(first: $n) {{ nodes {{ id name description }} }}" for n in range(30))


@pytest.mark.parametrize(
    ("definition", "variables", "rows"),
    [
        ("$n: Int!", {"n": 20}, 20),
        ("$n: Int!", {"n": 84}, 84),
        ("$n: Int!", {"n": 100}, 100),
        ("$n: Int!", {"n": 84.0}, 84),
        ("$n: Int = 84", {}, 84),
        ("$n: Int = 100", {}, 100),
        ("$n: Int = 100", {"n": 20}, 20),
        ("$n: Int", {}, 20),
    ],
)
def test_a_variable_costs_its_value(definition: str, variables: dict[str, object], rows: int) -> None:
    """A page size in a variable costs as much as the same number in the document, and so does a default."""
    cost = 30 * (1 + rows * 4)
    expected = [f"This operation's cost is {cost}; at most {MAX_COST} is allowed."] if cost > MAX_COST else []

    assert complaints_about_cost(f"query ({definition}) {{ {THIRTY_PAGES} }}", None, **variables) == expected


@pytest.mark.parametrize("value", [0, -1, 101, 10**30, 1.5, "100", None, True, [1], {}])
def test_a_wrong_page_size_in_a_variable_costs_no_page(value: object) -> None:
    """A page size that is refused later does not make the operation too costly."""
    for definition in ("$n: Int!", "$n: Int = 100"):
        assert complaints_about_cost(f"query ({definition}) {{ {THIRTY_PAGES} }}", n=value) == []


def test_the_cost_is_that_of_the_chosen_operation() -> None:
    """Another operation of the document may cost too much with these variables."""
    document = f"query A($n: Int!) {{ {THIRTY_PAGES} }} query B($n: Int!) {{ cafes(first: $n) {{ totalCount }} }}"

    assert (len(complaints_about_cost(document, "A", n=100)), complaints_about_cost(document, "B", n=100)) == (1, [])


def test_only_costly_documents_are_measured_again() -> None:
    """The cost is computed for each request only if some value of the variables makes it too high."""
    costly = f"query ($n: Int!) {{ {THIRTY_PAGES} }}"
    cheap = "query ($n: Int!) { cafes(first: $n) { nodes { id } } }"

    assert (may_exceed_cost(parse(costly)), may_exceed_cost(parse(cheap))) == (True, False)


def test_depth_goes_through_fragments() -> None:
    """The depth of a document includes its fragments."""
    half = "a { " * (MAX_DEPTH // 2)
    document = f"{{ {half} ...f {'}' * (MAX_DEPTH // 2)} }} fragment f on Query {nested(MAX_DEPTH)}"

    assert any("depth" in message for message in complaints(document))


@pytest.mark.parametrize(
    "document",
    [
        "{ ...f } fragment f on Query { ...f }",
        "{ ...f } fragment f on Query { ...g me { name } } fragment g on Query { ...f }",
        "{ ...missing }",
        "fragment unused on Query { me { name } } { me { name } }",
        "query A { me { name } } query B { me { name } }",
        "type A { b: Int }",
    ],
)
def test_invalid_documents_are_left_to_other_rules(document: str) -> None:
    """Cycles and missing fragments neither break our rule nor keep it busy."""
    assert complaints(document) == []


def test_each_operation_of_a_document_is_measured() -> None:
    """A small operation does not hide a large one in the same document."""
    assert len(complaints(f"query A {{ me {{ name }} }} query B {nested(MAX_DEPTH + 1)}")) == 1


@pytest.mark.timeout(HANGS_AFTER_S)
@pytest.mark.parametrize(("levels", "times"), [(30, 2), (60, 3), (100, 2), (10, 30)])
def test_nested_fragments_are_measured(levels: int, times: int) -> None:
    """Fragments with an exponential number of paths are refused for their cost, and the rule does not walk each path."""
    messages = complaints(spread(levels, times))

    assert any("cost" in message for message in messages)


@pytest.mark.timeout(HANGS_AFTER_S)
async def test_nested_fragments_are_refused() -> None:
    """All rules together refuse nested fragments, and none walks each path."""
    result = await SCHEMA.execute(spread(30))

    assert result.errors


@pytest.mark.timeout(HANGS_AFTER_S)
async def test_overlapping_fragments_are_validated() -> None:
    """Many fields of one name in nested fragments are compared, and the comparison ends."""
    fields = "cafes { nodes { id } } " * 8
    fragments = " ".join(f"fragment f{n} on Query {{ {fields} {f'...f{n + 1}' if n < 20 else ''} }}" for n in range(21))

    result = await SCHEMA.execute(f"{{ ...f0 {fields} }} {fragments}")

    assert result.errors


@pytest.mark.parametrize("tokens", [MAX_TOKENS + 1, 10 * MAX_TOKENS])
async def test_a_long_document_is_not_parsed(tokens: int) -> None:
    """A document with too many tokens is refused before it is parsed."""
    result = await SCHEMA.execute("{ " + "a " * tokens + "}")

    assert [error.extensions for error in result.errors or ()] == [{"code": "GRAPHQL_INVALID"}]
    assert "token" in str(result.errors)


@pytest.mark.parametrize(
    "document",
    [
        "{ " + "a { " * 600 + "b" + " }" * 601,
        "{ cafes(after: " + "[" * 900 + "]" * 900 + ") { nodes { id } } }",
        "query ($v: " + "[" * 900 + "Int" + "]" * 900 + ") { me { name } }",
        "{ " + "... { " * 600 + "me { name }" + " }" * 601,
        " ".join(f"fragment f{n} on Query {{ ...f{n + 1} }}" for n in range(249)) + " { ...f0 }",
    ],
    ids=["fields", "values", "types", "inline fragments", "fragments"],
)
async def test_a_very_deep_document_is_refused(document: str) -> None:
    """A document that is nested too deeply is the client's error."""
    result = await SCHEMA.execute(document)

    assert {(error.extensions or {})["code"] for error in result.errors or ()} == {"GRAPHQL_INVALID"}


@pytest.mark.parametrize("text", ["{__typename}", "{__typename"])
async def test_a_document_has_a_limit_of_characters(text: str) -> None:
    """A document of 20,000 characters is read; with one more it is refused before it is read."""
    within = await SCHEMA.execute(text.ljust(MAX_CHARACTERS, ","))
    beyond = await SCHEMA.execute(text.ljust(MAX_CHARACTERS + 1, ","))

    assert "20000" not in str(within.errors)
    assert [error.extensions for error in beyond.errors or ()] == [{"code": "GRAPHQL_INVALID"}]
    assert "20000" in str(beyond.errors)


async def test_comments_have_a_limit() -> None:
    """A document with too many comments is refused."""
    within = await SCHEMA.execute("{__typename}" + "#\n" * MAX_COMMENTS)
    beyond = await SCHEMA.execute("{__typename}" + "#\n" * (MAX_COMMENTS + 1))

    assert within.errors is None
    assert [error.extensions for error in beyond.errors or ()] == [{"code": "GRAPHQL_INVALID"}]


@pytest.mark.parametrize(
    "document",
    [
        "{ __schema { types { a: name } } }",
        "{ a: __schema { types { name } } b: __schema { types { name } } }",
        '{ a: __type(name: "Cafe") { name } b: __type(name: "User") { name } }',
        "{ __schema { types { fields { type { fields { name } } } } } }",
        "{ ...f } fragment f on Query { __schema { types { ...g } } } fragment g on __Type { a: name }",
    ],
    ids=["alias inside", "two schemas", "two types", "lists in lists", "alias in a fragment"],
)
async def test_a_repeated_introspection_is_refused(document: str) -> None:
    """An introspection shows each part of the schema at most once."""
    assert [message.split(";")[0] for message in complaints(document)] == ["This operation's introspections is 2"]


async def test_graphiql_may_introspect() -> None:
    """The introspection query of tools is within the limits."""
    result = await SCHEMA.execute(get_introspection_query(input_value_deprecation=True))

    assert result.errors is None


@pytest.mark.parametrize("document", ["{ __schema { types { name } } }", '{ __type(name: "Cafe") { name } }'])
async def test_introspection_can_be_disabled(document: str) -> None:
    """With GRAPHQL_INTROSPECTION disabled the schema is not shown."""
    result = await create_schema(introspection=False).execute(document)

    assert result.data is None
    assert all(error.extensions == {"code": "GRAPHQL_INVALID"} for error in result.errors or ())


MISSPELLED = {
    "field": "{ cafez { totalCount } }",
    "argument": '{ cafes(serch: "x") { totalCount } }',
    "type": "{ ... on Querry { __typename } }",
    "enumeration": "{ orders(status: PENDIN) { totalCount } }",
    "field of an input": "mutation { setDeadlines(cafeId: 1, deadlines: [{ weekdai: 1 }]) { id } }",
    "variable": "query ($s: OrderStatus) { orders(status: $s) { totalCount } }",
    "field of an input in a variable": (
        "mutation ($d: [DeadlineInput!]!) { setDeadlines(cafeId: 1, deadlines: $d) { id } }"
    ),
    "subscription": 'subscription { linkRequestUpdates(cafeIt: "1") { id } }',
}
VALUES = {"s": "PENDIN", "d": [{"weekdai": 1}]}


@pytest.mark.parametrize("document", MISSPELLED.values(), ids=MISSPELLED)
@pytest.mark.parametrize("introspection", [True, False])
async def test_names_are_suggested_with_introspection_only(document: str, introspection: bool) -> None:
    """«Did you mean» would show the schema to a client that may not read it, in queries and in streams."""
    schema = create_schema(introspection=introspection)

    answers: list[Any] = [answer async for answer in await schema.stream(document, VALUES)]
    if not document.startswith("subscription"):
        answers.append(await schema.execute(document, VALUES))

    assert {("Did you mean" in str(answer.errors)) for answer in answers} == {introspection}


async def test_few_errors_are_reported() -> None:
    """A document with many wrong names gets the first errors only: each costs time."""
    result = await SCHEMA.execute("{ " + " ".join(f"cafez{n}" for n in range(500)) + " }")

    assert len(result.errors or ()) == MAX_ERRORS + 1
    assert "Too many validation errors" in str(result.errors)


async def test_few_wrong_variables_are_reported() -> None:
    """A list of many wrong values gets the first errors only."""
    document = "mutation ($d: [DeadlineInput!]!) { setDeadlines(cafeId: 1, deadlines: $d) { id } }"

    result = await SCHEMA.execute(document, {"d": [1] * 1000})

    assert len(result.errors or ()) == MAX_ERRORS + 1


async def test_typename_works_without_introspection() -> None:
    """`__typename` is not introspection: caches of clients need it."""
    result = await create_schema(introspection=False).execute("{ __typename }")

    assert result.data == {"__typename": "Query"}
