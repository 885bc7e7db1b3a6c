"""The demo data: they are reproducible, complete, follow the rules of ordering and contain habits."""

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
from app.dev.seed import MANAGER_TGID, count_demo_data, seed
from app.dev.seed.menus import KINDS, MENUS, Kind
from app.dev.seed.users import FIRST_TGID, MAX_USERS, draw_users
from app.errors import ServiceUnavailable, as_lunchbot_error
from app.models import Cafe, Combo, Deadline, DeliveryDay, Language, MenuItem, Order, OrderItem, OrderStatus, Role, User
from app.settings import Settings
from tests.conftest import JWT_SECRET, Services, add_cafe

TODAY = dt.date(2026, 3, 4)
WORKDAYS = {day for ago in range(1, 41) if (day := TODAY - dt.timedelta(days=ago)).weekday() < 5}


class Line(NamedTuple):
    """A dish or an extra of an order."""

    name: str
    category: str
    price: Decimal | None
    quantity: int


class OrderRecord(NamedTuple):
    """An order without the ids that the database generates."""

    tgid: int
    user: str
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


async def list_orders(clients: Clients) -> list[OrderRecord]:
    """Return all orders by user and date."""
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
            OrderRecord(
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


async def count_rows(clients: Clients, table: type[SQLModel]) -> int:
    async with clients.db() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


@pytest.fixture(scope="module")
async def demo(server: AsyncEngine, template: str, services: Services) -> AsyncIterator[Clients]:
    """A database with the default demo data, for tests that only read."""
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
async def orders(demo: Clients) -> list[OrderRecord]:
    return await list_orders(demo)


def group_by_user(orders: list[OrderRecord]) -> list[list[OrderRecord]]:
    groups: dict[int, list[OrderRecord]] = {}
    for order in orders:
        groups.setdefault(order.tgid, []).append(order)
    return list(groups.values())


async def test_the_same_seed_gives_the_same_rows(clients: Clients, orders: list[OrderRecord]) -> None:
    """Names, orders, lines, notes, prices and times depend only on the seed and the day."""
    await seed(clients, seed=1, today=TODAY)

    assert await list_orders(clients) == orders


async def test_another_seed_gives_other_orders(clients: Clients, orders: list[OrderRecord]) -> None:
    """Another seed gives the same number of users, with other names and orders."""
    await seed(clients, seed=2, today=TODAY)

    others = await list_orders(clients)
    assert {order.tgid for order in others} == {order.tgid for order in orders}
    assert {order.user for order in others} != {order.user for order in orders}
    assert not set(others) & set(orders)


async def test_users_do_not_depend_on_their_number(clients: Clients, orders: list[OrderRecord]) -> None:
    """Ten users are the same as the first ten of sixty."""
    await seed(clients, users=10, today=TODAY)

    assert await list_orders(clients) == [order for order in orders if order.tgid < FIRST_TGID + 10]


async def test_a_second_run_adds_nothing(clients: Clients) -> None:
    """A second run, even with another seed and day, adds no orders for users with orders."""
    await seed(clients, users=10, today=TODAY)
    before = await list_orders(clients)

    await seed(clients, users=10, seed=2, today=TODAY + dt.timedelta(days=7))

    assert await list_orders(clients) == before
    assert [await count_rows(clients, table) for table in (Cafe, User)] == [3, 11]


async def test_a_second_run_needs_few_statements(clients: Clients) -> None:
    """A second run executes at most five statements, because every start of `lunch-bot dev` is one."""
    await seed(clients, today=TODAY)
    statements = []
    sa.event.listen(
        clients.engine.sync_engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2])
    )

    await seed(clients, today=TODAY)

    assert len(statements) <= 5


async def test_users_are_added_to_existing_ones(clients: Clients, orders: list[OrderRecord]) -> None:
    """Two runs with increasing numbers of users give the same data as one."""
    await seed(clients, users=20, today=TODAY)
    await seed(clients, users=60, today=TODAY)

    assert await list_orders(clients) == orders


