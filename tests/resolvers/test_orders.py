"""Orders: contents, prices, access and the deadline."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import select

from app.auth.context import Context
from app.auth.viewer import Caller, Viewer
from app.clients import Clients
from app.errors import AlreadyExists, BadInput, DeadlinePassed, Forbidden, NotFound, Unauthenticated
from app.models import (
    DeadlineInput,
    MenuCategory,
    MenuItem,
    Order,
    OrderChanges,
    OrderInput,
    OrderItem,
    OrderStatus,
    Role,
    User,
)
from app.resolvers import cafes, deadlines, orders, users
from app.resolvers.orders import OrderFilter
from app.services.pagination import PageRequest
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_lunch
from tests.ordering import BEFORE, CLOSES_AT, DATE, at, change, close, extra, field_of

OTHER_TGID = 3003


@pytest.fixture
def user(user: Context) -> Context:
    """Ivan, before the deadline."""
    return at(user, BEFORE)


@pytest.fixture
def manager(manager: Context) -> Context:
    """Maria, before the deadline."""
    return at(manager, BEFORE)


@pytest.fixture
async def other_user(clients: Clients, user: Context) -> Context:
    """Olga, before the deadline."""
    async with clients.db() as session:
        session.add(User(tgid=OTHER_TGID, name="Olga"))
    return replace(user, caller=Caller(viewer=Viewer(OTHER_TGID, Role.USER)))


@pytest.fixture
async def ordered(user: Context, lunch: Lunch) -> Order:
    """Ivan's order: borscht, pelmeni and two colas."""
    return await orders.place_order(user, lunch.cafe.id, DATE, lunch.order(extras=[extra(lunch.cola.id, 2)]))


def contents(order: Order) -> tuple[str, str, list[tuple[str, str, int]]]:
    """The combo of an order, its price, and the name, price and quantity of each item."""
    items = [(item.name, str(item.price or ""), item.quantity) for item in [*order.dishes, *order.extras]]
    return order.combo_name, str(order.combo_price), items


async def count_orders(clients: Clients) -> int:
    async with clients.db() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(Order)) or 0


async def test_an_order_has_the_chosen_contents(user: Context, lunch: Lunch) -> None:
    """A new order is pending and has the combo, the dishes and the extras with names, prices and quantities."""
    extras = [extra(lunch.cola.id, 2), extra(lunch.cake.id, 20)]

    placed = await orders.place_order(user, lunch.cafe.id, DATE, lunch.order(extras=extras, notes="No onions"))

    assert contents(placed) == (
        "Business lunch",
        "10.00",
        [("Borscht", "", 1), ("Pelmeni", "", 1), ("Cola", "1.50", 2), ("Honey cake", "3.25", 20)],
    )
    assert (placed.user.tgid, placed.cafe.id, placed.date) == (USER_TGID, lunch.cafe.id, DATE)
    assert (placed.status, placed.notes, placed.created_at) == (OrderStatus.PENDING, "No onions", BEFORE)


async def test_the_returned_order_is_the_stored_order(user: Context, ordered: Order) -> None:
    """`get_order` returns the same order as `place_order`."""
    stored = await orders.get_order(user, ordered.id)

    assert stored.model_dump() == ordered.model_dump()
    assert contents(stored) == contents(ordered)


async def test_the_total_has_combo_and_extras(user: Context, lunch: Lunch, ordered: Order) -> None:
    """The total is the price of the combo and the extras, also after a change."""
    assert str(ordered.total_price) == "13.00"

    changed = await orders.update_order(
        user, ordered.id, OrderChanges(extras=[extra(lunch.cola.id, 1), extra(lunch.cake.id)])
    )

    assert str(changed.total_price) == "14.75"


async def test_extras_and_notes_may_be_left_out(user: Context, lunch: Lunch) -> None:
    """An order needs only a combo and its dishes."""
    light = OrderInput(combo_id=lunch.light.id, dish_ids=[lunch.salad.id])

    placed = await orders.place_order(user, lunch.cafe.id, DATE, light)

    assert (contents(placed), placed.notes) == (("Light", "6.00", [("Vinaigrette", "", 1)]), "")


