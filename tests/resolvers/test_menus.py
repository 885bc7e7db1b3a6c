"""Menu items and combos."""

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from app.auth.context import Context
from app.clients import Clients
from app.errors import Forbidden, NotFound, Unauthenticated
from app.models import (
    Cafe,
    Combo,
    ComboChanges,
    ComboInput,
    MenuCategory,
    MenuItem,
    MenuItemChanges,
    MenuItemInput,
)
from app.resolvers import menus, orders
from app.services.menus import filter_items
from app.validation import DESCRIPTION_MAX_CHARACTERS, PRICE_MAX
from tests.conftest import Lunch, add_cafe, add_lunch
from tests.ordering import BEFORE, DATE, at, field_of

DISH: dict[str, Any] = {"name": "Borscht", "category": MenuCategory.SOUP}
EXTRA: dict[str, Any] = {"name": "Cola", "category": MenuCategory.EXTRA, "price": Decimal("1.50")}
COMBO: dict[str, Any] = {"name": "Lunch", "categories": [MenuCategory.SOUP], "price": Decimal("10.00")}

BAD_NAMES = [
    "",
    "  ",
    "Borscht\nwith bread",
    "Borscht\twith bread",
    "Borscht\u2028with bread",
    "a\0b",
    "\ud800",
    "x" * 256,
]
BAD_PRICES = [Decimal("-0.01"), PRICE_MAX + 1]
BAD_DESCRIPTIONS = ["x" * (DESCRIPTION_MAX_CHARACTERS + 1), "\0"]


async def find[Row: (MenuItem, Combo)](clients: Clients, row: Row) -> Row | None:
    async with clients.db() as session:
        return await session.get(type(row), row.id)


async def test_a_new_dish_is_available_and_has_no_price(manager: Context, cafe: Cafe) -> None:
    """A new dish is available, has no price, and its name has no spaces around it."""
    fields = MenuItemInput.collect(**{**DISH, "name": "  Borscht ", "description": "With\nbread"})

    item = await menus.create_menu_item(manager, cafe.id, fields)

    assert (item.id > 0, item.cafe_id, item.name, item.category) == (True, cafe.id, "Borscht", MenuCategory.SOUP)
    assert (item.description, item.price, item.is_available) == ("With\nbread", None, True)


async def test_a_menu_has_its_items_in_the_order_of_their_creation(user: Context, manager: Context, cafe: Cafe) -> None:
    """A menu has all new items, and the list of combos has all new combos, the oldest first."""
    items = [await menus.create_menu_item(manager, cafe.id, MenuItemInput(**fields)) for fields in (EXTRA, DISH)]
    combos = [
        await menus.create_combo(manager, cafe.id, ComboInput(**{**COMBO, "price": Decimal(price)})) for price in (9, 8)
    ]

    assert [item.model_dump() for item in (await menus.list_menu_items(user, [cafe.id]))[0]] == [
        item.model_dump() for item in items
    ]
    assert [combo.model_dump() for combo in (await menus.list_combos(user, [cafe.id]))[0]] == [
        combo.model_dump() for combo in combos
    ]


async def test_the_menus_of_several_cafes_come_in_the_requested_order(
    clients: Clients, user: Context, lunch: Lunch
) -> None:
    """Each cafe gets its own menu and combos, and a cafe without a menu gets empty lists."""
    empty, other = await add_cafe(clients, "Empty"), await add_lunch(clients)
    ids = [other.cafe.id, empty.id, lunch.cafe.id]

    items, combos = await menus.list_menu_items(user, ids), await menus.list_combos(user, ids)

    assert [{item.cafe_id for item in menu} for menu in items] == [{other.cafe.id}, set(), {lunch.cafe.id}]
    assert [[combo.id for combo in listed] for listed in combos] == [
        [other.combo.id, other.light.id],
        [],
        [lunch.combo.id, lunch.light.id],
    ]


