"""The order summary of a cafe and date."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa

from app.auth.context import Context
from app.auth.viewer import Caller, Viewer
from app.clients import Clients
from app.errors import BadInput, Forbidden, NotFound
from app.models import MenuCategory, Order, OrderChanges, OrderInput, Role, User
from app.resolvers import orders, summaries
from app.resolvers.summaries import OrderSummary, SummaryCombo, SummaryItem
from app.services import orders as orders_service
from tests.conftest import Lunch, add_lunch
from tests.ordering import BEFORE, CLOSES_AT, DATE, at, change, extra

FIRST, SECOND, THIRD = 3001, 3002, 3003


@pytest.fixture
async def users(clients: Clients, user: Context) -> dict[int, Context]:
    """Three users before the deadline, in descending order of their names."""
    names = {FIRST: "Clara", SECOND: "Boris", THIRD: "Anna"}
    async with clients.db() as session:
        session.add_all(User(tgid=tgid, name=name) for tgid, name in names.items())
    return {tgid: replace(at(user, BEFORE), caller=Caller(viewer=Viewer(tgid, Role.USER))) for tgid in names}


@pytest.fixture
async def ordered(users: dict[int, Context], lunch: Lunch) -> dict[int, Order]:
    """Two business lunches with extras, and a light lunch."""
    light = OrderInput(combo_id=lunch.light.id, dish_ids=[lunch.salad.id], notes="No dill")
    chosen = {
        FIRST: lunch.order(extras=[extra(lunch.cola.id, 2)], notes="No onions"),
        SECOND: lunch.order(extras=[extra(lunch.cola.id, 1), extra(lunch.cake.id, 4)]),
        THIRD: light,
    }
    return {tgid: await orders.place_order(users[tgid], lunch.cafe.id, DATE, fields) for tgid, fields in chosen.items()}


async def summary_of(manager: Context, lunch: Lunch, date: dt.date = DATE) -> OrderSummary:
    return await summaries.get_order_summary(manager, lunch.cafe.id, date)


def as_tuples(lines: Sequence[SummaryCombo | SummaryItem]) -> list[tuple[str, int, str]]:
    return [(line.name, line.quantity, str(line.amount)) for line in lines]


@contextmanager
def statements(clients: Clients) -> Iterator[list[str]]:
    """The SQL statements that are sent in this block."""
    sent: list[str] = []

    def on_execute(*arguments: object) -> None:
        sent.append(str(arguments[2]))

    sa.event.listen(clients.engine.sync_engine, "before_cursor_execute", on_execute)
    yield sent
    sa.event.remove(clients.engine.sync_engine, "before_cursor_execute", on_execute)


async def test_a_summary_has_the_number_and_the_total_of_the_orders(
    manager: Context, lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """The orders of the day are counted, and their totals are added up."""
    summary = await summary_of(manager, lunch)

    assert (summary.cafe.id, summary.date, summary.orders_count) == (lunch.cafe.id, DATE, 3)
    assert str(summary.total_price) == "43.50"  # 10.00 + 2 * 1.50, 10.00 + 1.50 + 4 * 3.25, 6.00
    assert summary.total_price == sum(order.total_price for order in ordered.values())


async def test_the_most_ordered_items_come_first(manager: Context, lunch: Lunch, ordered: dict[int, Order]) -> None:
    """Each combo and each extra has one line with its quantity and its amount."""
    summary = await summary_of(manager, lunch)

    assert as_tuples(summary.combos) == [("Business lunch", 2, "20.00"), ("Light", 1, "6.00")]
    assert as_tuples(summary.extras) == [("Honey cake", 4, "13.00"), ("Cola", 3, "4.50")]


async def test_dishes_are_grouped_by_category(
    manager: Context, users: dict[int, Context], lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """Categories are in the order of the meal, dishes of the same quantity are sorted by name, and dishes cost nothing."""
    await orders.update_order(
        users[FIRST], ordered[FIRST].id, OrderChanges(dish_ids=[lunch.other_soup.id, lunch.main.id])
    )

    summary = await summary_of(manager, lunch)

    assert [(group.category, as_tuples(group.dishes)) for group in summary.dishes] == [
        (MenuCategory.SOUP, [("Borscht", 1, "0"), ("Solyanka", 1, "0")]),
        (MenuCategory.SALAD, [("Vinaigrette", 1, "0")]),
        (MenuCategory.MAIN, [("Pelmeni", 2, "0")]),
    ]


async def test_notes_are_sorted_by_user(manager: Context, lunch: Lunch, ordered: dict[int, Order]) -> None:
    """Notes are sorted by the name of their user, without empty notes."""
    summary = await summary_of(manager, lunch)

    assert [(note.user_name, note.notes) for note in summary.notes] == [("Anna", "No dill"), ("Clara", "No onions")]


async def test_cancelled_orders_are_left_out(
    manager: Context, users: dict[int, Context], lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """A summary has no cancelled orders and no category without dishes."""
    for tgid in (FIRST, SECOND):
        await orders.cancel_order(users[tgid], ordered[tgid].id)

    summary = await summary_of(manager, lunch)

    assert (summary.orders_count, str(summary.total_price), summary.extras) == (1, "6.00", [])
    assert (as_tuples(summary.combos), len(summary.notes)) == ([("Light", 1, "6.00")], 1)
    assert [group.category for group in summary.dishes] == [MenuCategory.SALAD]


async def test_a_day_without_orders_has_an_empty_summary(
    clients: Clients, manager: Context, lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """Orders do not count for another date or another cafe."""
    other = await add_lunch(clients)

    for summary in (await summary_of(manager, lunch, DATE + dt.timedelta(days=1)), await summary_of(manager, other)):
        assert (summary.orders_count, summary.total_price) == (0, Decimal(0))
        assert not any((summary.combos, summary.dishes, summary.extras, summary.notes))


async def test_a_summary_has_the_names_of_the_orders(
    clients: Clients, manager: Context, lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """Combos, dishes and extras have the names that they were ordered by, also if the menu has others now."""
    before = await summary_of(manager, lunch)
    await change(clients, lunch.soup, name="Pea soup with bacon")
    await change(clients, lunch.cola, name="Champagne")
    await change(clients, lunch.combo, name="Feast")

    assert await summary_of(manager, lunch) == before


async def test_two_names_of_an_item_have_two_lines(
    clients: Clients, manager: Context, users: dict[int, Context], lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """A dish, extra or combo that was ordered under two names has a line for each, with its quantity and amount."""
    await change(clients, lunch.soup, name="Green borscht")
    await change(clients, lunch.cola, name="Kvas", price=Decimal("2.00"))
    await change(clients, lunch.combo, name="Feast", price=Decimal("11.00"))
    later = at(users[THIRD], BEFORE + dt.timedelta(hours=1))

    await orders.update_order(later, ordered[THIRD].id, lunch.order(extras=[extra(lunch.cola.id)]))

    summary = await summary_of(manager, lunch)
    assert as_tuples(summary.combos) == [("Business lunch", 2, "20.00"), ("Feast", 1, "11.00")]
    assert as_tuples(summary.dishes[0].dishes) == [("Borscht", 2, "0"), ("Green borscht", 1, "0")]
    assert as_tuples(summary.extras) == [("Honey cake", 4, "13.00"), ("Cola", 3, "4.50"), ("Kvas", 1, "2.00")]


async def test_dishes_with_the_same_name_have_separate_lines(
    clients: Clients, manager: Context, users: dict[int, Context], lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """Quantities are added up by dish, not by name."""
    await change(clients, lunch.other_soup, name="Borscht")
    await orders.update_order(
        users[FIRST], ordered[FIRST].id, OrderChanges(dish_ids=[lunch.other_soup.id, lunch.main.id])
    )

    soups = (await summary_of(manager, lunch)).dishes[0].dishes

    assert [(line.menu_item_id, line.name, line.quantity) for line in soups] == [
        (lunch.soup.id, "Borscht", 1),
        (lunch.other_soup.id, "Borscht", 1),
    ]


async def test_pending_and_confirmed_orders_count(manager: Context, lunch: Lunch, ordered: dict[int, Order]) -> None:
    """All orders that are not cancelled count, also a manager's order after the deadline."""
    await orders.place_order(at(manager, CLOSES_AT), lunch.cafe.id, DATE, lunch.meal)

    assert (await summary_of(manager, lunch)).orders_count == 4


async def test_the_orders_of_a_day_take_two_statements(
    clients: Clients, lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """`find_orders_of_day` reads orders, users and items in two statements, for any number of orders."""
    async with clients.db() as session:
        await session.connection()
        with statements(clients) as sent:
            found = await orders_service.find_orders_of_day(session, lunch.cafe.id, DATE)

    assert [order.user_name for order in found] == ["Anna", "Boris", "Clara"]
    assert sum(len(order.items) for order in found) == 8
    assert len(sent) == 2


async def test_only_managers_get_a_summary(user: Context, lunch: Lunch) -> None:
    """A user without the manager role gets Forbidden."""
    with pytest.raises(Forbidden):
        await summary_of(user, lunch)


async def test_a_summary_needs_a_known_cafe_and_a_valid_date(manager: Context, lunch: Lunch) -> None:
    """An unknown cafe raises NotFound, and a date in another century is bad input."""
    with pytest.raises(NotFound):
        await summaries.get_order_summary(manager, 999, DATE)
    with pytest.raises(BadInput) as refused:
        await summary_of(manager, lunch, dt.date.max)
    assert refused.value.field == "date"
