"""People."""

import re

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, or_, select

from app.auth import SELF, allow
from app.clients import Clients
from app.context import Context
from app.errors import AlreadyExists, BadInput, Forbidden, NotFound
from app.models import Language, Role, User
from app.models.tables import NAME_MAX_CHARACTERS
from app.models.users import TELEGRAM_ID_MAX
from app.resolvers.inputs import checked_name, checked_text
from app.resolvers.paging import Page, PageRequest, SortOrder, fetch
from app.resolvers.removal import Removal, remove

BY_NAME: SortOrder[User] = SortOrder(
    "users", (col(User.name), col(User.tgid)), (str, int), lambda user: (user.name, user.tgid)
)

TELEGRAM_ID = re.compile(r"[0-9]{1,16}")


@allow(Role.USER)
async def me(ctx: Context) -> User:
    """The person who asks."""
    async with ctx.clients.db() as session:
        return await session.get_one(User, ctx.viewer.tgid)


@allow(SELF)
async def user(ctx: Context, tgid: int) -> User:
    """One person.

    Raises NotFound.
    """
    return await find(ctx.clients, tgid)


@allow(Role.MANAGER)
async def users(
    ctx: Context,
    page: PageRequest,
    search: str | None = None,
    role: Role | None = None,
    is_active: bool | None = None,
) -> Page[User]:
    """The people, by name. `search` is a part of the name, in either case, or a Telegram id.

    Raises BadInput.
    """
    query = select(User)
    if search := checked_text("search", search, NAME_MAX_CHARACTERS):
        by_name = col(User.name).icontains(search, autoescape=True)
        query = query.where(or_(by_name, User.tgid == int(search)) if TELEGRAM_ID.fullmatch(search) else by_name)
    if role is not None:
        query = query.where(User.role == role)
    if is_active is not None:
        query = query.where(User.is_active == is_active)
    async with ctx.clients.db() as session:
        return await fetch(session, query, BY_NAME, page)


@allow(Role.MANAGER)
async def create_user(ctx: Context, tgid: int, name: str) -> User:
    """Add a person, who may sign in from then on.

    Raises BadInput, AlreadyExists.
    """
    return await add(ctx.clients, tgid, name, Role.USER)


@allow(Role.MANAGER)
async def create_manager(ctx: Context, tgid: int, name: str) -> User:
    """Add a manager.

    Raises BadInput, AlreadyExists.
    """
    return await add(ctx.clients, tgid, name, Role.MANAGER)


@allow(Role.MANAGER)
async def set_user_access(ctx: Context, tgid: int, is_active: bool | None = None, role: Role | None = None) -> User:
    """Switch a person on or off, or give them another role. Nobody may do this to themselves.

    Raises BadInput, NotFound, Forbidden.
    """
    async with ctx.clients.db() as session:
        person = await _locked_other(ctx, session, tgid)
        if is_active is not None:
            person.is_active = is_active
        if role is not None:
            person.role = role
        return person


@allow(Role.MANAGER)
async def delete_user(ctx: Context, tgid: int) -> Removal:
    """Delete a person; one who has ordered is kept, and switched off instead. Nobody may delete themselves.

    Raises BadInput, NotFound, Forbidden.
    """
    async with ctx.clients.db() as session:
        person = await _locked_other(ctx, session, tgid)
        return await remove(session, person, tgid, kept="This person has orders, so was kept and switched off.")


async def add(clients: Clients, tgid: int, name: str, role: Role) -> User:
    """Add a person; for the command line too, where there is nobody yet who could be asked.

    Raises BadInput, AlreadyExists.
    """
    name = checked_name("name", name)
    if not 0 < tgid <= TELEGRAM_ID_MAX:
        raise BadInput("tgid", "is no id of a person in Telegram")
    person = User(tgid=tgid, name=name, role=role)
    try:
        async with clients.db() as session:
            session.add(person)
            await session.flush()
            await session.refresh(person)
    except IntegrityError:
        raise AlreadyExists(f"There is a user {tgid} already.") from None
    return person


async def speaks(clients: Clients, tgid: int, language_code: str | None) -> None:
    """Note the language that a person uses Telegram in: recommendations are written in it.

    Args:
        language_code: An IETF language tag. One that is not given, or that we have no texts in, changes nothing.
    """
    language = (language_code or "").split("-")[0].lower()
    if language not in {known.value for known in Language}:
        return
    query = sa.update(User).where(col(User.tgid) == tgid, col(User.language) != language)
    async with clients.db() as session:
        await session.execute(query.values(language=Language(language)))


async def find(clients: Clients, tgid: int) -> User:
    """Return a person who exists; for the command line too.

    Raises NotFound.
    """
    if 0 < tgid <= TELEGRAM_ID_MAX:
        async with clients.db() as session:
            person = await session.get(User, tgid)
        if person is not None:
            return person
    raise NotFound("user", tgid)


async def _locked_other(ctx: Context, session: AsyncSession, tgid: int) -> User:
    """Lock the person, and the manager who asks, always in the order of their ids.

    So of two managers who switch each other off at once, one does, and the other is refused: somebody stays.
    """
    if tgid == ctx.viewer.tgid:
        raise BadInput("tgid", "is yourself; ask another manager")
    both = select(User).where(col(User.tgid).in_((tgid, ctx.viewer.tgid))).order_by(col(User.tgid)).with_for_update()
    found = {person.tgid: person for person in await session.scalars(both)}
    viewer = found.get(ctx.viewer.tgid)
    if viewer is None or not viewer.is_active or viewer.role is not Role.MANAGER:
        raise Forbidden("You are no manager any more.")
    if tgid not in found:
        raise NotFound("user", tgid)
    return found[tgid]
