"""The order list and the correction, compared with golden files, and rules that hold for any orders.

A golden file, `golden/<case>.<language>.txt`, has one message. The line `CUT` separates its parts. After an intended
change, `python -m tests.telegram.test_order_message` writes all files again: the diff in git is the change that a cafe
sees.
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
from app.models import Cafe, Language, MenuCategory
from app.models.orders import EXTRAS_MAX, NOTES_MAX_CHARACTERS, QUANTITY_MAX
from app.telegram import i18n, order_message
from app.telegram.order_message import Change, Correction, DayOrders, Dish, Extra, Meal, NewNote
from app.validation import NAME_MAX_CHARACTERS

GOLDEN = Path(__file__).parent / "golden"
CUT = "- - - - - 8< - - - - -"

LENGTH_MAX = order_message.MESSAGE_MAX_CHARACTERS - order_message.REMARK_CHARACTERS

DATE = dt.date(2026, 11, 24)

CAFE = Cafe(id=12, name="Basil & Thyme")
NASTY_CAFE = Cafe(id=13, name='<i>Basil</i> & "Thyme" \N{RIGHT-TO-LEFT EMBEDDING}')

BORSCHT, SALAD, PELMENI = Dish("Borscht", "soup"), Dish("Vinaigrette", "salad"), Dish("Pelmeni", "main")

SARAH = "שרה כהן"
HUMMUS = "حمص بالطحينة"
REVERSED = "Eve\N{RIGHT-TO-LEFT OVERRIDE}99.0 × alo\N{POP DIRECTIONAL FORMATTING}"
"""Its control character turns the following text, to the end of the line if no other character ends it."""


def meal(
    person: str = "Anna Petrova",
    combo: str = "Business lunch",
    dishes: Sequence[Dish] = (BORSCHT, PELMENI),
    extras: Sequence[Extra] = (),
    notes: str = "",
) -> Meal:
    return Meal(person, combo, Decimal("10.00"), dishes, extras, notes)


def day(*meals: Meal) -> DayOrders:
    """The orders of a day, with their totals."""
    quantities: Counter[str] = Counter()
    for ordered in meals:
        quantities.update(dish.name for dish in ordered.dishes)
    for ordered in meals:
        for extra in ordered.extras:
            quantities[extra.name] += extra.quantity
    total = sum(
        (ordered.price + sum((extra.amount for extra in ordered.extras), Decimal(0)) for ordered in meals), Decimal(0)
    )
    return DayOrders(DATE, meals, list(quantities.items()), total)


def order_list(orders: DayOrders, locale: str, *, cafe: Cafe = CAFE) -> list[str]:
    """Write the order list of a cafe."""
    return order_message.order_list(cafe, orders=orders, locale=locale)


def correction_text(correction: Correction, locale: str, *, cafe: Cafe = CAFE) -> list[str]:
    """Write a correction for a cafe."""
    return order_message.correction_text(cafe, correction=correction, locale=locale)


NASTY = (
    meal("<b>Bold</b> & Sons", notes="5 < 6 &amp; 7 > 6 </b>"),
    meal("""Quo"te d'Or""", combo="<script>alert('lunch')</script>", dishes=[Dish("Mac & cheese", "main")]),
    meal("Zoë 👩‍🍳🎉", extras=[Extra("🍰 & ☕", 2, Decimal("7.00"))], notes="no 🧅, please 🙏🏽"),
    meal(SARAH, dishes=[Dish(HUMMUS, "salad"), PELMENI], notes="בלי בצל, תודה!"),
    meal(REVERSED, notes="\N{LEFT-TO-RIGHT ISOLATE}open, never closed"),
    meal("Line", notes="one\ntwo\r\n\tthree   four\N{LINE SEPARATOR}five"),
)


def many(number: int) -> list[Meal]:
    """The meals of `number` different users, some with names that are hard to write."""
    extras = [[], [Extra("Cola", 1, Decimal("1.50"))], [Extra("Honey cake <3", 2, Decimal("6.50"))]]
    names = ["Anna", "<b>Boris</b>", SARAH, "Zoë 👩‍🍳", "M & M", REVERSED]
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
    "nasty": day(*NASTY),
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
    **{name: partial(order_list, orders) for name, orders in DAYS.items()},
    **{name: partial(correction_text, change) for name, change in CORRECTIONS.items()},
    "nasty": partial(order_list, DAYS["nasty"], cafe=NASTY_CAFE),
}

