"""People with a month of orders behind them."""

from datetime import UTC, date, datetime, timedelta

from app.clients import Clients
from app.models import Order, OrderItem, OrderStatus, User
from tests.conftest import Lunch

FIRST_DINER = 3001


def days_ago(number: int) -> date:
    return datetime.now(UTC).date() - timedelta(days=number)


async def add_diner(
    clients: Clients, lunch: Lunch, tgid: int, orders: int = 5, *, first: int = 1, cancelled: int = 0, **fields: object
) -> None:
    """Add somebody who has ordered so many times: once a day, the last time `first` days ago."""
    async with clients.db() as session:
        session.add(User(tgid=tgid, name=f"Diner {tgid}", **fields))  # type: ignore[arg-type]
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


async def add_diners(clients: Clients, lunch: Lunch, number: int) -> list[int]:
    """Add so many who are to get a recommendation; return their Telegram ids."""
    tgids = list(range(FIRST_DINER, FIRST_DINER + number))
    for tgid in tgids:
        await add_diner(clients, lunch, tgid)
    return tgids
