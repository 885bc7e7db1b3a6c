"""Operations on a cafe whose row another session has locked, and on the other cafes meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.auth.context import Context
from app.auth.viewer import Caller, Viewer
from app.clients import Clients, open_clients
from app.errors import ServiceUnavailable, as_lunchbot_error
from app.models import Cafe, LinkRequest, LinkRequestStatus, Order, Role, User
from app.resolvers import cafes, links, orders
from app.settings import Settings
from tests.conftest import Lunch, add_lunch
from tests.database import until_a_lock_is_awaited
from tests.ordering import BEFORE, DATE, at

FIRST_TGID = 5000

LONGER_THAN_A_TEST = timedelta(minutes=5)


@pytest.fixture
async def stranger(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Another program that is connected to the database."""
    engine = create_async_engine(settings.database_url.get_secret_value())
    yield engine
    await engine.dispose()


@asynccontextmanager
async def locked(stranger: AsyncEngine, cafe: Cafe) -> AsyncIterator[None]:
    """Lock the row of a cafe during the block."""
    async with stranger.begin() as connection:
        await connection.execute(sa.text(f"SELECT FROM cafes WHERE id = {cafe.id} FOR UPDATE"))
        yield


@pytest.fixture
async def users(clients: Clients) -> list[int]:
    """The Telegram ids of 100 users."""
    tgids = list(range(FIRST_TGID, FIRST_TGID + 100))
    async with clients.db() as session:
        session.add_all(User(tgid=tgid, name=f"User {tgid}") for tgid in tgids)
    return tgids


def ordering(clients: Clients, lunch: Lunch, tgids: list[int]) -> list[asyncio.Task[Order]]:
    """Begin to place an order for each user."""
    contexts = (Context(clients, source="test", caller=Caller(viewer=Viewer(tgid, Role.USER))) for tgid in tgids)
    return [
        asyncio.create_task(orders.place_order(at(ctx, BEFORE), lunch.cafe.id, DATE, lunch.meal)) for ctx in contexts
    ]


@pytest.mark.parametrize("number", [1, 25, 100])
async def test_a_wait_for_a_lock_ends(
    settings: Settings, stranger: AsyncEngine, users: list[int], lunch: Lunch, number: int
) -> None:
    """All orders at a locked cafe fail with SERVICE_UNAVAILABLE, and their connections go back to the pool."""
    impatient = settings.model_copy(update={"database_lock_timeout": timedelta(milliseconds=200)})
    async with open_clients(impatient) as clients, locked(stranger, lunch.cafe):
        outcomes = await asyncio.gather(*ordering(clients, lunch, users[:number]), return_exceptions=True)
        answers = {type(as_lunchbot_error(error)) for error in outcomes if isinstance(error, Exception)}
        checked_out = clients.engine.pool.checkedout()  # type: ignore[attr-defined]

    assert (answers, checked_out) == ({ServiceUnavailable}, 0)
    assert not any(isinstance(outcome, Order) for outcome in outcomes)


async def test_other_cafes_do_not_notice_a_locked_cafe(
    settings: Settings, stranger: AsyncEngine, users: list[int], lunch: Lunch, user: Context, manager: Context
) -> None:
    """While 90 orders wait for the lock of one cafe, orders at another cafe and changes of it succeed."""
    patient = settings.model_copy(update={"database_lock_timeout": LONGER_THAN_A_TEST})
    async with open_clients(patient) as clients:
        other = await add_lunch(clients, "Other")
        async with locked(stranger, lunch.cafe):
            waiting = ordering(clients, lunch, users[:90])
            await until_a_lock_is_awaited(stranger)
            placed = await asyncio.gather(*ordering(clients, other, users[90:]))
            manager = Context(clients, source="test", caller=manager.caller)
            await cafes.set_cafe_status(manager, other.cafe.id, is_active=False)
            still_waiting = not any(task.done() for task in waiting)
        late = await asyncio.gather(*waiting)

    assert (len(placed), still_waiting, len(late)) == (10, True, 90)


async def test_changes_of_orders_wait_in_the_same_way(
    settings: Settings, stranger: AsyncEngine, users: list[int], lunch: Lunch
) -> None:
    """While many users cancel their orders at a locked cafe, an order at another cafe succeeds."""
    patient = settings.model_copy(update={"database_lock_timeout": LONGER_THAN_A_TEST})
    async with open_clients(patient) as clients:
        other = await add_lunch(clients, "Other")
        placed = await asyncio.gather(*ordering(clients, lunch, users[:30]))
        contexts = [Context(clients, source="test", caller=Caller(viewer=Viewer(tgid, Role.USER))) for tgid in users]
        async with locked(stranger, lunch.cafe):
            cancelling = [
                asyncio.create_task(orders.cancel_order(at(ctx, BEFORE), order.id))
                for ctx, order in zip(contexts, placed, strict=False)
            ]
            await until_a_lock_is_awaited(stranger)
            elsewhere = await asyncio.gather(*ordering(clients, other, users[30:31]))
        await asyncio.gather(*cancelling)

    assert [order.cafe_id for order in elsewhere] == [other.cafe.id]


async def test_decisions_about_links_wait_in_the_same_way(
    settings: Settings, stranger: AsyncEngine, users: list[int], lunch: Lunch, manager: Context
) -> None:
    """While many requests for a locked cafe are rejected, an order at another cafe succeeds."""
    patient = settings.model_copy(update={"database_lock_timeout": LONGER_THAN_A_TEST})
    async with open_clients(patient) as clients:
        other = await add_lunch(clients, "Other")
        async with clients.db() as session:
            requests = [
                LinkRequest(cafe_id=lunch.cafe.id, tg_chat_id=-number, created_at=BEFORE) for number in range(1, 31)
            ]
            session.add_all(requests)
        manager = Context(clients, source="test", caller=manager.caller)
        async with locked(stranger, lunch.cafe):
            rejecting = [asyncio.create_task(links.reject(manager, request.id)) for request in requests]
            await until_a_lock_is_awaited(stranger)
            elsewhere = await asyncio.gather(*ordering(clients, other, users[:1]))
        rejected = await asyncio.gather(*rejecting)

    assert [order.cafe_id for order in elsewhere] == [other.cafe.id]
    assert {request.status for request in rejected} == {LinkRequestStatus.REJECTED}
