"""Documents: parsed and validated once, and kept for the next request with the same text."""

import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self, cast, override

from graphql import (
    ASTValidationRule,
    DocumentNode,
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    NoSchemaIntrospectionCustomRule,
    OperationDefinitionNode,
    OverlappingFieldsCanBeMergedRule,
    ValidationContext,
    specified_rules,
    validate,
)
from strawberry.extensions import SchemaExtension
from strawberry.types.execution import ParseOptions

from app.log import describe_request
from app.schema.limits import MAX_CHARACTERS, MAX_COMMENTS, MAX_TOKENS, find_excess, find_excess_cost, may_exceed_cost

CACHE_MAX_BYTES = 8_000_000
"""About 250 documents of our own pages, or 20 of the largest that are allowed."""

BYTES_PER_TOKEN = 600
"""The maximum that graphql-core needs for a token with its node (measured: 180 to 593)."""

OPERATION_MAX_CHARACTERS = 100
"""An operation's name in the log is shortened: the client chooses it."""

MAX_ERRORS = 5
"""More errors are not searched for: each may cost 2 ms, most of it for the names in «Did you mean»."""

MAX_COMPARISONS = 5_000
"""The budget of the rule that compares fields of one name, about 8 ms; graphql-core's own is 100 times as much. The
documents of tools and of our own pages need less than 100."""


class MergeableFieldsRule(OverlappingFieldsCanBeMergedRule):
    """Ends the validation of a document with too many fields of one name, whose comparison is quadratic."""

    def __init__(self, context: ValidationContext) -> None:
        super().__init__(context)
        self.rule_context.remaining_complexity_budget = MAX_COMPARISONS


PARSE_OPTIONS = cast(
    "ParseOptions",
    {"max_source_length": MAX_CHARACTERS, "max_lexical_tokens": MAX_TOKENS, "max_comments": MAX_COMMENTS},
)
"""graphql-core's options, of which Strawberry's type lists only the oldest."""

RULES = tuple(MergeableFieldsRule if rule is OverlappingFieldsCanBeMergedRule else rule for rule in specified_rules)


@dataclass(frozen=True)
class Document:
    """A valid document.

    Args:
        may_exceed_cost: Whether its cost must be computed for each request.
        size: The maximum number of bytes in memory. The tokens keep comments and strings once more.
    """

    node: DocumentNode
    may_exceed_cost: bool
    size: int

    @classmethod
    def of(cls, text: str, node: DocumentNode) -> Self:
        return cls(node, may_exceed_cost(node), 2 * sys.getsizeof(text) + _detach_tokens(node) * BYTES_PER_TOKEN)


def _detach_tokens(node: DocumentNode) -> int:
    """Cut each token off from the one before, and count them.

    Without this circle Python frees a document as soon as it leaves the cache, not at the next full garbage collection.
    """
    tokens = 0
    token = node.loc.start_token if node.loc else None
    while token is not None:
        token.prev = None
        tokens += 1
        token = token.next
    return tokens


class DocumentCache:
    """The valid documents that were used last, up to a number of bytes. Refused documents are not kept."""

    def __init__(self, max_bytes: int = CACHE_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._documents: OrderedDict[str, Document] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._documents)

    def find(self, text: str) -> Document | None:
        document = self._documents.get(text)
        if document is not None:
            self._documents.move_to_end(text)
        return document

    def keep(self, text: str, document: Document) -> None:
        if text in self._documents or document.size > self._max_bytes:
            return
        self._documents[text] = document
        self.bytes += document.size
        while self.bytes > self._max_bytes:
            _, least_used = self._documents.popitem(last=False)
            self.bytes -= least_used.size


class CachedDocuments(SchemaExtension):
    """Parses and validates a document, unless it is cached.

    The variables are not part of the validation, but of the cost, which is computed for each request that may exceed it.
    """

    def __init__(self, cache: DocumentCache, *, introspection: bool) -> None:
        super().__init__()
        self._cache = cache
        self._introspection = introspection
        self._document: Document | None = None

    @override
    def on_operation(self) -> Iterator[None]:
        self.execution_context.parse_options = PARSE_OPTIONS
        yield

    @override
    def on_parse(self) -> Iterator[None]:
        context = self.execution_context
        self._document = self._cache.find(context.query or "")
        if self._document is not None:
            context.graphql_document = self._document.node
        yield

    @override
    def on_validate(self) -> Iterator[None]:
        context = self.execution_context
        context.pre_execution_errors = self._errors(context.schema._schema)  # noqa: SLF001 graphql-core's schema
        yield

    def _errors(self, schema: GraphQLSchema) -> list[GraphQLError]:
        context = self.execution_context
        assert context.graphql_document is not None
        if self._document is None:
            if errors := find_errors(schema, context.graphql_document, introspection=self._introspection):
                return errors
            text = context.query or ""
            self._document = Document.of(text, context.graphql_document)
            self._cache.keep(text, self._document)
        operations = [node for node in self._document.node.definitions if isinstance(node, OperationDefinitionNode)]
        name = context._provided_operation_name  # noqa: SLF001 the public name is that of the first operation, too
        if name is None and len(operations) > 1:
            return [GraphQLError("The document has several operations. Name one in operationName.", operations)]
        if self._document.may_exceed_cost and (
            errors := find_excess_cost(schema, self._document.node, name, context.variables or {})
        ):
            return errors
        describe_request(operation=_describe_operation(operations, context.operation_name))
        return []


def _describe_operation(operations: Sequence[OperationDefinitionNode], name: str | None) -> str | None:
    """Return the name of the operation that is executed; without a name, its root fields. Both are valid identifiers."""
    for node in operations:
        if name in {None, node.name and node.name.value}:
            fields = [field.name.value for field in node.selection_set.selections if isinstance(field, FieldNode)]
            return (node.name.value if node.name else ",".join(fields))[:OPERATION_MAX_CHARACTERS]
    return None


def find_errors(schema: GraphQLSchema, document: DocumentNode, *, introspection: bool) -> list[GraphQLError]:
    """Validate a document: first its size, because the other rules cost more.

    Without introspection the errors suggest no names of the schema.
    """
    rules: Sequence[type[ASTValidationRule]] = RULES if introspection else (*RULES, NoSchemaIntrospectionCustomRule)
    return find_excess(document) or validate(
        schema, document, rules, max_errors=MAX_ERRORS, hide_suggestions=not introspection
    )
