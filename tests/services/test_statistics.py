"""Statistics of a user's orders within the last 30 days."""

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
from app.services.statistics import order_stats
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_lunch
from tests.ordering import change

TODAY = dt.date(2026, 6, 10)
FIRST_DAY = dt.date(2026, 5, 11)
"""30 days before."""

UNKNOWN_TGID = 4004

type Portions = tuple[MenuItem, int]


async def add_order(
    clients: Clients,
    lunch: Lunch,
    *items: MenuItem | Portions,
    days_ago: int = 1,
    tgid: int = USER_TGID,
    status: OrderStatus = OrderStatus.CONFIRMED,
) -> None:
    """Add an order of menu items, each once or with a quantity."""
    portions = [item if isinstance(item, tuple) else (item, 1) for item in items]
    await add_order_of_items(clients, lunch, tgid, days_ago, status, [OrderItem.of(*portion) for portion in portions])


async def add_order_of_items(
    clients: Clients, lunch: Lunch, tgid: int, days_ago: int, status: OrderStatus, items: list[OrderItem]
) -> None:
    """Add an order with these items."""
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
    """Compute the statistics of one user."""
    async with clients.db() as session:
        found = await order_stats(session, [tgid], TODAY)
    assert list(found) == [tgid]
    return found[tgid]


async def favorites_of(clients: Clients) -> list[tuple[str, int]]:
    """Return the favorite dishes with their counts."""
    return [(dish.name, dish.count) for dish in (await stats_of(clients)).favorite_dishes]


async def add_extra(clients: Clients, lunch: Lunch, name: str) -> MenuItem:
    """Add an extra to the menu."""
    async with clients.db() as session:
        extra = MenuItem(cafe_id=lunch.cafe.id, name=name, category=MenuCategory.EXTRA, price=Decimal(1))
        session.add(extra)
        await session.flush()
        await session.refresh(extra)
    return extra


async def deactivate(clients: Clients, cafe: Cafe) -> None:
    """Deactivate a cafe."""
    async with clients.db() as session:
        await session.execute(sa.update(Cafe).where(col(Cafe.id) == cafe.id).values(is_active=False))


@contextmanager
def statements(clients: Clients) -> Iterator[list[str]]:
    """Collect the statements that the block sends to the database."""
    sent: list[str] = []

    def collect(*arguments: object) -> None:
        sent.append(str(arguments[2]))

    sa.event.listen(clients.engine.sync_engine, "before_cursor_execute", collect)
    yield sent
    sa.event.remove(clients.engine.sync_engine, "before_cursor_execute", collect)


@pytest.mark.parametrize(
    ("date", "is_counted"),
    [
        (FIRST_DAY - dt.timedelta(days=1), False),
        (FIRST_DAY, True),
        (TODAY, True),
        (TODAY + dt.timedelta(days=1), False),
    ],
)
async def test_the_period_is_thirty_days_and_today(
    clients: Clients, people: None, lunch: Lunch, date: dt.date, is_counted: bool
) -> None:
    """The period has the 30 days before today, and today."""
    await add_order(clients, lunch, lunch.soup, lunch.main, days_ago=(TODAY - date).days)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes, len(stats.favorite_dishes)) == (
        (1, 2, 2) if is_counted else (0, 0, 0)
    )


async def test_cancelled_orders_are_left_out(clients: Clients, people: None, lunch: Lunch) -> None:
    """Statistics leave cancelled orders out, and have pending ones."""
    await add_order(clients, lunch, lunch.salad, (lunch.cola, 9), days_ago=1, status=OrderStatus.CANCELLED)
    await add_order(clients, lunch, lunch.soup, lunch.main, days_ago=1, status=OrderStatus.PENDING)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes) == (1, 2)
    assert stats.categories == CategoryShares(soup=0.5, main=0.5)
    assert [dish.name for dish in stats.favorite_dishes] == ["Borscht", "Pelmeni"]


async def test_shares_are_of_portions(clients: Clients, people: None, lunch: Lunch) -> None:
    """The shares of categories are shares of portions: three colas count as three dishes."""
    await add_order(clients, lunch, lunch.soup, lunch.main, (lunch.cola, 3), days_ago=1)
    await add_order(clients, lunch, lunch.salad, (lunch.cola, 1), (lunch.cake, 1), days_ago=2)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes) == (2, 5)
    assert stats.categories == CategoryShares(soup=1 / 8, salad=1 / 8, main=1 / 8, extra=5 / 8)


