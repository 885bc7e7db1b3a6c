"""Pages of a list, by keyset: a cursor is the place after which the next page begins.

Rows that come or go meanwhile shift nothing, and page 1,000 costs what page 1 costs.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.errors import BadInput

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100

Key = str | int | date | datetime


@dataclass(frozen=True)
class PageRequest:
    """Which page is wanted: the `first` rows after the cursor `after`, beginning `skip` rows further on.

    Raises BadInput if a number is out of its range.
    """

    first: int = DEFAULT_PAGE_SIZE
    after: str | None = None
    skip: int = 0
    with_total: bool = True

    def __post_init__(self) -> None:
        if not 1 <= self.first <= MAX_PAGE_SIZE:
            raise BadInput("first", f"must be from 1 to {MAX_PAGE_SIZE}")
        if self.skip < 0:
            raise BadInput("skip", "must not be negative")


@dataclass(frozen=True)
class Page[T]:
    """One page, with a cursor for each row. `total` counts the whole list; it is None if nobody asked."""

    items: Sequence[T]
    cursors: Sequence[str]
    has_next_page: bool
    total: int | None


@dataclass(frozen=True)
class SortOrder[T]:
    """The order of a list: the columns it is sorted by, all in one direction, their kinds, and a row's place in it.

    The last column is unique, so every row has a place of its own. The name is in the cursors: one of another list is
    no place in this one.
    """

    name: str
    columns: tuple[Any, ...]
    kinds: tuple[type[Key], ...]
    place: Callable[[T], tuple[Key, ...]]
    descending: bool = False

    def after(self, cursor: str) -> sa.ColumnElement[bool]:
        """What holds of the rows behind `cursor`.

        Raises BadInput if it is not a cursor of this list.
        """
        here = sa.tuple_(*self.columns)
        there = sa.tuple_(
            *(sa.literal(key, column.type) for column, key in zip(self.columns, self.read(cursor), strict=True))
        )
        return here < there if self.descending else here > there

    def sorted(self) -> list[sa.UnaryExpression[Any]]:
        return [column.desc() if self.descending else column.asc() for column in self.columns]

    def cursor(self, row: T) -> str:
        return base64.urlsafe_b64encode(orjson.dumps([self.name, *self.place(row)])).decode().rstrip("=")

    def read(self, cursor: str) -> tuple[Key, ...]:
        """Return the place that `cursor` names.

        Raises BadInput if it is not a cursor of this list.
        """
        try:
            keys = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
            name, *place = keys
            if name == self.name:
                return tuple(_as(kind, key) for kind, key in zip(self.kinds, place, strict=True))
        except (ValueError, TypeError, OverflowError, binascii.Error):
            pass
        raise BadInput("after", "is not a cursor of this list")


def _as(kind: type, key: object) -> Key:
    if kind is datetime and isinstance(key, str):
        parsed = datetime.fromisoformat(key)
        if parsed.tzinfo is None:
            raise ValueError("a time without an offset")
        return parsed.astimezone(UTC)  # raises OverflowError for what no database keeps
    if kind is date and isinstance(key, str):
        return date.fromisoformat(key)
    if kind is int and type(key) is int and abs(key) < 2**63:
        return key
    if kind is str and isinstance(key, str) and "\0" not in key:
        return key
    raise TypeError("a key of another kind")


def cut[T](rows: Sequence[T], order: SortOrder[T], wanted: PageRequest) -> Page[T]:
    """Take one page of a list that is in memory, in `order`, as a whole; for short lists that come with their owner.

    Raises BadInput if the cursor is not one of this list.
    """
    begin = wanted.skip
    if wanted.after is not None:
        there = order.read(wanted.after)
        begin += sum(order.place(row) <= there for row in rows)
    items = rows[begin : begin + wanted.first]
    return Page(
        items=items,
        cursors=[order.cursor(row) for row in items],
        has_next_page=len(rows) > begin + wanted.first,
        total=len(rows),
    )


async def fetch[T](
    session: AsyncSession, query: SelectOfScalar[T], order: SortOrder[T], wanted: PageRequest
) -> Page[T]:
    """Read one page of `query` in `order`: one statement, and one more for the total if it is wanted."""
    total = None
    if wanted.with_total:
        total = await session.scalar(sa.select(sa.func.count()).select_from(query.order_by(None).subquery()))
    if wanted.after is not None:
        query = query.where(order.after(wanted.after))
    page = query.order_by(*order.sorted()).offset(wanted.skip).limit(wanted.first + 1)
    rows: Sequence[T] = (await session.scalars(page)).all()
    items = rows[: wanted.first]
    return Page(
        items=items,
        cursors=[order.cursor(row) for row in items],
        has_next_page=len(rows) > wanted.first,
        total=total,
    )
