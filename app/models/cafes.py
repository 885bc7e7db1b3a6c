"""Cafes and the Telegram chat that each is linked to."""

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from app.errors import CafeAlreadyLinked, CafeNotLinked
from app.models.tables import NAME_MAX_CHARACTERS, enum_column, identity, instant


class Language(StrEnum):
    """Languages that texts exist in."""

    EN = "en"
    RU = "ru"


class Cafe(SQLModel, table=True):
    """A cafe. Its orders go to its chat, if it has one and notifications are on."""

    __tablename__ = "cafes"
    __table_args__ = (
        sa.UniqueConstraint("tg_chat_id"),
        sa.CheckConstraint("(tg_chat_id IS NULL) = (linked_at IS NULL)", name="cafes_linked_check"),
        sa.Index("cafes_name_idx", "name", "id"),
    )

    id: int = identity()
    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    description: str = Field(default="", sa_column_kwargs={"server_default": ""})
    is_active: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    tg_chat_id: int | None = Field(default=None, sa_type=sa.BigInteger)
    tg_username: str | None = Field(default=None, max_length=NAME_MAX_CHARACTERS)
    notifications_enabled: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    linked_at: datetime | None = instant(nullable=True)
    timezone: str = Field(default="UTC", max_length=64, sa_column_kwargs={"server_default": "UTC"})
    language: Language = Field(
        default=Language.EN, sa_column=enum_column(Language, "cafes_language_check", Language.EN)
    )
    created_at: datetime = instant(default_now=True)

    def link(self, *, chat_id: int, username: str | None, at: datetime) -> None:
        """Send this cafe's orders to that chat from now on.

        Raises CafeAlreadyLinked. That no two cafes have one chat is kept by the unique constraint.
        """
        if self.tg_chat_id is not None:
            raise CafeAlreadyLinked
        self.tg_chat_id = chat_id
        self.tg_username = username
        self.linked_at = at
        self.notifications_enabled = True

    def unlink(self) -> int:
        """Forget the chat, and return its id.

        Raises CafeNotLinked.
        """
        if self.tg_chat_id is None:
            raise CafeNotLinked
        chat_id = self.tg_chat_id
        self.tg_chat_id = self.tg_username = self.linked_at = None
        return chat_id

    @property
    def is_notified(self) -> bool:
        """Whether its orders are sent to its chat."""
        return self.is_active and self.notifications_enabled and self.tg_chat_id is not None

    def switch_notifications(self, *, enabled: bool) -> None:
        """Send orders to the chat, or keep them back.

        Raises CafeNotLinked: a switch without a chat would promise what it cannot do.
        """
        if self.tg_chat_id is None:
            raise CafeNotLinked
        self.notifications_enabled = enabled

    def switch_off(self) -> None:
        """Take no orders any more."""
        self.is_active = False
