"""The texts, and their catalogues: complete, in step with each other and with the source, and what Telegram takes."""

import inspect
from collections.abc import Callable
from datetime import datetime
from io import BytesIO
from pathlib import Path
from string import Formatter
from zoneinfo import ZoneInfo

import pytest
from babel.messages import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from app.ai.prompts import SUMMARY_MAX_CHARACTERS, TIP_MAX_CHARACTERS, TIPS_MAX
from app.ai.recommendation import Recommendation
from app.ai.stats import FAVORITES_MAX, CategoryShares, FavoriteDish, OrderStats
from app.dev.telegram.chats import MESSAGE_LENGTH
from app.dev.telegram.formatting import parse_html, utf16_length
from app.models import Language
from app.models.tables import NAME_MAX_CHARACTERS
from app.resolvers.links import REASON_MAX_CHARACTERS
from app.telegram import texts
from app.telegram.kitchen import ROOM_FOR_A_REMARK

SOURCE = Path(texts.__file__).parent
RUSSIAN = SOURCE / "locales" / "ru" / "LC_MESSAGES" / "lunch_bot.po"
KEYWORDS: dict[str, tuple[int, ...] | None] = {"_": None, "_n": (1, 2)}
NASTY = '<b>Basil</b> & "Thyme" \'n {cafe} %s'

CLOSING = datetime(2026, 11, 24, 10, 30, tzinfo=ZoneInfo("Europe/Berlin"))
SENT = datetime(2026, 11, 23, 9, 5, tzinfo=ZoneInfo("Europe/Berlin"))

CALLBACK_ANSWER_LENGTH = 200
"""https://core.telegram.org/bots/api#answercallbackquery"""

TELEGRAM_NAME = "🍲" * 64
"""The longest first or last name."""

SPACE = "\N{NO-BREAK SPACE}"

STATS = OrderStats(
    orders_count=12,
    categories=CategoryShares(soup=0.25, salad=0.1, main=0.5, extra=0.15),
    unique_dishes=7,
    total_dishes_available=40,
    favorite_dishes=(FavoriteDish(name=NASTY, count=5), FavoriteDish(name="Борщ", count=1)),
)
RECOMMENDATION = Recommendation(summary=f"You like {NASTY}.", tips=(f"Try {NASTY}.", "Have a salad."), stats=STATS)


def status_linked(
    locale: str,
    *,
    is_active: bool = True,
    enabled: bool = True,
    next_deadline: datetime | None = CLOSING,
    last_sent: datetime | None = SENT,
) -> str:
    return texts.status_linked(
        NASTY, is_active=is_active, enabled=enabled, next_deadline=next_deadline, last_sent=last_sent, locale=locale
    )


