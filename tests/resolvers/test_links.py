"""The rules of the link flow, and who wins when two meet."""

import asyncio

import pytest
import sqlalchemy as sa

from app.clients import Clients
from app.context import Context
from app.errors import (
    BadInput,
    CafeAlreadyLinked,
    CafeNotLinked,
    ChatAlreadyLinked,
    Forbidden,
    LinkRequestProcessed,
    NotFound,
    RateLimited,
    Unauthenticated,
)
from app.models import Cafe, LinkRequest, LinkRequestStatus, Outbox
from app.resolvers import links
from app.resolvers.paging import PageRequest
from tests.conftest import MANAGER_TGID, add_cafe, event_types

CHAT = -1001
OTHER_CHAT = -1002


@pytest.fixture
async def pending(anybody: Context, cafe: Cafe) -> LinkRequest:
    return await links.link_request(anybody, cafe.id, CHAT, "kitchen")


async def test_a_request_is_pending(pending: LinkRequest) -> None:
    """A new request waits for a manager."""
    assert pending.status is LinkRequestStatus.PENDING


async def test_a_request_is_told(clients: Clients, pending: LinkRequest) -> None:
    """A new request is an event, in the same transaction."""
    assert await event_types(clients) == ["link_request.created"]


async def test_asking_twice_is_one_request(anybody: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """Asking again while the request is pending returns it."""
    again = await links.link_request(anybody, cafe.id, CHAT, "kitchen")

    assert again.id == pending.id


async def test_asking_twice_is_one_event(clients: Clients, anybody: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """Asking again tells nobody anything new."""
    await links.link_request(anybody, cafe.id, CHAT)

    assert await event_types(clients) == ["link_request.created"]


async def test_asking_again_after_a_rejection_is_a_new_request(
    anybody: Context, manager: Context, cafe: Cafe, pending: LinkRequest
) -> None:
    """A chat that was turned down may ask again."""
    await links.reject(manager, pending.id)

    assert (await links.link_request(anybody, cafe.id, CHAT)).id != pending.id


async def test_two_who_ask_at_once_get_one_request(clients: Clients, anybody: Context, cafe: Cafe) -> None:
    """Of many requests for one cafe and chat at once, exactly one is made, and everybody gets that one."""
    requests = await asyncio.gather(*(links.link_request(anybody, cafe.id, CHAT) for _ in range(8)))

    assert len({request.id for request in requests}) == 1
    assert await event_types(clients) == ["link_request.created"]


async def test_an_unknown_cafe_is_not_found(anybody: Context) -> None:
    """One cannot ask for a cafe that is not there."""
    with pytest.raises(NotFound):
        await links.link_request(anybody, 999, CHAT)


async def test_a_linked_cafe_takes_no_request(
    anybody: Context, manager: Context, cafe: Cafe, pending: LinkRequest
) -> None:
    """A cafe that has a chat does not get another."""
    await links.approve(manager, pending.id)

    with pytest.raises(CafeAlreadyLinked):
        await links.link_request(anybody, cafe.id, OTHER_CHAT)


async def test_a_linked_chat_makes_no_request(
    clients: Clients, anybody: Context, manager: Context, pending: LinkRequest
) -> None:
    """A chat that has a cafe does not get another."""
    await links.approve(manager, pending.id)
    other = await add_cafe(clients, "Green Fork")

    with pytest.raises(ChatAlreadyLinked):
        await links.link_request(anybody, other.id, CHAT)


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "\ud800"])
async def test_a_user_name_that_cannot_be_kept_is_refused(anybody: Context, cafe: Cafe, name: str) -> None:
    """A name is at most 255 characters of text."""
    with pytest.raises(BadInput) as refused:
        await links.link_request(anybody, cafe.id, CHAT, name)

    assert refused.value.field == "tg_username"


async def test_too_many_requests_are_refused(anybody: Context, clients: Clients, cafe: Cafe) -> None:
    """One source may ask only so often in a minute."""
    for _ in range(clients.settings.link_requests_per_minute):
        await links.link_request(anybody, cafe.id, CHAT)

    with pytest.raises(RateLimited) as refused:
        await links.link_request(anybody, cafe.id, CHAT)

    assert 1 <= (refused.value.retry_after or 0) <= 60


async def test_approving_links_the_cafe(manager: Context, pending: LinkRequest) -> None:
    """After an approval the cafe's orders go to the chat."""
    approved = await links.approve(manager, pending.id)

    assert approved.cafe.tg_chat_id == CHAT


async def test_approving_is_signed(manager: Context, pending: LinkRequest) -> None:
    """An approval says whose it is."""
    assert (await links.approve(manager, pending.id)).processed_by == MANAGER_TGID


async def test_approving_is_told(clients: Clients, manager: Context, pending: LinkRequest) -> None:
    """An approval is an event."""
    await links.approve(manager, pending.id)

    assert await event_types(clients) == ["link_request.created", "link_request.approved"]


async def test_approving_twice_is_refused(manager: Context, pending: LinkRequest) -> None:
    """A request that was processed once cannot be processed again."""
    await links.approve(manager, pending.id)

    with pytest.raises(LinkRequestProcessed):
        await links.approve(manager, pending.id)


