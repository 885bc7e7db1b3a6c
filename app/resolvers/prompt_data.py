"""What a prompt is made of: today's menu, and what is known of the people who are to get a recommendation."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.ai.prompts import Cafe as OfferingCafe
from app.ai.stats import OrderStats
from app.models import Cafe, Language, MenuItem, Order, User
from app.resolvers import statistics
from app.resolvers.statistics import order_stats

MENU_MAX_DISHES = 1000
"""More than anybody chooses from; a prompt of about 10,000 tokens."""

NOTES_MAX = 5


@dataclass(frozen=True)
class Diner:
    """Who is to get a recommendation."""

    stats: OrderStats
    notes: Sequence[str]
    language: Language


async def offered(session: AsyncSession) -> list[OfferingCafe]:
    """Read what one can order today, always in the same order: one statement."""
    query = (
        select(Cafe.id, Cafe.name, MenuItem.category, MenuItem.name)
        .join(MenuItem)
        .where(Cafe.is_active, MenuItem.is_available)
        .order_by(col(Cafe.id), col(MenuItem.category), col(MenuItem.id))
        .limit(MENU_MAX_DISHES)
    )
    rows = (await session.execute(query)).all()
    return [
        OfferingCafe(
            cafe,
            {category.value: [dish for *_, dish in dishes] for category, dishes in groupby(items, lambda row: row[2])},
        )
        for (_, cafe), items in groupby(rows, lambda row: (row[0], row[1]))
    ]


async def diners(session: AsyncSession, tgids: Collection[int], today: dt.date) -> dict[int, Diner]:
    """Read what is known of these people, without those who are switched off: three statements, however many."""
    people = await session.scalars(select(User).where(col(User.tgid).in_(tgids), User.is_active))
    languages = {person.tgid: person.language for person in people}
    stats = await order_stats(session, languages, today)
    notes = await _notes(session, languages, today)
    return {tgid: Diner(stats[tgid], notes.get(tgid, ()), language) for tgid, language in languages.items()}


async def _notes(session: AsyncSession, tgids: Collection[int], today: dt.date) -> Mapping[int, Sequence[str]]:
    """Read what each has written to kitchens, the latest first, the same only once."""
    latest = sa.func.max(col(Order.date))
    place = sa.func.row_number().over(partition_by=col(Order.user_tgid), order_by=(latest.desc(), col(Order.notes)))
    written = (
        sa.select(col(Order.user_tgid).label("tgid"), col(Order.notes).label("note"), place.label("place"))
        .where(
            col(Order.user_tgid).in_(tgids),
            statistics.counts(today),
            col(Order.notes) != "",
        )
        .group_by(col(Order.user_tgid), col(Order.notes))
        .subquery()
    )
    query = (
        sa.select(written.c.tgid, written.c.note)
        .where(written.c.place <= NOTES_MAX)
        .order_by(written.c.tgid, written.c.place)
    )
    notes: dict[int, list[str]] = {}
    for tgid, note in await session.execute(query):
        notes.setdefault(tgid, []).append(note)
    return notes
