"""The viewer of an operation."""

import asyncio

import sqlalchemy as sa

from app.auth.viewer import Caller, Viewer
from app.clients import Clients
from app.models import Role, User
from tests.conftest import MANAGER_TGID, USER_TGID

BURST = 500


async def test_a_burst_of_operations_needs_few_connections(
    clients: Clients, people: None, manager_token: str, user_token: str
) -> None:
    """Viewers who are looked up at the same time share queries, so none of them waits for the pool in vain."""
    checkouts = []
    sa.event.listen(clients.engine.sync_engine, "checkout", lambda *_: checkouts.append(1))
    tokens = [(manager_token, user_token)[number % 2] for number in range(BURST)]

    viewers = await asyncio.gather(*(Caller(f"Bearer {token}").authenticate(clients) for token in tokens))

    assert [viewer.tgid for viewer in viewers] == [(MANAGER_TGID, USER_TGID)[number % 2] for number in range(BURST)]
    assert len(checkouts) <= 2


async def test_a_viewer_is_never_remembered(clients: Clients, people: None, user_token: str) -> None:
    """Each operation looks the viewer up: another role counts from the next operation on."""
    before = await Caller(f"Bearer {user_token}").authenticate(clients)
    async with clients.db() as session:
        (await session.get_one(User, USER_TGID)).role = Role.MANAGER
    after = await Caller(f"Bearer {user_token}").authenticate(clients)

    assert [before.role, after.role] == [Role.USER, Role.MANAGER]
    assert isinstance(after, Viewer)
