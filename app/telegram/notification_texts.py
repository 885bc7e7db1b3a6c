"""The texts of notifications, in English and Russian. `app.services.notification_kinds` says which kind has which text."""

import datetime as dt
from collections.abc import Sequence
from typing import Protocol

from app.telegram.i18n import _, _n, escape, format_day, format_moment


class NamedCafe(Protocol):
    """A cafe, as far as notifications need it."""

    @property
    def id(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def language(self) -> str: ...


def link_requested(cafe: NamedCafe, *, chat_id: int, username: str | None, locale: str) -> str:
    chat = f"@{escape(username)}" if username else f"<code>{chat_id}</code>"
    return _("📨 {chat} asks for the orders of <b>{cafe}</b> (cafe {cafe_id}).", locale).format(
        chat=chat, cafe=escape(cafe.name), cafe_id=cafe.id
    )


def link_approved(cafe: NamedCafe, *, locale: str) -> str:
    return _("✅ Your request is approved: this chat now gets the orders of <b>{cafe}</b>.", locale).format(
        cafe=escape(cafe.name)
    )


def link_rejected(cafe: NamedCafe, *, reason: str | None, locale: str) -> str:
    text = _("❌ Your request for <b>{cafe}</b> is rejected.", locale).format(cafe=escape(cafe.name))
    return text if not reason else f"{text}\n{_('Reason: {reason}', locale).format(reason=escape(reason))}"


def unlinked(cafe: NamedCafe, *, locale: str) -> str:
    return _("🔌 This chat no longer gets the orders of <b>{cafe}</b>.", locale).format(cafe=escape(cafe.name))


def reminder(_cafe: NamedCafe, *, day: dt.date, locale: str) -> str:
    return _(
        "⏰ The orders for {date} are not marked as received yet. Please press «Received» under them.", locale
    ).format(date=day)


def sent_again(locale: str) -> str:
    """The line above a message whose first delivery is unknown."""
    return _("🔁 <i>Sent again: the first time may not have reached you.</i>", locale)


def chat_unreachable(cafe: NamedCafe, *, locale: str) -> str:
    return _(
        "🚨 The chat of <b>{cafe}</b> (cafe {cafe_id}) cannot be reached any more: the bot was blocked or removed. "
        "The cafe is unlinked and gets no orders until a chat is linked again.",
        locale,
    ).format(cafe=escape(cafe.name), cafe_id=cafe.id)


def may_not_write(cafe: NamedCafe, *, day: dt.date, locale: str) -> str:
    return _(
        "🚨 The bot may not write to the chat of <b>{cafe}</b> (cafe {cafe_id}), so it cannot send the orders for {date}. "
        "Ask the cafe to allow the bot to send messages, or to make it an administrator of the chat.",
        locale,
    ).format(cafe=escape(cafe.name), cafe_id=cafe.id, date=day)


def topic_unavailable(cafe: NamedCafe, *, day: dt.date, locale: str) -> str:
    return _(
        "⚠ The topic of <b>{cafe}</b> (cafe {cafe_id}) in its chat is closed or deleted. The orders for {date} go to the "
        "chat itself. To use a topic, ask the cafe to open it again, or unlink the cafe and send /link in another one.",
        locale,
    ).format(cafe=escape(cafe.name), cafe_id=cafe.id, date=day)


def chat_unlinked_itself(cafe: NamedCafe, *, locale: str) -> str:
    return _("🔌 The chat of <b>{cafe}</b> (cafe {cafe_id}) has unlinked itself.", locale).format(
        cafe=escape(cafe.name), cafe_id=cafe.id
    )


def no_recipient(cafe: NamedCafe, *, day: dt.date, locale: str) -> str:
    return _(
        "🚨 <b>{cafe}</b> (cafe {cafe_id}) has orders for {date}, but no chat, or it is deactivated. "
        "The orders are sent as soon as it has a chat and is active.",
        locale,
    ).format(cafe=escape(cafe.name), cafe_id=cafe.id, date=day)


def orders_without_delivery(cafe: NamedCafe, *, days: Sequence[tuple[dt.date, int]], locale: str) -> str:
    """Name the days with their numbers of orders."""
    text = _(
        "🚨 <b>{cafe}</b> (cafe {cafe_id}) does not deliver on these days any more, but has orders for them. "
        "They are not sent to the cafe. Cancel them, or set a deadline for the weekday.",
        locale,
    ).format(cafe=escape(cafe.name), cafe_id=cafe.id)
    lines = [
        "• {day}: {orders}".format(
            day=format_day(date, locale),
            orders=_n("{number} order", "{number} orders", number, locale).format(number=number),
        )
        for date, number in days
    ]
    return "\n".join([text, *lines])


def not_acknowledged(cafe: NamedCafe, *, day: dt.date, minutes: int, locale: str) -> str:
    return _n(
        "🚨 <b>{cafe}</b> (cafe {cafe_id}) has not marked the orders for {date} as received within {minutes} minute.",
        "🚨 <b>{cafe}</b> (cafe {cafe_id}) has not marked the orders for {date} as received within {minutes} minutes.",
        minutes,
        locale,
    ).format(cafe=escape(cafe.name), cafe_id=cafe.id, date=day, minutes=minutes)


def delayed(cafe: NamedCafe, *, day: dt.date, until: dt.datetime, locale: str) -> str:
    """`until` is in the cafe's time zone."""
    return _(
        "🚨 The orders for {date} reach <b>{cafe}</b> (cafe {cafe_id}) late: Telegram accepts no messages for its chat "
        "before {time}. They are sent then. Please call the cafe if that is too late.",
        locale,
    ).format(cafe=escape(cafe.name), cafe_id=cafe.id, date=day, time=format_moment(until, locale))


def not_delivered(cafe: NamedCafe, *, day: dt.date, error: str, locale: str) -> str:
    return _("🚨 The orders for {date} could not be sent to <b>{cafe}</b> (cafe {cafe_id}): {error}", locale).format(
        cafe=escape(cafe.name), cafe_id=cafe.id, date=day, error=escape(error)
    )
