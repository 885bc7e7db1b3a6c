"""The demo's cafes as they are in the database now: what they cook, and on which past days."""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.dev.seed.menus import KINDS, MENUS, WORKDAYS, Kind
from app.models import Cafe, Combo, Deadline, DeliveryDay, Language, MenuCategory, MenuItem
from app.models.menus import DISH_CATEGORIES

DAYS_OF_ORDERS = 40


@dataclass(frozen=True, slots=True)
class Item:
    """A dish or an extra, with nothing in it that would slow a million orders down."""

    id: int
    name: str
    category: str
    price: Decimal | None
    kind: Kind


@dataclass(frozen=True, slots=True)
class Choice:
    """A combo."""

    id: int
    name: str
    price: Decimal
    categories: tuple[MenuCategory, ...]


@dataclass(frozen=True)
class Kitchen:
    """What a cafe offers, and when ordering closed for each of the days that it has delivered on."""

    cafe_id: int
    language: Language
    combos: Sequence[Choice]
    dishes: Mapping[MenuCategory, Sequence[Item]]
    extras: Mapping[Kind, Sequence[Item]]
    closed_at: Mapping[dt.date, dt.datetime]

    @property
    def is_vegetarian(self) -> bool:
        return all(dish.kind is Kind.VEGETARIAN for dishes in self.dishes.values() for dish in dishes)


def past_workdays(today: dt.date) -> list[dt.date]:
    """Return the days from Monday to Friday among the 40 before `today`, the earliest first."""
    days = (today - dt.timedelta(days=ago) for ago in range(DAYS_OF_ORDERS, 0, -1))
    return [day for day in days if day.weekday() in WORKDAYS]


async def add_cafes(session: AsyncSession) -> None:
    """Add the cafes whose names are not there, each with its menu and deadlines. One that is there stays as it is."""
    known = set(await session.scalars(select(Cafe.name).where(col(Cafe.name).in_([menu.cafe for menu in MENUS]))))
    missing = [(menu, menu.new_cafe()) for menu in MENUS if menu.cafe not in known]
    if not known:
        await _count_from_one(session)
    session.add_all(cafe for _, cafe in missing)
    await session.flush()
    session.add_all(row for menu, cafe in missing for row in menu.new_rows(cafe.id))
    await session.flush()


async def _count_from_one(session: AsyncSession) -> None:
    """Have the first cafe of an empty table be number 1, even after a seed that was ended halfway and took numbers.

    `lunch-bot dev --demo` plays with number 1. Whoever adds a cafe meanwhile waits, or is waited for and has it.
    """
    if await session.scalar(sa.select(sa.exists(select(Cafe.id)))):
        return
    await session.execute(sa.text("LOCK TABLE cafes IN SHARE ROW EXCLUSIVE MODE"))
    await session.execute(
        sa.text("SELECT setval(pg_get_serial_sequence('cafes', 'id'), 1, false) WHERE NOT EXISTS (SELECT FROM cafes)")
    )


async def demo_cafes(session: AsyncSession) -> list[Cafe]:
    """Return the demo's cafes: of several with one name the first."""
    names = [menu.cafe for menu in MENUS]
    found: dict[str, Cafe] = {}
    for cafe in await session.scalars(select(Cafe).where(col(Cafe.name).in_(names)).order_by(col(Cafe.id))):
        found.setdefault(cafe.name, cafe)
    return list(found.values())


async def open_kitchens(session: AsyncSession, today: dt.date) -> list[Kitchen]:
    """Return the kitchens that people can have ordered from, and have their past days announced.

    What they offer is kept from being deleted until the caller's transaction ends. A past day that waits for its
    announcement still gets it, and no demo orders.
    """
    cafes = [cafe for cafe in await demo_cafes(session) if cafe.is_active]
    found = [await _kitchen(session, cafe, today) for cafe in cafes]
    return [kitchen for kitchen in found if kitchen.combos and kitchen.closed_at]


async def _kitchen(session: AsyncSession, cafe: Cafe, today: dt.date) -> Kitchen:
    items = [
        Item(item.id, item.name, item.category.value, item.price, _kind(item))
        for item in await session.scalars(
            select(MenuItem)
            .where(MenuItem.cafe_id == cafe.id, MenuItem.is_available)
            .order_by(col(MenuItem.id))
            .with_for_update(read=True, key_share=True)
        )
    ]
    combos = await session.scalars(
        select(Combo)
        .where(Combo.cafe_id == cafe.id, Combo.is_available)
        .order_by(col(Combo.id))
        .with_for_update(read=True, key_share=True)
    )
    dishes = {category: [item for item in items if item.category == category] for category in DISH_CATEGORIES}
    return Kitchen(
        cafe_id=cafe.id,
        language=cafe.language,
        combos=[
            Choice(combo.id, combo.name, combo.price, tuple(combo.categories))
            for combo in combos
            if all(dishes[category] for category in combo.categories)
        ],
        dishes=dishes,
        extras={kind: [it for it in items if it.category == MenuCategory.EXTRA and it.kind is kind] for kind in Kind},
        closed_at=await _announced(session, cafe, today),
    )


def _kind(item: MenuItem) -> Kind:
    return KINDS.get(item.name, Kind.SIDE if item.is_extra else Kind.MEAT)


async def _announced(session: AsyncSession, cafe: Cafe, today: dt.date) -> dict[dt.date, dt.datetime]:
    """Have the past days of `cafe` announced where nobody knows of them, and return when ordering closed for each."""
    schedule = {
        deadline.weekday: deadline
        for deadline in await session.scalars(select(Deadline).where(Deadline.cafe_id == cafe.id, Deadline.is_enabled))
    }
    midnight = dt.datetime.combine(today, dt.time(), dt.UTC)
    closed_at = {
        day: closes_at
        for day in past_workdays(today)
        if day.weekday() in schedule
        and (closes_at := schedule[day.weekday()].closes_at(day, cafe.timezone)) <= midnight
    }
    if closed_at:
        await session.execute(
            insert(DeliveryDay)
            .values([{"cafe_id": cafe.id, "date": day, "announced_at": at} for day, at in closed_at.items()])
            .on_conflict_do_nothing()
        )
    announced = await session.scalars(
        sa.select(col(DeliveryDay.date)).where(
            col(DeliveryDay.cafe_id) == cafe.id,
            col(DeliveryDay.date).in_(list(closed_at)),
            col(DeliveryDay.announced_at).is_not(None),
        )
    )
    return {day: closed_at[day] for day in sorted(announced)}
