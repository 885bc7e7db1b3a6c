"""Fields that are operations: each hands over to one function of `app.resolvers`, which says what it does and who may do it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import strawberry
from graphql import FieldNode, FragmentSpreadNode, GraphQLField, InlineFragmentNode, SelectionSetNode
from strawberry.dataloader import DataLoader
from strawberry.schema.schema_converter import GraphQLCoreConverter

from app.auth import PUBLIC, SELF, Allowed, Operation
from app.context import Context
from app.models import Role

type Info = strawberry.Info[Context, None]

WHO: Mapping[Allowed, str] = {
    PUBLIC: "anybody",
    Role.USER: "users",
    Role.MANAGER: "managers",
    SELF: "managers, and users for themselves",
}

OPERATION = "operation"
"""Under this key of a root field's metadata lies its function."""


def query(operation: Operation[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a field that reads."""
    return lambda hand_over: strawberry.field(hand_over, **_described(operation))


def mutation(operation: Operation[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a root field that changes something."""
    return lambda hand_over: strawberry.mutation(hand_over, **_described(operation))


def subscription(operation: Operation[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Make a root field that tells what happens."""
    return lambda hand_over: strawberry.subscription(hand_over, **_described(operation))


def is_operation(field: GraphQLField) -> bool:
    """Say whether a field hands over to a function."""
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return OPERATION in getattr(definition, "metadata", {})


def operation_of(field: GraphQLField) -> Operation[..., Any]:
    """Return the function that a field hands over to."""
    definition = field.extensions[GraphQLCoreConverter.DEFINITION_BACKREF]
    operation: Operation[..., Any] = definition.metadata[OPERATION]
    return operation


def _described(operation: Operation[..., Any]) -> dict[str, Any]:
    summary = (operation.__doc__ or "").partition("\n")[0]
    return {"description": f"{summary} For {WHO[operation.allowed]}.", "metadata": {OPERATION: operation}}


async def load[Key, Value](info: Info, operation: Operation[[Sequence[Key]], list[Value]], key: Key) -> Value:
    """Read what belongs to `key` with an operation that takes many keys: once for all objects beside this one.

    Nothing is kept: what a mutation has changed, the field behind it reads anew.
    """
    loader = info.context.loaders.setdefault(operation, DataLoader(partial(operation, info.context), cache=False))
    value: Value = await loader.load(key)
    return value


def given(**arguments: Any) -> dict[str, Any]:
    """Return those arguments that the client has given, even if as null."""
    return {name: value for name, value in arguments.items() if value is not strawberry.UNSET}


def selects(info: Info, name: str) -> bool:
    """Say whether the field that is being resolved is asked for `name`, directly or through fragments."""
    raw = info._raw_info  # noqa: SLF001 Strawberry's own `selected_fields` converts the whole tree first
    return any(
        name in _names(node.selection_set, raw.fragments) for node in raw.field_nodes if node.selection_set is not None
    )


def selected(info: Info) -> set[str]:
    """Return the names of all fields that are asked for below the one that is being resolved, at whatever depth."""
    raw = info._raw_info  # noqa: SLF001 as above
    names: set[str] = set()
    spread: set[str] = set()
    waiting = [node.selection_set for node in raw.field_nodes if node.selection_set is not None]
    while waiting:
        for selection in waiting.pop().selections:
            match selection:
                case FieldNode():
                    names.add(selection.name.value)
                    if selection.selection_set is not None:
                        waiting.append(selection.selection_set)
                case InlineFragmentNode():
                    waiting.append(selection.selection_set)
                case FragmentSpreadNode(name=name) if name.value not in spread:
                    spread.add(name.value)
                    waiting.append(raw.fragments[name.value].selection_set)
    return names


def _names(selections: SelectionSetNode, fragments: dict[str, Any]) -> Iterator[str]:
    for selection in selections.selections:
        match selection:
            case FieldNode():
                yield selection.name.value
            case InlineFragmentNode():
                yield from _names(selection.selection_set, fragments)
            case FragmentSpreadNode():
                yield from _names(fragments[selection.name.value].selection_set, fragments)
