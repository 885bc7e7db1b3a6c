"""The demo data: the same for the same seed, all or nothing, by the rules of ordering, and with habits in it."""

import asyncio
import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from statistics import median
from typing import NamedTuple
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import SQLModel, col, select

from app.clients import Clients, open_clients
from app.dev.seed import MANAGER_TGID, seed, seeded
from app.dev.seed.menus import KINDS, MENUS, Kind
from app.dev.seed.people import FIRST_TGID, USERS_MAX, people
from app.errors import ServiceUnavailable, as_lunchbot_error
from app.models import (
    Cafe,
    Combo,
    Deadline,
    DeliveryDay,
    Language,
    MenuItem,
    Order,
    OrderItem,
    OrderStatus,
    Role,
    User,
)
from app.settings import Settings
from tests.conftest import JWT_SECRET, Services, add_cafe

TODAY = dt.date(2026, 3, 4)
WORKDAYS = {day for ago in range(1, 41) if (day := TODAY - dt.timedelta(days=ago)).weekday() < 5}


class Line(NamedTuple):
    """A dish or an extra that somebody ordered."""

    name: str
    category: str
    price: Decimal | None
    quantity: int


class Ordered(NamedTuple):
    """An order by what it says, without the numbers that the database counts."""

    tgid: int
    person: str
    cafe: str
    date: dt.date
    status: OrderStatus
    combo: str
    combo_price: Decimal
    notes: str
    total: Decimal
    created_at: dt.datetime
    updated_at: dt.datetime
    lines: frozenset[Line]

    def dishes(self, category: str) -> list[str]:
        return [line.name for line in self.lines if line.category == category]


async def ordered(clients: Clients) -> list[Ordered]:
    """All orders, by person and date."""
    async with clients.db() as session:
        lines: dict[int, set[Line]] = {}
        for item in await session.scalars(select(OrderItem)):
            lines.setdefault(item.order_id, set()).add(Line(item.name, item.category, item.price, item.quantity))
        orders = await session.execute(
            sa.select(Order, User, Cafe)
            .join(User, col(User.tgid) == Order.user_tgid)
            .join(Cafe, col(Cafe.id) == Order.cafe_id)
            .order_by(col(Order.user_tgid), col(Order.date))
        )
        return [
            Ordered(
                user.tgid,
                user.name,
                cafe.name,
                order.date,
                order.status,
                order.combo_name,
                order.combo_price,
                order.notes,
                order.total_price,
                order.created_at,
                order.updated_at,
                frozenset(lines[order.id]),
            )
            for order, user, cafe in orders
        ]


async def count(clients: Clients, table: type[SQLModel]) -> int:
    async with clients.db() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