async def test_an_existing_user_without_orders_gets_orders(clients: Clients, orders: list[OrderRecord]) -> None:
    """An existing user keeps the name and gets the missing orders."""
    await seed(clients, users=2, today=TODAY)
    async with clients.db() as session:
        await session.execute(sa.delete(Order).where(col(Order.user_tgid) == FIRST_TGID))
        await session.execute(sa.update(User).where(col(User.tgid) == FIRST_TGID).values(name="Renamed"))

    await seed(clients, users=2, today=TODAY)

    assert await list_orders(clients) == [
        order._replace(user="Renamed") if order.tgid == FIRST_TGID else order
        for order in orders
        if order.tgid < FIRST_TGID + 2
    ]


async def test_users_have_the_language_of_their_name(demo: Clients) -> None:
    """Every second user has a Russian name and the language Russian."""
    async with demo.db() as session:
        users = await session.scalars(select(User).where(col(User.tgid) >= FIRST_TGID).order_by(col(User.tgid)))
        languages = [(user.name.isascii(), user.language) for user in users]

    assert languages == [(True, Language.EN), (False, Language.RU)] * 30


def test_names_are_unique() -> None:
    """A hundred thousand users have different names."""
    assert len({user.name for user in draw_users(1, range(FIRST_TGID, FIRST_TGID + MAX_USERS))}) == MAX_USERS


async def test_simultaneous_runs_give_the_same_data(clients: Clients, orders: list[OrderRecord]) -> None:
    """Two simultaneous runs give the same data as one run with the larger number of users."""
    await seed(clients, users=1, today=TODAY)

    await asyncio.gather(seed(clients, users=40, today=TODAY), seed(clients, users=60, today=TODAY))

    assert await list_orders(clients) == orders


async def test_simultaneous_first_runs_add_the_cafes_once(clients: Clients) -> None:
    """Simultaneous runs in an empty database add each cafe once."""
    await asyncio.gather(*(seed(clients, users=1, today=TODAY) for _ in range(4)))

    assert await count_rows(clients, Cafe) == len(MENUS)


async def test_an_interrupted_run_leaves_nothing(clients: Clients) -> None:
    """An interrupted run leaves no rows and does not use up ids of cafes."""

    class Killed(Exception):
        pass

    def progress(done: int, total: int) -> None:
        if done:
            raise Killed

    with pytest.raises(Killed):
        await seed(clients, today=TODAY, progress=progress)

    tables = User, Cafe, MenuItem, Combo, Deadline, DeliveryDay, Order, OrderItem
    assert [await count_rows(clients, table) for table in tables] == [0] * len(tables)
    await seed(clients, users=1, today=TODAY)
    assert [cafe_id for cafe_id, _ in (await count_demo_data(clients)).cafes] == [1, 2, 3]


async def test_a_lost_connection_is_reported(clients: Clients) -> None:
    """A lost connection during COPY means that the service is unavailable, and leaves no rows."""
    seeding = asyncio.create_task(seed(clients, users=MAX_USERS, today=TODAY))
    async with clients.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        terminate = sa.text(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND query LIKE 'COPY%order_items%'"
        )
        while not await connection.scalar(terminate):
            assert not seeding.done()
            await asyncio.sleep(0.01)

    with pytest.raises(DBAPIError) as failure:
        await seeding

    assert isinstance(as_lunchbot_error(failure.value), ServiceUnavailable)
    assert await count_rows(clients, User) == 0


async def test_progress_is_reported_until_the_end(clients: Clients) -> None:
    """Progress starts at 0 and ends at the number of new users."""
    reports: list[tuple[int, int]] = []
    await seed(clients, users=5, today=TODAY)

    await seed(clients, users=300, today=TODAY, progress=lambda *counts: reports.append(counts))

    assert (reports[0], reports[-1]) == ((0, 295), (295, 295))
    assert len(reports) > 2
    assert reports == sorted(reports)


