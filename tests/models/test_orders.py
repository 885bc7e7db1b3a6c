"""The prices and the total of an order."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models import Combo, MenuCategory, MenuItem, Order
from app.models.menus import DISH_CATEGORIES
from app.models.orders import QUANTITY_MAX
from app.validation import PRICE_MAX

CENT = Decimal("0.01")

prices = st.decimals(0, PRICE_MAX, places=2)
quantities = st.integers(1, QUANTITY_MAX)
combos = st.builds(
    Combo, id=st.integers(1, 3), cafe_id=st.just(1), name=st.text(max_size=5), categories=st.just([]), price=prices
)
dishes = st.lists(st.sampled_from(DISH_CATEGORIES), unique=True).map(
    lambda categories: [
        MenuItem(id=id_, cafe_id=1, name=category.value, category=category)
        for id_, category in enumerate(categories, start=100)
    ]
)


def make_order() -> Order:
    return Order(date=dt.date(2026, 6, 10), items=[])


def make_extra(id_: int, price: Decimal) -> MenuItem:
    return MenuItem(id=id_, cafe_id=1, name=f"Extra {id_}", category=MenuCategory.EXTRA, price=price)


extras = st.dictionaries(st.integers(1, 60), st.tuples(prices, quantities), max_size=50)


def as_items(extras: dict[int, tuple[Decimal, int]]) -> list[tuple[MenuItem, int]]:
    return [(make_extra(id_, price), quantity) for id_, (price, quantity) in extras.items()]


def prices_of(order: Order) -> dict[int, tuple[Decimal | None, int]]:
    return {item.menu_item_id: (item.price, item.quantity) for item in order.items}


@given(combo=combos, dishes=dishes, extras=extras)
def test_an_order_costs_its_combo_and_its_extras(
    combo: Combo, dishes: list[MenuItem], extras: dict[int, tuple[Decimal, int]]
) -> None:
    """The total is exact, in whole cents, and dishes cost nothing beside the combo."""
    order = make_order()
    order.take_combo(combo)
    order.take_items([(dish, 1) for dish in dishes] + as_items(extras))

    order.update_total()

    cents = int(combo.price / CENT) + sum(int(price / CENT) * quantity for price, quantity in extras.values())
    assert order.total_price == Decimal(cents).scaleb(-2)
    assert order.total_price.as_tuple().exponent == -2


@given(first=extras, second=extras)
def test_items_that_stay_keep_their_price(
    first: dict[int, tuple[Decimal, int]], second: dict[int, tuple[Decimal, int]]
) -> None:
    """An extra that stays has its former price and its new quantity, and a new extra has its present price."""
    order = make_order()
    order.take_items(as_items(first))

    order.keep_items(set(second))
    order.take_items(as_items(second))

    assert prices_of(order) == {
        id_: (first[id_][0] if id_ in first else price, quantity) for id_, (price, quantity) in second.items()
    }


@given(extras=extras, kept=st.sets(st.integers(1, 60)))
def test_other_items_are_dropped(extras: dict[int, tuple[Decimal, int]], kept: set[int]) -> None:
    """`keep_items` leaves the given items as they are and drops all others."""
    order = make_order()
    order.take_items(as_items(extras))

    order.keep_items(kept)

    assert prices_of(order) == {id_: line for id_, line in extras.items() if id_ in kept}


@given(first=combos, second=combos)
def test_the_same_combo_keeps_its_price(first: Combo, second: Combo) -> None:
    """A combo that the order already has keeps its price, and another combo has its present price."""
    order = make_order()
    order.take_combo(first)

    order.take_combo(second)

    expected = first if first.id == second.id else second
    assert (order.combo_id, order.combo_name, order.combo_price) == (expected.id, expected.name, expected.price)


def test_dishes_are_in_the_order_of_the_meal() -> None:
    """Dishes are sorted by category, and extras as on the menu, in any order of choice."""
    order = make_order()
    order.take_items(
        (MenuItem(id=id_, cafe_id=1, name="", category=category), 1)
        for id_, category in enumerate([MenuCategory.MAIN, MenuCategory.SOUP, MenuCategory.SALAD])
    )
    order.take_items([(make_extra(9, CENT), 2), (make_extra(8, CENT), 1)])

    assert [dish.category for dish in order.dishes] == [MenuCategory.SOUP, MenuCategory.SALAD, MenuCategory.MAIN]
    assert [item.menu_item_id for item in order.extras] == [8, 9]


@pytest.mark.parametrize(
    ("dishes", "is_filled"),
    [
        ([MenuCategory.MAIN, MenuCategory.SOUP], True),
        ([MenuCategory.SOUP], False),
        ([MenuCategory.SOUP, MenuCategory.SOUP], False),
        ([MenuCategory.SOUP, MenuCategory.MAIN, MenuCategory.SALAD], False),
        ([MenuCategory.SOUP, MenuCategory.EXTRA], False),
        ([], False),
    ],
)
def test_a_combo_takes_one_dish_of_each_category(dishes: list[MenuCategory], is_filled: bool) -> None:
    """A combo needs exactly one dish of each of its categories, in any order, and nothing else."""
    combo = Combo(cafe_id=1, name="", categories=[MenuCategory.SOUP, MenuCategory.MAIN], price=CENT)

    assert combo.is_filled_by([MenuItem(cafe_id=1, name="", category=category) for category in dishes]) is is_filled
