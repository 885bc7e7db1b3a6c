"""What has changed for a kitchen between two looks at a day's orders."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models import Cafe, MenuCategory, Order, OrderItem, User
from app.resolvers.kitchens import Snapshot, changes_since, day_orders, snapshot_of
from app.telegram.kitchen import Change, Dish, Extra, NewNote

DAY = date(2026, 3, 5)
PEOPLE = {1: "Ivan", 2: "Olga", 3: "Ivan"}
COMBOS = {1: "Business lunch", 2: "Light"}
SOUPS = {10: "Borscht", 11: "Solyanka"}
EXTRAS = {20: "Cola", 21: "Honey cake"}


def an_order(
    tgid: int = 1,
    *,
    person: str | None = None,
    combo: int = 1,
    soup: int = 10,
    soup_name: str | None = None,
    extras: Mapping[int, int] | None = None,
    notes: str = "",
) -> Order:
    """Somebody's combo with a soup, and extras by their numbers."""
    return Order(
        user_tgid=tgid,
        user=User(tgid=tgid, name=person or PEOPLE[tgid]),
        cafe_id=1,
        date=DAY,
        combo_id=combo,
        combo_name=COMBOS[combo],
        combo_price=Decimal(10),
        total_price=Decimal(10),
        notes=notes,
        updated_at=datetime(2026, 3, 4, 9, tzinfo=UTC),
        items=[
            OrderItem(menu_item_id=soup, name=soup_name or SOUPS[soup], category=MenuCategory.SOUP, quantity=1),
            *(
                OrderItem(
                    menu_item_id=extra,
                    name=EXTRAS[extra],
                    category=MenuCategory.EXTRA,
                    price=Decimal("1.50"),
                    quantity=number,
                )
                for extra, number in (extras or {}).items()
            ),
        ],
    )


def known(*orders: Order) -> Snapshot:
    """What a kitchen was told, as it comes back from the database."""
    snapshot: Snapshot = orjson.loads(orjson.dumps(snapshot_of(orders)))
    return snapshot


def test_nothing_has_changed() -> None:
    """The same orders are no news."""
    orders = [an_order(1, extras={20: 2}, notes="No dill"), an_order(2)]

    assert changes_since(known(*orders), orders) == ([], [])


def test_a_dish_for_another() -> None:
    """A dish that is taken for another is one less and one more."""
    changes, _ = changes_since(known(an_order(soup=10)), [an_order(soup=11)])

    assert changes == [Change(-1, "Borscht", "Ivan"), Change(1, "Solyanka", "Ivan")]


def test_an_order_that_is_cancelled() -> None:
    """All that a person had is less: the combo, its dishes, the extras."""
    changes, _ = changes_since(known(an_order(1), an_order(2, extras={20: 2})), [an_order(1)])

    assert changes == [Change(-1, "Business lunch", "Olga"), Change(-1, "Borscht", "Olga"), Change(-2, "Cola", "Olga")]


def test_an_order_that_is_new() -> None:
    """All that a person has is more."""
    changes, _ = changes_since(known(an_order(1)), [an_order(1), an_order(2)])

    assert changes == [Change(1, "Business lunch", "Olga"), Change(1, "Borscht", "Olga")]


@pytest.mark.parametrize(("before", "after", "difference"), [(1, 3, 2), (3, 1, -2)])
def test_the_number_of_an_extra(before: int, after: int, difference: int) -> None:
    """Of an extra the difference is told."""
    changes, _ = changes_since(known(an_order(extras={20: before})), [an_order(extras={20: after})])

    assert changes == [Change(difference, "Cola", "Ivan")]


def test_what_is_less_comes_first() -> None:
    """Of one person, first what need not be cooked."""
    changes, _ = changes_since(
        known(an_order(combo=1, soup=10, extras={20: 1})), [an_order(combo=2, soup=11, extras={21: 1})]
    )

    assert [change.number for change in changes] == [-1, -1, -1, 1, 1, 1]


def test_changes_are_told_person_by_person() -> None:
    """What one person has changed is not mixed with another's."""
    changes, _ = changes_since(known(an_order(1), an_order(2)), [an_order(2, soup=11), an_order(1, soup=11)])

    assert [change.person for change in changes] == ["Ivan", "Ivan", "Olga", "Olga"]


