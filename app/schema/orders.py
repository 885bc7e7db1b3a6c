"""The GraphQL types of ordering: orders, when one can order, and what a cafe is to cook."""

import datetime as dt
from decimal import Decimal
from typing import Any, Self, cast

import strawberry

from app import models
from app.models import MenuCategory, OrderItem, OrderStatus
from app.resolvers import order_lines, summaries
from app.resolvers.deadlines import Availability, Refusal
from app.schema.operations import Info, given, selected
from app.schema.scalars import TelegramId, to_id
from app.schema.types import Cafe, User

strawberry.enum(OrderStatus, description="Pending until the deadline is announced to the cafe.")
strawberry.enum(Refusal, name="OrderRefusal", description="Why one cannot order.")

PARTS = {"user": {"user", "userName"}, "cafe": {"cafe", "cafeName"}, "items": {"dishes", "extras"}}
"""Which fields of an order need which part of it to be read."""


def parts_selected(info: Info) -> set[str]:
    """Return the parts of orders that are needed for what is asked for."""
    names = selected(info)
    return {part for part, fields in PARTS.items() if fields & names}


@strawberry.input(description="So many of an extra.")
class OrderExtraInput:
    menu_item_id: strawberry.ID
    quantity: int = 1


def order_fields(**arguments: Any) -> order_lines.OrderFields:
    """Read what is given of an order; what is null is for the operation to refuse."""
    fields = given(**arguments)
    if fields.get("combo_id") is not None:
        fields["combo_id"] = to_id("combo_id", fields["combo_id"])
    if fields.get("dish_ids") is not None:
        fields["dish_ids"] = [to_id("dish_ids", dish_id) for dish_id in fields["dish_ids"]]
    if fields.get("extras") is not None:
        fields["extras"] = [order_lines.Extra(to_id("extras", it.menu_item_id), it.quantity) for it in fields["extras"]]
    return cast("order_lines.OrderFields", fields)


@strawberry.type(description="The combo of an order, as it was when it was ordered.")
class OrderCombo:
    id: strawberry.ID
    name: str
    price: Decimal


@strawberry.type(description="A dish of an order, as it was when it was ordered. It is paid with the combo.")
class OrderDish:
    menu_item_id: strawberry.ID
    name: str
    category: MenuCategory

    @classmethod
    def of(cls, item: OrderItem) -> Self:
        return cls(menu_item_id=strawberry.ID(str(item.menu_item_id)), name=item.name, category=item.category)


@strawberry.type(description="An extra of an order, as it was when it was ordered.")
class OrderExtra:
    menu_item_id: strawberry.ID
    name: str
    price: Decimal = strawberry.field(description="Of one.")
    quantity: int

    @classmethod
    def of(cls, item: OrderItem) -> Self:
        assert item.price is not None
        return cls(
            menu_item_id=strawberry.ID(str(item.menu_item_id)),
            name=item.name,
            price=item.price,
            quantity=item.quantity,
        )


@strawberry.type(description="What a person eats on one day from one cafe.")
class Order:
    row: strawberry.Private[models.Order]
    id: strawberry.ID
    tgid: TelegramId = strawberry.field(description="Who eats it.")
    cafe_id: strawberry.ID
    date: dt.date = strawberry.field(description="Of the delivery.")
    status: OrderStatus
    combo: OrderCombo
    notes: str
    total_price: Decimal
    created_at: dt.datetime
    updated_at: dt.datetime

    @classmethod
    def of(cls, row: models.Order) -> Self:
        return cls(
            row=row,
            id=strawberry.ID(str(row.id)),
            tgid=TelegramId(row.user_tgid),
            cafe_id=strawberry.ID(str(row.cafe_id)),
            date=row.date,
            status=row.status,
            combo=OrderCombo(id=strawberry.ID(str(row.combo_id)), name=row.combo_name, price=row.combo_price),
            notes=row.notes,
            total_price=row.total_price,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @strawberry.field
    def user(self) -> User:
        return User.of(self.row.user)

    @strawberry.field
    def user_name(self) -> str:
        return self.row.user.name

    @strawberry.field
    def cafe(self, info: Info) -> Cafe:
        return Cafe.of(self.row.cafe, info.context)

    @strawberry.field
    def cafe_name(self) -> str:
        return self.row.cafe.name

    @strawberry.field
    def dishes(self) -> list[OrderDish]:
        return [OrderDish.of(item) for item in self.row.dishes]

    @strawberry.field
    def extras(self) -> list[OrderExtra]:
        return [OrderExtra.of(item) for item in self.row.extras]


@strawberry.type(description="Whether one can order from a cafe for a date.")
class OrderAvailability:
    cafe_id: strawberry.ID
    date: dt.date
    can_order: bool
    closes_at: dt.datetime | None = strawberry.field(
        description="When ordering closes, or has closed. Null if there is no delivery on that date."
    )
    seconds_left: int | None = strawberry.field(description="How long one can still order. Null if one cannot.")
    refusal: Refusal | None = strawberry.field(description="Why one cannot order. Null if one can.")

    @classmethod
    def of(cls, availability: Availability) -> Self:
        return cls(
            cafe_id=strawberry.ID(str(availability.cafe_id)),
            date=availability.date,
            can_order=availability.can_order,
            closes_at=availability.closes_at,
            seconds_left=availability.seconds_left,
            refusal=availability.refusal,
        )


@strawberry.type(description="How many of a dish.")
class SummaryDish:
    id: strawberry.ID
    name: str
    quantity: int

    @classmethod
    def of(cls, line: summaries.Line) -> Self:
        return cls(id=strawberry.ID(str(line.id)), name=line.name, quantity=line.quantity)


@strawberry.type(description="How many of a combo or an extra, and what they cost together.")
class SummaryLine:
    id: strawberry.ID
    name: str
    quantity: int
    amount: Decimal

    @classmethod
    def of(cls, line: summaries.Line) -> Self:
        return cls(id=strawberry.ID(str(line.id)), name=line.name, quantity=line.quantity, amount=line.amount)


@strawberry.type(description="The dishes of one category.")
class SummaryCategory:
    category: MenuCategory
    dishes: list[SummaryDish]


@strawberry.type(description="What a person wants the cafe to know.")
class SummaryNote:
    tgid: TelegramId
    user_name: str
    notes: str


@strawberry.type(description="The orders of a cafe and date, without the cancelled ones, added up.")
class OrderSummary:
    cafe_id: strawberry.ID
    cafe_name: str
    cafe: Cafe
    date: dt.date
    orders_count: int
    total_price: Decimal
    combos: list[SummaryLine]
    dishes: list[SummaryCategory]
    extras: list[SummaryLine]
    notes: list[SummaryNote]

    @classmethod
    def of(cls, summary: summaries.Summary, info: Info) -> Self:
        return cls(
            cafe_id=strawberry.ID(str(summary.cafe.id)),
            cafe_name=summary.cafe.name,
            cafe=Cafe.of(summary.cafe, info.context),
            date=summary.date,
            orders_count=summary.orders_count,
            total_price=summary.total_price,
            combos=[SummaryLine.of(line) for line in summary.combos],
            dishes=[
                SummaryCategory(category=of.category, dishes=[SummaryDish.of(line) for line in of.dishes])
                for of in summary.dishes
            ],
            extras=[SummaryLine.of(line) for line in summary.extras],
            notes=[
                SummaryNote(tgid=TelegramId(note.tgid), user_name=note.person, notes=note.notes)
                for note in summary.notes
            ],
        )
