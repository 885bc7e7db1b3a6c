"""What a kitchen reads: the orders of a day, and what has changed since.

Plain data in, Telegram's HTML out, in parts that fit into messages.
"""

import datetime as dt
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from babel.dates import format_date

from app.telegram.sender import without_markup
from app.telegram.texts import _, _n, safe

MESSAGE_MAX_CHARACTERS = 4096
"""After entities are parsed (https://core.telegram.org/bots/api#sendmessage). Counted in UTF-16 code units, as Telegram
counts its entities: what fits so fits by any other count."""

ROOM_FOR_A_REMARK = 300
"""For what may have to stand above or below a message later: that it was sent again, or who has read it. Names in
Telegram have up to 64 + 64 characters, each of which may count double."""

RULE = "━" * 21


@dataclass(frozen=True)
class Dish:
    """A dish of somebody's combo. `category` is `soup`, `salad` or `main`."""

    name: str
    category: str


@dataclass(frozen=True)
class Extra:
    """So many of an extra; `amount` is what they cost together."""

    name: str
    quantity: int
    amount: Decimal


@dataclass(frozen=True)
class Meal:
    """What one person has ordered."""

    person: str
    combo: str
    price: Decimal
    dishes: Sequence[Dish]
    extras: Sequence[Extra]
    notes: str


@dataclass(frozen=True)
class DayOrders:
    """What a cafe is to cook on a day. `kitchen` has each dish and extra with its number."""

    cafe: str
    date: dt.date
    meals: Sequence[Meal]
    kitchen: Sequence[tuple[str, int]]
    total: Decimal


@dataclass(frozen=True)
class Change:
    """So many more of something for a person, or fewer."""

    number: int
    name: str
    person: str


@dataclass(frozen=True)
class NewNote:
    """What a person wants the kitchen to know now; empty if nothing any more."""

    person: str
    notes: str


@dataclass(frozen=True)
class Correction:
    """What has changed since the kitchen was last told, and what it is to cook now."""

    number: int
    changes: Sequence[Change]
    notes: Sequence[NewNote]
    orders: DayOrders


def orders(day: DayOrders, locale: str) -> list[str]:
    """Write the list of a day's orders."""
    title = _("📋 <b>{cafe}</b> — order for {date}", locale).format(cafe=safe(day.cafe), date=_date(day.date, locale))
    blocks = [_meal(meal, locale) for meal in day.meals]
    return _in_parts(title, blocks, _totals(day, locale))


def correction(change: Correction, locale: str) -> list[str]:
    """Write what has changed, and the new totals."""
    day = change.orders
    title = _("✏️ <b>{cafe}</b> — change for {date}", locale).format(cafe=safe(day.cafe), date=_date(day.date, locale))
    lines = [*(_change(it) for it in change.changes), *(_new_note(it, locale) for it in change.notes)]
    head = "<b>{}</b>: ".format(_("Correction {number}", locale).format(number=change.number))
    blocks = [head + lines[0]] if len(lines) == 1 else [head.rstrip(), *lines]
    return _in_parts(title, blocks, _totals(day, locale))


def length(text: str) -> int:
    """Return how long Telegram finds its HTML."""
    return len(without_markup(text).encode("utf-16-le")) // 2


def _meal(meal: Meal, locale: str) -> str:
    return "\n".join(
        [
            f"👤 <b>{safe(meal.person)}</b>:",
            f"  • {safe(meal.combo)} ({_money(meal.price)})",
            *(f"    – {safe(dish.name)} ({_category(dish.category, locale)})" for dish in meal.dishes),
            *(f"  • {safe(extra.name)} ×{extra.quantity} ({_money(extra.amount)})" for extra in meal.extras),
            *([f"  📝 {safe(' '.join(meal.notes.split()))}"] if meal.notes.strip() else []),
        ]
    )


def _totals(day: DayOrders, locale: str) -> str:
    kitchen = ", ".join(f"{safe(name)} ×{number}" for name, number in day.kitchen)
    total = _n("Total: {orders} order, {amount}", "Total: {orders} orders, {amount}", len(day.meals), locale).format(
        orders=len(day.meals), amount=_money(day.total)
    )
    return f"<b>{_('Kitchen total', locale)}</b>: {kitchen or '—'}\n<b>{total}</b>"


def _change(change: Change) -> str:
    sign = "+" if change.number > 0 else "−"
    return f"{sign}{abs(change.number)} {safe(change.name)} ({safe(change.person)})"


def _new_note(note: NewNote, locale: str) -> str:
    notes = safe(" ".join(note.notes.split())) or _("no notes any more", locale)
    return f"📝 {notes} ({safe(note.person)})"


def _in_parts(title: str, blocks: Iterable[str], totals: str) -> list[str]:
    """Fill messages with whole blocks, the totals last; only a block that is longer than a message is cut."""
    room = MESSAGE_MAX_CHARACTERS - ROOM_FOR_A_REMARK - length(f"{title} (99/99)\n{RULE}\n")
    bodies = [""]
    for separator, block in [*(("\n", block) for block in blocks), (f"\n{RULE}\n", totals)]:
        for piece in _cut(block, room):
            joined = f"{bodies[-1]}{separator}{piece}" if bodies[-1] else piece
            if length(joined) <= room:
                bodies[-1] = joined
            else:
                bodies.append(piece)
    if len(bodies) == 1:
        return [f"{title}\n{RULE}\n{bodies[0]}"]
    return [f"{title} ({number}/{len(bodies)})\n{RULE}\n{body}" for number, body in enumerate(bodies, start=1)]


def _cut(block: str, room: int) -> list[str]:
    """Cut a block that is too long for a message, at the ends of lines, or else between the dishes of the total."""
    if length(block) <= room:
        return [block]
    pieces = [""]
    for line in (short for long in block.splitlines(keepends=True) for short in _short(long, room)):
        if length(pieces[-1] + line) <= room:
            pieces[-1] += line
        else:
            pieces.append(line)
    return [piece.rstrip(" \n") for piece in pieces if piece]


def _short(line: str, room: int) -> list[str]:
    return [line] if length(line) <= room else re.findall(r".*? ×\d+, |.+", line, re.DOTALL)


def _category(category: str, locale: str) -> str:
    names = {"soup": _("soup", locale), "salad": _("salad", locale), "main": _("main", locale)}
    return names[category]


def _date(date: dt.date, locale: str) -> str:
    """Write a date that nobody can mistake, with its weekday."""
    return f"{date.isoformat()} ({format_date(date, 'EEEE', locale=locale)})"


def _money(amount: Decimal) -> str:
    return f"{amount:.2f}"