async def test_the_manager_and_the_cafes_are_added(demo: Clients) -> None:
    """The manager and the cafes have the ids that `lunch-bot dev --demo` expects."""
    async with demo.db() as session:
        manager = await session.get_one(User, MANAGER_TGID)
        cafes = (await session.scalars(select(Cafe).order_by(col(Cafe.id)))).all()

    assert (manager.name, manager.role) == ("Maria Manager", Role.MANAGER)
    assert [(cafe.id, cafe.name, cafe.language) for cafe in cafes] == [
        (1, "Basil & Thyme", "en"),
        (2, "Пельменная №1", "ru"),
        (3, "Green Fork", "en"),
    ]


async def test_demo_data_are_counted(demo: Clients, orders: list[OrderRecord]) -> None:
    """The counts are formatted as one line."""
    lines = sum(len(order.lines) for order in orders)

    assert str(await count_demo_data(demo)) == (
        f"Manager {MANAGER_TGID}; cafes 1 Basil & Thyme, 2 Пельменная №1, 3 Green Fork;"
        f" 60 users, {len(orders):,} orders, {lines:,} order lines."
    )


async def test_items_are_copies_of_the_menu(demo: Clients, orders: list[OrderRecord]) -> None:
    """An order has one dish for each category of its combo, and copies names and prices from the cafe's menu."""
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


def test_totals_are_sums(orders: list[OrderRecord]) -> None:
    """The total is the price of the combo and of the extras."""
    for order in orders:
        extras = sum(line.price * line.quantity for line in order.lines if line.price is not None)
        assert order.total == order.combo_price + extras


def test_orders_are_for_past_workdays(orders: list[OrderRecord]) -> None:
    """Orders are for every workday of the last forty days, without today."""
    assert {order.date for order in orders} == WORKDAYS


def test_a_user_has_one_order_a_day(orders: list[OrderRecord]) -> None:
    """A user has at most one order for a date."""
    assert max(Counter((order.tgid, order.date) for order in orders).values()) == 1


def test_orders_are_confirmed_and_a_few_cancelled(orders: list[OrderRecord]) -> None:
    """About three percent of the orders are cancelled, the others confirmed."""
    statuses = Counter(order.status for order in orders)

    assert set(statuses) == {OrderStatus.CONFIRMED, OrderStatus.CANCELLED}
    assert 0.01 < statuses[OrderStatus.CANCELLED] / len(orders) < 0.06


async def test_past_dates_are_announced(demo: Clients) -> None:
    """Every past date is announced at its deadline, so that no job announces it later."""
    async with demo.db() as session:
        days = await session.execute(sa.select(DeliveryDay, Cafe).join(Cafe))
        deadlines = {
            (deadline.cafe_id, deadline.weekday): deadline for deadline in await session.scalars(select(Deadline))
        }

    announced = {}
    for day, cafe in days:
        assert day.announced_at == deadlines[cafe.id, day.date.weekday()].closes_at(day.date, cafe.timezone)
        announced[cafe.name, day.date] = day.announced_at
    assert announced.keys() == {(menu.cafe, day) for menu in MENUS for day in WORKDAYS}


async def test_users_order_before_the_deadline(demo: Clients, orders: list[OrderRecord]) -> None:
    """Orders are placed, changed and cancelled before the deadline."""
    async with demo.db() as session:
        deadlines = {
            (name, day.date): day.announced_at
            for day, name in await session.execute(sa.select(DeliveryDay, col(Cafe.name)).join(Cafe))
        }

    for order in orders:
        deadline = deadlines[order.cafe, order.date]
        assert deadline is not None
        assert order.created_at <= order.updated_at < deadline


async def test_a_date_that_waits_for_its_announcement_gets_no_orders(clients: Clients) -> None:
    """A date without announcement gets no demo orders: its cafe would get them in the order list."""
    await seed(clients, users=1, today=TODAY)
    day = max(WORKDAYS)
    async with clients.db() as session:
        await session.execute(sa.update(DeliveryDay).where(col(DeliveryDay.date) == day).values(announced_at=None))

    await seed(clients, users=60, today=TODAY)

    assert {order.date for order in await list_orders(clients) if order.tgid > FIRST_TGID} == WORKDAYS - {day}


