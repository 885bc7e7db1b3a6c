"""Orders that meet: another tab, the deadline, somebody who takes away what is being ordered."""

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

from app.clients import Clients
from app.context import Context
from app.errors import AlreadyExists, BadInput, DeadlinePassed, Forbidden, NotFound
from app.models import Cafe, DeliveryDay, MenuItem, Order, OrderStatus, Role, User
from app.resolvers import cafes, deadlines, menus, orders, users
from app.resolvers.order_lines import Extra
from app.resolvers.removal import Removal
from app.viewer import Viewer
from tests.conftest import USER_TGID, Lunch
from tests.resolvers.ordering import BEFORE, CLOSES_AT, DATE, at, close, lunch_with, until_waiting

type Deletion = Callable[[Context, Lunch], Awaitable[Removal]]

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
    return await orders.place_order(ctx, lunch.cafe.id, date, lunch_with(lunch, Extra(lunch.cola.id)))


async def at_once(*operations: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*operations, return_exceptions=True)


def kinds(outcomes: list[object]) -> list[str]:
    return sorted(type(outcome).__name__ for outcome in outcomes)


async def statuses(clients: Clients) -> list[OrderStatus]:
    async with clients.db() as session:
        return list(await session.scalars(select(Order.status).order_by(col(Order.id))))


@asynccontextmanager
async def locked(clients: Clients, row: Any) -> AsyncIterator[None]:
    """Let nobody else lock a row for so long."""
    async with clients.db() as session:
        await session.get_one(type(row), sa.inspect(row).identity, with_for_update=True)
        yield


@pytest.mark.parametrize("tabs", [2, 10])
async def test_tabs_that_order_at_once_make_one_order(clients: Clients, user: Context, lunch: Lunch, tabs: int) -> None:
    """One is placed, and all others are told which."""
    outcomes = await at_once(*(place(user, lunch) for _ in range(tabs)))

    assert kinds(outcomes) == ["AlreadyExists"] * (tabs - 1) + ["Order"]
    (placed,) = (outcome for outcome in outcomes if isinstance(outcome, Order))
    refused = [outcome for outcome in outcomes if isinstance(outcome, AlreadyExists)]
    assert all(outcome.details == {"order_id": str(placed.id)} for outcome in refused)
    assert await statuses(clients) == [OrderStatus.PENDING]


async def test_ordering_again_while_cancelling(clients: Clients, user: Context, lunch: Lunch) -> None:
    """The new order comes after the cancelling, or is refused because of the old one; the old one is cancelled."""
    for days in range(10):
        date = DATE + dt.timedelta(days=days)
        old = await place(user, lunch, date)

        cancelled, new = await at_once(orders.cancel_order(user, old.id), place(user, lunch, date))

        assert cancelled.status is OrderStatus.CANCELLED
        assert isinstance(new, Order | AlreadyExists)
        async with clients.db() as session:
            active = select(Order.id).where(Order.date == date, Order.status != OrderStatus.CANCELLED)
            assert list(await session.scalars(active)) == ([new.id] if isinstance(new, Order) else [])


async def test_changing_while_cancelling(user: Context, lunch: Lunch) -> None:
    """A change comes before the cancelling, or is refused; cancelled is what the order is in the end."""
    for days in range(10):
        order = await place(user, lunch, DATE + dt.timedelta(days=days))

        changed, cancelled = await at_once(
            orders.update_order(user, order.id, {"notes": "No onions", "extras": []}),
            orders.cancel_order(user, order.id),
        )

        assert cancelled.status is OrderStatus.CANCELLED
        assert isinstance(changed, Order | BadInput)
        last = await orders.order(user, order.id)
        assert last.status is OrderStatus.CANCELLED
        assert (last.notes, str(last.total_price)) == (
            ("No onions", "10.00") if isinstance(changed, Order) else ("", "11.50")
        )


async def test_changes_at_once_follow_each_other(user: Context, lunch: Lunch) -> None:
    """Of many who choose a soup and extras at once, the last has a whole order: nothing of two is mixed."""
    order = await place(user, lunch)
    choices = [(lunch.soup, Extra(lunch.cola.id, 2)), (lunch.other_soup, Extra(lunch.cake.id, 1))]

    changed = await at_once(
        *(
            orders.update_order(user, order.id, {"dish_ids": [soup.id, lunch.main.id], "extras": [extra]})
            for soup, extra in choices * 4
        )
    )

    assert kinds(changed) == ["Order"] * 8
    last = await orders.order(user, order.id)
    assert [last.dishes[0].name, last.extras[0].name, str(last.total_price)] in (
        ["Borscht", "Cola", "13.00"],
        ["Solyanka", "Honey cake", "13.25"],
    )


