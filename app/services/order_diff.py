"""The orders of a day as a cafe knows them, and the difference between two versions."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TypedDict

from app.models import MenuCategory
from app.services.orders import PlacedItem, PlacedOrder
from app.telegram.order_message import Change, DayOrders, Dish, Extra, Meal, NewNote


class UserOrder(TypedDict):
    """The order of one user, stored as JSON with the message to the cafe.

    `items` has the combo, the dishes and the extras, in this order: a key that distinguishes items of the same name, the
    name, and the quantity. It is a list because JSONB would sort the keys of an object.
    """

    person: str
    notes: str
    items: list[tuple[str, str, int]]


EMPTY = UserOrder(person="", notes="", items=[])

type Snapshot = dict[str, UserOrder]
"""The orders of a day by the user's Telegram id."""


def day_orders(date: dt.date, orders: Sequence[PlacedOrder]) -> DayOrders:
    """Convert the orders of a day for the order list."""
    return DayOrders(
        date=date,
        meals=[_meal(order) for order in orders],
        quantities=_quantities([item for order in orders for item in order.items]),
        total=sum((order.total_price for order in orders), Decimal(0)),
    )


def _quantities(items: Iterable[PlacedItem]) -> list[tuple[str, int]]:
    """Add up the menu items under the names that they were ordered by: by category, the most ordered first."""
    quantities: Counter[tuple[MenuCategory, int, str]] = Counter()
    for item in items:
        quantities[item.category, item.menu_item_id, item.name] += item.quantity
    categories = list(MenuCategory)

    def sort_key(line: tuple[tuple[MenuCategory, int, str], int]) -> tuple[int, int, str, int]:
        (category, menu_item_id, name), quantity = line
        return categories.index(category), -quantity, name, menu_item_id

    return [(name, quantity) for (_, _, name), quantity in sorted(quantities.items(), key=sort_key)]


def snapshot_of(orders: Sequence[PlacedOrder]) -> Snapshot:
    """Make the snapshot that a cafe knows after a message with these orders."""
    return {
        str(order.user_tgid): UserOrder(
            person=order.user_name,
            notes=order.notes,
            items=[
                (f"combo {order.combo_id}", order.combo_name, 1),
                *((f"item {item.menu_item_id}", item.name, item.quantity) for item in (*order.dishes, *order.extras)),
            ],
        )
        for order in orders
    }


def changes_since(known: Snapshot, orders: Sequence[PlacedOrder]) -> tuple[list[Change], list[NewNote]]:
    """Find the changes that the cafe does not know: user by user, first what is less, then what is more, and new notes."""
    present = snapshot_of(orders)
    changes: list[Change] = []
    notes: list[NewNote] = []
    for tgid in (*known, *(tgid for tgid in present if tgid not in known)):
        before, after = known.get(tgid), present.get(tgid)
        person = (after or before or EMPTY)["person"]
        changes += _changes((before or EMPTY)["items"], (after or EMPTY)["items"], person)
        if after and after["notes"] != (before["notes"] if before else ""):
            notes.append(NewNote(person, after["notes"]))
    return changes, notes


def _changes(
    before: Sequence[tuple[str, str, int]], after: Sequence[tuple[str, str, int]], person: str
) -> list[Change]:
    """Compare two orders of a user. An item under another name is another item."""
    quantities: Counter[tuple[str, str]] = Counter()
    for sign, items in ((-1, before), (1, after)):
        for key, name, quantity in items:
            quantities[key, name] += sign * quantity
    found = [Change(quantity, name, person) for (_, name), quantity in quantities.items() if quantity]
    return sorted(found, key=lambda change: change.quantity > 0)


def _meal(order: PlacedOrder) -> Meal:
    return Meal(
        person=order.user_name,
        combo=order.combo_name,
        price=order.combo_price,
        dishes=[Dish(dish.name, dish.category.value) for dish in order.dishes],
        extras=[Extra(extra.name, extra.quantity, extra.amount) for extra in order.extras],
        notes=order.notes,
    )
