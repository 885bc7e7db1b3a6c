"""The schema: all subjects together, with cached documents and coded errors."""

from collections.abc import Awaitable, Iterator
from contextlib import suppress
from functools import cache
from typing import Any, TypeGuard, override

import strawberry
from graphql import ASTValidationRule, GraphQLError, NoSchemaIntrospectionCustomRule, OperationDefinitionNode
from strawberry.extensions import AddValidationRules, MaxTokensLimiter, ParserCache, ValidationCache
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
from app.schema.errors import format_errors, format_stream_errors
from app.schema.limits import MAX_TOKENS, LimitsRule
from app.schema.scalars import SCALAR_MAP
from app.schema.types import hide_managers_fields

SUBJECTS = (users, cafes, menus, deadlines, orders, summaries, links, notifications, recommendations, gemini_keys)

CACHED_DOCUMENTS = 1_000
SINGLE_RESULT = {OperationType.QUERY, OperationType.MUTATION}

LIMITS: list[type[ASTValidationRule]] = [LimitsRule]
LIMITS_WITHOUT_INTROSPECTION: list[type[ASTValidationRule]] = [LimitsRule, NoSchemaIntrospectionCustomRule]


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
    """Asks each type once whether its objects can be awaited.

    graphql-core asks every object, and a Pydantic object answers with its slow `__getattr__`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.is_awaitable = _is_awaitable


def _is_awaitable(value: object) -> TypeGuard[Awaitable[Any]]:
    return _has_await(type(value))  # type: ignore[arg-type] # mypy takes `__hash__` of an object for that of its class


@cache
def _has_await(cls: type) -> bool:
    return hasattr(cls, "__await__")


class CachedParser(ParserCache):
    """Parses a document once. Strawberry reports a syntax error itself; its own cache would raise past it."""

    @override
    def on_parse(self) -> Iterator[None]:
        with suppress(GraphQLError, RecursionError):
            context = self.execution_context
            context.graphql_document = self.cached_parse_document(context.query, **context.parse_options)
        yield


class CachedValidator(ValidationCache):
    """Validates a document once. Only the request says which of several operations to execute."""

    @override
    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        document = context.graphql_document
        errors = self.cached_validate_document(context.schema._schema, document, context.validation_rules)  # noqa: SLF001
        if not errors and document is not None and context._provided_operation_name is None:  # noqa: SLF001
            operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
            if len(operations) > 1:
                errors = [GraphQLError("The document has several operations. Name one in operationName.", operations)]
        context.pre_execution_errors = errors
        yield


def _merge(root: str) -> type:
    """Merge the fields of all subjects that have such a root type."""
    return merge_types(root, tuple(getattr(subject, root) for subject in SUBJECTS if hasattr(subject, root)))


@cache
def create_schema(*, introspection: bool = True) -> Schema:
    """Make the schema. Documents are parsed and validated once, and cached."""
    rules = LIMITS if introspection else LIMITS_WITHOUT_INTROSPECTION
    schema = Schema(
        _merge("Query"),
        _merge("Mutation"),
        _merge("Subscription"),
        config=StrawberryConfig(scalar_map=SCALAR_MAP),
        execution_context_class=Executor,
        extensions=[
            lambda: MaxTokensLimiter(MAX_TOKENS),
            lambda: AddValidationRules(rules),
            lambda: CachedParser(CACHED_DOCUMENTS),
            lambda: CachedValidator(CACHED_DOCUMENTS),
        ],
    )
    hide_managers_fields(schema._schema)  # noqa: SLF001 Strawberry gives no other way to graphql-core's schema
    return schema
