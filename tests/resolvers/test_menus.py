"""What cafes offer: the rules of menu items and combos."""

from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from app.clients import Clients
from app.context import Context
from app.errors import Forbidden, NotFound, Unauthenticated
from app.models import Cafe, Combo, MenuCategory, MenuItem
from app.models.menus import PRICE_MAX
from app.resolvers import menus, orders
from app.resolvers.inputs import DESCRIPTION_MAX_CHARACTERS
from tests.conftest import Lunch, add_cafe, add_lunch
from tests.resolvers.ordering import BEFORE, DATE, at, field_of, lunch_with

DISH: menus.MenuItemFields = {"name": "Borscht", "category": MenuCategory.SOUP}
EXTRA: menus.MenuItemFields = {"name": "Cola", "category": MenuCategory.EXTRA, "price": Decimal("1.50")}
COMBO: menus.ComboFields = {"name": "Lunch", "categories": [MenuCategory.SOUP], "price": Decimal("10.00")}

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


async def read[Row: (MenuItem, Combo)](clients: Clients, row: Row) -> Row | None:
    async with clients.db() as session:
        return await session.get(type(row), row.id)


async def test_a_dish_is_added(manager: Context, cafe: Cafe) -> None:
    """It is available, has no price, and its name has no spaces around it."""
    item = await menus.create_menu_item(manager, cafe.id, {**DISH, "name": "  Borscht ", "description": "With\nbread"})

    assert (item.id > 0, item.cafe_id, item.name, item.category) == (True, cafe.id, "Borscht", MenuCategory.SOUP)
    assert (item.description, item.price, item.is_available) == ("With\nbread", None, True)


async def test_what_was_added_is_on_the_menu(user: Context, manager: Context, cafe: Cafe) -> None:
    """A menu has what was added, in that order; so has the list of combos."""
    items = [await menus.create_menu_item(manager, cafe.id, fields) for fields in (EXTRA, DISH)]
    combos = [await menus.create_combo(manager, cafe.id, {**COMBO, "price": Decimal(price)}) for price in (9, 8)]

    assert [it.model_dump() for it in (await menus.menu_items(user, [cafe.id]))[0]] == [it.model_dump() for it in items]
    assert [it.model_dump() for it in (await menus.combos(user, [cafe.id]))[0]] == [it.model_dump() for it in combos]


async def test_the_menus_of_many_cafes_come_in_their_order(clients: Clients, user: Context, lunch: Lunch) -> None:
    """Each cafe gets its own, also one that offers nothing."""
    empty, other = await add_cafe(clients, "Empty"), await add_lunch(clients)
    ids = [other.cafe.id, empty.id, lunch.cafe.id]

    items, combos = await menus.menu_items(user, ids), await menus.combos(user, ids)

    assert [{it.cafe_id for it in menu} for menu in items] == [{other.cafe.id}, set(), {lunch.cafe.id}]
    assert [[it.id for it in menu] for menu in combos] == [
        [other.combo.id, other.light.id],
        [],
        [lunch.combo.id, lunch.light.id],
    ]


async def test_a_wrong_menu_item_is_refused(manager: Context, lunch: Lunch) -> None:
    """Names are one line, prices have a range, and nothing is null but the price of a dish; new or changed."""
    wrong: list[tuple[Any, str]] = [
        *(({"name": name}, "name") for name in BAD_NAMES),
        *(({"price": price}, "price") for price in BAD_PRICES),
        *(({"description": text}, "description") for text in BAD_DESCRIPTIONS),
        *(({name: None}, name) for name in ("name", "category", "description", "is_available", "price")),
    ]

    for fields, field in wrong:
        new: Any = {**EXTRA, **fields}
        assert await field_of(menus.create_menu_item(manager, lunch.cafe.id, new)) == field
        assert await field_of(menus.update_menu_item(manager, lunch.cola.id, None, fields)) == field

    assert len((await menus.menu_items(manager, [lunch.cafe.id]))[0]) == 6


