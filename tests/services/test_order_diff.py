"""The difference between two versions of a day's orders."""

from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.models import MenuCategory
from app.services.order_diff import Snapshot, changes_since, day_orders, snapshot_of
from app.services.orders import PlacedItem, PlacedOrder
from app.telegram.order_message import Change, Dish, Extra, NewNote

DAY = date(2026, 3, 5)
USER_NAMES = {1: "Ivan", 2: "Olga", 3: "Ivan"}
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
) -> PlacedOrder:
    """Make a user's order: a combo with a soup, and extras by their ids."""
    return PlacedOrder(
        user_tgid=tgid,
        user_name=person or USER_NAMES[tgid],
        combo_id=combo,
        combo_name=COMBOS[combo],
        combo_price=Decimal(10),
        total_price=Decimal(10),
        notes=notes,
        dishes=[PlacedItem(soup, soup_name or SOUPS[soup], MenuCategory.SOUP, 1, Decimal(0))],
        extras=[
            PlacedItem(extra, EXTRAS[extra], MenuCategory.EXTRA, quantity, quantity * Decimal("1.50"))
            for extra, quantity in (extras or {}).items()
        ],
    )


def known(*orders: PlacedOrder) -> Snapshot:
    """Make the snapshot that a cafe knows, as it comes back from the database."""
    snapshot: Snapshot = orjson.loads(orjson.dumps(snapshot_of(orders)))
    return snapshot


def test_equal_orders_make_no_changes() -> None:
    """Equal orders make no changes."""
    orders = [an_order(1, extras={20: 2}, notes="No dill"), an_order(2)]

    assert changes_since(known(*orders), orders) == ([], [])


def test_a_replaced_dish_is_two_changes() -> None:
    """A replaced dish is one less of it and one more of the other."""
    changes, _ = changes_since(known(an_order(soup=10)), [an_order(soup=11)])

    assert changes == [Change(-1, "Borscht", "Ivan"), Change(1, "Solyanka", "Ivan")]


def test_a_cancelled_order_is_less_of_all_its_items() -> None:
    """A cancelled order is less of its combo, its dishes and its extras."""
    changes, _ = changes_since(known(an_order(1), an_order(2, extras={20: 2})), [an_order(1)])

    assert changes == [Change(-1, "Business lunch", "Olga"), Change(-1, "Borscht", "Olga"), Change(-2, "Cola", "Olga")]


def test_a_new_order_is_more_of_all_its_items() -> None:
    """A new order is more of its combo and its dishes."""
    changes, _ = changes_since(known(an_order(1)), [an_order(1), an_order(2)])

    assert changes == [Change(1, "Business lunch", "Olga"), Change(1, "Borscht", "Olga")]


@pytest.mark.parametrize(("before", "after", "difference"), [(1, 3, 2), (3, 1, -2)])
def test_a_changed_quantity_is_the_difference(before: int, after: int, difference: int) -> None:
    """The change of an extra is the difference of its quantities."""
    changes, _ = changes_since(known(an_order(extras={20: before})), [an_order(extras={20: after})])

    assert changes == [Change(difference, "Cola", "Ivan")]


def test_decreases_come_first() -> None:
    """The decreases of a user come before the increases."""
    changes, _ = changes_since(
        known(an_order(combo=1, soup=10, extras={20: 1})), [an_order(combo=2, soup=11, extras={21: 1})]
    )

    assert [change.quantity for change in changes] == [-1, -1, -1, 1, 1, 1]


def test_changes_are_grouped_by_user() -> None:
    """The changes of a user come together."""
    changes, _ = changes_since(known(an_order(1), an_order(2)), [an_order(2, soup=11), an_order(1, soup=11)])

    assert [change.person for change in changes] == ["Ivan", "Ivan", "Olga", "Olga"]


def test_users_with_the_same_name_are_distinguished() -> None:
    """A change of one user does not offset a change of another user with the same name."""
    changes, _ = changes_since(known(an_order(1, soup=10), an_order(3, soup=11)), [an_order(1), an_order(3)])

    assert changes == [Change(-1, "Solyanka", "Ivan"), Change(1, "Borscht", "Ivan")]


def test_a_new_name_of_a_user_is_no_change() -> None:
    """A user with a new name makes no change."""
    assert changes_since(known(an_order()), [an_order(person="Ivan Petrovich")]) == ([], [])


