"""What a kitchen reads, compared with golden files, and what holds for whatever people order.

A golden file, `golden/<case>.<language>.txt`, has one message; `CUT`, on a line of its own, stands between its parts.
After a change that is meant, `python -m tests.telegram.test_kitchen` writes them all anew: the diff in git is what
a kitchen will notice.
"""

import datetime as dt
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from difflib import unified_diff
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dev.telegram.formatting import parse_html, trim, utf16_length
from app.models import Language, MenuCategory
from app.models.orders import QUANTITY_MAX
from app.models.tables import NAME_MAX_CHARACTERS
from app.resolvers.order_lines import EXTRAS_MAX, NOTES_MAX_CHARACTERS
from app.telegram import kitchen, texts
from app.telegram.kitchen import Change, Correction, DayOrders, Dish, Extra, Meal, NewNote

GOLDEN = Path(__file__).parent / "golden"
CUT = "- - - - - 8< - - - - -"

LENGTH_MAX = kitchen.MESSAGE_MAX_CHARACTERS - kitchen.ROOM_FOR_A_REMARK

DATE = dt.date(2026, 11, 24)

BORSCHT, SALAD, PELMENI = Dish("Borscht", "soup"), Dish("Vinaigrette", "salad"), Dish("Pelmeni", "main")

SARAH = "שרה כהן"
HUMMUS = "حمص بالطحينة"
TURNED = "Eve\N{RIGHT-TO-LEFT OVERRIDE}99.0 × alo\N{POP DIRECTIONAL FORMATTING}"
"""Shows what follows from right to left, up to the end of the line if it is not ended."""


def meal(
    person: str = "Anna Petrova",
    combo: str = "Business lunch",
    dishes: Sequence[Dish] = (BORSCHT, PELMENI),
    extras: Sequence[Extra] = (),
    notes: str = "",
) -> Meal:
    return Meal(person, combo, Decimal("10.00"), dishes, extras, notes)


def day(*meals: Meal, cafe: str = "Basil & Thyme") -> DayOrders:
    """The orders of a day, with totals that fit."""
    numbers: Counter[str] = Counter()
    for of in meals:
        numbers.update(dish.name for dish in of.dishes)
    for of in meals:
        for extra in of.extras:
            numbers[extra.name] += extra.quantity
    total = sum((of.price + sum((extra.amount for extra in of.extras), Decimal(0)) for of in meals), Decimal(0))
    return DayOrders(cafe, DATE, meals, list(numbers.items()), total)


NASTY = (
    meal("<b>Bold</b> & Sons", notes="5 < 6 &amp; 7 > 6 </b>"),
    meal("""Quo"te d'Or""", combo="<script>alert('lunch')</script>", dishes=[Dish("Mac & cheese", "main")]),
    meal("Zoë 👩‍🍳🎉", extras=[Extra("🍰 & ☕", 2, Decimal("7.00"))], notes="no 🧅, please 🙏🏽"),
    meal(SARAH, dishes=[Dish(HUMMUS, "salad"), PELMENI], notes="בלי בצל, תודה!"),
    meal(TURNED, notes="\N{LEFT-TO-RIGHT ISOLATE}open, never closed"),
    meal("Line", notes="one\ntwo\r\n\tthree   four\N{LINE SEPARATOR}five"),
)


def many(number: int) -> list[Meal]:
    """So many different people, some of whom are hard to write down."""
    extras = [[], [Extra("Cola", 1, Decimal("1.50"))], [Extra("Honey cake <3", 2, Decimal("6.50"))]]
    names = ["Anna", "<b>Boris</b>", SARAH, "Zoë 👩‍🍳", "M & M", TURNED]
    dishes = [(BORSCHT, PELMENI), (SALAD,), (Dish(HUMMUS, "salad"), Dish("Mac & cheese", "main"))]
    return [
        meal(
            f"{names[i % len(names)]} {i + 1}",
            dishes=dishes[i % len(dishes)],
            extras=extras[i % 7 % len(extras)],
            notes="" if i % 5 else "without onions & <garlic> 🧄",
        )
        for i in range(number)
    ]


def correction(*changes: Change, notes: Sequence[NewNote] = (), orders: DayOrders, number: int = 1) -> Correction:
    return Correction(number, changes, notes, orders)


