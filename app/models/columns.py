"""Columns and constraint names that tables share."""

from decimal import Decimal
from enum import Enum, StrEnum, auto
from typing import Annotated, Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}
"""PostgreSQL's default names, so that a migration can name what it changes. A CHECK is named where it is written."""

metadata = SQLModel.metadata


class IdKind(Enum):
    """The kind of an identifier. APIs show row ids as strings and Telegram's ids as numbers."""

    ROW = auto()
    TELEGRAM = auto()


RowId = Annotated[int, IdKind.ROW]
TelegramId = Annotated[int, IdKind.TELEGRAM]


def identity() -> Any:
    """A primary key that PostgreSQL generates, 64 bits wide."""
    return Field(default=None, sa_column=sa.Column(sa.BigInteger, sa.Identity(always=True), primary_key=True))


def instant(*, nullable: bool = False, default_now: bool = False, description: str | None = None) -> Any:
    """A point in time, stored as UTC."""
    default: dict[str, Any] = {"default": None} if nullable or default_now else {}
    return Field(
        **default,
        sa_type=sa.DateTime(timezone=True),
        nullable=nullable,
        sa_column_kwargs={"server_default": sa.func.now()} if default_now else {},
        description=description,
    )


def money(*, nullable: bool = False, digits: int = 10, description: str | None = None) -> Any:
    """An amount of money: exact, with two decimal places."""
    default: dict[str, Any] = {"default": None} if nullable else {"default": Decimal(0)}
    return Field(**default, sa_type=sa.Numeric(digits, 2), nullable=nullable, description=description)


def enum_type(kind: type[StrEnum], name: str | None = None) -> sa.Enum:
    """An enumeration stored as text, with a CHECK of that name: a native type could never lose a value again."""
    return sa.Enum(
        kind,
        name=name,
        native_enum=False,
        create_constraint=name is not None,
        length=32,
        values_callable=lambda enum: [member.value for member in enum],
    )


def enum_column(kind: type[StrEnum], name: str, default: StrEnum | None = None) -> sa.Column[Any]:
    return sa.Column(enum_type(kind, name), nullable=False, server_default=None if default is None else default.value)
