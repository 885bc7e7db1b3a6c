"""The GraphQL types: plain objects, made from rows or from events, whose fields are attributes."""

import datetime as dt
from datetime import datetime, time
from decimal import Decimal
from typing import Self

import strawberry

from app import models
from app.context import Context
from app.events.messages import CafeSnapshot, LinkRequestEvent, NotificationEvent
from app.models import Language, LinkRequestStatus, MenuCategory, NotificationKind, NotificationStatus, Role
from app.resolvers import deadlines, menus, removal, sign_in
from app.resolvers.paging import DEFAULT_PAGE_SIZE, PageRequest, cut
from app.schema.connections import WHOLE, Connection
from app.schema.operations import Info, load, query
from app.schema.scalars import TelegramId

strawberry.enum(MenuCategory, description="What a menu item is: a dish of a combo, or an extra with its own price.")
strawberry.enum(LinkRequestStatus, description="Pending until a manager decides.")
strawberry.enum(NotificationKind, description="What a message is about.")
strawberry.enum(NotificationStatus, description="How far a message has come.")
strawberry.enum(Language, description="The language of the texts that a cafe gets.")
strawberry.enum(Role, description="What a person may do.")


def optional_telegram_id(value: int | None) -> TelegramId | None:
    return None if value is None else TelegramId(value)


@strawberry.type(description="A dish, or an extra, of a cafe.")
class MenuItem:
    id: strawberry.ID
    cafe_id: strawberry.ID
    name: str
    description: str
    category: MenuCategory
    price: Decimal | None = strawberry.field(description="Of an extra. A dish is paid with its combo.")
    is_available: bool
    created_at: datetime

    @classmethod
    def of(cls, item: models.MenuItem) -> Self:
        return cls(
            id=strawberry.ID(str(item.id)),
            cafe_id=strawberry.ID(str(item.cafe_id)),
            name=item.name,
            description=item.description,
            category=item.category,
            price=item.price,
            is_available=item.is_available,
            created_at=item.created_at,
        )


@strawberry.type(description="One dish of each of its categories, for one price.")
class Combo:
    id: strawberry.ID
    cafe_id: strawberry.ID
    name: str
    description: str
    categories: list[MenuCategory]
    price: Decimal
    is_available: bool
    created_at: datetime

    @classmethod
    def of(cls, combo: models.Combo) -> Self:
        return cls(
            id=strawberry.ID(str(combo.id)),
            cafe_id=strawberry.ID(str(combo.cafe_id)),
            name=combo.name,
            description=combo.description,
            categories=combo.categories,
            price=combo.price,
            is_available=combo.is_available,
            created_at=combo.created_at,
        )


@strawberry.type(description="Until when orders for one weekday's delivery are taken.")
class Deadline:
    weekday: int = strawberry.field(description="Of the delivery: 0 is Monday, 6 is Sunday.")
    deadline_time: time = strawberry.field(description="Local to the cafe's time zone.")
    is_enabled: bool = strawberry.field(description="Whether the cafe delivers on that weekday.")
    advance_days: int = strawberry.field(description="How many days before the delivery the deadline falls.")

    @classmethod
    def of(cls, deadline: models.Deadline) -> Self:
        return cls(
            weekday=deadline.weekday,
            deadline_time=deadline.deadline_time,
            is_enabled=deadline.is_enabled,
            advance_days=deadline.advance_days,
        )


@strawberry.input(description="Until when orders for one weekday's delivery are taken.")
class DeadlineInput:
    weekday: int = strawberry.field(description="Of the delivery: 0 is Monday, 6 is Sunday.")
    deadline_time: time = strawberry.field(description="Local to the cafe's time zone.")
    is_enabled: bool = True
    advance_days: int = 1

    def row(self) -> models.Deadline:
        return models.Deadline(
            weekday=self.weekday,
            deadline_time=self.deadline_time,
            is_enabled=self.is_enabled,
            advance_days=self.advance_days,
        )


@strawberry.type(description="What became of something that was to be deleted.")
class Deletion:
    id: strawberry.ID
    deleted: bool = strawberry.field(description="False if something refers to it: then it was kept and switched off.")
    message: str

    @classmethod
    def of(cls, removed: removal.Removal) -> Self:
        return cls(id=strawberry.ID(str(removed.id)), deleted=removed.is_deleted, message=removed.message)


