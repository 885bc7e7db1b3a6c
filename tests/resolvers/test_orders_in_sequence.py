"""Whatever people do one after the other, orders are what a plain description of the rules says."""

import datetime as dt
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import selectinload
from sqlmodel import col, select

from app.clients import Clients
from app.context import Context
from app.errors import LunchbotError
from app.models import Order
from app.resolvers import menus, order_lines, orders
from app.resolvers.order_lines import Extra
from tests.conftest import Lunch, add_lunch
from tests.resolvers.ordering import BEFORE, CLOSES_AT, DATE, close

type Who = Literal["user", "manager"]
type Answer = str
"""The code of a refusal, or OK."""

OK = "OK"
CATEGORIES = {"soup": "soup", "other_soup": "soup", "salad": "salad", "main": "main", "cola": "extra", "cake": "extra"}
COMBOS = {"combo": ["main", "soup"], "light": ["salad"]}
DAYS = 2


class Refused(Exception):
    """With the code of the refusal."""


@dataclass
class Description:
    """The rules of ordering in plain words: names instead of ids, cents instead of amounts, lists instead of tables."""

    prices: dict[str, int] = field(default_factory=lambda: {"combo": 1000, "light": 600, "cola": 150, "cake": 325})
    off: set[str] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)
    """Days that were announced."""
    late: set[int] = field(default_factory=set)
    """Days whose deadline has passed."""
    orders: list[dict[str, Any]] = field(default_factory=list)

    def place(self, who: Who, whose: Who, day: int, fields: dict[str, Any]) -> None:
        self.let(who, whose, day)
        new = {"whose": whose, "day": day, "notes": "", **self.chosen({}, fields)}
        if any((it["whose"], it["day"]) == (whose, day) and it["status"] != "cancelled" for it in self.orders):
            raise Refused("ALREADY_EXISTS")
        new["status"] = "confirmed" if day in self.closed else "pending"
        self.orders.append(new)

    def update(self, who: Who, number: int, fields: dict[str, Any]) -> None:
        order = self.orders[number]
        self.let(who, order["whose"], order["day"])
        if order["status"] == "cancelled":
            raise Refused("BAD_INPUT")
        order.update(self.chosen(order, fields))

    def cancel(self, who: Who, number: int) -> None:
        order = self.orders[number]
        self.let(who, order["whose"], order["day"])
        order["status"] = "cancelled"

    def close(self, day: int) -> None:
        self.closed.add(day)
        for order in self.orders:
            if order["day"] == day and order["status"] == "pending":
                order["status"] = "confirmed"

    def let(self, who: Who, whose: Who, day: int) -> None:
        if who == "user" and whose != "user":
            raise Refused("FORBIDDEN")
        if who == "user" and day in self.closed | self.late:
            raise Refused("DEADLINE_PASSED")

    def chosen(self, order: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        """What an order becomes by `fields`."""
        had = order.get("items", {})
        combo: str = fields["combo"] if "combo" in fields else order["combo"]
        dishes = fields.get("dishes", [name for name in had if CATEGORIES[name] != "extra"])
        extras = fields.get("extras", {name: it["quantity"] for name, it in had.items() if CATEGORIES[name] == "extra"})
        if "combo" in fields or "dishes" in fields:
            is_gone = combo in self.off and combo != order.get("combo")
            if is_gone or sorted(CATEGORIES[name] for name in dishes) != COMBOS[combo]:
                raise Refused("BAD_INPUT")
        if any(CATEGORIES[name] != "extra" for name in extras):
            raise Refused("BAD_INPUT")
        quantities = dict.fromkeys(dishes, 1) | extras
        if any(name in self.off and name not in had for name in quantities):
            raise Refused("BAD_INPUT")
        return {
            "combo": combo,
            "combo_price": order["combo_price"] if combo == order.get("combo") else self.prices[combo],
            "items": {
                name: {"price": had[name]["price"] if name in had else self.prices.get(name), "quantity": quantity}
                for name, quantity in quantities.items()
            },
            "notes": fields.get("notes", order.get("notes", "")),
        }

    def total(self, order: dict[str, Any]) -> int:
        extras: int = sum(it["price"] * it["quantity"] for it in order["items"].values() if it["price"] is not None)
        return int(order["combo_price"]) + extras


@dataclass
class Real:
    """The same with the real thing."""

    clients: Clients
    contexts: dict[str, Context]
    lunch: Lunch
    now: dt.datetime = BEFORE
    ids: list[int] = field(default_factory=list)

    async def place(self, who: Who, whose: Who, day: int, fields: dict[str, Any]) -> None:
        tgid = self.contexts[whose].viewer.tgid
        order = await orders.place_order(self.at(who), self.lunch.cafe.id, date_of(day), self.given(fields), tgid)
        self.ids.append(order.id)

    async def update(self, who: Who, number: int, fields: dict[str, Any]) -> None:
        await orders.update_order(self.at(who), self.ids[number], self.given(fields))

    async def cancel(self, who: Who, number: int) -> None:
        await orders.cancel_order(self.at(who), self.ids[number])

    async def close(self, day: int) -> None:
        await close(self.clients, self.lunch.cafe, date_of(day), self.now)

    async def change(self, name: str, changes: Any) -> None:
        update = menus.update_combo if name in COMBOS else menus.update_menu_item
        await update(self.at("manager"), self.id_of(name), None, changes)

    def at(self, who: Who) -> Context:
        return replace(self.contexts[who], clock=lambda: self.now)

    def id_of(self, name: str) -> int:
        id_: int = getattr(self.lunch, name).id
        return id_

    def given(self, fields: dict[str, Any]) -> order_lines.OrderFields:
        given: order_lines.OrderFields = {}
        if "combo" in fields:
            given["combo_id"] = self.id_of(fields["combo"])
        if "dishes" in fields:
            given["dish_ids"] = [self.id_of(name) for name in fields["dishes"]]
        if "extras" in fields:
            given["extras"] = [Extra(self.id_of(name), quantity) for name, quantity in fields["extras"].items()]
        if "notes" in fields:
            given["notes"] = fields["notes"]
        return given

    async def orders(self) -> list[dict[str, Any]]:
        """The orders as they are described, in the order in which they were placed."""
        names = {self.id_of(name): name for name in CATEGORIES}
        whose = {ctx.viewer.tgid: who for who, ctx in self.contexts.items()}
        query = select(Order).where(Order.cafe_id == self.lunch.cafe.id).order_by(col(Order.id))
        async with self.clients.db() as session:
            rows = await session.scalars(query.options(selectinload(Order.items)))  # type: ignore[arg-type]
            return [
                {
                    "whose": whose[row.user_tgid],
                    "day": (row.date - DATE).days,
                    "status": row.status.value,
                    "combo": next(name for name in COMBOS if self.id_of(name) == row.combo_id),
                    "combo_price": cents(row.combo_price),
                    "items": {
                        names[item.menu_item_id]: {"price": cents(item.price), "quantity": item.quantity}
                        for item in row.items
                    },
                    "notes": row.notes,
                    "total": cents(row.total_price),
                }
                for row in rows
            ]


def date_of(day: int) -> dt.date:
    return DATE + dt.timedelta(days=day)


def cents(amount: Decimal | None) -> int | None:
    return None if amount is None else int(amount * 100)


people = st.sampled_from(["user", "user", "manager"])
days = st.integers(0, DAYS - 1)
numbers = st.integers(0, 20)
choices = {
    "combo": st.sampled_from(sorted(COMBOS)),
    "dishes": st.sampled_from([["soup", "main"], ["main", "other_soup"], ["salad"]])
    | st.lists(st.sampled_from(sorted(CATEGORIES)), max_size=3),
    "extras": st.dictionaries(
        st.sampled_from(["cola", "cake", "cola", "cake", "main"]), st.integers(1, 20), max_size=2
    ),
    "notes": st.sampled_from(["", "No onions"]),
}
lunches = st.sampled_from(
    [
        {"combo": "combo", "dishes": ["soup", "main"]},
        {"combo": "combo", "dishes": ["other_soup", "main"], "extras": {"cola": 2}},
        {"combo": "light", "dishes": ["salad"], "extras": {"cola": 1, "cake": 3}},
    ]
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("place"), people, people, days, lunches),
        st.tuples(
            st.just("place"),
            people,
            people,
            days,
            st.fixed_dictionaries(
                {name: choices[name] for name in ("combo", "dishes")},
                optional={name: choices[name] for name in ("extras", "notes")},
            ),
        ),
        st.tuples(st.just("update"), people, numbers, st.fixed_dictionaries({}, optional=choices)),
        st.tuples(st.just("update"), people, numbers, lunches),
        st.tuples(st.just("cancel"), people, numbers),
        st.tuples(st.just("price"), st.sampled_from(["combo", "light", "cola", "cake"]), st.integers(0, 10**10 - 1)),
        st.tuples(st.just("switch"), st.sampled_from([*CATEGORIES, *COMBOS]), st.booleans()),
        st.tuples(st.just("close"), days),
        st.just(("wait",)),
    ),
    min_size=3,
    max_size=15,
)


