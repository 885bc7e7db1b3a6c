"""The GraphQL types: plain objects, made from rows or from events, whose fields are attributes."""

from collections.abc import Callable
from datetime import datetime
from typing import Self

import strawberry

from app import models
from app.context import Context
from app.events.messages import CafeSnapshot, LinkRequestEvent
from app.models import Language, LinkRequestStatus, Role
from app.resolvers.paging import Page
from app.schema.scalars import TelegramId

type Info = strawberry.Info[Context, None]

strawberry.enum(LinkRequestStatus, description="Pending until a manager decides.")
strawberry.enum(Language, description="The language of the texts that a cafe gets.")
strawberry.enum(Role, description="What a person may do.")


def optional_telegram_id(value: int | None) -> TelegramId | None:
    return None if value is None else TelegramId(value)


@strawberry.type(description="A cafe that cooks lunch. The fields of its chat are for managers; others see null.")
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


@strawberry.type(description="Where a page lies in its list.")
class PageInfo:
    has_next_page: bool
    has_previous_page: bool
    start_cursor: str | None
    end_cursor: str | None


@strawberry.type
class Edge[Node]:
    node: Node
    cursor: str


@strawberry.type(description="One page of a list.")
class Connection[Node]:
    edges: list[Edge[Node]]
    nodes: list[Node]
    page_info: PageInfo
    total_count: int = strawberry.field(description="How many there are in the whole list.")

    @classmethod
    def of[Row](cls, page: Page[Row], node: Callable[[Row], Node], *, after: str | None, skip: int) -> Self:
        nodes = [node(row) for row in page.items]
        return cls(
            edges=[Edge(node=node, cursor=cursor) for node, cursor in zip(nodes, page.cursors, strict=True)],
            nodes=nodes,
            page_info=PageInfo(
                has_next_page=page.has_next_page,
                has_previous_page=after is not None or skip > 0,
                start_cursor=page.cursors[0] if page.cursors else None,
                end_cursor=page.cursors[-1] if page.cursors else None,
            ),
            total_count=page.total or 0,  # None only where nobody selects it
        )
