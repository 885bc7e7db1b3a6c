"""What people read in Telegram, in English and Russian.

The English text is the key of the other catalogues, in `locales/` (gettext, through aiogram's I18n). All texts are HTML in
Telegram's sense: what comes from people is escaped here.
"""

from html import escape
from pathlib import Path

from aiogram.utils.i18n import I18n

DEFAULT_LOCALE = "en"

i18n = I18n(path=Path(__file__).parent / "locales", default_locale=DEFAULT_LOCALE, domain="lunch_bot")
"""The catalogues, read once. They never change, so one for the process is no shared state."""


def locale_of(language_code: str | None) -> str:
    """Return the best locale that we have for an IETF language tag such as `ru-RU`."""
    language = (language_code or DEFAULT_LOCALE).split("-")[0].lower()
    return language if language in i18n.available_locales else DEFAULT_LOCALE


def _(message: str, locale: str) -> str:
    return i18n.gettext(message, locale=locale)


def _n(singular: str, plural: str, n: int, locale: str) -> str:
    return i18n.gettext(singular, plural, n, locale=locale)


def start(locale: str) -> str:
    return _(
        "👋 I bring cafes their lunch orders.\n"
        "\n"
        "Add me to your kitchen's chat and send /link with the number of your cafe, such as <code>/link 12</code>. "
        "A manager then approves it, and each day's orders come here.",
        locale,
    )


def help_(locale: str) -> str:
    return _(
        "/link <i>number</i> — ask for this chat to get a cafe's orders\n"
        "/status — what this chat is linked to\n"
        "/help — this list",
        locale,
    )


def link_usage(locale: str) -> str:
    return _("Send /link with the number of your cafe, such as <code>/link 12</code>.", locale)


def requested(cafe: str, locale: str) -> str:
    return _(
        "📨 Asked for this chat to get the orders of <b>{cafe}</b>. A manager will look at it soon.", locale
    ).format(cafe=escape(cafe))


def no_such_cafe(number: str, locale: str) -> str:
    return _("There is no cafe {number}.", locale).format(number=escape(number))


def cafe_already_linked(locale: str) -> str:
    return _("This cafe already sends its orders to a chat. Ask a manager to unlink it first.", locale)


def chat_already_linked(locale: str) -> str:
    return _("This chat already gets the orders of another cafe.", locale)


def too_many_requests(seconds: int, locale: str) -> str:
    return _n(
        "Too many requests. Try again in {seconds} second.",
        "Too many requests. Try again in {seconds} seconds.",
        seconds,
        locale,
    ).format(seconds=seconds)


def try_later(locale: str) -> str:
    return _("Something is not working on our side. Please try again in a few minutes.", locale)


def status_linked(cafe: str, *, enabled: bool, locale: str) -> str:
    text = (
        _("This chat gets the orders of <b>{cafe}</b>.", locale)
        if enabled
        else _("This chat is linked to <b>{cafe}</b>, but its notifications are switched off.", locale)
    )
    return text.format(cafe=escape(cafe))


def status_pending(cafe: str, locale: str) -> str:
    return _("The request for <b>{cafe}</b> is waiting for a manager.", locale).format(cafe=escape(cafe))


def status_none(locale: str) -> str:
    return _("This chat is not linked to a cafe. Send /link with the number of yours.", locale)


def approved(cafe: str, locale: str) -> str:
    return _("✅ Your request is approved: this chat now gets the orders of <b>{cafe}</b>.", locale).format(
        cafe=escape(cafe)
    )


def rejected(cafe: str, reason: str | None, locale: str) -> str:
    text = _("❌ Your request for <b>{cafe}</b> is rejected.", locale).format(cafe=escape(cafe))
    return text if not reason else f"{text}\n{_('Reason: {reason}', locale).format(reason=escape(reason))}"


def unlinked(cafe: str, locale: str) -> str:
    return _("🔌 This chat no longer gets the orders of <b>{cafe}</b>.", locale).format(cafe=escape(cafe))


def command_descriptions(locale: str) -> dict[str, str]:
    """The commands that Telegram offers in its menu."""
    return {
        "link": _("Ask for this chat to get a cafe's orders", locale),
        "status": _("What this chat is linked to", locale),
        "help": _("What I can do", locale),
    }
