"""Pages of a list: each row is read once and in order, also if rows are added or deleted in between."""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

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
from app.services.pagination import MAX_PAGE_SIZE, MAX_SKIP, PageRequest, SortOrder, paginate, paginate_list
from app.validation import validate_input

BY_TIME: SortOrder[Cafe] = SortOrder(
    "by time", (col(Cafe.created_at), col(Cafe.id)), (datetime, int), lambda cafe: (cafe.created_at, cafe.id)
)
LATEST_FIRST = replace(BY_TIME, descending=True)

ORDERS = {
    "by name": BY_NAME,
    "by name, descending": replace(BY_NAME, descending=True),
    "by time": BY_TIME,
    "latest first": LATEST_FIRST,
}

BY_ID: SortOrder[int] = SortOrder("ids", (), (int,), lambda number: (number,))
"""A list of numbers in memory."""

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


def encode(value: object) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(value)).decode().rstrip("=")


database_settings = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

names = st.sampled_from(["", "a", "A", "b", "é", "Пельменная", '"', "\\", "a b", "🍲"])
cafes = st.builds(
    lambda name, microseconds: {"name": name, "created_at": LONG_AGO + timedelta(microseconds=microseconds)},
    names,
    st.integers(0, 3),
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.tuples(
    st.datetimes(timezones=st.timezones() | st.just(UTC), allow_imaginary=False).map(str) | st.text(max_size=20),
    st.integers(-(2**63), 2**63 - 1),
)
garbage = (
    st.text(max_size=40)
    | st.binary(max_size=40).map(lambda raw: base64.urlsafe_b64encode(raw).decode())
    | json_values.map(encode)
)


@asynccontextmanager
async def rolled_back(clients: Clients) -> AsyncIterator[AsyncSession]:
    """A session whose transaction is rolled back, so that each example begins without rows."""
    async with clients.engine.connect() as connection, connection.begin() as transaction:
        async with AsyncSession(connection, expire_on_commit=False) as session:
            yield session
        await transaction.rollback()


async def add(session: AsyncSession, fields: dict[str, object]) -> Cafe:
    cafe = Cafe(**fields)  # type: ignore[arg-type]
    session.add(cafe)
    await session.flush()
    return cafe


async def list_ids(session: AsyncSession, order: SortOrder[Cafe]) -> list[int]:
    """The ids of the whole list, as PostgreSQL sorts it."""
    return [cafe.id for cafe in await session.scalars(select(Cafe).order_by(*order.order_by()))]


@pytest.mark.parametrize("name", ORDERS)
@database_settings
@given(rows=st.lists(cafes, max_size=10), first=st.integers(1, 4))
async def test_all_pages_give_each_row_once_and_in_order(
    clients: Clients, name: str, rows: list[dict[str, object]], first: int
) -> None:
    """The pages together are the whole list, for any rows, order and page size."""
    order = ORDERS[name]
    async with rolled_back(clients) as session:
        for row in rows:
            await add(session, row)

        ids: list[int] = []
        after = None
        while True:
            page = await paginate(session, select(Cafe), order, PageRequest(first=first, after=after))
            ids += [cafe.id for cafe in page.nodes]
            assert (page.total_count, len(page.nodes) <= first, len(page.cursors)) == (
                len(rows),
                True,
                len(page.nodes),
            )
            if not page.has_next_page:
                break
            after = page.cursors[-1]

        assert ids == await list_ids(session, order)


@pytest.mark.parametrize("name", ORDERS)
@database_settings
@given(
    rows=st.lists(cafes, min_size=1, max_size=8),
    first=st.integers(1, 3),
    changes=st.lists(st.tuples(cafes, st.integers(0, 7)), max_size=8),
)
async def test_added_and_deleted_rows_do_not_shift_the_others(
    clients: Clients,
    name: str,
    rows: list[dict[str, object]],
    first: int,
    changes: list[tuple[dict[str, object], int]],
) -> None:
    """If rows are added and deleted between two pages, every other row is read once and in order."""
    order = ORDERS[name]
    async with rolled_back(clients) as session:
        kept = {(await add(session, row)).id for row in rows}

        ids: list[int] = []
        after = None
        pending = list(changes)
        while True:
            page = await paginate(session, select(Cafe), order, PageRequest(first=first, after=after))
            ids += [cafe.id for cafe in page.nodes]
            if not page.has_next_page:
                break
            after = page.cursors[-1]
            if pending:
                row, index = pending.pop()
                await add(session, row)
                deleted = sorted(kept)[index % len(kept)] if kept else 0
                kept.discard(deleted)
                await session.execute(sa.delete(Cafe).where(col(Cafe.id) == deleted))

        assert len(ids) == len(set(ids))
        assert [id_ for id_ in ids if id_ in kept] == [id_ for id_ in await list_ids(session, order) if id_ in kept]


@database_settings
@given(
    rows=st.lists(cafes, min_size=1, max_size=8),
    first=st.integers(1, 4),
    index=st.integers(0, 7),
    skip=st.integers(0, 9),
)
async def test_a_page_is_a_slice_of_the_list(
    clients: Clients, rows: list[dict[str, object]], first: int, index: int, skip: int
) -> None:
    """A page has the rows after any cursor, without any number of skipped rows."""
    async with rolled_back(clients) as session:
        for row in rows:
            await add(session, row)
        whole = await paginate(session, select(Cafe), LATEST_FIRST, PageRequest())
        index %= len(rows)

        request = PageRequest(first=first, after=whole.cursors[index], skip=skip)
        page = await paginate(session, select(Cafe), LATEST_FIRST, request)

        expected = whole.nodes[index + 1 + skip :]
        assert [cafe.id for cafe in page.nodes] == [cafe.id for cafe in expected[:first]]
        assert page.has_next_page == (len(expected) > first)


@pytest.mark.parametrize("name", ORDERS)
@settings(database_settings, max_examples=100)
@given(cursor=garbage)
async def test_an_invalid_cursor_is_bad_input(name: str, cursor: str) -> None:
    """A text that is not a cursor raises BadInput for `after`."""
    with pytest.raises(BadInput) as refused:
        ORDERS[name].after(cursor)

    assert refused.value.field == "after"


@pytest.mark.parametrize("name", ORDERS)
@settings(database_settings, max_examples=100)
@given(keys=keys)
async def test_every_accepted_cursor_gives_a_page(clients: Clients, name: str, keys: tuple[str, int]) -> None:
    """An invented cursor raises BadInput or gives a page: PostgreSQL accepts all keys that we accept."""
    order = ORDERS[name]
    with suppress(BadInput):
        async with clients.db() as session:
            await paginate(session, select(Cafe), order, PageRequest(after=encode([order.name, *keys])))


@pytest.mark.parametrize("order", [BY_NAME, NEWEST_FIRST], ids=["cafes", "link requests"])
@pytest.mark.parametrize("keys", [[], [1], ["a", 1, 1], [None, None], [["a"], 1], ["a", "1"], ["a", 1.5], ["a", 2**63]])
def test_a_cursor_needs_the_keys_of_its_list(order: SortOrder[object], keys: list[object]) -> None:
    """A cursor with other keys than those of the list raises BadInput."""
    with pytest.raises(BadInput):
        order.after(encode([order.name, *keys]))


def test_a_cursor_of_another_list_is_bad_input() -> None:
    """A cursor of another list raises BadInput, even if it has the same keys."""
    with pytest.raises(BadInput):
        BY_NAME.after(encode(["another list", "a", 1]))


@pytest.mark.parametrize("first", [1, MAX_PAGE_SIZE])
def test_a_page_has_1_to_100_rows(first: int) -> None:
    """The smallest and the largest page size are valid."""
    assert PageRequest(first=first).first == first


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"first": 0}, "first"), ({"first": 101}, "first"), ({"skip": -1}, "skip"), ({"skip": 10_001}, "skip")],
)
def test_a_number_out_of_its_range_is_bad_input(wrong: dict[str, int], field: str) -> None:
    """A page size or a number of skipped rows out of its range raises BadInput for its field."""
    with pytest.raises(BadInput) as refused:
        validate_input(PageRequest.collect(**wrong))

    assert refused.value.field == field