each_message = pytest.mark.parametrize("name", MESSAGES)
each_locale = pytest.mark.parametrize("locale", Language)


def golden_file(name: str, locale: str) -> Path:
    return GOLDEN / f"{name}.{locale}.txt"


def golden_text(parts: Sequence[str]) -> str:
    """The content of a golden file."""
    return f"\n{CUT}\n".join(parts) + "\n"


def shown(part: str) -> str:
    """The text of a message as Telegram shows it."""
    return trim(*parse_html(part))[0]


def body(part: str) -> str:
    """A part without its title."""
    return part.split(f"\n{order_message.RULE}\n", 1)[1]


def block(ordered: Meal, locale: str) -> str:
    """The lines of one user in a message."""
    [part] = order_list(day(ordered), locale)
    return body(part).split(f"\n{order_message.RULE}\n")[0]


@each_locale
@each_message
def test_a_message_equals_its_golden_file(name: str, locale: Language) -> None:
    """A message equals its golden file, to the character."""
    golden = golden_file(name, locale)

    difference = unified_diff(
        golden.read_bytes().decode().split("\n"),
        golden_text(MESSAGES[name](locale)).split("\n"),
        f"golden/{golden.name}",
        "written by the code",
        lineterm="",
    )

    assert (text := "\n".join(difference)) == "", f"the message has changed:\n{text}"


def test_every_golden_file_is_compared() -> None:
    """Each golden file belongs to a case."""
    compared = {golden_file(name, locale) for name in MESSAGES for locale in Language}

    assert set(GOLDEN.iterdir()) == compared


@each_locale
@each_message
def test_telegram_accepts_each_part(name: str, locale: Language) -> None:
    """Each part is HTML that Telegram can parse, and is short enough to leave room for a remark."""
    lengths = [utf16_length(shown(part)) for part in MESSAGES[name](locale)]

    assert max(lengths) <= LENGTH_MAX


@each_locale
@each_message
def test_lengths_are_counted_as_telegram_counts(name: str, locale: Language) -> None:
    """A length is in UTF-16 code units, without tags, and a character reference counts as one character."""
    parts = MESSAGES[name](locale)

    assert [order_message.length(part) for part in parts] == [utf16_length(parse_html(part)[0]) for part in parts]


@each_locale
@pytest.mark.parametrize("name", ["two_hundred_people", "long_person", "long_total", "correction_of_many"])
def test_parts_are_numbered(name: str, locale: Language) -> None:
    """Each of several parts has its number and the number of parts."""
    parts = MESSAGES[name](locale)
    first_lines = [part.splitlines()[0] for part in parts]

    assert len(parts) > 1
    assert [re.findall(r" \((\d+)/(\d+)\)$", line) for line in first_lines] == [
        [(str(number), str(len(parts)))] for number in range(1, len(parts) + 1)
    ]


@each_locale
def test_one_part_has_no_number(locale: Language) -> None:
    """A message of one part has no part number."""
    [part] = MESSAGES["several_people"](locale)

    assert "1/1" not in part


@each_locale
@pytest.mark.parametrize("name", ["two_hundred_people", "long_total"])
def test_users_are_not_split(name: str, locale: Language) -> None:
    """Each user is in exactly one part, with the complete order."""
    parts = MESSAGES[name](locale)

    counts = {
        ordered.person: sum(f"{body(part)}\n".count(f"{block(ordered, locale)}\n") for part in parts)
        for ordered in DAYS[name].meals
    }

    assert set(counts.values()) == {1}


@each_locale
def test_parts_are_filled(locale: Language) -> None:
    """No part ends too early: the first user of each part does not fit into the previous part."""
    parts = MESSAGES["two_hundred_people"](locale)
    first_blocks = [re.split(r"\n(?=👤|━)", body(part))[0] for part in parts[1:]]

    assert all(
        order_message.length(f"{part}\n{first}") > LENGTH_MAX - len("(99/99)")
        for part, first in zip(parts[:-1], first_blocks, strict=True)
    )


