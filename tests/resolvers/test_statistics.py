"""What a person's last month of orders comes to, whoever else there is and whatever became of the menu."""

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlmodel import col

from app.ai.stats import CategoryShares, FavoriteDish, OrderStats
from app.clients import Clients
from app.models import Cafe, MenuCategory, MenuItem, Order, OrderItem, OrderStatus
from app.resolvers.statistics import order_stats
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_lunch
from tests.resolvers.ordering import change

TODAY = dt.date(2026, 6, 10)
FIRST_DAY = dt.date(2026, 5, 11)
"""30 days before."""

NOBODY = 4004

type Portions = tuple[MenuItem, int]


async def ordered(
    clients: Clients,
    lunch: Lunch,
    *items: MenuItem | Portions,
    days_ago: int = 1,
    tgid: int = USER_TGID,
    status: OrderStatus = OrderStatus.CONFIRMED,
) -> None:
    """Have somebody order these, each once or so many times."""
    portions = [it if isinstance(it, tuple) else (it, 1) for it in items]
    await add(clients, lunch, tgid, days_ago, status, [OrderItem.of(*it) for it in portions])


async def add(
    clients: Clients, lunch: Lunch, tgid: int, days_ago: int, status: OrderStatus, items: list[OrderItem]
) -> None:
    async with clients.db() as session:
        session.add(
            Order(
                user_tgid=tgid,
                cafe_id=lunch.cafe.id,
                date=TODAY - dt.timedelta(days=days_ago),
                status=status,
                combo_id=lunch.combo.id,
                combo_name=lunch.combo.name,
                items=items,
            )
        )


async def stats_of(clients: Clients, tgid: int = USER_TGID) -> OrderStats:
    async with clients.db() as session:
        found = await order_stats(session, [tgid], TODAY)
    assert list(found) == [tgid]
    return found[tgid]


async def favorites_of(clients: Clients) -> list[tuple[str, int]]:
    return [(dish.name, dish.count) for dish in (await stats_of(clients)).favorite_dishes]


async def add_extra(clients: Clients, lunch: Lunch, name: str) -> MenuItem:
    async with clients.db() as session:
        extra = MenuItem(cafe_id=lunch.cafe.id, name=name, category=MenuCategory.EXTRA, price=Decimal(1))
        session.add(extra)
        await session.flush()
        await session.refresh(extra)
    return extra


async def switch_off(clients: Clients, cafe: Cafe) -> None:
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).where(col(Cafe.id) == cafe.id).values(is_active=False))


@contextmanager
def statements(clients: Clients) -> Iterator[list[str]]:
    """The statements that are sent meanwhile."""
    sent: list[str] = []

    def hear(*arguments: object) -> None:
        sent.append(str(arguments[2]))

    sa.event.listen(clients.engine.sync_engine, "before_cursor_execute", hear)
    yield sent
    sa.event.remove(clients.engine.sync_engine, "before_cursor_execute", hear)


@pytest.mark.parametrize(
    ("date", "counts"),
    [
        (FIRST_DAY - dt.timedelta(days=1), False),
        (FIRST_DAY, True),
        (TODAY, True),
        (TODAY + dt.timedelta(days=1), False),
    ],
)
async def test_the_period_is_thirty_days_and_today(
    clients: Clients, people: None, lunch: Lunch, date: dt.date, counts: bool
) -> None:
    """The first day and today belong to it; the day before, and what is ordered for tomorrow, do not."""
    await ordered(clients, lunch, lunch.soup, lunch.main, days_ago=(TODAY - date).days)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes, len(stats.favorite_dishes)) == ((1, 2, 2) if counts else (0, 0, 0))


async def test_cancelled_orders_are_left_out(clients: Clients, people: None, lunch: Lunch) -> None:
    """Nothing of them is counted; one that is not announced yet is."""
    await ordered(clients, lunch, lunch.salad, (lunch.cola, 9), days_ago=1, status=OrderStatus.CANCELLED)
    await ordered(clients, lunch, lunch.soup, lunch.main, days_ago=1, status=OrderStatus.PENDING)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes) == (1, 2)
    assert stats.categories == CategoryShares(soup=0.5, main=0.5)
    assert [dish.name for dish in stats.favorite_dishes] == ["Borscht", "Pelmeni"]


