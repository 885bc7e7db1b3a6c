"""The texts and their catalogues: complete, equal to the source, and acceptable for Telegram."""

import inspect
from collections.abc import Callable
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from string import Formatter
from types import ModuleType
from zoneinfo import ZoneInfo

import pytest
from aiogram.types import InlineKeyboardMarkup
from babel.messages import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from app.ai.prompts import SUMMARY_MAX_CHARACTERS, TIP_MAX_CHARACTERS, TIPS_MAX
from app.ai.recommendation import Recommendation
from app.ai.stats import FAVORITES_MAX, CategoryShares, FavoriteDish, OrderStats
from app.dev.telegram.chats import MESSAGE_LENGTH
from app.dev.telegram.formatting import parse_html, utf16_length
from app.errors import BadInput
from app.models import Cafe, Language
from app.resolvers import links
from app.telegram import buttons, i18n, notification_texts, texts
from app.telegram.order_message import REMARK_CHARACTERS
from app.validation import NAME_MAX_CHARACTERS, ArgumentValidator

SOURCE = Path(texts.__file__).parent
RUSSIAN = SOURCE / "locales" / "ru" / "LC_MESSAGES" / "lunch_bot.po"
KEYWORDS: dict[str, tuple[int, ...] | None] = {"_": None, "_n": (1, 2)}
NASTY = '<b>Basil</b> & "Thyme" \'n {cafe} %s'

CAFE = Cafe(id=12, name=NASTY)
DAY = date(2026, 11, 24)
REASON_MAX_CHARACTERS = 1000
"""The limit of `Reason`."""

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


def button_labels(keyboard: InlineKeyboardMarkup) -> list[str]:
    return [button.text for row in keyboard.inline_keyboard for button in row]


ANSWERS: dict[str, Callable[[str], str]] = {
    "start": texts.start,
    "help_": texts.help_,
    "link_usage": texts.link_usage,
    "link_requested": lambda locale: texts.link_requested(NASTY, locale),
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
    "received": lambda locale: texts.received(NASTY, CLOSING, locale),
    "already_received": texts.already_received,
    "wrong_chat": texts.wrong_chat,
    "unlink_question": lambda locale: texts.unlink_question(NASTY, locale),
    "still_linked": lambda locale: texts.still_linked(NASTY, locale),
    "approved_by": lambda locale: texts.approved_by(NASTY, locale),
    "rejected_by": lambda locale: texts.rejected_by(NASTY, locale),
    "only_managers": texts.only_managers,
    "already_processed": texts.already_processed,
    "cafe_taken": texts.cafe_taken,
    "chat_taken": texts.chat_taken,
    "recommended": lambda locale: texts.recommended(RECOMMENDATION, locale),
    "recommended, figures only": lambda locale: texts.recommended(Recommendation(stats=STATS), locale),
    "recommended, no orders": lambda locale: texts.recommended(Recommendation(stats=OrderStats()), locale),
    "only_in_private": texts.only_in_private,
    "unknown_user": texts.unknown_user,
    "deactivated": texts.deactivated,
}

NOTIFICATIONS: dict[str, Callable[[str], str]] = {
    "link_requested": lambda locale: notification_texts.link_requested(
        CAFE, chat_id=-1001, username=None, locale=locale
    ),
    "link_requested, with a username": lambda locale: notification_texts.link_requested(
        CAFE, chat_id=-1001, username="kitchen<b>", locale=locale
    ),
    "link_approved": lambda locale: notification_texts.link_approved(CAFE, locale=locale),
    "link_rejected": lambda locale: notification_texts.link_rejected(CAFE, reason=None, locale=locale),
    "link_rejected, with a reason": lambda locale: notification_texts.link_rejected(CAFE, reason=NASTY, locale=locale),
    "unlinked": lambda locale: notification_texts.unlinked(CAFE, locale=locale),
    "reminder": lambda locale: notification_texts.reminder(CAFE, day=DAY, locale=locale),
    "sent_again": notification_texts.sent_again,
    "chat_unreachable": lambda locale: notification_texts.chat_unreachable(CAFE, locale=locale),
    "may_not_write": lambda locale: notification_texts.may_not_write(CAFE, day=DAY, locale=locale),
    "topic_unavailable": lambda locale: notification_texts.topic_unavailable(CAFE, day=DAY, locale=locale),
    "chat_unlinked_itself": lambda locale: notification_texts.chat_unlinked_itself(CAFE, locale=locale),
    "no_recipient": lambda locale: notification_texts.no_recipient(CAFE, day=DAY, locale=locale),
    "orders_without_delivery": lambda locale: notification_texts.orders_without_delivery(
        CAFE, days=[(DAY, 1), (DAY, 22)], locale=locale
    ),
    "not_acknowledged": lambda locale: notification_texts.not_acknowledged(CAFE, day=DAY, minutes=30, locale=locale),
    "delayed": lambda locale: notification_texts.delayed(
        CAFE, day=DAY, until=datetime(2026, 11, 24, 9, 30, tzinfo=UTC), locale=locale
    ),
    "not_delivered": lambda locale: notification_texts.not_delivered(CAFE, day=DAY, error=NASTY, locale=locale),
}