def test_people_of_one_name_are_two() -> None:
    """What one Ivan gives up and another takes is not nothing."""
    changes, _ = changes_since(known(an_order(1, soup=10), an_order(3, soup=11)), [an_order(1), an_order(3)])

    assert changes == [Change(-1, "Solyanka", "Ivan"), Change(1, "Borscht", "Ivan")]


def test_a_new_name_is_no_change() -> None:
    """A dish, or a person, that has another name by now is still the same."""
    orders = [an_order(person="Ivan Petrovich", soup_name="Borscht with dill")]

    assert changes_since(known(an_order()), orders) == ([], [])


def test_changes_have_the_names_of_now() -> None:
    """A kitchen reads what things are called now."""
    changes, _ = changes_since(known(an_order(extras={20: 1})), [an_order(person="Vanya", extras={20: 2})])

    assert changes == [Change(1, "Cola", "Vanya")]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [("", "No dill", "No dill"), ("No dill", "No salt", "No salt"), ("No dill", "", "")],
)
def test_a_note_that_has_changed(before: str, after: str, told: str) -> None:
    """What a person wants is told anew; also that it is nothing any more."""
    assert changes_since(known(an_order(notes=before)), [an_order(notes=after)]) == ([], [NewNote("Ivan", told)])


def test_the_note_of_a_new_order() -> None:
    """What a person wants who was not there before is told with the order."""
    _, notes = changes_since({}, [an_order(notes="No dill")])

    assert notes == [NewNote("Ivan", "No dill")]


def test_the_note_of_an_order_that_is_cancelled() -> None:
    """Who eats nothing wants nothing."""
    _, notes = changes_since(known(an_order(notes="No dill")), [])

    assert notes == []


orders_of_one = st.builds(
    an_order,
    st.sampled_from(list(PEOPLE)),
    combo=st.sampled_from(list(COMBOS)),
    soup=st.sampled_from(list(SOUPS)),
    extras=st.dictionaries(st.sampled_from(list(EXTRAS)), st.integers(1, 20)),
    notes=st.sampled_from(["", "No dill", "No salt"]),
)
days = st.lists(orders_of_one, unique_by=lambda order: order.user_tgid)


def portions(orders: list[Order]) -> Counter[tuple[str, str]]:
    """How much of what a kitchen cooks for whom."""
    cooked: Counter[tuple[str, str]] = Counter()
    for order in orders:
        cooked[order.user.name, order.combo_name] += 1
        for item in order.items:
            cooked[order.user.name, item.name] += item.quantity
    return cooked


@given(before=days, after=days)
@settings(max_examples=50, deadline=None)
def test_a_kitchen_that_follows_the_changes_cooks_what_was_ordered(before: list[Order], after: list[Order]) -> None:
    """What it knew, with the changes, is what is ordered now."""
    changes, _ = changes_since(known(*before), after)

    cooked = portions(before)
    for change in changes:
        cooked[change.person, change.name] += change.number
    assert +cooked == portions(after)


@given(day=days)
@settings(max_examples=50, deadline=None)
def test_once_told_there_is_nothing_to_tell(day: list[Order]) -> None:
    """A kitchen that was told of a day's orders has nothing to learn about them."""
    assert changes_since(known(*day), day) == ([], [])


def test_a_days_orders_as_a_kitchen_reads_them() -> None:
    """Each meal, what is to be cooked in all, and what it costs."""
    orders = [an_order(1, extras={20: 2}, notes="No dill"), an_order(2, soup=11), an_order(3)]

    day = day_orders(Cafe(id=1, name="Basil & Thyme"), DAY, orders)

    assert (day.cafe, day.date, day.total) == ("Basil & Thyme", DAY, Decimal(30))
    assert day.kitchen == [("Borscht", 2), ("Solyanka", 1), ("Cola", 2)]
    first = day.meals[0]
    assert (first.person, first.combo, first.price, first.notes) == ("Ivan", "Business lunch", Decimal(10), "No dill")
    assert first.dishes == [Dish("Borscht", "soup")]
    assert first.extras == [Extra("Cola", 2, Decimal("3.00"))]
