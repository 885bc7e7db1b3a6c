"""Fields that are operations: each calls one function of `app.resolvers`, which says what it does and who may call it."""

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from functools import partial, wraps
from typing import Any, get_args

import strawberry
from graphql import FieldNode, FragmentSpreadNode, GraphQLField, InlineFragmentNode
from strawberry.dataloader import DataLoader

from app.auth.access import CHAT, PUBLIC, Access, Operation, Self
from app.errors import FieldProblem
from app.models import Role
from app.schema.context import OperationContext
from app.schema.scalars import Id
from app.schema.types import metadata_of
from app.services.pagination import PageRequest
from app.validation import Input, InvalidValue, parse_id

type Info = strawberry.Info[OperationContext, None]
type Resolver = Callable[..., Awaitable[Any]]

AUDIENCES: Mapping[Access, str] = {
    PUBLIC: "everyone",
    CHAT: "the chat itself",
    Role.USER: "users",
    Role.MANAGER: "managers",
}

OPERATION = "operation"
"""The key of a field's operation in its metadata."""


def query(operation: Operation[..., Any], type_: Any) -> Callable[[Resolver], Any]:
    """Make a field that reads.

    Args:
        type_: The GraphQL type of the result. The result itself is a row or a dataclass with the same names.
    """
    return lambda resolver: strawberry.field(_with_ids(resolver), graphql_type=type_, **_described(operation))


def mutation(operation: Operation[..., Any], type_: Any) -> Callable[[Resolver], Any]:
    """Make a root field that changes something. The arguments are those of `query`."""
    return lambda resolver: strawberry.mutation(_with_ids(resolver), graphql_type=type_, **_described(operation))


def subscription(operation: Operation[..., Any], type_: Any) -> Callable[[Resolver], Any]:
    """Make a root field that streams events. The arguments are those of `query`."""

    def decorate(resolver: Resolver) -> Any:
        with_ids = _with_ids(resolver)

        @wraps(resolver)
        async def subscribe(*args: Any, **kwargs: Any) -> Any:
            stream = await with_ids(*args, **kwargs)
            kwargs["info"].context.subscribed.set()
            return stream

        return strawberry.subscription(subscribe, graphql_type=type_, **_described(operation))

    return decorate


def audience(access: Access) -> str:
    """Say in words who may call an operation."""
    return "managers, and users for themselves" if isinstance(access, Self) else AUDIENCES[access]


def summary(operation: Operation[..., Any]) -> str:
    """Say in one sentence what an operation does: the first line of its docstring."""
    return (operation.__doc__ or "").partition("\n")[0]


def operation_of(field: GraphQLField) -> Operation[..., Any]:
    """Return the operation that a field calls."""
    operation: Operation[..., Any] = metadata_of(field)[OPERATION]
    return operation


def _described(operation: Operation[..., Any]) -> dict[str, Any]:
    return {
        "description": f"{summary(operation)} For {audience(operation.access)}.",
        "metadata": {OPERATION: operation},
    }


def _with_ids(resolver: Resolver) -> Resolver:
    """Parse the arguments that are ids. The operation reports a wrong id after it has authorized the caller."""
    parameters = inspect.signature(resolver).parameters
    ids = tuple(name for name, parameter in parameters.items() if _is_id(parameter.annotation))
    if not ids:
        return resolver

    @wraps(resolver)
    async def resolve(*args: Any, **kwargs: Any) -> Any:
        return await resolver(*args, **kwargs | {name: _parse(name, kwargs[name]) for name in ids if name in kwargs})

    return resolve


def _is_id(annotation: Any) -> bool:
    return annotation is Id or any(_is_id(part) for part in get_args(annotation))


def _parse(name: str, value: Any) -> Any:
    """Parse an id, or a list of ids. Null and a missing value stay."""
    if value is None or value is strawberry.UNSET:
        return value
    try:
        return [parse_id(item) for item in value] if isinstance(value, list) else parse_id(value)
    except ValueError as error:
        return InvalidValue(FieldProblem(name, str(error)))


async def load[Key, Value](info: Info, operation: Operation[[Sequence[Key]], list[Value]], key: Key) -> Value:
    """Read what belongs to `key` with an operation that takes many keys: once for all objects beside this one.

    Nothing is cached, so a field behind a mutation sees its change.
    """
    loader = info.context.loaders.setdefault(operation, DataLoader(partial(operation, info.context), cache=False))
    value: Value = await loader.load(key)
    return value


def given[I: Input](kind: type[I], **arguments: object) -> I:
    """Collect the arguments that the client has given, even as null. The operation validates them."""
    return kind.collect(**{name: value for name, value in arguments.items() if value is not strawberry.UNSET})


def page_request(info: Info, first: int, after: str | None, skip: int) -> PageRequest:
    """Collect the arguments of a list. The operation validates them."""
    with_total = "totalCount" in selected_names(info)
    return PageRequest.collect(first=first, after=after, skip=skip, with_total=with_total)


def selected_names(info: Info, *, at_any_depth: bool = False) -> Iterator[str]:
    """Iterate over the names of the fields that are selected below the field that is being resolved.

    Args:
        at_any_depth: Whether the fields of these fields count, too. Fragments always do.
    """
    raw = info._raw_info  # noqa: SLF001 Strawberry's own `selected_fields` converts the whole tree first
    spread: set[str] = set()
    waiting = [node.selection_set for node in raw.field_nodes if node.selection_set is not None]
    while waiting:
        for selection in waiting.pop().selections:
            match selection:
                case FieldNode():
                    yield selection.name.value
                    if at_any_depth and selection.selection_set is not None:
                        waiting.append(selection.selection_set)
                case InlineFragmentNode():
                    waiting.append(selection.selection_set)
                case FragmentSpreadNode(name=name) if name.value not in spread:
                    spread.add(name.value)
                    waiting.append(raw.fragments[name.value].selection_set)