async def test_an_extra_has_a_price_and_a_dish_has_none(manager: Context, lunch: Lunch) -> None:
    """Whatever is added or changed, and whichever of the two is given alone."""
    price = Decimal("2.00")
    priced, unpriced = {**DISH, "price": price}, {"name": "Cola", "category": MenuCategory.EXTRA}
    changes: list[tuple[MenuItem, menus.MenuItemFields]] = [
        (lunch.soup, {"price": price}),
        (lunch.soup, {"category": MenuCategory.EXTRA}),
        (lunch.soup, {"category": MenuCategory.SALAD, "price": price}),
        (lunch.cola, {"price": None}),
        (lunch.cola, {"category": MenuCategory.SOUP}),
        (lunch.cola, {"category": MenuCategory.EXTRA, "price": None}),
    ]

    for fields in (priced, unpriced):
        assert await field_of(menus.create_menu_item(manager, lunch.cafe.id, fields)) == "price"  # type: ignore[arg-type]
    for item, change in changes:
        assert await field_of(menus.update_menu_item(manager, item.id, None, change)) == "price"


async def test_a_category_changes_with_the_price(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """A dish becomes an extra together with a price, an extra a dish without it, a soup a salad just so."""
    extra: menus.MenuItemFields = {"category": MenuCategory.EXTRA, "price": Decimal("0.00")}
    await menus.update_menu_item(manager, lunch.soup.id, None, extra)
    await menus.update_menu_item(manager, lunch.cola.id, None, {"category": MenuCategory.MAIN, "price": None})
    await menus.update_menu_item(manager, lunch.other_soup.id, None, {"category": MenuCategory.SALAD})

    there = [await read(clients, item) for item in (lunch.soup, lunch.cola, lunch.other_soup)]
    assert [(item.category, item.price) for item in there if item] == [
        (MenuCategory.EXTRA, Decimal("0.00")),
        (MenuCategory.MAIN, None),
        (MenuCategory.SALAD, None),
    ]


async def test_what_was_ordered_keeps_its_category(user: Context, manager: Context, lunch: Lunch) -> None:
    """An order with it is made of one dish of each category. Anything else of it may change, also after cancelling."""
    ordered = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch_with(lunch))
    await orders.cancel_order(at(user, BEFORE), ordered.id)
    salad: menus.MenuItemFields = {"category": MenuCategory.SALAD}
    same: menus.MenuItemFields = {"name": "Green borscht", "category": MenuCategory.SOUP}

    assert await field_of(menus.update_menu_item(manager, lunch.soup.id, None, salad)) == "category"
    assert (await menus.update_menu_item(manager, lunch.soup.id, None, same)).name == "Green borscht"