async def test_a_combo_must_be_available_at_the_cafe(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order, other_user: Context
) -> None:
    """An unknown combo, another cafe's combo and an unavailable combo are bad input, in a new order and in a change."""
    other = await add_lunch(clients)
    await change(clients, lunch.light, is_available=False)

    for combo_id in (999, other.combo.id, lunch.light.id):
        fields = OrderInput(combo_id=combo_id, dish_ids=[lunch.salad.id])
        assert await field_of(orders.place_order(other_user, lunch.cafe.id, DATE, fields)) == "combo_id"
        assert await field_of(orders.update_order(user, ordered.id, fields)) == "combo_id"


async def test_a_combo_needs_one_dish_of_each_category(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order, other_user: Context
) -> None:
    """Any other choice of dishes is bad input, in a new order and in a change."""
    other = await add_lunch(clients)
    soup, main, salad, cola = lunch.soup.id, lunch.main.id, lunch.salad.id, lunch.cola.id
    wrong = {
        "none": [],
        "no main": [soup],
        "two soups": [soup, lunch.other_soup.id],
        "the same soup twice": [soup, soup],
        "two soups and a main": [soup, lunch.other_soup.id, main],
        "another category": [soup, salad],
        "one too many": [soup, main, salad],
        "an extra": [soup, cola],
        "an extra too many": [soup, main, cola],
        "unknown": [soup, 999],
        "another cafe's": [other.soup.id, main],
        "four": [soup, main, salad, cola],
    }

    for dish_ids in wrong.values():
        new, changes = lunch.order(dish_ids=dish_ids), OrderChanges.collect(dish_ids=dish_ids)
        assert await field_of(orders.place_order(other_user, lunch.cafe.id, DATE, new)) == "dish_ids"
        assert await field_of(orders.update_order(user, ordered.id, changes)) == "dish_ids"


async def test_a_dish_must_be_available(clients: Clients, user: Context, lunch: Lunch, ordered: Order) -> None:
    """An unavailable dish is bad input, unless the order has it already."""
    await change(clients, lunch.other_soup, is_available=False)
    dish_ids = [lunch.other_soup.id, lunch.main.id]

    assert await field_of(orders.update_order(user, ordered.id, OrderChanges(dish_ids=dish_ids))) == "dish_ids"
    await orders.cancel_order(user, ordered.id)
    new = lunch.order(dish_ids=dish_ids)
    assert await field_of(orders.place_order(user, lunch.cafe.id, DATE, new)) == "dish_ids"


async def test_extras_must_be_available_extras_of_the_cafe(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order, other_user: Context
) -> None:
    """Dishes, unknown, other cafes' and unavailable extras, wrong quantities and repeated extras are bad input."""
    other = await add_lunch(clients)
    await change(clients, lunch.cake, is_available=False)
    cola = lunch.cola.id
    wrong = {
        "a dish": [extra(lunch.salad.id)],
        "a dish of the combo": [extra(lunch.soup.id)],
        "unknown": [extra(999)],
        "another cafe's": [extra(other.cola.id)],
        "not available": [extra(lunch.cake.id)],
        "zero": [extra(cola, 0)],
        "negative": [extra(cola, -1)],
        "quantity 21": [extra(cola, 21)],
        "twice": [extra(cola, 1), extra(cola, 2)],
        "51 extras": [extra(id_) for id_ in range(1000, 1051)],
    }

    for extras in wrong.values():
        new, changes = lunch.order(extras=extras), OrderChanges.collect(extras=extras)
        assert await field_of(orders.place_order(other_user, lunch.cafe.id, DATE, new)) == "extras"
        assert await field_of(orders.update_order(user, ordered.id, changes)) == "extras"


async def test_fifty_extras_are_allowed(clients: Clients, user: Context, lunch: Lunch) -> None:
    """One order may have 50 different extras."""
    teas = [
        MenuItem(cafe_id=lunch.cafe.id, name=f"Tea {number}", category=MenuCategory.EXTRA, price=Decimal("0.01"))
        for number in range(50)
    ]
    async with clients.db() as session:
        session.add_all(teas)

    fields = lunch.order(extras=[extra(tea.id, 20) for tea in teas])

    assert (await orders.place_order(user, lunch.cafe.id, DATE, fields)).total_price == Decimal("20.00")


