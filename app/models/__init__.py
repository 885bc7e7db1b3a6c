"""The tables, the rules for one row, and the input models of each subject.

Importing this package loads all tables, as Alembic needs. It may import validation and errors.
"""

from app.models.cafes import Cafe, CafeChanges, CafeFields, CafeInput, Language
from app.models.columns import metadata
from app.models.deadlines import Deadline, DeadlineFields, DeadlineInput, DeliveryDay
from app.models.events import DeadLetter, Inbox, Outbox
from app.models.links import LinkRequest, LinkRequestFields, LinkRequestStatus
from app.models.menus import (
    Combo,
    ComboChanges,
    ComboFields,
    ComboInput,
    MenuCategory,
    MenuItem,
    MenuItemChanges,
    MenuItemFields,
    MenuItemInput,
)
from app.models.notifications import Notification, NotificationFields, NotificationKind, NotificationStatus
from app.models.orders import ExtraInput, Order, OrderChanges, OrderFields, OrderInput, OrderItem, OrderStatus
from app.models.recommendations import (
    GeminiUsage,
    ItemStatus,
    PauseReason,
    RecommendationItem,
    RecommendationRun,
    RunFields,
    RunStatus,
)
from app.models.users import Role, User, UserFields, UserInput

__all__ = [
    "Cafe",
    "CafeChanges",
    "CafeFields",
    "CafeInput",
    "Combo",
    "ComboChanges",
    "ComboFields",
    "ComboInput",
    "DeadLetter",
    "Deadline",
    "DeadlineFields",
    "DeadlineInput",
    "DeliveryDay",
    "ExtraInput",
    "GeminiUsage",
    "Inbox",
    "ItemStatus",
    "Language",
    "LinkRequest",
    "LinkRequestFields",
    "LinkRequestStatus",
    "MenuCategory",
    "MenuItem",
    "MenuItemChanges",
    "MenuItemFields",
    "MenuItemInput",
    "Notification",
    "NotificationFields",
    "NotificationKind",
    "NotificationStatus",
    "Order",
    "OrderChanges",
    "OrderFields",
    "OrderInput",
    "OrderItem",
    "OrderStatus",
    "Outbox",
    "PauseReason",
    "RecommendationItem",
    "RecommendationRun",
    "Role",
    "RunFields",
    "RunStatus",
    "User",
    "UserFields",
    "UserInput",
    "metadata",
]
