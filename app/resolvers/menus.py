"""What cafes offer: menu items and combos."""

from collections.abc import Sequence
from decimal import Decimal
from typing import TypedDict

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.auth import allow
from app.context import Context
from app.errors import BadInput, NotFound
from app.models import Combo, MenuCategory, MenuItem, OrderItem, Role
from app.models.menus import DISH_CATEGORIES
from app.resolvers import cafes
from app.resolvers.inputs import (
    DESCRIPTION_MAX_CHARACTERS,
    checked_name,
    checked_price,
    checked_text,
    without_nulls,
)
from app.resolvers.paging import SortOrder
from app.resolvers.removal import KEEP, Removal, remove

ITEMS: SortOrder[MenuItem] = SortOrder("menu_items", (col(MenuItem.id),), (int,), lambda item: (item.id,))
COMBOS: SortOrder[Combo] = SortOrder("combos", (col(Combo.id),), (int,), lambda combo: (combo.id,))


class MenuItemFields(TypedDict, total=False):
    """What a manager says of a menu item."""

    name: str
    description: str
    category: MenuCategory
    price: Decimal | None
    is_available: bool


class ComboFields(TypedDict, total=False):
    """What a manager says of a combo."""

    name: str
    description: str
    categories: list[MenuCategory]
    price: Decimal
    is_available: bool


@allow(Role.USER)
async def menu_items(ctx: Context, cafe_ids: Sequence[int]) -> list[Sequence[MenuItem]]:
    """What a cafe offers, in the order in which it was added.

    Many cafes' menus are one statement.
    """
    query = select(MenuItem).where(col(MenuItem.cafe_id).in_(cafe_ids)).order_by(*ITEMS.sorted())
    async with ctx.clients.db() as session:
        return cafes.by_cafe(cafe_ids, await session.scalars(query))


@allow(Role.USER)
async def combos(ctx: Context, cafe_ids: Sequence[int]) -> list[Sequence[Combo]]:
    """A cafe's combos, in the order in which they were added.

    Many cafes' are one statement.
    """
    query = select(Combo).where(col(Combo.cafe_id).in_(cafe_ids)).order_by(*COMBOS.sorted())
    async with ctx.clients.db() as session:
        return cafes.by_cafe(cafe_ids, await session.scalars(query))


@allow(Role.MANAGER)
async def create_menu_item(ctx: Context, cafe_id: int, fields: MenuItemFields) -> MenuItem:
    """Add a dish or an extra to a cafe's menu. An extra has a price, a dish has none: its combo has.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db() as session:
        await cafes.found(session, cafe_id, lock=KEEP)
        item = MenuItem(cafe_id=cafe_id, **_checked_item(fields), created_at=ctx.now())
        _check_price_of(item)
        session.add(item)
        return item


@allow(Role.MANAGER)
async def update_menu_item(ctx: Context, item_id: int, cafe_id: int | None, changes: MenuItemFields) -> MenuItem:
    """Change what is given of a menu item. Orders keep the name and the price that they were placed with.

    One that was ordered keeps its category: orders are made of one dish of each.

    Raises BadInput, NotFound.
    """
    checked = _checked_item(changes)
    async with ctx.clients.db() as session:
        item = await _locked(session, MenuItem, "menu_item", item_id, cafe_id)
        if checked.get("category", item.category) is not item.category and await _was_ordered(session, item):
            raise BadInput("category", "this was ordered; add another menu item")
        item.sqlmodel_update(dict(checked))
        _check_price_of(item)
        return item


@allow(Role.MANAGER)
async def delete_menu_item(ctx: Context, item_id: int, cafe_id: int | None) -> Removal:
    """Delete a menu item; one that was ordered is kept, and made unavailable instead.

    Raises NotFound.
    """
    async with ctx.clients.db() as session:
        item = await _locked(session, MenuItem, "menu_item", item_id, cafe_id)
        return await remove(session, item, item_id, kept="This was ordered, so was kept and made unavailable.")


@allow(Role.MANAGER)
async def create_combo(ctx: Context, cafe_id: int, fields: ComboFields) -> Combo:
    """Add a combo to a cafe: one dish of each of the categories, for one price.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db() as session:
        await cafes.found(session, cafe_id, lock=KEEP)
        combo = Combo(cafe_id=cafe_id, **_checked_combo(fields), created_at=ctx.now())
        session.add(combo)
        return combo


