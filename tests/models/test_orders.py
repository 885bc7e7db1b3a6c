"""What an order costs, to the cent, and whose prices it has."""

import datetime as dt
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models import Combo, MenuCategory, MenuItem, Order
from app.models.menus import DISH_CATEGORIES, PRICE_MAX
from app.models.orders import QUANTITY_MAX

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


def an_order() -> Order:
    return Order(date=dt.date(2026, 6, 10), items=[])


def extra(id_: int, price: Decimal) -> MenuItem:
    return MenuItem(id=id_, cafe_id=1, name=f"Extra {id_}", category=MenuCategory.EXTRA, price=price)


extras = st.dictionaries(st.integers(1, 60), st.tuples(prices, quantities), max_size=50)


def taken(extras: dict[int, tuple[Decimal, int]]) -> list[tuple[MenuItem, int]]:
    return [(extra(id_, price), quantity) for id_, (price, quantity) in extras.items()]


def prices_of(order: Order) -> dict[int, tuple[Decimal | None, int]]:
    return {item.menu_item_id: (item.price, item.quantity) for item in order.items}


@given(combo=combos, dishes=dishes, extras=extras)
def test_an_order_costs_its_combo_and_its_extras(
    combo: Combo, dishes: list[MenuItem], extras: dict[int, tuple[Decimal, int]]
) -> None:
    """The total is exact, in whole cents; dishes are paid with the combo."""
    order = an_order()
    order.take_combo(combo)
    order.take_items([(dish, 1) for dish in dishes] + taken(extras))

    order.sum_up()

    cents = int(combo.price / CENT) + sum(int(price / CENT) * quantity for price, quantity in extras.values())
    assert order.total_price == Decimal(cents).scaleb(-2)
    assert order.total_price.as_tuple().exponent == -2


@given(first=extras, second=extras)
def test_what_stays_keeps_its_price(
    first: dict[int, tuple[Decimal, int]], second: dict[int, tuple[Decimal, int]]
) -> None:
    """Extras that are ordered again cost what they did, in their new quantity; what is new costs what it does today."""
    order = an_order()
    order.take_items(taken(first))

    order.keep_items(set(second))
    order.take_items(taken(second))

    assert prices_of(order) == {
        id_: (first[id_][0] if id_ in first else price, quantity) for id_, (price, quantity) in second.items()
    }


@given(extras=extras, kept=st.sets(st.integers(1, 60)))
def test_what_is_not_kept_is_gone(extras: dict[int, tuple[Decimal, int]], kept: set[int]) -> None:
    """Keeping some items leaves them as they are, and drops all others."""
    order = an_order()
    order.take_items(taken(extras))

    order.keep_items(kept)

    assert prices_of(order) == {id_: it for id_, it in extras.items() if id_ in kept}


@given(first=combos, second=combos)
def test_the_same_combo_keeps_its_price(first: Combo, second: Combo) -> None:
    """A combo that is in the order already costs what it did; another one costs what it does today."""
    order = an_order()
    order.take_combo(first)

    order.take_combo(second)

    expected = first if first.id == second.id else second
    assert (order.combo_id, order.combo_name, order.combo_price) == (expected.id, expected.name, expected.price)


def test_dishes_are_in_the_order_in_which_they_are_eaten() -> None:
    """Soup, salad, main, in whatever order they were chosen; extras are no dishes, and come as on the menu."""
    order = an_order()
    order.take_items(
        (MenuItem(id=id_, cafe_id=1, name="", category=category), 1)
        for id_, category in enumerate([MenuCategory.MAIN, MenuCategory.SOUP, MenuCategory.SALAD])
    )
    order.take_items([(extra(9, CENT), 2), (extra(8, CENT), 1)])

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
    """Exactly one for each, in any order, and nothing else."""
    combo = Combo(cafe_id=1, name="", categories=[MenuCategory.SOUP, MenuCategory.MAIN], price=CENT)

    assert combo.is_filled_by([MenuItem(cafe_id=1, name="", category=it) for it in dishes]) is is_filled