async def test_shares_are_of_portions(clients: Clients, people: None, lunch: Lunch) -> None:
    """Three colas weigh as much as three dishes."""
    await ordered(clients, lunch, lunch.soup, lunch.main, (lunch.cola, 3), days_ago=1)
    await ordered(clients, lunch, lunch.salad, (lunch.cola, 1), (lunch.cake, 1), days_ago=2)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes) == (2, 5)
    assert stats.categories == CategoryShares(soup=1 / 8, salad=1 / 8, main=1 / 8, extra=5 / 8)


async def test_an_order_of_nothing_is_an_order(clients: Clients, people: None, lunch: Lunch) -> None:
    """There are no shares of nothing: all of them are 0."""
    await ordered(clients, lunch)

    assert await stats_of(clients) == OrderStats(orders_count=1, total_dishes_available=6)


async def test_cafes_are_added_up(clients: Clients, people: None, lunch: Lunch) -> None:
    """Dishes of the same name from two cafes are two dishes."""
    other = await add_lunch(clients, "Green Fork")
    await ordered(clients, lunch, lunch.soup, (lunch.cola, 2))
    await ordered(clients, other, other.soup, other.main)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes, stats.total_dishes_available) == (2, 4, 12)
    assert await favorites_of(clients) == [("Cola", 2), ("Borscht", 1), ("Borscht", 1), ("Pelmeni", 1)]


async def test_dishes_have_their_names_of_now(clients: Clients, people: None, lunch: Lunch) -> None:
    """A dish that was renamed between two orders is one dish, with the new name."""
    await ordered(clients, lunch, lunch.soup, days_ago=2)
    await change(clients, lunch.soup, name="Green borscht")
    renamed = lunch.soup.model_copy(update={"name": "Green borscht"})
    await ordered(clients, lunch, renamed, days_ago=1)

    assert await favorites_of(clients) == [("Green borscht", 2)]


async def test_dishes_count_for_what_they_were_ordered_as(clients: Clients, people: None, lunch: Lunch) -> None:
    """A soup that has become a salad is half of each, and still one dish with all its portions."""
    await ordered(clients, lunch, lunch.soup, days_ago=2)
    await change(clients, lunch.soup, category=MenuCategory.SALAD)
    as_salad = lunch.soup.model_copy(update={"category": MenuCategory.SALAD})
    await ordered(clients, lunch, as_salad, days_ago=1)

    stats = await stats_of(clients)

    assert stats.categories == CategoryShares(soup=0.5, salad=0.5)
    assert (stats.unique_dishes, stats.favorite_dishes) == (1, (FavoriteDish(name="Borscht", count=2),))


async def test_what_is_switched_off_is_not_available(clients: Clients, people: None, lunch: Lunch) -> None:
    """It was eaten all the same."""
    await ordered(clients, lunch, lunch.soup, lunch.main)
    await change(clients, lunch.soup, is_available=False)

    stats = await stats_of(clients)

    assert (stats.unique_dishes, stats.total_dishes_available) == (2, 5)
    assert await favorites_of(clients) == [("Borscht", 1), ("Pelmeni", 1)]


async def test_what_closed_cafes_have_is_not_available(clients: Clients, people: None, lunch: Lunch) -> None:
    """What was ordered there was eaten all the same."""
    closed = await add_lunch(clients, "Green Fork")
    await ordered(clients, closed, closed.soup, closed.main)
    await switch_off(clients, closed.cafe)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes, stats.total_dishes_available) == (1, 2, 6)


async def test_the_most_ordered_come_first(clients: Clients, people: None, lunch: Lunch) -> None:
    """By portions, not by orders; those with as many by name."""
    await ordered(clients, lunch, lunch.soup, lunch.main, (lunch.cake, 3), days_ago=1)
    await ordered(clients, lunch, lunch.other_soup, lunch.main, days_ago=2)

    assert await favorites_of(clients) == [("Honey cake", 3), ("Pelmeni", 2), ("Borscht", 1), ("Solyanka", 1)]


async def test_there_are_five_favorites(clients: Clients, people: None, lunch: Lunch) -> None:
    """Of those with as many portions, the first by name are among them."""
    extras = [await add_extra(clients, lunch, name) for name in ("Tea", "Bun", "Tea", "Jam", "Ale", "Tea")]
    await ordered(clients, lunch, *reversed(extras), (lunch.cola, 2), days_ago=2)
    await ordered(clients, lunch, (extras[2], 1), days_ago=1)

    stats = await stats_of(clients)

    assert stats.unique_dishes == 7
    assert await favorites_of(clients) == [("Cola", 2), ("Tea", 2), ("Ale", 1), ("Bun", 1), ("Jam", 1)]


