"""Translation and formatting of Telegram texts.

The English text is the key of the other catalogues, in `locales/` (gettext, through aiogram's I18n). All texts are HTML as
Telegram defines it.
"""

import datetime as dt
import unicodedata
from html import escape as escape_html
from pathlib import Path

from aiogram.utils.i18n import I18n
from babel.dates import format_date, format_datetime

DEFAULT_LOCALE = "en"

FIRST_STRONG_ISOLATE, POP_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
RIGHT_TO_LEFT = {"R", "AL"}
DIRECTIONAL_CONTROLS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Characters that change the direction of the following text (https://www.unicode.org/reports/tr9/)."""

i18n = I18n(path=Path(__file__).parent / "locales", default_locale=DEFAULT_LOCALE, domain="lunch_bot")
"""The catalogues, read once. They never change, so they are not shared state."""


def locale_of(language_code: str | None) -> str:
    """Return the best available locale for an IETF language tag such as `ru-RU`."""
    language = (language_code or DEFAULT_LOCALE).split("-")[0].lower()
    return language if language in i18n.available_locales else DEFAULT_LOCALE


def _(message: str, locale: str) -> str:
    return i18n.gettext(message, locale=locale)


def _n(singular: str, plural: str, n: int, locale: str) -> str:
    return i18n.gettext(singular, plural, n, locale=locale)


def escape(text: str) -> str:
    """Escape text that users write, and isolate right-to-left text from its surroundings."""
    if not text.isascii():
        text = text.translate(DIRECTIONAL_CONTROLS)
        if any(unicodedata.bidirectional(character) in RIGHT_TO_LEFT for character in text):
            text = f"{FIRST_STRONG_ISOLATE}{text}{POP_ISOLATE}"
    return escape_html(text, quote=False)


def format_day(date: dt.date, locale: str) -> str:
    """Write a date in ISO format with its weekday."""
    return f"{date.isoformat()} ({format_date(date, 'EEEE', locale=locale)})"


def format_moment(time: dt.datetime, locale: str) -> str:
    return format_datetime(time, "EEE, d MMM, HH:mm", locale=locale)
