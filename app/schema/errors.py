"""Errors in GraphQL: `extensions.code`, and `extensions.details` with facts for programs."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from graphql import ArgumentNode, GraphQLError, ValueNode, VariableDefinitionNode
from strawberry.exceptions import MissingQueryError
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import PreExecutionError
from strawberry.utils.str_converters import to_camel_case

from app.errors import (
    BadInput,
    FieldProblem,
    GraphQLInvalid,
    Internal,
    LunchbotError,
    ServiceUnavailable,
    as_lunchbot_error,
    join_problems,
)
from app.log import describe_request, get_log

log = get_log(__name__)

REWORDED = (
    (re.compile(r"Expected value of type '[^']+', but encountered error '(.*)'; found: .*", re.DOTALL), r"\1"),
    (re.compile(r"Expected value of non-null type '[^']+' not to be None\."), "must not be null"),
    (re.compile(r"Expected a value of non-null type '[^']+' to be provided\."), "is missing"),
    (re.compile(r"Expected value of type '[^']+' to include required field '(\w+)'.*", re.DOTALL), r"needs \1"),
)
"""graphql-core's sentences, and ours for readers who do not write GraphQL."""

PLACE = re.compile(r"^[\w.\[\]]*\][\w.\[\]]*(?=: )")
"""Such as `[0].deadline_time`."""

INVALID_VALUE = re.compile(r" has invalid value(?: at ([^:]+))?: (.*)", re.DOTALL)
"""graphql-core's sentence about a variable, with the place inside a list or an object."""


def format_errors[Result](result: Result) -> Result:
    """Give each error of `result` its code, and mask internal errors."""
    errors: Sequence[GraphQLError] | None = getattr(result, "errors", None)
    if errors:
        result.errors = [format_error(error) for error in errors]  # type: ignore[attr-defined]
        describe_request(code=result.errors[0].extensions["code"])  # type: ignore[attr-defined]
    return result


async def format_stream_errors(results: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """Do the same for each result of a stream. A stream that fails ends with an error."""
    async with aclosing(results):
        try:
            async for result in results:
                yield format_errors(result)
        except Exception as error:  # noqa: BLE001 masked and logged like any other
            yield format_errors(PreExecutionError(data=None, errors=[GraphQLError(str(error), original_error=error)]))


def format_error(error: GraphQLError) -> GraphQLError:
    """Return `error` as clients see it."""
    if "code" in (error.extensions or {}):
        return error
    failure = _to_domain_error(error)
    if isinstance(failure, Internal | ServiceUnavailable):
        log.error("graphql.failed", path=error.path, code=failure.code, exc_info=error.original_error or error)
    message, extensions = describe(failure)
    return GraphQLError(
        message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )


def describe(failure: LunchbotError) -> tuple[str, dict[str, Any]]:
    """Return the message and the extensions of an error, with GraphQL's names."""
    extensions: dict[str, Any] = {"code": failure.code}
    message, details = failure.message, {to_camel_case(name): value for name, value in failure.details.items()}
    if isinstance(failure, BadInput):
        problems = [FieldProblem(to_camel_case(field), _camel_place(detail)) for field, detail in failure.problems]
        message = join_problems(problems)
        details |= {"field": problems[0].field, "errors": [problem._asdict() for problem in problems]}
    if details:
        extensions["details"] = details
    return message, extensions


def _to_domain_error(error: GraphQLError) -> LunchbotError:
    """Translate `error`. An error without a path happened before any field was resolved."""
    match error.original_error:
        case None | GraphQLError():
            if invalid := INVALID_VALUE.search(error.message):
                place, problem = invalid.groups()
                return BadInput(_name(error), ": ".join(filter(None, (place, humanize(problem)))))
            if error.path is None:
                return GraphQLInvalid(error.message)
            argument = error.nodes and isinstance(error.nodes[0], ArgumentNode | ValueNode)
            return BadInput(_name(error), error.message) if argument else Internal()
        case ValueError() as refused if error.path is None:
            return BadInput(_name(error), str(refused))
        case CannotGetOperationTypeError() | InvalidOperationTypeError():
            return GraphQLInvalid(error.message)
        case MissingQueryError():
            return GraphQLInvalid("The request has no document.")
        case RecursionError() if error.path is None:
            return GraphQLInvalid("The document is nested too deeply.")
        case raised:
            return as_lunchbot_error(raised)


def humanize(problem: str) -> str:
    """Reword graphql-core's sentence for readers who do not write GraphQL."""
    for pattern, sentence in REWORDED:
        problem = pattern.sub(sentence, problem)
    return problem


def _name(error: GraphQLError) -> str:
    node = error.nodes[0] if error.nodes else None
    return node.variable.name.value if isinstance(node, VariableDefinitionNode) else _argument(error)


def _argument(error: GraphQLError) -> str:
    """Find the argument whose literal has the error: the last `name:` before it in the source."""
    if error.source is None or not error.positions:
        return "value"
    before = error.source.body[: min(error.positions)].rstrip().removesuffix(":").rstrip()
    return before[len(before.rstrip("_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")) :] or "value"


def _camel_place(detail: str) -> str:
    """Write the place inside a list or an object, at the beginning of a detail, as GraphQL does."""
    return PLACE.sub(lambda place: to_camel_case(place[0]), detail)
