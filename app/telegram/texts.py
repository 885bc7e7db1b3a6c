"""What people read in Telegram, in English and Russian.

The English text is the key of the other catalogues, in `locales/` (gettext, through aiogram's I18n). All texts are HTML in
Telegram's sense: what comes from people is escaped here.
"""

import unicodedata
from datetime import datetime
from html import escape
from pathlib import Path

from aiogram.utils.i18n import I18n
from babel.dates import format_datetime, format_time
from babel.numbers import format_percent

from app.ai.recommendation import Recommendation
from app.ai.stats import OrderStats

DEFAULT_LOCALE = "en"

FIRST_STRONG_ISOLATE, POP_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"
RIGHT_TO_LEFT = {"R", "AL"}
DIRECTIONAL_CONTROLS = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])
"""Characters that turn the direction of what follows (https://www.unicode.org/reports/tr9/)."""

DISH_CHARACTERS = 100
"""How much is shown of a favourite dish's name: so a recommendation fits into a message, whatever it is made of."""

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


def safe(text: str) -> str:
    """Escape what comes from people, and keep right-to-left text from turning its surroundings round."""
    text = text.translate(DIRECTIONAL_CONTROLS)
    if any(unicodedata.bidirectional(character) in RIGHT_TO_LEFT for character in text):
        text = f"{FIRST_STRONG_ISOLATE}{text}{POP_ISOLATE}"
    return escape(text, quote=False)


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
        "/unlink — stop getting orders in this chat\n"
        "/recommendations — what I recommend you for lunch (only between the two of us)\n"
        "/help — this list",
        locale,
    )


def link_usage(locale: str) -> str:
    return _("Send /link with the number of your cafe, such as <code>/link 12</code>.", locale)


def requested(cafe: str, locale: str) -> str:
    return _(
        "📨 Asked for this chat to get the orders of <b>{cafe}</b>. A manager will look at it soon.", locale
    ).format(cafe=safe(cafe))


def no_such_cafe(number: str, locale: str) -> str:
    return _("There is no cafe {number}.", locale).format(number=safe(number))


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


def status_linked(
    cafe: str,
    *,
    is_active: bool,
    enabled: bool,
    next_deadline: datetime | None,
    last_sent: datetime | None,
    locale: str,
) -> str:
    """`next_deadline` and `last_sent` are in the cafe's time zone."""
    lines = [_("This chat gets the orders of <b>{cafe}</b>.", locale).format(cafe=safe(cafe))]
    if not is_active:
        lines.append(_("⛔ The cafe is switched off: it takes no orders.", locale))
    if not enabled:
        lines.append(_("🔕 Notifications are switched off: no orders are sent here.", locale))
    if next_deadline is None:
        lines.append(_("Next deadline: none within a week", locale))
    else:
        lines.append(_("Next deadline: {time}", locale).format(time=_time(next_deadline, locale)))
    if last_sent is None:
        lines.append(_("Last delivery: none yet", locale))
    else:
        lines.append(_("Last delivery: {time}", locale).format(time=_time(last_sent, locale)))
    return "\n".join(lines)


def _time(time: datetime, locale: str) -> str:
    return format_datetime(time, "EEE, d MMM, HH:mm", locale=locale)


def status_pending(cafe: str, locale: str) -> str:
    return _("The request for <b>{cafe}</b> is waiting for a manager.", locale).format(cafe=safe(cafe))


def status_none(locale: str) -> str:
    return _("This chat is not linked to a cafe. Send /link with the number of yours.", locale)


def approved(cafe: str, locale: str) -> str:
    return _("✅ Your request is approved: this chat now gets the orders of <b>{cafe}</b>.", locale).format(
        cafe=safe(cafe)
    )


def rejected(cafe: str, reason: str | None, locale: str) -> str:
    text = _("❌ Your request for <b>{cafe}</b> is rejected.", locale).format(cafe=safe(cafe))
    return text if not reason else f"{text}\n{_('Reason: {reason}', locale).format(reason=safe(reason))}"


def unlinked(cafe: str, locale: str) -> str:
    return _("🔌 This chat no longer gets the orders of <b>{cafe}</b>.", locale).format(cafe=safe(cafe))


def received_button(locale: str) -> str:
    return _("Received", locale)


def received(person: str, time: datetime, locale: str) -> str:
    """What stands under a message once somebody in the kitchen has read it. `time` is in the cafe's time zone."""
    return _("✅ Received by {person} at {time}", locale).format(
        person=safe(person), time=format_time(time, "HH:mm", locale=locale)
    )


def received_already(locale: str) -> str:
    return _("This was marked as received before.", locale)


def not_of_this_chat(locale: str) -> str:
    return _("This button does not belong to this chat any more.", locale)


def reminder(date: str, locale: str) -> str:
    return _(
        "⏰ The orders for {date} are not marked as received yet. Please press «Received» under them.", locale
    ).format(date=date)


def repeated(locale: str) -> str:
    """What stands above a message that may have been sent before."""
    return _("🔁 <i>Sent again: the first time may not have reached you.</i>", locale)


def unlink_question(cafe: str, locale: str) -> str:
    return _("Stop sending the orders of <b>{cafe}</b> to this chat?", locale).format(cafe=safe(cafe))


def unlink_button(locale: str) -> str:
    return _("Yes, unlink", locale)


def keep_button(locale: str) -> str:
    return _("No, keep it", locale)


def kept(cafe: str, locale: str) -> str:
    return _("👍 This chat goes on getting the orders of <b>{cafe}</b>.", locale).format(cafe=safe(cafe))


