"""Reads need few statements for any number of rows: each list is one statement with all selected parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from graphql import (
    GraphQLField,
    GraphQLObjectType,
    GraphQLOutputType,
    get_named_type,
    is_leaf_type,
    parse,
)
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as settings_of_hypothesis
from hypothesis import strategies as st
from sqlalchemy import event

from app.ai.recommendation import Recommendation
from app.ai.stats import OrderStats
from app.auth.viewer import Caller, Viewer
from app.clients import Clients
from app.models import Notification, NotificationKind, Order, OrderItem, OrderStatus, Role, User
from app.schema.context import OperationContext
from app.schema.limits import find_excess
from app.schema.schema import create_schema
from app.services import runs
from app.services.recommendations import store_recommendations
from app.settings import Settings
from tests.apis import CHAT, GEMINI_KEYS
from tests.conftest import MANAGER_TGID, Lunch, add_lunch
from tests.user_factory import FIRST_ORDERING_USER, add_ordering_user, add_ordering_users

SCHEMA = create_schema()

CAFES = 4
USERS = 5
ORDERS = 60
MESSAGES = 60

ORDERS_PAGE = (
    "the number of orders",
    "a page of orders, joined with users and cafes",
    "their items",
    "the menus of their cafes",
    "the combos of their cafes",
    "the deadlines of their cafes",
    "the orders of their cafes for days without a delivery",
)
CAFES_PAGE = (
    "the number of cafes",
    "a page of cafes",
    "their menus",
    "their combos",
    "their deadlines",
    "their orders for days without a delivery",
)
MESSAGES_PAGE = (
    "the number of messages",
    "a page of messages, joined with cafes",
    "the menus of their cafes",
    "the combos of their cafes",
    "the deadlines of their cafes",
    "the orders of their cafes for days without a delivery",
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"gemini_api_keys": GEMINI_KEYS})


@pytest.fixture
async def many_orders(clients: Clients, people: None) -> None:
    """Orders of several users from several cafes on several dates; every third order is cancelled."""
    lunches = [await add_lunch(clients, f"Cafe {number}") for number in range(CAFES)]
    today = datetime.now(UTC).date()
    async with clients.db() as session:
        session.add_all(User(tgid=tgid, name=f"User {tgid}") for tgid in range(1, 1 + USERS))
        await session.flush()
        session.add_all(
            _order(
                lunches[number % CAFES],
                user_tgid=1 + number % USERS,
                date=today - timedelta(days=number),
                status=OrderStatus.CANCELLED if number % 3 == 0 else OrderStatus.CONFIRMED,
            )
            for number in range(ORDERS)
        )


@pytest.fixture
async def many_messages(clients: Clients, people: None) -> None:
    """Messages to several cafes about several dates."""
    lunches = [await add_lunch(clients, f"Cafe {number}") for number in range(CAFES)]
    today = datetime.now(UTC).date()
    async with clients.db() as session:
        session.add_all(
            Notification(
                cafe_id=lunches[number % CAFES].cafe.id,
                kind=NotificationKind.ORDERS,
                date=today - timedelta(days=number),
                tg_chat_id=CHAT,
                parts=["Soup", "and more"],
            )
            for number in range(MESSAGES)
        )


def _order(lunch: Lunch, **fields: Any) -> Order:
    combo = lunch.combo
    return Order(
        cafe_id=lunch.cafe.id,
        combo_id=combo.id,
        combo_name=combo.name,
        combo_price=combo.price,
        total_price=combo.price,
        items=[OrderItem.of(lunch.soup), OrderItem.of(lunch.main), OrderItem.of(lunch.cola, 2)],
        **fields,
    )


@contextmanager
def counting(clients: Clients) -> Iterator[list[str]]:
    """Collect the statements that reach the database."""
    statements: list[str] = []

    def collect(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
        statements.append(statement)

    event.listen(clients.engine.sync_engine, "before_cursor_execute", collect)
    try:
        yield statements
    finally:
        event.remove(clients.engine.sync_engine, "before_cursor_execute", collect)


async def execute(clients: Clients, document: str) -> tuple[dict[str, Any], list[str]]:
    """Execute a document as an authenticated manager; return the data and the statements."""
    return await execute_as(
        OperationContext(clients, source="test", caller=Caller(viewer=Viewer(MANAGER_TGID, Role.MANAGER))), document
    )


async def execute_as(ctx: OperationContext, document: str) -> tuple[dict[str, Any], list[str]]:
    """Execute a document with a context; return the data and the statements."""
    with counting(ctx.clients) as statements:
        result = await SCHEMA.execute(document, None, ctx)
    assert result.errors is None
    assert result.data is not None
    return result.data, statements


CAFE_PARTS = """
  menuItems(first: 3) { nodes { id name price } totalCount }
  combos(first: 2) { nodes { name categories } totalCount }
  deadlines { nodes { weekday } totalCount ordersWithoutDelivery { date } }