TWO = day(meal(), meal("Boris", "Light", [SALAD]))

LONGEST_NAME = "Very long name, " * 16
assert len(LONGEST_NAME) > NAME_MAX_CHARACTERS

DAYS: dict[str, DayOrders] = {
    "one_person": day(meal()),
    "several_people": day(
        meal(extras=[Extra("Cola", 2, Decimal("3.00")), Extra("Honey cake", 1, Decimal("3.25"))]),
        meal("Boris", "Light", [SALAD], notes="no salt"),
        meal(
            "Вера Павловна", "Полный обед", [BORSCHT, SALAD, PELMENI], [Extra("Морс", 1, Decimal("1.20"))], "без лука"
        ),
    ),
    "nasty": day(*NASTY, cafe='<i>Basil</i> & "Thyme" \N{RIGHT-TO-LEFT EMBEDDING}'),
    "two_hundred_people": day(*many(200)),
    "long_person": day(
        meal(),
        meal("Boris", extras=[Extra(f"{i}. {LONGEST_NAME}"[:NAME_MAX_CHARACTERS], 1, Decimal(1)) for i in range(18)]),
        meal("Clara", "Light", [SALAD]),
    ),
    "long_total": day(*(meal(f"Person {i}", dishes=[Dish(f"Dish {i} of the day", "main")]) for i in range(200))),
    "two_people": day(*many(2)),
    "five_people": day(*many(5)),
    "twenty_one_people": day(*many(21)),
}

CORRECTIONS: dict[str, Correction] = {
    "correction_one": correction(Change(-1, "Borscht", "Anna Petrova"), orders=TWO),
    "correction_several": correction(
        Change(-1, "Business lunch", "<b>Bold</b> & Sons"),
        Change(-2, "Cola", "<b>Bold</b> & Sons"),
        Change(3, HUMMUS, SARAH),
        orders=TWO,
        number=2,
    ),
    "correction_notes": correction(
        notes=[NewNote("Anna Petrova", "no onions\n& <less> salt"), NewNote(SARAH, "")], orders=TWO
    ),
    "correction_of_one_note": correction(notes=[NewNote("Boris", " ")], orders=TWO),
    "correction_to_nothing": correction(
        Change(-1, "Light", "Boris"), Change(-1, "Vinaigrette", "Boris"), orders=day(), number=3
    ),
    "correction_of_many": correction(
        *(Change(-1, f"Dish {i} & <more> of it", f"Person {i}") for i in range(200)), orders=TWO
    ),
}

type Write = Callable[[str], list[str]]

MESSAGES: dict[str, Write] = {
    **{name: partial(kitchen.orders, orders) for name, orders in DAYS.items()},
    **{name: partial(kitchen.correction, change) for name, change in CORRECTIONS.items()},
}

each_message = pytest.mark.parametrize("name", MESSAGES)
each_locale = pytest.mark.parametrize("locale", Language)


def golden_file(name: str, locale: str) -> Path:
    return GOLDEN / f"{name}.{locale}.txt"


def in_one(parts: Sequence[str]) -> str:
    """What stands in a golden file."""
    return f"\n{CUT}\n".join(parts) + "\n"


def shown(part: str) -> str:
    """What people see of a message."""
    return trim(*parse_html(part))[0]


def body(part: str) -> str:
    """A part without its title."""
    return part.split(f"\n{kitchen.RULE}\n", 1)[1]


def block(of: Meal, locale: str) -> str:
    """What stands of one person in a message."""
    [alone] = kitchen.orders(day(of), locale)
    return body(alone).split(f"\n{kitchen.RULE}\n")[0]


@each_locale
@each_message
def test_a_message_is_as_it_was(name: str, locale: Language) -> None:
    """A kitchen reads what stands in the golden file, to the character."""
    golden = golden_file(name, locale)

    difference = unified_diff(
        golden.read_bytes().decode().split("\n"),
        in_one(MESSAGES[name](locale)).split("\n"),
        f"golden/{golden.name}",
        "written now",
        lineterm="",
    )

    assert (text := "\n".join(difference)) == "", f"another message than before:\n{text}"


def test_every_golden_file_is_compared() -> None:
    """No file is left over from a case that is gone."""
    compared = {golden_file(name, locale) for name in MESSAGES for locale in Language}

    assert set(GOLDEN.iterdir()) == compared


