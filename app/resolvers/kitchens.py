"""Orders as a kitchen sees them, and what has changed between two looks at them."""

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TypedDict

from app.models import Cafe, MenuCategory, Order, OrderItem
from app.telegram.kitchen import Change, DayOrders, Dish, Extra, Meal, NewNote


class Plate(TypedDict):
    """What a kitchen knows of one person: kept as JSON with the message that told it.

    `things` has the combo, the dishes and the extras, in this order: a key that stays when names change, the name, and
    the number. It is a list because JSONB would sort the keys of an object.
    """

    person: str
    notes: str
    things: list[tuple[str, str, int]]


NOTHING = Plate(person="", notes="", things=[])

type Snapshot = dict[str, Plate]
"""By the person's Telegram id."""


def day_orders(cafe: Cafe, date: dt.date, orders: Sequence[Order]) -> DayOrders:
    """Put a day's orders, with people and items, into the words of the kitchen's message."""
    return DayOrders(
        cafe=cafe.name,
        date=date,
        meals=[_meal(order) for order in orders],
        kitchen=_kitchen([item for order in orders for item in order.items]),
        total=sum((order.total_price for order in orders), Decimal(0)),
    )


def _kitchen(items: Iterable[OrderItem]) -> list[tuple[str, int]]:
    """Add up what is to be cooked: by category, the most ordered first. A menu item is one, whatever it was called."""
    names: dict[int, tuple[MenuCategory, str]] = {}
    numbers: Counter[int] = Counter()
    for item in items:
        names[item.menu_item_id] = item.category, item.name
        numbers[item.menu_item_id] += item.quantity
    categories = list(MenuCategory)

    def place(menu_item_id: int) -> tuple[int, int, str]:
        category, name = names[menu_item_id]
        return categories.index(category), -numbers[menu_item_id], name

    return [(names[menu_item_id][1], numbers[menu_item_id]) for menu_item_id in sorted(numbers, key=place)]


def snapshot_of(orders: Sequence[Order]) -> Snapshot:
    """Keep what a kitchen knows once it has been told these orders."""
    return {
        str(order.user_tgid): Plate(
            person=order.user.name,
            notes=order.notes,
            things=[
                (f"combo {order.combo_id}", order.combo_name, 1),
                *((f"item {item.menu_item_id}", item.name, item.quantity) for item in (*order.dishes, *order.extras)),
            ],
        )
        for order in orders
    }


def changes_since(known: Snapshot, orders: Sequence[Order]) -> tuple[list[Change], list[NewNote]]:
    """Find what the kitchen does not know yet: what is less, then what is more, person by person, and new notes."""
    now = snapshot_of(orders)
    changes: list[Change] = []
    notes: list[NewNote] = []
    for tgid in (*known, *(tgid for tgid in now if tgid not in known)):
        before, after = known.get(tgid), now.get(tgid)
        person = (after or before or NOTHING)["person"]
        changes += _changes((before or NOTHING)["things"], (after or NOTHING)["things"], person)
        if after and after["notes"] != (before["notes"] if before else ""):
            notes.append(NewNote(person, after["notes"]))
    return changes, notes


def _changes(
    before: Sequence[tuple[str, str, int]], after: Sequence[tuple[str, str, int]], person: str
) -> list[Change]:
    names: dict[str, str] = {}
    numbers: Counter[str] = Counter()
    for sign, things in ((-1, before), (1, after)):
        for key, name, number in things:
            names[key] = name
            numbers[key] += sign * number
    found = [Change(number, names[key], person) for key, number in numbers.items() if number]
    return sorted(found, key=lambda change: change.number > 0)


def _meal(order: Order) -> Meal:
    return Meal(
        person=order.user.name,
        combo=order.combo_name,
        price=order.combo_price,
        dishes=[Dish(dish.name, dish.category.value) for dish in order.dishes],
        extras=[Extra(extra.name, extra.quantity, extra.amount) for extra in order.extras],
        notes=order.notes,
    )
