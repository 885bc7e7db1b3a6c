"""Pages: every row once and in order, whatever comes or goes meanwhile."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.clients import Clients
from app.errors import BadInput
from app.models import Cafe
from app.resolvers.cafes import BY_NAME
from app.resolvers.links import NEWEST_FIRST
from app.resolvers.paging import MAX_PAGE_SIZE, PageRequest, SortOrder, fetch

BY_TIME: SortOrder[Cafe] = SortOrder(
    "by time", (col(Cafe.created_at), col(Cafe.id)), (datetime, int), lambda cafe: (cafe.created_at, cafe.id)
)
LATEST_FIRST = replace(BY_TIME, descending=True)

ORDERS = {
    "by name": BY_NAME,
    "by name, backwards": replace(BY_NAME, descending=True),
    "by time": BY_TIME,
    "latest first": LATEST_FIRST,
}

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


with_a_database = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

names = st.sampled_from(["", "a", "A", "b", "é", "Пельменная", '"', "\\", "a b", "🍲"])
cafes = st.builds(
    lambda name, minutes: {"name": name, "created_at": LONG_AGO + timedelta(microseconds=minutes)},
    names,
    st.integers(0, 3),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
places = st.tuples(
    st.datetimes(timezones=st.timezones() | st.just(UTC), allow_imaginary=False).map(str) | st.text(max_size=20),
    st.integers(-(2**63), 2**63 - 1),
)
garbage = (
    st.text(max_size=40)
    | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    | json_values.map(encoded)
)


@asynccontextmanager
async def nothing_stays(clients: Clients) -> AsyncIterator[AsyncSession]:
    """A transaction that is taken back: each example begins with no rows."""
    async with clients.engine.connect() as connection, connection.begin() as transaction:
        async with AsyncSession(connection, expire_on_commit=False) as session:
            yield session
        await transaction.rollback()


async def add(session: AsyncSession, fields: dict[str, object]) -> Cafe:
    cafe = Cafe(**fields)  # type: ignore[arg-type]
    session.add(cafe)
    await session.flush()
    return cafe


async def whole(session: AsyncSession, order: SortOrder[Cafe]) -> list[int]:
    """The ids of the whole list, as PostgreSQL sorts it."""
    return [cafe.id for cafe in await session.scalars(select(Cafe).order_by(*order.sorted()))]


@pytest.mark.parametrize("name", ORDERS)
@with_a_database
@given(rows=st.lists(cafes, max_size=10), first=st.integers(1, 4))
async def test_walking_gives_each_row_once_and_in_order(
    clients: Clients, name: str, rows: list[dict[str, object]], first: int
) -> None:
    """Page by page one meets what the whole list has, whatever the rows, the order and the page size."""
    order = ORDERS[name]
    async with nothing_stays(clients) as session:
        for row in rows:
            await add(session, row)

        met: list[int] = []
        after = None
        while True:
            page = await fetch(session, select(Cafe), order, PageRequest(first, after))
            met += [cafe.id for cafe in page.items]
            assert (page.total, len(page.items) <= first, len(page.cursors)) == (len(rows), True, len(page.items))
            if not page.has_next_page:
                break
            after = page.cursors[-1]

        assert met == await whole(session, order)


@pytest.mark.parametrize("name", ORDERS)
@with_a_database
@given(
    rows=st.lists(cafes, min_size=1, max_size=8),
    first=st.integers(1, 3),
    changes=st.lists(st.tuples(cafes, st.integers(0, 7)), max_size=8),
)
async def test_rows_that_come_and_go_lose_none_of_the_others(
    clients: Clients,
    name: str,
    rows: list[dict[str, object]],
    first: int,
    changes: list[tuple[dict[str, object], int]],
) -> None:
    """Between two pages a row is added and one taken away: those that were there all the time are met once, in order."""
    order = ORDERS[name]
    async with nothing_stays(clients) as session:
        stayed = {(await add(session, row)).id for row in rows}

        met: list[int] = []
        after = None
        pending = list(changes)
        while True:
            page = await fetch(session, select(Cafe), order, PageRequest(first, after))
            met += [cafe.id for cafe in page.items]
            if not page.has_next_page:
                break
            after = page.cursors[-1]
            if pending:
                row, victim = pending.pop()
                await add(session, row)
                gone = sorted(stayed)[victim % len(stayed)] if stayed else 0
                stayed.discard(gone)
                await session.execute(sa.delete(Cafe).where(col(Cafe.id) == gone))

        assert len(met) == len(set(met))
        assert [id_ for id_ in met if id_ in stayed] == [id_ for id_ in await whole(session, order) if id_ in stayed]


@with_a_database
@given(
    rows=st.lists(cafes, min_size=1, max_size=8),
    first=st.integers(1, 4),
    place=st.integers(0, 7),
    skip=st.integers(0, 9),
)
async def test_a_page_is_a_slice_of_the_list(
    clients: Clients, rows: list[dict[str, object]], first: int, place: int, skip: int
) -> None:
    """From any row's cursor, and any number of rows further on, the page is what the list has there."""
    async with nothing_stays(clients) as session:
        for row in rows:
            await add(session, row)
        everything = await fetch(session, select(Cafe), LATEST_FIRST, PageRequest())
        place %= len(rows)

        page = await fetch(session, select(Cafe), LATEST_FIRST, PageRequest(first, everything.cursors[place], skip))

        rest = everything.items[place + 1 + skip :]
        assert [cafe.id for cafe in page.items] == [cafe.id for cafe in rest[:first]]
        assert page.has_next_page == (len(rest) > first)


