"""What can be read."""

import strawberry

from app.models import LinkRequestStatus
from app.resolvers import cafes, links, users
from app.resolvers.paging import DEFAULT_PAGE_SIZE, PageRequest
from app.schema.operations import query, selects
from app.schema.scalars import to_id
from app.schema.types import Cafe, Connection, Info, LinkRequest, User


@strawberry.type
class Query:
    @query(users.me)
    async def me(self, info: Info) -> User:
        return User.of(await users.me(info.context))

    @query(cafes.cafe)
    async def cafe(self, info: Info, id: strawberry.ID) -> Cafe:  # noqa: A002 its name in the schema
        return Cafe.of(await cafes.cafe(info.context, to_id("id", id)), info.context)

    @query(cafes.cafes)
    async def cafes(
        self, info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None, skip: int = 0
    ) -> Connection[Cafe]:
        page = await cafes.cafes(info.context, PageRequest(first, after, skip, selects(info, "totalCount")))
        return Connection.of(page, lambda row: Cafe.of(row, info.context), after=after, skip=skip)

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
        page = await links.link_requests(
            info.context,
            PageRequest(first, after, skip, selects(info, "totalCount")),
            status=status,
            cafe_id=None if cafe_id is None else to_id("cafe_id", cafe_id),
        )
        return Connection.of(page, lambda row: LinkRequest.of(row, info.context), after=after, skip=skip)
