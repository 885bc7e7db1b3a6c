"""Pages of a list by keyset: a cursor is the place after which the next page begins.

New and deleted rows shift nothing, and page 1,000 costs as much as page 1.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
from pydantic import AfterValidator
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from app.dates import parse_date
from app.errors import BadInput
from app.validation import Input, range_rule, validate_input

DEFAULT_PAGE_SIZE = 20
MAX_PAGE_SIZE = 100

MAX_SKIP = 10_000
"""PostgreSQL reads the skipped rows as well. A cursor reads only its page."""

Key = str | int | date | datetime


def _validate_skip(value: int) -> int:
    if value < 0:
        raise ValueError("must not be negative")
    if value > MAX_SKIP:
        raise ValueError(f"must be at most {MAX_SKIP}; use `after` to go further")
    return value


class PageRequest(Input):
    """The `first` rows after the cursor `after`, without the next `skip` rows."""

    first: Annotated[int, range_rule(1, MAX_PAGE_SIZE)] = DEFAULT_PAGE_SIZE
    after: str | None = None
    skip: Annotated[int, AfterValidator(_validate_skip)] = 0
    with_total: bool = True


WHOLE = PageRequest(first=MAX_PAGE_SIZE, with_total=False)
"""For lists that are always shorter than a page."""


@dataclass(frozen=True)
class Edge[T]:
    """A row with its cursor."""

    node: T
    cursor: str


@dataclass(frozen=True)
class PageInfo:
    """The place of a page in its list."""

    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@dataclass(frozen=True)
class Page[T]:
    """One page of a list, in the shape of a Relay connection.

    Args:
        cursors: A cursor for each node.
        total_count: The length of the whole list; None if the request did not ask for it.
    """

    nodes: Sequence[T]
    cursors: Sequence[str]
    has_next_page: bool
    has_previous_page: bool
    total_count: int | None

    @property
    def edges(self) -> list[Edge[T]]:
        return [Edge(node, cursor) for node, cursor in zip(self.nodes, self.cursors, strict=True)]

    @property
    def page_info(self) -> PageInfo:
        start, end = (self.cursors[0], self.cursors[-1]) if self.cursors else (None, None)
        return PageInfo(self.has_next_page, self.has_previous_page, start, end)


@dataclass(frozen=True)
class SortOrder[T]:
    """The order of a list.

    Args:
        name: The list's name. It is in the cursors, so a cursor of another list is refused.
        columns: The columns of the order, all in one direction. The last one is unique. A list in memory has none.
        types: The types of the keys.
        sort_key: Returns the keys of a row.
    """

    name: str
    columns: tuple[Any, ...]
    types: tuple[type[Key], ...]
    sort_key: Callable[[T], tuple[Key, ...]]
    descending: bool = False

    def after(self, cursor: str) -> sa.ColumnElement[bool]:
        """The condition for the rows after `cursor`.

        Raises BadInput for a cursor of another list.
        """
        here = sa.tuple_(*self.columns)
        keys = zip(self.columns, self.decode_cursor(cursor), strict=True)
        there = sa.tuple_(*(sa.literal(key, column.type) for column, key in keys))
        return here < there if self.descending else here > there

    def order_by(self) -> list[sa.UnaryExpression[Any]]:
        return [column.desc() if self.descending else column.asc() for column in self.columns]

    def cursor(self, row: T) -> str:
        return base64.urlsafe_b64encode(orjson.dumps([self.name, *self.sort_key(row)])).decode().rstrip("=")

    def decode_cursor(self, cursor: str) -> tuple[Key, ...]:
        """Return the keys in `cursor`.

        Raises BadInput for a cursor of another list.
        """
        try:
            decoded = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
            name, *keys = decoded
            if name == self.name:
                return tuple(_parse_key(kind, key) for kind, key in zip(self.types, keys, strict=True))
        except (ValueError, TypeError, OverflowError, binascii.Error):
            pass
        raise BadInput("after", "is not a cursor of this list")


def _parse_key(kind: type, key: object) -> Key:
    if kind is datetime and isinstance(key, str):
        parsed = datetime.fromisoformat(key)
        if parsed.tzinfo is None:
            raise ValueError("a time without an offset")
        return parsed.astimezone(UTC)  # raises OverflowError for a time that PostgreSQL cannot store
    if kind is date:
        return parse_date(key)
    if kind is int and type(key) is int and abs(key) < 2**63:
        return key
    if kind is str and isinstance(key, str) and "\0" not in key:
        return key
    raise TypeError("a key of another type")


def paginate_list[T](rows: Sequence[T], order: SortOrder[T], page: PageRequest = WHOLE) -> Page[T]:
    """Take one page of a short list in memory, which is already in `order`.

    Args:
        page: A page as it was collected. It is validated here, once the caller was authorized to read the list.

    Raises BadInput, also for a cursor of another list.
    """
    page = validate_input(page)
    begin = page.skip
    if page.after is not None:
        place = order.decode_cursor(page.after)
        begin += sum(order.sort_key(row) <= place for row in rows)
    nodes = rows[begin : begin + page.first]
    return _page(nodes, order, page, has_next_page=len(rows) > begin + page.first, total_count=len(rows))


async def paginate[T](
    session: AsyncSession, query: SelectOfScalar[T], order: SortOrder[T], page: PageRequest
) -> Page[T]:
    """Read one page of `query` in `order`: one statement, and one more for the total if the request asks for it.

    Raises BadInput for a cursor of another list.
    """
    total_count = None
    if page.with_total:
        total_count = await session.scalar(sa.select(sa.func.count()).select_from(query.order_by(None).subquery()))
    if page.after is not None:
        query = query.where(order.after(page.after))
    statement = query.order_by(*order.order_by()).offset(page.skip).limit(page.first + 1)
    rows: Sequence[T] = (await session.scalars(statement)).all()
    return _page(rows[: page.first], order, page, has_next_page=len(rows) > page.first, total_count=total_count)


def _page[T](
    nodes: Sequence[T], order: SortOrder[T], page: PageRequest, *, has_next_page: bool, total_count: int | None
) -> Page[T]:
    return Page(
        nodes=nodes,
        cursors=[order.cursor(node) for node in nodes],
        has_next_page=has_next_page,
        has_previous_page=page.after is not None or page.skip > 0,
        total_count=total_count,
    )