async def test_notes_have_a_maximum_length(user: Context, lunch: Lunch, ordered: Order) -> None:
    """Notes have at most 500 characters, and only those that PostgreSQL can store."""
    for notes in ("x" * 501, "\0", "\ud800"):
        new, changes = lunch.order(notes=notes), OrderChanges.collect(notes=notes)
        assert await field_of(orders.place_order(user, lunch.cafe.id, DATE, new)) == "notes"
        assert await field_of(orders.update_order(user, ordered.id, changes)) == "notes"

    assert (await orders.update_order(user, ordered.id, OrderChanges(notes="Ё" * 500))).notes == "Ё" * 500


@pytest.mark.parametrize("field", ["combo_id", "dish_ids", "extras", "notes"])
async def test_null_is_bad_input(user: Context, lunch: Lunch, ordered: Order, field: str) -> None:
    """A null is bad input, unlike a field that is left out."""
    null = {field: None}

    assert await field_of(orders.place_order(user, lunch.cafe.id, DATE, lunch.order(**null))) == field
    assert await field_of(orders.update_order(user, ordered.id, OrderChanges.collect(**null))) == field


async def test_one_error_names_every_wrong_field(user: Context, lunch: Lunch, ordered: Order) -> None:
    """An order with several wrong fields raises one error, which names all of them and the date."""
    wrong = {"dish_ids": None, "extras": [extra(lunch.cola.id, 0)], "notes": "x" * 501}

    with pytest.raises(BadInput) as placing:
        await orders.place_order(user, lunch.cafe.id, dt.date.max, lunch.order(**wrong))
    with pytest.raises(BadInput) as updating:
        await orders.update_order(user, ordered.id, OrderChanges.collect(**wrong))

    assert [problem.field for problem in placing.value.problems] == ["date", "dish_ids", "extras", "notes"]
    assert [problem.field for problem in updating.value.problems] == ["dish_ids", "extras", "notes"]
    assert [problem.detail for problem in updating.value.problems] == [
        "must not be null",
        "[0].quantity: must be from 1 to 20",
        "has 501 characters; at most 500 are allowed",
    ]


async def test_a_new_order_needs_a_combo_and_dishes(user: Context, lunch: Lunch) -> None:
    """A new order without combo and dishes raises one error, which names both."""
    with pytest.raises(BadInput) as refused:
        await orders.place_order(user, lunch.cafe.id, DATE, OrderInput.collect(notes="No onions"))

    assert [problem.field for problem in refused.value.problems] == ["combo_id", "dish_ids"]


async def test_a_refused_order_leaves_nothing(clients: Clients, user: Context, lunch: Lunch) -> None:
    """If one extra is wrong, no part of the order is stored."""
    await field_of(orders.place_order(user, lunch.cafe.id, DATE, lunch.order(extras=[extra(lunch.soup.id)])))

    assert await count_orders(clients) == 0


async def test_a_second_order_is_refused(user: Context, lunch: Lunch, ordered: Order) -> None:
    """A user has at most one order for a cafe and date; the error has the id of that order."""
    with pytest.raises(AlreadyExists) as refused:
        await orders.place_order(user, lunch.cafe.id, DATE, lunch.meal)

    assert refused.value.details == {"order_id": str(ordered.id)}


async def test_another_cafe_date_or_user_is_not_a_second_order(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order, other_user: Context
) -> None:
    """Orders from another cafe, for another date and by another user are separate."""
    other = await add_lunch(clients)

    await orders.place_order(user, other.cafe.id, DATE, other.meal)
    await orders.place_order(user, lunch.cafe.id, DATE + dt.timedelta(days=1), lunch.meal)
    await orders.place_order(other_user, lunch.cafe.id, DATE, lunch.meal)

    assert await count_orders(clients) == 4


async def test_a_user_may_order_again_after_cancelling(user: Context, lunch: Lunch, ordered: Order) -> None:
    """The cancelled order stays cancelled, and the user gets a new order."""
    await orders.cancel_order(user, ordered.id)

    again = await orders.place_order(user, lunch.cafe.id, DATE, lunch.meal)

    assert (again.id != ordered.id, again.status) == (True, OrderStatus.PENDING)
    assert (await orders.get_order(user, ordered.id)).status is OrderStatus.CANCELLED