@pytest.fixture(scope="module")
async def demo(server: AsyncEngine, template: str, services: Services) -> AsyncIterator[Clients]:
    """A database with the default demo data, for all tests that only look."""
    name = f"demo_{uuid4().hex}"
    async with server.connect() as connection:
        await connection.execute(sa.text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    settings = Settings(
        database_url=server.url.set(database=name).render_as_string(hide_password=False),
        redis_url=services.redis_url,
        kafka_broker_url="127.0.0.1:1",
        jwt_secret_key=JWT_SECRET,
    )
    async with open_clients(settings) as clients:
        await seed(clients, today=TODAY)
        yield clients
    async with server.connect() as connection:
        await connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
async def orders(demo: Clients) -> list[Ordered]:
    return await ordered(demo)


def by_person(orders: list[Ordered]) -> list[list[Ordered]]:
    people: dict[int, list[Ordered]] = {}
    for order in orders:
        people.setdefault(order.tgid, []).append(order)
    return list(people.values())


async def test_the_same_seed_makes_the_same_rows(clients: Clients, orders: list[Ordered]) -> None:
    """Names, orders, lines, notes, prices and times are drawn from the seed and the day alone."""
    await seed(clients, seed=1, today=TODAY)

    assert await ordered(clients) == orders


async def test_another_seed_makes_other_orders(clients: Clients, orders: list[Ordered]) -> None:
    """Other people with other habits, and as many of them."""
    await seed(clients, seed=2, today=TODAY)

    others = await ordered(clients)
    assert {order.tgid for order in others} == {order.tgid for order in orders}
    assert {order.person for order in others} != {order.person for order in orders}
    assert not set(others) & set(orders)


async def test_people_do_not_depend_on_how_many_they_are(clients: Clients, orders: list[Ordered]) -> None:
    """The first ten of sixty are the ten."""
    await seed(clients, users=10, today=TODAY)

    assert await ordered(clients) == [order for order in orders if order.tgid < FIRST_TGID + 10]


async def test_a_second_run_adds_nothing(clients: Clients) -> None:
    """Whatever its seed and its day are: those who have ordered get no more orders."""
    await seed(clients, users=10, today=TODAY)
    before = await ordered(clients)

    await seed(clients, users=10, seed=2, today=TODAY + dt.timedelta(days=7))

    assert await ordered(clients) == before
    assert [await count(clients, table) for table in (Cafe, User)] == [3, 11]


async def test_a_second_run_costs_a_few_statements(clients: Clients) -> None:
    """Every start of `lunch-bot dev` is one."""
    await seed(clients, today=TODAY)
    statements = []
    sa.event.listen(clients.engine.sync_engine, "before_cursor_execute", lambda *told: statements.append(told[2]))

    await seed(clients, today=TODAY)

    assert len(statements) <= 5


async def test_more_people_are_added_to_those_there_are(clients: Clients, orders: list[Ordered]) -> None:
    """In two runs or in one, the same data come out."""
    await seed(clients, users=20, today=TODAY)
    await seed(clients, users=60, today=TODAY)

    assert await ordered(clients) == orders


async def test_who_has_not_ordered_gets_orders(clients: Clients, orders: list[Ordered]) -> None:
    """A person who is there keeps the name, and gets the orders that are missing."""
    await seed(clients, users=2, today=TODAY)
    async with clients.db() as session:
        await session.execute(sa.delete(Order).where(col(Order.user_tgid) == FIRST_TGID))
        await session.execute(sa.update(User).where(col(User.tgid) == FIRST_TGID).values(name="Renamed"))

    await seed(clients, users=2, today=TODAY)

    assert await ordered(clients) == [
        order._replace(person="Renamed") if order.tgid == FIRST_TGID else order
        for order in orders
        if order.tgid < FIRST_TGID + 2
    ]


async def test_people_speak_the_language_of_their_name(demo: Clients) -> None:
    """Every other one is Russian, and gets Russian recommendations."""
    async with demo.db() as session:
        found = await session.scalars(select(User).where(col(User.tgid) >= FIRST_TGID).order_by(col(User.tgid)))
        languages = [(user.name.isascii(), user.language) for user in found]

    assert languages == [(True, Language.EN), (False, Language.RU)] * 30


def test_no_two_people_have_one_name() -> None:
    """Not even a hundred thousand of them."""
    assert len({person.name for person in people(1, range(FIRST_TGID, FIRST_TGID + USERS_MAX))}) == USERS_MAX


async def test_two_at_once_make_one_set(clients: Clients, orders: list[Ordered]) -> None:
    """The second waits for the first and finds all there, or adds what the first was not asked for."""
    await seed(clients, users=1, today=TODAY)

    await asyncio.gather(seed(clients, users=40, today=TODAY), seed(clients, users=60, today=TODAY))

    assert await ordered(clients) == orders


async def test_two_at_once_make_three_cafes(clients: Clients) -> None:
    """Also where there is nothing at all yet."""
    await asyncio.gather(*(seed(clients, users=1, today=TODAY) for _ in range(4)))

    assert await count(clients, Cafe) == len(MENUS)


async def test_what_ends_in_the_middle_leaves_nothing(clients: Clients) -> None:
    """Half of the people would be worse than none. Even the cafes' numbers are not used up."""

    class Killed(Exception):
        pass

    def progress(done: int, total: int) -> None:
        if done:
            raise Killed

    with pytest.raises(Killed):
        await seed(clients, today=TODAY, progress=progress)

    tables = User, Cafe, MenuItem, Combo, Deadline, DeliveryDay, Order, OrderItem
    assert [await count(clients, table) for table in tables] == [0] * len(tables)
    await seed(clients, users=1, today=TODAY)
    assert [cafe_id for cafe_id, _ in (await seeded(clients)).cafes] == [1, 2, 3]


async def test_a_database_that_goes_away_in_the_middle_is_told(clients: Clients) -> None:
    """A COPY that is cut off fails as any other statement does, and leaves nothing."""
    seeding = asyncio.create_task(seed(clients, users=USERS_MAX, today=TODAY))
    async with clients.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        ended = sa.text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'COPY%order_items%'"
        )
        while not await connection.scalar(ended):
            assert not seeding.done()
            await asyncio.sleep(0.01)

    with pytest.raises(DBAPIError) as failure:
        await seeding

    assert isinstance(as_lunchbot_error(failure.value), ServiceUnavailable)
    assert await count(clients, User) == 0


