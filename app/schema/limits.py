"""The limits of one document: one validation rule, whose own cost is proportional to the document.

The size of a fragment is computed once, even if it is spread many times. Strawberry's limiters walk it each time, which is
exponential for nested fragments.
"""

from dataclasses import dataclass
from typing import Any

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    IntValueNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from app.services.pagination import DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE

MAX_TOKENS = 2_000
"""A document with more is not parsed. GraphiQL's introspection has about 300."""

MAX_DEPTH = 20
"""GraphiQL's introspection is 16 deep; our own deepest page is 5 deep."""

MAX_ALIASES = 50
MAX_DIRECTIVES = 50

MAX_COST = 10_000
"""The maximum number of fields in a result: two full pages with all fields of a list."""

ROWS_OF_A_PAGE = {"edges", "nodes"}


@dataclass(frozen=True)
class Size:
    """The size of a selection. `cost` counts fields, those of a list once for each row of a page.

    `is_page` says whether the rows of a page are selected here, or in a fragment spread here.
    """

    depth: int = 0
    aliases: int = 0
    directives: int = 0
    cost: int = 0
    is_page: bool = False

    def plus(self, other: "Size") -> "Size":
        return Size(
            max(self.depth, other.depth),
            self.aliases + other.aliases,
            self.directives + other.directives,
            self.cost + other.cost,
            self.is_page or other.is_page,
        )


class LimitsRule(ASTValidationRule):
    """Refuses a document that is nested too deeply, or selects too much."""

    def enter_document(self, node: DocumentNode, *_args: Any) -> None:
        fragments = {
            definition.name.value: definition
            for definition in node.definitions
            if isinstance(definition, FragmentDefinitionNode)
        }
        measure = _Measure(fragments)
        for definition in node.definitions:
            if isinstance(definition, OperationDefinitionNode):
                self._check(definition, measure.of(definition.selection_set))

    def _check(self, operation: OperationDefinitionNode, size: Size) -> None:
        for name, value, limit in (
            ("depth", size.depth, MAX_DEPTH),
            ("aliases", size.aliases, MAX_ALIASES),
            ("directives", size.directives, MAX_DIRECTIVES),
            ("cost", size.cost, MAX_COST),
        ):
            if value > limit:
                self.report_error(
                    GraphQLError(f"This operation's {name} is {value}; at most {limit} is allowed.", operation)
                )


class _Measure:
    def __init__(self, fragments: dict[str, FragmentDefinitionNode]) -> None:
        self._fragments = fragments
        self._sizes: dict[str, Size] = {}

    def of(self, selections: SelectionSetNode) -> Size:
        size = Size()
        for selection in selections.selections:
            match selection:
                case FieldNode():
                    part = self._field(selection)
                case InlineFragmentNode():
                    part = self.of(selection.selection_set)
                case FragmentSpreadNode():
                    part = self._fragment(selection.name.value)
            size = size.plus(part).plus(Size(directives=len(selection.directives or ())))
        return size

    def _field(self, field: FieldNode) -> Size:
        below = self.of(field.selection_set) if field.selection_set else Size()
        return Size(
            below.depth + 1,
            below.aliases + (field.alias is not None),
            below.directives,
            1 + below.cost * _rows(field, is_page=below.is_page),
            field.name.value in ROWS_OF_A_PAGE,
        )

    def _fragment(self, name: str) -> Size:
        if name not in self._sizes:
            self._sizes[name] = Size()  # for a cycle, which another rule refuses
            if (fragment := self._fragments.get(name)) is not None:
                self._sizes[name] = self.of(fragment.selection_set)
        return self._sizes[name]


def _rows(field: FieldNode, *, is_page: bool) -> int:
    """Return how many rows a field may have: `first` of a list, or its maximum if it is a variable."""
    first = next((argument.value for argument in field.arguments or () if argument.name.value == "first"), None)
    if isinstance(first, IntValueNode) and len(first.value) <= len(str(MAX_PAGE_SIZE)):
        return min(max(int(first.value), 1), MAX_PAGE_SIZE)
    if first is not None:
        return MAX_PAGE_SIZE
    return DEFAULT_PAGE_SIZE if is_page else 1
