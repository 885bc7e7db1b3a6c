"""Secrets are cut out of texts that are logged, stored or printed: those of the settings, and what looks like a secret."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from pydantic import SecretStr

from app.settings import Settings

REDACTED = "<redacted>"

SHAPES = re.compile(
    r"""
      (?<=/bot)\d+(?::|%3A)[\w-]+                     # a bot's token in the address of a method of Telegram
    | (?<!\w)\d{6,}(?::|%3A)[\w-]{30,}                # a bot's token
    | (?<!\w)(?:AIza|AQ\.)[\w-]{20,}                  # a key of Google
    | (?<=[Bb]earer\ )[\w.~+/=-]{16,}                 # an Authorization header
    | (?<!\w)eyJ[\w-]{8,}\.[\w-]+\.[\w-]*             # a JSON Web Token
    | (?<=://)[^\s/"']*:[^\s/"']*(?=@)                # the user and the password in an address
    """,
    re.VERBOSE,
)

LONG_CHARACTERS = 8
"""A longer secret is found anywhere. A shorter one may be a part of other words, so it is found only as a whole word."""

SHORTEST_CHARACTERS = 4
"""A shorter text is no secret, and without it many lines would be unreadable."""


class Redactor:
    """Cuts `secrets` and what has the shape of a secret out of texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        written = {form for secret in secrets for form in _forms(secret)}
        ordered = sorted(written, key=len, reverse=True)  # a secret may contain another one
        self._long = [secret for secret in ordered if len(secret) >= LONG_CHARACTERS]
        short = [re.escape(secret) for secret in ordered if SHORTEST_CHARACTERS <= len(secret) < LONG_CHARACTERS]
        self._short = re.compile(rf"(?<![\w.-])(?:{'|'.join(short)})(?![\w.-])") if short else None

    def __call__(self, text: str) -> str:
        for secret in self._long:
            if secret in text:
                text = text.replace(secret, REDACTED)
        if self._short is not None:
            text = self._short.sub(REDACTED, text)
        return SHAPES.sub(REDACTED, text)


_redactor = Redactor()


def redact(text: str) -> str:
    """Return `text` without secrets."""
    return _redactor(text)


def redact_secrets(secrets: Iterable[str]) -> None:
    """From now on `redact` knows `secrets`, and no others."""
    global _redactor  # noqa: PLW0603 a process has one set of secrets, and errors come from everywhere
    _redactor = Redactor(secrets)


def secrets_of(settings: Settings) -> Iterator[str]:
    """Iterate over what must not be shown of the settings."""
    for _, value in settings:
        for secret in value if isinstance(value, tuple) else (value,):
            if isinstance(secret, SecretStr):
                yield from _parts(secret.get_secret_value())


def environment_secrets() -> Iterator[str]:
    """Iterate over the same in the environment, whose values may be wrong."""
    for name, field in Settings.model_fields.items():
        value = os.environ.get(name.upper(), "")
        if "SecretStr" in str(field.annotation):
            for secret in (value, *value.split(",")):
                with suppress(ValueError):  # not an address
                    yield from _parts(secret)


def _parts(secret: str) -> Iterator[str]:
    """Iterate over what must not be shown of a setting: a password in an address, a key without its project."""
    yield secret
    if "://" not in secret:
        yield secret.rpartition(":")[2]
        return
    address = urlsplit(secret)
    if address.password:
        yield address.password
        yield unquote(address.password)
    yield from (value for name, value in parse_qsl(address.query) if "password" in name)


def _forms(secret: str) -> set[str]:
    """The secret as it is written in a text, in an address, in JSON, and in Python's representation."""
    return {secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
