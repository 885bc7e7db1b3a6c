"""Failures as REST tells them: problem documents (RFC 9457)."""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from starlette.responses import Response
from strawberry.utils.str_converters import to_snake_case

from app.errors import Internal, LunchbotError

PROBLEM_JSON = "application/problem+json"

GRAPHQL_PLACE = re.compile(r"^\[\d+\][\w.\[\]]*(?=:)|(?<=needs )\w+$")
"""Such as `[0].deadlineTime`, at the beginning of what is wrong."""


def problem_of(
    errors: Sequence[Mapping[str, Any]], names: Mapping[str, str], choices: Mapping[str, Sequence[str]]
) -> Response:
    """Answer with GraphQL's `errors`.

    Args:
        errors: At least one error, as the schema presents it.
        names: What REST calls an argument.
        choices: What may be said for a parameter that is an enumeration.
    """
    first = errors[0]
    code = first["extensions"]["code"]
    kind = _KINDS.get(code, Internal)
    details = {to_snake_case(name): value for name, value in first["extensions"].get("details", {}).items()}
    fields: list[dict[str, str]] = [
        {"field": name, "detail": _problem_in(error["message"], choices.get(name))}
        for error in errors
        if "field" in error["extensions"].get("details", {})
        for name in [_field(error, names)]
    ]
    details.pop("field", None)
    detail = "{field}: {detail}".format(**fields[0]) if fields else first["message"]
    return _problem(kind, detail, details, fields)


def problem(error: LunchbotError, headers: Mapping[str, str] | None = None) -> Response:
    """Answer with `error`."""
    details = dict(error.details)
    field = details.pop("field", None)
    fields: list[dict[str, str]] = (
        [] if field is None else [{"field": str(field), "detail": getattr(error, "problem", error.message)}]
    )
    return _problem(type(error), error.message, details, fields, headers)


def _problem_in(message: str, choices: Sequence[str] | None) -> str:
    """Take the field's name away, and give the place within it, what it needs or may be, REST's spelling."""
    if choices is not None and "does not exist in" in message:
        return f"must be one of: {', '.join(choices)}"
    problem = message.partition(": ")[2] or message
    return GRAPHQL_PLACE.sub(lambda found: to_snake_case(found[0]), problem)


def _field(error: Mapping[str, Any], names: Mapping[str, str]) -> str:
    name: str = error["extensions"]["details"]["field"]
    return names.get(name, name)


def _problem(
    kind: type[LunchbotError],
    detail: str,
    details: Mapping[str, Any],
    fields: Sequence[Mapping[str, str]],
    headers: Mapping[str, str] | None = None,
) -> Response:
    sent = dict(headers or {})
    if (retry_after := details.get("retry_after")) is not None:
        sent["Retry-After"] = str(retry_after)
    if kind.status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = "Bearer"
    body: dict[str, Any] = {
        "type": f"urn:lunch-bot:error:{kind.code.lower().replace('_', '-')}",
        "title": (kind.__doc__ or "").partition("\n")[0],
        "status": kind.status,
        "detail": detail,
        "code": kind.code,
    }
    if fields:
        body["errors"] = fields
    if details:
        body["details"] = details
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    if request_id:
        body["request_id"] = request_id
    return Response(orjson.dumps(body), kind.status, sent, PROBLEM_JSON)


def _kinds(root: type[LunchbotError]) -> dict[str, type[LunchbotError]]:
    found = {code: kind for child in root.__subclasses__() for code, kind in _kinds(child).items()}
    return found | ({root.code: root} if hasattr(root, "code") else {})


_KINDS = _kinds(LunchbotError)
CODES = tuple(_KINDS)