async def test_a_change_leaves_what_is_not_given(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """What is given changes, and nothing else."""
    before = lunch.cola.model_dump()

    await menus.update_menu_item(manager, lunch.cola.id, lunch.cafe.id, {"is_available": False})
    await menus.update_menu_item(manager, lunch.cola.id, lunch.cafe.id, {"price": Decimal("1.75")})

    there = await read(clients, lunch.cola)
    assert there is not None
    assert there.model_dump() == before | {"is_available": False, "price": Decimal("1.75")}


async def test_a_combo_has_its_categories_as_they_are_eaten(clients: Clients, manager: Context, cafe: Cafe) -> None:
    """In whatever order they are given, new or changed."""
    categories = [MenuCategory.MAIN, MenuCategory.SOUP, MenuCategory.SALAD]
    combo = await menus.create_combo(manager, cafe.id, {**COMBO, "name": " Lunch ", "categories": categories})
    assert (combo.name, combo.categories) == ("Lunch", [MenuCategory.SOUP, MenuCategory.SALAD, MenuCategory.MAIN])

    await menus.update_combo(manager, combo.id, None, {"categories": [MenuCategory.MAIN, MenuCategory.SALAD]})

    there = await read(clients, combo)
    assert there is not None
    assert (there.categories, there.price) == ([MenuCategory.SALAD, MenuCategory.MAIN], Decimal("10.00"))


async def test_a_wrong_combo_is_refused(manager: Context, lunch: Lunch) -> None:
    """It has at least one category, none twice, none of extras, and like all names, prices and texts good ones."""
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
        new: Any = {**COMBO, **fields}
        assert await field_of(menus.create_combo(manager, lunch.cafe.id, new)) == field
        assert await field_of(menus.update_combo(manager, lunch.combo.id, None, fields)) == field

    assert len((await menus.combos(manager, [lunch.cafe.id]))[0]) == 2


async def test_prices_have_a_range(manager: Context, lunch: Lunch) -> None:
    """From nothing to what the database can keep."""
    for price in (Decimal("0.00"), PRICE_MAX):
        assert (await menus.update_combo(manager, lunch.combo.id, None, {"price": price})).price == price
        assert (await menus.update_menu_item(manager, lunch.cola.id, None, {"price": price})).price == price


async def test_what_nobody_ordered_is_deleted(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """A menu item or combo without orders is gone."""
    removals = [
        await menus.delete_menu_item(manager, lunch.soup.id, lunch.cafe.id),
        await menus.delete_combo(manager, lunch.combo.id, None),
    ]

    assert [removal.is_deleted for removal in removals] == [True, True]
    assert await read(clients, lunch.soup) is None
    assert await read(clients, lunch.combo) is None


async def test_what_was_ordered_is_kept_and_switched_off(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """Orders, also cancelled ones, still have what they had; nobody can order it any more."""
    ordered = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch_with(lunch))
    await orders.cancel_order(at(user, BEFORE), ordered.id)

    removals = [
        await menus.delete_menu_item(manager, lunch.soup.id, None),
        await menus.delete_combo(manager, lunch.combo.id, None),
    ]

    assert [(removal.is_deleted, "kept" in removal.message) for removal in removals] == [(False, True)] * 2
    there = [await read(clients, lunch.soup), await read(clients, lunch.combo)]
    assert [row.is_available for row in there if row] == [False, False]
    assert len((await orders.order(user, ordered.id)).items) == 2


async def test_what_is_not_there_is_not_found(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """Neither what is unknown, nor what is another cafe's than the one that is named."""
    other = await add_lunch(clients)
    for operation in (
        menus.create_menu_item(manager, 999, DISH),
        menus.create_combo(manager, 999, COMBO),
        menus.update_menu_item(manager, 999, None, {}),
        menus.update_menu_item(manager, lunch.soup.id, other.cafe.id, {"name": "Soup"}),
        menus.delete_menu_item(manager, 999, None),
        menus.delete_menu_item(manager, lunch.soup.id, other.cafe.id),
        menus.update_combo(manager, 999, None, {}),
        menus.update_combo(manager, lunch.combo.id, other.cafe.id, {"name": "Lunch"}),
        menus.delete_combo(manager, 999, None),
        menus.delete_combo(manager, lunch.combo.id, other.cafe.id),
    ):
        with pytest.raises(NotFound):
            await operation


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx: menus.create_menu_item(ctx, 1, DISH),
        lambda ctx: menus.update_menu_item(ctx, 1, None, {}),
        lambda ctx: menus.delete_menu_item(ctx, 1, None),
        lambda ctx: menus.create_combo(ctx, 1, COMBO),
        lambda ctx: menus.update_combo(ctx, 1, None, {}),
        lambda ctx: menus.delete_combo(ctx, 1, None),
    ],
)
async def test_only_managers_change_menus(anybody: Context, user: Context, operation: Any) -> None:
    """Colleagues read them."""
    with pytest.raises(Forbidden):
        await operation(user)
    with pytest.raises(Unauthenticated):
        await operation(anybody)


@pytest.mark.parametrize(
    ("category", "is_available"),
    [(None, None), (MenuCategory.SOUP, None), (None, False), (MenuCategory.SOUP, True)],
)
def test_a_menu_is_picked_from(category: MenuCategory | None, is_available: bool | None) -> None:
    """By category, by being available, by both, or by neither."""
    items = [
        MenuItem(cafe_id=1, name="", category=it, is_available=is_on) for it in MenuCategory for is_on in (True, False)
    ]

    picked = menus.pick(items, category, is_available)

    assert picked == [
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
async def test_the_database_keeps_the_rules_of_menus(
    clients: Clients, lunch: Lunch, statement: str, check: str
) -> None:
    """Even without our code there is no priced dish, no free extra, and no combo but of different dishes."""
    async with clients.db() as session:
        with pytest.raises(sa.exc.IntegrityError, match=check):
            await session.execute(sa.text(statement))
        await session.rollback()