"""


@pytest.mark.parametrize("first", [1, 5, 50])
async def test_a_page_of_orders_is_seven_statements(clients: Clients, many_orders: None, first: int) -> None:
    """The page has all parts of the orders and the menus of their cafes."""
    document = f"""{{
      orders(first: {first}) {{
        nodes {{
          id date status notes totalPrice combo {{ id name price }} dishes {{ name category }} extras {{ name quantity }}
          user {{ tgid name }} userName cafe {{ id name {CAFE_PARTS} }} cafeName
        }}
        totalCount
        pageInfo {{ endCursor hasNextPage }}
      }}
    }}"""

    data, statements = await execute(clients, document)

    assert len(data["orders"]["nodes"]) == first
    assert len(statements) == len(ORDERS_PAGE), statements


@pytest.mark.parametrize(
    ("selected", "statements"),
    [
        ("nodes { id combo { name } }", 1),
        ("pageInfo { endCursor } edges { cursor node { id tgid cafeId } }", 1),
        ("totalCount", 2),
        ("nodes { user { name } userName cafe { id name } cafeName }", 1),
        ("nodes { dishes { name } extras { name } }", 2),
        ("nodes { cafe { menuItems { totalCount } } }", 2),
        ("nodes { cafe { soups: menuItems(category: SOUP) { totalCount } extras: menuItems { totalCount } } }", 2),
    ],
)
async def test_only_selected_parts_of_orders_are_read(
    clients: Clients, many_orders: None, selected: str, statements: int
) -> None:
    """The number of statements depends on the selection."""
    _, made = await execute(clients, f"{{ orders(first: 5) {{ {selected} }} }}")

    assert len(made) == statements, made


@pytest.mark.parametrize("first", [1, 50])
async def test_a_page_of_messages_is_six_statements(clients: Clients, many_messages: None, first: int) -> None:
    """The page has the cafes with their menus, combos and deadlines."""
    document = f"""{{
      notifications(first: {first}) {{
        nodes {{
          id kind date version text status attempts error createdAt sentAt cafe {{ id name {CAFE_PARTS} }} cafeName
        }}
        totalCount
        pageInfo {{ endCursor hasNextPage }}
      }}
    }}"""

    data, statements = await execute(clients, document)

    assert len(data["notifications"]["nodes"]) == first
    assert len(statements) == len(MESSAGES_PAGE), statements


@pytest.mark.parametrize(
    ("selected", "statements"), [("nodes { id text cafe { name } cafeName }", 1), ("totalCount", 2)]
)
async def test_only_selected_parts_of_messages_are_read(
    clients: Clients, many_messages: None, selected: str, statements: int
) -> None:
    """Cafes are read with the page; the total is counted only if it is selected."""
    _, made = await execute(clients, f"{{ notifications(first: 5) {{ {selected} }} }}")

    assert len(made) == statements, made


@pytest.mark.parametrize("first", [1, CAFES])
async def test_a_page_of_cafes_is_six_statements(clients: Clients, many_orders: None, first: int) -> None:
    """The page has the menus, combos and deadlines of the cafes."""
    data, statements = await execute(
        clients, f"{{ cafes(first: {first}) {{ nodes {{ id name {CAFE_PARTS} }} totalCount }} }}"
    )

    assert len(data["cafes"]["nodes"]) == first
    assert len(statements) == len(CAFES_PAGE), statements


async def test_one_order_is_two_statements(clients: Clients, many_orders: None) -> None:
    """One statement reads the order with its user and cafe, another one its items."""
    _, statements = await execute(clients, "{ order(id: 1) { userName cafeName dishes { name } extras { name } } }")

    assert len(statements) == 2, statements


async def test_a_summary_is_five_statements(clients: Clients, many_orders: None) -> None:
    """The statements read the cafe, the totals, the items, the combos and the notes, for any number of orders."""
    document = f"""{{
      orderSummary(cafeId: 1, date: "{datetime.now(UTC).date() - timedelta(days=4)}") {{
        ordersCount combos {{ name }} dishes {{ dishes {{ name }} }} extras {{ name }} notes {{ userName }}
      }}
    }}"""

    data, statements = await execute(clients, document)

    assert data["orderSummary"]["ordersCount"] == 1
    assert len(statements) == 5, statements


RECOMMENDED = f"""{{
  recommendations(tgid: {FIRST_ORDERING_USER}) {{
    summary tips generatedAt
    stats {{
      ordersCount uniqueDishes totalDishesAvailable
      categories {{ soup salad main extra }} favoriteDishes {{ name count }}
    }}
  }}
}}"""


async def test_a_stored_recommendation_is_one_statement(clients: Clients, people: None, manager_token: str) -> None:
    """The one statement authenticates the caller; the recommendation comes from Redis."""
    kept = Recommendation(summary="You like soup.", stats=OrderStats(), generated_at=datetime.now(UTC))
    await store_recommendations(clients, [(FIRST_ORDERING_USER, kept)], datetime.now(UTC))
    asked = OperationContext(clients, source="test", caller=Caller(f"Bearer {manager_token}"))

    data, statements = await execute_as(asked, RECOMMENDED)

    assert data["recommendations"]["summary"] == "You like soup."
    assert len(statements) == 1, statements


@pytest.mark.parametrize("orders", [0, 30])
async def test_current_statistics_are_two_statements(clients: Clients, people: None, lunch: Lunch, orders: int) -> None:
    """The statements read the user and the statistics, for any number of orders."""
    await add_ordering_user(clients, lunch, FIRST_ORDERING_USER, orders)

    data, statements = await execute(clients, RECOMMENDED)

    assert data["recommendations"]["stats"]["ordersCount"] == orders
    assert len(statements) == 2, statements


async def test_a_run_is_one_statement(clients: Clients, people: None, lunch: Lunch) -> None:
    """The progress is stored in the run, so no items are counted."""
    await add_ordering_users(clients, lunch, USERS)
    run = await runs.start_run(clients, datetime.now(UTC))

    data, statements = await execute(
        clients, f'{{ recommendationRun(date: "{run.date}") {{ status total done failed requestBudget }} }}'
    )

    assert data["recommendationRun"]["total"] == USERS
    assert len(statements) == 1, statements


STARTING = (
    "the ledger",
    "a new run",
    "the run with a lock",
    "failed items become pending",
    "an item for each user",
    "the number of items",
    "the run with the number",
    "runs of earlier dates",
    "the event",
    "the progress",
)


@pytest.mark.parametrize("number", [1, USERS])
async def test_a_start_is_ten_statements(clients: Clients, people: None, lunch: Lunch, number: int) -> None:
    """The number of statements is the same for any number of users."""
    await add_ordering_users(clients, lunch, number)

    data, statements = await execute(clients, "mutation { startRecommendationRun { total } }")

    assert data["startRecommendationRun"]["total"] == number
    assert len(statements) == len(STARTING), statements


async def test_keys_are_one_statement_until_redis_is_restored(clients: Clients, people: None) -> None:
    """The ledger is read once and restored to Redis; later reads need only Redis."""
    document = "{ geminiKeys { nodes { id used left state until lastError } totalCount } }"

    _, first = await execute(clients, document)
    data, then = await execute(clients, document)

    assert data["geminiKeys"]["totalCount"] == len(GEMINI_KEYS)
    assert (len(first), len(then)) == (1, 0), (first, then)


DEEPEST = 6
"""The depth of selections: it reaches the rows of a list inside a part of a row."""


class Selections:
    """Random selections: any fields at any depth, with aliases, inline and named fragments."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.fragments: list[str] = []
        self.aliases = count()

    def of(self, type_: GraphQLOutputType, depth: int = 0) -> str:
        """Select fields of an object."""
        named = get_named_type(type_)
        assert isinstance(named, GraphQLObjectType)
        leaves = sorted(name for name, field in named.fields.items() if is_leaf_type(get_named_type(field.type)))
        others = sorted(named.fields.keys() - set(leaves)) if depth < DEEPEST else []
        either = [st.sampled_from(names) for names in (leaves, others) if names]
        chosen = self.draw(st.lists(st.one_of(either), min_size=1, max_size=3))
        return "{ " + " ".join(self._selection(named, name, depth) for name in chosen) + " }"

    def _selection(self, parent: GraphQLObjectType, name: str, depth: int) -> str:
        selected = f"a{next(self.aliases)}: {name}{self._field(parent.fields[name], depth)}"
        match self.draw(st.integers(0, 3)):
            case 0:
                return f"... on {parent.name} {{ {selected} }}"
            case 1:
                fragment = f"f{len(self.fragments)}"
                self.fragments.append(f"fragment {fragment} on {parent.name} {{ {selected} }}")
                return f"...{fragment}"
            case _:
                return selected

    def _field(self, field: GraphQLField, depth: int) -> str:
        if is_leaf_type(get_named_type(field.type)):
            return ""
        first = f"(first: {self.draw(st.integers(1, 4))})" if "first" in field.args else ""
        return f"{first} {self.of(field.type, depth + 1)}"


