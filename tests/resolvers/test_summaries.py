"""What a cafe is to cook: every order of the day added up, and nothing else."""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal

import pytest
import sqlalchemy as sa

from app.clients import Clients
from app.context import Context
from app.errors import BadInput, Forbidden, NotFound
from app.models import MenuCategory, Order, Role, User
from app.resolvers import orders, summaries
from app.resolvers.order_lines import Extra, OrderFields
from app.resolvers.summaries import Line, Summary
from app.viewer import Viewer
from tests.conftest import Lunch, add_lunch
from tests.resolvers.ordering import BEFORE, CLOSES_AT, DATE, at, change, lunch_with

FIRST, SECOND, THIRD = 3001, 3002, 3003


@pytest.fixture
async def colleagues(clients: Clients, user: Context) -> dict[int, Context]:
    """Three who order before the deadline, the last by name first."""
    names = {FIRST: "Clara", SECOND: "Boris", THIRD: "Anna"}
    async with clients.db() as session:
        session.add_all(User(tgid=tgid, name=name) for tgid, name in names.items())
    return {tgid: replace(at(user, BEFORE), identified=Viewer(tgid, Role.USER)) for tgid in names}


@pytest.fixture
async def ordered(colleagues: dict[int, Context], lunch: Lunch) -> dict[int, Order]:
    """Two business lunches, with one soup and two; and a light lunch."""
    light: OrderFields = {"combo_id": lunch.light.id, "dish_ids": [lunch.salad.id], "notes": "No dill"}
    chosen: dict[int, OrderFields] = {
        FIRST: {**lunch_with(lunch, Extra(lunch.cola.id, 2)), "notes": "No onions"},
        SECOND: {**lunch_with(lunch, Extra(lunch.cola.id, 1), Extra(lunch.cake.id, 4))},
        THIRD: light,
    }
    return {
        tgid: await orders.place_order(colleagues[tgid], lunch.cafe.id, DATE, fields) for tgid, fields in chosen.items()
    }


async def summary_of(manager: Context, lunch: Lunch, date: dt.date = DATE) -> Summary:
    return await summaries.order_summary(manager, lunch.cafe.id, date)


def told(lines: Sequence[Line]) -> list[tuple[str, int, str]]:
    return [(line.name, line.quantity, str(line.amount)) for line in lines]


@contextmanager
def statements(clients: Clients) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    sent: list[str] = []

    def hear(*arguments: object) -> None:
        sent.append(str(arguments[2]))

    sa.event.listen(clients.engine.sync_engine, "before_cursor_execute", hear)
    yield sent
    sa.event.remove(clients.engine.sync_engine, "before_cursor_execute", hear)


async def test_a_day_is_added_up(manager: Context, lunch: Lunch, ordered: dict[int, Order]) -> None:
    """How many orders there are, and what they cost together."""
    summary = await summary_of(manager, lunch)

    assert (summary.cafe.id, summary.date, summary.orders_count) == (lunch.cafe.id, DATE, 3)
    assert str(summary.total_price) == "43.50"  # 10.00 + 2 * 1.50, 10.00 + 1.50 + 4 * 3.25, 6.00
    assert summary.total_price == sum(order.total_price for order in ordered.values())


async def test_the_most_ordered_comes_first(manager: Context, lunch: Lunch, ordered: dict[int, Order]) -> None:
    """Combos and extras have a line each, with how many there are and what they cost."""
    summary = await summary_of(manager, lunch)

    assert told(summary.combos) == [("Business lunch", 2, "20.00"), ("Light", 1, "6.00")]
    assert told(summary.extras) == [("Honey cake", 4, "13.00"), ("Cola", 3, "4.50")]