TEXTS: dict[str, Callable[[str], str]] = {
    "start": texts.start,
    "help_": texts.help_,
    "link_usage": texts.link_usage,
    "requested": lambda locale: texts.requested(NASTY, locale),
    "no_such_cafe": lambda locale: texts.no_such_cafe(NASTY, locale),
    "cafe_already_linked": texts.cafe_already_linked,
    "chat_already_linked": texts.chat_already_linked,
    "too_many_requests": lambda locale: texts.too_many_requests(7, locale),
    "try_later": texts.try_later,
    "status_linked": status_linked,
    "status_linked, off": lambda locale: status_linked(locale, enabled=False),
    "status_linked, inactive": lambda locale: status_linked(locale, is_active=False),
    "status_linked, new": lambda locale: status_linked(locale, next_deadline=None, last_sent=None),
    "status_pending": lambda locale: texts.status_pending(NASTY, locale),
    "status_none": texts.status_none,
    "approved": lambda locale: texts.approved(NASTY, locale),
    "rejected": lambda locale: texts.rejected(NASTY, None, locale),
    "rejected, with a reason": lambda locale: texts.rejected(NASTY, NASTY, locale),
    "unlinked": lambda locale: texts.unlinked(NASTY, locale),
    "received_button": texts.received_button,
    "received": lambda locale: texts.received(NASTY, CLOSING, locale),
    "received_already": texts.received_already,
    "not_of_this_chat": texts.not_of_this_chat,
    "reminder": lambda locale: texts.reminder("2026-11-24", locale),
    "repeated": texts.repeated,
    "unlink_question": lambda locale: texts.unlink_question(NASTY, locale),
    "unlink_button": texts.unlink_button,
    "keep_button": texts.keep_button,
    "kept": lambda locale: texts.kept(NASTY, locale),
    "approve_button": texts.approve_button,
    "reject_button": texts.reject_button,
    "link_requested": lambda locale: texts.link_requested(NASTY, 12, -1001, None, locale),
    "link_requested, by name": lambda locale: texts.link_requested(NASTY, 12, -1001, "kitchen<b>", locale),
    "approved_by": lambda locale: texts.approved_by(NASTY, locale),
    "rejected_by": lambda locale: texts.rejected_by(NASTY, locale),
    "only_managers": texts.only_managers,
    "processed_already": texts.processed_already,
    "cafe_taken": texts.cafe_taken,
    "chat_taken": texts.chat_taken,
    "chat_gone": lambda locale: texts.chat_gone(NASTY, 12, locale),
    "nobody_to_tell": lambda locale: texts.nobody_to_tell(NASTY, 12, "2026-03-02", locale),
    "chat_has_left": lambda locale: texts.chat_has_left(NASTY, 12, locale),
    "not_acknowledged": lambda locale: texts.not_acknowledged(NASTY, 12, "2026-11-24", 30, locale),
    "not_delivered": lambda locale: texts.not_delivered(NASTY, 12, "2026-11-24", NASTY, locale),
    "recommended": lambda locale: texts.recommended(RECOMMENDATION, locale),
    "recommended, figures only": lambda locale: texts.recommended(Recommendation(stats=STATS), locale),
    "recommended, no orders": lambda locale: texts.recommended(Recommendation(stats=OrderStats()), locale),
    "only_in_private": texts.only_in_private,
    "not_known": texts.not_known,
    "switched_off": texts.switched_off,
}

ON_BUTTONS = ["received_button", "unlink_button", "keep_button", "approve_button", "reject_button"]
IN_ALERTS = [
    "received_already",
    "not_of_this_chat",
    "only_managers",
    "processed_already",
    "cafe_taken",
    "chat_taken",
    "try_later",
]

each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
each_locale = pytest.mark.parametrize("locale", Language)


@pytest.fixture(scope="module")
def russian() -> Catalog:
    with RUSSIAN.open("rb") as file:
        return read_po(file, locale="ru", abort_invalid=True)


@pytest.fixture(scope="module")
def source() -> Catalog:
    """The messages that the source has now."""
    catalog = Catalog()
    for file, line, message, _comments, _context in extract_from_dir(SOURCE, keywords=KEYWORDS):
        catalog.add(message, locations=[(file, line)])
    return catalog


def strings(message: Message) -> tuple[str, ...]:
    """The translations of a message: one, or one for each plural form."""
    return tuple(message.string) if isinstance(message.string, tuple | list) else (message.string or "",)


def placeholders(text: str) -> set[str]:
    return {name for _literal, name, _spec, _conversion in Formatter().parse(text) if name is not None}


def messages(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id]


def test_every_text_is_looked_at() -> None:
    """What the other tests look at are all the texts that there are."""
    written = {
        name
        for name, function in inspect.getmembers(texts, inspect.isfunction)
        if function.__module__ == texts.__name__
        and not name.startswith("_")
        and "locale" in inspect.signature(function).parameters
    }

    assert written - {"command_descriptions"} == {name.split(",")[0] for name in TEXTS}


