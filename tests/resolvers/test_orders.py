"""Who may order what, until when, and for what price."""

import datetime as dt
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import select

from app.clients import Clients
from app.context import Context
from app.errors import AlreadyExists, DeadlinePassed, Forbidden, NotFound, Unauthenticated
from app.models import Deadline, MenuCategory, MenuItem, Order, OrderItem, OrderStatus, Role, User
from app.resolvers import cafes, deadlines, orders, users
from app.resolvers.order_lines import Extra, OrderFields
from app.resolvers.orders import OrderFilter
from app.resolvers.paging import PageRequest
from app.viewer import Viewer
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch, add_lunch
from tests.resolvers.ordering import BEFORE, CLOSES_AT, DATE, at, change, close, field_of, lunch_with

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
    return replace(user, identified=Viewer(OTHER_TGID, Role.USER))


@pytest.fixture
async def ordered(user: Context, lunch: Lunch) -> Order:
    """Ivan's lunch: borscht, pelmeni and two colas."""
    return await orders.place_order(user, lunch.cafe.id, DATE, lunch_with(lunch, Extra(lunch.cola.id, 2)))


def contents(order: Order) -> tuple[str, str, list[tuple[str, str, int]]]:
    """An order on one's plate: the combo, its price, and name, price and quantity of each item."""
    items = [(item.name, str(item.price or ""), item.quantity) for item in [*order.dishes, *order.extras]]
    return order.combo_name, str(order.combo_price), items


async def count(clients: Clients) -> int:
    async with clients.db() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(Order)) or 0


async def test_an_order_is_what_was_chosen(user: Context, lunch: Lunch) -> None:
    """It has the combo, its dishes and the extras with names, prices and quantities, and waits for the deadline."""
    fields = lunch_with(lunch, Extra(lunch.cola.id, 2), Extra(lunch.cake.id, 20))

    placed = await orders.place_order(user, lunch.cafe.id, DATE, {**fields, "notes": "No onions"})

    assert contents(placed) == (
        "Business lunch",
        "10.00",
        [("Borscht", "", 1), ("Pelmeni", "", 1), ("Cola", "1.50", 2), ("Honey cake", "3.25", 20)],
    )
    assert (placed.user.tgid, placed.cafe.id, placed.date) == (USER_TGID, lunch.cafe.id, DATE)
    assert (placed.status, placed.notes, placed.created_at) == (OrderStatus.PENDING, "No onions", BEFORE)


async def test_what_is_answered_is_what_is_kept(user: Context, ordered: Order) -> None:
    """Who reads the order again finds what was answered."""
    again = await orders.order(user, ordered.id)

    assert again.model_dump() == ordered.model_dump()
    assert contents(again) == contents(ordered)


async def test_the_total_is_combo_and_extras(user: Context, lunch: Lunch, ordered: Order) -> None:
    """An order costs its combo and its extras, and is summed up anew when it changes."""
    assert str(ordered.total_price) == "13.00"

    changed = await orders.update_order(user, ordered.id, {"extras": [Extra(lunch.cola.id, 1), Extra(lunch.cake.id)]})

    assert str(changed.total_price) == "14.75"


async def test_extras_and_notes_may_be_left_out(user: Context, lunch: Lunch) -> None:
    """A combo with its dishes is an order."""
    placed = await orders.place_order(
        user, lunch.cafe.id, DATE, {"combo_id": lunch.light.id, "dish_ids": [lunch.salad.id]}
    )

    assert (contents(placed), placed.notes) == (("Light", "6.00", [("Vinaigrette", "", 1)]), "")


async def test_a_combo_must_be_one_of_the_cafe(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order, other_user: Context
) -> None:
    """An unknown combo, another cafe's and one that is not available are refused, in a new order and in a change."""
    other = await add_lunch(clients)
    await change(clients, lunch.light, is_available=False)

    for combo_id in (999, other.combo.id, lunch.light.id):
        fields: OrderFields = {"combo_id": combo_id, "dish_ids": [lunch.salad.id]}
        assert await field_of(orders.place_order(other_user, lunch.cafe.id, DATE, fields)) == "combo_id"
        assert await field_of(orders.update_order(user, ordered.id, fields)) == "combo_id"


