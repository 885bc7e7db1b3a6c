"""Simultaneous operations: two orders, an order and the deadline, an order and a deletion."""

import asyncio
import datetime as dt
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from app.auth.context import Context
from app.auth.viewer import Caller, Viewer
from app.clients import Clients
from app.errors import AlreadyExists, BadInput, DeadlinePassed, Forbidden, NotFound
from app.models import (
    Cafe,
    ComboInput,
    DeliveryDay,
    MenuCategory,
    MenuItem,
    MenuItemInput,
    Order,
    OrderChanges,
    OrderStatus,
    Role,
    User,
)
from app.resolvers import cafes, menus, orders, users
from app.services import deadlines
from app.services.rows import DeletionResult
from tests.conftest import USER_TGID, Lunch
from tests.ordering import BEFORE, CLOSES_AT, DATE, at, close, extra, until_waiting

type Deletion = Callable[[Context, Lunch], Awaitable[DeletionResult]]

DELETIONS: dict[str, Deletion] = {
    "dish": lambda ctx, lunch: menus.delete_menu_item(ctx, lunch.soup.id, None),
    "extra": lambda ctx, lunch: menus.delete_menu_item(ctx, lunch.cola.id, None),
    "combo": lambda ctx, lunch: menus.delete_combo(ctx, lunch.combo.id, None),
    "cafe": lambda ctx, lunch: cafes.delete_cafe(ctx, lunch.cafe.id),
    "user": lambda ctx, _: users.delete_user(ctx, USER_TGID),
}


@pytest.fixture
def user(user: Context) -> Context:
    """Ivan, before the deadline."""
    return at(user, BEFORE)


@pytest.fixture
def manager(manager: Context) -> Context:
    """Maria, before the deadline."""
    return at(manager, BEFORE)


async def place(ctx: Context, lunch: Lunch, date: dt.date = DATE) -> Order:
    return await orders.place_order(ctx, lunch.cafe.id, date, lunch.order(extras=[extra(lunch.cola.id)]))


async def gather(*operations: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*operations, return_exceptions=True)


def type_names(outcomes: list[object]) -> list[str]:
    return sorted(type(outcome).__name__ for outcome in outcomes)


async def statuses(clients: Clients) -> list[OrderStatus]:
    async with clients.db() as session:
        return list(await session.scalars(select(Order.status).order_by(col(Order.id))))


@asynccontextmanager
async def locked(clients: Clients, row: Any) -> AsyncIterator[None]:
    """Lock a row in another transaction."""
    async with clients.db() as session:
        await session.get_one(type(row), sa.inspect(row).identity, with_for_update=True)
        yield


@pytest.mark.parametrize("calls", [2, 10])
async def test_simultaneous_orders_of_a_user_make_one_order(
    clients: Clients, user: Context, lunch: Lunch, calls: int
) -> None:
    """One order is placed, and all other errors have its id."""
    outcomes = await gather(*(place(user, lunch) for _ in range(calls)))

    assert type_names(outcomes) == ["AlreadyExists"] * (calls - 1) + ["Order"]
    (placed,) = (outcome for outcome in outcomes if isinstance(outcome, Order))
    refused = [outcome for outcome in outcomes if isinstance(outcome, AlreadyExists)]
    assert all(outcome.details == {"order_id": str(placed.id)} for outcome in refused)
    assert await statuses(clients) == [OrderStatus.PENDING]


async def test_an_order_during_a_cancellation(clients: Clients, user: Context, lunch: Lunch) -> None:
    """The old order is cancelled, and the new order is placed after that or refused because of the old one."""
    for days in range(10):
        date = DATE + dt.timedelta(days=days)
        old = await place(user, lunch, date)

        cancelled, new = await gather(orders.cancel_order(user, old.id), place(user, lunch, date))

        assert cancelled.status is OrderStatus.CANCELLED
        assert isinstance(new, Order | AlreadyExists)
        async with clients.db() as session:
            active = select(Order.id).where(Order.date == date, Order.status != OrderStatus.CANCELLED)
            assert list(await session.scalars(active)) == ([new.id] if isinstance(new, Order) else [])


async def test_a_change_during_a_cancellation(user: Context, lunch: Lunch) -> None:
    """The order is cancelled in the end, and the change is applied before that or refused."""
    for days in range(10):
        order = await place(user, lunch, DATE + dt.timedelta(days=days))

        changed, cancelled = await gather(
            orders.update_order(user, order.id, OrderChanges(notes="No onions", extras=[])),
            orders.cancel_order(user, order.id),
        )

        assert cancelled.status is OrderStatus.CANCELLED
        assert isinstance(changed, Order | BadInput)
        last = await orders.get_order(user, order.id)
        assert last.status is OrderStatus.CANCELLED
        assert (last.notes, str(last.total_price)) == (
            ("No onions", "10.00") if isinstance(changed, Order) else ("", "11.50")
        )