def test_a_dish_that_was_ordered_again_under_another_name_is_two_changes() -> None:
    """A menu item that is in the order under another name is one less of the old name and one more of the new one."""
    changes, _ = changes_since(known(an_order()), [an_order(soup_name="Pea soup with bacon")])

    assert changes == [Change(-1, "Borscht", "Ivan"), Change(1, "Pea soup with bacon", "Ivan")]


def test_changes_have_the_present_names() -> None:
    """Changes have the present name of the user."""
    changes, _ = changes_since(known(an_order(extras={20: 1})), [an_order(person="Vanya", extras={20: 2})])

    assert changes == [Change(1, "Cola", "Vanya")]


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [("", "No dill", "No dill"), ("No dill", "No salt", "No salt"), ("No dill", "", "")],
)
def test_a_changed_note_is_a_new_note(before: str, after: str, new: str) -> None:
    """A changed note is a new note; a removed one is an empty note."""
    assert changes_since(known(an_order(notes=before)), [an_order(notes=after)]) == ([], [NewNote("Ivan", new)])


def test_the_note_of_a_new_order_is_a_new_note() -> None:
    """The note of a new order is a new note."""
    _, notes = changes_since({}, [an_order(notes="No dill")])

    assert notes == [NewNote("Ivan", "No dill")]


def test_the_note_of_a_cancelled_order_is_no_new_note() -> None:
    """The note of a cancelled order is no new note."""
    _, notes = changes_since(known(an_order(notes="No dill")), [])

    assert notes == []


user_orders = st.builds(
    an_order,
    st.sampled_from(list(USER_NAMES)),
    combo=st.sampled_from(list(COMBOS)),
    soup=st.sampled_from(list(SOUPS)),
    extras=st.dictionaries(st.sampled_from(list(EXTRAS)), st.integers(1, 20)),
    notes=st.sampled_from(["", "No dill", "No salt"]),
)
days = st.lists(user_orders, unique_by=lambda order: order.user_tgid)


def portions_of(orders: list[PlacedOrder]) -> Counter[tuple[str, str]]:
    """Count the portions of each item by user name."""
    portions: Counter[tuple[str, str]] = Counter()
    for order in orders:
        portions[order.user_name, order.combo_name] += 1
        for item in order.items:
            portions[order.user_name, item.name] += item.quantity
    return portions


@given(before=days, after=days)
@settings(max_examples=50, deadline=None)
def test_the_known_orders_and_the_changes_are_the_present_orders(
    before: list[PlacedOrder], after: list[PlacedOrder]
) -> None:
    """The known portions with the changes are the present portions."""
    changes, _ = changes_since(known(*before), after)

    portions = portions_of(before)
    for change in changes:
        portions[change.person, change.name] += change.quantity
    assert +portions == portions_of(after)


@given(day=days)
@settings(max_examples=50, deadline=None)
def test_known_orders_make_no_changes(day: list[PlacedOrder]) -> None:
    """Orders that the cafe knows make no changes."""
    assert changes_since(known(*day), day) == ([], [])


def test_the_orders_of_a_day_have_meals_quantities_and_a_total() -> None:
    """The orders of a day have each meal, the quantities of all items, and the total."""
    orders = [an_order(1, extras={20: 2}, notes="No dill"), an_order(2, soup=11), an_order(3)]

    day = day_orders(DAY, orders)

    assert (day.date, day.total) == (DAY, Decimal(30))
    assert day.quantities == [("Borscht", 2), ("Solyanka", 1), ("Cola", 2)]
    first = day.meals[0]
    assert (first.person, first.combo, first.price, first.notes) == ("Ivan", "Business lunch", Decimal(10), "No dill")
    assert first.dishes == [Dish("Borscht", "soup")]
    assert first.extras == [Extra("Cola", 2, Decimal("3.00"))]


def test_a_menu_item_with_two_names_has_two_quantities() -> None:
    """A menu item that was ordered under two names has a quantity for each name."""
    orders = [an_order(1), an_order(2, soup_name="Pea soup with bacon"), an_order(3)]

    assert day_orders(DAY, orders).quantities == [("Borscht", 2), ("Pea soup with bacon", 1)]