async def test_a_wrong_menu_item_is_bad_input(manager: Context, lunch: Lunch) -> None:
    """A menu item with a wrong name, price, description or null is bad input, new or changed."""
    wrong: list[tuple[Any, str]] = [
        *(({"name": name}, "name") for name in BAD_NAMES),
        *(({"price": price}, "price") for price in BAD_PRICES),
        *(({"description": text}, "description") for text in BAD_DESCRIPTIONS),
        *(({name: None}, name) for name in ("name", "category", "description", "is_available", "price")),
    ]

    for fields, field in wrong:
        new, changes = MenuItemInput.collect(**{**EXTRA, **fields}), MenuItemChanges.collect(**fields)
        assert await field_of(menus.create_menu_item(manager, lunch.cafe.id, new)) == field
        assert await field_of(menus.update_menu_item(manager, lunch.cola.id, None, changes)) == field

    assert len((await menus.list_menu_items(manager, [lunch.cafe.id]))[0]) == 6


async def test_an_extra_has_a_price_and_a_dish_has_none(manager: Context, lunch: Lunch) -> None:
    """A dish with a price and an extra without one are bad input, also after a change of category or price alone."""
    price = Decimal("2.00")
    priced, unpriced = {**DISH, "price": price}, {"name": "Cola", "category": MenuCategory.EXTRA}
    changes: list[tuple[MenuItem, dict[str, Any]]] = [
        (lunch.soup, {"price": price}),
        (lunch.soup, {"category": MenuCategory.EXTRA}),
        (lunch.soup, {"category": MenuCategory.SALAD, "price": price}),
        (lunch.cola, {"price": None}),
        (lunch.cola, {"category": MenuCategory.SOUP}),
        (lunch.cola, {"category": MenuCategory.EXTRA, "price": None}),
    ]

    for fields in (priced, unpriced):
        assert await field_of(menus.create_menu_item(manager, lunch.cafe.id, MenuItemInput(**fields))) == "price"
    for item, values in changes:
        assert await field_of(menus.update_menu_item(manager, item.id, None, MenuItemChanges(**values))) == "price"


async def test_a_category_may_change_with_the_price(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """A dish becomes an extra with a price, an extra becomes a dish without one, and a soup becomes a salad."""
    extra = MenuItemChanges(category=MenuCategory.EXTRA, price=Decimal("0.00"))
    await menus.update_menu_item(manager, lunch.soup.id, None, extra)
    await menus.update_menu_item(manager, lunch.cola.id, None, MenuItemChanges(category=MenuCategory.MAIN, price=None))
    await menus.update_menu_item(manager, lunch.other_soup.id, None, MenuItemChanges(category=MenuCategory.SALAD))

    stored = [await find(clients, item) for item in (lunch.soup, lunch.cola, lunch.other_soup)]
    assert [(item.category, item.price) for item in stored if item] == [
        (MenuCategory.EXTRA, Decimal("0.00")),
        (MenuCategory.MAIN, None),
        (MenuCategory.SALAD, None),
    ]


async def test_a_menu_item_with_orders_keeps_its_category(user: Context, manager: Context, lunch: Lunch) -> None:
    """A menu item with orders, also cancelled ones, may change except for its category."""
    ordered = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch.meal)
    await orders.cancel_order(at(user, BEFORE), ordered.id)
    salad = MenuItemChanges(category=MenuCategory.SALAD)
    same = MenuItemChanges(name="Green borscht", category=MenuCategory.SOUP)

    assert await field_of(menus.update_menu_item(manager, lunch.soup.id, None, salad)) == "category"
    assert (await menus.update_menu_item(manager, lunch.soup.id, None, same)).name == "Green borscht"