def test_the_source_has_messages(source: Catalog) -> None:
    """What the other tests compare with is there."""
    assert len(source) > len(TEXTS)


def test_the_catalogue_has_the_messages_of_the_source(source: Catalog, russian: Catalog) -> None:
    """No message is missing from the catalogue, and none is in it that the source has no more: `make texts`."""
    assert {message.id for message in messages(russian)} == {message.id for message in messages(source)}


def test_nothing_obsolete_is_kept(russian: Catalog) -> None:
    """The catalogue keeps no translations of what is gone: git does."""
    assert not russian.obsolete


def test_everything_is_translated(russian: Catalog) -> None:
    """Every message, in every plural form, has a translation that somebody has looked at."""
    assert [message.id for message in messages(russian) if message.fuzzy or not all(strings(message))] == []


def test_translations_have_the_placeholders_of_the_message(russian: Catalog) -> None:
    """A translation says of whom it speaks, in each of its plural forms."""
    wrong = [
        message.id
        for message in messages(russian)
        for string in strings(message)
        if placeholders(string) != placeholders(message.id if isinstance(message.id, str) else message.id[0])
    ]

    assert wrong == []


def test_translations_are_compiled(russian: Catalog) -> None:
    """What the bot reads is what the translator wrote: `make texts`."""
    compiled = BytesIO()
    write_mo(compiled, russian)

    assert RUSSIAN.with_suffix(".mo").read_bytes() == compiled.getvalue()


def test_every_language_of_cafes_is_spoken() -> None:
    """A cafe can have no language that there are no texts in."""
    assert {language.value for language in Language} == {texts.DEFAULT_LOCALE, *texts.i18n.available_locales}


@each_text
def test_a_text_is_translated(text: Callable[[str], str]) -> None:
    """A Russian reads something else than an Englishman."""
    assert text("ru") != text("en")


@pytest.mark.parametrize("locale", Language)
@each_text
def test_a_text_is_html_that_telegram_takes(text: Callable[[str], str], locale: str) -> None:
    """Whatever people call their cafes, Telegram can parse what we say of them, and shows the name as it is."""
    shown, _entities = parse_html(text(locale))

    assert (NASTY in shown) == ("Basil" in text(locale))


@each_locale
def test_the_longest_text_fits_into_a_message(locale: str) -> None:
    """A rejection has the longest name and the longest reason in it, of characters that count double."""
    shown, _entities = parse_html(texts.rejected("🍲" * NAME_MAX_CHARACTERS, "🍲" * REASON_MAX_CHARACTERS, locale))

    assert utf16_length(shown) <= MESSAGE_LENGTH


@each_locale
def test_the_longest_recommendation_fits_into_a_message(locale: str) -> None:
    """Summary, tips and the names of dishes may be as long as they can be, of characters that count double."""
    longest = Recommendation(
        summary="🍲" * SUMMARY_MAX_CHARACTERS,
        tips=("🍲" * TIP_MAX_CHARACTERS,) * TIPS_MAX,
        stats=OrderStats(
            orders_count=1000,
            favorite_dishes=(FavoriteDish(name="🍲" * NAME_MAX_CHARACTERS, count=1000),) * FAVORITES_MAX,
        ),
    )

    shown, _entities = parse_html(texts.recommended(longest, locale))

    assert utf16_length(shown) <= MESSAGE_LENGTH


@pytest.mark.parametrize(
    ("locale", "lines"),
    [
        (
            "en",
            [
                "Last 30 days: 12 orders",
                "soups 25%, salads 10%, mains 50%, extras 15%",
                "7 of 40 dishes tried",
                f"Most ordered: {NASTY} ×5, Борщ ×1",
            ],
        ),
        (
            "ru",
            [
                "За последние 30 дней: 12 заказов",
                f"супы 25{SPACE}%, салаты 10{SPACE}%, горячее 50{SPACE}%, дополнения 15{SPACE}%",
                "Попробовано блюд: 7 из 40",
                f"Чаще всего вы заказываете: {NASTY} ×5, Борщ ×1",
            ],
        ),
    ],
)
def test_a_recommendation_has_its_figures(locale: str, lines: list[str]) -> None:
    """Below summary and tips stands what they follow from."""
    shown, _entities = parse_html(texts.recommended(RECOMMENDATION, locale))

    assert shown.splitlines() == [f"🍽 You like {NASTY}.", f"• Try {NASTY}.", "• Have a salad.", "", *lines]


