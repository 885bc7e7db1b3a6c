"""The tables. Importing this package knows them all, as Alembic needs."""

from app.models.cafes import Cafe, Language
from app.models.deadlines import Deadline, DeliveryDay
from app.models.events import DeadLetter, Inbox, Outbox
from app.models.links import LinkRequest, LinkRequestStatus
from app.models.menus import Combo, MenuCategory, MenuItem
from app.models.notifications import Notification, NotificationKind, NotificationStatus
from app.models.orders import Order, OrderItem, OrderStatus
from app.models.recommendations import (
    GeminiUsage,
    ItemStatus,
    PauseReason,
    RecommendationItem,
    RecommendationRun,
    RunStatus,
)
from app.models.tables import metadata
from app.models.users import Role, User

__all__ = [
    "Cafe",
    "Combo",
    "DeadLetter",
    "Deadline",
    "DeliveryDay",
    "GeminiUsage",
    "Inbox",
    "ItemStatus",
    "Language",
    "LinkRequest",
    "LinkRequestStatus",
    "MenuCategory",
    "MenuItem",
    "Notification",
    "NotificationKind",
    "NotificationStatus",
    "Order",
    "OrderItem",
    "OrderStatus",
    "Outbox",
    "PauseReason",
    "RecommendationItem",
    "RecommendationRun",
    "Role",
    "RunStatus",
    "User",
    "metadata",
]
