"""Scalars that GraphQL does not have, and identifiers as our tables know them."""

import re
from decimal import Decimal
from typing import NewType

import strawberry

from app.errors import BadInput
from app.models.users import TELEGRAM_ID_MAX

BIGINT_MAX = 2**63 - 1
BIGINT_DIGITS = len(str(BIGINT_MAX))

CENT = Decimal("0.01")
DECIMAL_LIMIT = Decimal(10**8)
"""Amounts that come in have at most 8 digits before the point, as NUMERIC(10, 2) keeps them."""

AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")
"""Python would read other digits, spaces, underscores and exponents as well."""

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


def parse_decimal(value: object) -> Decimal:
    """Read an amount of money: text such as "4.50", or a number. Raises ValueError, as above."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError('must be an amount such as "4.50"')  # noqa: TRY004 what the schema presents
    if isinstance(value, str) and not AMOUNT.fullmatch(value):
        raise ValueError('must be an amount such as "4.50"')
    amount = Decimal(str(value))
    if not amount.is_finite():
        raise ValueError("must be finite")
    if abs(amount) >= DECIMAL_LIMIT or amount != amount.quantize(CENT):
        raise ValueError("must have at most 8 digits and 2 decimal places")
    return abs(amount.quantize(CENT)) if amount == 0 else amount.quantize(CENT)


def serialize_decimal(value: Decimal) -> str:
    """Write an amount with its two places."""
    return f"{value:.2f}"


def to_id(field: str, value: strawberry.ID) -> int:
    """Read the id of a row.

    Raises BadInput.
    """
    if value.isascii() and value.isdecimal() and len(value) <= BIGINT_DIGITS and 0 < int(value) <= BIGINT_MAX:
        return int(value)
    raise BadInput(field, "is not an id")


def to_optional_id(field: str, value: strawberry.ID | None) -> int | None:
    """Do so with one that need not be there."""
    return None if value is None else to_id(field, value)