@each_locale
@each_message
def test_telegram_takes_each_part(name: str, locale: Language) -> None:
    """Each part is HTML that Telegram can parse, and short enough, with room for a remark."""
    lengths = [utf16_length(shown(part)) for part in MESSAGES[name](locale)]

    assert max(lengths) <= LENGTH_MAX


@each_locale
@each_message
def test_lengths_are_telegrams(name: str, locale: Language) -> None:
    """We count as Telegram does: UTF-16 units, without tags, a character reference as one."""
    parts = MESSAGES[name](locale)

    assert [kitchen.length(part) for part in parts] == [utf16_length(parse_html(part)[0]) for part in parts]


@each_locale
@pytest.mark.parametrize("name", ["two_hundred_people", "long_person", "long_total", "correction_of_many"])
def test_parts_are_numbered(name: str, locale: Language) -> None:
    """Each of several parts says which it is, and of how many."""
    parts = MESSAGES[name](locale)
    first_lines = [part.splitlines()[0] for part in parts]

    assert len(parts) > 1
    assert [re.findall(r" \((\d+)/(\d+)\)$", line) for line in first_lines] == [
        [(str(number), str(len(parts)))] for number in range(1, len(parts) + 1)
    ]


@each_locale
def test_one_part_has_no_number(locale: Language) -> None:
    """What fits into a message does not look like a part of something."""
    [part] = MESSAGES["several_people"](locale)

    assert "1/1" not in part


@each_locale
@pytest.mark.parametrize("name", ["two_hundred_people", "long_total"])
def test_people_are_whole(name: str, locale: Language) -> None:
    """Each person stands in exactly one part, with everything that is theirs."""
    parts = MESSAGES[name](locale)

    times = {
        of.person: sum(f"{body(part)}\n".count(f"{block(of, locale)}\n") for part in parts) for of in DAYS[name].meals
    }

    assert set(times.values()) == {1}


@each_locale
def test_parts_are_filled(locale: Language) -> None:
    """No part ends before it must: the first person of each would not have fitted into the one before."""
    parts = MESSAGES["two_hundred_people"](locale)
    firsts = [re.split(r"\n(?=👤|━)", body(part))[0] for part in parts[1:]]

    assert all(
        kitchen.length(f"{part}\n{first}") > LENGTH_MAX - len("(99/99)")
        for part, first in zip(parts[:-1], firsts, strict=True)
    )


@each_locale
@each_message
def test_rules_stand_between_something(name: str, locale: Language) -> None:
    """No part begins or ends with a line that separates nothing, and none has two in a row."""
    parts = MESSAGES[name](locale)

    assert not [part for part in parts if body(part).startswith(kitchen.RULE) or part.rstrip().endswith(kitchen.RULE)]


@each_locale
def test_a_person_longer_than_a_message_is_cut_between_lines(locale: Language) -> None:
    """Somebody who needs more than a message has their lines in several, each whole and once, in order."""
    long = DAYS["long_person"].meals[1]
    lines = [line for part in MESSAGES["long_person"](locale) for line in body(part).splitlines()]

    expected = [f"  • {extra.name} ×1 (1.00)" for extra in long.extras]
    assert [line for line in lines if "Very long name" in line and line.startswith("  • ")] == expected


@each_locale
def test_a_kitchen_total_longer_than_a_message_is_cut_between_dishes(locale: Language) -> None:
    """A total of hundreds of dishes, commas in their names, has each with its number, whole and once, in order."""
    total = [(f"{i}. Dish, hot, of the day", i) for i in range(1, 401)]

    parts = kitchen.orders(replace(day(meal()), kitchen=total), locale)

    lines = [line for part in parts for line in shown(part).splitlines() if "Dish" in line]
    assert len(lines) > 1
    assert [entry for line in lines for entry in re.findall(r"\d+\. Dish, hot, of the day ×\d+", line)] == [
        f"{name} ×{number}" for name, number in total
    ]


