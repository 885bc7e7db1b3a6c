"""Root fields: each hands over to one function of `app.resolvers`, which says what it does and who may do it."""

from collections.abc import Callable, Iterator
from typing import Any

import strawberry
from graphql import FieldNode, FragmentSpreadNode, GraphQLField, InlineFragmentNode, SelectionSetNode
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.auth import PUBLIC, Operation
from app.models import Role
from app.schema.types import Info

WHO = {PUBLIC: "anybody", Role.USER: "users", Role.MANAGER: "managers"}

OPERATION = "operation"
"""Under this key of a root field's metadata lies its function."""


def query(operation: Operation[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a root field that reads."""
    return lambda hand_over: strawberry.field(hand_over, **_described(operation))


def mutation(operation: Operation[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a root field that changes something."""
    return lambda hand_over: strawberry.mutation(hand_over, **_described(operation))


def subscription(operation: Operation[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a root field that tells what happens."""
    return lambda hand_over: strawberry.subscription(hand_over, **_described(operation))


def operation_of(field: GraphQLField) -> Operation[..., Any]:
    """Return the function that a root field hands over to."""
    definition = field.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
    operation: Operation[..., Any] = definition.metadata[OPERATION]
    return operation


def _described(operation: Operation[..., Any]) -> dict[str, Any]:
    summary = (operation.__doc__ or "").partition("\n")[0]
    return {"description": f"{summary} For {WHO[operation.allowed]}.", "metadata": {OPERATION: operation}}


def selects(info: Info, name: str) -> bool:
    """Say whether the field that is being resolved is asked for `name`, directly or through fragments."""
    raw = info._raw_info  # noqa: SLF001 Strawberry's own `selected_fields` converts the whole tree first
    return any(
        name in _names(node.selection_set, raw.fragments) for node in raw.field_nodes if node.selection_set is not None
    )


def _names(selections: SelectionSetNode, fragments: dict[str, Any]) -> Iterator[str]:
    for selection in selections.selections:
        match selection:
            case FieldNode():
                yield selection.name.value
            case InlineFragmentNode():
                yield from _names(selection.selection_set, fragments)
            case FragmentSpreadNode():
                yield from _names(fragments[selection.name.value].selection_set, fragments)
