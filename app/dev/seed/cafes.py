"""The demo's cafes in the database: adds missing ones, and loads their menus and past delivery dates."""

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

ORDER_HISTORY_DAYS = 40


@dataclass(frozen=True, slots=True)
class DemoItem:
    """A dish or an extra. It is smaller than a row of the ORM, because a seed uses it in up to a million orders."""

    id: int
    name: str
    category: str
    price: Decimal | None
    kind: Kind


@dataclass(frozen=True, slots=True)
class DemoCombo:
    """A combo."""

    id: int
    name: str
    price: Decimal
    categories: tuple[MenuCategory, ...]


@dataclass(frozen=True)
class DemoCafe:
    """The menu of a cafe, and the time of the deadline for each past delivery date."""

    cafe_id: int
    language: Language
    combos: Sequence[DemoCombo]
    dishes: Mapping[MenuCategory, Sequence[DemoItem]]
    extras: Mapping[Kind, Sequence[DemoItem]]
    closed_at: Mapping[dt.date, dt.datetime]

    @property
    def is_vegetarian(self) -> bool:
        """Whether all dishes are vegetarian."""
        return all(dish.kind is Kind.VEGETARIAN for dishes in self.dishes.values() for dish in dishes)


def past_workdays(today: dt.date) -> list[dt.date]:
    """Return the days from Monday to Friday among the 40 days before `today`, earliest first."""
    days = (today - dt.timedelta(days=ago) for ago in range(ORDER_HISTORY_DAYS, 0, -1))
    return [day for day in days if day.weekday() in WORKDAYS]


async def add_cafes(session: AsyncSession) -> None:
    """Add the missing cafes with their menus and deadlines. A cafe with the same name stays as it is."""
    existing = set(await session.scalars(select(Cafe.name).where(col(Cafe.name).in_([menu.cafe for menu in MENUS]))))
    missing = [(menu, menu.new_cafe()) for menu in MENUS if menu.cafe not in existing]
    if not existing:
        await _restart_cafe_ids(session)
    session.add_all(cafe for _, cafe in missing)
    await session.flush()
    session.add_all(row for menu, cafe in missing for row in menu.new_rows(cafe.id))
    await session.flush()


async def _restart_cafe_ids(session: AsyncSession) -> None:
    """Give the first cafe of an empty table id 1, also after an interrupted seed that used up ids.

    `lunch-bot dev --demo` uses the cafe with id 1. The table lock makes this safe when another transaction adds a cafe
    at the same time: one of the two waits for the other.
    """
    if await session.scalar(sa.select(sa.exists(select(Cafe.id)))):
        return
    await session.execute(sa.text("LOCK TABLE cafes IN SHARE ROW EXCLUSIVE MODE"))
    await session.execute(
        sa.text("SELECT setval(pg_get_serial_sequence('cafes', 'id'), 1, false) WHERE NOT EXISTS (SELECT FROM cafes)")
    )


async def find_demo_cafes(session: AsyncSession) -> list[Cafe]:
    """Return the demo's cafes; of cafes with the same name, the first."""
    names = [menu.cafe for menu in MENUS]
    cafes: dict[str, Cafe] = {}
    for cafe in await session.scalars(select(Cafe).where(col(Cafe.name).in_(names)).order_by(col(Cafe.id))):
        cafes.setdefault(cafe.name, cafe)
    return list(cafes.values())


async def load_cafes(session: AsyncSession, today: dt.date) -> list[DemoCafe]:
    """Return the active cafes with a menu and past delivery dates, and mark these dates as announced.

    Locks prevent the deletion of menu items and combos until the caller's transaction ends. A past date that still
    waits for its announcement is omitted: it gets no demo orders.
    """
    cafes = [cafe for cafe in await find_demo_cafes(session) if cafe.is_active]
    loaded = [await _load_cafe(session, cafe, today) for cafe in cafes]
    return [cafe for cafe in loaded if cafe.combos and cafe.closed_at]


async def _load_cafe(session: AsyncSession, cafe: Cafe, today: dt.date) -> DemoCafe:
    items = [
        DemoItem(item.id, item.name, item.category.value, item.price, _find_kind(item))
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
    extras = [item for item in items if item.category == MenuCategory.EXTRA]
    return DemoCafe(
        cafe_id=cafe.id,
        language=cafe.language,
        combos=[
            DemoCombo(combo.id, combo.name, combo.price, tuple(combo.categories))
            for combo in combos
            if all(dishes[category] for category in combo.categories)
        ],
        dishes=dishes,
        extras={kind: [extra for extra in extras if extra.kind is kind] for kind in Kind},
        closed_at=await _announce_past_dates(session, cafe, today),
    )


def _find_kind(item: MenuItem) -> Kind:
    return KINDS.get(item.name, Kind.SIDE if item.is_extra else Kind.MEAT)


async def _announce_past_dates(session: AsyncSession, cafe: Cafe, today: dt.date) -> dict[dt.date, dt.datetime]:
    """Add announced delivery days for past dates without one; return the deadline of each announced date."""
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