KEYBOARDS: dict[str, Callable[[str], InlineKeyboardMarkup]] = {
    "received": lambda locale: buttons.received(1, locale),
    "unlink": lambda locale: buttons.unlink(1, locale),
    "decide": lambda locale: buttons.decide(1, locale),
}

BUTTONS: dict[str, Callable[[str], str]] = {
    f"{name}[{i}]": lambda locale, make=make, i=i: button_labels(make(locale))[i]  # type: ignore[misc]
    for name, make in KEYBOARDS.items()
    for i in range(len(button_labels(make("en"))))
}

TEXTS = {
    f"{module}.{name}": text
    for module, functions in (("texts", ANSWERS), ("notification_texts", NOTIFICATIONS), ("buttons", BUTTONS))
    for name, text in functions.items()
}

IN_ALERTS = [
    "already_received",
    "wrong_chat",
    "only_managers",
    "already_processed",
    "cafe_taken",
    "chat_taken",
    "try_later",
]

each_text = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
each_button = pytest.mark.parametrize("label", BUTTONS.values(), ids=BUTTONS)
each_locale = pytest.mark.parametrize("locale", Language)


@pytest.fixture(scope="module")
def russian() -> Catalog:
    """The Russian catalogue."""
    with RUSSIAN.open("rb") as file:
        return read_po(file, locale="ru", abort_invalid=True)


@pytest.fixture(scope="module")
def source() -> Catalog:
    """The messages of the source."""
    catalog = Catalog()
    for file, line, message, _comments, _context in extract_from_dir(SOURCE, keywords=KEYWORDS):
        catalog.add(message, locations=[(file, line)])
    return catalog


def strings(message: Message) -> tuple[str, ...]:
    """Return the translations of a message: one, or one for each plural form."""
    return tuple(message.string) if isinstance(message.string, tuple | list) else (message.string or "",)


def placeholders(text: str) -> set[str]:
    return {name for _literal, name, _spec, _conversion in Formatter().parse(text) if name is not None}


def messages(catalog: Catalog) -> list[Message]:
    return [message for message in catalog if message.id]


def localized_functions(module: ModuleType) -> set[str]:
    """Return the names of the public functions of a module that have a locale."""
    return {
        name
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__
        and not name.startswith("_")
        and "locale" in inspect.signature(function).parameters
    }


def test_every_text_is_tested() -> None:
    """The other tests cover every text that the bot has."""
    tested = {name.split(",")[0].split("[")[0] for name in TEXTS}

    assert {
        f"{name}.{function}"
        for name, module in (("texts", texts), ("notification_texts", notification_texts), ("buttons", buttons))
        for function in localized_functions(module)
    } - {"texts.command_descriptions"} == tested


def test_the_source_has_messages(source: Catalog) -> None:
    """The extraction finds the messages that the other tests compare with."""
    assert len(source) > len(TEXTS)


def test_the_catalogue_has_the_messages_of_the_source(source: Catalog, russian: Catalog) -> None:
    """The catalogue has exactly the messages of the source: run `make texts` to update it."""
    assert {message.id for message in messages(russian)} == {message.id for message in messages(source)}


def test_the_catalogue_has_no_obsolete_messages(russian: Catalog) -> None:
    """The catalogue does not keep old translations, because git does."""
    assert not russian.obsolete


