"""The contents of orders: a combo with its dishes, extras, and prices."""

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.errors import BadInput
from app.models import (
    Combo,
    ExtraInput,
    MenuCategory,
    MenuItem,
    Order,
    OrderChanges,
    OrderItem,
    OrderStatus,
    User,
)
from app.services.rows import FOR_KEY_SHARE

ROWS_AT_ONCE = 1_000
"""The event loop takes turns after so many rows: about 5 ms."""


CATEGORY_ORDER = {category: number for number, category in enumerate(MenuCategory)}


class PlacedItem(NamedTuple):
    """A dish or an extra of an order, as it was when it was ordered. `amount` is the cost of all of an extra."""

    menu_item_id: int
    name: str
    category: MenuCategory
    quantity: int
    amount: Decimal


@dataclass(slots=True)
class PlacedOrder:
    """An order as a cafe gets it: plain data, because a day has thousands of them.

    Args:
        dishes: In the order of their categories.
        extras: In the order of the menu.
    """

    user_tgid: int
    user_name: str
    combo_id: int
    combo_name: str
    combo_price: Decimal
    total_price: Decimal
    notes: str
    dishes: list[PlacedItem] = field(default_factory=list)
    extras: list[PlacedItem] = field(default_factory=list)

    @property
    def items(self) -> list[PlacedItem]:
        return [*self.dishes, *self.extras]


async def find_orders_of_day(session: AsyncSession, cafe_id: int, date: dt.date) -> Sequence[PlacedOrder]:
    """Read the orders of a day that are not cancelled, by user name, with users and items: two statements."""
    of_the_day = sa.and_(
        col(Order.cafe_id) == cafe_id, col(Order.date) == date, col(Order.status) != OrderStatus.CANCELLED
    )
    orders = (
        sa.select(
            col(Order.id),
            col(Order.user_tgid),
            col(User.name),
            col(Order.combo_id),
            col(Order.combo_name),
            col(Order.combo_price),
            col(Order.total_price),
            col(Order.notes),
        )
        .join(User)
        .where(of_the_day)
        .order_by(col(User.name), col(Order.id))
    )
    items = (
        sa.select(
            col(OrderItem.order_id),
            col(OrderItem.menu_item_id),
            col(OrderItem.name),
            col(OrderItem.category),
            col(OrderItem.quantity),
            sa.func.coalesce(col(OrderItem.price) * col(OrderItem.quantity), 0),
        )
        .join(Order)
        .where(of_the_day)
        .order_by(sa.case(CATEGORY_ORDER, value=col(OrderItem.category)), col(OrderItem.menu_item_id))
    )
    found = {id_: PlacedOrder(*columns) async for id_, *columns in _rows(session, orders)}
    async for order_id, *columns in _rows(session, items):
        item = PlacedItem(*columns)
        if (order := found.get(order_id)) is not None:
            (order.extras if item.category is MenuCategory.EXTRA else order.dishes).append(item)
    return list(found.values())


async def _rows(session: AsyncSession, statement: sa.Executable) -> AsyncIterator[Any]:
    """Read the rows of a long list. The event loop takes turns meanwhile."""
    for rows in (await session.execute(statement)).partitions(ROWS_AT_ONCE):
        for row in rows:
            yield row
        await asyncio.sleep(0)


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
