"""The one schema; REST is a table of stored operations on it."""

from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any, override

import strawberry
from graphql import ASTValidationRule, GraphQLError, NoSchemaIntrospectionCustomRule, OperationDefinitionNode
from strawberry.extensions import AddValidationRules, MaxTokensLimiter, ParserCache, ValidationCache
from strawberry.schema.config import StrawberryConfig
from strawberry.schema.schema import StreamResult
from strawberry.types import ExecutionContext, ExecutionResult
from strawberry.types.graphql import OperationType

from app.schema.errors import presented, presented_each
from app.schema.limits import MAX_TOKENS, LimitsRule
from app.schema.mutation import Mutation
from app.schema.query import Query
from app.schema.scalars import TelegramId, parse_decimal, parse_telegram_id, serialize_decimal
from app.schema.subscription import Subscription

CACHED_DOCUMENTS = 1_000
ANSWERED_ONCE = {OperationType.QUERY, OperationType.MUTATION}

LIMITS: list[type[ASTValidationRule]] = [LimitsRule]
LIMITS_WITHOUT_INTROSPECTION: list[type[ASTValidationRule]] = [LimitsRule, NoSchemaIntrospectionCustomRule]


class Schema(strawberry.Schema):
    """Ours: every error leaves it with its code. It is logged there too, and only if it is our fault."""

    @override
    async def execute(self, *args: Any, **kwargs: Any) -> ExecutionResult:
        """Execute what has one answer; a subscription is for `stream`."""
        kwargs["allowed_operation_types"] = ANSWERED_ONCE & set(kwargs.get("allowed_operation_types", ANSWERED_ONCE))
        return presented(await super().execute(*args, **kwargs))

    @override
    async def stream(self, *args: Any, **kwargs: Any) -> StreamResult:
        return presented_each(await super().stream(*args, **kwargs))

    @override
    def process_errors(self, errors: list[GraphQLError], execution_context: ExecutionContext | None = None) -> None:
        pass


class CachedParser(ParserCache):
    """Parses a document once. One that does not parse is left to Strawberry, which knows what to say; the stock cache
    raises past it."""

    @override
    def on_parse(self) -> Iterator[None]:
        with suppress(GraphQLError, RecursionError):
            context = self.execution_context
            context.graphql_document = self.cached_parse_document(context.query, **context.parse_options)
        yield


class CachedValidator(ValidationCache):
    """Validates a document once. Which of several operations is meant, only the request says."""

    @override
    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        document = context.graphql_document
        errors = self.cached_validate_document(context.schema._schema, document, context.validation_rules)  # noqa: SLF001
        if not errors and document is not None and context._provided_operation_name is None:  # noqa: SLF001
            operations = [node for node in document.definitions if isinstance(node, OperationDefinitionNode)]
            if len(operations) > 1:
                errors = [GraphQLError("There are several operations; say which by operationName.", operations)]
        context.pre_execution_errors = errors
        yield


@cache
def create_schema(*, introspection: bool = True) -> Schema:
    """Make the schema. Documents are parsed and validated once, and kept."""
    rules = LIMITS if introspection else LIMITS_WITHOUT_INTROSPECTION
    return Schema(
        Query,
        Mutation,
        Subscription,
        config=StrawberryConfig(
            scalar_map={
                TelegramId: strawberry.scalar(
                    name="TelegramId",
                    description="An id of Telegram: a whole number of at most 52 significant bits, not 0.",
                    specified_by_url="https://core.telegram.org/bots/api#chat",
                    parse_value=parse_telegram_id,
                ),
                Decimal: strawberry.scalar(
                    name="Decimal",
                    description="An amount of money, exact, with two decimal places.",
                    parse_value=parse_decimal,
                    serialize=serialize_decimal,
                ),
            }
        ),
        extensions=[
            lambda: MaxTokensLimiter(MAX_TOKENS),
            lambda: AddValidationRules(rules),
            lambda: CachedParser(CACHED_DOCUMENTS),
            lambda: CachedValidator(CACHED_DOCUMENTS),
        ],
    )
