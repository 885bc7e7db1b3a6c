"""Getting, locking and deleting rows."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import ForUpdateArg

from app.errors import NotFound

FOR_UPDATE = ForUpdateArg()
"""The lock for a row that is about to change."""

FOR_NO_KEY_UPDATE = ForUpdateArg(key_share=True)
"""The same, but other rows may still refer to it."""

FOR_SHARE = ForUpdateArg(read=True)
"""The lock for a row that must not change before the transaction ends."""

FOR_KEY_SHARE = ForUpdateArg(read=True, key_share=True)
"""The lock for a row that must not be deleted before the transaction ends. Only a deletion waits for it."""


async def get_row[Row](
    session: AsyncSession,
    kind: type[Row],
    id_: Any,
    *,
    lock: ForUpdateArg | None = None,
    options: Sequence[Any] = (),
) -> Row:
    """Return a row by its primary key. A locked row is read again.

    Raises NotFound.
    """
    row = await session.get(kind, id_, with_for_update=lock, options=options, populate_existing=lock is not None)
    if row is None:
        raise NotFound(resource_name(kind), id_)
    return row


def resource_name(kind: type) -> str:
    """Return the name of a table's rows in errors: `menu_item` for `MenuItem`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


@dataclass(frozen=True)
class DeletionResult:
    """The result of a deletion: the row is deleted, or deactivated because other rows refer to it."""

    id: int
    deleted: bool
    message: str


class Deletable(Protocol):
    """A row that can be deactivated instead."""

    def deactivate(self) -> None: ...


async def delete_or_deactivate(session: AsyncSession, row: Deletable, id_: int, *, kept: str) -> DeletionResult:
    """Delete `row`, or deactivate it if other rows refer to it.

    The foreign keys decide, so no order can come in between.

    Args:
        kept: The message for a row that is deactivated.
    """
    try:
        async with session.begin_nested():
            await session.delete(row)
            await session.flush()
    except IntegrityError:
        await session.refresh(row)
        row.deactivate()
        return DeletionResult(id_, deleted=False, message=kept)
    return DeletionResult(id_, deleted=True, message="Deleted.")


class OfCafe(Protocol):
    """A row that belongs to a cafe."""

    @property
    def cafe_id(self) -> int: ...


def group_by_cafe[Row: OfCafe](cafe_ids: Sequence[int], rows: Iterable[Row]) -> list[Sequence[Row]]:
    """Group rows by cafe, in their order."""
    groups: dict[int, list[Row]] = {cafe_id: [] for cafe_id in cafe_ids}
    for row in rows:
        groups[row.cafe_id].append(row)
    return [groups[cafe_id] for cafe_id in cafe_ids]