async def test_everybody_has_their_own(clients: Clients, people: None, lunch: Lunch) -> None:
    """Who is asked for together is not mixed up, whatever the order."""
    await ordered(clients, lunch, lunch.soup, lunch.main, tgid=USER_TGID)
    await ordered(clients, lunch, lunch.salad, (lunch.cola, 3), tgid=MANAGER_TGID)

    async with clients.db() as session:
        both = await order_stats(session, [USER_TGID, MANAGER_TGID], TODAY)
        turned = await order_stats(session, {MANAGER_TGID: None, USER_TGID: None}, TODAY)

    assert both == turned == {tgid: await stats_of(clients, tgid) for tgid in (USER_TGID, MANAGER_TGID)}
    assert both[USER_TGID].categories == CategoryShares(soup=0.5, main=0.5)
    assert both[MANAGER_TGID].categories == CategoryShares(salad=0.25, extra=0.75)


async def test_nothing_ordered_is_all_zero(clients: Clients, people: None, lunch: Lunch) -> None:
    """For one who has never ordered and for one who is not there, but there is something to eat."""
    await ordered(clients, lunch, lunch.soup, tgid=MANAGER_TGID)

    async with clients.db() as session:
        found = await order_stats(session, [USER_TGID, NOBODY, MANAGER_TGID], TODAY)

    assert found[USER_TGID] == found[NOBODY] == OrderStats(total_dishes_available=6)
    assert found[MANAGER_TGID].orders_count == 1


async def test_without_menus_all_is_zero(clients: Clients) -> None:
    """A programme that has just been set up."""
    assert await stats_of(clients) == OrderStats()


async def test_nobody_is_nothing(clients: Clients, people: None, lunch: Lunch) -> None:
    """Who is not asked for is not there."""
    await ordered(clients, lunch, lunch.soup)

    async with clients.db() as session:
        assert await order_stats(session, [], TODAY) == {}


@pytest.mark.parametrize("tgids", [[USER_TGID], [USER_TGID, MANAGER_TGID, NOBODY], [USER_TGID, *range(1, 2000)]])
async def test_it_is_one_statement(clients: Clients, people: None, lunch: Lunch, tgids: list[int]) -> None:
    """The same one, however many people are asked for."""
    await ordered(clients, lunch, lunch.soup, lunch.main)
    with statements(clients) as for_one:
        await stats_of(clients)

    with statements(clients) as sent:
        async with clients.db() as session:
            found = await order_stats(session, tgids, TODAY)

    assert len(sent) == 1
    assert sent == for_one
    assert found.keys() == set(tgids)


@dataclass(frozen=True)
class Dish:
    """A menu item, as it is on the menu in the end."""

    name: str
    is_available: bool


@dataclass(frozen=True)
class Placed:
    """An order: the dishes are numbers of those of its cafe, each with what it was ordered as and how many times."""

    tgid: int
    cafe: int
    days_ago: int
    status: OrderStatus
    items: dict[int, tuple[MenuCategory, int]]

    @property
    def is_counted(self) -> bool:
        return self.status is not OrderStatus.CANCELLED and 0 <= self.days_ago <= 30

    @property
    def place(self) -> tuple[int, int, int, bool]:
        """Of those that are not cancelled there is one for each person, cafe and day."""
        return self.tgid, self.cafe, self.days_ago, self.status is OrderStatus.CANCELLED


CAFES = 2
DISHES = 6

dishes = st.builds(Dish, st.sampled_from(["Ale", "Bun", "bun", "Ёрш", "Щи"]), st.booleans())
menus = st.lists(st.lists(dishes, min_size=DISHES, max_size=DISHES), min_size=CAFES, max_size=CAFES)
dish_categories = st.sampled_from([MenuCategory.SOUP, MenuCategory.SALAD, MenuCategory.MAIN])
portions = st.tuples(st.just(MenuCategory.EXTRA), st.integers(1, 20)) | st.tuples(dish_categories, st.just(1))


