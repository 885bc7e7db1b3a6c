"""Cafes and their links to Telegram chats."""

import datetime as dt
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from app.errors import CafeAlreadyLinked, CafeNotLinked
from app.models.columns import TelegramId, enum_column, identity, instant
from app.validation import NAME_MAX_CHARACTERS, Description, Input, Name, TimezoneName, optional


class Language(StrEnum):
    """The languages of the texts."""

    EN = "en"
    RU = "ru"


class CafeChanges(Input):
    """A manager's changes of a cafe."""

    name: Name = optional()
    description: Description = optional()
    timezone: TimezoneName = optional()
    language: Language = optional()


class CafeInput(CafeChanges):
    """A new cafe."""

    name: Name


class CafeFields(SQLModel):
    """The public fields of a cafe: its row, its events and its API type have them."""

    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    description: str = Field(default="", sa_column_kwargs={"server_default": ""})
    is_active: bool = Field(
        default=True, sa_column_kwargs={"server_default": sa.true()}, description="Whether the cafe takes orders."
    )
    tg_chat_id: TelegramId | None = Field(
        default=None, sa_type=sa.BigInteger, description="The Telegram chat that gets the cafe's orders."
    )
    tg_username: str | None = Field(
        default=None, max_length=NAME_MAX_CHARACTERS, description="The name of that chat, without the @."
    )
    notifications_enabled: bool = Field(
        default=True,
        sa_column_kwargs={"server_default": sa.true()},
        description="Whether orders are sent to the chat.",
    )
    linked_at: dt.datetime | None = instant(nullable=True)
    timezone: str = Field(
        default="UTC",
        max_length=64,
        sa_column_kwargs={"server_default": "UTC"},
        description="A name of the IANA database, such as Europe/Berlin.",
    )
    language: Language = Field(
        default=Language.EN, sa_column=enum_column(Language, "cafes_language_check", Language.EN)
    )
    created_at: dt.datetime = instant(default_now=True)


class Cafe(CafeFields, table=True):
    """A cafe. Its orders go to its chat, if it has one and notifications are enabled.

    Args:
        tg_thread_id: The forum topic in that chat that gets them, if the link was made in one.
    """

    __tablename__ = "cafes"
    __table_args__ = (
        sa.UniqueConstraint("tg_chat_id"),
        sa.CheckConstraint("(tg_chat_id IS NULL) = (linked_at IS NULL)", name="cafes_linked_check"),
        sa.Index("cafes_name_idx", "name", "id"),
    )

    id: int = identity()
    tg_thread_id: int | None = Field(default=None, sa_type=sa.BigInteger)

    def link(self, *, chat_id: int, username: str | None, at: dt.datetime, thread_id: int | None = None) -> None:
        """Send this cafe's orders to a chat from now on.

        Args:
            thread_id: The forum topic in the chat; None for the chat itself.

        The unique constraint keeps two cafes from sharing a chat.

        Raises CafeAlreadyLinked.
        """
        if self.tg_chat_id is not None:
            raise CafeAlreadyLinked
        self.tg_chat_id = chat_id
        self.tg_thread_id = thread_id
        self.tg_username = username
        self.linked_at = at
        self.notifications_enabled = True

    def unlink(self) -> int:
        """Remove the link and return the id of the former chat.

        Raises CafeNotLinked.
        """
        if self.tg_chat_id is None:
            raise CafeNotLinked
        chat_id = self.tg_chat_id
        self.tg_chat_id = self.tg_thread_id = self.tg_username = self.linked_at = None
        return chat_id

    @property
    def is_notified(self) -> bool:
        """Whether its orders are sent to its chat."""
        return self.is_active and self.notifications_enabled and self.tg_chat_id is not None

    def set_notifications(self, *, enabled: bool) -> None:
        """Enable or disable the orders to the chat.

        Raises CafeNotLinked: without a chat the setting would have no effect.
        """
        if self.tg_chat_id is None:
            raise CafeNotLinked
        self.notifications_enabled = enabled

    def deactivate(self) -> None:
        """Take no more orders."""
        self.is_active = False
