"""Operations on users, and signing in.

https://core.telegram.org/bots/webapps#validating-data-received-via-the-mini-app
"""

import datetime as dt
import re
from dataclasses import dataclass

from aiogram.utils.web_app import WebAppUser, safe_parse_webapp_init_data
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, or_, select

from app.auth.access import PUBLIC, Self, allow
from app.auth.context import Context
from app.auth.tokens import issue_token, read_token
from app.auth.viewer import require_active
from app.errors import BadInput, Forbidden, NotFound, Unauthenticated
from app.log import get_log
from app.models import Role, User, UserInput
from app.services import users
from app.services.pagination import Page, PageRequest, SortOrder, paginate
from app.services.rows import DeletionResult, delete_or_deactivate
from app.validation import SearchText

log = get_log(__name__)

BY_NAME: SortOrder[User] = SortOrder(
    "users", (col(User.name), col(User.tgid)), (str, int), lambda user: (user.name, user.tgid)
)

TELEGRAM_ID = re.compile(r"[0-9]{1,16}")

INIT_DATA_MAX_AGE = dt.timedelta(hours=24)
"""Older data may be stolen. A Web App gets new data each time it is opened."""

CLOCK_SKEW = dt.timedelta(minutes=5)
"""How far Telegram's clock may be ahead of ours."""


@dataclass(frozen=True)
class Authentication:
    """A token, its expiry, and its user."""

    token: str
    expires_at: dt.datetime
    user: User


@allow(Role.USER)
async def get_me(ctx: Context) -> User:
    """The viewer."""
    async with ctx.clients.db() as session:
        return await session.get_one(User, ctx.viewer.tgid)


@allow(Self("tgid"))
async def get_user(ctx: Context, tgid: int) -> User:
    """One user.

    Raises NotFound.
    """
    return await users.get_user(ctx.clients, tgid)


@allow(Role.MANAGER)
async def list_users(
    ctx: Context,
    page: PageRequest,
    search: SearchText | None = None,
    role: Role | None = None,
    is_active: bool | None = None,
) -> Page[User]:
    """The users, by name. The search finds a part of the name, in upper or lower case, or a Telegram id.

    Raises BadInput.
    """
    query = select(User)
    if search:
        by_name = col(User.name).icontains(search, autoescape=True)
        query = query.where(or_(by_name, User.tgid == int(search)) if TELEGRAM_ID.fullmatch(search) else by_name)
    if role is not None:
        query = query.where(User.role == role)
    if is_active is not None:
        query = query.where(User.is_active == is_active)
    async with ctx.clients.db() as session:
        return await paginate(session, query, BY_NAME, page)


@allow(Role.MANAGER)
async def create_user(ctx: Context, fields: UserInput) -> User:
    """Add a user, who may sign in from then on.

    Raises BadInput, AlreadyExists.
    """
    return await users.add_user(ctx.clients, fields, Role.USER)


@allow(Role.MANAGER)
async def create_manager(ctx: Context, fields: UserInput) -> User:
    """Add a manager.

    Raises BadInput, AlreadyExists.
    """
    return await users.add_user(ctx.clients, fields, Role.MANAGER)


@allow(Role.MANAGER)
async def set_user_access(ctx: Context, tgid: int, is_active: bool | None = None, role: Role | None = None) -> User:
    """Activate or deactivate a user, or change the user's role. Managers cannot change their own access.

    Raises BadInput, NotFound, Forbidden.
    """
    async with ctx.clients.db() as session:
        user = await _lock_other_user(ctx, session, tgid)
        if is_active is not None:
            user.is_active = is_active
        if role is not None:
            user.role = role
        return user


@allow(Role.MANAGER)
async def delete_user(ctx: Context, tgid: int) -> DeletionResult:
    """Delete a user. A user with orders is deactivated instead. Managers cannot delete themselves.

    Raises BadInput, NotFound, Forbidden.
    """
    async with ctx.clients.db() as session:
        user = await _lock_other_user(ctx, session, tgid)
        return await delete_or_deactivate(
            session, user, tgid, kept="This user has orders, so the account was deactivated instead."
        )


@allow(PUBLIC)
async def authenticate(ctx: Context, init_data: str) -> Authentication:
    """Sign in with the init data of a Telegram Web App, at most 24 hours old.

    Raises Unauthenticated, Forbidden.
    """
    person = _verify_init_data(ctx, init_data)
    async with ctx.clients.db() as session:
        user = await session.get(User, person.id)
    if user is None:
        raise Unauthenticated("You are not a user of Lunchbot yet. Ask a manager.")
    require_active(user)
    await users.update_language(ctx.clients, person.id, person.language_code)
    settings = ctx.clients.settings
    token = issue_token(settings, user)
    return Authentication(token, read_token(settings, token).expires_at, user)


def _verify_init_data(ctx: Context, init_data: str) -> WebAppUser:
    """Return the user in data that Telegram has signed.

    Raises Unauthenticated.
    """
    token = ctx.clients.settings.telegram_bot_token
    if token is None:
        log.warning("sign_in.no_bot_token")
        raise Unauthenticated("Signing in with Telegram is not configured here.")
    try:
        data = safe_parse_webapp_init_data(token.get_secret_value(), init_data)
    except (ValueError, TypeError):  # TypeError: the hash has invalid characters
        raise Unauthenticated("The init data is not Telegram's.") from None
    age = ctx.now() - data.auth_date
    if age > INIT_DATA_MAX_AGE or age < -CLOCK_SKEW:
        raise Unauthenticated("The init data is too old. Open the app again.")
    if data.user is None:
        raise Unauthenticated("The init data has no user.")
    return data.user


async def _lock_other_user(ctx: Context, session: AsyncSession, tgid: int) -> User:
    """Lock a user and the viewer, always in the order of their ids.

    Of two managers who deactivate each other at the same time, one succeeds and the other is refused: a manager stays.
    """
    if tgid == ctx.viewer.tgid:
        raise BadInput("tgid", "is your own; ask another manager")
    both = select(User).where(col(User.tgid).in_((tgid, ctx.viewer.tgid))).order_by(col(User.tgid)).with_for_update()
    locked = {user.tgid: user for user in await session.scalars(both)}
    viewer = locked.get(ctx.viewer.tgid)
    if viewer is None or not viewer.is_active or viewer.role is not Role.MANAGER:
        raise Forbidden("You are not a manager any more.")
    if tgid not in locked:
        raise NotFound("user", tgid)
    return locked[tgid]
