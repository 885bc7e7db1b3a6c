"""Users and managers, identified by their Telegram id."""

import datetime as dt
from enum import StrEnum
from typing import Annotated

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from app.models.cafes import Language
from app.models.columns import TelegramId, enum_column, instant
from app.validation import NAME_MAX_CHARACTERS, Input, Name, range_rule

TELEGRAM_ID_MAX = 2**52 - 1
"""Telegram's ids have at most 52 significant bits (https://core.telegram.org/bots/api#chat), so a JSON number is exact.
PostgreSQL stores them as BIGINT."""


class Role(StrEnum):
    """The rights of a user. A manager may do everything that a user may do, for all users."""

    USER = "user"
    MANAGER = "manager"


class UserInput(Input):
    """A new user."""

    tgid: Annotated[int, range_rule(1, TELEGRAM_ID_MAX, "is not the id of a person in Telegram")]
    name: Name


class UserFields(SQLModel):
    """The public fields of a user."""

    tgid: TelegramId = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    role: Role = Field(default=Role.USER, sa_column=enum_column(Role, "users_role_check", Role.USER))
    is_active: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    created_at: dt.datetime = instant(default_now=True)


class User(UserFields, table=True):
    """A person who signs in with Telegram."""

    __tablename__ = "users"

    language: Language = Field(
        default=Language.EN, sa_column=enum_column(Language, "users_language_check", Language.EN)
    )

    def deactivate(self) -> None:
        """End this user's access."""
        self.is_active = False