async def test_an_order_that_finds_the_day_closing_is_refused(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """While the deadline is being announced, what users want to write waits, and is refused then; a manager's order is
    confirmed at once."""
    days = [DATE + dt.timedelta(days=days) for days in range(3)]
    old = [await place(user, lunch, date) for date in days[:2]]

    async with clients.db() as session:
        for date in days:
            await deadlines.close_day(session, lunch.cafe.id, date, CLOSES_AT)
        tasks = [
            asyncio.create_task(operation)
            for operation in (
                place(user, lunch, days[2]),
                orders.update_order(user, old[0].id, {"notes": "Please"}),
                orders.cancel_order(user, old[1].id),
                place(manager, lunch, days[2]),
            )
        ]
        await until_waiting(clients, *tasks)
    *refused, placed = await at_once(*tasks)

    assert kinds(refused) == ["DeadlinePassed"] * 3
    assert all(outcome.details == {"closed_at": CLOSES_AT.isoformat()} for outcome in refused)
    assert placed.status is OrderStatus.CONFIRMED
    assert await statuses(clients) == [OrderStatus.CONFIRMED] * 3


async def test_the_announcement_waits_for_an_order_that_is_being_placed(
    clients: Clients, user: Context, lunch: Lunch
) -> None:
    """An order that came before the day was closed is there, and confirmed, when it is."""
    async with locked(clients, lunch.combo):
        placing = asyncio.create_task(place(user, lunch))
        await until_waiting(clients, placing)
        closing = asyncio.create_task(close(clients, lunch.cafe))
        await until_waiting(clients, placing, closing)

    assert (await placing).status is OrderStatus.PENDING
    assert await closing
    assert await statuses(clients) == [OrderStatus.CONFIRMED]


async def test_the_announcement_waits_for_an_order_that_is_being_cancelled(
    clients: Clients, user: Context, lunch: Lunch
) -> None:
    """What was cancelled before the day was closed stays cancelled."""
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
    """Whoever orders, changes or cancels around the deadline: what was answered with success counts, what was refused
    changes nothing, and no order is left pending."""
    chance = random.Random(0)  # noqa: S311 a test's dice
    people = [replace(user, identified=Viewer(tgid, Role.USER)) for tgid in range(5001, 5010)]
    async with clients.db() as session:
        session.add_all(User(tgid=ctx.viewer.tgid, name=f"Colleague {ctx.viewer.tgid}") for ctx in people)
    refused = 0

    async def some_time_later(operation: Awaitable[object]) -> object:
        for _ in range(chance.randrange(40)):
            await asyncio.sleep(0)
        return await operation

    for days in range(12):
        date = DATE + dt.timedelta(days=days)
        old = [await place(ctx, lunch, date) for ctx in people[:6]]
        operations: list[Awaitable[object]] = [
            *(
                orders.update_order(ctx, order.id, {"notes": "new"})
                for ctx, order in zip(people[:3], old[:3], strict=True)
            ),
            *(orders.cancel_order(ctx, order.id) for ctx, order in zip(people[3:6], old[3:], strict=True)),
            *(
                orders.place_order(ctx, lunch.cafe.id, date, {**lunch_with(lunch), "notes": "new"})
                for ctx in people[6:]
            ),
            close(clients, lunch.cafe, date),
        ]
        turns = chance.sample(range(len(operations)), len(operations))
        answers = dict(zip(turns, await at_once(*(some_time_later(operations[turn]) for turn in turns)), strict=True))
        assert all(isinstance(answer, Order | DeadlinePassed | bool) for answer in answers.values())

        expected: dict[int, tuple[OrderStatus, str]] = {}
        for turn, ctx in enumerate(people):
            succeeded = isinstance(answers[turn], Order)
            refused += not succeeded
            if turn < 6 or succeeded:
                is_cancelled = 3 <= turn < 6 and succeeded
                expected[ctx.viewer.tgid] = (
                    OrderStatus.CANCELLED if is_cancelled else OrderStatus.CONFIRMED,
                    "new" if succeeded and not is_cancelled else "",
                )
        async with clients.db() as session:
            there = await session.scalars(select(Order).where(Order.date == date))
            assert {order.user_tgid: (order.status, order.notes) for order in there} == expected

    assert 0 < refused < 12 * len(people)


@pytest.mark.parametrize("kind", DELETIONS)
async def test_deleting_what_is_going_to_be_ordered(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, kind: str
) -> None:
    """Whoever deletes something before an order has taken hold of it has deleted it, and the order is refused; or it is
    kept for the order."""
    day = DeliveryDay(cafe_id=lunch.cafe.id, date=DATE)
    async with clients.db() as session:
        session.add(day)
    async with locked(clients, day):
        placing = asyncio.create_task(place(user, lunch))
        await until_waiting(clients, placing)
        deleting = asyncio.ensure_future(DELETIONS[kind](manager, lunch))
        await until_waiting(clients, placing, deleting)
    placed, removal = await at_once(placing, deleting)

    assert isinstance(placed, Order | BadInput | NotFound)
    assert isinstance(removal, Removal)
    assert isinstance(placed, Order) is not removal.is_deleted
    assert await statuses(clients) == [OrderStatus.PENDING] * isinstance(placed, Order)


@pytest.mark.parametrize("kind", DELETIONS)
async def test_deleting_what_is_being_ordered(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, kind: str
) -> None:
    """Whoever deletes something while an order of it is written waits, and finds that it must be kept."""
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
    placed, removal = await at_once(placing, deleting)

    assert isinstance(placed, Order)
    assert isinstance(removal, Removal)
    assert not removal.is_deleted


@pytest.mark.parametrize("kind", DELETIONS)
async def test_deleting_what_an_order_is_being_changed_to(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, kind: str
) -> None:
    """A change and a deletion that meet do not wait for each other for ever: the order has what it had, or was given."""
    order = await place(user, lunch)
    async with locked(clients, lunch.cake):
        changing = asyncio.create_task(
            orders.update_order(user, order.id, lunch_with(lunch, Extra(lunch.cola.id, 2), Extra(lunch.cake.id)))
        )
        await until_waiting(clients, changing)
        deleting = asyncio.ensure_future(DELETIONS[kind](manager, lunch))
        await until_waiting(clients, changing, deleting)
    changed, removal = await at_once(changing, deleting)

    assert isinstance(changed, Order)
    assert isinstance(removal, Removal)
    assert not removal.is_deleted


async def test_a_menu_item_is_not_added_to_a_cafe_that_is_being_deleted(
    clients: Clients, manager: Context, lunch: Lunch
) -> None:
    """Whoever adds to a menu while its cafe is deleted is told that there is no such cafe."""
    async with clients.db() as session:
        await session.delete(await session.get_one(Cafe, lunch.cafe.id))
        await session.flush()
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(menus.create_menu_item(manager, lunch.cafe.id, {"name": "Tea", "category": "soup"})),  # type: ignore[typeddict-item]
            asyncio.create_task(
                menus.create_combo(manager, lunch.cafe.id, {"name": "", "categories": [], "price": Decimal(1)})
            ),
        ]
        await until_waiting(clients, *tasks)

    assert kinds(await at_once(*tasks)) == ["NotFound", "NotFound"]


@pytest.mark.parametrize("kind", ["cafe", "user", "combo", "dish"])
async def test_what_is_being_switched_off_is_not_ordered(
    clients: Clients, user: Context, lunch: Lunch, kind: str
) -> None:
    """An order that meets the switching off of its cafe, person, combo or dish comes before it, or is refused."""
    rows: dict[str, tuple[type[Any], int]] = {
        "cafe": (Cafe, lunch.cafe.id),
        "user": (User, USER_TGID),
        "combo": (type(lunch.combo), lunch.combo.id),
        "dish": (MenuItem, lunch.soup.id),
    }
    async with clients.db() as session:
        row = await session.get_one(*rows[kind], with_for_update=True)
        row.switch_off()
        await session.flush()
        placing = asyncio.create_task(place(user, lunch))
        await until_waiting(clients, placing)
    (placed,) = await at_once(placing)

    assert isinstance(placed, BadInput | Forbidden)
    assert await statuses(clients) == []