def one_a_category(items: dict[int, tuple[MenuCategory, int]]) -> dict[int, tuple[MenuCategory, int]]:
    """Leave out the dishes whose category is taken."""
    taken: set[MenuCategory] = set()
    kept = {}
    for number, (category, quantity) in items.items():
        if category not in taken:
            kept[number] = category, quantity
        if category is not MenuCategory.EXTRA:
            taken.add(category)
    return kept


placed_orders = st.lists(
    st.builds(
        Placed,
        tgid=st.sampled_from([USER_TGID, MANAGER_TGID]),
        cafe=st.integers(0, CAFES - 1),
        days_ago=st.integers(0, 10) | st.sampled_from([-1, 29, 30, 31]),
        status=st.sampled_from([*OrderStatus, OrderStatus.CONFIRMED]),
        items=st.dictionaries(st.integers(0, DISHES - 1), portions, max_size=DISHES).map(one_a_category),
    ),
    unique_by=lambda placed: placed.place,
    max_size=12,
)


def described(tgid: int, orders: list[Placed], menu: list[list[Dish]], closed: set[int]) -> OrderStats:
    """Say in plain words what the figures are."""
    own = [order for order in orders if order.tgid == tgid and order.is_counted]
    by_category: Counter[MenuCategory] = Counter()
    by_dish: Counter[tuple[int, int]] = Counter()
    for order in own:
        for number, (category, quantity) in order.items.items():
            by_category[category] += quantity
            by_dish[order.cafe, number] += quantity
    names = {(cafe, number): dish.name for cafe, items in enumerate(menu) for number, dish in enumerate(items)}
    ranked = sorted(by_dish, key=lambda dish: (-by_dish[dish], names[dish], dish))
    return OrderStats(
        orders_count=len(own),
        categories=CategoryShares(
            **{category.value: quantity / by_category.total() for category, quantity in by_category.items()}
        ),
        unique_dishes=len(by_dish),
        total_dishes_available=sum(
            dish.is_available for cafe, items in enumerate(menu) if cafe not in closed for dish in items
        ),
        favorite_dishes=tuple(FavoriteDish(name=names[dish], count=by_dish[dish]) for dish in ranked[:5]),
    )


@pytest.fixture
async def lunches(clients: Clients, people: None) -> list[Lunch]:
    return [await add_lunch(clients, f"Cafe {number}") for number in range(CAFES)]


def items_of(lunch: Lunch) -> list[MenuItem]:
    return [lunch.soup, lunch.other_soup, lunch.salad, lunch.main, lunch.cola, lunch.cake]


async def set_up(
    clients: Clients, lunches: list[Lunch], orders: list[Placed], menu: list[list[Dish]], closed: set[int]
) -> None:
    """Have these orders and no others, and this menu."""
    async with clients.db() as session:
        await session.execute(sa.delete(Order))
        for number, lunch in enumerate(lunches):
            cafe = sa.update(Cafe).where(col(Cafe.id) == lunch.cafe.id)
            await session.execute(cafe.values(is_active=number not in closed))
            for item, dish in zip(items_of(lunch), menu[number], strict=True):
                update = sa.update(MenuItem).where(col(MenuItem.id) == item.id)
                await session.execute(update.values(name=dish.name, is_available=dish.is_available))
    for order in orders:
        lunch = lunches[order.cafe]
        items = [
            OrderItem(
                menu_item_id=items_of(lunch)[number].id,
                name="as it was",
                category=category,
                quantity=quantity,
                price=Decimal(1) if category is MenuCategory.EXTRA else None,
            )
            for number, (category, quantity) in order.items.items()
        ]
        await add(clients, lunch, order.tgid, order.days_ago, order.status, items)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # each example replaces what the one before has left
        HealthCheck.too_slow,
    ],
)
@given(orders=placed_orders, menu=menus, closed=st.sets(st.integers(0, CAFES - 1)))
async def test_figures_are_what_a_plain_count_gives(
    clients: Clients, lunches: list[Lunch], orders: list[Placed], menu: list[list[Dish]], closed: set[int]
) -> None:
    """Whatever people have ordered, and whatever became of the menu."""
    await set_up(clients, lunches, orders, menu, closed)
    tgids = [MANAGER_TGID, NOBODY, USER_TGID]

    async with clients.db() as session:
        found = await order_stats(session, tgids, TODAY)

    assert found == {tgid: described(tgid, orders, menu, closed) for tgid in tgids}
