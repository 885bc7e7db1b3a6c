"""Deadlines and availability: types, the field of a cafe, queries and mutations."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import strawberry

from app import models
from app.resolvers import deadlines as resolvers
from app.schema.connections import Connection
from app.schema.operations import Info, load, mutation, query
from app.schema.scalars import Id
from app.schema.types import input_type, output
from app.services import deadlines
from app.services.deadlines import Availability, Refusal
from app.services.pagination import Page, paginate_list

if TYPE_CHECKING:
    from app.schema.cafes import Cafe

strawberry.enum(Refusal, name="OrderRefusal", description="Why ordering is not possible.")


@output(models.DeadlineFields, description="The deadline for one weekday of delivery.")
class Deadline:
    pass


@input_type(models.DeadlineInput, description="The deadline for one weekday of delivery.")
class DeadlineInput:
    pass


@strawberry.type(description="Whether ordering from a cafe for a date is possible.")
class OrderAvailability:
    cafe_id: Id
    date: dt.date
    can_order: bool
    closes_at: dt.datetime | None = strawberry.field(
        description="When ordering closes, or has closed. Null if there is no delivery on that date."
    )
    seconds_left: int | None = strawberry.field(description="How long ordering is possible. Null if it is not.")
    refusal: Refusal | None = strawberry.field(description="Why ordering is not possible. Null if it is.")


@strawberry.type(description="The orders for a date on which the cafe does not deliver any more.")
class OrdersWithoutDelivery:
    date: dt.date
    orders_count: int


@dataclass(frozen=True)
class Week(Page[models.Deadline]):
    """The deadlines of a cafe, which are one page."""

    cafe_id: int


@strawberry.type(description="The week of a cafe.")
class DeadlineConnection(Connection[Deadline]):
    @query(resolvers.list_orders_without_delivery, list[OrdersWithoutDelivery])
    async def orders_without_delivery(
        root: strawberry.Parent[Week], info: Info
    ) -> Sequence[deadlines.OrdersWithoutDelivery]:
        return await load(info, resolvers.list_orders_without_delivery, root.cafe_id)


@strawberry.type
class CafeDeadlines:
    """The field of a cafe with its deadlines."""

    @query(resolvers.list_deadlines, DeadlineConnection | None)
    async def deadlines(root: strawberry.Parent[models.Cafe], info: Info) -> Week:
        page = paginate_list(await load(info, resolvers.list_deadlines, root.id), resolvers.BY_WEEKDAY)
        return Week(**vars(page), cafe_id=root.id)


@strawberry.type
class Query:
    @query(resolvers.get_order_availability, OrderAvailability)
    async def order_availability(self, info: Info, cafe_id: Id, date: dt.date) -> Availability:
        return await resolvers.get_order_availability(info.context, cafe_id, date)

    @query(resolvers.list_order_week, Connection[OrderAvailability])
    async def order_week(self, info: Info, cafe_id: Id) -> Page[Availability]:
        return paginate_list(await resolvers.list_order_week(info.context, cafe_id), resolvers.BY_DATE)


@strawberry.type
class Mutation:
    @mutation(resolvers.set_deadlines, Annotated["Cafe", strawberry.lazy("app.schema.cafes")])
    async def set_deadlines(self, info: Info, cafe_id: Id, deadlines: list[DeadlineInput]) -> models.Cafe:
        week = [models.DeadlineInput.collect(**vars(deadline)) for deadline in deadlines]
        return await resolvers.set_deadlines(info.context, cafe_id, week)

    @mutation(resolvers.announce_deadline, bool)
    async def announce_deadline(self, info: Info, cafe_id: Id, date: dt.date) -> bool:
        return await resolvers.announce_deadline(info.context, cafe_id, date)