def test_who_has_ordered_nothing_reads_no_shares() -> None:
    """Of nothing there are no shares, and no favourites."""
    lines = texts.recommended(Recommendation(stats=OrderStats(total_dishes_available=40)), "en").splitlines()

    assert lines[1:] == ["", "Last 30 days: 0 orders"]


@pytest.mark.parametrize(
    ("orders", "locale", "words"),
    [
        (1, "en", "Last 30 days: 1 order"),
        (2, "en", "Last 30 days: 2 orders"),
        (1, "ru", "За последние 30 дней: 1 заказ"),
        (2, "ru", "За последние 30 дней: 2 заказа"),
        (11, "ru", "За последние 30 дней: 11 заказов"),
        (21, "ru", "За последние 30 дней: 21 заказ"),
    ],
)
def test_orders_are_declined(orders: int, locale: str, words: str) -> None:
    """The same for orders."""
    text = texts.recommended(Recommendation(stats=OrderStats(orders_count=orders)), locale)

    assert text.splitlines()[-1] == words


def test_a_rejection_without_a_reason_gives_none() -> None:
    """Where there is no reason nothing is said of one."""
    assert texts.rejected("Basil", "", "en") == texts.rejected("Basil", None, "en")


@pytest.mark.parametrize(
    ("seconds", "locale", "text"),
    [
        (1, "en", "Too many requests. Try again in 1 second."),
        (2, "en", "Too many requests. Try again in 2 seconds."),
        (21, "en", "Too many requests. Try again in 21 seconds."),
        (1, "ru", "Слишком много запросов. Попробуйте через 1 секунду."),
        (2, "ru", "Слишком много запросов. Попробуйте через 2 секунды."),
        (5, "ru", "Слишком много запросов. Попробуйте через 5 секунд."),
        (11, "ru", "Слишком много запросов. Попробуйте через 11 секунд."),
        (12, "ru", "Слишком много запросов. Попробуйте через 12 секунд."),
        (21, "ru", "Слишком много запросов. Попробуйте через 21 секунду."),
        (42, "ru", "Слишком много запросов. Попробуйте через 42 секунды."),
        (60, "ru", "Слишком много запросов. Попробуйте через 60 секунд."),
    ],
)
def test_numbers_are_declined(seconds: int, locale: str, text: str) -> None:
    """Each language has its own plural forms."""
    assert texts.too_many_requests(seconds, locale) == text


@pytest.mark.parametrize(
    ("minutes", "locale", "words"),
    [
        (1, "en", "within 1 minute."),
        (30, "en", "within 30 minutes."),
        (1, "ru", "за 1 минуту"),
        (2, "ru", "за 2 минуты"),
        (30, "ru", "за 30 минут "),
        (41, "ru", "за 41 минуту"),
    ],
)
def test_minutes_are_declined(minutes: int, locale: str, words: str) -> None:
    """The same for minutes."""
    assert words in texts.not_acknowledged("Basil", 12, "2026-11-24", minutes, locale)


@pytest.mark.parametrize(
    ("locale", "lines"),
    [
        ("en", ["Next deadline: Tue, 24 Nov, 10:30", "Last delivery: Mon, 23 Nov, 09:05"]),
        ("ru", ["Следующий срок: вт, 24 нояб., 10:30", "Последняя доставка: пн, 23 нояб., 09:05"]),
    ],
)
def test_times_of_a_status_are_the_cafes(locale: str, lines: list[str]) -> None:
    """Times are written as people in that language do, in the zone that they come in."""
    assert status_linked(locale).splitlines()[1:] == lines


