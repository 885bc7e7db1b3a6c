"""What every operation checks of its input."""

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from app.errors import BadInput
from app.models.menus import PRICE_MAX
from app.models.tables import NAME_MAX_CHARACTERS
from app.zones import is_zone

DESCRIPTION_MAX_CHARACTERS = 1000

FIRST_DATE = dt.date(2000, 1, 1)
LAST_DATE = dt.date(2099, 12, 31)
"""Beyond these somebody has mistyped the year."""


def checked_text(field: str, value: str | None, max_characters: int) -> str | None:
    """Return `value` if PostgreSQL can keep it.

    Raises BadInput if it is too long, or has a NUL or half of a surrogate pair in it.
    """
    if value is None:
        return None
    if len(value) > max_characters:
        raise BadInput(field, f"has {len(value)} characters; at most {max_characters} are allowed")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise BadInput(field, "has a character that is not allowed")
    return value


def checked_name(field: str, value: str) -> str:
    """Return `value`, without spaces around it, if it is one line of text.

    Raises BadInput.
    """
    name = value.strip()
    checked_text(field, name, NAME_MAX_CHARACTERS)
    if not name:
        raise BadInput(field, "must not be empty")
    if len(name.splitlines()) > 1 or any(ord(character) < ord(" ") for character in name):
        raise BadInput(field, "must be one line")
    return name


def checked_price(field: str, value: Decimal) -> Decimal:
    """Raises BadInput."""
    if not 0 <= value <= PRICE_MAX:
        raise BadInput(field, f"must be from 0.00 to {PRICE_MAX}")
    return value


def checked_date(field: str, value: dt.date) -> dt.date:
    """Raises BadInput."""
    if not FIRST_DATE <= value <= LAST_DATE:
        raise BadInput(field, f"must be from {FIRST_DATE} to {LAST_DATE}")
    return value


def checked_timezone(field: str, value: str) -> str:
    """Raises BadInput if it is no name of the IANA database."""
    if not is_zone(value):
        raise BadInput(field, "is no time zone of the IANA database, such as Europe/Berlin")
    return value


def without_nulls(changes: Mapping[str, Any]) -> None:
    """Raises BadInput if something is to become null that cannot."""
    for field, value in changes.items():
        if value is None:
            raise BadInput(field, "must not be null")