@each_locale
@each_message
def test_rules_separate_text(name: str, locale: Language) -> None:
    """No part begins or ends with a rule."""
    parts = MESSAGES[name](locale)

    assert not [
        part
        for part in parts
        if body(part).startswith(order_message.RULE) or part.rstrip().endswith(order_message.RULE)
    ]


@each_locale
def test_an_order_longer_than_a_message_is_split_between_lines(locale: Language) -> None:
    """An order that needs several parts has each line whole, once, and in order."""
    long = DAYS["long_person"].meals[1]
    lines = [line for part in MESSAGES["long_person"](locale) for line in body(part).splitlines()]

    expected = [f"  • {extra.name} ×1 (1.00)" for extra in long.extras]
    assert [line for line in lines if "Very long name" in line and line.startswith("  • ")] == expected


@each_locale
def test_a_kitchen_total_longer_than_a_message_is_split_between_dishes(locale: Language) -> None:
    """A total of hundreds of dishes, with commas in their names, has each dish with its quantity, whole, once, and in order."""
    quantities = [(f"{i}. Dish, hot, of the day", i) for i in range(1, 401)]

    parts = order_list(replace(day(meal()), quantities=quantities), locale)

    lines = [line for part in parts for line in shown(part).splitlines() if "Dish" in line]
    assert len(lines) > 1
    assert [entry for line in lines for entry in re.findall(r"\d+\. Dish, hot, of the day ×\d+", line)] == [
        f"{name} ×{number}" for name, number in quantities
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
def test_the_number_of_orders_has_its_plural_form(number: int, locale: str, total: str) -> None:
    """The number of orders has the plural form of the language."""
    parts = order_list(day(*(meal(f"Person {i}") for i in range(number))), locale)

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
    """A dish shows its category, in the cafe's language."""
    [part] = order_list(day(meal(dishes=[Dish("Solyanka", category)])), locale)

    assert f"– Solyanka ({word})" in part


@each_locale
def test_a_right_to_left_name_is_isolated(locale: Language) -> None:
    """Hebrew and Arabic names are isolated, so that the numbers behind them stay behind them."""
    [part] = order_list(day(meal(SARAH, extras=[Extra(HUMMUS, 2, Decimal(3))])), locale)

    isolated = [f"{i18n.FIRST_STRONG_ISOLATE}{text}{i18n.POP_ISOLATE}" for text in (SARAH, HUMMUS)]
    assert f"👤 <b>{isolated[0]}</b>:" in part
    assert f"• {isolated[1]} ×2 (3.00)" in part


@pytest.mark.parametrize(
    "control", [chr(code) for code in i18n.DIRECTIONAL_CONTROLS], ids=lambda it: f"U+{ord(it):04X}"
)
def test_directional_controls_are_removed(control: str) -> None:
    """A character that changes the direction of the following text is removed from a name."""
    [part] = order_list(day(meal(f"Eve{control} & Adam")), "en")

    assert "👤 <b>Eve &amp; Adam</b>:" in part


def test_notes_are_one_line() -> None:
    """A note cannot add lines to the order list."""
    [part] = order_list(day(meal(notes="no salt\n👤 Boris:\r\n  • ten steaks\N{PARAGRAPH SEPARATOR}now")), "en")

    assert "  📝 no salt 👤 Boris: • ten steaks now\n" in part


def test_a_total_without_orders_is_a_dash() -> None:
    """The kitchen total of a day without orders is a dash."""
    [part] = correction_text(CORRECTIONS["correction_to_nothing"], "en")

    assert part.endswith("<b>Kitchen total</b>: —\n<b>Total: 0 orders, 0.00</b>")


def test_one_change_is_one_line() -> None:
    """A correction with one change has it in the first line."""
    [part] = correction_text(CORRECTIONS["correction_one"], "en")

    assert body(part).splitlines()[0] == "<b>Correction 1</b>: −1 Borscht (Anna Petrova)"


@pytest.mark.parametrize(("number", "written"), [(3, "+3 Cola"), (1, "+1 Cola"), (-1, "−1 Cola"), (-20, "−20 Cola")])
def test_a_change_has_a_sign(number: int, written: str) -> None:
    """A sign says whether a quantity is higher or lower."""
    [part] = correction_text(correction(Change(number, "Cola", "Boris"), orders=TWO), "en")

    assert f": {written} (Boris)\n" in part


def is_name(text: str) -> bool:
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
            order_message.RULE,
            SARAH,
            HUMMUS,
            REVERSED,
            "🧑🏽‍🍳",
            "𝕏",
            "\u2067",
        ]
    ),
)


