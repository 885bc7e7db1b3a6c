"""Gemini keys: type and query."""

import datetime as dt

import strawberry

from app.ai.key_pool import KeyState, KeyUsage
from app.resolvers import gemini_keys as resolvers
from app.schema.connections import Connection
from app.schema.operations import Info, page_request, query
from app.services.pagination import DEFAULT_PAGE_SIZE, Page, paginate_list

strawberry.enum(
    KeyState,
    name="GeminiKeyState",
    description="Whether a key may be used: a key that cools down soon, an exhausted key on the next day, a disabled key "
    "after an operator has reset it.",
)


@strawberry.type(description="The current usage of a Gemini key, on Google's day.")
class GeminiKey:
    id: str = strawberry.field(description="A hash. The key itself is never shown.")
    project: str = strawberry.field(description="Keys of one project share one quota.")
    used: int = strawberry.field(description="Requests with this key today.")
    left: int = strawberry.field(description="Requests that are left today.")
    state: KeyState
    is_current: bool = strawberry.field(description="Whether it is the key in use.")
    until: dt.datetime | None = strawberry.field(description="When it may be used again, if it will be by itself.")
    last_error: str | None = strawberry.field(description="The error of its last request, if that failed.")


@strawberry.type
class Query:
    @query(resolvers.list_gemini_keys, Connection[GeminiKey])
    async def gemini_keys(
        self, info: Info, first: int = DEFAULT_PAGE_SIZE, after: str | None = None, skip: int = 0
    ) -> Page[KeyUsage]:
        page = page_request(info, first, after, skip)
        return paginate_list(await resolvers.list_gemini_keys(info.context), resolvers.BY_POSITION, page)