async def test_a_change_leaves_other_fields(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """A change of one field leaves all other fields as they are."""
    before = lunch.cola.model_dump()

    await menus.update_menu_item(manager, lunch.cola.id, lunch.cafe.id, MenuItemChanges(is_available=False))
    await menus.update_menu_item(manager, lunch.cola.id, lunch.cafe.id, MenuItemChanges(price=Decimal("1.75")))

    stored = await find(clients, lunch.cola)
    assert stored is not None
    assert stored.model_dump() == before | {"is_available": False, "price": Decimal("1.75")}


async def test_a_combo_has_its_categories_in_the_order_of_the_meal(
    clients: Clients, manager: Context, cafe: Cafe
) -> None:
    """The categories of a combo are sorted, in a new and in a changed combo."""
    categories = [MenuCategory.MAIN, MenuCategory.SOUP, MenuCategory.SALAD]
    new = ComboInput.collect(**{**COMBO, "name": " Lunch ", "categories": categories})
    combo = await menus.create_combo(manager, cafe.id, new)
    assert (combo.name, combo.categories) == ("Lunch", [MenuCategory.SOUP, MenuCategory.SALAD, MenuCategory.MAIN])

    changes = ComboChanges.collect(categories=[MenuCategory.MAIN, MenuCategory.SALAD])
    await menus.update_combo(manager, combo.id, None, changes)

    stored = await find(clients, combo)
    assert stored is not None
    assert (stored.categories, stored.price) == ([MenuCategory.SALAD, MenuCategory.MAIN], Decimal("10.00"))


async def test_a_wrong_combo_is_bad_input(manager: Context, lunch: Lunch) -> None:
    """A combo with wrong categories, or a wrong name, price, description or null, is bad input, new or changed."""
    wrong: list[tuple[Any, str]] = [
        ({"categories": []}, "categories"),
        ({"categories": [MenuCategory.SOUP, MenuCategory.MAIN, MenuCategory.SOUP]}, "categories"),
        ({"categories": [MenuCategory.EXTRA]}, "categories"),
        ({"categories": [MenuCategory.SOUP, MenuCategory.EXTRA]}, "categories"),
        *(({"name": name}, "name") for name in BAD_NAMES),
        *(({"price": price}, "price") for price in BAD_PRICES),
        *(({"description": text}, "description") for text in BAD_DESCRIPTIONS),
        *(({name: None}, name) for name in ("name", "categories", "price", "description", "is_available")),
    ]

    for fields, field in wrong:
        new, changes = ComboInput.collect(**{**COMBO, **fields}), ComboChanges.collect(**fields)
        assert await field_of(menus.create_combo(manager, lunch.cafe.id, new)) == field
        assert await field_of(menus.update_combo(manager, lunch.combo.id, None, changes)) == field

    assert len((await menus.list_combos(manager, [lunch.cafe.id]))[0]) == 2


async def test_prices_have_a_range(manager: Context, lunch: Lunch) -> None:
    """Zero and the maximum of the database are valid prices."""
    for price in (Decimal("0.00"), PRICE_MAX):
        assert (await menus.update_combo(manager, lunch.combo.id, None, ComboChanges(price=price))).price == price
        changes = MenuItemChanges(price=price)
        assert (await menus.update_menu_item(manager, lunch.cola.id, None, changes)).price == price


async def test_a_menu_item_without_orders_is_deleted(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """A menu item or combo without orders is deleted."""
    deletions = [
        await menus.delete_menu_item(manager, lunch.soup.id, lunch.cafe.id),
        await menus.delete_combo(manager, lunch.combo.id, None),
    ]

    assert [result.deleted for result in deletions] == [True, True]
    assert await find(clients, lunch.soup) is None
    assert await find(clients, lunch.combo) is None


async def test_a_menu_item_with_orders_is_made_unavailable(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """A menu item or combo with orders, also cancelled ones, becomes unavailable, and the orders keep their items."""
    ordered = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch.meal)
    await orders.cancel_order(at(user, BEFORE), ordered.id)

    deletions = [
        await menus.delete_menu_item(manager, lunch.soup.id, None),
        await menus.delete_combo(manager, lunch.combo.id, None),
    ]

    assert [(result.deleted, "made unavailable" in result.message) for result in deletions] == [(False, True)] * 2
    stored = [await find(clients, lunch.soup), await find(clients, lunch.combo)]
    assert [row.is_available for row in stored if row] == [False, False]
    assert len((await orders.get_order(user, ordered.id)).items) == 2


async def test_an_unknown_menu_item_is_not_found(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """An unknown cafe, menu item or combo, and one of another cafe, raise NotFound."""
    other = await add_lunch(clients)
    for operation in (
        menus.create_menu_item(manager, 999, MenuItemInput(**DISH)),
        menus.create_combo(manager, 999, ComboInput(**COMBO)),
        menus.update_menu_item(manager, 999, None, MenuItemChanges()),
        menus.update_menu_item(manager, lunch.soup.id, other.cafe.id, MenuItemChanges(name="Soup")),
        menus.delete_menu_item(manager, 999, None),
        menus.delete_menu_item(manager, lunch.soup.id, other.cafe.id),
        menus.update_combo(manager, 999, None, ComboChanges()),
        menus.update_combo(manager, lunch.combo.id, other.cafe.id, ComboChanges(name="Lunch")),
        menus.delete_combo(manager, 999, None),
        menus.delete_combo(manager, lunch.combo.id, other.cafe.id),
    ):
        with pytest.raises(NotFound):
            await operation


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx: menus.create_menu_item(ctx, 1, MenuItemInput(**DISH)),
        lambda ctx: menus.update_menu_item(ctx, 1, None, MenuItemChanges()),
        lambda ctx: menus.delete_menu_item(ctx, 1, None),
        lambda ctx: menus.create_combo(ctx, 1, ComboInput(**COMBO)),
        lambda ctx: menus.update_combo(ctx, 1, None, ComboChanges()),
        lambda ctx: menus.delete_combo(ctx, 1, None),
    ],
)
async def test_only_managers_change_menus(anonymous: Context, user: Context, operation: Any) -> None:
    """A user without the manager role gets Forbidden, and a caller without a token gets Unauthenticated."""
    with pytest.raises(Forbidden):
        await operation(user)
    with pytest.raises(Unauthenticated):
        await operation(anonymous)


@pytest.mark.parametrize(
    ("category", "is_available"),
    [(None, None), (MenuCategory.SOUP, None), (None, False), (MenuCategory.SOUP, True)],
)
def test_a_menu_can_be_filtered(category: MenuCategory | None, is_available: bool | None) -> None:
    """A menu can be filtered by category, by availability, by both, or by neither."""
    items = [
        MenuItem(cafe_id=1, name="", category=each, is_available=flag)
        for each in MenuCategory
        for flag in (True, False)
    ]

    filtered = filter_items(items, category, is_available)

    assert filtered == [
        item
        for item in items
        if (category is None or item.category is category)
        and (is_available is None or item.is_available is is_available)
    ]


@pytest.mark.parametrize(
    ("statement", "check"),
    [
        ("UPDATE menu_items SET price = 1 WHERE category = 'soup'", "menu_items_price_check"),
        ("UPDATE menu_items SET price = NULL WHERE category = 'extra'", "menu_items_price_check"),
        ("UPDATE menu_items SET price = -0.01 WHERE category = 'extra'", "menu_items_price_range_check"),
        ("UPDATE menu_items SET category = 'dessert'", "menu_items_category_check"),
        ("UPDATE combos SET price = -0.01", "combos_price_range_check"),
        ("UPDATE combos SET categories = '{}'", "combos_categories_check"),
        ("UPDATE combos SET categories = '{extra}'", "combos_categories_check"),
        ("UPDATE combos SET categories = '{soup,extra}'", "combos_categories_check"),
        ("UPDATE combos SET categories = '{soup,soup}'", "combos_categories_check"),
        ("UPDATE combos SET categories = '{soup,NULL}'", "combos_categories_check"),
        ("UPDATE combos SET categories = '{{soup,main},{salad,soup}}'", "combos_categories_check"),
    ],
)
async def test_the_database_enforces_the_rules_of_menus(
    clients: Clients, lunch: Lunch, statement: str, check: str
) -> None:
    """The database refuses a dish with a price, an extra without one, and a combo with wrong categories."""
    async with clients.db() as session:
        with pytest.raises(sa.exc.IntegrityError, match=check):
            await session.execute(sa.text(statement))
        await session.rollback()
