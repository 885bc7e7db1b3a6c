"""Any sequence of operations on orders has the same results as a simple model of the rules."""

import datetime as dt
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import selectinload
from sqlmodel import col, select

from app.auth.context import Context
from app.clients import Clients
from app.errors import LunchbotError
from app.models import ComboChanges, MenuItemChanges, Order, OrderChanges, OrderInput
from app.resolvers import menus, orders
from tests.conftest import Lunch, add_lunch
from tests.ordering import BEFORE, CLOSES_AT, DATE, close, extra

type Actor = Literal["user", "manager"]
type Result = str
"""The code of an error, or OK."""

OK = "OK"
CATEGORIES = {"soup": "soup", "other_soup": "soup", "salad": "salad", "main": "main", "cola": "extra", "cake": "extra"}
COMBOS = {"combo": ["main", "soup"], "light": ["salad"]}
DAYS = 2


class Refused(Exception):
    """The model refuses the operation with this error code."""


@dataclass
class Model:
    """The rules of ordering in memory: with names instead of ids, cents instead of amounts, lists instead of tables."""

    prices: dict[str, int] = field(default_factory=lambda: {"combo": 1000, "light": 600, "cola": 150, "cake": 325})
    unavailable: set[str] = field(default_factory=set)
    announced: set[int] = field(default_factory=set)
    """The announced days."""
    late: set[int] = field(default_factory=set)
    """The days whose deadline has passed."""
    orders: list[dict[str, Any]] = field(default_factory=list)

    def place(self, actor: Actor, owner: Actor, day: int, fields: dict[str, Any]) -> None:
        self.authorize(actor, owner, day)
        new = {"owner": owner, "day": day, **self.apply({}, fields)}
        if any((it["owner"], it["day"]) == (owner, day) and it["status"] != "cancelled" for it in self.orders):
            raise Refused("ALREADY_EXISTS")
        new["status"] = "confirmed" if day in self.announced else "pending"
        self.orders.append(new)

    def update(self, actor: Actor, number: int, fields: dict[str, Any]) -> None:
        order = self.orders[number]
        self.authorize(actor, order["owner"], order["day"])
        if order["status"] == "cancelled":
            raise Refused("BAD_INPUT")
        order.update(self.apply(order, fields))

    def cancel(self, actor: Actor, number: int) -> None:
        order = self.orders[number]
        self.authorize(actor, order["owner"], order["day"])
        order["status"] = "cancelled"

    def close(self, day: int) -> None:
        self.announced.add(day)
        for order in self.orders:
            if order["day"] == day and order["status"] == "pending":
                order["status"] = "confirmed"

    def authorize(self, actor: Actor, owner: Actor, day: int) -> None:
        if actor == "user" and owner != "user":
            raise Refused("FORBIDDEN")
        if actor == "user" and day in self.announced | self.late:
            raise Refused("DEADLINE_PASSED")

    def apply(self, order: dict[str, Any], fields: dict[str, Any]) -> dict[str, Any]:
        """Return the contents of an order after a change of these fields."""
        present = order.get("items", {})
        combo: str = fields["combo"] if "combo" in fields else order["combo"]
        dishes = fields.get("dishes", [name for name in present if CATEGORIES[name] != "extra"])
        extras = fields.get(
            "extras", {name: it["quantity"] for name, it in present.items() if CATEGORIES[name] == "extra"}
        )
        if "combo" in fields or "dishes" in fields:
            is_refused = combo in self.unavailable and combo != order.get("combo")
            if is_refused or sorted(CATEGORIES[name] for name in dishes) != COMBOS[combo]:
                raise Refused("BAD_INPUT")
        if any(CATEGORIES[name] != "extra" for name in extras):
            raise Refused("BAD_INPUT")
        quantities = dict.fromkeys(dishes, 1) | extras
        if any(name in self.unavailable and name not in present for name in quantities):
            raise Refused("BAD_INPUT")
        return {
            "combo": combo,
            "combo_price": order["combo_price"] if combo == order.get("combo") else self.prices[combo],
            "items": {
                name: {
                    "price": present[name]["price"] if name in present else self.prices.get(name),
                    "quantity": quantity,
                }
                for name, quantity in quantities.items()
            },
            "notes": fields.get("notes", order.get("notes", "")),
        }

    def total(self, order: dict[str, Any]) -> int:
        extras: int = sum(it["price"] * it["quantity"] for it in order["items"].values() if it["price"] is not None)
        return int(order["combo_price"]) + extras