@pytest.mark.parametrize("name", ORDERS)
@settings(with_a_database, max_examples=100)
@given(cursor=garbage)
async def test_garbage_is_bad_input(name: str, cursor: str) -> None:
    """Whatever comes as a cursor and is none, it is BadInput."""
    with pytest.raises(BadInput) as refused:
        ORDERS[name].after(cursor)

    assert refused.value.field == "after"


@pytest.mark.parametrize("name", ORDERS)
@settings(with_a_database, max_examples=100)
@given(place=places)
async def test_what_passes_for_a_cursor_is_a_place(clients: Clients, name: str, place: tuple[str, int]) -> None:
    """Whoever makes cursors up is refused, or gets a page: PostgreSQL takes every place that we take."""
    order = ORDERS[name]
    with suppress(BadInput):
        async with clients.db() as session:
            await fetch(session, select(Cafe), order, PageRequest(after=encoded([order.name, *place])))


@pytest.mark.parametrize("order", [BY_NAME, NEWEST_FIRST], ids=["cafes", "link requests"])
@pytest.mark.parametrize(
    "place", [[], [1], ["a", 1, 1], [None, None], [["a"], 1], ["a", "1"], ["a", 1.5], ["a", 2**63]]
)
def test_a_cursor_has_the_lists_keys(order: SortOrder[object], place: list[object]) -> None:
    """A place of another shape is none."""
    with pytest.raises(BadInput):
        order.after(encoded([order.name, *place]))


def test_a_cursor_is_of_its_own_list() -> None:
    """A place in another list is none, though it may have the same shape."""
    with pytest.raises(BadInput):
        BY_NAME.after(encoded(["another list", "a", 1]))


@pytest.mark.parametrize("first", [1, MAX_PAGE_SIZE])
def test_a_page_has_a_size(first: int) -> None:
    """From one row to a hundred."""
    assert PageRequest(first).first == first


@pytest.mark.parametrize(
    ("wrong", "field"), [({"first": 0}, "first"), ({"first": 101}, "first"), ({"skip": -1}, "skip")]
)
def test_a_page_of_another_size_is_refused(wrong: dict[str, int], field: str) -> None:
    """A number out of its range names itself."""
    with pytest.raises(BadInput) as refused:
        PageRequest(**wrong)  # type: ignore[arg-type]

    assert refused.value.field == field


async def test_nobody_counts_what_nobody_asks_for(clients: Clients, cafe: Cafe) -> None:
    """The total is left out where it is not wanted."""
    async with clients.db() as session:
        page = await fetch(session, select(Cafe), BY_NAME, PageRequest(with_total=False))

    assert page.total is None
