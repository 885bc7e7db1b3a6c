"""The kinds of notifications: the recipient, the text, the buttons, and whether the cafe must acknowledge it.

A new kind is a value of `NotificationKind`, an entry in `KINDS`, and a text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from aiogram.types import InlineKeyboardMarkup

from app.models import Notification, NotificationKind
from app.telegram import buttons, notification_texts, order_message
from app.telegram.i18n import DEFAULT_LOCALE
from app.telegram.notification_texts import NamedCafe

type Text = Callable[..., str | Sequence[str]]
"""Makes a text, or its parts, from a cafe, the facts and a locale."""


class Audience(Enum):
    """The recipient of a notification."""

    CAFE = auto()
    """A chat that is, was or will be the cafe's. The text is in the cafe's language."""
    MANAGERS = auto()
    """The managers' chat, if there is one."""


@dataclass(frozen=True)
class KindRules:
    """The rules of one kind of notification.

    Args:
        text: The text function. Alerts have several, so `notify` is given one.
        buttons: Makes the buttons under the last part.
        is_about_orders: Whether only the chat that the cafe has at the time of the delivery may get it.
        needs_acknowledgement: Whether the cafe must confirm it with «Received».
    """

    audience: Audience
    text: Text | None = None
    buttons: Callable[[Notification, str], InlineKeyboardMarkup] | None = None
    is_about_orders: bool = False
    needs_acknowledgement: bool = False


def _received_button(notification: Notification, locale: str) -> InlineKeyboardMarkup:
    return buttons.received(notification.id, locale)


def _decision_buttons(notification: Notification, locale: str) -> InlineKeyboardMarkup:
    assert notification.link_request_id is not None
    return buttons.decide(notification.link_request_id, locale)


KINDS: Mapping[NotificationKind, KindRules] = {
    NotificationKind.LINK_REQUESTED: KindRules(
        Audience.MANAGERS, notification_texts.link_requested, buttons=_decision_buttons
    ),
    NotificationKind.LINK_APPROVED: KindRules(Audience.CAFE, notification_texts.link_approved),
    NotificationKind.LINK_REJECTED: KindRules(Audience.CAFE, notification_texts.link_rejected),
    NotificationKind.UNLINKED: KindRules(Audience.CAFE, notification_texts.unlinked),
    NotificationKind.ORDERS: KindRules(
        Audience.CAFE,
        order_message.order_list,
        buttons=_received_button,
        is_about_orders=True,
        needs_acknowledgement=True,
    ),
    NotificationKind.CORRECTION: KindRules(
        Audience.CAFE,
        order_message.correction_text,
        buttons=_received_button,
        is_about_orders=True,
        needs_acknowledgement=True,
    ),
    NotificationKind.REMINDER: KindRules(Audience.CAFE, notification_texts.reminder, is_about_orders=True),
    NotificationKind.ALERT: KindRules(Audience.MANAGERS),
}

ACKNOWLEDGED_KINDS = tuple(kind for kind, rules in KINDS.items() if rules.needs_acknowledgement)


def locale_of_kind(kind: NotificationKind, cafe: NamedCafe) -> str:
    """The cafe's language; English for managers."""
    return DEFAULT_LOCALE if KINDS[kind].audience is Audience.MANAGERS else cafe.language


def render(kind: NotificationKind, cafe: NamedCafe, text: Text | None, facts: Mapping[str, object]) -> Sequence[str]:
    """Make the parts of a message, in Telegram's HTML, each at most 4,096 characters."""
    make = text or KINDS[kind].text
    assert make is not None
    made = make(cafe, **facts, locale=locale_of_kind(kind, cafe))
    return [made] if isinstance(made, str) else made
