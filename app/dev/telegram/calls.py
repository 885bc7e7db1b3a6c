"""The parameters of a Bot API call in every format that clients send, and the errors that answer a bad call."""

import re
from collections.abc import Iterable, Mapping
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qsl

import orjson
from starlette.requests import Request

from app.dev.standins import Json

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
"""Telegram stores numbers in 64 bits; 18 digits always fit."""


class BotApiError(Exception):
    """An error of the Bot API (https://core.telegram.org/bots/api#making-requests)."""

    def __init__(self, error_code: int, description: str, parameters: Json | None = None) -> None:
        super().__init__(description)
        self.error_code = error_code
        self.description = description
        self.parameters = parameters

    def as_json(self) -> Json:
        """Return the body of the answer."""
        answer: Json = {"ok": False, "error_code": self.error_code, "description": self.description}
        if self.parameters:
            answer["parameters"] = self.parameters
        return answer


def bad_request(reason: str) -> BotApiError:
    """Return code 400: repeating the same call cannot succeed."""
    return BotApiError(400, f"Bad Request: {reason}")


def parse_integer(text: str) -> int | None:
    """Parse a decimal integer; return None if the text is not one."""
    return int(text) if _INTEGER.fullmatch(text) else None


class Call:
    """The parameters of one call. Numbers and objects may be strings, because forms contain only strings."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    def __contains__(self, name: str) -> bool:
        return self._parameters.get(name) is not None

    def text(self, name: str) -> str:
        """Return the parameter as a string; empty when it is missing."""
        value = self._parameters.get(name)
        if value is None or isinstance(value, str):
            return value or ""
        return orjson.dumps(value).decode()

    def integer(self, name: str, *, default: int = 0) -> int:
        """Return the parameter as an integer. As with Telegram, another value counts as missing."""
        number = parse_integer(self.text(name).strip())
        return default if number is None else number

    def flag(self, name: str) -> bool:
        """Return the parameter as a boolean; false when it is missing."""
        return self.text(name).strip().lower() in {"true", "yes", "1"}

    def json(self, name: str, label: str) -> Any:
        """Return the parameter, decoded from JSON if it is a string; None when it is missing.

        Raises BotApiError, which names the parameter `label`.
        """
        value = self._parameters.get(name)
        if not isinstance(value, str):
            return value
        if not value.strip():
            return None
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise bad_request(f"can't parse {label} JSON object") from error


async def parse_call(request: Request) -> Call:
    """Parse the query and the body (form, multipart or JSON); the body takes precedence.

    Raises BotApiError for a malformed body.
    """
    parameters: dict[str, Any] = _decode_fields(parse_qsl(request.scope["query_string"], keep_blank_values=True))
    body = await request.body()
    content_type = request.headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" and body:
        parameters |= _parse_json(body)
    elif kind == "multipart/form-data":
        parameters |= _decode_fields(_parse_multipart(content_type, body))
    elif kind == "application/x-www-form-urlencoded":
        parameters |= _decode_fields(parse_qsl(body, keep_blank_values=True))
    return Call(parameters)


def _decode_fields(fields: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    try:
        return {name.decode(): value.decode() for name, value in fields}
    except UnicodeDecodeError as error:
        raise bad_request("strings must be encoded in UTF-8") from error


def _parse_json(body: bytes) -> Json:
    try:
        parameters = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise bad_request("can't parse request body JSON object") from error
    if not isinstance(parameters, dict):
        raise bad_request("request body must be a JSON object")
    return parameters


def _parse_multipart(content_type: str, body: bytes) -> Iterable[tuple[bytes, bytes]]:
    """A multipart form is a MIME message without its head, so the standard library can parse it."""
    message = BytesParser().parsebytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    if not message.is_multipart():
        raise bad_request("can't parse multipart form")
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        value = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(value, bytes):
            yield name.encode("ascii", "surrogateescape"), value
