"""The tables. Importing this package knows them all, as Alembic needs."""

from app.models.cafes import Cafe, Language
from app.models.events import DeadLetter, Inbox, Outbox
from app.models.links import LinkRequest, LinkRequestStatus
from app.models.notifications import Notification, NotificationKind, NotificationStatus
from app.models.tables import metadata
from app.models.users import Role, User

__all__ = [
    "Cafe",
    "DeadLetter",
    "Inbox",
    "Language",
    "LinkRequest",
    "LinkRequestStatus",
    "Notification",
    "NotificationKind",
    "NotificationStatus",
    "Outbox",
    "Role",
    "User",
    "metadata",
]
