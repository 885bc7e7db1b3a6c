"""Order summaries: types and query."""

import datetime as dt
from decimal import Decimal

import strawberry

from app.models import MenuCategory
from app.resolvers import summaries as resolvers
from app.schema.cafes import Cafe
from app.schema.operations import Info, query
from app.schema.scalars import Id, TelegramId


@strawberry.type(description="The quantity of a combo that was ordered under one name, and the cost of all of them.")
class SummaryCombo:
    combo_id: Id
    name: str
    quantity: int
    amount: Decimal


@strawberry.type(description="The quantity of a dish that was ordered under one name.")
class SummaryDish:
    menu_item_id: Id
    name: str
    quantity: int


@strawberry.type(description="The quantity of an extra that was ordered under one name, and the cost of all of them.")
class SummaryExtra:
    menu_item_id: Id
    name: str
    quantity: int
    amount: Decimal


@strawberry.type(description="The dishes of one category.")
class SummaryCategory:
    category: MenuCategory
    dishes: list[SummaryDish]


@strawberry.type(description="A user's note to the cafe.")
class SummaryNote:
    tgid: TelegramId
    user_name: str
    notes: str


@strawberry.type(description="The orders of a cafe and date that are not cancelled, added up.")
class OrderSummary:
    cafe_id: Id
    cafe_name: str
    cafe: Cafe
    date: dt.date
    orders_count: int
    total_price: Decimal
    combos: list[SummaryCombo]
    dishes: list[SummaryCategory]
    extras: list[SummaryExtra]
    notes: list[SummaryNote]


@strawberry.type
class Query:
    @query(resolvers.get_order_summary, OrderSummary)
    async def order_summary(self, info: Info, cafe_id: Id, date: dt.date) -> resolvers.OrderSummary:
        return await resolvers.get_order_summary(info.context, cafe_id, date)
