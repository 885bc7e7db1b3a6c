"""Scalars that GraphQL does not have, and row ids."""

import datetime as dt
import re
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import NewType

import strawberry
from graphql import GraphQLID
from strawberry.types.scalar import ScalarDefinition

from app.dates import parse_date, parse_time
from app.models.users import TELEGRAM_ID_MAX

CENT = Decimal("0.01")
DECIMAL_LIMIT = Decimal(10**8)
"""Amounts in requests have at most 8 digits before the point, like NUMERIC(10, 2)."""

AMOUNT = re.compile(r"-?[0-9]+(\.[0-9]+)?")
"""Python would accept other digits, spaces, underscores and exponents as well."""

Id = NewType("Id", int)
"""The id of a row: GraphQL's `ID`. Operations get it as a number (see `app.schema.operations`)."""

TelegramId = NewType("TelegramId", int)


def parse_telegram_id(value: object) -> int:
    """Raises ValueError. GraphQL adds the name of the variable or argument."""
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
    """Parse an amount of money: text such as "4.50", or a number. Raises ValueError."""
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise ValueError('must be an amount such as "4.50"')  # noqa: TRY004 the schema presents this error
    if isinstance(value, str) and not AMOUNT.fullmatch(value):
        raise ValueError('must be an amount such as "4.50"')
    amount = Decimal(str(value))
    if not amount.is_finite():
        raise ValueError("must be finite")
    if abs(amount) >= DECIMAL_LIMIT or amount != amount.quantize(CENT):
        raise ValueError("must have at most 8 digits and 2 decimal places")
    return abs(amount.quantize(CENT)) if amount == 0 else amount.quantize(CENT)


def serialize_decimal(value: Decimal) -> str:
    """Write an amount with two decimal places."""
    return f"{value:.2f}"


SCALAR_MAP: Mapping[object, ScalarDefinition] = {
    Id: replace(strawberry.scalar(name="ID", serialize=str, parse_value=str), implementation=GraphQLID),
    TelegramId: strawberry.scalar(
        name="TelegramId",
        description="A Telegram id: a whole number of at most 52 significant bits, not 0.",
        specified_by_url="https://core.telegram.org/bots/api#chat",
        parse_value=parse_telegram_id,
    ),
    dt.date: strawberry.scalar(
        name="Date", description="A date: YYYY-MM-DD.", parse_value=parse_date, serialize=dt.date.isoformat
    ),
    dt.time: strawberry.scalar(
        name="Time",
        description="A local time of day: HH:MM or HH:MM:SS.",
        parse_value=parse_time,
        serialize=dt.time.isoformat,
    ),
    Decimal: strawberry.scalar(
        name="Decimal",
        description="An amount of money, exact, with two decimal places.",
        parse_value=parse_decimal,
        serialize=serialize_decimal,
    ),
}