async def test_a_combo_has_one_dish_of_each_category(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order, other_user: Context
) -> None:
    """Any other choice of dishes is refused, in a new order and in a change."""
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
        fields: OrderFields = {"combo_id": lunch.combo.id, "dish_ids": dish_ids}
        assert await field_of(orders.place_order(other_user, lunch.cafe.id, DATE, fields)) == "dish_ids"
        assert await field_of(orders.update_order(user, ordered.id, {"dish_ids": dish_ids})) == "dish_ids"


async def test_a_dish_must_be_available(clients: Clients, user: Context, lunch: Lunch, ordered: Order) -> None:
    """A soup that is off is refused for whoever does not have it already."""
    await change(clients, lunch.other_soup, is_available=False)
    dish_ids = [lunch.other_soup.id, lunch.main.id]

    assert await field_of(orders.update_order(user, ordered.id, {"dish_ids": dish_ids})) == "dish_ids"
    await orders.cancel_order(user, ordered.id)
    fields: OrderFields = {"combo_id": lunch.combo.id, "dish_ids": dish_ids}
    assert await field_of(orders.place_order(user, lunch.cafe.id, DATE, fields)) == "dish_ids"


async def test_extras_are_extras_of_the_cafe(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order, other_user: Context
) -> None:
    """Dishes, unknown extras, another cafe's, those not available, wrong quantities and repetitions are refused."""
    other = await add_lunch(clients)
    await change(clients, lunch.cake, is_available=False)
    cola = lunch.cola.id
    wrong = {
        "a dish": [Extra(lunch.salad.id)],
        "a dish of the combo": [Extra(lunch.soup.id)],
        "unknown": [Extra(999)],
        "another cafe's": [Extra(other.cola.id)],
        "not available": [Extra(lunch.cake.id)],
        "none of it": [Extra(cola, 0)],
        "less than none": [Extra(cola, -1)],
        "21 of it": [Extra(cola, 21)],
        "twice": [Extra(cola, 1), Extra(cola, 2)],
        "51 of them": [Extra(id_) for id_ in range(1000, 1051)],
    }

    for extras in wrong.values():
        fields = lunch_with(lunch, *extras)
        assert await field_of(orders.place_order(other_user, lunch.cafe.id, DATE, fields)) == "extras"
        assert await field_of(orders.update_order(user, ordered.id, {"extras": extras})) == "extras"


async def test_fifty_extras_are_allowed(clients: Clients, user: Context, lunch: Lunch) -> None:
    """As many different ones as that can be in one order."""
    extras = [
        MenuItem(cafe_id=lunch.cafe.id, name=f"Tea {number}", category=MenuCategory.EXTRA, price=Decimal("0.01"))
        for number in range(50)
    ]
    async with clients.db() as session:
        session.add_all(extras)

    fields = lunch_with(lunch, *(Extra(extra.id, 20) for extra in extras))

    assert (await orders.place_order(user, lunch.cafe.id, DATE, fields)).total_price == Decimal("20.00")


async def test_notes_have_a_length(user: Context, lunch: Lunch, ordered: Order) -> None:
    """Five hundred characters are allowed, of those that can be kept."""
    for notes in ("x" * 501, "\0", "\ud800"):
        assert await field_of(orders.place_order(user, lunch.cafe.id, DATE, {"notes": notes})) == "notes"
        assert await field_of(orders.update_order(user, ordered.id, {"notes": notes})) == "notes"

    assert (await orders.update_order(user, ordered.id, {"notes": "Ё" * 500})).notes == "Ё" * 500


@pytest.mark.parametrize("field", ["combo_id", "dish_ids", "extras", "notes"])
async def test_nothing_becomes_null(user: Context, lunch: Lunch, ordered: Order, field: str) -> None:
    """A value that is null is refused by its name, not taken as left out."""
    null: Any = {field: None}

    assert await field_of(orders.place_order(user, lunch.cafe.id, DATE, {**lunch_with(lunch), **null})) == field
    assert await field_of(orders.update_order(user, ordered.id, null)) == field


async def test_a_refused_order_leaves_nothing(clients: Clients, user: Context, lunch: Lunch) -> None:
    """An order is there as a whole, or not at all."""
    await field_of(orders.place_order(user, lunch.cafe.id, DATE, lunch_with(lunch, Extra(lunch.soup.id))))

    assert await count(clients) == 0


async def test_a_second_order_is_refused(user: Context, lunch: Lunch, ordered: Order) -> None:
    """One lunch a day from a cafe: whoever orders again is told which order there is."""
    with pytest.raises(AlreadyExists) as refused:
        await orders.place_order(user, lunch.cafe.id, DATE, lunch_with(lunch))

    assert refused.value.details == {"order_id": str(ordered.id)}


