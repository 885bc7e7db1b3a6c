"""Errors in REST: problem documents (RFC 9457)."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from starlette.responses import Response
from strawberry.utils.str_converters import to_snake_case

from app.errors import BadInput, FieldProblem, Internal, LunchbotError, join_problems
from app.log import describe_request

PROBLEM_JSON = "application/problem+json"

GRAPHQL_PLACE = re.compile(r"^\[\d+\][\w.\[\]]*(?=:)|(?<=needs )\w+$")
"""A name of GraphQL in a detail: `[0].deadlineTime` at its beginning, or the setting that an operation «needs» at its end."""


def problem_of_graphql(
    errors: Sequence[Mapping[str, Any]], names: Mapping[str, str], choices: Mapping[str, Sequence[str]]
) -> Response:
    """Answer with GraphQL's `errors`.

    Args:
        errors: At least one error, as the schema formats it.
        names: REST's name of each argument.
        choices: The possible values of a parameter that is an enumeration.
    """
    first = errors[0]
    code = first["extensions"]["code"]
    kind = _KINDS.get(code, Internal)
    details = {to_snake_case(name): value for name, value in first["extensions"].get("details", {}).items()}
    problems = [
        FieldProblem(name, _rest_detail(problem["detail"], choices.get(name)))
        for error in errors
        for problem in error["extensions"].get("details", {}).get("errors", ())
        for name in [names.get(problem["field"], problem["field"])]
    ]
    return _problem(kind, join_problems(problems) or first["message"], details, problems)


def problem_response(error: LunchbotError, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with `error`."""
    problems = error.problems if isinstance(error, BadInput) else ()
    return _problem(type(error), error.message, dict(error.details), problems, headers)


def _rest_detail(detail: str, choices: Sequence[str] | None) -> str:
    """Write a detail with REST's names: the place in a list or object, a missing field, the possible values."""
    if choices is not None and "does not exist in" in detail:
        return f"must be one of: {', '.join(choices)}"
    return GRAPHQL_PLACE.sub(lambda place: to_snake_case(place[0]), detail)


def _problem(
    kind: type[LunchbotError],
    detail: str,
    details: dict[str, Any],
    problems: Sequence[FieldProblem],
    headers: Mapping[str, str] | None = None,
) -> Response:
    for name in ("field", "errors"):  # in `errors` of the document
        details.pop(name, None)
    sent = dict(headers or {})
    if (retry_after := details.get("retry_after")) is not None:
        sent["Retry-After"] = str(retry_after)
    if kind.status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = "Bearer"
    body: dict[str, Any] = {
        "type": f"urn:lunch-bot:error:{kind.code.lower().replace('_', '-')}",
        "title": kind.title(),
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
    }
    if problems:
        body["errors"] = [problem._asdict() for problem in problems]
    if details:
        body["details"] = details
    describe_request(code=kind.code)
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    if request_id:
        body["request_id"] = request_id
    return Response(orjson.dumps(body), kind.status, sent, PROBLEM_JSON)


def _kinds(root: type[LunchbotError]) -> dict[str, type[LunchbotError]]:
    found = {code: kind for child in root.__subclasses__() for code, kind in _kinds(child).items()}
    return found | ({root.code: root} if hasattr(root, "code") else {})


_KINDS = _kinds(LunchbotError)
CODES = tuple(_KINDS)