async def test_progress_is_told_to_the_end(clients: Clients) -> None:
    """First what there is to do, then what is done of it; those who are there are not counted."""
    told: list[tuple[int, int]] = []
    await seed(clients, users=5, today=TODAY)

    await seed(clients, users=300, today=TODAY, progress=lambda *counts: told.append(counts))

    assert (told[0], told[-1]) == ((0, 295), (295, 295))
    assert len(told) > 2
    assert told == sorted(told)


async def test_the_manager_and_the_cafes_are_there(demo: Clients) -> None:
    """`lunch-bot dev --demo` counts on the manager and on the first cafe."""
    async with demo.db() as session:
        manager = await session.get_one(User, MANAGER_TGID)
        cafes = (await session.scalars(select(Cafe).order_by(col(Cafe.id)))).all()

    assert (manager.name, manager.role) == ("Maria Manager", Role.MANAGER)
    assert [(cafe.id, cafe.name, cafe.language) for cafe in cafes] == [
        (1, "Basil & Thyme", "en"),
        (2, "Пельменная №1", "ru"),
        (3, "Green Fork", "en"),
    ]


async def test_what_there_is_is_counted(demo: Clients, orders: list[Ordered]) -> None:
    """In one line for the person at the terminal."""
    lines = sum(len(order.lines) for order in orders)

    assert str(await seeded(demo)) == (
        f"Manager {MANAGER_TGID}; cafes 1 Basil & Thyme, 2 Пельменная №1, 3 Green Fork;"
        f" 60 people, {len(orders):,} orders, {lines:,} order lines."
    )


async def test_dishes_fill_the_combo_and_are_copies(demo: Clients, orders: list[Ordered]) -> None:
    """One dish for each category of the combo, and all from the cafe's own menu, at its prices."""
    async with demo.db() as session:
        combos = {
            (cafe, combo.name, combo.price): sorted(combo.categories)
            for combo, cafe in await session.execute(sa.select(Combo, col(Cafe.name)).join(Cafe))
        }
        menu = {
            (cafe, item.name, item.category, item.price)
            for item, cafe in await session.execute(sa.select(MenuItem, col(Cafe.name)).join(Cafe))
        }

    for order in orders:
        dishes = sorted(line.category for line in order.lines if line.category != "extra")
        assert dishes == combos[order.cafe, order.combo, order.combo_price]
        assert {(order.cafe, line.name, line.category, line.price) for line in order.lines} <= menu


def test_totals_are_right(orders: list[Ordered]) -> None:
    """The combo and the extras, nothing else."""
    for order in orders:
        extras = sum(line.price * line.quantity for line in order.lines if line.price is not None)
        assert order.total == order.combo_price + extras


def test_orders_are_for_the_workdays_of_forty_days(orders: list[Ordered]) -> None:
    """Not for a weekend, not for today."""
    assert {order.date for order in orders} == WORKDAYS


def test_nobody_eats_twice_a_day(orders: list[Ordered]) -> None:
    """One person has one lunch."""
    assert max(Counter((order.tgid, order.date) for order in orders).values()) == 1


def test_orders_are_confirmed_and_a_few_cancelled(orders: list[Ordered]) -> None:
    """All is past; about three in a hundred were cancelled."""
    statuses = Counter(order.status for order in orders)

    assert set(statuses) == {OrderStatus.CONFIRMED, OrderStatus.CANCELLED}
    assert 0.01 < statuses[OrderStatus.CANCELLED] / len(orders) < 0.06


async def test_past_days_are_announced(demo: Clients) -> None:
    """At their deadlines, so that nothing announces them later."""
    async with demo.db() as session:
        days = await session.execute(sa.select(DeliveryDay, Cafe).join(Cafe))
        deadlines = {(it.cafe_id, it.weekday): it for it in await session.scalars(select(Deadline))}

    announced = {}
    for day, cafe in days:
        assert day.announced_at == deadlines[cafe.id, day.date.weekday()].closes_at(day.date, cafe.timezone)
        announced[cafe.name, day.date] = day.announced_at
    assert announced.keys() == {(menu.cafe, day) for menu in MENUS for day in WORKDAYS}


async def test_people_order_before_the_deadline(demo: Clients, orders: list[Ordered]) -> None:
    """And change or cancel their orders before it, too."""
    async with demo.db() as session:
        closed = {
            (name, day.date): day.announced_at
            for day, name in await session.execute(sa.select(DeliveryDay, col(Cafe.name)).join(Cafe))
        }

    for order in orders:
        closed_at = closed[order.cafe, order.date]
        assert closed_at is not None
        assert order.created_at <= order.updated_at < closed_at


