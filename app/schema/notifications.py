"""Notifications: type, queries, mutation and subscription."""

import datetime as dt
from collections.abc import AsyncIterator

import strawberry

from app import models
from app.events.types import NotificationEvent
from app.models import NotificationKind, NotificationStatus
from app.resolvers import notifications as resolvers
from app.schema.cafes import Cafe
from app.schema.connections import Connection
from app.schema.operations import Info, mutation, page_request, query, subscription
from app.schema.scalars import Id
from app.schema.types import output
from app.services.pagination import DEFAULT_PAGE_SIZE, Page

# ruff: noqa: A002 `id` is the argument's name in the schema

strawberry.enum(NotificationKind, description="The subject of a message.")
strawberry.enum(NotificationStatus, description="The state of a message's delivery.")


@output(models.NotificationFields, description="A message to a chat.")
class Notification:
    id: Id
    cafe: Cafe
    cafe_name: str
    text: str = strawberry.field(description="Telegram's HTML.")


@strawberry.type
class Query:
    @query(resolvers.list_notifications, Connection[Notification])
    async def notifications(
        self,
        info: Info,
        cafe_id: Id | None = None,
        date: dt.date | None = None,
        status: NotificationStatus | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Page[models.Notification]:
        page = page_request(info, first, after, skip)
        return await resolvers.list_notifications(info.context, page, cafe_id, date, status)

    @query(resolvers.preview_notification, str | None)
    async def notification_preview(self, info: Info, cafe_id: Id, date: dt.date) -> str | None:
        return await resolvers.preview_notification(info.context, cafe_id, date)


@strawberry.type
class Mutation:
    @mutation(resolvers.retry_notification, Notification)
    async def retry_notification(self, info: Info, id: Id) -> models.Notification:
        return await resolvers.retry_notification(info.context, id)


@strawberry.type
class Subscription:
    @subscription(resolvers.notification_updates, Notification)
    async def notification_updates(self, info: Info, cafe_id: Id | None = None) -> AsyncIterator[NotificationEvent]:
        return await resolvers.notification_updates(info.context, cafe_id)
