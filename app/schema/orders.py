"""Orders: types, queries and mutations."""

import datetime as dt
from decimal import Decimal

import strawberry
from strawberry import UNSET

from app import models
from app.models import ExtraInput, MenuCategory, OrderChanges, OrderInput, OrderStatus
from app.resolvers import orders as resolvers
from app.resolvers.orders import OrderFilter
from app.schema.cafes import Cafe
from app.schema.connections import Connection
from app.schema.operations import Info, given, mutation, page_request, query, selected_names
from app.schema.scalars import Id, TelegramId
from app.schema.types import input_type, output
from app.schema.users import User
from app.services.pagination import DEFAULT_PAGE_SIZE, Page

# ruff: noqa: A002 `id` is the argument's name in the schema

strawberry.enum(OrderStatus, description="Pending until the day is announced to the cafe.")

FIELDS_OF_PARTS = {"user": {"user", "userName"}, "cafe": {"cafe", "cafeName"}, "items": {"dishes", "extras"}}
"""The fields that need a part of an order, by part."""


def selected_parts(info: Info) -> set[str]:
    """Return the parts of orders that the selected fields need."""
    names = set(selected_names(info, at_any_depth=True))
    return {part for part, fields in FIELDS_OF_PARTS.items() if fields & names}


@input_type(models.ExtraInput, description="A quantity of an extra.")
class OrderExtraInput:
    menu_item_id: Id


@strawberry.type(description="The combo of an order, with its name and price at that time.")
class OrderCombo:
    id: Id
    name: str
    price: Decimal


@strawberry.type(description="A dish of an order, with its name at that time. It is paid with the combo.")
class OrderDish:
    menu_item_id: Id
    name: str
    category: MenuCategory


@strawberry.type(description="An extra of an order, with its name and price at that time.")
class OrderExtra:
    menu_item_id: Id
    name: str
    price: Decimal = strawberry.field(description="The price of one.")
    quantity: int


@output(models.orders.OrderFields, description="A user's order for one day from one cafe.")
class Order:
    id: Id
    tgid: TelegramId = strawberry.field(description="The user.")
    user: User
    user_name: str
    cafe: Cafe
    cafe_name: str
    combo: OrderCombo
    dishes: list[OrderDish]
    extras: list[OrderExtra]


def _extras(extras: list[OrderExtraInput] | None) -> object:
    """Collect extras without validation; null and a missing value stay."""
    return [ExtraInput.collect(**vars(extra)) for extra in extras] if extras else extras


@strawberry.type
class Query:
    @query(resolvers.get_order, Order)
    async def order(self, info: Info, id: Id) -> models.Order:
        return await resolvers.get_order(info.context, id, selected_parts(info))

    @query(resolvers.list_orders, Connection[Order])
    async def orders(
        self,
        info: Info,
        tgid: TelegramId | None = None,
        cafe_id: Id | None = None,
        from_date: dt.date | None = None,
        to_date: dt.date | None = None,
        status: OrderStatus | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Page[models.Order]:
        page = page_request(info, first, after, skip)
        wanted = given(OrderFilter, cafe_id=cafe_id, from_date=from_date, to_date=to_date, status=status)
        return await resolvers.list_orders(info.context, page, wanted, tgid, selected_parts(info))


@strawberry.type
class Mutation:
    @mutation(resolvers.place_order, Order)
    async def place_order(
        self,
        info: Info,
        cafe_id: Id,
        date: dt.date,
        combo_id: Id,
        dish_ids: list[Id],
        extras: list[OrderExtraInput] = [],  # noqa: B006 Strawberry needs the default value itself
        notes: str = "",
        tgid: TelegramId | None = None,
    ) -> models.Order:
        contents = given(OrderInput, combo_id=combo_id, dish_ids=dish_ids, extras=_extras(extras), notes=notes)
        return await resolvers.place_order(info.context, cafe_id, date, contents, tgid)

    @mutation(resolvers.update_order, Order)
    async def update_order(
        self,
        info: Info,
        id: Id,
        combo_id: Id | None = UNSET,
        dish_ids: list[Id] | None = UNSET,
        extras: list[OrderExtraInput] | None = UNSET,
        notes: str | None = UNSET,
    ) -> models.Order:
        changes = given(OrderChanges, combo_id=combo_id, dish_ids=dish_ids, extras=_extras(extras), notes=notes)
        return await resolvers.update_order(info.context, id, changes)

    @mutation(resolvers.cancel_order, Order)
    async def cancel_order(self, info: Info, id: Id) -> models.Order:
        return await resolvers.cancel_order(info.context, id)
