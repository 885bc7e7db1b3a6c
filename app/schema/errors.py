"""How failures look in GraphQL: `extensions.code`, and `extensions.details` where there is something to say."""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from graphql import ArgumentNode, GraphQLError, ValueNode, VariableDefinitionNode
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import PreExecutionError
from strawberry.utils.str_converters import to_camel_case

from app.errors import BadInput, GraphQLInvalid, Internal, LunchbotError, ServiceUnavailable, as_lunchbot_error
from app.log import get_log

log = get_log(__name__)

IN_OTHER_WORDS = (
    (re.compile(r"Expected value of type '[^']+', but encountered error '(.*)'; found: .*", re.DOTALL), r"\1"),
    (re.compile(r"Expected value of non-null type '[^']+' not to be None\."), "must not be null"),
    (re.compile(r"Expected a value of non-null type '[^']+' to be provided\."), "is missing"),
    (re.compile(r"Expected value of type '[^']+' to include required field '(\w+)'.*", re.DOTALL), r"needs \1"),
    (re.compile(r"Value cannot represent a Date: .*", re.DOTALL), "must be a date such as 2026-01-31"),
    (re.compile(r"Value cannot represent a Time: .*", re.DOTALL), "must be a time such as 10:30"),
)
"""graphql-core's sentences, and ours."""

INVALID_VALUE = re.compile(r" has invalid value(?: at ([^:]+))?: (.*)", re.DOTALL)
"""What graphql-core says of a variable, with the place in it if it is a list or an object."""


def presented[Result](result: Result) -> Result:
    """Give each error of `result` its code, and mask what is not for clients."""
    errors: Sequence[GraphQLError] | None = getattr(result, "errors", None)
    if errors:
        result.errors = [present(error) for error in errors]  # type: ignore[attr-defined]
    return result


async def presented_each(results: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    """Do so for each result of a stream, and end it with an error if it breaks."""
    async with aclosing(results):
        try:
            async for result in results:
                yield presented(result)
        except Exception as error:  # noqa: BLE001 masked and logged like any other
            yield presented(PreExecutionError(data=None, errors=[GraphQLError(str(error), original_error=error)]))


def present(error: GraphQLError) -> GraphQLError:
    """Return `error` as clients see it."""
    if "code" in (error.extensions or {}):
        return error
    failure = _failure(error)
    if isinstance(failure, Internal | ServiceUnavailable):
        log.error("graphql.failed", path=error.path, code=failure.code, exc_info=error.original_error or error)
    extensions: dict[str, Any] = {"code": failure.code}
    if failure.details:
        extensions["details"] = {to_camel_case(name): _shown(name, value) for name, value in failure.details.items()}
    return GraphQLError(
        f"{to_camel_case(failure.field)}: {failure.problem}" if isinstance(failure, BadInput) else failure.message,
        nodes=error.nodes,
        source=error.source,
        positions=error.positions,
        path=error.path,
        extensions=extensions,
    )


def _failure(error: GraphQLError) -> LunchbotError:
    """Find out what `error` is. What has no path happened before any field was resolved."""
    match error.original_error:
        case None | GraphQLError():
            if invalid := INVALID_VALUE.search(error.message):
                place, problem = invalid.groups()
                return BadInput(_name(error), ": ".join(filter(None, (place, plain(problem)))))
            if error.message.startswith("Value cannot represent a "):
                return BadInput(_name(error), plain(error.message))
            if error.path is None:
                return GraphQLInvalid(error.message)
            argument = error.nodes and isinstance(error.nodes[0], ArgumentNode | ValueNode)
            return BadInput(_name(error), error.message) if argument else Internal()
        case ValueError() as refused if error.path is None:
            return BadInput(_name(error), str(refused))
        case CannotGetOperationTypeError() | InvalidOperationTypeError():
            return GraphQLInvalid(error.message)
        case RecursionError() if error.path is None:
            return GraphQLInvalid("The document is nested too deep.")
        case raised:
            return as_lunchbot_error(raised)


def plain(problem: str) -> str:
    """Say what graphql-core says in words for those who do not write GraphQL."""
    for said, meant in IN_OTHER_WORDS:
        problem = said.sub(meant, problem)
    return problem


def _name(error: GraphQLError) -> str:
    node = error.nodes[0] if error.nodes else None
    return node.variable.name.value if isinstance(node, VariableDefinitionNode) else _argument(error)


def _argument(error: GraphQLError) -> str:
    """Find the name of the argument in whose literal `error` lies: the last `name:` before it in the source."""
    if error.source is None or not error.positions:
        return "value"
    before = error.source.body[: min(error.positions)].rstrip().removesuffix(":").rstrip()
    return before[len(before.rstrip("_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")) :] or "value"


def _shown(name: str, value: object) -> object:
    return to_camel_case(value) if name == "field" and isinstance(value, str) else value
