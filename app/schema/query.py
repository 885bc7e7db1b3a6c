"""What can be read."""

import datetime as dt

import strawberry

from app.models import LinkRequestStatus, NotificationStatus, OrderStatus, Role
from app.resolvers import (
    cafes,
    deadlines,
    gemini_keys,
    links,
    notifications,
    orders,
    recommendations,
    runs,
    summaries,
    users,
)
from app.resolvers.notifications import notification_preview
from app.resolvers.paging import DEFAULT_PAGE_SIZE, PageRequest, cut
from app.schema.connections import WHOLE, Connection
from app.schema.operations import Info, query, selects
from app.schema.orders import Order, OrderAvailability, OrderSummary, parts_selected
from app.schema.recommendations import GeminiKey, RecommendationRun, Recommendations
from app.schema.scalars import TelegramId, to_id, to_optional_id
from app.schema.types import Cafe, LinkRequest, Notification, User


def page_request(info: Info, first: int, after: str | None, skip: int) -> PageRequest:
    return PageRequest(first, after, skip, selects(info, "totalCount"))


@strawberry.type
class Query:
    @query(users.me)
    async def me(self, info: Info) -> User:
        return User.of(await users.me(info.context))

    @query(users.user)
    async def user(self, info: Info, tgid: TelegramId) -> User:
        return User.of(await users.user(info.context, tgid))

    @query(users.users)
    async def users(
        self,
        info: Info,
        search: str | None = None,
        role: Role | None = None,
        is_active: bool | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Connection[User]:
        page = page_request(info, first, after, skip)
        return Connection.of(await users.users(info.context, page, search, role, is_active), User.of, page)

    @query(cafes.cafe)
    async def cafe(self, info: Info, id: strawberry.ID) -> Cafe:  # noqa: A002 its name in the schema
        return Cafe.of(await cafes.cafe(info.context, to_id("id", id)), info.context)

    @query(cafes.cafes)
    async def cafes(
        self,
        info: Info,
        search: str | None = None,
        is_active: bool | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Connection[Cafe]:
        page = page_request(info, first, after, skip)
        found = await cafes.cafes(info.context, page, search, is_active)
        return Connection.of(found, lambda row: Cafe.of(row, info.context), page)

    @query(links.link_requests)
    async def link_requests(
        self,
        info: Info,
        status: LinkRequestStatus | None = None,
        cafe_id: strawberry.ID | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Connection[LinkRequest]:
        page = page_request(info, first, after, skip)
        found = await links.link_requests(info.context, page, status, to_optional_id("cafe_id", cafe_id))
        return Connection.of(found, lambda row: LinkRequest.of(row, info.context), page)

    @query(deadlines.order_availability)
    async def order_availability(self, info: Info, cafe_id: strawberry.ID, date: dt.date) -> OrderAvailability:
        return OrderAvailability.of(await deadlines.order_availability(info.context, to_id("cafe_id", cafe_id), date))

    @query(deadlines.order_week)
    async def order_week(self, info: Info, cafe_id: strawberry.ID) -> Connection[OrderAvailability]:
        week = await deadlines.order_week(info.context, to_id("cafe_id", cafe_id))
        return Connection.of(cut(week, deadlines.BY_DATE, WHOLE), OrderAvailability.of)

    @query(orders.order)
    async def order(self, info: Info, id: strawberry.ID) -> Order:  # noqa: A002 its name in the schema
        return Order.of(await orders.order(info.context, to_id("id", id), parts_selected(info)))

    @query(orders.orders)
    async def orders(
        self,
        info: Info,
        tgid: TelegramId | None = None,
        cafe_id: strawberry.ID | None = None,
        from_date: dt.date | None = None,
        to_date: dt.date | None = None,
        status: OrderStatus | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Connection[Order]:
        page = page_request(info, first, after, skip)
        wanted = orders.OrderFilter(tgid, to_optional_id("cafe_id", cafe_id), from_date, to_date, status)
        return Connection.of(await orders.orders(info.context, page, wanted, parts_selected(info)), Order.of, page)

    @query(notifications.notifications)
    async def notifications(
        self,
        info: Info,
        cafe_id: strawberry.ID | None = None,
        date: dt.date | None = None,
        status: NotificationStatus | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Connection[Notification]:
        page = page_request(info, first, after, skip)
        found = await notifications.notifications(info.context, page, to_optional_id("cafe_id", cafe_id), date, status)
        return Connection.of(found, lambda row: Notification.of(row, info.context), page)

    @query(notification_preview)
    async def notification_preview(self, info: Info, cafe_id: strawberry.ID, date: dt.date) -> str | None:
        return await notification_preview(info.context, to_id("cafe_id", cafe_id), date)

    @query(summaries.order_summary)
    async def order_summary(self, info: Info, cafe_id: strawberry.ID, date: dt.date) -> OrderSummary:
        summary = await summaries.order_summary(info.context, to_id("cafe_id", cafe_id), date)
        return OrderSummary.of(summary, info)

    @query(recommendations.recommendations)
    async def recommendations(self, info: Info, tgid: TelegramId) -> Recommendations:
        return Recommendations.of(await recommendations.recommendations(info.context, tgid))

    @query(runs.recommendation_run)
    async def recommendation_run(self, info: Info, date: dt.date) -> RecommendationRun:
        return RecommendationRun.of(await runs.recommendation_run(info.context, date))

    @query(gemini_keys.gemini_keys)
    async def gemini_keys(
        self, info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None, skip: int = 0
    ) -> Connection[GeminiKey]:
        page = page_request(info, first, after, skip)
        keys = cut(await gemini_keys.gemini_keys(info.context), gemini_keys.BY_TURN, page)
        return Connection.of(keys, GeminiKey.of, page)
