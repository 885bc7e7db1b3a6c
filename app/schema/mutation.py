"""What can be changed."""

import strawberry

from app.resolvers import links
from app.schema.operations import mutation
from app.schema.scalars import TelegramId, to_id
from app.schema.types import Cafe, Info, LinkRequest


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
