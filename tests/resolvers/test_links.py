"""Link requests, their approval and rejection, and unlinking."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from app.auth.context import Context
from app.auth.viewer import Caller
from app.clients import Clients
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
from app.services import links as links_service
from app.services.pagination import PageRequest
from tests.conftest import MANAGER_TGID, add_cafe, event_types

CHAT = -1001
OTHER_CHAT = -1002


@pytest.fixture
async def pending(anonymous: Context, cafe: Cafe) -> LinkRequest:
    """A chat's pending request for the cafe."""
    return await links.link_request(anonymous, cafe.id, CHAT, "basil_and_thyme")


async def test_a_request_is_pending(pending: LinkRequest) -> None:
    """A new request waits for a manager."""
    assert pending.status is LinkRequestStatus.PENDING


async def test_a_request_is_an_event(clients: Clients, pending: LinkRequest) -> None:
    """A new request is an event."""
    assert await event_types(clients) == ["link_request.created"]


async def test_a_repeated_request_returns_the_pending_one(anonymous: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """A repeated request returns the pending one."""
    again = await links.link_request(anonymous, cafe.id, CHAT, "basil_and_thyme")

    assert again.id == pending.id


async def test_a_repeated_request_is_no_event(
    clients: Clients, anonymous: Context, cafe: Cafe, pending: LinkRequest
) -> None:
    """A repeated request makes no event."""
    await links.link_request(anonymous, cafe.id, CHAT)

    assert await event_types(clients) == ["link_request.created"]


TOPIC = 77


@pytest.fixture
def topic(clients: Clients) -> Context:
    """A caller in a topic of the chat."""
    return Context(clients, source="test", caller=Caller(telegram_chat=CHAT, telegram_thread=TOPIC))


async def test_a_link_has_the_topic_of_its_request(
    clients: Clients, topic: Context, manager: Context, cafe: Cafe
) -> None:
    """The cafe's orders go to the topic in which the chat has asked."""
    request = await links.link_request(topic, cafe.id, CHAT)

    await links.approve(manager, request.id)

    assert (await stored_cafe(clients, cafe)).tg_thread_id == TOPIC


async def test_an_unlinked_cafe_has_no_topic(clients: Clients, topic: Context, manager: Context, cafe: Cafe) -> None:
    """A cafe that is unlinked and linked to the chat itself has no topic any more, and the event has the former one."""
    await links.approve(manager, (await links.link_request(topic, cafe.id, CHAT)).id)
    await links.unlink(manager, cafe.id)
    unlinked = await stored_cafe(clients, cafe)
    await links.approve(manager, (await links.link_request(manager, cafe.id, CHAT)).id)

    assert (unlinked.tg_thread_id, (await stored_cafe(clients, cafe)).tg_thread_id) == (None, None)
    [event] = [event for event in await stored_events(clients) if "former_tg_chat_id" in event]
    assert event["former_tg_thread_id"] == TOPIC


async def test_another_caller_does_not_change_the_topic(
    anonymous: Context, topic: Context, manager: Context, clients: Clients, cafe: Cafe
) -> None:
    """The same request through an API, which everyone may make, or from another chat leaves the topic as it is."""
    other_chat = Context(clients, source="test", caller=Caller(telegram_chat=OTHER_CHAT, telegram_thread=5))
    await links.link_request(topic, cafe.id, CHAT)

    requests = [await links.link_request(ctx, cafe.id, CHAT) for ctx in (anonymous, manager, other_chat)]

    assert [request.tg_thread_id for request in requests] == [TOPIC] * 3


async def test_a_repeated_request_and_its_decision_do_not_deadlock(
    clients: Clients, topic: Context, manager: Context, cafe: Cafe
) -> None:
    """Simultaneous requests and decisions lock the rows in the same order."""
    for _ in range(5):
        request = await links.link_request(topic, cafe.id, CHAT)
        await asyncio.gather(
            *(links.link_request(topic, cafe.id, CHAT) for _ in range(4)), links.reject(manager, request.id)
        )

    assert (await event_types(clients)).count("link_request.rejected") == 5


async def stored_cafe(clients: Clients, cafe: Cafe) -> Cafe:
    """Return the stored cafe."""
    async with clients.db() as session:
        return await session.get_one(Cafe, cafe.id)


async def stored_events(clients: Clients) -> list[dict[str, Any]]:
    """Return the values of the events in the outbox, in order."""
    async with clients.db() as session:
        return [
            orjson.loads(payload)
            for payload in await session.scalars(sa.select(Outbox.c.payload).order_by(Outbox.c.id))
        ]


async def test_a_request_after_a_rejection_is_a_new_one(
    anonymous: Context, manager: Context, cafe: Cafe, pending: LinkRequest
) -> None:
    """A chat may make a new request after a rejection."""
    await links.reject(manager, pending.id)

    assert (await links.link_request(anonymous, cafe.id, CHAT)).id != pending.id


async def test_simultaneous_requests_make_one(clients: Clients, anonymous: Context, cafe: Cafe) -> None:
    """Simultaneous requests of one chat for one cafe make one request, and every call returns it."""
    requests = await asyncio.gather(*(links.link_request(anonymous, cafe.id, CHAT) for _ in range(8)))

    assert len({request.id for request in requests}) == 1
    assert await event_types(clients) == ["link_request.created"]


async def test_an_unknown_cafe_is_not_found(anonymous: Context) -> None:
    """A request for an unknown cafe is refused."""
    with pytest.raises(NotFound):
        await links.link_request(anonymous, 999, CHAT)


async def test_a_linked_cafe_takes_no_request(
    anonymous: Context, manager: Context, cafe: Cafe, pending: LinkRequest
) -> None:
    """A request for a cafe that has a chat is refused."""
    await links.approve(manager, pending.id)

    with pytest.raises(CafeAlreadyLinked):
        await links.link_request(anonymous, cafe.id, OTHER_CHAT)


async def test_a_linked_chat_makes_no_request(
    clients: Clients, anonymous: Context, manager: Context, pending: LinkRequest
) -> None:
    """A request from a chat that has a cafe is refused."""
    await links.approve(manager, pending.id)
    other = await add_cafe(clients, "Green Fork")

    with pytest.raises(ChatAlreadyLinked):
        await links.link_request(anonymous, other.id, CHAT)


@pytest.mark.parametrize("name", ["x" * 256, "a\0b", "\ud800"])
async def test_an_invalid_user_name_is_refused(anonymous: Context, cafe: Cafe, name: str) -> None:
    """A user name has at most 255 characters, all of which PostgreSQL can store."""
    with pytest.raises(BadInput) as refused:
        await links.link_request(anonymous, cafe.id, CHAT, name)

    assert refused.value.field == "tg_username"


async def test_too_many_requests_are_refused(anonymous: Context, clients: Clients, cafe: Cafe) -> None:
    """The number of requests from one source in a minute is limited."""
    for _ in range(clients.settings.link_requests_per_minute):
        await links.link_request(anonymous, cafe.id, CHAT)

    with pytest.raises(RateLimited) as refused:
        await links.link_request(anonymous, cafe.id, CHAT)

    assert 1 <= (refused.value.retry_after or 0) <= 60


async def test_an_approval_links_the_cafe(manager: Context, pending: LinkRequest) -> None:
    """An approval makes the chat the cafe's chat."""
    approved = await links.approve(manager, pending.id)

    assert approved.cafe.tg_chat_id == CHAT


async def test_an_approval_names_the_manager(manager: Context, pending: LinkRequest) -> None:
    """An approved request names the manager."""
    assert (await links.approve(manager, pending.id)).processed_by == MANAGER_TGID


async def test_an_approval_is_an_event(clients: Clients, manager: Context, pending: LinkRequest) -> None:
    """An approval is an event."""
    await links.approve(manager, pending.id)

    assert await event_types(clients) == ["link_request.created", "link_request.approved"]


async def test_a_second_approval_is_refused(manager: Context, pending: LinkRequest) -> None:
    """An approved request cannot be approved again."""
    await links.approve(manager, pending.id)

    with pytest.raises(LinkRequestProcessed):
        await links.approve(manager, pending.id)


async def test_an_approved_request_cannot_be_rejected(manager: Context, pending: LinkRequest) -> None:
    """An approved request cannot be rejected."""
    await links.approve(manager, pending.id)

    with pytest.raises(LinkRequestProcessed):
        await links.reject(manager, pending.id)


async def test_an_unknown_request_cannot_be_approved(manager: Context) -> None:
    """The approval of an unknown request is refused."""
    with pytest.raises(NotFound):
        await links.approve(manager, 999)


async def test_one_of_simultaneous_approvals_succeeds(clients: Clients, manager: Context, pending: LinkRequest) -> None:
    """One of several simultaneous approvals succeeds, and the others find the request processed."""
    outcomes = await asyncio.gather(*(links.approve(manager, pending.id) for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(outcome, LinkRequest) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, LinkRequestProcessed) for outcome in outcomes) == 7
    assert await event_types(clients) == ["link_request.created", "link_request.approved"]


async def test_one_of_simultaneous_decisions_succeeds(manager: Context, pending: LinkRequest) -> None:
    """Either the approval or the rejection succeeds if they are simultaneous."""
    outcomes = await asyncio.gather(
        links.approve(manager, pending.id), links.reject(manager, pending.id), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LinkRequest", "LinkRequestProcessed"]


async def test_one_cafe_gets_one_chat(anonymous: Context, manager: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """One of two simultaneous approvals for one cafe succeeds, and the other finds the cafe linked."""
    other = await links.link_request(anonymous, cafe.id, OTHER_CHAT)

    outcomes = await asyncio.gather(
        links.approve(manager, pending.id), links.approve(manager, other.id), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["CafeAlreadyLinked", "LinkRequest"]


async def test_one_chat_gets_one_cafe(
    clients: Clients, anonymous: Context, manager: Context, pending: LinkRequest
) -> None:
    """One of two simultaneous approvals for one chat succeeds, and the other finds the chat linked."""
    other = await links.link_request(anonymous, (await add_cafe(clients, "Green Fork")).id, CHAT)

    outcomes = await asyncio.gather(
        links.approve(manager, pending.id), links.approve(manager, other.id), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["ChatAlreadyLinked", "LinkRequest"]


async def test_a_refused_approval_changes_nothing(
    clients: Clients, anonymous: Context, manager: Context, cafe: Cafe, pending: LinkRequest
) -> None:
    """A request stays pending if its approval is refused."""
    other = await links.link_request(anonymous, cafe.id, OTHER_CHAT)
    await links.approve(manager, pending.id)

    with pytest.raises(CafeAlreadyLinked):
        await links.approve(manager, other.id)

    async with clients.db() as session:
        assert (await session.get_one(LinkRequest, other.id)).status is LinkRequestStatus.PENDING


async def test_a_rejection_keeps_its_reason(manager: Context, pending: LinkRequest) -> None:
    """A rejected request has the manager's reason."""
    assert (await links.reject(manager, pending.id, "No such cafe")).reason == "No such cafe"


async def test_a_reason_that_is_too_long_is_refused(manager: Context, pending: LinkRequest) -> None:
    """A reason has at most 1,000 characters, because it is part of a Telegram message."""
    with pytest.raises(BadInput):
        await links.reject(manager, pending.id, "x" * (1001))


async def test_unlinking_frees_the_chat(anonymous: Context, manager: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """An unlinked chat may make a request again."""
    await links.approve(manager, pending.id)
    await links.unlink(manager, cafe.id)

    assert (await links.link_request(anonymous, cafe.id, CHAT)).status is LinkRequestStatus.PENDING


async def test_the_event_of_an_unlinking_names_the_former_chat(
    clients: Clients, manager: Context, pending: LinkRequest
) -> None:
    """The event of an unlinking names the former chat."""
    await links.approve(manager, pending.id)
    await links.unlink(manager, pending.cafe_id)

    async with clients.db() as session:
        payload = await session.scalar(sa.select(Outbox.c.payload).order_by(Outbox.c.id.desc()).limit(1))
    assert f'"former_tg_chat_id":{CHAT}'.encode() in (payload or b"")


async def test_a_cafe_without_a_chat_cannot_be_unlinked(manager: Context, cafe: Cafe) -> None:
    """A cafe without a chat cannot be unlinked."""
    with pytest.raises(CafeNotLinked):
        await links.unlink(manager, cafe.id)


async def test_notifications_can_be_disabled(manager: Context, pending: LinkRequest) -> None:
    """The notifications of a linked cafe can be disabled."""
    await links.approve(manager, pending.id)

    assert (await links.set_notifications(manager, pending.cafe_id, enabled=False)).notifications_enabled is False


async def test_enabling_enabled_notifications_is_no_event(
    clients: Clients, manager: Context, pending: LinkRequest
) -> None:
    """It makes no event to enable notifications that are enabled."""
    await links.approve(manager, pending.id)
    await links.set_notifications(manager, pending.cafe_id, enabled=True)

    assert await event_types(clients) == ["link_request.created", "link_request.approved"]


async def test_notifications_of_an_unlinked_cafe_cannot_be_enabled(manager: Context, cafe: Cafe) -> None:
    """The notifications of a cafe without a chat cannot be enabled."""
    with pytest.raises(CafeNotLinked):
        await links.set_notifications(manager, cafe.id, enabled=True)


async def test_requests_are_listed_newest_first(clients: Clients, anonymous: Context, manager: Context) -> None:
    """The list of requests begins with the newest."""
    ids = [(await links.link_request(anonymous, (await add_cafe(clients, str(n))).id, CHAT)).id for n in range(3)]

    page = await links.list_link_requests(manager, PageRequest())

    assert [request.id for request in page.nodes] == ids[::-1]


async def test_requests_are_filtered(anonymous: Context, manager: Context, cafe: Cafe, pending: LinkRequest) -> None:
    """The list of requests can be of one status and one cafe."""
    other = await links.link_request(anonymous, cafe.id, OTHER_CHAT)
    await links.reject(manager, pending.id)

    page = await links.list_link_requests(manager, PageRequest(), status=LinkRequestStatus.PENDING, cafe_id=cafe.id)

    assert [request.id for request in page.nodes] == [other.id]


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx: links.approve(ctx, 1),
        lambda ctx: links.reject(ctx, 1),
        lambda ctx: links.unlink(ctx, 1),
        lambda ctx: links.set_notifications(ctx, 1, enabled=True),
        lambda ctx: links.list_link_requests(ctx, PageRequest()),
        links.link_request_updates,
    ],
)
async def test_only_managers_may_decide(
    anonymous: Context, user: Context, operation: Callable[[Context], Awaitable[object]]
) -> None:
    """Users and callers without a token may not use the operations for managers."""
    with pytest.raises(Forbidden):
        await operation(user)
    with pytest.raises(Unauthenticated):
        await operation(anonymous)


@pytest.fixture
def chat(clients: Clients) -> Context:
    """A caller in the chat."""
    return Context(clients, source="test", caller=Caller(telegram_chat=CHAT))


async def test_a_chat_can_unlink_itself(
    clients: Clients, chat: Context, manager: Context, pending: LinkRequest
) -> None:
    """The cafe's chat can remove the link, with an event."""
    await links.approve(manager, pending.id)

    assert (await links.unlink_chat(chat, pending.cafe_id)).tg_chat_id is None

    assert (await event_types(clients))[-1] == "cafe.unlinked"


async def test_a_chat_cannot_unlink_the_cafe_of_another(
    clients: Clients, manager: Context, pending: LinkRequest
) -> None:
    """A chat can remove only its own link."""
    await links.approve(manager, pending.id)
    other_chat = Context(clients, source="test", caller=Caller(telegram_chat=OTHER_CHAT))

    with pytest.raises(CafeNotLinked):
        await links.unlink_chat(other_chat, pending.cafe_id)


async def test_a_chat_cannot_unlink_a_cafe_without_a_chat(chat: Context, cafe: Cafe) -> None:
    """A chat cannot remove a link that does not exist."""
    with pytest.raises(CafeNotLinked):
        await links.unlink_chat(chat, cafe.id)


async def test_only_a_chat_can_unlink_itself(anonymous: Context, manager: Context, pending: LinkRequest) -> None:
    """A caller without a chat may not use the operations for chats, not even a manager."""
    await links.approve(manager, pending.id)

    for ctx in (anonymous, manager):
        with pytest.raises(Forbidden):
            await links.unlink_chat(ctx, pending.cafe_id)


async def test_a_user_with_a_wrong_reason_is_forbidden(anonymous: Context, user: Context, pending: LinkRequest) -> None:
    """The caller is authorized before the reason is validated."""
    with pytest.raises(Forbidden):
        await links.reject(user, pending.id, "x" * 1001)
    with pytest.raises(Unauthenticated):
        await links.reject(anonymous, pending.id, "x" * 1001)


async def test_an_unreachable_chat_is_unlinked(clients: Clients, manager: Context, pending: LinkRequest) -> None:
    """The cafe of an unreachable chat is unlinked, with an event."""
    await links.approve(manager, pending.id)

    async with clients.db() as session:
        await links_service.unlink_unreachable_chat(session, CHAT)

    async with clients.db() as session:
        assert (await session.get_one(Cafe, pending.cafe_id)).tg_chat_id is None
    assert (await event_types(clients))[-1] == "cafe.unlinked"


async def test_an_unreachable_chat_without_a_cafe_is_ignored(clients: Clients) -> None:
    """An unreachable chat without a cafe makes no event."""
    async with clients.db() as session:
        assert await links_service.unlink_unreachable_chat(session, CHAT) is None

    assert await event_types(clients) == []


async def test_a_cafe_follows_its_group_to_the_supergroup(
    clients: Clients, manager: Context, pending: LinkRequest
) -> None:
    """The cafe of a group becomes the cafe of the supergroup."""
    await links.approve(manager, pending.id)

    async with clients.db() as session:
        await links_service.migrate_chat(session, CHAT, OTHER_CHAT)

    async with clients.db() as session:
        assert (await session.get_one(Cafe, pending.cafe_id)).tg_chat_id == OTHER_CHAT


async def test_a_request_follows_its_group_to_the_supergroup(clients: Clients, pending: LinkRequest) -> None:
    """The pending request of a group becomes the request of the supergroup."""
    async with clients.db() as session:
        await links_service.migrate_chat(session, CHAT, OTHER_CHAT)

    async with clients.db() as session:
        assert (await session.get_one(LinkRequest, pending.id)).tg_chat_id == OTHER_CHAT


async def test_a_supergroup_may_have_repeated_the_request(
    clients: Clients, anonymous: Context, pending: LinkRequest
) -> None:
    """A chat can migrate even if the supergroup has made the same request again."""
    again = await links.link_request(anonymous, pending.cafe_id, OTHER_CHAT)

    async with clients.db() as session:
        await links_service.migrate_chat(session, CHAT, OTHER_CHAT)

    async with clients.db() as session:
        assert (await session.get_one(LinkRequest, again.id)).tg_chat_id == OTHER_CHAT


async def test_a_supergroup_may_have_another_cafe(
    clients: Clients, anonymous: Context, manager: Context, pending: LinkRequest
) -> None:
    """If the supergroup has another cafe, it keeps that one, and the cafe of the group is unlinked."""
    await links.approve(manager, pending.id)
    other = await add_cafe(clients, "Green Fork")
    await links.approve(manager, (await links.link_request(anonymous, other.id, OTHER_CHAT)).id)

    async with clients.db() as session:
        await links_service.migrate_chat(session, CHAT, OTHER_CHAT)

    async with clients.db() as session:
        chats = [(await session.get_one(Cafe, id_)).tg_chat_id for id_ in (pending.cafe_id, other.id)]
    assert chats == [None, OTHER_CHAT]
    assert (await event_types(clients))[-1] == "cafe.unlinked"


async def test_the_database_keeps_one_pending_request(clients: Clients, cafe: Cafe) -> None:
    """The database refuses a second pending request for one cafe and chat."""
    async with clients.db() as session:
        for _ in range(2):
            session.add(LinkRequest(cafe_id=cafe.id, tg_chat_id=CHAT, created_at=Context(clients, source="").now()))
        with pytest.raises(sa.exc.IntegrityError, match="cafe_link_requests_pending_key"):
            await session.flush()
        await session.rollback()