async def test_an_order_keeps_its_names_and_prices(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """A later change of the menu does not change an order, also if the user changes a quantity."""
    await change(clients, lunch.combo, price=Decimal(99), name="Feast")
    await change(clients, lunch.cola, price=Decimal(9), name="Kvas")

    changed = await orders.update_order(
        user, ordered.id, OrderChanges(combo_id=lunch.combo.id, extras=[extra(lunch.cola.id, 4)])
    )

    assert contents(changed) == (
        "Business lunch",
        "10.00",
        [("Borscht", "", 1), ("Pelmeni", "", 1), ("Cola", "1.50", 4)],
    )
    assert str(changed.total_price) == "16.00"


async def test_new_items_have_their_present_price(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """Another combo and another extra have their present price."""
    await change(clients, lunch.light, price=Decimal("6.60"))
    await change(clients, lunch.cake, price=Decimal("3.33"))
    await change(clients, lunch.cola, price=Decimal(9))

    changed = await orders.update_order(
        user,
        ordered.id,
        OrderChanges(
            combo_id=lunch.light.id,
            dish_ids=[lunch.salad.id],
            extras=[extra(lunch.cola.id), extra(lunch.cake.id, 2)],
        ),
    )

    assert contents(changed) == (
        "Light",
        "6.60",
        [("Vinaigrette", "", 1), ("Cola", "1.50", 1), ("Honey cake", "3.33", 2)],
    )
    assert str(changed.total_price) == "14.76"


async def test_a_removed_extra_has_its_present_price_when_it_comes_back(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """Only an extra that stays keeps its former price."""
    await orders.update_order(user, ordered.id, OrderChanges(extras=[]))
    await change(clients, lunch.cola, price=Decimal(9))

    changed = await orders.update_order(user, ordered.id, OrderChanges(extras=[extra(lunch.cola.id)]))

    assert str(changed.total_price) == "19.00"


async def test_a_soup_is_replaced_by_another(user: Context, lunch: Lunch, ordered: Order) -> None:
    """A new dish replaces the former dish of its category."""
    await orders.update_order(user, ordered.id, OrderChanges(dish_ids=[lunch.main.id, lunch.other_soup.id]))

    assert [dish.name for dish in (await orders.get_order(user, ordered.id)).dishes] == ["Solyanka", "Pelmeni"]


async def test_fields_that_are_left_out_stay(clients: Clients, user: Context, lunch: Lunch, ordered: Order) -> None:
    """A change of the notes keeps combo, dishes and extras, even if they are unavailable now."""
    for row in (lunch.combo, lunch.soup, lunch.main, lunch.cola):
        await change(clients, row, is_available=False)
    later = BEFORE + dt.timedelta(hours=1)

    changed = await orders.update_order(at(user, later), ordered.id, OrderChanges(notes="No onions"))

    assert (contents(changed), changed.total_price) == (contents(ordered), ordered.total_price)
    assert (changed.notes, changed.created_at, changed.updated_at) == ("No onions", BEFORE, later)
    assert (await orders.update_order(user, ordered.id, OrderChanges(extras=[]))).notes == "No onions"


async def test_items_that_stay_may_be_unavailable(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """A change may repeat a dish, an extra and a combo of the order that are unavailable now."""
    for row in (lunch.combo, lunch.soup, lunch.cola):
        await change(clients, row, is_available=False)

    changed = await orders.update_order(user, ordered.id, lunch.order(extras=[extra(lunch.cola.id, 3)]))

    assert str(changed.total_price) == "14.50"


async def test_a_cancelled_order_cannot_be_changed(user: Context, ordered: Order) -> None:
    """A change of a cancelled order is bad input."""
    await orders.cancel_order(user, ordered.id)

    assert await field_of(orders.update_order(user, ordered.id, OrderChanges(notes="Please"))) == "id"


async def test_an_order_may_be_cancelled_twice(user: Context, ordered: Order) -> None:
    """The second cancellation changes nothing, also not the time of the first."""
    await orders.cancel_order(user, ordered.id)

    again = await orders.cancel_order(at(user, BEFORE + dt.timedelta(hours=1)), ordered.id)

    assert (again.status, again.updated_at) == (OrderStatus.CANCELLED, BEFORE)


async def test_an_unknown_order_is_not_found(user: Context) -> None:
    """An unknown order cannot be read, changed or cancelled."""
    for operation in (
        orders.get_order(user, 999),
        orders.update_order(user, 999, OrderChanges()),
        orders.cancel_order(user, 999),
    ):
        with pytest.raises(NotFound):
            await operation


async def test_an_unknown_cafe_takes_no_order(user: Context, lunch: Lunch) -> None:
    """An order from an unknown cafe raises NotFound."""
    with pytest.raises(NotFound):
        await orders.place_order(user, 999, DATE, lunch.meal)


async def test_users_have_no_access_to_orders_of_other_users(
    user: Context, other_user: Context, lunch: Lunch, ordered: Order
) -> None:
    """A user cannot read, change, cancel, place or list orders of another user."""
    for operation in (
        orders.get_order(other_user, ordered.id),
        orders.update_order(other_user, ordered.id, OrderChanges(notes="Mine")),
        orders.cancel_order(other_user, ordered.id),
        orders.place_order(other_user, lunch.cafe.id, DATE, lunch.meal, USER_TGID),
        orders.list_orders(other_user, PageRequest(), OrderFilter(), USER_TGID),
    ):
        with pytest.raises(Forbidden):
            await operation

    assert (await orders.get_order(user, ordered.id)).model_dump() == ordered.model_dump()


async def test_orders_need_authentication(anonymous: Context, lunch: Lunch) -> None:
    """Every operation on orders raises Unauthenticated for a caller without a token."""
    for operation in (
        orders.get_order(anonymous, 1),
        orders.place_order(anonymous, lunch.cafe.id, DATE, lunch.meal),
        orders.update_order(anonymous, 1, OrderChanges()),
        orders.cancel_order(anonymous, 1),
        orders.list_orders(anonymous, PageRequest(), OrderFilter()),
    ):
        with pytest.raises(Unauthenticated):
            await operation


async def test_users_list_their_own_orders(user: Context, other_user: Context, lunch: Lunch, ordered: Order) -> None:
    """A user gets only their own orders, the latest date first, and a manager gets the orders of all users."""
    tomorrow = DATE + dt.timedelta(days=1)
    later = await orders.place_order(user, lunch.cafe.id, tomorrow, lunch.meal)
    others = await orders.place_order(other_user, lunch.cafe.id, DATE, lunch.meal)
    manager = replace(user, caller=Caller(viewer=Viewer(MANAGER_TGID, Role.MANAGER)))

    async def listed(ctx: Context, tgid: int | None = None) -> list[int]:
        return [order.id for order in (await orders.list_orders(ctx, PageRequest(), OrderFilter(), tgid)).nodes]

    assert await listed(user) == await listed(user, USER_TGID) == [later.id, ordered.id]
    assert await listed(other_user) == [others.id]
    assert await listed(manager) == [later.id, others.id, ordered.id]
    assert await listed(manager, OTHER_TGID) == [others.id]


async def test_the_list_is_filtered(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """The list can be filtered by user, cafe, dates with both ends, and status, alone or together."""
    other = await add_lunch(clients)
    tomorrow = DATE + dt.timedelta(days=1)
    cancelled = await orders.place_order(user, lunch.cafe.id, tomorrow, lunch.meal)
    await orders.cancel_order(user, cancelled.id)
    managers = await orders.place_order(manager, other.cafe.id, tomorrow, other.meal)

    async def listed(tgid: int | None = None, **wanted: Any) -> set[int]:
        page = await orders.list_orders(manager, PageRequest(), OrderFilter.collect(**wanted), tgid)
        return {order.id for order in page.nodes}

    assert await listed(tgid=USER_TGID) == {ordered.id, cancelled.id}
    assert await listed(cafe_id=other.cafe.id) == {managers.id}
    assert await listed(from_date=tomorrow) == {cancelled.id, managers.id}
    assert await listed(to_date=DATE) == {ordered.id}
    assert await listed(from_date=DATE, to_date=tomorrow) == {ordered.id, cancelled.id, managers.id}
    assert await listed(status=OrderStatus.CANCELLED) == {cancelled.id}
    assert await listed(tgid=USER_TGID, from_date=tomorrow, status=OrderStatus.PENDING) == set()
    for field in ("from_date", "to_date"):
        assert await field_of(listed(None, **{field: dt.date.max})) == field


async def test_the_list_has_pages(user: Context, lunch: Lunch) -> None:
    """A cursor leads from one page of orders to the next."""
    dates = [DATE + dt.timedelta(days=days) for days in range(3)]
    for date in dates:
        await orders.place_order(user, lunch.cafe.id, date, lunch.meal)

    first = await orders.list_orders(user, PageRequest(first=2), OrderFilter())
    second = await orders.list_orders(user, PageRequest(first=2, after=first.cursors[-1]), OrderFilter())

    assert [order.date for order in [*first.nodes, *second.nodes]] == dates[::-1]
    assert (first.has_next_page, second.has_next_page, first.total_count) == (True, False, 3)


async def test_users_cannot_change_anything_after_the_deadline(user: Context, lunch: Lunch, ordered: Order) -> None:
    """From the deadline on a user cannot order, change or cancel, and the error has the time of the deadline."""
    late = at(user, CLOSES_AT)
    for operation in (
        orders.place_order(late, lunch.cafe.id, DATE, lunch.meal),
        orders.update_order(late, ordered.id, OrderChanges(notes="Please")),
        orders.cancel_order(late, ordered.id),
    ):
        with pytest.raises(DeadlinePassed) as refused:
            await operation
        assert refused.value.details == {"closed_at": "2026-06-09T10:30:00+00:00"}

    assert (await orders.get_order(user, ordered.id)).model_dump() == ordered.model_dump()


async def test_users_may_order_until_the_deadline(user: Context, lunch: Lunch) -> None:
    """A microsecond before the deadline a user may still order."""
    early = at(user, CLOSES_AT - dt.timedelta(microseconds=1))

    assert (await orders.place_order(early, lunch.cafe.id, DATE, lunch.meal)).status is OrderStatus.PENDING


async def test_an_announced_day_is_closed_to_users(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """After the announcement a user cannot cancel, even if the deadline in the schedule is later."""
    announced_at = CLOSES_AT - dt.timedelta(hours=3)
    await close(clients, lunch.cafe, DATE, announced_at)

    with pytest.raises(DeadlinePassed) as refused:
        await orders.cancel_order(user, ordered.id)

    assert refused.value.details == {"closed_at": announced_at.isoformat()}
    assert (await orders.get_order(user, ordered.id)).status is OrderStatus.CONFIRMED


async def test_closing_a_day_confirms_its_orders(
    clients: Clients, user: Context, other_user: Context, lunch: Lunch, ordered: Order
) -> None:
    """Pending orders of the day are confirmed; cancelled orders and orders of other days stay as they are."""
    cancelled = await orders.place_order(other_user, lunch.cafe.id, DATE, lunch.meal)
    await orders.cancel_order(other_user, cancelled.id)
    other_day = await orders.place_order(user, lunch.cafe.id, DATE + dt.timedelta(days=1), lunch.meal)

    await close(clients, lunch.cafe)

    assert (await orders.get_order(user, ordered.id)).status is OrderStatus.CONFIRMED
    assert (await orders.get_order(other_user, cancelled.id)).status is OrderStatus.CANCELLED
    assert (await orders.get_order(user, other_day.id)).status is OrderStatus.PENDING


async def test_a_manager_may_change_orders_after_the_deadline(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """A manager may change and cancel a confirmed order; a change leaves it confirmed."""
    late = at(manager, CLOSES_AT)
    await close(clients, lunch.cafe)

    changed = await orders.update_order(late, ordered.id, OrderChanges(notes="No onions"))
    cancelled = await orders.cancel_order(late, ordered.id)

    assert (changed.status, changed.notes) == (OrderStatus.CONFIRMED, "No onions")
    assert cancelled.status is OrderStatus.CANCELLED


async def test_a_manager_orders_for_others(user: Context, manager: Context, lunch: Lunch) -> None:
    """An order that a manager places for a user belongs to that user."""
    placed = await orders.place_order(manager, lunch.cafe.id, DATE, lunch.meal, USER_TGID)

    assert (await orders.get_order(user, placed.id)).user_tgid == USER_TGID


async def test_a_late_order_of_a_manager_is_confirmed_with_the_day(
    clients: Clients, manager: Context, lunch: Lunch
) -> None:
    """An order between deadline and announcement is pending, and an order after the announcement is confirmed."""
    late = at(manager, CLOSES_AT)

    pending = await orders.place_order(late, lunch.cafe.id, DATE, lunch.meal)
    await close(clients, lunch.cafe)
    confirmed = await orders.place_order(late, lunch.cafe.id, DATE, lunch.meal, USER_TGID)

    assert (pending.status, confirmed.status) == (OrderStatus.PENDING, OrderStatus.CONFIRMED)
    assert (await orders.get_order(manager, pending.id)).status is OrderStatus.CONFIRMED


async def test_orders_are_for_active_users(user: Context, manager: Context, lunch: Lunch) -> None:
    """A manager cannot order for an unknown or a deactivated user."""
    await users.set_user_access(manager, USER_TGID, is_active=False)

    with pytest.raises(NotFound) as refused:
        await orders.place_order(manager, lunch.cafe.id, DATE, lunch.meal, 999)

    assert refused.value.details == {"resource": "user", "id": "999"}
    assert await field_of(orders.place_order(manager, lunch.cafe.id, DATE, lunch.meal, USER_TGID)) == "tgid"


async def test_a_deactivated_cafe_takes_no_orders(user: Context, manager: Context, lunch: Lunch) -> None:
    """A deactivated cafe refuses users and managers, also a manager after the deadline."""
    await cafes.set_cafe_status(manager, lunch.cafe.id, is_active=False)

    for ctx in (user, manager, at(manager, CLOSES_AT)):
        assert await field_of(orders.place_order(ctx, lunch.cafe.id, DATE, lunch.meal)) == "cafe_id"


async def test_orders_are_for_delivery_days(manager: Context, lunch: Lunch) -> None:
    """A weekday without a deadline, a day too far ahead and another century are bad input, also for a manager."""
    too_far = BEFORE.date() + dt.timedelta(days=91)
    thursday = DeadlineInput(weekday=3, deadline_time=dt.time(10, 30))
    await deadlines.set_deadlines(
        manager, lunch.cafe.id, [thursday, DeadlineInput(weekday=too_far.weekday(), deadline_time=dt.time(10, 30))]
    )

    for date in (DATE, too_far, dt.date(1999, 12, 31), dt.date(2100, 1, 1)):
        assert await field_of(orders.place_order(manager, lunch.cafe.id, date, lunch.meal)) == "date"


async def test_orders_can_be_read_without_their_parts(user: Context, ordered: Order) -> None:
    """Users, cafes and items are not read if the caller does not need them."""
    page = await orders.list_orders(user, PageRequest(), OrderFilter(), parts=())

    with pytest.raises(sa.exc.InvalidRequestError):
        _ = page.nodes[0].items


@pytest.mark.parametrize(
    ("wrong", "check"),
    [
        ({"menu_item": "other_soup", "category": "soup"}, "order_items_dish_key"),
        ({"category": "salad", "price": Decimal(1)}, "order_items_price_check"),
        ({"category": "extra"}, "order_items_price_check"),
        ({"category": "extra", "price": Decimal(1), "quantity": 21}, "order_items_quantity_check"),
        ({"category": "extra", "price": Decimal(1), "quantity": 0}, "order_items_quantity_check"),
        ({"category": "salad", "quantity": 2}, "order_items_quantity_check"),
        ({"category": "dessert"}, "order_items_category_check"),
    ],
)
async def test_the_database_enforces_the_rules_of_items(
    clients: Clients, lunch: Lunch, ordered: Order, wrong: dict[str, Any], check: str
) -> None:
    """The database refuses two soups, a dish with a price, an extra without one, and wrong quantities."""
    item = getattr(lunch, wrong.pop("menu_item", "salad"))
    row = {"order_id": ordered.id, "menu_item_id": item.id, "name": "", **wrong}

    async with clients.db() as session:
        with pytest.raises(sa.exc.IntegrityError, match=check):
            await session.execute(sa.insert(OrderItem.__table__).values(row))  # type: ignore[attr-defined]
        await session.rollback()


async def test_the_database_enforces_one_order_per_day(clients: Clients, ordered: Order) -> None:
    """The database refuses a second active order of a user for a cafe and date, and allows many cancelled ones."""
    columns = [column.name for column in sa.inspect(Order).local_table.columns if not column.primary_key]
    statement = "INSERT INTO orders ({0}) SELECT {0} FROM orders"
    copy = sa.text(statement.format(", ".join(columns)))
    cancelled = sa.text("UPDATE orders SET status = 'cancelled'")

    async with clients.db() as session:
        await session.execute(cancelled)
        await session.execute(copy)
        assert len((await session.scalars(select(Order))).all()) == 2
    async with clients.db() as session:
        await session.execute(sa.text("DELETE FROM orders WHERE id <> :id"), {"id": ordered.id})
        await session.execute(sa.text("UPDATE orders SET status = 'pending'"))
        with pytest.raises(sa.exc.IntegrityError, match="orders_active_key"):
            await session.execute(copy)
        await session.rollback()