async def test_a_day_that_waits_for_its_announcement_is_left_alone(clients: Clients) -> None:
    """Its cafe would be sent what nobody ordered."""
    await seed(clients, users=1, today=TODAY)
    day = max(WORKDAYS)
    async with clients.db() as session:
        await session.execute(sa.update(DeliveryDay).where(col(DeliveryDay.date) == day).values(announced_at=None))

    await seed(clients, users=60, today=TODAY)

    assert {order.date for order in await ordered(clients) if order.tgid > FIRST_TGID} == WORKDAYS - {day}


async def test_a_cafe_that_is_there_keeps_its_menu(clients: Clients) -> None:
    """Even an empty one: then nobody has ordered there."""
    await add_cafe(clients, "Green Fork")

    await seed(clients, today=TODAY)

    assert {order.cafe for order in await ordered(clients)} == {"Basil & Thyme", "Пельменная №1"}
    assert await count(clients, Cafe) == len(MENUS)


async def test_people_who_come_later_order_from_the_menu_of_now(clients: Clients) -> None:
    """What the managers have renamed or switched off since is respected."""
    await seed(clients, users=1, today=TODAY)
    async with clients.db() as session:
        item = sa.update(MenuItem)
        await session.execute(item.where(col(MenuItem.name) == "Борщ").values(is_available=False))
        await session.execute(item.where(col(MenuItem.name) == "Плов").values(name="Плов узбекский"))

    await seed(clients, users=60, today=TODAY)

    eaten = {line.name for order in await ordered(clients) if order.tgid > FIRST_TGID for line in order.lines}
    assert "Плов узбекский" in eaten
    assert not eaten & {"Борщ", "Плов"}


async def test_without_anything_to_order_there_are_people(clients: Clients) -> None:
    """Nobody has ordered, and nothing breaks."""
    for menu in MENUS:
        await add_cafe(clients, menu.cafe)

    await seed(clients, users=3, today=TODAY)

    assert [await count(clients, table) for table in (User, Order)] == [4, 0]


def test_people_have_a_favourite_cafe(orders: list[Ordered]) -> None:
    """Most of their orders are from there, and some from elsewhere."""
    shares = [max(Counter(it.cafe for it in own).values()) / len(own) for own in by_person(orders)]

    assert sorted(shares)[len(shares) // 10] > 0.5
    assert sum(share < 1 for share in shares) > len(shares) / 2


def test_people_have_a_favourite_dish(orders: list[Ordered]) -> None:
    """They order it several times as often as if they did not care."""
    preferences = []
    for own in by_person(orders):
        dishes = Counter(
            (it.cafe, category, dish)
            for it in own
            for category in ("soup", "salad", "main")
            for dish in it.dishes(category)
        )
        (cafe, category, _), times = dishes.most_common(1)[0]
        of_category = sum(times for (*which, _), times in dishes.items() if which == [cafe, category])
        [menu] = [menu for menu in MENUS if menu.cafe == cafe]
        preferences.append(times / of_category * len(getattr(menu, f"{category}s")))

    assert median(preferences) > 2.5
    assert sum(preference > 1.5 for preference in preferences) > 0.9 * len(preferences)


def test_people_eat_differently(orders: list[Ordered]) -> None:
    """Some never eat salad and some always, some eat no meat, some have something sweet almost every day."""
    own = by_person(orders)

    def share(of: list[Ordered], kind: Kind) -> float:
        return sum(any(KINDS[line.name] is kind for line in it.lines) for it in of) / len(of)

    salads = [sum(bool(it.dishes("salad")) for it in of) / len(of) for of in own]
    assert min(salads) < 0.1
    assert max(salads) > 0.9
    assert sum(share(of, Kind.MEAT) == 0 for of in own) >= 3
    assert sum(share(of, Kind.SWEET) > 0.6 for of in own) >= 3
    assert sum(share(of, Kind.SWEET) < 0.1 for of in own) >= 3


def test_people_have_their_days(orders: list[Ordered]) -> None:
    """Most do not come on every weekday."""
    usual = [sum(times >= 3 for times in Counter(it.date.weekday() for it in of).values()) for of in by_person(orders)]

    assert {2, 3, 4, 5} <= set(usual)


def test_people_write_notes_in_their_language(orders: list[Ordered]) -> None:
    """Some write the same each time, most write none."""
    notes = Counter(order.notes for order in orders if order.notes)

    assert any(note.isascii() for note in notes)
    assert any(not note.isascii() for note in notes)
    assert sum(notes.values()) < len(orders) / 3
    assert max(notes.values()) > 5