def test_a_status_of_what_has_not_happened_says_so() -> None:
    """A cafe without a deadline or a delivery reads that there is none."""
    lines = status_linked("en", next_deadline=None, last_sent=None).splitlines()[1:]

    assert lines == ["Next deadline: none within a week", "Last delivery: none yet"]


def test_a_status_says_what_is_off() -> None:
    """A cafe that gets nothing reads why, before anything else."""
    lines = status_linked("en", is_active=False, enabled=False).splitlines()[1:3]

    assert [line[0] for line in lines] == ["⛔", "🔕"]


@each_locale
def test_who_has_read_it_fits_below_any_part(locale: str) -> None:
    """Each part of a message has room for the longest remark that may come to stand above or below it."""
    remarks = [texts.received(f"{TELEGRAM_NAME} {TELEGRAM_NAME}", CLOSING, locale), texts.repeated(locale)]

    assert max(utf16_length(parse_html(f"{remark}\n\n")[0]) for remark in remarks) <= ROOM_FOR_A_REMARK


@each_locale
@pytest.mark.parametrize("name", ON_BUTTONS)
def test_a_button_is_short_and_plain(name: str, locale: str) -> None:
    """Buttons have no markup, and stand two in a row on a telephone."""
    label = TEXTS[name](locale)

    assert len(label) <= 16
    assert not {"<", "&"} & set(label)


@each_locale
@pytest.mark.parametrize("name", IN_ALERTS)
def test_an_alert_is_short_and_plain(name: str, locale: str) -> None:
    """What answers a press has no markup, and is not longer than Telegram takes."""
    alert = TEXTS[name](locale)

    assert utf16_length(alert) <= CALLBACK_ANSWER_LENGTH
    assert not {"<", "&"} & set(alert)


@each_locale
def test_a_reminder_names_the_button_as_it_is(locale: str) -> None:
    """One who is asked to press a button finds it under that name."""
    assert f"«{texts.received_button(locale)}»" in texts.reminder("2026-11-24", locale)


def test_a_right_to_left_name_does_not_turn_the_time_round() -> None:
    """A name in Hebrew stands in an isolate: the time behind it stays behind it."""
    assert (
        texts.received("שרה", CLOSING, "ru")
        == "✅ Получено: \N{FIRST STRONG ISOLATE}שרה\N{POP DIRECTIONAL ISOLATE}, 10:30"
    )


def test_a_name_cannot_turn_the_text_round() -> None:
    """Characters that turn the direction of what follows are left out."""
    assert texts.approved_by("Eve\N{RIGHT-TO-LEFT OVERRIDE}", "en") == "✅ Approved by Eve"


@each_locale
def test_every_command_that_is_offered_is_explained(locale: str) -> None:
    """Telegram's menu and the help have the same commands."""
    explained = [line.split()[0] for line in texts.help_(locale).splitlines()]

    assert {f"/{command}" for command in texts.command_descriptions(locale)} == set(explained)


def test_the_menu_is_translated() -> None:
    """Each command is described to Russians in Russian."""
    english, russian = (texts.command_descriptions(locale) for locale in ("en", "ru"))

    assert [command for command in english if english[command] == russian[command]] == []


@pytest.mark.parametrize(
    ("tag", "locale"),
    [("ru", "ru"), ("ru-RU", "ru"), ("RU", "ru"), ("en-GB", "en"), ("de", "en"), ("", "en"), (None, "en"), ("-", "en")],
)
def test_a_language_tag_finds_its_locale(tag: str | None, locale: str) -> None:
    """Telegram tells the language of a person as an IETF tag, or not at all."""
    assert texts.locale_of(tag) == locale