def approve_button(locale: str) -> str:
    return _("Approve", locale)


def reject_button(locale: str) -> str:
    return _("Reject", locale)


def link_requested(cafe: str, cafe_id: int, chat_id: int, username: str | None, locale: str) -> str:
    who = f"@{safe(username)}" if username else f"<code>{chat_id}</code>"
    return _("📨 {chat} asks for the orders of <b>{cafe}</b> (cafe {cafe_id}).", locale).format(
        chat=who, cafe=safe(cafe), cafe_id=cafe_id
    )


def approved_by(person: str, locale: str) -> str:
    return _("✅ Approved by {person}", locale).format(person=safe(person))


def rejected_by(person: str, locale: str) -> str:
    return _("❌ Rejected by {person}", locale).format(person=safe(person))


def only_managers(locale: str) -> str:
    return _("Only a manager may do this.", locale)


def processed_already(locale: str) -> str:
    return _("This request has been decided already.", locale)


def cafe_taken(locale: str) -> str:
    return _("The cafe has a chat already. Unlink it first, or reject this request.", locale)


def chat_taken(locale: str) -> str:
    return _("That chat already gets the orders of another cafe.", locale)


def chat_gone(cafe: str, cafe_id: int, locale: str) -> str:
    return _(
        "🚨 The chat of <b>{cafe}</b> (cafe {cafe_id}) cannot be reached any more: the bot was blocked or removed. "
        "The cafe is unlinked and gets no orders until a chat is linked again.",
        locale,
    ).format(cafe=safe(cafe), cafe_id=cafe_id)


def nobody_to_tell(cafe: str, cafe_id: int, date: str, locale: str) -> str:
    return _(
        "🚨 There are orders of <b>{cafe}</b> (cafe {cafe_id}) for {date}, and no chat to send them to, or the cafe is "
        "switched off. Once it is linked and on, they are sent.",
        locale,
    ).format(cafe=safe(cafe), cafe_id=cafe_id, date=date)


def chat_has_left(cafe: str, cafe_id: int, locale: str) -> str:
    return _("🔌 The chat of <b>{cafe}</b> (cafe {cafe_id}) has unlinked itself.", locale).format(
        cafe=safe(cafe), cafe_id=cafe_id
    )


def not_acknowledged(cafe: str, cafe_id: int, date: str, minutes: int, locale: str) -> str:
    return _n(
        "🚨 <b>{cafe}</b> (cafe {cafe_id}) has not marked the orders for {date} as received within {minutes} minute.",
        "🚨 <b>{cafe}</b> (cafe {cafe_id}) has not marked the orders for {date} as received within {minutes} minutes.",
        minutes,
        locale,
    ).format(cafe=safe(cafe), cafe_id=cafe_id, date=date, minutes=minutes)


def not_delivered(cafe: str, cafe_id: int, date: str, error: str, locale: str) -> str:
    return _("🚨 The orders for {date} could not be sent to <b>{cafe}</b> (cafe {cafe_id}): {error}", locale).format(
        cafe=safe(cafe), cafe_id=cafe_id, date=date, error=safe(error)
    )


def recommended(recommendation: Recommendation, locale: str) -> str:
    """What a person is recommended, and the figures behind it."""
    lines = [
        _("There is no recommendation for you yet. I make them at night, once you have some orders.", locale)
        if recommendation.summary is None
        else f"🍽 {safe(recommendation.summary)}",
        *(f"• {safe(tip)}" for tip in recommendation.tips),
    ]
    return "\n".join([*lines, "", *_figures(recommendation.stats, locale)])


def _figures(stats: OrderStats, locale: str) -> list[str]:
    orders = _n("Last 30 days: {n} order", "Last 30 days: {n} orders", stats.orders_count, locale)
    lines = [orders.format(n=stats.orders_count)]
    if not stats.favorite_dishes:
        return lines
    names = {
        "soup": _("soups", locale),
        "salad": _("salads", locale),
        "main": _("mains", locale),
        "extra": _("extras", locale),
    }
    shares = stats.categories.model_dump()
    lines.append(", ".join(f"{name} {format_percent(shares[it], locale=locale)}" for it, name in names.items()))
    tried = _("{tried} of {all} dishes tried", locale)
    lines.append(tried.format(tried=stats.unique_dishes, all=stats.total_dishes_available))
    favorites = ", ".join(f"{safe(_short(dish.name))} ×{dish.count}" for dish in stats.favorite_dishes)
    lines.append(_("Most ordered: {dishes}", locale).format(dishes=favorites))
    return lines


def _short(name: str) -> str:
    return name if len(name) <= DISH_CHARACTERS else f"{name[: DISH_CHARACTERS - 1].rstrip()}…"


def only_in_private(locale: str) -> str:
    return _("That is between the two of us: write /recommendations to me in a private chat.", locale)


def not_known(locale: str) -> str:
    return _("I do not know you yet. Ask a manager to add you to the lunch programme.", locale)


def switched_off(locale: str) -> str:
    return _("You are switched off in the lunch programme. Ask a manager.", locale)


def command_descriptions(locale: str) -> dict[str, str]:
    """The commands that Telegram offers in its menu."""
    return {
        "link": _("Ask for this chat to get a cafe's orders", locale),
        "status": _("What this chat is linked to", locale),
        "unlink": _("Stop getting orders in this chat", locale),
        "recommendations": _("What I recommend you for lunch", locale),
        "help": _("What I can do", locale),
    }
