"""Users with orders within the last month."""

from datetime import UTC, date, datetime, timedelta

from app.clients import Clients
from app.models import Order, OrderItem, OrderStatus, User
from tests.conftest import Lunch

FIRST_ORDERING_USER = 3001


def days_ago(number: int) -> date:
    """Return the date this number of days ago."""
    return datetime.now(UTC).date() - timedelta(days=number)


async def add_ordering_user(
    clients: Clients, lunch: Lunch, tgid: int, orders: int = 5, *, first: int = 1, cancelled: int = 0, **fields: object
) -> None:
    """Add a user with this number of orders: one for each day, the last one `first` days ago.

    Args:
        cancelled: How many of the last orders are cancelled.
    """
    async with clients.db() as session:
        session.add(User(tgid=tgid, name=f"User {tgid}", **fields))  # type: ignore[arg-type]
        for number in range(orders):
            order = Order(
                user_tgid=tgid,
                cafe_id=lunch.cafe.id,
                date=days_ago(first + number),
                status=OrderStatus.CANCELLED if number < cancelled else OrderStatus.CONFIRMED,
                combo_id=lunch.combo.id,
                combo_name=lunch.combo.name,
                combo_price=lunch.combo.price,
                total_price=lunch.combo.price,
                items=[OrderItem.of(lunch.soup), OrderItem.of(lunch.main)],
            )
            session.add(order)


async def add_ordering_users(clients: Clients, lunch: Lunch, number: int) -> list[int]:
    """Add this number of users with enough orders for a recommendation. Return their Telegram ids."""
    tgids = list(range(FIRST_ORDERING_USER, FIRST_ORDERING_USER + number))
    for tgid in tgids:
        await add_ordering_user(clients, lunch, tgid)
    return tgids
