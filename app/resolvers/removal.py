"""Removing what others may refer to, and keeping what one is about to refer to."""

from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import ForUpdateArg

KEEP = ForUpdateArg(read=True, key_share=True)
"""How to lock a row that must not be deleted before the transaction ends: FOR KEY SHARE, for which only a deletion has
to wait."""


@dataclass(frozen=True)
class Removal:
    """What became of something that was to be deleted: gone, or kept because something refers to it."""

    id: int
    is_deleted: bool
    message: str


class Removable(Protocol):
    """A row that can be switched off instead."""

    def switch_off(self) -> None: ...


async def remove(session: AsyncSession, row: Removable, id_: int, *, kept: str) -> Removal:
    """Delete `row`, or switch it off if something refers to it.

    The foreign keys decide: no order can come in between.

    Args:
        kept: What the caller is told of a row that had to be kept.
    """
    try:
        async with session.begin_nested():
            await session.delete(row)
            await session.flush()
    except IntegrityError:
        await session.refresh(row)
        row.switch_off()
        return Removal(id_, is_deleted=False, message=kept)
    return Removal(id_, is_deleted=True, message="Deleted.")
