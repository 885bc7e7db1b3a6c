"""Colleagues and managers, known by their Telegram id."""

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from app.models.cafes import Language
from app.models.tables import NAME_MAX_CHARACTERS, enum_column, instant

TELEGRAM_ID_MAX = 2**52 - 1
"""Telegram's ids have at most 52 significant bits (https://core.telegram.org/bots/api#chat), so that they are exact in a
JSON number; PostgreSQL keeps them as BIGINT."""


class Role(StrEnum):
    """What a person may do: a manager may everything a user may, for everyone."""

    USER = "user"
    MANAGER = "manager"


class User(SQLModel, table=True):
    """A person who signs in with Telegram."""

    __tablename__ = "users"

    tgid: int = Field(sa_column=sa.Column(sa.BigInteger, primary_key=True, autoincrement=False))
    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    role: Role = Field(default=Role.USER, sa_column=enum_column(Role, "users_role_check", Role.USER))
    is_active: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    language: Language = Field(
        default=Language.EN, sa_column=enum_column(Language, "users_language_check", Language.EN)
    )
    created_at: datetime = instant(default_now=True)

    def switch_off(self) -> None:
        """Let this person do nothing any more."""
        self.is_active = False
