"""Users: adding, reading, and their language."""

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from app.clients import Clients
from app.errors import AlreadyExists, NotFound
from app.models import Language, Role, User, UserInput
from app.models.users import TELEGRAM_ID_MAX
from app.services.rows import get_row


async def add_user(clients: Clients, fields: UserInput, role: Role) -> User:
    """Add a user.

    Raises AlreadyExists.
    """
    user = User(**fields.values(), role=role)
    try:
        async with clients.db() as session:
            session.add(user)
            await session.flush()
            await session.refresh(user)
    except IntegrityError:
        raise AlreadyExists(f"User {fields.tgid} already exists.") from None
    return user


async def get_user(clients: Clients, tgid: int) -> User:
    """Return a user.

    Raises NotFound.
    """
    if not 0 < tgid <= TELEGRAM_ID_MAX:
        raise NotFound("user", tgid)
    async with clients.db() as session:
        return await get_row(session, User, tgid)


async def update_language(clients: Clients, tgid: int, language_code: str | None) -> None:
    """Record the language in which a user uses Telegram: recommendations are written in it.

    Args:
        language_code: An IETF language tag. A missing or unknown one changes nothing.
    """
    language = (language_code or "").split("-")[0].lower()
    if language not in {known.value for known in Language}:
        return
    query = sa.update(User).where(col(User.tgid) == tgid, col(User.language) != language)
    async with clients.db() as session:
        await session.execute(query.values(language=Language(language)))
