"""Demo data."""

from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from app.clients import Clients
from app.models import Cafe, Language, Role, User

MANAGER_TGID = 1


def cafes() -> list[Cafe]:
    return [
        Cafe(name="Basil & Thyme", description="Salads and soups.", timezone="Europe/Berlin"),
        Cafe(name="Пельменная №1", description="Домашние обеды.", timezone="Europe/Moscow", language=Language.RU),
        Cafe(name="Green Fork", description="Vegetarian.", timezone="America/New_York"),
    ]


async def seed(clients: Clients) -> str:
    """Add the demo's manager and cafes where they are missing, and say what there is now."""
    async with clients.db() as session:
        await session.execute(
            insert(User).values(tgid=MANAGER_TGID, name="Maria Manager", role=Role.MANAGER).on_conflict_do_nothing()
        )
        known = set(await session.scalars(select(Cafe.name)))
        session.add_all(cafe for cafe in cafes() if cafe.name not in known)
        await session.flush()
        there = (await session.scalars(select(Cafe).order_by(col(Cafe.id)))).all()
    names = ", ".join(f"{cafe.id} {cafe.name}" for cafe in there)
    return f"Manager {MANAGER_TGID}; cafes {names}."
