"""What can be changed."""

import datetime as dt
from decimal import Decimal
from typing import cast

import strawberry
from strawberry import UNSET

from app.models import Language, MenuCategory, Role
from app.resolvers import cafes, deadlines, links, menus, notifications, orders, runs, sign_in, users
from app.resolvers.deadlines import set_deadlines
from app.schema.operations import Info, given, mutation
from app.schema.orders import Order, OrderExtraInput, order_fields
from app.schema.recommendations import RecommendationRun
from app.schema.scalars import TelegramId, to_id, to_optional_id
from app.schema.types import (
    Authentication,
    Cafe,
    Combo,
    DeadlineInput,
    Deletion,
    LinkRequest,
    MenuItem,
    Notification,
    User,
)

# ruff: noqa: A002 `id` is its name in the schema


@strawberry.type
class Mutation:
    @mutation(links.link_request)
    async def link_request(
        self, info: Info, cafe_id: strawberry.ID, tg_chat_id: TelegramId, tg_username: str | None = None
    ) -> LinkRequest:
        request = await links.link_request(info.context, to_id("cafe_id", cafe_id), tg_chat_id, tg_username)
        return LinkRequest.of(request, info.context)

    @mutation(links.approve)
    async def approve(self, info: Info, request_id: strawberry.ID) -> LinkRequest:
        return LinkRequest.of(await links.approve(info.context, to_id("request_id", request_id)), info.context)

    @mutation(links.reject)
    async def reject(self, info: Info, request_id: strawberry.ID, reason: str | None = None) -> LinkRequest:
        return LinkRequest.of(await links.reject(info.context, to_id("request_id", request_id), reason), info.context)

    @mutation(links.set_notifications)
    async def set_notifications(self, info: Info, cafe_id: strawberry.ID, enabled: bool) -> Cafe:
        cafe = await links.set_notifications(info.context, to_id("cafe_id", cafe_id), enabled=enabled)
        return Cafe.of(cafe, info.context)

    @mutation(links.unlink)
    async def unlink(self, info: Info, cafe_id: strawberry.ID) -> Cafe:
        return Cafe.of(await links.unlink(info.context, to_id("cafe_id", cafe_id)), info.context)

    @mutation(sign_in.authenticate)
    async def authenticate(self, info: Info, init_data: str) -> Authentication:
        return Authentication.of(await sign_in.authenticate(info.context, init_data))

    @mutation(users.create_user)
    async def create_user(self, info: Info, tgid: TelegramId, name: str) -> User:
        return User.of(await users.create_user(info.context, tgid, name))

    @mutation(users.create_manager)
    async def create_manager(self, info: Info, tgid: TelegramId, name: str) -> User:
        return User.of(await users.create_manager(info.context, tgid, name))

    @mutation(users.set_user_access)
    async def set_user_access(
        self, info: Info, tgid: TelegramId, is_active: bool | None = None, role: Role | None = None
    ) -> User:
        return User.of(await users.set_user_access(info.context, tgid, is_active, role))

    @mutation(users.delete_user)
    async def delete_user(self, info: Info, tgid: TelegramId) -> Deletion:
        return Deletion.of(await users.delete_user(info.context, tgid))

    @mutation(cafes.create_cafe)
    async def create_cafe(
        self, info: Info, name: str, description: str = "", timezone: str = "UTC", language: Language = Language.EN
    ) -> Cafe:
        fields = cafes.CafeFields(name=name, description=description, timezone=timezone, language=language)
        return Cafe.of(await cafes.create_cafe(info.context, fields), info.context)

    @mutation(cafes.update_cafe)
    async def update_cafe(
        self,
        info: Info,
        id: strawberry.ID,
        name: str | None = UNSET,
        description: str | None = UNSET,
        timezone: str | None = UNSET,
        language: Language | None = UNSET,
    ) -> Cafe:
        changes = given(name=name, description=description, timezone=timezone, language=language)
        cafe = await cafes.update_cafe(info.context, to_id("id", id), cast("cafes.CafeFields", changes))
        return Cafe.of(cafe, info.context)

    @mutation(cafes.set_cafe_status)
    async def set_cafe_status(self, info: Info, id: strawberry.ID, is_active: bool) -> Cafe:
        return Cafe.of(await cafes.set_cafe_status(info.context, to_id("id", id), is_active=is_active), info.context)

    @mutation(cafes.delete_cafe)
    async def delete_cafe(self, info: Info, id: strawberry.ID) -> Deletion:
        return Deletion.of(await cafes.delete_cafe(info.context, to_id("id", id)))

    @mutation(menus.create_menu_item)
    async def create_menu_item(
        self,
        info: Info,
        cafe_id: strawberry.ID,
        name: str,
        category: MenuCategory,
        price: Decimal | None = None,
        description: str = "",
        is_available: bool = True,
    ) -> MenuItem:
        fields = menus.MenuItemFields(
            name=name, category=category, price=price, description=description, is_available=is_available
        )
        return MenuItem.of(await menus.create_menu_item(info.context, to_id("cafe_id", cafe_id), fields))

    @mutation(menus.update_menu_item)
    async def update_menu_item(
        self,
        info: Info,
        id: strawberry.ID,
        cafe_id: strawberry.ID | None = None,
        name: str | None = UNSET,
        category: MenuCategory | None = UNSET,
        price: Decimal | None = UNSET,
        description: str | None = UNSET,
        is_available: bool | None = UNSET,
    ) -> MenuItem:
        changes = given(name=name, category=category, price=price, description=description, is_available=is_available)
        item = await menus.update_menu_item(
            info.context,
            to_id("id", id),
            to_optional_id("cafe_id", cafe_id),
            cast("menus.MenuItemFields", changes),
        )
        return MenuItem.of(item)

    @mutation(menus.delete_menu_item)
    async def delete_menu_item(self, info: Info, id: strawberry.ID, cafe_id: strawberry.ID | None = None) -> Deletion:
        return Deletion.of(
            await menus.delete_menu_item(info.context, to_id("id", id), to_optional_id("cafe_id", cafe_id))
        )

    @mutation(menus.create_combo)
    async def create_combo(
        self,
        info: Info,
        cafe_id: strawberry.ID,
        name: str,
        categories: list[MenuCategory],
        price: Decimal,
        description: str = "",
        is_available: bool = True,
    ) -> Combo:
        fields = menus.ComboFields(
            name=name, categories=categories, price=price, description=description, is_available=is_available
        )
        return Combo.of(await menus.create_combo(info.context, to_id("cafe_id", cafe_id), fields))

    @mutation(menus.update_combo)
    async def update_combo(
        self,
        info: Info,
        id: strawberry.ID,
        cafe_id: strawberry.ID | None = None,
        name: str | None = UNSET,
        categories: list[MenuCategory] | None = UNSET,
        price: Decimal | None = UNSET,
        description: str | None = UNSET,
        is_available: bool | None = UNSET,
    ) -> Combo:
        changes = given(
            name=name, categories=categories, price=price, description=description, is_available=is_available
        )
        combo = await menus.update_combo(
            info.context, to_id("id", id), to_optional_id("cafe_id", cafe_id), cast("menus.ComboFields", changes)
        )
        return Combo.of(combo)

    @mutation(menus.delete_combo)
    async def delete_combo(self, info: Info, id: strawberry.ID, cafe_id: strawberry.ID | None = None) -> Deletion:
        return Deletion.of(await menus.delete_combo(info.context, to_id("id", id), to_optional_id("cafe_id", cafe_id)))

    @mutation(deadlines.set_deadlines)
    async def set_deadlines(self, info: Info, cafe_id: strawberry.ID, deadlines: list[DeadlineInput]) -> Cafe:
        week = [deadline.row() for deadline in deadlines]
        return Cafe.of(await set_deadlines(info.context, to_id("cafe_id", cafe_id), week), info.context)

    @mutation(deadlines.announce_deadline)
    async def announce_deadline(self, info: Info, cafe_id: strawberry.ID, date: dt.date) -> bool:
        return await deadlines.announce_deadline(info.context, to_id("cafe_id", cafe_id), date)

    @mutation(notifications.retry_notification)
    async def retry_notification(self, info: Info, id: strawberry.ID) -> Notification:
        notification = await notifications.retry_notification(info.context, to_id("id", id))
        return Notification.of(notification, info.context)

    @mutation(orders.place_order)
    async def place_order(
        self,
        info: Info,
        cafe_id: strawberry.ID,
        date: dt.date,
        combo_id: strawberry.ID,
        dish_ids: list[strawberry.ID],
        extras: list[OrderExtraInput] = [],  # noqa: B006 Strawberry wants the default itself
        notes: str = "",
        tgid: TelegramId | None = None,
    ) -> Order:
        fields = order_fields(combo_id=combo_id, dish_ids=dish_ids, extras=extras, notes=notes)
        return Order.of(await orders.place_order(info.context, to_id("cafe_id", cafe_id), date, fields, tgid))

    @mutation(orders.update_order)
    async def update_order(
        self,
        info: Info,
        id: strawberry.ID,
        combo_id: strawberry.ID | None = UNSET,
        dish_ids: list[strawberry.ID] | None = UNSET,
        extras: list[OrderExtraInput] | None = UNSET,
        notes: str | None = UNSET,
    ) -> Order:
        changes = order_fields(combo_id=combo_id, dish_ids=dish_ids, extras=extras, notes=notes)
        return Order.of(await orders.update_order(info.context, to_id("id", id), changes))

    @mutation(orders.cancel_order)
    async def cancel_order(self, info: Info, id: strawberry.ID) -> Order:
        return Order.of(await orders.cancel_order(info.context, to_id("id", id)))

    @mutation(runs.start_recommendation_run)
    async def start_recommendation_run(self, info: Info) -> RecommendationRun:
        return RecommendationRun.of(await runs.start_recommendation_run(info.context))
