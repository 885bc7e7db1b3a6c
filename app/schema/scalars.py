"""Scalars that GraphQL does not have, and identifiers as our tables know them."""

from typing import NewType

import strawberry

from app.errors import BadInput
from app.models.users import TELEGRAM_ID_MAX

BIGINT_MAX = 2**63 - 1
BIGINT_DIGITS = len(str(BIGINT_MAX))

TelegramId = NewType("TelegramId", int)


def parse_telegram_id(value: object) -> int:
    """Raises ValueError; GraphQL adds which variable or argument it was."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int:
        raise ValueError("must be a whole number")
    if value == 0:
        raise ValueError("must not be 0")
    if abs(value) > TELEGRAM_ID_MAX:
        raise ValueError("must have at most 52 significant bits")
    return value


def to_id(field: str, value: strawberry.ID) -> int:
    """Read the id of a row.

    Raises BadInput.
    """
    if value.isascii() and value.isdecimal() and len(value) <= BIGINT_DIGITS and 0 < int(value) <= BIGINT_MAX:
        return int(value)
    raise BadInput(field, "is not an id")