@st.composite
def documents(draw: st.DrawFn, root: str) -> str:
    """Make random documents with a page, within the limits of one document."""
    assert SCHEMA._schema.query_type is not None
    selections = Selections(draw)
    selected = selections.of(SCHEMA._schema.query_type.fields[root].type)
    document = "\n".join([f"{{ {root}(first: 10) {selected} }}", *selections.fragments])
    assume(not find_excess(parse(document)))
    return document


with_a_database = settings_of_hypothesis(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@with_a_database
@given(documents("orders"))
async def test_any_selection_of_orders_is_at_most_seven_statements(
    clients: Clients, many_orders: None, document: str
) -> None:
    """No selection needs more statements than the complete page."""
    _, statements = await execute(clients, document)

    assert len(statements) <= len(ORDERS_PAGE), statements


@with_a_database
@given(documents("cafes"))
async def test_any_selection_of_cafes_is_at_most_six_statements(
    clients: Clients, many_orders: None, document: str
) -> None:
    """No selection needs more statements than the complete page."""
    _, statements = await execute(clients, document)

    assert len(statements) <= len(CAFES_PAGE), statements


@with_a_database
@given(documents("notifications"))
async def test_any_selection_of_messages_is_at_most_six_statements(
    clients: Clients, many_messages: None, document: str
) -> None:
    """No selection needs more statements than the complete page."""
    _, statements = await execute(clients, document)

    assert len(statements) <= len(MESSAGES_PAGE), statements