async def test_an_existing_cafe_keeps_its_menu(clients: Clients) -> None:
    """An existing cafe with an empty menu stays empty and gets no orders."""
    await add_cafe(clients, "Green Fork")

    await seed(clients, today=TODAY)

    assert {order.cafe for order in await list_orders(clients)} == {"Basil & Thyme", "Пельменная №1"}
    assert await count_rows(clients, Cafe) == len(MENUS)


async def test_later_users_order_from_the_current_menu(clients: Clients) -> None:
    """Users that are added later order renamed items by the new name, and no deactivated items."""
    await seed(clients, users=1, today=TODAY)
    async with clients.db() as session:
        update = sa.update(MenuItem)
        await session.execute(update.where(col(MenuItem.name) == "Борщ").values(is_available=False))
        await session.execute(update.where(col(MenuItem.name) == "Плов").values(name="Плов узбекский"))

    await seed(clients, users=60, today=TODAY)

    ordered = {line.name for order in await list_orders(clients) if order.tgid > FIRST_TGID for line in order.lines}
    assert "Плов узбекский" in ordered
    assert not ordered & {"Борщ", "Плов"}


async def test_empty_menus_give_users_without_orders(clients: Clients) -> None:
    """With empty menus, users are added without orders."""
    for menu in MENUS:
        await add_cafe(clients, menu.cafe)

    await seed(clients, users=3, today=TODAY)

    assert [await count_rows(clients, table) for table in (User, Order)] == [4, 0]


def test_users_have_a_favourite_cafe(orders: list[OrderRecord]) -> None:
    """Most users order mainly from one cafe, and sometimes from others."""
    shares = [max(Counter(order.cafe for order in own).values()) / len(own) for own in group_by_user(orders)]

    assert sorted(shares)[len(shares) // 10] > 0.5
    assert sum(share < 1 for share in shares) > len(shares) / 2


def test_users_have_a_favourite_dish(orders: list[OrderRecord]) -> None:
    """Users order their favourite dish several times as often as a random choice would."""
    preferences = []
    for own in group_by_user(orders):
        dishes = Counter(
            (order.cafe, category, dish)
            for order in own
            for category in ("soup", "salad", "main")
            for dish in order.dishes(category)
        )
        (cafe, category, _), times = dishes.most_common(1)[0]
        category_total = sum(times for (*key, _), times in dishes.items() if key == [cafe, category])
        [menu] = [menu for menu in MENUS if menu.cafe == cafe]
        preferences.append(times / category_total * len(getattr(menu, f"{category}s")))

    assert median(preferences) > 2.5
    assert sum(preference > 1.5 for preference in preferences) > 0.9 * len(preferences)


def test_users_have_different_habits(orders: list[OrderRecord]) -> None:
    """Some users rarely order salad and some almost always, some order no meat, some order sweets almost every day."""
    groups = group_by_user(orders)

    def share(orders: list[OrderRecord], kind: Kind) -> float:
        return sum(any(KINDS[line.name] is kind for line in order.lines) for order in orders) / len(orders)

    salads = [sum(bool(order.dishes("salad")) for order in orders) / len(orders) for orders in groups]
    assert min(salads) < 0.1
    assert max(salads) > 0.9
    assert sum(share(group, Kind.MEAT) == 0 for group in groups) >= 3
    assert sum(share(group, Kind.SWEET) > 0.6 for group in groups) >= 3
    assert sum(share(group, Kind.SWEET) < 0.1 for group in groups) >= 3


def test_users_have_usual_weekdays(orders: list[OrderRecord]) -> None:
    """Users order on two to five usual weekdays."""
    usual = [
        sum(times >= 3 for times in Counter(order.date.weekday() for order in group).values())
        for group in group_by_user(orders)
    ]

    assert {2, 3, 4, 5} <= set(usual)


def test_users_write_notes_in_their_language(orders: list[OrderRecord]) -> None:
    """Some orders have notes, in both languages, and some users repeat the same note."""
    notes = Counter(order.notes for order in orders if order.notes)

    assert any(note.isascii() for note in notes)
    assert any(not note.isascii() for note in notes)
    assert sum(notes.values()) < len(orders) / 3
    assert max(notes.values()) > 5
