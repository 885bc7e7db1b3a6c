"""The order list of a day and its corrections: plain data in, Telegram's HTML out, in parts that fit into messages."""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from aiogram.utils.formatting import sizeof

from app.telegram.i18n import _, _n, escape, format_day
from app.telegram.notification_texts import NamedCafe
from app.telegram.sender import remove_markup

MESSAGE_MAX_CHARACTERS = 4096
"""After entities are parsed (https://core.telegram.org/bots/api#sendmessage). Counted in UTF-16 code units, as Telegram
counts its entities. A text within this limit is within every other way of counting."""

REMARK_CHARACTERS = 300
"""Room for a later remark above or below the message: that it was sent again, or who has confirmed it. Names in Telegram
have up to 64 + 64 characters, each of which may count double."""

RULE = "━" * 21


@dataclass(frozen=True)
class Dish:
    """A dish of a combo. `category` is `soup`, `salad` or `main`."""

    name: str
    category: str


@dataclass(frozen=True)
class Extra:
    """A quantity of an extra. `amount` is the cost of all of them."""

    name: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class Meal:
    """The order of one user."""

    person: str
    combo: str
    price: Decimal
    dishes: Sequence[Dish]
    extras: Sequence[Extra]
    notes: str


@dataclass(frozen=True)
class DayOrders:
    """The orders of a day. `quantities` has each dish and extra with its quantity."""

    date: dt.date
    meals: Sequence[Meal]
    quantities: Sequence[tuple[str, int]]
    total: Decimal


@dataclass(frozen=True)
class Change:
    """A changed quantity in the order of one user; negative for fewer."""

    quantity: int
    name: str
    person: str


@dataclass(frozen=True)
class NewNote:
    """The new note of one user; empty if the user has removed it."""

    person: str
    notes: str


@dataclass(frozen=True)
class Correction:
    """The changes since the last message, and the orders now."""

    number: int
    changes: Sequence[Change]
    notes: Sequence[NewNote]
    orders: DayOrders


def order_list(cafe: NamedCafe, *, orders: DayOrders, locale: str) -> list[str]:
    """Write the order list of a day."""
    title = _("📋 <b>{cafe}</b> — order for {date}", locale).format(
        cafe=escape(cafe.name), date=format_day(orders.date, locale)
    )
    blocks = [_meal(meal, locale) for meal in orders.meals]
    return _split(title, blocks, _totals(orders, locale))


def correction_text(cafe: NamedCafe, *, correction: Correction, locale: str) -> list[str]:
    """Write the changes and the new totals."""
    day = correction.orders
    title = _("✏️ <b>{cafe}</b> — change for {date}", locale).format(
        cafe=escape(cafe.name), date=format_day(day.date, locale)
    )
    changes = [_change(change) for change in correction.changes]
    notes = [_new_note(note, locale) for note in correction.notes]
    lines = [*changes, *notes]
    head = "<b>{}</b>: ".format(_("Correction {number}", locale).format(number=correction.number))
    blocks = [head + lines[0]] if len(lines) == 1 else [head.rstrip(), *lines]
    return _split(title, blocks, _totals(day, locale))


def length(text: str) -> int:
    """Return the length of Telegram's HTML as Telegram counts it."""
    return sizeof(remove_markup(text))


def _meal(meal: Meal, locale: str) -> str:
    return "\n".join(
        [
            f"👤 <b>{escape(meal.person)}</b>:",
            f"  • {escape(meal.combo)} ({_money(meal.price)})",
            *(f"    – {escape(dish.name)} ({_category(dish.category, locale)})" for dish in meal.dishes),
            *(f"  • {escape(extra.name)} ×{extra.quantity} ({_money(extra.amount)})" for extra in meal.extras),
            *([f"  📝 {escape(' '.join(meal.notes.split()))}"] if meal.notes.strip() else []),
        ]
    )


def _totals(day: DayOrders, locale: str) -> str:
    quantities = ", ".join(f"{escape(name)} ×{number}" for name, number in day.quantities)
    total = _n("Total: {orders} order, {amount}", "Total: {orders} orders, {amount}", len(day.meals), locale).format(
        orders=len(day.meals), amount=_money(day.total)
    )
    return f"<b>{_('Kitchen total', locale)}</b>: {quantities or '—'}\n<b>{total}</b>"


def _change(change: Change) -> str:
    sign = "+" if change.quantity > 0 else "−"
    return f"{sign}{abs(change.quantity)} {escape(change.name)} ({escape(change.person)})"


def _new_note(note: NewNote, locale: str) -> str:
    notes = escape(" ".join(note.notes.split())) or _("no notes any more", locale)
    return f"📝 {notes} ({escape(note.person)})"


def _split(title: str, blocks: Iterable[str], totals: str) -> list[str]:
    """Fill messages with whole blocks, the totals last. Only a block that is longer than a message is split itself."""
    room = MESSAGE_MAX_CHARACTERS - REMARK_CHARACTERS - length(f"{title} (99/99)\n{RULE}\n")
    bodies: list[str] = []
    used = 0
    for separator, block in [*(("\n", block) for block in blocks), (f"\n{RULE}\n", totals)]:
        for piece in _split_block(block, room):
            joined = used + len(separator) + length(piece)
            if bodies and joined <= room:
                bodies[-1] += separator + piece
                used = joined
            else:
                bodies.append(piece)
                used = length(piece)
    if len(bodies) == 1:
        return [f"{title}\n{RULE}\n{bodies[0]}"]
    return [f"{title} ({number}/{len(bodies)})\n{RULE}\n{body}" for number, body in enumerate(bodies, start=1)]


def _split_block(block: str, room: int) -> list[str]:
    """Split a block that is too long for a message, at the ends of lines, or else between the dishes of the total."""
    if length(block) <= room:
        return [block]
    pieces = [""]
    for line in (short for long in block.splitlines(keepends=True) for short in _split_line(long, room)):
        if length(pieces[-1] + line) <= room:
            pieces[-1] += line
        else:
            pieces.append(line)
    return [piece.rstrip(" \n") for piece in pieces if piece]


def _split_line(line: str, room: int) -> list[str]:
    return [line] if length(line) <= room else re.findall(r".*? ×\d+, |.+", line, re.DOTALL)


def _category(category: str, locale: str) -> str:
    names = {"soup": _("soup", locale), "salad": _("salad", locale), "main": _("main", locale)}
    return names[category]


def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"