@dataclass
class Application:
    """The same operations with the application."""

    clients: Clients
    contexts: dict[str, Context]
    lunch: Lunch
    now: dt.datetime = BEFORE
    ids: list[int] = field(default_factory=list)

    async def place(self, actor: Actor, owner: Actor, day: int, fields: dict[str, Any]) -> None:
        tgid = self.contexts[owner].viewer.tgid
        contents = OrderInput.collect(**self.to_input(fields))
        order = await orders.place_order(self.at(actor), self.lunch.cafe.id, date_of(day), contents, tgid)
        self.ids.append(order.id)

    async def update(self, actor: Actor, number: int, fields: dict[str, Any]) -> None:
        await orders.update_order(self.at(actor), self.ids[number], OrderChanges.collect(**self.to_input(fields)))

    async def cancel(self, actor: Actor, number: int) -> None:
        await orders.cancel_order(self.at(actor), self.ids[number])

    async def close(self, day: int) -> None:
        await close(self.clients, self.lunch.cafe, date_of(day), self.now)

    async def change(self, name: str, **changes: Any) -> None:
        manager, id_ = self.at("manager"), self.id_of(name)
        if name in COMBOS:
            await menus.update_combo(manager, id_, None, ComboChanges(**changes))
        else:
            await menus.update_menu_item(manager, id_, None, MenuItemChanges(**changes))

    def at(self, actor: Actor) -> Context:
        return replace(self.contexts[actor], clock=lambda: self.now)

    def id_of(self, name: str) -> int:
        id_: int = getattr(self.lunch, name).id
        return id_

    def to_input(self, fields: dict[str, Any]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if "combo" in fields:
            given["combo_id"] = self.id_of(fields["combo"])
        if "dishes" in fields:
            given["dish_ids"] = [self.id_of(name) for name in fields["dishes"]]
        if "extras" in fields:
            given["extras"] = [extra(self.id_of(name), quantity) for name, quantity in fields["extras"].items()]
        if "notes" in fields:
            given["notes"] = fields["notes"]
        return given

    async def find_orders(self) -> list[dict[str, Any]]:
        """The stored orders in the form of the model, the oldest first."""
        names = {self.id_of(name): name for name in CATEGORIES}
        owners = {ctx.viewer.tgid: actor for actor, ctx in self.contexts.items()}
        query = select(Order).where(Order.cafe_id == self.lunch.cafe.id).order_by(col(Order.id))
        async with self.clients.db() as session:
            rows = await session.scalars(query.options(selectinload(Order.items)))  # type: ignore[arg-type]
            return [
                {
                    "owner": owners[row.user_tgid],
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


actors = st.sampled_from(["user", "user", "manager"])
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
        st.tuples(st.just("place"), actors, actors, days, lunches),
        st.tuples(
            st.just("place"),
            actors,
            actors,
            days,
            st.fixed_dictionaries(
                {name: choices[name] for name in ("combo", "dishes")},
                optional={name: choices[name] for name in ("extras", "notes")},
            ),
        ),
        st.tuples(st.just("update"), actors, numbers, st.fixed_dictionaries({}, optional=choices)),
        st.tuples(st.just("update"), actors, numbers, lunches),
        st.tuples(st.just("cancel"), actors, numbers),
        st.tuples(st.just("price"), st.sampled_from(["combo", "light", "cola", "cake"]), st.integers(0, 10**10 - 1)),
        st.tuples(st.just("availability"), st.sampled_from([*CATEGORIES, *COMBOS]), st.booleans()),
        st.tuples(st.just("close"), days),
        st.just(("wait",)),
    ),
    min_size=3,
    max_size=15,
)


async def take(step: tuple[Any, ...], model: Model, application: Application) -> tuple[Result, Result]:
    """Take a step in the model and in the application, and return both results."""
    kind, *arguments = step
    match kind:
        case "wait":
            application.now = CLOSES_AT  # the deadline of the first day
            model.late = {0}
            return OK, OK
        case "price":
            name, price = arguments
            model.prices[name] = price
            await application.change(name, price=Decimal(price).scaleb(-2))
            return OK, OK
        case "availability":
            name, is_available = arguments
            (model.unavailable.discard if is_available else model.unavailable.add)(name)
            await application.change(name, is_available=is_available)
            return OK, OK
        case "update" | "cancel":
            if not model.orders:
                return OK, OK
            arguments[1] %= len(model.orders)
    expected = result = OK
    try:
        getattr(model, kind)(*arguments)
    except Refused as refusal:
        expected = str(refusal)
    try:
        await getattr(application, kind)(*arguments)
    except LunchbotError as refusal:
        result = refusal.code
    return expected, result


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,  # each example has a separate cafe
        HealthCheck.too_slow,
    ],
)
@given(steps=steps)
async def test_orders_follow_the_rules(
    clients: Clients, user: Context, manager: Context, steps: list[tuple[Any, ...]]
) -> None:
    """Each step has the same result as in the model, and in the end all orders are equal, with exact totals."""
    model = Model()
    application = Application(clients, {"user": user, "manager": manager}, await add_lunch(clients))

    for step in steps:
        expected, result = await take(step, model, application)
        assert result == expected

    assert await application.find_orders() == [{**order, "total": model.total(order)} for order in model.orders]