@pytest.mark.parametrize(
    ("number", "locale", "total"),
    [
        (1, "en", "Total: 1 order, 10.00"),
        (2, "en", "Total: 2 orders, 20.00"),
        (21, "en", "Total: 21 orders, 210.00"),
        (1, "ru", "Итого: 1 заказ, 10.00"),
        (2, "ru", "Итого: 2 заказа, 20.00"),
        (5, "ru", "Итого: 5 заказов, 50.00"),
        (11, "ru", "Итого: 11 заказов, 110.00"),
        (12, "ru", "Итого: 12 заказов, 120.00"),
        (21, "ru", "Итого: 21 заказ, 210.00"),
        (22, "ru", "Итого: 22 заказа, 220.00"),
        (111, "ru", "Итого: 111 заказов, 1110.00"),
    ],
)
def test_orders_are_counted(number: int, locale: str, total: str) -> None:
    """The number of orders is declined as the language wants it."""
    parts = kitchen.orders(day(*(meal(f"Person {i}") for i in range(number))), locale)

    assert shown(parts[-1]).splitlines()[-1] == total


@pytest.mark.parametrize(
    ("category", "locale", "word"),
    [
        ("soup", "en", "soup"),
        ("salad", "en", "salad"),
        ("main", "en", "main"),
        ("soup", "ru", "суп"),
        ("salad", "ru", "салат"),
        ("main", "ru", "горячее"),
    ],
)
def test_categories_have_names(category: str, locale: str, word: str) -> None:
    """A dish says what it is, in the cafe's language."""
    [part] = kitchen.orders(day(meal(dishes=[Dish("Solyanka", category)])), locale)

    assert f"– Solyanka ({word})" in part


@each_locale
def test_a_right_to_left_name_keeps_to_itself(locale: Language) -> None:
    """Hebrew and Arabic stand in isolates, so that the numbers behind them stay behind them."""
    [part] = kitchen.orders(day(meal(SARAH, extras=[Extra(HUMMUS, 2, Decimal(3))])), locale)

    isolated = [f"{texts.FIRST_STRONG_ISOLATE}{text}{texts.POP_ISOLATE}" for text in (SARAH, HUMMUS)]
    assert f"👤 <b>{isolated[0]}</b>:" in part
    assert f"• {isolated[1]} ×2 (3.00)" in part


@pytest.mark.parametrize(
    "control", [chr(code) for code in texts.DIRECTIONAL_CONTROLS], ids=lambda it: f"U+{ord(it):04X}"
)
def test_nobody_turns_the_text_round(control: str) -> None:
    """A character that turns the direction of what follows is left out of a name."""
    [part] = kitchen.orders(day(meal(f"Eve{control} & Adam")), "en")

    assert "👤 <b>Eve &amp; Adam</b>:" in part


def test_notes_are_one_line() -> None:
    """Nobody writes lines of their own into the kitchen's list."""
    [part] = kitchen.orders(day(meal(notes="no salt\n👤 Boris:\r\n  • ten steaks\N{PARAGRAPH SEPARATOR}now")), "en")

    assert "  📝 no salt 👤 Boris: • ten steaks now\n" in part


def test_a_day_without_orders_is_a_dash() -> None:
    """A correction after which nothing is left says so."""
    [part] = kitchen.correction(CORRECTIONS["correction_to_nothing"], "en")

    assert part.endswith("<b>Kitchen total</b>: —\n<b>Total: 0 orders, 0.00</b>")


def test_one_change_stands_in_one_line() -> None:
    """The shortest correction is read at a glance."""
    [part] = kitchen.correction(CORRECTIONS["correction_one"], "en")

    assert body(part).splitlines()[0] == "<b>Correction 1</b>: −1 Borscht (Anna Petrova)"


@pytest.mark.parametrize(("number", "written"), [(3, "+3 Cola"), (1, "+1 Cola"), (-1, "−1 Cola"), (-20, "−20 Cola")])
def test_a_change_has_a_sign(number: int, written: str) -> None:
    """What is more and what is less is told by a sign."""
    [part] = kitchen.correction(correction(Change(number, "Cola", "Boris"), orders=TWO), "en")

    assert f": {written} (Boris)\n" in part


def is_a_name(text: str) -> bool:
    return bool(text.strip()) and len(text.splitlines()) == 1


fragments = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=40),
    st.sampled_from(
        [
            "</b>",
            "<b>",
            "&",
            "&lt;",
            "&amp;amp;",
            ", ",
            " ×2",
            kitchen.RULE,
            SARAH,
            HUMMUS,
            TURNED,
            "🧑🏽‍🍳",
            "𝕏",
            "\u2067",
        ]
    ),
)