async def test_an_order_without_items_counts(clients: Clients, people: None, lunch: Lunch) -> None:
    """An order without items counts as an order, and all shares are 0."""
    await add_order(clients, lunch)

    assert await stats_of(clients) == OrderStats(orders_count=1, total_dishes_available=6)


async def test_dishes_of_all_cafes_are_counted(clients: Clients, people: None, lunch: Lunch) -> None:
    """Statistics have the dishes of all cafes; dishes with the same name in two cafes are two dishes."""
    other = await add_lunch(clients, "Green Fork")
    await add_order(clients, lunch, lunch.soup, (lunch.cola, 2))
    await add_order(clients, other, other.soup, other.main)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes, stats.total_dishes_available) == (2, 4, 12)
    assert await favorites_of(clients) == [("Cola", 2), ("Borscht", 1), ("Borscht", 1), ("Pelmeni", 1)]


async def test_dishes_have_the_names_that_they_were_ordered_by(clients: Clients, people: None, lunch: Lunch) -> None:
    """A menu item that got another name between orders is two dishes, each with its name."""
    await add_order(clients, lunch, lunch.soup, days_ago=3)
    await add_order(clients, lunch, lunch.soup, days_ago=2)
    await change(clients, lunch.soup, name="Pea soup with bacon")
    renamed = lunch.soup.model_copy(update={"name": "Pea soup with bacon"})
    await add_order(clients, lunch, renamed, days_ago=1)

    assert await favorites_of(clients) == [("Borscht", 2), ("Pea soup with bacon", 1)]
    assert (await stats_of(clients)).unique_dishes == 2


async def test_dishes_count_for_their_category_when_ordered(clients: Clients, people: None, lunch: Lunch) -> None:
    """A soup that became a salad counts for both categories, and is one dish."""
    await add_order(clients, lunch, lunch.soup, days_ago=2)
    await change(clients, lunch.soup, category=MenuCategory.SALAD)
    as_salad = lunch.soup.model_copy(update={"category": MenuCategory.SALAD})
    await add_order(clients, lunch, as_salad, days_ago=1)

    stats = await stats_of(clients)

    assert stats.categories == CategoryShares(soup=0.5, salad=0.5)
    assert (stats.unique_dishes, stats.favorite_dishes) == (1, (FavoriteDish(name="Borscht", count=2),))


async def test_an_unavailable_dish_counts_only_as_ordered(clients: Clients, people: None, lunch: Lunch) -> None:
    """An unavailable dish counts among the ordered dishes, but not among the available ones."""
    await add_order(clients, lunch, lunch.soup, lunch.main)
    await change(clients, lunch.soup, is_available=False)

    stats = await stats_of(clients)

    assert (stats.unique_dishes, stats.total_dishes_available) == (2, 5)
    assert await favorites_of(clients) == [("Borscht", 1), ("Pelmeni", 1)]


async def test_dishes_of_a_deactivated_cafe_count_only_as_ordered(clients: Clients, people: None, lunch: Lunch) -> None:
    """The dishes of a deactivated cafe count among the ordered dishes, but not among the available ones."""
    inactive = await add_lunch(clients, "Green Fork")
    await add_order(clients, inactive, inactive.soup, inactive.main)
    await deactivate(clients, inactive.cafe)

    stats = await stats_of(clients)

    assert (stats.orders_count, stats.unique_dishes, stats.total_dishes_available) == (1, 2, 6)


async def test_favorites_are_sorted_by_portions(clients: Clients, people: None, lunch: Lunch) -> None:
    """Favorite dishes are sorted by portions, then by name."""
    await add_order(clients, lunch, lunch.soup, lunch.main, (lunch.cake, 3), days_ago=1)
    await add_order(clients, lunch, lunch.other_soup, lunch.main, days_ago=2)

    assert await favorites_of(clients) == [("Honey cake", 3), ("Pelmeni", 2), ("Borscht", 1), ("Solyanka", 1)]


async def test_there_are_five_favorites(clients: Clients, people: None, lunch: Lunch) -> None:
    """There are at most five favorite dishes; of those with equal portions the first by name."""
    extras = [await add_extra(clients, lunch, name) for name in ("Tea", "Bun", "Tea", "Jam", "Ale", "Tea")]
    await add_order(clients, lunch, *reversed(extras), (lunch.cola, 2), days_ago=2)
    await add_order(clients, lunch, (extras[2], 1), days_ago=1)

    stats = await stats_of(clients)

    assert stats.unique_dishes == 7
    assert await favorites_of(clients) == [("Cola", 2), ("Tea", 2), ("Ale", 1), ("Bun", 1), ("Jam", 1)]


