"""What an order consists of: a combo with its dishes, extras, and notes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypedDict

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.errors import BadInput
from app.models import Combo, MenuItem, Order
from app.models.menus import DISH_CATEGORIES
from app.models.orders import QUANTITY_MAX
from app.resolvers.inputs import checked_text, without_nulls
from app.resolvers.removal import KEEP

NOTES_MAX_CHARACTERS = 500
"""Notes go into a Telegram message that has room for 4,096 characters, with everybody else's."""

EXTRAS_MAX = 50


@dataclass(frozen=True)
class Extra:
    """So many of an extra."""

    menu_item_id: int
    quantity: int = 1


class OrderFields(TypedDict, total=False):
    """What a person says of an order."""

    combo_id: int
    dish_ids: Sequence[int]
    extras: Sequence[Extra]
    notes: str


def checked(fields: OrderFields) -> OrderFields:
    """Return what can be an order's, as far as that can be said without the menu; notes without blanks around them.

    Raises BadInput.
    """
    without_nulls(fields)
    checked_text("notes", fields.get("notes"), NOTES_MAX_CHARACTERS)
    if len(fields.get("dish_ids", ())) > len(DISH_CATEGORIES):
        raise BadInput("dish_ids", f"at most {len(DISH_CATEGORIES)} are allowed, one of each category")
    extras = fields.get("extras", ())
    if len(extras) > EXTRAS_MAX:
        raise BadInput("extras", f"at most {EXTRAS_MAX} different ones are allowed")
    if len({extra.menu_item_id for extra in extras}) < len(extras):
        raise BadInput("extras", "none may be there twice; give its quantity")
    for extra in extras:
        if not 1 <= extra.quantity <= QUANTITY_MAX:
            raise BadInput("extras", f"quantity must be from 1 to {QUANTITY_MAX}")
    return fields if "notes" not in fields else {**fields, "notes": fields["notes"].strip()}


async def fill(session: AsyncSession, order: Order, fields: OrderFields) -> None:
    """Put what is given into the order, and sum it up.

    The rows of the menu are kept from being deleted until the transaction ends; their prices are those of now.

    Raises BadInput.
    """
    combo_id = fields.get("combo_id", order.combo_id)
    dish_ids = list(fields.get("dish_ids", [dish.menu_item_id for dish in order.dishes]))
    extras = list(fields.get("extras", [Extra(extra.menu_item_id, extra.quantity) for extra in order.extras]))
    there = {item.menu_item_id for item in order.items}
    menu = await _menu(session, order.cafe.id, {*dish_ids, *(extra.menu_item_id for extra in extras)})

    if "combo_id" in fields or "dish_ids" in fields:
        combo = await session.get(Combo, combo_id, with_for_update=KEEP)
        if combo is None or combo.cafe_id != order.cafe.id:
            raise BadInput("combo_id", "this cafe has no such combo")
        if not combo.is_available and combo.id != order.combo_id:
            raise BadInput("combo_id", f"{combo.name} is not available")
        dishes = [_on_menu("dish_ids", menu, dish_id, there) for dish_id in dish_ids]
        if not combo.is_filled_by(dishes):
            needed = ", ".join(combo.categories)
            raise BadInput("dish_ids", f"{combo.name} needs exactly one dish for each of: {needed}")
        order.take_combo(combo)
    for extra in extras:
        if not _on_menu("extras", menu, extra.menu_item_id, there).is_extra:
            raise BadInput("extras", f"{menu[extra.menu_item_id].name} is a dish, no extra")

    taken = [(menu[dish_id], 1) for dish_id in dish_ids] + [(menu[it.menu_item_id], it.quantity) for it in extras]
    order.keep_items({item.id for item, _ in taken})
    if there:
        await session.flush()
    order.take_items(taken)
    order.sum_up()


async def _menu(session: AsyncSession, cafe_id: int, ids: Collection[int]) -> dict[int, MenuItem]:
    query = (
        select(MenuItem)
        .where(col(MenuItem.id).in_(ids), MenuItem.cafe_id == cafe_id)
        .with_for_update(read=KEEP.read, key_share=KEEP.key_share)
    )
    return {item.id: item for item in await session.scalars(query)}


def _on_menu(field: str, menu: dict[int, MenuItem], item_id: int, there: Collection[int]) -> MenuItem:
    item = menu.get(item_id)
    if item is None:
        raise BadInput(field, f"this cafe has no menu item {item_id}")
    if not item.is_available and item_id not in there:
        raise BadInput(field, f"{item.name} is not available")
    return item