def test_everything_is_translated(russian: Catalog) -> None:
    """Every message, in every plural form, has a checked translation."""
    assert [message.id for message in messages(russian) if message.fuzzy or not all(strings(message))] == []


def test_translations_have_the_placeholders_of_the_message(russian: Catalog) -> None:
    """Each plural form of a translation has the placeholders of its message."""
    wrong = [
        message.id
        for message in messages(russian)
        for string in strings(message)
        if placeholders(string) != placeholders(message.id if isinstance(message.id, str) else message.id[0])
    ]

    assert wrong == []


def test_translations_are_compiled(russian: Catalog) -> None:
    """The bot reads the present translations: run `make texts` to compile them."""
    compiled = BytesIO()
    write_mo(compiled, russian)

    assert RUSSIAN.with_suffix(".mo").read_bytes() == compiled.getvalue()


def test_every_language_of_a_cafe_has_texts() -> None:
    """Each language that a cafe can have has texts."""
    assert {language.value for language in Language} == {i18n.DEFAULT_LOCALE, *i18n.i18n.available_locales}


@each_text
def test_a_text_is_translated(text: Callable[[str], str]) -> None:
    """The Russian text is not the English one."""
    assert text("ru") != text("en")


@pytest.mark.parametrize("locale", Language)
@each_text
def test_a_text_is_html_that_telegram_accepts(text: Callable[[str], str], locale: str) -> None:
    """Telegram can parse a text with any cafe name, and shows the name unchanged."""
    shown, _entities = parse_html(text(locale))

    assert (NASTY in shown) == ("Basil" in text(locale))


@each_locale
def test_the_longest_text_fits_into_a_message(locale: str) -> None:
    """A rejection with the longest name and the longest reason fits, even if each character counts double."""
    shown, _entities = parse_html(
        notification_texts.link_rejected(
            Cafe(id=12, name="🍲" * NAME_MAX_CHARACTERS), reason="🍲" * REASON_MAX_CHARACTERS, locale=locale
        )
    )

    assert utf16_length(shown) <= MESSAGE_LENGTH


def test_the_longest_reason_is_tested() -> None:
    """A manager cannot give a longer reason than the tests use."""
    arguments = ArgumentValidator(links.reject)
    arguments.validate({"reason": "x" * REASON_MAX_CHARACTERS})

    with pytest.raises(BadInput):
        arguments.validate({"reason": "x" * (REASON_MAX_CHARACTERS + 1)})


@each_locale
def test_the_longest_recommendation_fits_into_a_message(locale: str) -> None:
    """The longest summary, tips and dish names fit, even if each character counts double."""
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
def test_a_recommendation_has_its_statistics(locale: str, lines: list[str]) -> None:
    """The statistics are below the summary and the tips."""
    shown, _entities = parse_html(texts.recommended(RECOMMENDATION, locale))

    assert shown.splitlines() == [f"🍽 You like {NASTY}.", f"• Try {NASTY}.", "• Have a salad.", "", *lines]


def test_a_user_without_orders_gets_no_shares() -> None:
    """Without orders there are no shares and no favourite dishes."""
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
def test_the_number_of_orders_has_its_plural_form(orders: int, locale: str, words: str) -> None:
    """The number of orders has the plural form of the language."""
    text = texts.recommended(Recommendation(stats=OrderStats(orders_count=orders)), locale)

    assert text.splitlines()[-1] == words


def test_a_rejection_without_a_reason_names_none() -> None:
    """A rejection without a reason has no line for it."""
    empty, missing = (notification_texts.link_rejected(CAFE, reason=reason, locale="en") for reason in ("", None))

    assert empty == missing
    assert "Reason" not in empty


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
def test_the_number_of_seconds_has_its_plural_form(seconds: int, locale: str, text: str) -> None:
    """The number of seconds has the plural form of the language."""
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
def test_the_number_of_minutes_has_its_plural_form(minutes: int, locale: str, words: str) -> None:
    """The number of minutes has the plural form of the language."""
    assert words in notification_texts.not_acknowledged(CAFE, day=DAY, minutes=minutes, locale=locale)