@strawberry.type(
    description="A cafe that cooks lunch. The fields of its chat are for managers; others see null. A list that is not for "
    "who asks is null, with an error; the rest is there."
)
class Cafe:
    id: strawberry.ID
    name: str
    description: str
    is_active: bool = strawberry.field(description="Whether one can order there.")
    tg_chat_id: TelegramId | None = strawberry.field(description="The Telegram chat that gets its orders.")
    tg_username: str | None = strawberry.field(description="The name of that chat, without the @.")
    notifications_enabled: bool = strawberry.field(description="Whether orders are sent to the chat.")
    linked_at: datetime | None
    timezone: str = strawberry.field(description="A name of the IANA database, such as Europe/Berlin.")
    language: Language
    created_at: datetime

    @classmethod
    def of(cls, cafe: models.Cafe | CafeSnapshot, ctx: Context) -> Self:
        shown = ctx.sees_chats
        return cls(
            id=strawberry.ID(str(cafe.id)),
            name=cafe.name,
            description=cafe.description,
            is_active=cafe.is_active,
            tg_chat_id=optional_telegram_id(cafe.tg_chat_id) if shown else None,
            tg_username=cafe.tg_username if shown else None,
            notifications_enabled=cafe.notifications_enabled,
            linked_at=cafe.linked_at if shown else None,
            timezone=cafe.timezone,
            language=cafe.language,
            created_at=cafe.created_at,
        )

    @query(menus.menu_items)
    async def menu_items(
        self,
        info: Info,
        category: MenuCategory | None = None,
        is_available: bool | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Connection[MenuItem] | None:
        page = PageRequest(first, after, skip)
        items = menus.pick(await load(info, menus.menu_items, int(self.id)), category, is_available)
        return Connection.of(cut(items, menus.ITEMS, page), MenuItem.of, page)

    @query(menus.combos)
    async def combos(
        self, info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None, skip: int = 0
    ) -> Connection[Combo] | None:
        page = PageRequest(first, after, skip)
        return Connection.of(cut(await load(info, menus.combos, int(self.id)), menus.COMBOS, page), Combo.of, page)

    @query(deadlines.deadlines)
    async def deadlines(self, info: Info) -> Connection[Deadline] | None:
        week = await load(info, deadlines.deadlines, int(self.id))
        return Connection.of(cut(week, deadlines.BY_WEEKDAY, WHOLE), Deadline.of)


@strawberry.type(description="A chat's request to get a cafe's orders.")
class LinkRequest:
    id: strawberry.ID
    cafe: Cafe
    cafe_id: strawberry.ID
    cafe_name: str
    tg_chat_id: TelegramId
    tg_username: str | None
    status: LinkRequestStatus
    reason: str | None = strawberry.field(description="Why it was rejected, if a reason was given.")
    created_at: datetime
    processed_at: datetime | None
    processed_by: TelegramId | None = strawberry.field(description="The manager who decided.")

    @classmethod
    def of(cls, request: models.LinkRequest | LinkRequestEvent, ctx: Context) -> Self:
        return cls(
            id=strawberry.ID(str(request.id)),
            cafe=Cafe.of(request.cafe, ctx),
            cafe_id=strawberry.ID(str(request.cafe_id)),
            cafe_name=request.cafe_name,
            tg_chat_id=TelegramId(request.tg_chat_id),
            tg_username=request.tg_username,
            status=request.status,
            reason=request.reason,
            created_at=request.created_at,
            processed_at=request.processed_at,
            processed_by=optional_telegram_id(request.processed_by),
        )


@strawberry.type(description="A message to a chat.")
class Notification:
    id: strawberry.ID
    cafe: Cafe
    cafe_id: strawberry.ID
    cafe_name: str
    kind: NotificationKind
    date: dt.date | None = strawberry.field(description="Of the delivery that it is about, if it is about one.")
    version: int = strawberry.field(
        description="Of what a cafe is told about a date: 1 for the first list, then one more each."
    )
    tg_chat_id: TelegramId
    text: str = strawberry.field(description="Telegram's HTML.")
    status: NotificationStatus
    attempts: int
    error: str | None = strawberry.field(description="Why it failed.")
    created_at: datetime
    sent_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None = strawberry.field(description="Who has pressed «Received».")

    @classmethod
    def of(cls, notification: models.Notification | NotificationEvent, ctx: Context) -> Self:
        return cls(
            id=strawberry.ID(str(notification.id)),
            cafe=Cafe.of(notification.cafe, ctx),
            cafe_id=strawberry.ID(str(notification.cafe_id)),
            cafe_name=notification.cafe_name,
            kind=notification.kind,
            date=notification.date,
            version=notification.version,
            tg_chat_id=TelegramId(notification.tg_chat_id),
            text=notification.text,
            status=notification.status,
            attempts=notification.attempts,
            error=notification.error,
            created_at=notification.created_at,
            sent_at=notification.sent_at,
            acknowledged_at=notification.acknowledged_at,
            acknowledged_by=notification.acknowledged_by,
        )


@strawberry.type(description="A person who signs in with Telegram.")
class User:
    tgid: TelegramId
    name: str
    role: Role
    is_active: bool
    created_at: datetime

    @classmethod
    def of(cls, user: models.User) -> Self:
        return cls(
            tgid=TelegramId(user.tgid),
            name=user.name,
            role=user.role,
            is_active=user.is_active,
            created_at=user.created_at,
        )


@strawberry.type(description="A sign-in.")
class Authentication:
    token: str = strawberry.field(description="For the Authorization header: Bearer <token>.")
    expires_at: datetime
    user: User

    @classmethod
    def of(cls, authentication: sign_in.Authentication) -> Self:
        return cls(
            token=authentication.token,
            expires_at=authentication.expires_at,
            user=User.of(authentication.user),
        )
