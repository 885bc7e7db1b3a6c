"""Cafes: type, queries and mutations."""

import strawberry
from strawberry import UNSET

from app import models
from app.models import CafeChanges, CafeInput, Language
from app.resolvers import cafes as resolvers
from app.schema.connections import Connection
from app.schema.deadlines import CafeDeadlines
from app.schema.deletions import Deletion
from app.schema.menus import CafeMenu
from app.schema.operations import Info, given, mutation, page_request, query
from app.schema.scalars import Id
from app.schema.types import output
from app.services.pagination import DEFAULT_PAGE_SIZE, Page
from app.services.rows import DeletionResult

# ruff: noqa: A002 `id` is the argument's name in the schema

strawberry.enum(Language, description="The language of the texts that a cafe gets.")


@output(
    models.CafeFields,
    managers_only=("tg_chat_id", "tg_username", "linked_at"),
    description="A cafe that cooks lunch. The fields of its chat are null for other viewers than managers. A list that the "
    "viewer may not see is null, with an error.",
)
class Cafe(CafeMenu, CafeDeadlines):
    id: Id


@strawberry.type
class Query:
    @query(resolvers.get_cafe, Cafe)
    async def cafe(self, info: Info, id: Id) -> models.Cafe:
        return await resolvers.get_cafe(info.context, id)

    @query(resolvers.list_cafes, Connection[Cafe])
    async def cafes(
        self,
        info: Info,
        search: str | None = None,
        is_active: bool | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Page[models.Cafe]:
        page = page_request(info, first, after, skip)
        return await resolvers.list_cafes(info.context, page, search, is_active)


@strawberry.type
class Mutation:
    @mutation(resolvers.create_cafe, Cafe)
    async def create_cafe(
        self, info: Info, name: str, description: str = "", timezone: str = "UTC", language: Language = Language.EN
    ) -> models.Cafe:
        fields = given(CafeInput, name=name, description=description, timezone=timezone, language=language)
        return await resolvers.create_cafe(info.context, fields)

    @mutation(resolvers.update_cafe, Cafe)
    async def update_cafe(
        self,
        info: Info,
        id: Id,
        name: str | None = UNSET,
        description: str | None = UNSET,
        timezone: str | None = UNSET,
        language: Language | None = UNSET,
    ) -> models.Cafe:
        changes = given(CafeChanges, name=name, description=description, timezone=timezone, language=language)
        return await resolvers.update_cafe(info.context, id, changes)

    @mutation(resolvers.set_cafe_status, Cafe)
    async def set_cafe_status(self, info: Info, id: Id, is_active: bool) -> models.Cafe:
        return await resolvers.set_cafe_status(info.context, id, is_active=is_active)

    @mutation(resolvers.delete_cafe, Deletion)
    async def delete_cafe(self, info: Info, id: Id) -> DeletionResult:
        return await resolvers.delete_cafe(info.context, id)