@pytest.mark.parametrize(
    ("locale", "lines"),
    [
        ("en", ["Next deadline: Tue, 24 Nov, 10:30", "Last delivery: Mon, 23 Nov, 09:05"]),
        ("ru", ["Следующий срок: вт, 24 нояб., 10:30", "Последняя доставка: пн, 23 нояб., 09:05"]),
    ],
)
def test_times_of_a_status_are_in_the_cafes_time_zone(locale: str, lines: list[str]) -> None:
    """Times have the format of the language, in the time zone that they have."""
    assert status_linked(locale).splitlines()[1:] == lines


def test_a_status_without_a_deadline_or_a_delivery_says_so() -> None:
    """A cafe without a deadline or a delivery reads that there is none."""
    lines = status_linked("en", next_deadline=None, last_sent=None).splitlines()[1:]

    assert lines == ["Next deadline: none within a week", "Last delivery: none yet"]


def test_a_status_begins_with_the_reason_for_no_orders() -> None:
    """A cafe that gets no orders reads the reason before everything else."""
    lines = status_linked("en", is_active=False, enabled=False).splitlines()[1:3]

    assert [line[0] for line in lines] == ["⛔", "🔕"]


@each_locale
def test_the_longest_remark_fits_into_any_part(locale: str) -> None:
    """Each part of a message has room for the longest remark above or below it."""
    remarks = [
        texts.received(f"{TELEGRAM_NAME} {TELEGRAM_NAME}", CLOSING, locale),
        notification_texts.sent_again(locale),
    ]

    assert max(utf16_length(parse_html(f"{remark}\n\n")[0]) for remark in remarks) <= REMARK_CHARACTERS


@each_locale
@each_button
def test_a_button_is_short_and_plain(label: Callable[[str], str], locale: str) -> None:
    """Button labels have no markup, and two of them fit into one row on a telephone."""
    text = label(locale)

    assert len(text) <= 16
    assert not {"<", "&"} & set(text)


@each_locale
@pytest.mark.parametrize("name", IN_ALERTS)
def test_an_alert_is_short_and_plain(name: str, locale: str) -> None:
    """The answer to a press has no markup, and is at most as long as Telegram allows."""
    alert = ANSWERS[name](locale)

    assert utf16_length(alert) <= CALLBACK_ANSWER_LENGTH
    assert not {"<", "&"} & set(alert)


@each_locale
def test_a_reminder_names_the_button(locale: str) -> None:
    """A reminder names the button as its label does."""
    [label] = button_labels(buttons.received(1, locale))

    assert f"«{label}»" in notification_texts.reminder(CAFE, day=DAY, locale=locale)


def test_a_right_to_left_name_is_isolated() -> None:
    """A name in Hebrew is isolated, so that the time stays behind it."""
    assert (
        texts.received("שרה", CLOSING, "ru")
        == "✅ Получено: \N{FIRST STRONG ISOLATE}שרה\N{POP DIRECTIONAL ISOLATE}, 10:30"
    )


def test_directional_controls_are_removed_from_a_name() -> None:
    """Characters that change the direction of the following text are removed."""
    assert texts.approved_by("Eve\N{RIGHT-TO-LEFT OVERRIDE}", "en") == "✅ Approved by Eve"


@each_locale
def test_the_help_has_every_command_of_the_menu(locale: str) -> None:
    """Telegram's menu and the help have the same commands."""
    explained = [line.split()[0] for line in texts.help_(locale).splitlines()]

    assert {f"/{command}" for command in texts.command_descriptions(locale)} == set(explained)


def test_the_menu_is_translated() -> None:
    """Each command has a Russian description."""
    english, russian = (texts.command_descriptions(locale) for locale in ("en", "ru"))

    assert [command for command in english if english[command] == russian[command]] == []


@pytest.mark.parametrize(
    ("tag", "locale"),
    [("ru", "ru"), ("ru-RU", "ru"), ("RU", "ru"), ("en-GB", "en"), ("de", "en"), ("", "en"), (None, "en"), ("-", "en")],
)
def test_a_language_tag_finds_its_locale(tag: str | None, locale: str) -> None:
    """An IETF language tag leads to its locale, and a missing or unknown one to English."""
    assert i18n.locale_of(tag) == locale