def lines(most: int) -> st.SearchStrategy[str]:
    """Texts of one line of up to so many characters, also of as many as there may be."""
    pieces = st.lists(fragments, min_size=1, max_size=4).map("".join)
    repeated = st.builds(lambda text, times: (text * times)[:most].strip(), pieces, st.sampled_from([1, 1, 2, most]))
    return repeated.filter(is_a_name)


names = lines(NAME_MAX_CHARACTERS)
amounts = st.decimals(min_value=0, max_value=99_999_999, places=2)
meals = st.builds(
    Meal,
    person=names,
    combo=names,
    price=amounts,
    dishes=st.lists(st.builds(Dish, names, st.sampled_from(["soup", "salad", "main"])), min_size=1, max_size=3),
    extras=st.one_of(
        st.just([]),
        st.lists(st.builds(Extra, names, st.integers(1, QUANTITY_MAX), amounts), max_size=3),
        st.builds(
            lambda extra, number: [extra] * number,
            st.builds(Extra, names, st.just(1), amounts),
            st.integers(1, EXTRAS_MAX),
        ),
    ),
    notes=st.one_of(st.just(""), lines(NOTES_MAX_CHARACTERS)),
)
totals = st.lists(st.tuples(names, st.integers(1, 10_000)), max_size=40)
days = st.builds(
    lambda cafe, meals, times, totals, total: DayOrders(
        cafe,
        DATE,
        [replace(of, person=f"{i} {of.person}"[:NAME_MAX_CHARACTERS].strip()) for i, of in enumerate(meals * times)],
        totals,
        total,
    ),
    names,
    st.lists(meals, min_size=1, max_size=6),
    st.sampled_from([1, 1, 2, 15]),
    totals,
    amounts,
)


def names_of(things: Sequence[Dish | Extra]) -> list[str]:
    return [thing.name for thing in things]


def as_shown(name: str) -> str:
    return name.translate(texts.DIRECTIONAL_CONTROLS)


@settings(deadline=None, max_examples=60)
@given(orders=days, locale=st.sampled_from(Language))
def test_whatever_people_order_can_be_sent(orders: DayOrders, locale: Language) -> None:
    """No part is too long or cannot be parsed, and everything that was given is in some part."""
    parts = kitchen.orders(orders, locale)

    assert max(utf16_length(shown(part)) for part in parts) <= LENGTH_MAX
    everything = "\n".join(shown(part) for part in parts)
    given = {name for of in orders.meals for name in (of.person, of.combo, *names_of(of.dishes), *names_of(of.extras))}
    assert [name for name in given if as_shown(name) not in everything] == []


@settings(deadline=None, max_examples=40)
@given(
    changes=st.lists(st.builds(Change, st.integers(-20, 20).filter(bool), names, names), max_size=60),
    notes=st.lists(st.builds(NewNote, names, st.one_of(st.just(""), lines(NOTES_MAX_CHARACTERS))), max_size=20),
    orders=days,
    number=st.integers(1, 1000),
    locale=st.sampled_from(Language),
)
def test_whatever_changes_can_be_sent(
    changes: list[Change], notes: list[NewNote], orders: DayOrders, number: int, locale: Language
) -> None:
    """The same holds for corrections."""
    if not changes and not notes:
        notes = [NewNote("Anna", "")]
    parts = kitchen.correction(Correction(number, changes, notes, orders), locale)

    assert max(utf16_length(shown(part)) for part in parts) <= LENGTH_MAX
    everything = "\n".join(shown(part) for part in parts)
    given = {name for change in changes for name in (change.name, change.person)} | {note.person for note in notes}
    assert [name for name in given if as_shown(name) not in everything] == []


def test_there_is_a_word_for_each_category() -> None:
    """Every category that a combo can have is one that kitchens know."""
    for category in {*MenuCategory} - {MenuCategory.EXTRA}:
        assert kitchen.orders(day(meal(dishes=[Dish("Soup", category.value)])), "en")


def write_golden_files() -> None:
    """Write what is written now into the golden files."""
    for old in GOLDEN.iterdir():
        old.unlink()
    for name, message in MESSAGES.items():
        for locale in Language:
            golden_file(name, locale).write_bytes(in_one(message(locale)).encode())


if __name__ == "__main__":
    write_golden_files()
