"""People."""

from sqlalchemy.exc import IntegrityError

from app.auth import allow
from app.clients import Clients
from app.context import Context
from app.errors import AlreadyExists, BadInput, NotFound
from app.models import Role, User
from app.models.tables import NAME_MAX_CHARACTERS
from app.models.users import TELEGRAM_ID_MAX
from app.resolvers.inputs import checked_text


@allow(Role.USER)
async def me(ctx: Context) -> User:
    """The person who asks."""
    async with ctx.clients.db() as session:
        return await session.get_one(User, ctx.viewer.tgid)


async def add(clients: Clients, tgid: int, name: str, role: Role) -> User:
    """Add a person; for the command line, where there is nobody yet who could be asked.

    Raises BadInput, AlreadyExists.
    """
    checked_text("name", name, NAME_MAX_CHARACTERS)
    if not 0 < tgid <= TELEGRAM_ID_MAX:
        raise BadInput("tgid", "is no id of a person in Telegram")
    user = User(tgid=tgid, name=name, role=role)
    try:
        async with clients.db() as session:
            session.add(user)
    except IntegrityError:
        raise AlreadyExists(f"There is a user {tgid} already.") from None
    return user


async def find(clients: Clients, tgid: int) -> User:
    """Return a person who exists; for the command line.

    Raises NotFound.
    """
    if 0 < tgid <= TELEGRAM_ID_MAX:
        async with clients.db() as session:
            user = await session.get(User, tgid)
        if user is not None:
            return user
    raise NotFound("user", tgid)
