"""The texts, and their catalogues: complete, in step with each other and with the source, and what Telegram takes."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from string import Formatter

import pytest
from babel.messages import Catalog, Message
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from app.dev.telegram.chats import MESSAGE_LENGTH
from app.dev.telegram.formatting import parse_html, utf16_length
from app.models import Language
from app.models.tables import NAME_MAX_CHARACTERS
from app.resolvers.links import REASON_MAX_CHARACTERS
from app.telegram import texts

SOURCE = Path(texts.__file__).parent
RUSSIAN = SOURCE / "locales" / "ru" / "LC_MESSAGES" / "lunch_bot.po"
KEYWORDS: dict[str, tuple[int, ...] | None] = {"_": None, "_n": (1, 2)}
NASTY = '<b>Basil</b> & "Thyme" \'n {cafe} %s'

TEXTS: dict[str, Callable[[str], str]] = {
    "start": texts.start,
    "help": texts.help_,
    "link_usage": texts.link_usage,
    "requested": lambda locale: texts.requested(NASTY, locale),
    "no_such_cafe": lambda locale: texts.no_such_cafe(NASTY, locale),
    "cafe_already_linked": texts.cafe_already_linked,
    "chat_already_linked": texts.chat_already_linked,
    "too_many_requests": lambda locale: texts.too_many_requests(7, locale),
    "try_later": texts.try_later,
    "status_linked": lambda locale: texts.status_linked(NASTY, enabled=True, locale=locale),
    "status_linked, off": lambda locale: texts.status_linked(NASTY, enabled=False, locale=locale),
    "status_pending": lambda locale: texts.status_pending(NASTY, locale),
    "status_none": texts.status_none,
    "approved": lambda locale: texts.approved(NASTY, locale),
    "rejected": lambda locale: texts.rejected(NASTY, None, locale),
    "rejected, with a reason": lambda locale: texts.rejected(NASTY, NASTY, locale),
    "unlinked": lambda locale: texts.unlinked(NASTY, locale),
}


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


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_translated(text: Callable[[str], str]) -> None:
    """A Russian reads something else than an Englishman."""
    assert text("ru") != text("en")


@pytest.mark.parametrize("locale", Language)
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_text_is_html_that_telegram_takes(text: Callable[[str], str], locale: str) -> None:
    """Whatever people call their cafes, Telegram can parse what we say of them, and shows the name as it is."""
    shown, _entities = parse_html(text(locale))

    assert (NASTY in shown) == ("Basil" in text(locale))


@pytest.mark.parametrize("locale", Language)
def test_the_longest_text_fits_into_a_message(locale: str) -> None:
    """A rejection has the longest name and the longest reason in it, of characters that count double."""
    shown, _entities = parse_html(texts.rejected("🍲" * NAME_MAX_CHARACTERS, "🍲" * REASON_MAX_CHARACTERS, locale))

    assert utf16_length(shown) <= MESSAGE_LENGTH


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
    ("tag", "locale"),
    [("ru", "ru"), ("ru-RU", "ru"), ("RU", "ru"), ("en-GB", "en"), ("de", "en"), ("", "en"), (None, "en"), ("-", "en")],
)
def test_a_language_tag_finds_its_locale(tag: str | None, locale: str) -> None:
    """Telegram tells the language of a person as an IETF tag, or not at all."""
    assert texts.locale_of(tag) == locale
