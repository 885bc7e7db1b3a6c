"""The limits of one document. To find them costs as much as the document is long.

The size of a fragment is computed once, even if it is spread many times. Strawberry's limiters walk it each time, which is
exponential for nested fragments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLSchema,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
    VariableNode,
    get_operation_ast,
    get_variable_values,
)

from app.services.pagination import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

MAX_CHARACTERS = 20_000
"""A longer document is refused before it is read. GraphiQL's introspection has about 2,000."""

MAX_TOKENS = 600
"""A document with more is not parsed: each token costs up to 60 µs. GraphiQL's introspection has 184, the largest document
of our own 164."""

MAX_COMMENTS = 1_000
"""They are counted apart from the other tokens."""

MAX_DEPTH = 20
"""GraphiQL's introspection is 16 deep; our own deepest page is 5 deep."""

MAX_ALIASES = 50
MAX_DIRECTIVES = 50

MAX_COST = 10_000
"""The maximum number of fields in a result: two full pages with all fields of a list."""

ROWS_OF_A_PAGE = {"edges", "nodes"}

INTROSPECTION = {"__schema", "__type"}
INTROSPECTION_LISTS = {"fields", "inputFields", "interfaces", "possibleTypes"}

MAX_INTROSPECTIONS = 1
"""One shows the whole schema, with 6,500 fields. An alias or a list inside a list repeats a part of it, so it counts as
one more."""


@dataclass(slots=True)
class Size:
    """The size of a selection. `cost` counts fields, those of a list once for each row of a page.

    `introspections` counts what `MAX_INTROSPECTIONS` limits, and `lists` is the depth of its lists. `is_page` says whether
    the rows of a page are selected here, or in a fragment spread here.
    """

    depth: int = 0
    aliases: int = 0
    directives: int = 0
    cost: int = 0
    introspections: int = 0
    lists: int = 0
    is_page: bool = False

    def add(self, other: "Size") -> None:
        self.depth = max(self.depth, other.depth)
        self.aliases += other.aliases
        self.directives += other.directives
        self.cost += other.cost
        self.introspections += other.introspections
        self.lists = max(self.lists, other.lists)
        self.is_page |= other.is_page


NOTHING = Size()


def find_excess(document: DocumentNode) -> list[GraphQLError]:
    """Return an error for each limit that an operation of the document exceeds.

    Variables are not known here: a page whose size is a variable costs one row.
    """
    measure = _Measure(document, lambda _name, _default: 1)
    try:
        return [
            _excess(name, value, limit, definition)
            for definition in document.definitions
            if isinstance(definition, OperationDefinitionNode)
            for name, value, limit in _limited(measure.of(definition.selection_set))
            if value > limit
        ]
    except RecursionError:
        return [GraphQLError("The document is nested too deeply.")]


def _limited(size: Size) -> Sequence[tuple[str, int, int]]:
    return (
        ("depth", size.depth, MAX_DEPTH),
        ("aliases", size.aliases, MAX_ALIASES),
        ("directives", size.directives, MAX_DIRECTIVES),
        ("introspections", size.introspections, MAX_INTROSPECTIONS),
        ("cost", size.cost, MAX_COST),
    )


def may_exceed_cost(document: DocumentNode) -> bool:
    """Whether there are variables with which an operation of the document costs too much."""
    measure = _Measure(document, lambda _name, _default: MAX_PAGE_SIZE)
    return any(
        measure.of(definition.selection_set).cost > MAX_COST
        for definition in document.definitions
        if isinstance(definition, OperationDefinitionNode)
    )


def find_excess_cost(
    schema: GraphQLSchema, document: DocumentNode, operation_name: str | None, variables: dict[str, Any]
) -> list[GraphQLError]:
    """Return an error if an operation costs too much with these variables. Wrong variables are left to the execution."""
    operation = get_operation_ast(document, operation_name)
    if operation is None:
        return []
    values = get_variable_values(schema, operation.variable_definitions or (), variables, max_errors=1)
    if isinstance(values, list):
        return []
    cost = _Measure(document, values.coerced.get).of(operation.selection_set).cost
    return [_excess("cost", cost, MAX_COST, operation)] if cost > MAX_COST else []


def _excess(name: str, value: int, limit: int, operation: OperationDefinitionNode) -> GraphQLError:
    return GraphQLError(f"This operation's {name} is {value}; at most {limit} is allowed.", operation)


class _Measure:
    """Measures selections. `page_size` returns the value of a variable, or the given default if it has none."""

    def __init__(self, document: DocumentNode, page_size: Callable[[str, int], object]) -> None:
        self._fragments = {
            definition.name.value: definition
            for definition in document.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        self._page_size = page_size
        self._sizes: dict[str, Size] = {}

    def of(self, selections: SelectionSetNode) -> Size:
        size = Size()
        for selection in selections.selections:
            match selection:
                case FieldNode():
                    size.add(self._field(selection))
                case InlineFragmentNode():
                    size.add(self.of(selection.selection_set))
                case FragmentSpreadNode():
                    size.add(self._fragment(selection.name.value))
            size.directives += len(selection.directives or ())
        return size

    def _field(self, field: FieldNode) -> Size:
        name = field.name.value
        below = self.of(field.selection_set) if field.selection_set else NOTHING
        size = Size(
            depth=below.depth + 1,
            aliases=below.aliases + (field.alias is not None),
            directives=below.directives,
            cost=1 + below.cost * self._rows(field, is_page=below.is_page),
            introspections=below.introspections,
            lists=below.lists + (name in INTROSPECTION_LISTS),
            is_page=name in ROWS_OF_A_PAGE,
        )
        if name in INTROSPECTION:
            size.introspections += 1 + below.aliases + max(0, below.lists - 1)
        return size

    def _fragment(self, name: str) -> Size:
        if name not in self._sizes:
            self._sizes[name] = NOTHING  # for a cycle, which another rule refuses
            if (fragment := self._fragments.get(name)) is not None:
                self._sizes[name] = self.of(fragment.selection_set)
        return self._sizes[name]

    def _rows(self, field: FieldNode, *, is_page: bool) -> int:
        """Return how many rows a field may have: `first` of a list. A page whose size is wrong is refused: it has none."""
        if not field.selection_set:
            return 1
        first = next((argument.value for argument in field.arguments or () if argument.name.value == "first"), None)
        default = DEFAULT_PAGE_SIZE if is_page else 1
        size: object = 0
        match first:
            case None:
                size = default
            case IntValueNode(value=digits):
                size = int(digits) if len(digits) <= len(str(MAX_PAGE_SIZE)) else 0
            case VariableNode(name=name):
                size = self._page_size(name.value, default)
        return size if isinstance(size, int) and 1 <= size <= MAX_PAGE_SIZE else 1