async def test_rejecting_an_approved_request_is_refused(manager: Context, pending: LinkRequest) -> None:
    """An approval is not undone by a rejection."""
    await links.approve(manager, pending.id)

    with pytest.raises(LinkRequestProcessed):
        await links.reject(manager, pending.id)


async def test_approving_an_unknown_request_is_not_found(manager: Context) -> None:
    """One cannot approve a request that is not there."""
    with pytest.raises(NotFound):
        await links.approve(manager, 999)


async def test_of_many_approvals_at_once_one_wins(clients: Clients, manager: Context, pending: LinkRequest) -> None:
    """Of approvals of one request at once, exactly one succeeds and the others find it processed."""
    outcomes = await asyncio.gather(*(links.approve(manager, pending.id) for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(outcome, LinkRequest) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, LinkRequestProcessed) for outcome in outcomes) == 7
    assert await event_types(clients) == ["link_request.created", "link_request.approved"]


async def test_an_approval_and_a_rejection_at_once_do_not_both_win(manager: Context, pending: LinkRequest) -> None:
    """Whoever comes first decides."""
    outcomes = await asyncio.gather(
        links.approve(manager, pending.id), links.reject(manager, pending.id), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LinkRequest", "LinkRequestProcessed"]


async def test_one_cafe_gets_one_chat(anybody: Context, manager: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """Of two requests for a cafe that are approved at once, one wins and the other finds the cafe linked."""
    other = await links.link_request(anybody, cafe.id, OTHER_CHAT)

    outcomes = await asyncio.gather(
        links.approve(manager, pending.id), links.approve(manager, other.id), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["CafeAlreadyLinked", "LinkRequest"]


async def test_one_chat_gets_one_cafe(
    clients: Clients, anybody: Context, manager: Context, pending: LinkRequest
) -> None:
    """Of two cafes' requests from one chat that are approved at once, one wins and the other finds the chat linked."""
    other = await links.link_request(anybody, (await add_cafe(clients, "Green Fork")).id, CHAT)

    outcomes = await asyncio.gather(
        links.approve(manager, pending.id), links.approve(manager, other.id), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ChatAlreadyLinked", "LinkRequest"]


async def test_a_refused_approval_changes_nothing(
    clients: Clients, anybody: Context, manager: Context, cafe: Cafe, pending: LinkRequest
) -> None:
    """A request whose cafe is linked meanwhile stays pending."""
    other = await links.link_request(anybody, cafe.id, OTHER_CHAT)
    await links.approve(manager, pending.id)

    with pytest.raises(CafeAlreadyLinked):
        await links.approve(manager, other.id)

    async with clients.db() as session:
        assert (await session.get_one(LinkRequest, other.id)).status is LinkRequestStatus.PENDING


async def test_a_rejection_keeps_its_reason(manager: Context, pending: LinkRequest) -> None:
    """A rejection says why."""
    assert (await links.reject(manager, pending.id, "No such kitchen")).reason == "No such kitchen"


async def test_a_reason_that_is_too_long_is_refused(manager: Context, pending: LinkRequest) -> None:
    """A reason must fit into a Telegram message."""
    with pytest.raises(BadInput):
        await links.reject(manager, pending.id, "x" * (links.REASON_MAX_CHARACTERS + 1))


async def test_unlinking_frees_the_chat(anybody: Context, manager: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """After unlinking the same chat may ask again."""
    await links.approve(manager, pending.id)
    await links.unlink(manager, cafe.id)

    assert (await links.link_request(anybody, cafe.id, CHAT)).status is LinkRequestStatus.PENDING


async def test_unlinking_tells_which_chat_it_was(clients: Clients, manager: Context, pending: LinkRequest) -> None:
    """The event of an unlinking names the former chat, so that it can be told."""
    await links.approve(manager, pending.id)
    await links.unlink(manager, pending.cafe_id)

    async with clients.db() as session:
        payload = await session.scalar(sa.select(Outbox.c.payload).order_by(Outbox.c.id.desc()).limit(1))
    assert f'"former_tg_chat_id":{CHAT}'.encode() in (payload or b"")


async def test_unlinking_an_unlinked_cafe_is_refused(manager: Context, cafe: Cafe) -> None:
    """There is no chat to take away."""
    with pytest.raises(CafeNotLinked):
        await links.unlink(manager, cafe.id)


async def test_notifications_are_switched(manager: Context, pending: LinkRequest) -> None:
    """A linked cafe's notifications can be switched off."""
    await links.approve(manager, pending.id)

    assert (await links.set_notifications(manager, pending.cafe_id, enabled=False)).notifications_enabled is False


async def test_switching_to_what_is_already_so_tells_nobody(
    clients: Clients, manager: Context, pending: LinkRequest
) -> None:
    """Only a change is an event."""
    await links.approve(manager, pending.id)
    await links.set_notifications(manager, pending.cafe_id, enabled=True)

    assert await event_types(clients) == ["link_request.created", "link_request.approved"]


async def test_an_unlinked_cafe_has_no_switch(manager: Context, cafe: Cafe) -> None:
    """A switch without a chat would promise what it cannot do."""
    with pytest.raises(CafeNotLinked):
        await links.set_notifications(manager, cafe.id, enabled=True)


async def test_requests_are_listed_newest_first(clients: Clients, anybody: Context, manager: Context) -> None:
    """The list begins with the newest."""
    ids = [(await links.link_request(anybody, (await add_cafe(clients, str(n))).id, CHAT)).id for n in range(3)]

    page = await links.link_requests(manager, PageRequest())

    assert [request.id for request in page.items] == ids[::-1]


async def test_requests_are_filtered(anybody: Context, manager: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """The list can be of one status and one cafe."""
    other = await links.link_request(anybody, cafe.id, OTHER_CHAT)
    await links.reject(manager, pending.id)

    page = await links.link_requests(manager, PageRequest(), status=LinkRequestStatus.PENDING, cafe_id=cafe.id)

    assert [request.id for request in page.items] == [other.id]


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx: links.approve(ctx, 1),
        lambda ctx: links.reject(ctx, 1),
        lambda ctx: links.unlink(ctx, 1),
        lambda ctx: links.set_notifications(ctx, 1, enabled=True),
        lambda ctx: links.link_requests(ctx, PageRequest()),
        links.link_request_updates,
    ],
)
async def test_only_managers_decide(anybody: Context, user: Context, operation: "object") -> None:
    """Everything but asking is for managers."""
    with pytest.raises(Forbidden):
        await operation(user)  # type: ignore[operator]
    with pytest.raises(Unauthenticated):
        await operation(anybody)  # type: ignore[operator]


async def test_a_chat_that_is_gone_is_unlinked(clients: Clients, manager: Context, pending: LinkRequest) -> None:
    """A cafe whose chat cannot be reached any more has none, and everybody is told."""
    await links.approve(manager, pending.id)

    async with clients.db() as session:
        await links.chat_gone(session, CHAT)

    async with clients.db() as session:
        assert (await session.get_one(Cafe, pending.cafe_id)).tg_chat_id is None
    assert (await event_types(clients))[-1] == "cafe.unlinked"


async def test_a_chat_without_a_cafe_may_be_gone(clients: Clients) -> None:
    """Nobody misses it."""
    async with clients.db() as session:
        assert await links.chat_gone(session, CHAT) is None

    assert await event_types(clients) == []


async def test_a_group_that_has_moved_is_followed(clients: Clients, manager: Context, pending: LinkRequest) -> None:
    """The cafe of a group is the cafe of the supergroup that it has become."""
    await links.approve(manager, pending.id)

    async with clients.db() as session:
        await links.chat_moved(session, CHAT, OTHER_CHAT)

    async with clients.db() as session:
        assert (await session.get_one(Cafe, pending.cafe_id)).tg_chat_id == OTHER_CHAT


async def test_a_request_follows_its_group(clients: Clients, pending: LinkRequest) -> None:
    """A request that waits for a manager is the supergroup's."""
    async with clients.db() as session:
        await links.chat_moved(session, CHAT, OTHER_CHAT)

    async with clients.db() as session:
        assert (await session.get_one(LinkRequest, pending.id)).tg_chat_id == OTHER_CHAT


async def test_a_supergroup_may_have_asked_again(clients: Clients, anybody: Context, pending: LinkRequest) -> None:
    """That the supergroup has made the same request already is no obstacle."""
    again = await links.link_request(anybody, pending.cafe_id, OTHER_CHAT)

    async with clients.db() as session:
        await links.chat_moved(session, CHAT, OTHER_CHAT)

    async with clients.db() as session:
        assert (await session.get_one(LinkRequest, again.id)).tg_chat_id == OTHER_CHAT


async def test_a_supergroup_may_have_another_cafe(
    clients: Clients, anybody: Context, manager: Context, pending: LinkRequest
) -> None:
    """A chat has one cafe: the one that it was linked to since keeps it, and managers hear of the one that it had."""
    await links.approve(manager, pending.id)
    other = await add_cafe(clients, "Green Fork")
    await links.approve(manager, (await links.link_request(anybody, other.id, OTHER_CHAT)).id)

    async with clients.db() as session:
        await links.chat_moved(session, CHAT, OTHER_CHAT)

    async with clients.db() as session:
        chats = [(await session.get_one(Cafe, id_)).tg_chat_id for id_ in (pending.cafe_id, other.id)]
    assert chats == [None, OTHER_CHAT]
    assert (await event_types(clients))[-1] == "cafe.unlinked"


async def test_the_database_keeps_one_pending_request(clients: Clients, cafe: Cafe) -> None:
    """Even without our code, a second pending request for a cafe and chat is impossible."""
    async with clients.db() as session:
        for _ in range(2):
            session.add(LinkRequest(cafe_id=cafe.id, tg_chat_id=CHAT, created_at=Context(clients, source="").now()))
        with pytest.raises(sa.exc.IntegrityError, match="cafe_link_requests_pending_key"):
            await session.flush()
        await session.rollback()