@allow(Role.MANAGER)
async def update_combo(ctx: Context, combo_id: int, cafe_id: int | None, changes: ComboFields) -> Combo:
    """Change what is given of a combo. Orders keep the name and the price that they were placed with.

    Raises BadInput, NotFound.
    """
    checked = _checked_combo(changes)
    async with ctx.clients.db() as session:
        combo = await _locked(session, Combo, "combo", combo_id, cafe_id)
        combo.sqlmodel_update(dict(checked))
        return combo


@allow(Role.MANAGER)
async def delete_combo(ctx: Context, combo_id: int, cafe_id: int | None) -> Removal:
    """Delete a combo; one that was ordered is kept, and made unavailable instead.

    Raises NotFound.
    """
    async with ctx.clients.db() as session:
        combo = await _locked(session, Combo, "combo", combo_id, cafe_id)
        return await remove(session, combo, combo_id, kept="This was ordered, so was kept and made unavailable.")


def pick(items: Sequence[MenuItem], category: MenuCategory | None, is_available: bool | None) -> list[MenuItem]:
    """Leave of a menu what is wanted; None means any."""
    return [
        item
        for item in items
        if category in {None, item.category} and (is_available is None or item.is_available == is_available)
    ]


async def _locked[Row: (MenuItem, Combo)](
    session: AsyncSession, kind: type[Row], resource: str, id_: int, cafe_id: int | None
) -> Row:
    """Lock a row, which must be of that cafe if one is named.

    Raises NotFound.
    """
    row = await session.get(kind, id_, with_for_update=True)
    if row is None or cafe_id not in {None, row.cafe_id}:
        raise NotFound(resource, id_)
    return row


async def _was_ordered(session: AsyncSession, item: MenuItem) -> bool:
    """Say whether any order has it. The caller's lock keeps others from ordering it meanwhile."""
    return bool(await session.scalar(sa.select(sa.exists().where(col(OrderItem.menu_item_id) == item.id))))


def _checked_item(fields: MenuItemFields) -> MenuItemFields:
    without_nulls({name: value for name, value in fields.items() if name != "price"})
    checked = fields.copy()
    if "name" in fields:
        checked["name"] = checked_name("name", fields["name"])
    if (price := fields.get("price")) is not None:
        checked_price("price", price)
    checked_text("description", fields.get("description"), DESCRIPTION_MAX_CHARACTERS)
    return checked


def _check_price_of(item: MenuItem) -> None:
    if item.is_extra and item.price is None:
        raise BadInput("price", "an extra needs a price")
    if not item.is_extra and item.price is not None:
        raise BadInput("price", "a dish has no price of its own; its combo has")


def _checked_combo(fields: ComboFields) -> ComboFields:
    without_nulls(fields)
    checked = fields.copy()
    if "name" in fields:
        checked["name"] = checked_name("name", fields["name"])
    if "price" in fields:
        checked_price("price", fields["price"])
    if "categories" in fields:
        checked["categories"] = _checked_categories(fields["categories"])
    checked_text("description", fields.get("description"), DESCRIPTION_MAX_CHARACTERS)
    return checked


def _checked_categories(categories: Sequence[MenuCategory]) -> list[MenuCategory]:
    """Return them in the order in which they are eaten."""
    if not categories:
        raise BadInput("categories", "a combo needs at least one")
    if MenuCategory.EXTRA in categories:
        raise BadInput("categories", "an extra is no part of a combo")
    if len(set(categories)) < len(categories):
        raise BadInput("categories", "none may be there twice")
    return [category for category in DISH_CATEGORIES if category in categories]
