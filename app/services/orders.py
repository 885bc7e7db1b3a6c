"""The contents of orders: a combo with its dishes, extras, and prices."""

import datetime as dt
from collections.abc import Collection, Sequence

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload, selectinload
from sqlmodel import col, select

from app.errors import BadInput
from app.models import Combo, ExtraInput, MenuItem, Order, OrderChanges, OrderStatus, User
from app.services.rows import FOR_KEY_SHARE


async def find_orders_of_day(session: AsyncSession, cafe_id: int, date: dt.date) -> Sequence[Order]:
    """Read the orders of a day that are not cancelled, by user name, with users and items: two statements."""
    query = (
        select(Order)
        .join(User)
        .options(joinedload(Order.user), selectinload(Order.items))  # type: ignore[arg-type]
        .where(Order.cafe_id == cafe_id, Order.date == date, Order.status != OrderStatus.CANCELLED)
        .order_by(col(User.name), col(Order.id))
    )
    return (await session.scalars(query)).all()


async def apply_contents(session: AsyncSession, order: Order, contents: OrderChanges) -> None:
    """Put the given contents into the order, and update its total.

    The rows of the menu are locked against deletion until the transaction ends. New items have their current price.

    Raises BadInput.
    """
    given = contents.values()
    combo_id = given.get("combo_id", order.combo_id)
    dish_ids = list(given.get("dish_ids", [dish.menu_item_id for dish in order.dishes]))
    present_extras = [ExtraInput(menu_item_id=extra.menu_item_id, quantity=extra.quantity) for extra in order.extras]
    extras = list(given.get("extras", present_extras))
    present = {item.menu_item_id for item in order.items}
    menu = await _lock_menu_items(session, order.cafe.id, {*dish_ids, *(extra.menu_item_id for extra in extras)})

    if "combo_id" in given or "dish_ids" in given:
        combo = await session.get(Combo, combo_id, with_for_update=FOR_KEY_SHARE)
        if combo is None or combo.cafe_id != order.cafe.id:
            raise BadInput("combo_id", "this cafe has no such combo")
        if not combo.is_available and combo.id != order.combo_id:
            raise BadInput("combo_id", f"{combo.name} is not available")
        dishes = [_find_orderable("dish_ids", menu, dish_id, present) for dish_id in dish_ids]
        if not combo.is_filled_by(dishes):
            needed = ", ".join(combo.categories)
            raise BadInput("dish_ids", f"{combo.name} needs exactly one dish for each of: {needed}")
        order.take_combo(combo)
    for extra in extras:
        if not _find_orderable("extras", menu, extra.menu_item_id, present).is_extra:
            raise BadInput("extras", f"{menu[extra.menu_item_id].name} is a dish, not an extra")

    items = [(menu[dish_id], 1) for dish_id in dish_ids]
    items += [(menu[extra.menu_item_id], extra.quantity) for extra in extras]
    order.keep_items({item.id for item, _ in items})
    if present:
        await session.flush()
    order.take_items(items)
    order.update_total()


async def _lock_menu_items(session: AsyncSession, cafe_id: int, ids: Collection[int]) -> dict[int, MenuItem]:
    query = (
        select(MenuItem)
        .where(col(MenuItem.id).in_(ids), MenuItem.cafe_id == cafe_id)
        .with_for_update(read=FOR_KEY_SHARE.read, key_share=FOR_KEY_SHARE.key_share)
    )
    return {item.id: item for item in await session.scalars(query)}


def _find_orderable(field: str, menu: dict[int, MenuItem], item_id: int, present: Collection[int]) -> MenuItem:
    """Raises BadInput, unless the item is on the menu and available, or in the order already."""
    item = menu.get(item_id)
    if item is None:
        raise BadInput(field, f"this cafe has no menu item {item_id}")
    if not item.is_available and item_id not in present:
        raise BadInput(field, f"{item.name} is not available")
    return item