async def test_users_have_separate_statistics(clients: Clients, people: None, lunch: Lunch) -> None:
    """The statistics of several users are separate, in any order of their ids."""
    await add_order(clients, lunch, lunch.soup, lunch.main, tgid=USER_TGID)
    await add_order(clients, lunch, lunch.salad, (lunch.cola, 3), tgid=MANAGER_TGID)

    async with clients.db() as session:
        both = await order_stats(session, [USER_TGID, MANAGER_TGID], TODAY)
        reversed_order = await order_stats(session, {MANAGER_TGID: None, USER_TGID: None}, TODAY)

    assert both == reversed_order == {tgid: await stats_of(clients, tgid) for tgid in (USER_TGID, MANAGER_TGID)}
    assert both[USER_TGID].categories == CategoryShares(soup=0.5, main=0.5)
    assert both[MANAGER_TGID].categories == CategoryShares(salad=0.25, extra=0.75)


async def test_without_orders_all_figures_are_zero(clients: Clients, people: None, lunch: Lunch) -> None:
    """For an unknown user, or one without orders, all figures but the available dishes are 0."""
    await add_order(clients, lunch, lunch.soup, tgid=MANAGER_TGID)

    async with clients.db() as session:
        found = await order_stats(session, [USER_TGID, UNKNOWN_TGID, MANAGER_TGID], TODAY)

    assert found[USER_TGID] == found[UNKNOWN_TGID] == OrderStats(total_dishes_available=6)
    assert found[MANAGER_TGID].orders_count == 1


async def test_without_menus_all_figures_are_zero(clients: Clients) -> None:
    """Without menus and orders all figures are 0."""
    assert await stats_of(clients) == OrderStats()


async def test_no_users_have_no_statistics(clients: Clients, people: None, lunch: Lunch) -> None:
    """For no users there are no statistics."""
    await add_order(clients, lunch, lunch.soup)

    async with clients.db() as session:
        assert await order_stats(session, [], TODAY) == {}


@pytest.mark.parametrize("tgids", [[USER_TGID], [USER_TGID, MANAGER_TGID, UNKNOWN_TGID], [USER_TGID, *range(1, 2000)]])
async def test_statistics_are_one_statement(clients: Clients, people: None, lunch: Lunch, tgids: list[int]) -> None:
    """The statistics of any number of users are the same single statement."""
    await add_order(clients, lunch, lunch.soup, lunch.main)
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
    """A menu item with its present availability. Its present name is not in the statistics."""

    is_available: bool


@dataclass(frozen=True)
class Placed:
    """An order. Its items are positions in the menu of its cafe, each with the category and name when ordered, and the
    quantity.
    """

    tgid: int
    cafe: int
    days_ago: int
    status: OrderStatus
    items: dict[int, tuple[MenuCategory, int, str]]

    @property
    def is_counted(self) -> bool:
        return self.status is not OrderStatus.CANCELLED and 0 <= self.days_ago <= 30

    @property
    def key(self) -> tuple[int, int, int, bool]:
        """The unique key of an order. Each user has at most one for a cafe and a day, without cancelled ones."""
        return self.tgid, self.cafe, self.days_ago, self.status is OrderStatus.CANCELLED


CAFES = 2
DISHES = 6

dishes = st.builds(Dish, st.booleans())
menus = st.lists(st.lists(dishes, min_size=DISHES, max_size=DISHES), min_size=CAFES, max_size=CAFES)
dish_categories = st.sampled_from([MenuCategory.SOUP, MenuCategory.SALAD, MenuCategory.MAIN])
names = st.sampled_from(["Ale", "Bun", "bun", "Ёрш", "Щи"])
extras = st.tuples(st.just(MenuCategory.EXTRA), st.integers(1, 20), names)
portions = extras | st.tuples(dish_categories, st.just(1), names)