async def test_simultaneous_changes_are_not_mixed(user: Context, lunch: Lunch) -> None:
    """After simultaneous changes of soup and extras, the order has the contents of one of them."""
    order = await place(user, lunch)
    choices = [(lunch.soup, extra(lunch.cola.id, 2)), (lunch.other_soup, extra(lunch.cake.id, 1))]

    changed = await gather(
        *(
            orders.update_order(user, order.id, OrderChanges(dish_ids=[soup.id, lunch.main.id], extras=[chosen]))
            for soup, chosen in choices * 4
        )
    )

    assert type_names(changed) == ["Order"] * 8
    last = await orders.get_order(user, order.id)
    assert [last.dishes[0].name, last.extras[0].name, str(last.total_price)] in (
        ["Borscht", "Cola", "13.00"],
        ["Solyanka", "Honey cake", "13.25"],
    )


async def test_operations_wait_while_the_day_closes(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """While a day closes, operations wait; then users are refused, and a manager's order is confirmed."""
    days = [DATE + dt.timedelta(days=days) for days in range(3)]
    old = [await place(user, lunch, date) for date in days[:2]]

    async with clients.db() as session:
        for date in days:
            await deadlines.close_day(session, lunch.cafe.id, date, CLOSES_AT)
        tasks = [
            asyncio.create_task(operation)
            for operation in (
                place(user, lunch, days[2]),
                orders.update_order(user, old[0].id, OrderChanges(notes="Please")),
                orders.cancel_order(user, old[1].id),
                place(manager, lunch, days[2]),
            )
        ]
        await until_waiting(clients, *tasks)
    *refused, placed = await gather(*tasks)

    assert type_names(refused) == ["DeadlinePassed"] * 3
    assert all(outcome.details == {"closed_at": CLOSES_AT.isoformat()} for outcome in refused)
    assert placed.status is OrderStatus.CONFIRMED
    assert await statuses(clients) == [OrderStatus.CONFIRMED] * 3


async def test_closing_a_day_waits_for_a_new_order(clients: Clients, user: Context, lunch: Lunch) -> None:
    """An order that is placed before the day closes is confirmed with the day."""
    async with locked(clients, lunch.combo):
        placing = asyncio.create_task(place(user, lunch))
        await until_waiting(clients, placing)
        closing = asyncio.create_task(close(clients, lunch.cafe))
        await until_waiting(clients, placing, closing)

    assert (await placing).status is OrderStatus.PENDING
    assert await closing
    assert await statuses(clients) == [OrderStatus.CONFIRMED]


async def test_closing_a_day_waits_for_a_cancellation(clients: Clients, user: Context, lunch: Lunch) -> None:
    """An order that is cancelled before the day closes stays cancelled."""
    order = await place(user, lunch)
    async with locked(clients, order):
        cancelling = asyncio.create_task(orders.cancel_order(user, order.id))
        await until_waiting(clients, cancelling)
        closing = asyncio.create_task(close(clients, lunch.cafe))
        await until_waiting(clients, cancelling, closing)

    assert (await cancelling).status is OrderStatus.CANCELLED
    assert await closing
    assert await statuses(clients) == [OrderStatus.CANCELLED]


async def test_no_order_is_lost_at_the_deadline(clients: Clients, user: Context, lunch: Lunch) -> None:
    """Around the deadline every successful operation counts, a refused one changes nothing, and no order stays pending."""
    chance = random.Random(0)  # noqa: S311 not for cryptography
    users = [replace(user, caller=Caller(viewer=Viewer(tgid, Role.USER))) for tgid in range(5001, 5010)]
    async with clients.db() as session:
        session.add_all(User(tgid=ctx.viewer.tgid, name=f"User {ctx.viewer.tgid}") for ctx in users)
    refused = 0

    async def later(operation: Awaitable[object]) -> object:
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        return await operation

    for days in range(12):
        date = DATE + dt.timedelta(days=days)
        old = [await place(ctx, lunch, date) for ctx in users[:6]]
        operations: list[Awaitable[object]] = [
            *(
                orders.update_order(ctx, order.id, OrderChanges(notes="new"))
                for ctx, order in zip(users[:3], old[:3], strict=True)
            ),
            *(orders.cancel_order(ctx, order.id) for ctx, order in zip(users[3:6], old[3:], strict=True)),
            *(orders.place_order(ctx, lunch.cafe.id, date, lunch.order(notes="new")) for ctx in users[6:]),
            close(clients, lunch.cafe, date),
        ]
        sequence = chance.sample(range(len(operations)), len(operations))
        outcomes = dict(zip(sequence, await gather(*(later(operations[index]) for index in sequence)), strict=True))
        assert all(isinstance(outcome, Order | DeadlinePassed | bool) for outcome in outcomes.values())

        expected: dict[int, tuple[OrderStatus, str]] = {}
        for index, ctx in enumerate(users):
            succeeded = isinstance(outcomes[index], Order)
            refused += not succeeded
            if index < 6 or succeeded:
                is_cancelled = 3 <= index < 6 and succeeded
                expected[ctx.viewer.tgid] = (
                    OrderStatus.CANCELLED if is_cancelled else OrderStatus.CONFIRMED,
                    "new" if succeeded and not is_cancelled else "",
                )
        async with clients.db() as session:
            stored = await session.scalars(select(Order).where(Order.date == date))
            assert {order.user_tgid: (order.status, order.notes) for order in stored} == expected

    assert 0 < refused < 12 * len(users)


@pytest.mark.parametrize("kind", DELETIONS)
async def test_a_deletion_before_an_order_has_locked_the_row(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, kind: str
) -> None:
    """Either the row is deleted and the order is refused, or the order is placed and the row is kept."""
    day = DeliveryDay(cafe_id=lunch.cafe.id, date=DATE)
    async with clients.db() as session:
        session.add(day)
    async with locked(clients, day):
        placing = asyncio.create_task(place(user, lunch))
        await until_waiting(clients, placing)
        deleting = asyncio.ensure_future(DELETIONS[kind](manager, lunch))
        await until_waiting(clients, placing, deleting)
    placed, deletion = await gather(placing, deleting)

    assert isinstance(placed, Order | BadInput | NotFound)
    assert isinstance(deletion, DeletionResult)
    assert isinstance(placed, Order) is not deletion.deleted
    assert await statuses(clients) == [OrderStatus.PENDING] * isinstance(placed, Order)


@pytest.mark.parametrize("kind", DELETIONS)
async def test_a_deletion_while_an_order_is_written(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, kind: str
) -> None:
    """A deletion waits for an order that uses the row, and then keeps the row."""
    written = {"user_tgid": USER_TGID, "cafe_id": lunch.cafe.id, "date": DATE, "combo_id": lunch.combo.id}
    async with clients.db() as session:
        await session.execute(
            sa.insert(Order).values(written | {"combo_name": "", "combo_price": Decimal(0), "total_price": Decimal(0)})
        )
        placing = asyncio.create_task(place(user, lunch))
        await until_waiting(clients, placing)
        deleting = asyncio.ensure_future(DELETIONS[kind](manager, lunch))
        await until_waiting(clients, placing, deleting)
        await session.rollback()
    placed, deletion = await gather(placing, deleting)

    assert isinstance(placed, Order)
    assert isinstance(deletion, DeletionResult)
    assert not deletion.deleted


@pytest.mark.parametrize("kind", DELETIONS)
async def test_a_deletion_while_an_order_is_changed(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, kind: str
) -> None:
    """A change and a deletion do not deadlock: the order is changed, and the row is kept."""
    order = await place(user, lunch)
    async with locked(clients, lunch.cake):
        changing = asyncio.create_task(
            orders.update_order(user, order.id, lunch.order(extras=[extra(lunch.cola.id, 2), extra(lunch.cake.id)]))
        )
        await until_waiting(clients, changing)
        deleting = asyncio.ensure_future(DELETIONS[kind](manager, lunch))
        await until_waiting(clients, changing, deleting)
    changed, deletion = await gather(changing, deleting)

    assert isinstance(changed, Order)
    assert isinstance(deletion, DeletionResult)
    assert not deletion.deleted


async def test_menus_do_not_grow_while_their_cafe_is_deleted(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """A menu item and a combo that are added while the cafe is deleted raise NotFound."""
    item = MenuItemInput(name="Tea", category=MenuCategory.SOUP)
    combo = ComboInput(name="Tea", categories=[MenuCategory.SOUP], price=Decimal(1))
    async with clients.db() as session:
        await session.delete(await session.get_one(Cafe, lunch.cafe.id))
        await session.flush()
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(menus.create_menu_item(manager, lunch.cafe.id, item)),
            asyncio.create_task(menus.create_combo(manager, lunch.cafe.id, combo)),
        ]
        await until_waiting(clients, *tasks)

    assert type_names(await gather(*tasks)) == ["NotFound", "NotFound"]


@pytest.mark.parametrize("kind", ["cafe", "user", "combo", "dish"])
async def test_an_order_waits_for_a_deactivation(clients: Clients, user: Context, lunch: Lunch, kind: str) -> None:
    """An order that waits for the deactivation of its cafe, user, combo or dish is refused."""
    rows: dict[str, tuple[type[Any], int]] = {
        "cafe": (Cafe, lunch.cafe.id),
        "user": (User, USER_TGID),
        "combo": (type(lunch.combo), lunch.combo.id),
        "dish": (MenuItem, lunch.soup.id),
    }
    async with clients.db() as session:
        row = await session.get_one(*rows[kind], with_for_update=True)
        row.deactivate()
        await session.flush()
        placing = asyncio.create_task(place(user, lunch))
        await until_waiting(clients, placing)
    (placed,) = await gather(placing)

    assert isinstance(placed, BadInput | Forbidden)
    assert await statuses(clients) == []