def lines(most: int) -> st.SearchStrategy[str]:
    """Texts of one line with up to `most` characters, and often with exactly `most`."""
    pieces = st.lists(fragments, min_size=1, max_size=4).map("".join)
    repeated = st.builds(lambda text, times: (text * times)[:most].strip(), pieces, st.sampled_from([1, 1, 2, most]))
    return repeated.filter(is_name)


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
quantities = st.lists(st.tuples(names, st.integers(1, 10_000)), max_size=40)
days = st.builds(
    lambda meals, times, quantities, total: DayOrders(
        DATE,
        [
            replace(ordered, person=f"{i} {ordered.person}"[:NAME_MAX_CHARACTERS].strip())
            for i, ordered in enumerate(meals * times)
        ],
        quantities,
        total,
    ),
    st.lists(meals, min_size=1, max_size=6),
    st.sampled_from([1, 1, 2, 15]),
    quantities,
    amounts,
)
cafes = st.builds(lambda name: Cafe(id=12, name=name), names)


def names_of(items: Sequence[Dish | Extra]) -> list[str]:
    return [item.name for item in items]


def as_shown(name: str) -> str:
    return name.translate(i18n.DIRECTIONAL_CONTROLS)


@settings(deadline=None, max_examples=60)
@given(cafe=cafes, orders=days, locale=st.sampled_from(Language))
def test_any_order_list_can_be_sent(cafe: Cafe, orders: DayOrders, locale: Language) -> None:
    """Each part of any order list is parsable and short enough, and the parts together have all names."""
    parts = order_list(orders, locale, cafe=cafe)

    assert max(utf16_length(shown(part)) for part in parts) <= LENGTH_MAX
    text = "\n".join(shown(part) for part in parts)
    written = {
        name
        for ordered in orders.meals
        for name in (ordered.person, ordered.combo, *names_of(ordered.dishes), *names_of(ordered.extras))
    }
    assert [name for name in written if as_shown(name) not in text] == []


@settings(deadline=None, max_examples=40)
@given(
    changes=st.lists(st.builds(Change, st.integers(-20, 20).filter(bool), names, names), max_size=60),
    notes=st.lists(st.builds(NewNote, names, st.one_of(st.just(""), lines(NOTES_MAX_CHARACTERS))), max_size=20),
    cafe=cafes,
    orders=days,
    number=st.integers(1, 1000),
    locale=st.sampled_from(Language),
)
def test_any_correction_can_be_sent(
    changes: list[Change], notes: list[NewNote], cafe: Cafe, orders: DayOrders, number: int, locale: Language
) -> None:
    """Each part of any correction is parsable and short enough, and the parts together have all names."""
    if not changes and not notes:
        notes = [NewNote("Anna", "")]
    parts = correction_text(Correction(number, changes, notes, orders), locale, cafe=cafe)

    assert max(utf16_length(shown(part)) for part in parts) <= LENGTH_MAX
    text = "\n".join(shown(part) for part in parts)
    written = {name for change in changes for name in (change.name, change.person)} | {note.person for note in notes}
    assert [name for name in written if as_shown(name) not in text] == []


def test_each_category_has_a_word() -> None:
    """The order list has a word for every category that a combo can have."""
    for category in {*MenuCategory} - {MenuCategory.EXTRA}:
        assert order_list(day(meal(dishes=[Dish("Soup", category.value)])), "en")


def write_golden_files() -> None:
    """Write the present messages into the golden files."""
    for old in GOLDEN.iterdir():
        old.unlink()
    for name, message in MESSAGES.items():
        for locale in Language:
            golden_file(name, locale).write_bytes(golden_text(message(locale)).encode())


if __name__ == "__main__":
    write_golden_files()
