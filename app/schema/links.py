"""Links: type, queries, mutations and subscription."""

from collections.abc import AsyncIterator

import strawberry

from app import models
from app.events.types import LinkRequestEvent
from app.models import LinkRequestStatus
from app.resolvers import links as resolvers
from app.schema.cafes import Cafe
from app.schema.connections import Connection
from app.schema.operations import Info, mutation, page_request, query, subscription
from app.schema.scalars import Id, TelegramId
from app.schema.types import output
from app.services.pagination import DEFAULT_PAGE_SIZE, Page

strawberry.enum(LinkRequestStatus, description="Pending until a manager decides.")


@output(models.LinkRequestFields, description="A chat's request to get a cafe's orders.")
class LinkRequest:
    id: Id
    cafe: Cafe
    cafe_name: str


@strawberry.type
class Query:
    @query(resolvers.list_link_requests, Connection[LinkRequest])
    async def link_requests(
        self,
        info: Info,
        status: LinkRequestStatus | None = None,
        cafe_id: Id | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Page[models.LinkRequest]:
        page = page_request(info, first, after, skip)
        return await resolvers.list_link_requests(info.context, page, status, cafe_id)


@strawberry.type
class Mutation:
    @mutation(resolvers.link_request, LinkRequest)
    async def link_request(
        self, info: Info, cafe_id: Id, tg_chat_id: TelegramId, tg_username: str | None = None
    ) -> models.LinkRequest:
        return await resolvers.link_request(info.context, cafe_id, tg_chat_id, tg_username)

    @mutation(resolvers.approve, LinkRequest)
    async def approve(self, info: Info, request_id: Id) -> models.LinkRequest:
        return await resolvers.approve(info.context, request_id)

    @mutation(resolvers.reject, LinkRequest)
    async def reject(self, info: Info, request_id: Id, reason: str | None = None) -> models.LinkRequest:
        return await resolvers.reject(info.context, request_id, reason)

    @mutation(resolvers.set_notifications, Cafe)
    async def set_notifications(self, info: Info, cafe_id: Id, enabled: bool) -> models.Cafe:
        return await resolvers.set_notifications(info.context, cafe_id, enabled=enabled)

    @mutation(resolvers.unlink, Cafe)
    async def unlink(self, info: Info, cafe_id: Id) -> models.Cafe:
        return await resolvers.unlink(info.context, cafe_id)


@strawberry.type
class Subscription:
    @subscription(resolvers.link_request_updates, LinkRequest)
    async def link_request_updates(
        self, info: Info, status: LinkRequestStatus | None = None, cafe_id: Id | None = None
    ) -> AsyncIterator[LinkRequestEvent]:
        return await resolvers.link_request_updates(info.context, status, cafe_id)