async def test_other_orders_are_no_second_order(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order, other_user: Context
) -> None:
    """Another cafe, another date and another person have orders of their own."""
    other = await add_lunch(clients)

    await orders.place_order(user, other.cafe.id, DATE, lunch_with(other))
    await orders.place_order(user, lunch.cafe.id, DATE + dt.timedelta(days=1), lunch_with(lunch))
    await orders.place_order(other_user, lunch.cafe.id, DATE, lunch_with(lunch))

    assert await count(clients) == 4


async def test_after_cancelling_one_may_order_again(user: Context, lunch: Lunch, ordered: Order) -> None:
    """A cancelled order stays, and the new one is another."""
    await orders.cancel_order(user, ordered.id)

    again = await orders.place_order(user, lunch.cafe.id, DATE, lunch_with(lunch))

    assert (again.id != ordered.id, again.status) == (True, OrderStatus.PENDING)
    assert (await orders.order(user, ordered.id)).status is OrderStatus.CANCELLED


async def test_an_order_keeps_its_names_and_prices(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """What the menu costs, or is called, later changes nothing, not even for who changes how much of it they want."""
    await change(clients, lunch.combo, price=Decimal(99), name="Feast")
    await change(clients, lunch.cola, price=Decimal(9), name="Kvas")

    changed = await orders.update_order(
        user, ordered.id, {"combo_id": lunch.combo.id, "extras": [Extra(lunch.cola.id, 4)]}
    )

    assert contents(changed) == (
        "Business lunch",
        "10.00",
        [("Borscht", "", 1), ("Pelmeni", "", 1), ("Cola", "1.50", 4)],
    )
    assert str(changed.total_price) == "16.00"


async def test_what_is_new_has_todays_price(clients: Clients, user: Context, lunch: Lunch, ordered: Order) -> None:
    """Who takes another combo, or another extra, pays what it costs today."""
    await change(clients, lunch.light, price=Decimal("6.60"))
    await change(clients, lunch.cake, price=Decimal("3.33"))
    await change(clients, lunch.cola, price=Decimal(9))

    changed = await orders.update_order(
        user,
        ordered.id,
        {
            "combo_id": lunch.light.id,
            "dish_ids": [lunch.salad.id],
            "extras": [Extra(lunch.cola.id), Extra(lunch.cake.id, 2)],
        },
    )

    assert contents(changed) == (
        "Light",
        "6.60",
        [("Vinaigrette", "", 1), ("Cola", "1.50", 1), ("Honey cake", "3.33", 2)],
    )
    assert str(changed.total_price) == "14.76"


async def test_what_was_given_up_has_todays_price_when_it_comes_back(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """The old price is of what stays, not of what was there once."""
    await orders.update_order(user, ordered.id, {"extras": []})
    await change(clients, lunch.cola, price=Decimal(9))

    changed = await orders.update_order(user, ordered.id, {"extras": [Extra(lunch.cola.id)]})

    assert str(changed.total_price) == "19.00"


async def test_a_soup_is_replaced_by_another(user: Context, lunch: Lunch, ordered: Order) -> None:
    """The new dish takes the place of the old one in its category."""
    await orders.update_order(user, ordered.id, {"dish_ids": [lunch.main.id, lunch.other_soup.id]})

    assert [dish.name for dish in (await orders.order(user, ordered.id)).dishes] == ["Solyanka", "Pelmeni"]


async def test_what_is_not_given_stays(clients: Clients, user: Context, lunch: Lunch, ordered: Order) -> None:
    """Who changes the notes alone keeps combo, dishes and extras, though none may be available any more."""
    for row in (lunch.combo, lunch.soup, lunch.main, lunch.cola):
        await change(clients, row, is_available=False)
    later = BEFORE + dt.timedelta(hours=1)

    changed = await orders.update_order(at(user, later), ordered.id, {"notes": "No onions"})

    assert (contents(changed), changed.total_price) == (contents(ordered), ordered.total_price)
    assert (changed.notes, changed.created_at, changed.updated_at) == ("No onions", BEFORE, later)
    assert (await orders.update_order(user, ordered.id, {"extras": []})).notes == "No onions"


async def test_what_stays_may_be_unavailable(clients: Clients, user: Context, lunch: Lunch, ordered: Order) -> None:
    """Who has a dish, an extra or a combo that was switched off meanwhile may name it again."""
    for row in (lunch.combo, lunch.soup, lunch.cola):
        await change(clients, row, is_available=False)

    changed = await orders.update_order(user, ordered.id, lunch_with(lunch, Extra(lunch.cola.id, 3)))

    assert str(changed.total_price) == "14.50"


async def test_a_cancelled_order_is_not_changed(user: Context, ordered: Order) -> None:
    """One orders anew instead."""
    await orders.cancel_order(user, ordered.id)

    assert await field_of(orders.update_order(user, ordered.id, {"notes": "Please"})) == "id"


async def test_cancelling_twice_is_no_error(user: Context, ordered: Order) -> None:
    """A cancelled order stays as it is, with the time of its cancelling."""
    await orders.cancel_order(user, ordered.id)

    again = await orders.cancel_order(at(user, BEFORE + dt.timedelta(hours=1)), ordered.id)

    assert (again.status, again.updated_at) == (OrderStatus.CANCELLED, BEFORE)


async def test_an_unknown_order_is_not_found(user: Context) -> None:
    """One can neither read, change nor cancel what is not there."""
    for operation in (orders.order(user, 999), orders.update_order(user, 999, {}), orders.cancel_order(user, 999)):
        with pytest.raises(NotFound):
            await operation


async def test_an_unknown_cafe_takes_no_order(user: Context, lunch: Lunch) -> None:
    """One cannot order from a cafe that is not there."""
    with pytest.raises(NotFound):
        await orders.place_order(user, 999, DATE, lunch_with(lunch))


async def test_others_orders_are_not_for_users(
    user: Context, other_user: Context, lunch: Lunch, ordered: Order
) -> None:
    """A user neither reads, changes nor cancels somebody else's order, nor orders for them, nor lists theirs."""
    for operation in (
        orders.order(other_user, ordered.id),
        orders.update_order(other_user, ordered.id, {"notes": "Mine"}),
        orders.cancel_order(other_user, ordered.id),
        orders.place_order(other_user, lunch.cafe.id, DATE, lunch_with(lunch), USER_TGID),
        orders.orders(other_user, PageRequest(), OrderFilter(tgid=USER_TGID)),
    ):
        with pytest.raises(Forbidden):
            await operation

    assert (await orders.order(user, ordered.id)).model_dump() == ordered.model_dump()


async def test_nobody_orders_without_signing_in(anybody: Context, lunch: Lunch) -> None:
    """Orders are for people whom we know."""
    for operation in (
        orders.order(anybody, 1),
        orders.place_order(anybody, lunch.cafe.id, DATE, lunch_with(lunch)),
        orders.update_order(anybody, 1, {}),
        orders.cancel_order(anybody, 1),
        orders.orders(anybody, PageRequest(), OrderFilter()),
    ):
        with pytest.raises(Unauthenticated):
            await operation


async def test_the_list_is_ones_own(user: Context, other_user: Context, lunch: Lunch, ordered: Order) -> None:
    """A user sees their own orders, the latest date first; a manager sees everybody's."""
    tomorrow = DATE + dt.timedelta(days=1)
    later = await orders.place_order(user, lunch.cafe.id, tomorrow, lunch_with(lunch))
    others = await orders.place_order(other_user, lunch.cafe.id, DATE, lunch_with(lunch))
    manager = replace(user, identified=Viewer(MANAGER_TGID, Role.MANAGER))

    async def listed(ctx: Context, tgid: int | None = None) -> list[int]:
        return [order.id for order in (await orders.orders(ctx, PageRequest(), OrderFilter(tgid=tgid))).items]

    assert await listed(user) == await listed(user, USER_TGID) == [later.id, ordered.id]
    assert await listed(other_user) == [others.id]
    assert await listed(manager) == [later.id, others.id, ordered.id]
    assert await listed(manager, OTHER_TGID) == [others.id]


async def test_the_list_is_filtered(
    clients: Clients, user: Context, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """By person, cafe, dates with both ends, and status, and by all of them together."""
    other = await add_lunch(clients)
    tomorrow = DATE + dt.timedelta(days=1)
    cancelled = await orders.place_order(user, lunch.cafe.id, tomorrow, lunch_with(lunch))
    await orders.cancel_order(user, cancelled.id)
    managers = await orders.place_order(manager, other.cafe.id, tomorrow, lunch_with(other))

    async def listed(**wanted: Any) -> set[int]:
        return {order.id for order in (await orders.orders(manager, PageRequest(), OrderFilter(**wanted))).items}

    assert await listed(tgid=USER_TGID) == {ordered.id, cancelled.id}
    assert await listed(cafe_id=other.cafe.id) == {managers.id}
    assert await listed(from_date=tomorrow) == {cancelled.id, managers.id}
    assert await listed(to_date=DATE) == {ordered.id}
    assert await listed(from_date=DATE, to_date=tomorrow) == {ordered.id, cancelled.id, managers.id}
    assert await listed(status=OrderStatus.CANCELLED) == {cancelled.id}
    assert await listed(tgid=USER_TGID, from_date=tomorrow, status=OrderStatus.PENDING) == set()
    for field in ("from_date", "to_date"):
        assert await field_of(listed(**{field: dt.date.max})) == field


async def test_the_list_has_pages(user: Context, lunch: Lunch) -> None:
    """One walks through the orders by their cursors."""
    dates = [DATE + dt.timedelta(days=days) for days in range(3)]
    for date in dates:
        await orders.place_order(user, lunch.cafe.id, date, lunch_with(lunch))

    first = await orders.orders(user, PageRequest(2), OrderFilter())
    second = await orders.orders(user, PageRequest(2, first.cursors[-1]), OrderFilter())

    assert [order.date for order in [*first.items, *second.items]] == dates[::-1]
    assert (first.has_next_page, second.has_next_page, first.total) == (True, False, 3)


async def test_users_are_bound_by_the_deadline(user: Context, lunch: Lunch, ordered: Order) -> None:
    """From the deadline on a user neither orders, changes nor cancels, and is told when it was."""
    late = at(user, CLOSES_AT)
    for operation in (
        orders.place_order(late, lunch.cafe.id, DATE, lunch_with(lunch)),
        orders.update_order(late, ordered.id, {"notes": "Please"}),
        orders.cancel_order(late, ordered.id),
    ):
        with pytest.raises(DeadlinePassed) as refused:
            await operation
        assert refused.value.details == {"closed_at": "2026-06-09T10:30:00+00:00"}

    assert (await orders.order(user, ordered.id)).model_dump() == ordered.model_dump()


async def test_a_microsecond_before_the_deadline_one_may_order(user: Context, lunch: Lunch) -> None:
    """The deadline is exact."""
    early = at(user, CLOSES_AT - dt.timedelta(microseconds=1))

    assert (await orders.place_order(early, lunch.cafe.id, DATE, lunch_with(lunch))).status is OrderStatus.PENDING


async def test_an_announced_day_is_closed_to_users(
    clients: Clients, user: Context, lunch: Lunch, ordered: Order
) -> None:
    """Once the cafe was told, a user is too late, whatever the clock and the schedule say."""
    announced_at = CLOSES_AT - dt.timedelta(hours=3)
    await close(clients, lunch.cafe, DATE, announced_at)

    with pytest.raises(DeadlinePassed) as refused:
        await orders.cancel_order(user, ordered.id)

    assert refused.value.details == {"closed_at": announced_at.isoformat()}
    assert (await orders.order(user, ordered.id)).status is OrderStatus.CONFIRMED


async def test_closing_a_day_confirms_its_orders(
    clients: Clients, user: Context, other_user: Context, lunch: Lunch, ordered: Order
) -> None:
    """Pending orders of that cafe and date are confirmed; cancelled ones, and those of other days, stay as they are."""
    cancelled = await orders.place_order(other_user, lunch.cafe.id, DATE, lunch_with(lunch))
    await orders.cancel_order(other_user, cancelled.id)
    other_day = await orders.place_order(user, lunch.cafe.id, DATE + dt.timedelta(days=1), lunch_with(lunch))

    await close(clients, lunch.cafe)

    assert (await orders.order(user, ordered.id)).status is OrderStatus.CONFIRMED
    assert (await orders.order(other_user, cancelled.id)).status is OrderStatus.CANCELLED
    assert (await orders.order(user, other_day.id)).status is OrderStatus.PENDING


async def test_a_manager_is_not_bound_by_the_deadline(
    clients: Clients, manager: Context, lunch: Lunch, ordered: Order
) -> None:
    """After it a manager changes and cancels; what is confirmed stays so while it changes."""
    late = at(manager, CLOSES_AT)
    await close(clients, lunch.cafe)

    changed = await orders.update_order(late, ordered.id, {"notes": "No onions"})
    cancelled = await orders.cancel_order(late, ordered.id)

    assert (changed.status, changed.notes) == (OrderStatus.CONFIRMED, "No onions")
    assert cancelled.status is OrderStatus.CANCELLED


async def test_a_manager_orders_for_others(user: Context, manager: Context, lunch: Lunch) -> None:
    """The order is theirs whom it is for."""
    placed = await orders.place_order(manager, lunch.cafe.id, DATE, lunch_with(lunch), USER_TGID)

    assert (await orders.order(user, placed.id)).user_tgid == USER_TGID


async def test_a_managers_late_order_is_confirmed_once_the_day_is(
    clients: Clients, manager: Context, lunch: Lunch
) -> None:
    """Between the deadline and its announcement it is pending like all others; from then on confirmed at once."""
    late = at(manager, CLOSES_AT)

    pending = await orders.place_order(late, lunch.cafe.id, DATE, lunch_with(lunch))
    await close(clients, lunch.cafe)
    confirmed = await orders.place_order(late, lunch.cafe.id, DATE, lunch_with(lunch), USER_TGID)

    assert (pending.status, confirmed.status) == (OrderStatus.PENDING, OrderStatus.CONFIRMED)
    assert (await orders.order(manager, pending.id)).status is OrderStatus.CONFIRMED


async def test_one_orders_for_people_who_are_there(user: Context, manager: Context, lunch: Lunch) -> None:
    """Neither for somebody unknown, nor for somebody who is switched off."""
    await users.set_user_access(manager, USER_TGID, is_active=False)

    with pytest.raises(NotFound) as refused:
        await orders.place_order(manager, lunch.cafe.id, DATE, lunch_with(lunch), 999)

    assert refused.value.details == {"resource": "user", "id": "999"}
    assert await field_of(orders.place_order(manager, lunch.cafe.id, DATE, lunch_with(lunch), USER_TGID)) == "tgid"


async def test_a_switched_off_cafe_takes_no_order(user: Context, manager: Context, lunch: Lunch) -> None:
    """From nobody, neither before the deadline nor from a manager after it."""
    await cafes.set_cafe_status(manager, lunch.cafe.id, is_active=False)

    for ctx in (user, manager, at(manager, CLOSES_AT)):
        assert await field_of(orders.place_order(ctx, lunch.cafe.id, DATE, lunch_with(lunch))) == "cafe_id"


async def test_one_orders_for_days_of_delivery(manager: Context, lunch: Lunch) -> None:
    """A weekday without a deadline, a day too far ahead and another century are refused, also to a manager."""
    too_far = BEFORE.date() + dt.timedelta(days=91)
    thursday = Deadline(weekday=3, deadline_time=dt.time(10, 30))
    await deadlines.set_deadlines(
        manager, lunch.cafe.id, [thursday, Deadline(weekday=too_far.weekday(), deadline_time=dt.time(10, 30))]
    )

    for date in (DATE, too_far, dt.date(1999, 12, 31), dt.date(2100, 1, 1)):
        assert await field_of(orders.place_order(manager, lunch.cafe.id, date, lunch_with(lunch))) == "date"


async def test_an_order_is_read_without_its_parts(user: Context, ordered: Order) -> None:
    """Who does not need people, cafes and items does not read them."""
    page = await orders.orders(user, PageRequest(), OrderFilter(), parts=())

    with pytest.raises(sa.exc.InvalidRequestError):
        _ = page.items[0].items


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
async def test_the_database_keeps_what_an_order_is(
    clients: Clients, lunch: Lunch, ordered: Order, wrong: dict[str, Any], check: str
) -> None:
    """Even without our code an order has no two soups, no priced dish, no free extra, no 21 of anything."""
    item = getattr(lunch, wrong.pop("menu_item", "salad"))
    row = {"order_id": ordered.id, "menu_item_id": item.id, "name": "", **wrong}

    async with clients.db() as session:
        with pytest.raises(sa.exc.IntegrityError, match=check):
            await session.execute(sa.insert(OrderItem.__table__).values(row))  # type: ignore[attr-defined]
        await session.rollback()


async def test_the_database_keeps_one_order_a_day(clients: Clients, ordered: Order) -> None:
    """Even without our code a second order that is not cancelled is impossible; cancelled ones may be many."""
    columns = sa.inspect(Order).local_table.columns.keys()[1:]
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