def test_skip_has_a_limit() -> None:
    """A page may skip 10,000 rows. For more the error names the cursor, which costs less."""
    assert PageRequest(skip=MAX_SKIP).skip == MAX_SKIP
    with pytest.raises(BadInput, match="use `after`"):
        validate_input(PageRequest.collect(skip=MAX_SKIP + 1))


async def test_the_total_is_counted_only_on_request(clients: Clients, cafe: Cafe) -> None:
    """A page without a requested total has no total."""
    async with clients.db() as session:
        page = await paginate(session, select(Cafe), BY_NAME, PageRequest(with_total=False))

    assert page.total_count is None


@pytest.mark.parametrize(
    ("request_fields", "ids", "has_next_page"),
    [
        ({}, [1, 2, 3, 4, 5], False),
        ({"first": 2}, [1, 2], True),
        ({"first": 2, "after": BY_ID.cursor(2)}, [3, 4], True),
        ({"first": 2, "after": BY_ID.cursor(2), "skip": 1}, [4, 5], False),
        ({"first": 2, "after": BY_ID.cursor(5)}, [], False),
    ],
)
def test_a_list_in_memory_has_pages(request_fields: dict[str, Any], ids: list[int], has_next_page: bool) -> None:
    """`paginate_list` takes the same pages from a list in memory."""
    page = paginate_list([1, 2, 3, 4, 5], BY_ID, PageRequest(**request_fields))

    assert (page.nodes, page.has_next_page, page.total_count) == (ids, has_next_page, 5)