async def take(step: tuple[Any, ...], described: Description, real: Real) -> tuple[Answer, Answer]:
    """Take a step in both worlds, and say what each answers."""
    kind, *arguments = step
    match kind:
        case "wait":
            real.now = CLOSES_AT  # the deadline of the first day
            described.late = {0}
            return OK, OK
        case "price":
            name, price = arguments
            described.prices[name] = price
            await real.change(name, {"price": Decimal(price).scaleb(-2)})
            return OK, OK
        case "switch":
            name, is_available = arguments
            (described.off.discard if is_available else described.off.add)(name)
            await real.change(name, {"is_available": is_available})
            return OK, OK
        case "update" | "cancel":
            if not described.orders:
                return OK, OK
            arguments[1] %= len(described.orders)
    expected = answered = OK
    try:
        getattr(described, kind)(*arguments)
    except Refused as refusal:
        expected = str(refusal)
    try:
        await getattr(real, kind)(*arguments)
    except LunchbotError as refusal:
        answered = refusal.code
    return expected, answered


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # each example has a cafe of its own
        HealthCheck.too_slow,
    ],
)
@given(steps=steps)
async def test_orders_follow_the_rules(
    clients: Clients, user: Context, manager: Context, steps: list[tuple[Any, ...]]
) -> None:
    """Each step is answered as described, and all orders are as described in the end, with exact totals."""
    described = Description()
    real = Real(clients, {"user": user, "manager": manager}, await add_lunch(clients))

    for step in steps:
        expected, answered = await take(step, described, real)
        assert answered == expected

    assert await real.orders() == [{**order, "total": described.total(order)} for order in described.orders]
