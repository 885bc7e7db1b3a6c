"""The bot's answers in Telegram, in English and Russian."""

import datetime as dt

from babel.dates import format_time
from babel.numbers import format_percent

from app.ai.recommendation import Recommendation
from app.ai.stats import OrderStats
from app.telegram.i18n import _, _n, escape, format_moment

DISH_CHARACTERS = 100
"""How much of a favourite dish's name is shown, so that every recommendation fits into a message."""


def start(locale: str) -> str:
    return _(
        "👋 I bring cafes their lunch orders.\n"
        "\n"
        "Add me to your cafe's chat and send /link with the number of your cafe, such as <code>/link 12</code>. "
        "A manager then approves it, and you get each day's orders here.",
        locale,
    )


def help_(locale: str) -> str:
    return _(
        "/link <i>number</i> — ask for this chat to get a cafe's orders\n"
        "/status — what this chat is linked to\n"
        "/unlink — stop getting orders in this chat\n"
        "/recommendations — what I recommend you for lunch (in a private chat)\n"
        "/help — this list",
        locale,
    )


def link_usage(locale: str) -> str:
    return _("Send /link with the number of your cafe, such as <code>/link 12</code>.", locale)


def link_requested(cafe: str, locale: str) -> str:
    return _("📨 Asked for this chat to get the orders of <b>{cafe}</b>. A manager will decide soon.", locale).format(
        cafe=escape(cafe)
    )


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
    return _("Something does not work on our side. Please try again in a few minutes.", locale)


def status_linked(
    cafe: str,
    *,
    is_active: bool,
    enabled: bool,
    next_deadline: dt.datetime | None,
    last_sent: dt.datetime | None,
    locale: str,
) -> str:
    """`next_deadline` and `last_sent` are in the cafe's time zone."""
    lines = [_("This chat gets the orders of <b>{cafe}</b>.", locale).format(cafe=escape(cafe))]
    if not is_active:
        lines.append(_("⛔ The cafe is deactivated: it takes no orders.", locale))
    if not enabled:
        lines.append(_("🔕 Notifications are disabled: no orders are sent here.", locale))
    if next_deadline is None:
        lines.append(_("Next deadline: none within a week", locale))
    else:
        lines.append(_("Next deadline: {time}", locale).format(time=format_moment(next_deadline, locale)))
    if last_sent is None:
        lines.append(_("Last delivery: none yet", locale))
    else:
        lines.append(_("Last delivery: {time}", locale).format(time=format_moment(last_sent, locale)))
    return "\n".join(lines)


def status_pending(cafe: str, locale: str) -> str:
    return _("The request for <b>{cafe}</b> is waiting for a manager.", locale).format(cafe=escape(cafe))


def status_none(locale: str) -> str:
    return _("This chat is not linked to a cafe. Send /link with the number of yours.", locale)


def received(person: str, time: dt.datetime, locale: str) -> str:
    """The line under a confirmed message. `time` is in the cafe's time zone."""
    return _("✅ Received by {person} at {time}", locale).format(
        person=escape(person), time=format_time(time, "HH:mm", locale=locale)
    )


def already_received(locale: str) -> str:
    return _("This was already marked as received.", locale)


def wrong_chat(locale: str) -> str:
    return _("This button does not belong to this chat any more.", locale)


def unlink_question(cafe: str, locale: str) -> str:
    return _("Stop sending the orders of <b>{cafe}</b> to this chat?", locale).format(cafe=escape(cafe))


def still_linked(cafe: str, locale: str) -> str:
    return _("👍 This chat still gets the orders of <b>{cafe}</b>.", locale).format(cafe=escape(cafe))


def approved_by(person: str, locale: str) -> str:
    return _("✅ Approved by {person}", locale).format(person=escape(person))


def rejected_by(person: str, locale: str) -> str:
    return _("❌ Rejected by {person}", locale).format(person=escape(person))


def only_managers(locale: str) -> str:
    return _("Only a manager may do this.", locale)


def already_processed(locale: str) -> str:
    return _("This request is already decided.", locale)


def cafe_taken(locale: str) -> str:
    return _("The cafe already has a chat. Unlink it first, or reject this request.", locale)


def chat_taken(locale: str) -> str:
    return _("That chat already gets the orders of another cafe.", locale)


def recommended(recommendation: Recommendation, locale: str) -> str:
    """A user's recommendation with its statistics."""
    lines = [
        _(
            "There is no recommendation for you yet. I make recommendations at night, for users with enough orders.",
            locale,
        )
        if recommendation.summary is None
        else f"🍽 {escape(recommendation.summary)}",
        *(f"• {escape(tip)}" for tip in recommendation.tips),
    ]
    return "\n".join([*lines, "", *_statistics(recommendation.stats, locale)])


def _statistics(stats: OrderStats, locale: str) -> list[str]:
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
    lines.append(
        ", ".join(f"{name} {format_percent(shares[category], locale=locale)}" for category, name in names.items())
    )
    tried = _("{tried} of {all} dishes tried", locale)
    lines.append(tried.format(tried=stats.unique_dishes, all=stats.total_dishes_available))
    favorites = ", ".join(f"{escape(_short(dish.name))} ×{dish.count}" for dish in stats.favorite_dishes)
    lines.append(_("Most ordered: {dishes}", locale).format(dishes=favorites))
    return lines


def _short(name: str) -> str:
    return name if len(name) <= DISH_CHARACTERS else f"{name[: DISH_CHARACTERS - 1].rstrip()}…"


def only_in_private(locale: str) -> str:
    return _("Recommendations are private. Write /recommendations to me in a private chat.", locale)


def unknown_user(locale: str) -> str:
    return _("I do not know you yet. Ask a manager to add you to the lunch programme.", locale)


def deactivated(locale: str) -> str:
    return _("Your account in the lunch programme is deactivated. Ask a manager.", locale)


def command_descriptions(locale: str) -> dict[str, str]:
    """The commands in Telegram's menu."""
    return {
        "link": _("Ask for this chat to get a cafe's orders", locale),
        "status": _("What this chat is linked to", locale),
        "unlink": _("Stop getting orders in this chat", locale),
        "recommendations": _("What I recommend you for lunch", locale),
        "help": _("What I can do", locale),
    }