def with_one_dish_per_category(
    items: dict[int, tuple[MenuCategory, int, str]],
) -> dict[int, tuple[MenuCategory, int, str]]:
    """Keep only the first dish of each category, and all extras."""
    taken: set[MenuCategory] = set()
    remaining = {}
    for number, (category, quantity, name) in items.items():
        if category not in taken:
            remaining[number] = category, quantity, name
        if category is not MenuCategory.EXTRA:
            taken.add(category)
    return remaining


placed_orders = st.lists(
    st.builds(
        Placed,
        tgid=st.sampled_from([USER_TGID, MANAGER_TGID]),
        cafe=st.integers(0, CAFES - 1),
        days_ago=st.integers(0, 10) | st.sampled_from([-1, 29, 30, 31]),
        status=st.sampled_from([*OrderStatus, OrderStatus.CONFIRMED]),
        items=st.dictionaries(st.integers(0, DISHES - 1), portions, max_size=DISHES).map(with_one_dish_per_category),
    ),
    unique_by=lambda placed: placed.key,
    max_size=12,
)


def expected_stats(tgid: int, orders: list[Placed], menu: list[list[Dish]], inactive_cafes: set[int]) -> OrderStats:
    """Compute the statistics with a plain count."""
    own = [order for order in orders if order.tgid == tgid and order.is_counted]
    by_category: Counter[MenuCategory] = Counter()
    by_dish: Counter[tuple[str, int, int]] = Counter()
    for order in own:
        for number, (category, quantity, name) in order.items.items():
            by_category[category] += quantity
            by_dish[name, order.cafe, number] += quantity
    ranked = sorted(by_dish, key=lambda dish: (-by_dish[dish], dish))
    return OrderStats(
        orders_count=len(own),
        categories=CategoryShares(
            **{category.value: quantity / by_category.total() for category, quantity in by_category.items()}
        ),
        unique_dishes=len(by_dish),
        total_dishes_available=sum(
            dish.is_available for cafe, items in enumerate(menu) if cafe not in inactive_cafes for dish in items
        ),
        favorite_dishes=tuple(FavoriteDish(name=dish[0], count=by_dish[dish]) for dish in ranked[:5]),
    )


@pytest.fixture
async def lunches(clients: Clients, people: None) -> list[Lunch]:
    """Two cafes with menus."""
    return [await add_lunch(clients, f"Cafe {number}") for number in range(CAFES)]


def items_of(lunch: Lunch) -> list[MenuItem]:
    """Return the menu items of a cafe."""
    return [lunch.soup, lunch.other_soup, lunch.salad, lunch.main, lunch.cola, lunch.cake]


async def set_up(
    clients: Clients, lunches: list[Lunch], orders: list[Placed], menu: list[list[Dish]], inactive_cafes: set[int]
) -> None:
    """Replace all orders and the menu."""
    async with clients.db() as session:
        await session.execute(sa.delete(Order))
        for number, lunch in enumerate(lunches):
            cafe = sa.update(Cafe).where(col(Cafe.id) == lunch.cafe.id)
            await session.execute(cafe.values(is_active=number not in inactive_cafes))
            for item, dish in zip(items_of(lunch), menu[number], strict=True):
                update = sa.update(MenuItem).where(col(MenuItem.id) == item.id)
                await session.execute(update.values(is_available=dish.is_available))
    for order in orders:
        lunch = lunches[order.cafe]
        items = [
            OrderItem(
                menu_item_id=items_of(lunch)[number].id,
                name=name,
                category=category,
                quantity=quantity,
                price=Decimal(1) if category is MenuCategory.EXTRA else None,
            )
            for number, (category, quantity, name) in order.items.items()
        ]
        await add_order_of_items(clients, lunch, order.tgid, order.days_ago, order.status, items)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # each example replaces the orders of the one before
        HealthCheck.too_slow,
    ],
)
@given(orders=placed_orders, menu=menus, inactive_cafes=st.sets(st.integers(0, CAFES - 1)))
async def test_statistics_equal_a_plain_count(
    clients: Clients, lunches: list[Lunch], orders: list[Placed], menu: list[list[Dish]], inactive_cafes: set[int]
) -> None:
    """For any orders and any menu the statistics equal a plain count."""
    await set_up(clients, lunches, orders, menu, inactive_cafes)
    tgids = [MANAGER_TGID, UNKNOWN_TGID, USER_TGID]

    async with clients.db() as session:
        found = await order_stats(session, tgids, TODAY)

    assert found == {tgid: expected_stats(tgid, orders, menu, inactive_cafes) for tgid in tgids}