async def test_dishes_come_by_category(
    manager: Context, colleagues: dict[int, Context], lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """In the order in which they are eaten; of those that are ordered alike, by name. They cost nothing beside combos."""
    await orders.update_order(colleagues[FIRST], ordered[FIRST].id, {"dish_ids": [lunch.other_soup.id, lunch.main.id]})

    summary = await summary_of(manager, lunch)

    assert [(it.category, told(it.dishes)) for it in summary.dishes] == [
        (MenuCategory.SOUP, [("Borscht", 1, "0"), ("Solyanka", 1, "0")]),
        (MenuCategory.SALAD, [("Vinaigrette", 1, "0")]),
        (MenuCategory.MAIN, [("Pelmeni", 2, "0")]),
    ]


async def test_notes_come_by_person(manager: Context, lunch: Lunch, ordered: dict[int, Order]) -> None:
    """By name, and without those who have nothing to say."""
    summary = await summary_of(manager, lunch)

    assert [(note.person, note.notes) for note in summary.notes] == [("Anna", "No dill"), ("Clara", "No onions")]


async def test_cancelled_orders_are_left_out(
    manager: Context, colleagues: dict[int, Context], lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """Nobody cooks for them, and a category without dishes is not there."""
    for tgid in (FIRST, SECOND):
        await orders.cancel_order(colleagues[tgid], ordered[tgid].id)

    summary = await summary_of(manager, lunch)

    assert (summary.orders_count, str(summary.total_price), summary.extras) == (1, "6.00", [])
    assert (told(summary.combos), len(summary.notes)) == ([("Light", 1, "6.00")], 1)
    assert [it.category for it in summary.dishes] == [MenuCategory.SALAD]


async def test_an_empty_day_is_all_zero(
    clients: Clients, manager: Context, lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """Other days and other cafes have nothing of it."""
    other = await add_lunch(clients)

    for summary in (await summary_of(manager, lunch, DATE + dt.timedelta(days=1)), await summary_of(manager, other)):
        assert (summary.orders_count, summary.total_price) == (0, Decimal(0))
        assert not any((summary.combos, summary.dishes, summary.extras, summary.notes))


async def test_what_was_renamed_is_one_line(
    clients: Clients, manager: Context, colleagues: dict[int, Context], lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """A dish, an extra and a combo with a new name have that of the latest order, and what each order pays is added."""
    await change(clients, lunch.soup, name="Green borscht")
    await change(clients, lunch.cola, name="Kvas", price=Decimal("2.00"))
    await change(clients, lunch.combo, name="Feast", price=Decimal("11.00"))
    later = at(colleagues[THIRD], BEFORE + dt.timedelta(hours=1))

    await orders.update_order(later, ordered[THIRD].id, lunch_with(lunch, Extra(lunch.cola.id)))

    summary = await summary_of(manager, lunch)
    assert told(summary.combos) == [("Feast", 3, "31.00")]
    assert told(summary.dishes[0].dishes) == [("Green borscht", 3, "0")]
    assert told(summary.extras) == [("Honey cake", 4, "13.00"), ("Kvas", 4, "6.50")]


async def test_dishes_of_one_name_are_different_lines(
    clients: Clients, manager: Context, colleagues: dict[int, Context], lunch: Lunch, ordered: dict[int, Order]
) -> None:
    """What is added up is the dish, not its name."""
    await change(clients, lunch.other_soup, name="Borscht")
    await orders.update_order(colleagues[FIRST], ordered[FIRST].id, {"dish_ids": [lunch.other_soup.id, lunch.main.id]})

    soups = (await summary_of(manager, lunch)).dishes[0].dishes

    assert [(line.id, line.name, line.quantity) for line in soups] == [
        (lunch.soup.id, "Borscht", 1),
        (lunch.other_soup.id, "Borscht", 1),
    ]


async def test_orders_count_from_the_beginning(manager: Context, lunch: Lunch, ordered: dict[int, Order]) -> None:
    """Pending or confirmed, also what a manager orders after the deadline."""
    await orders.place_order(at(manager, CLOSES_AT), lunch.cafe.id, DATE, lunch_with(lunch))

    assert (await summary_of(manager, lunch)).orders_count == 4


async def test_a_day_is_two_statements(clients: Clients, lunch: Lunch, ordered: dict[int, Order]) -> None:
    """However many people order: their orders, and what is in them."""
    async with clients.db() as session:
        await session.connection()
        with statements(clients) as sent:
            found = await summaries.orders_of_day(session, lunch.cafe.id, DATE)

    assert [order.user.name for order in found] == ["Anna", "Boris", "Clara"]
    assert sum(len(order.items) for order in found) == 8
    assert len(sent) == 2


async def test_only_managers_see_a_day(user: Context, lunch: Lunch) -> None:
    """What others eat is none of a colleague's business."""
    with pytest.raises(Forbidden):
        await summary_of(user, lunch)


async def test_a_day_is_of_a_cafe_and_a_date(manager: Context, lunch: Lunch) -> None:
    """An unknown cafe and a date of another century are refused."""
    with pytest.raises(NotFound):
        await summaries.order_summary(manager, 999, DATE)
    with pytest.raises(BadInput) as refused:
        await summary_of(manager, lunch, dt.date.max)
    assert refused.value.field == "date"
