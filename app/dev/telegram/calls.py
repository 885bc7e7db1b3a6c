"""What a client sent, whatever form it came in, and how it is told that this will not do."""

import re
from collections.abc import Iterable, Mapping
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

type Json = dict[str, Any]

_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
"""18 digits always fit the 64 bits that Telegram keeps numbers in."""


class BotApiError(Exception):
    """A refusal, in the shape that the Bot API gives it (https://core.telegram.org/bots/api#making-requests)."""

    def __init__(self, error_code: int, description: str, parameters: Json | None = None) -> None:
        super().__init__(description)
        self.error_code = error_code
        self.description = description
        self.parameters = parameters

    def as_json(self) -> Json:
        """The body of the answer."""
        answer: Json = {"ok": False, "error_code": self.error_code, "description": self.description}
        if self.parameters:
            answer["parameters"] = self.parameters
        return answer


def bad_request(reason: str) -> BotApiError:
    """Code 400: the call can never work as it is."""
    return BotApiError(400, f"Bad Request: {reason}")


def whole_number(written: str) -> int | None:
    """The number that a text spells, None if it spells none."""
    return int(written) if _WHOLE_NUMBER.fullmatch(written) else None


class Call:
    """The parameters of one call. Numbers and objects may come as strings, as forms have nothing else."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    def __contains__(self, name: str) -> bool:
        return self._parameters.get(name) is not None

    def text(self, name: str) -> str:
        """The parameter as a string; empty when it is missing."""
        value = self._parameters.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        return orjson.dumps(value).decode()

    def integer(self, name: str, *, default: int = 0) -> int:
        """The parameter as a whole number; what is no number counts as missing, as it does with Telegram."""
        number = whole_number(self.text(name).strip())
        return default if number is None else number

    def flag(self, name: str) -> bool:
        """The parameter as yes or no."""
        return self.text(name).strip().lower() in {"true", "yes", "1"}

    def json(self, name: str, what: str) -> Any:
        """The parameter as JSON, None when it is missing.

        Raises BotApiError, which calls it `what`.
        """
        value = self._parameters.get(name)
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"can't parse {what} JSON object") from error


async def read_call(request: Request) -> Call:
    """The parameters from the query and the body (form, multipart or JSON); the body wins.

    Raises BotApiError for a body that cannot be read.
    """
    parameters: dict[str, Any] = _decoded(parse_qsl(request.scope["query_string"], keep_blank_values=True))
    body = await request.body()
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" and body:
        parameters |= _read_json(body)
    elif kind == "multipart/form-data":
        parameters |= _decoded(_read_multipart(content_type, body))
    elif kind == "application/x-www-form-urlencoded":
        parameters |= _decoded(parse_qsl(body, keep_blank_values=True))
    return Call(parameters)


def _decoded(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    try:
        return {name.decode(): value.decode() for name, value in fields}
    except UnicodeDecodeError as error:
        raise bad_request("strings must be encoded in UTF-8") from error


def _read_json(body: bytes) -> Json:
    try:
        parameters = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request("can't parse request body JSON object") from error
    if not isinstance(parameters, dict):
        raise bad_request("request body must be a JSON object")
    return parameters


def _read_multipart(content_type: str, body: bytes) -> Iterable[tuple[bytes, bytes]]:
    """A multipart form is a MIME message without its head, so the standard library can read it."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    if not message.is_multipart():
        raise bad_request("can't parse multipart form")
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(value, bytes):
            yield name.encode("ascii", "surrogateescape"), value
