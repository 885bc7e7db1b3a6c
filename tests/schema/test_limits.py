"""How much one document may ask for."""

import time

import pytest
from graphql import get_introspection_query, parse, validate

from app.resolvers.paging import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE
from app.schema import create_schema
from app.schema.limits import MAX_ALIASES, MAX_COST, MAX_DEPTH, MAX_DIRECTIVES, MAX_TOKENS, LimitsRule

SCHEMA = create_schema()

SOON_S = 2.0
"""Far more than any of these documents takes, far less than those that walk each path of nested fragments need."""


def complaints(document: str) -> list[str]:
    """What the rule alone says."""
    return [error.message for error in validate(SCHEMA._schema, parse(document), [LimitsRule])]


def nested(depth: int) -> str:
    return "{ " + "a { " * (depth - 1) + "a" + " }" * depth


def spread(levels: int, times: int = 2) -> str:
    """Fragments of which each spreads the next `times` times: walked path by path, `times ** levels` steps."""
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
def test_a_document_may_have_so_much_and_no_more(document: str, what: str | None) -> None:
    """Up to the limit all is well; one more is refused, and the answer says what there was too much of."""
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
        ("cafes(first: $n) { nodes { id name } } ", 1 + MAX_PAGE_SIZE * 3),
        ("cafes(first: 1000000) { nodes { id name } } ", 1 + MAX_PAGE_SIZE * 3),
    ],
)
def test_a_list_costs_each_of_its_rows(selected: str, cost: int) -> None:
    """A field of a list counts once for each row that a page may have, however it is selected."""
    fragments = "fragment named on Query { me { name } } fragment page on CafeConnection { nodes { id name } }"
    copies = MAX_COST // cost

    within, beyond = (f"query ($n: Int!) {{ {selected * n} }} {fragments}" for n in (copies, copies + 1))

    assert complaints(within) == []
    assert complaints(beyond) == [f"This operation's cost is {cost * (copies + 1)}; at most {MAX_COST} is allowed."]


@pytest.mark.parametrize("first", ["-1", "-1000000", "0"])
def test_a_page_of_less_than_nothing_costs_something(first: str) -> None:
    """A size that will be refused does not pay for others."""
    page = "cafes(first: 100) { nodes { id name description } }"
    document = (
        "{ " + " ".join(f"a{n}: {page}" for n in range(30)) + f" b: cafes(first: {first}) {{ nodes {{ id }} }} }}"
    )

    assert any("cost" in message for message in complaints(document))


@pytest.mark.parametrize("first", ["9" * 5000, "1.5", '"a"', "null", "[1]", "{}"])
def test_a_strange_page_size_is_left_to_others(first: str) -> None:
    """Whether a value is right is for the other rules to say."""
    assert complaints(f"{{ cafes(first: {first}) {{ nodes {{ id }} }} }}") == []


def test_depth_goes_through_fragments() -> None:
    """A document is as deep as it is with its fragments in place."""
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
def test_strange_documents_are_left_to_others(document: str) -> None:
    """Cycles and what is missing are for the other rules to refuse; ours neither falls over them nor runs for ever."""
    assert complaints(document) == []


def test_each_operation_of_a_document_is_measured() -> None:
    """A small operation beside it does not hide a large one."""
    assert len(complaints(f"query A {{ me {{ name }} }} query B {nested(MAX_DEPTH + 1)}")) == 1


@pytest.mark.parametrize(("levels", "times"), [(30, 2), (60, 3), (100, 2), (10, 30)])
def test_nested_fragments_are_measured_in_no_time(levels: int, times: int) -> None:
    """Fragments that a limiter must not walk path by path are refused for what they would cost, at once."""
    began = time.monotonic()

    messages = complaints(spread(levels, times))

    assert any("cost" in message for message in messages)
    assert time.monotonic() - began < SOON_S


async def test_nested_fragments_are_refused_in_no_time() -> None:
    """So it is with all the rules together: no request keeps the process busy."""
    began = time.monotonic()

    result = await SCHEMA.execute(spread(30))

    assert result.errors
    assert time.monotonic() - began < SOON_S


async def test_fragments_that_overlap_are_validated_in_no_time() -> None:
    """Many fields of one name in nested fragments are compared pair by pair, but not for ever."""
    began = time.monotonic()
    fields = "cafes { nodes { id } } " * 8
    fragments = " ".join(f"fragment f{n} on Query {{ {fields} {f'...f{n + 1}' if n < 20 else ''} }}" for n in range(21))

    await SCHEMA.execute(f"{{ ...f0 {fields} }} {fragments}")

    assert time.monotonic() - began < SOON_S


@pytest.mark.parametrize("tokens", [MAX_TOKENS + 1, 10 * MAX_TOKENS])
async def test_a_long_document_is_not_even_parsed(tokens: int) -> None:
    """A document of more tokens is refused by their number."""
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
async def test_a_document_that_nests_beyond_measure_is_refused(document: str) -> None:
    """However a document nests, it is the document that is wrong, not we."""
    result = await SCHEMA.execute(document)

    assert {(error.extensions or {})["code"] for error in result.errors or ()} == {"GRAPHQL_INVALID"}


async def test_graphiql_may_introspect() -> None:
    """The introspection that tools send is within the limits."""
    result = await SCHEMA.execute(get_introspection_query(input_value_deprecation=True))

    assert result.errors is None


@pytest.mark.parametrize("document", ["{ __schema { types { name } } }", '{ __type(name: "Cafe") { name } }'])
async def test_introspection_can_be_switched_off(document: str) -> None:
    """Where GRAPHQL_INTROSPECTION is off the schema is not told."""
    result = await create_schema(introspection=False).execute(document)

    assert result.data is None
    assert all(error.extensions == {"code": "GRAPHQL_INVALID"} for error in result.errors or ())


async def test_types_are_told_without_introspection() -> None:
    """`__typename` is no introspection: clients' caches need it."""
    result = await create_schema(introspection=False).execute("{ __typename }")

    assert result.data == {"__typename": "Query"}
