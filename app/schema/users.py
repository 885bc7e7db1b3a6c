"""Users and signing in: types, queries and mutations."""

import datetime as dt

import strawberry

from app import models
from app.models import Role, UserInput
from app.resolvers import users as resolvers
from app.schema.connections import Connection
from app.schema.deletions import Deletion
from app.schema.operations import Info, given, mutation, page_request, query
from app.schema.scalars import TelegramId
from app.schema.types import output
from app.services.pagination import DEFAULT_PAGE_SIZE, Page
from app.services.rows import DeletionResult

strawberry.enum(Role, description="The rights of a user.")


@output(models.UserFields, description="A person who signs in with Telegram.")
class User:
    pass


@strawberry.type(description="A sign-in.")
class Authentication:
    token: str = strawberry.field(description="For the Authorization header: Bearer <token>.")
    expires_at: dt.datetime
    user: User


@strawberry.type
class Query:
    @query(resolvers.get_me, User)
    async def me(self, info: Info) -> models.User:
        return await resolvers.get_me(info.context)

    @query(resolvers.get_user, User)
    async def user(self, info: Info, tgid: TelegramId) -> models.User:
        return await resolvers.get_user(info.context, tgid)

    @query(resolvers.list_users, Connection[User])
    async def users(
        self,
        info: Info,
        search: str | None = None,
        role: Role | None = None,
        is_active: bool | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Page[models.User]:
        page = page_request(info, first, after, skip)
        return await resolvers.list_users(info.context, page, search, role, is_active)


@strawberry.type
class Mutation:
    @mutation(resolvers.authenticate, Authentication)
    async def authenticate(self, info: Info, init_data: str) -> resolvers.Authentication:
        return await resolvers.authenticate(info.context, init_data)

    @mutation(resolvers.create_user, User)
    async def create_user(self, info: Info, tgid: TelegramId, name: str) -> models.User:
        return await resolvers.create_user(info.context, given(UserInput, tgid=tgid, name=name))

    @mutation(resolvers.create_manager, User)
    async def create_manager(self, info: Info, tgid: TelegramId, name: str) -> models.User:
        return await resolvers.create_manager(info.context, given(UserInput, tgid=tgid, name=name))

    @mutation(resolvers.set_user_access, User)
    async def set_user_access(
        self, info: Info, tgid: TelegramId, is_active: bool | None = None, role: Role | None = None
    ) -> models.User:
        return await resolvers.set_user_access(info.context, tgid, is_active, role)

    @mutation(resolvers.delete_user, Deletion)
    async def delete_user(self, info: Info, tgid: TelegramId) -> DeletionResult:
        return await resolvers.delete_user(info.context, tgid)
