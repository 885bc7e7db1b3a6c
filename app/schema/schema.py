"""The schema: all subjects together, with cached documents and coded errors."""

import inspect
from collections.abc import Awaitable
from functools import cache
from typing import Any, ClassVar, TypeGuard, override

import strawberry
from graphql import GraphQLError
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StrawberryGraphQLCoreExecutionContext, StreamResult
from strawberry.tools import merge_types
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.graphql import OperationType

from app.schema import (
    cafes,
    deadlines,
    gemini_keys,
    links,
    menus,
    notifications,
    orders,
    recommendations,
    summaries,
    users,
)
from app.schema.documents import MAX_ERRORS, CachedDocuments, DocumentCache
from app.schema.errors import format_errors, format_stream_errors
from app.schema.scalars import SCALAR_MAP
from app.schema.types import hide_managers_fields

SUBJECTS = (users, cafes, menus, deadlines, orders, summaries, links, notifications, recommendations, gemini_keys)

BUILD = inspect.signature(StrawberryGraphQLCoreExecutionContext.build)
"""graphql-core passes its options by position."""

SINGLE_RESULT = {OperationType.QUERY, OperationType.MUTATION}


class Schema(strawberry.Schema):
    """Gives every error its code. Only errors of the server are logged."""

    @override
    async def execute(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Execute a query or a mutation. Use `stream` for a subscription."""
        kwargs["allowed_operation_types"] = SINGLE_RESULT & set(kwargs.get("allowed_operation_types", SINGLE_RESULT))
        return format_errors(await super().execute(*args, **kwargs))

    @override
    async def stream(self, *args: Any, **kwargs: Any) -> StreamResult:
        return format_stream_errors(await super().stream(*args, **kwargs))

    @override
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        pass


class Executor(StrawberryGraphQLCoreExecutionContext):
    """Reports a few wrong variables, and asks each type once whether its objects can be awaited.

    graphql-core asks every object, and a Pydantic object answers with its slow `__getattr__`.
    """

    hides_names: ClassVar = False
    """Whether errors suggest no names of the schema."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_awaitable = _is_awaitable

    @classmethod
    @override
    def build(cls, *args: Any, **kwargs: Any) -> Any:
        given = BUILD.bind(*args, **kwargs)
        given.arguments |= {"max_coercion_errors": MAX_ERRORS, "hide_suggestions": cls.hides_names}
        return super().build(*given.args, **given.kwargs)


class DiscreetExecutor(Executor):
    hides_names = True


def _is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    return _has_await(type(value))  # type: ignore[arg-type] # mypy takes `__hash__` of an object for that of its class


@cache
def _has_await(cls: type) -> bool:
    return hasattr(cls, "__await__")


def _merge(root: str) -> type:
    """Merge the fields of all subjects that have such a root type."""
    return merge_types(root, tuple(getattr(subject, root) for subject in SUBJECTS if hasattr(subject, root)))


@cache
def create_schema(*, introspection: bool = True) -> Schema:
    """Make the schema.

    Args:
        introspection: Whether clients may see the schema. Without it errors suggest no names either.
    """
    documents = DocumentCache()
    schema = Schema(
        _merge("Query"),
        _merge("Mutation"),
        _merge("Subscription"),
        config=StrawberryConfig(scalar_map=SCALAR_MAP),
        execution_context_class=Executor if introspection else DiscreetExecutor,
        extensions=[lambda: CachedDocuments(documents, introspection=introspection)],
    )
    hide_managers_fields(schema._schema)  # noqa: SLF001 Strawberry gives no other way to graphql-core's schema
    return schema
