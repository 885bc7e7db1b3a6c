"""Operations on menus: menu items and combos."""

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.auth.access import allow
from app.auth.context import Context
from app.errors import BadInput, NotFound
from app.models import (
    Cafe,
    Combo,
    ComboChanges,
    ComboInput,
    MenuItem,
    MenuItemChanges,
    MenuItemInput,
    OrderItem,
    Role,
)
from app.services.pagination import SortOrder
from app.services.rows import (
    FOR_KEY_SHARE,
    FOR_UPDATE,
    DeletionResult,
    delete_or_deactivate,
    get_row,
    group_by_cafe,
    resource_name,
)

ITEMS: SortOrder[MenuItem] = SortOrder("menu_items", (col(MenuItem.id),), (int,), lambda item: (item.id,))
COMBOS: SortOrder[Combo] = SortOrder("combos", (col(Combo.id),), (int,), lambda combo: (combo.id,))

ORDERED = "This has orders, so it was made unavailable instead."


@allow(Role.USER)
async def list_menu_items(ctx: Context, cafe_ids: Sequence[int]) -> list[Sequence[MenuItem]]:
    """The menu items of a cafe, in the order of their creation.

    One statement for any number of cafes.
    """
    query = select(MenuItem).where(col(MenuItem.cafe_id).in_(cafe_ids)).order_by(*ITEMS.order_by())
    async with ctx.clients.db() as session:
        return group_by_cafe(cafe_ids, await session.scalars(query))


@allow(Role.USER)
async def list_combos(ctx: Context, cafe_ids: Sequence[int]) -> list[Sequence[Combo]]:
    """The combos of a cafe, in the order of their creation.

    One statement for any number of cafes.
    """
    query = select(Combo).where(col(Combo.cafe_id).in_(cafe_ids)).order_by(*COMBOS.order_by())
    async with ctx.clients.db() as session:
        return group_by_cafe(cafe_ids, await session.scalars(query))


@allow(Role.MANAGER)
async def create_menu_item(ctx: Context, cafe_id: int, fields: MenuItemInput) -> MenuItem:
    """Add a dish or an extra to a cafe's menu. An extra has a price. A dish has none: it is paid with its combo.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        await get_row(session, Cafe, cafe_id, lock=FOR_KEY_SHARE)
        item = MenuItem(cafe_id=cafe_id, **fields.values(), created_at=ctx.now())
        item.validate_price()
        session.add(item)
        return item


@allow(Role.MANAGER)
async def update_menu_item(ctx: Context, item_id: int, cafe_id: int | None, changes: MenuItemChanges) -> MenuItem:
    """Change the given fields of a menu item. Existing orders keep its former name and price.

    A menu item with orders keeps its category, because an order has one dish of each.

    Raises BadInput, NotFound.
    """
    values = changes.values()
    async with ctx.clients.db(cafe_id) as session:
        item = await _lock(session, MenuItem, item_id, cafe_id)
        if values.get("category", item.category) is not item.category and await _has_orders(session, item):
            raise BadInput("category", "this has orders; add another menu item")
        item.sqlmodel_update(values)
        item.validate_price()
        return item


@allow(Role.MANAGER)
async def delete_menu_item(ctx: Context, item_id: int, cafe_id: int | None) -> DeletionResult:
    """Delete a menu item. A menu item with orders is made unavailable instead.

    Raises NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        item = await _lock(session, MenuItem, item_id, cafe_id)
        return await delete_or_deactivate(session, item, item_id, kept=ORDERED)


@allow(Role.MANAGER)
async def create_combo(ctx: Context, cafe_id: int, fields: ComboInput) -> Combo:
    """Add a combo to a cafe: one dish of each of its categories, for one price.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        await get_row(session, Cafe, cafe_id, lock=FOR_KEY_SHARE)
        combo = Combo(cafe_id=cafe_id, **fields.values(), created_at=ctx.now())
        session.add(combo)
        return combo


@allow(Role.MANAGER)
async def update_combo(ctx: Context, combo_id: int, cafe_id: int | None, changes: ComboChanges) -> Combo:
    """Change the given fields of a combo. Existing orders keep its former name and price.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        combo = await _lock(session, Combo, combo_id, cafe_id)
        combo.sqlmodel_update(changes.values())
        return combo


@allow(Role.MANAGER)
async def delete_combo(ctx: Context, combo_id: int, cafe_id: int | None) -> DeletionResult:
    """Delete a combo. A combo with orders is made unavailable instead.

    Raises NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        combo = await _lock(session, Combo, combo_id, cafe_id)
        return await delete_or_deactivate(session, combo, combo_id, kept=ORDERED)


async def _lock[Row: (MenuItem, Combo)](session: AsyncSession, kind: type[Row], id_: int, cafe_id: int | None) -> Row:
    """Lock a row. If a cafe is given, the row must belong to it.

    Raises NotFound.
    """
    row = await get_row(session, kind, id_, lock=FOR_UPDATE)
    if cafe_id not in {None, row.cafe_id}:
        raise NotFound(resource_name(kind), id_)
    return row


async def _has_orders(session: AsyncSession, item: MenuItem) -> bool:
    """Whether an order has this item. The caller's lock keeps new orders out meanwhile."""
    return bool(await session.scalar(sa.select(sa.exists().where(col(OrderItem.menu_item_id) == item.id))))
