"""People: how they are found, who may switch them on and off, and what becomes of one who is deleted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from app.clients import Clients
from app.context import Context
from app.errors import AlreadyExists, BadInput, Forbidden, NotFound, Unauthenticated
from app.models import Cafe, Language, LinkRequest, LinkRequestStatus, Role, User
from app.models.users import TELEGRAM_ID_MAX
from app.resolvers import links, orders, users
from app.resolvers.paging import PageRequest
from app.viewer import Viewer
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch
from tests.resolvers.ordering import BEFORE, DATE, at, field_of, lunch_with, until_waiting

OTHER_TGID = 500


@pytest.fixture
async def other_manager(manager: Context) -> Context:
    """Another manager, whose id comes before Maria's."""
    await users.create_manager(manager, OTHER_TGID, "Olga")
    return replace(manager, identified=Viewer(OTHER_TGID, Role.MANAGER))


async def tgids(ctx: Context, **wanted: Any) -> list[int]:
    return [person.tgid for person in (await users.users(ctx, PageRequest(), **wanted)).items]


async def active_managers(clients: Clients) -> int:
    query = sa.select(sa.func.count()).select_from(User).where(User.role == Role.MANAGER, User.is_active)  # type: ignore[arg-type]
    async with clients.db() as session:
        return await session.scalar(query) or 0


async def test_a_person_is_added(user: Context, manager: Context) -> None:
    """As a user or as a manager, switched on, and the name has no spaces around it."""
    colleague = await users.create_user(manager, 7, "  Пётр ")
    boss = await users.create_manager(manager, TELEGRAM_ID_MAX, "Olga")

    assert (colleague.tgid, colleague.name, colleague.role, colleague.is_active) == (7, "Пётр", Role.USER, True)
    assert (boss.tgid, boss.role) == (TELEGRAM_ID_MAX, Role.MANAGER)
    assert await users.user(manager, 7) == colleague


async def test_a_wrong_person_is_refused(manager: Context) -> None:
    """Names are one line, and ids are such as Telegram gives to people."""
    for name in ("", " ", "Anna\nMaria", "\0", "\ud800", "x" * 256):
        assert await field_of(users.create_user(manager, 7, name)) == "name"
    for tgid in (0, -7, TELEGRAM_ID_MAX + 1, 2**63):
        assert await field_of(users.create_manager(manager, tgid, "Anna")) == "tgid"


async def test_a_person_is_added_once(manager: Context) -> None:
    """Of those who add one person, at once or later, one does, and nobody changes who is there."""
    outcomes = await asyncio.gather(*(users.create_user(manager, 7, "Anna") for _ in range(4)), return_exceptions=True)

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyExists"] * 3 + ["User"]
    with pytest.raises(AlreadyExists):
        await users.create_manager(manager, 7, "Boss")
    assert (await users.user(manager, 7)).role is Role.USER


async def test_people_are_found(clients: Clients, manager: Context) -> None:
    """By a part of the name, in either case and in any script; what is a pattern elsewhere is text here."""
    people = {11: "Анна Ёлкина", 12: "100% Bob_", 13: "back\\slash", 14: "bobby"}
    for tgid, name in people.items():
        await users.create_user(manager, tgid, name)

    assert await tgids(manager, search="ёлк") == await tgids(manager, search="АННА ё") == [11]
    assert set(await tgids(manager, search="BOB")) == {12, 14}
    assert await tgids(manager, search="%") == await tgids(manager, search="b_") == [12]
    assert await tgids(manager, search="\\") == [13]
    assert await tgids(manager, search="b%b") == await tgids(manager, search="nobody") == []
    assert len(await tgids(manager, search="")) == len(await tgids(manager)) == 6
    for search in ("\0", "x" * 256):
        assert await field_of(tgids(manager, search=search)) == "search"


async def test_people_are_found_by_their_telegram_id(manager: Context) -> None:
    """By the whole id, or by digits in their name; not by a part of the id, nor by what is no number to Telegram."""
    await users.create_user(manager, 77, "Anna")
    await users.create_user(manager, 7788, "Agent 77")

    assert set(await tgids(manager, search="77")) == {77, 7788}
    assert await tgids(manager, search=str(USER_TGID)) == [USER_TGID]
    assert await tgids(manager, search="7") == [7788]
    assert await tgids(manager, search="778") == await tgids(manager, search="9" * 16) == []
    assert await tgids(manager, search="9" * 255) == await tgids(manager, search="٧٧") == []


async def test_people_are_filtered_and_sorted(manager: Context, other_manager: Context) -> None:
    """By role, by being switched on, and by both; they come by name."""
    await users.set_user_access(manager, USER_TGID, is_active=False)

    assert await tgids(manager) == [USER_TGID, MANAGER_TGID, OTHER_TGID]  # Ivan, Maria, Olga
    assert await tgids(manager, role=Role.MANAGER) == [MANAGER_TGID, OTHER_TGID]
    assert await tgids(manager, is_active=False) == [USER_TGID]
    assert await tgids(manager, role=Role.USER, is_active=True) == []
    assert await tgids(manager, search="ma", role=Role.MANAGER, is_active=True) == [MANAGER_TGID]


async def test_one_knows_oneself(user: Context, manager: Context) -> None:
    """A user reads themselves and nobody else; a manager reads everybody."""
    assert (await users.me(user)).tgid == (await users.user(user, USER_TGID)).tgid == USER_TGID
    assert (await users.user(manager, USER_TGID)).name == "Ivan"
    with pytest.raises(Forbidden):
        await users.user(user, MANAGER_TGID)


async def test_access_is_given_and_taken(manager: Context) -> None:
    """Being switched on and the role change together or alone."""
    await users.set_user_access(manager, USER_TGID, is_active=False)
    promoted = await users.set_user_access(manager, USER_TGID, role=Role.MANAGER)
    assert (promoted.is_active, promoted.role) == (False, Role.MANAGER)

    await users.set_user_access(manager, USER_TGID, is_active=True, role=Role.USER)

    there = await users.user(manager, USER_TGID)
    assert (there.is_active, there.role) == (True, Role.USER)


async def test_nobody_switches_off_or_deletes_themselves(clients: Clients, manager: Context) -> None:
    """So that a company does not lose its only manager by mistake."""
    for operation in (
        users.set_user_access(manager, MANAGER_TGID, is_active=False),
        users.set_user_access(manager, MANAGER_TGID, role=Role.USER),
        users.delete_user(manager, MANAGER_TGID),
    ):
        assert await field_of(operation) == "tgid"

    assert await active_managers(clients) == 1


OUSTINGS: dict[str, Callable[[Context, int], Awaitable[object]]] = {
    "switched off": lambda ctx, tgid: users.set_user_access(ctx, tgid, is_active=False),
    "no manager any more": lambda ctx, tgid: users.set_user_access(ctx, tgid, role=Role.USER),
    "deleted": users.delete_user,
}


@pytest.mark.parametrize("ousting", OUSTINGS)
async def test_two_managers_who_oust_each_other(
    clients: Clients, manager: Context, other_manager: Context, ousting: str
) -> None:
    """One does, and the other is refused: somebody stays, however often and in whatever turn they try."""
    oust = OUSTINGS[ousting]
    pairs = [(manager, OTHER_TGID), (other_manager, MANAGER_TGID)]
    for turn in range(6):
        outcomes = await asyncio.gather(
            *(oust(ctx, tgid) for ctx, tgid in (pairs if turn % 2 else pairs[::-1])), return_exceptions=True
        )

        assert sum(isinstance(outcome, Forbidden) for outcome in outcomes) == 1
        assert not any(isinstance(outcome, BadInput | NotFound | sa.exc.SQLAlchemyError) for outcome in outcomes)
        assert await active_managers(clients) == 1
        async with clients.db() as session:
            for tgid in (MANAGER_TGID, OTHER_TGID):
                await session.merge(User(tgid=tgid, name="Again", role=Role.MANAGER, is_active=True, created_at=BEFORE))


async def test_who_is_being_switched_off_switches_nobody_off(
    clients: Clients, manager: Context, other_manager: Context
) -> None:
    """A manager who was let in waits for the other's transaction, and finds that they may not do it any more."""
    async with clients.db() as session:
        (await session.get_one(User, MANAGER_TGID, with_for_update=True)).switch_off()
        await session.flush()
        switching = asyncio.ensure_future(users.set_user_access(manager, OTHER_TGID, is_active=False))
        await until_waiting(clients, switching)

    with pytest.raises(Forbidden):
        await switching
    assert await active_managers(clients) == 1


@pytest.mark.parametrize(
    ("tag", "language"),
    [
        ("ru", Language.RU),
        ("ru-RU", Language.RU),
        ("RU", Language.RU),
        ("en-GB", Language.EN),
        ("de", Language.EN),
        ("-ru", Language.EN),
        ("", Language.EN),
        (None, Language.EN),
    ],
)
async def test_a_language_that_is_spoken_is_noted(
    clients: Clients, user: Context, tag: str | None, language: Language
) -> None:
    """A tag that we have texts in, or whose first part is one."""
    await users.speaks(clients, USER_TGID, tag)

    assert (await users.me(user)).language is language


async def test_a_language_that_we_do_not_speak_changes_nothing(clients: Clients, user: Context) -> None:
    """One who has written in Russian and now does so in German stays with Russian."""
    for tag in ("ru", "de", None):
        await users.speaks(clients, USER_TGID, tag)

    assert (await users.me(user)).language is Language.RU


async def test_a_strangers_language_is_nobodys(clients: Clients, manager: Context) -> None:
    """Nobody is added by it, and nobody else's changes."""
    await users.speaks(clients, 999, "ru")

    async with clients.db() as session:
        assert {person.language for person in await session.scalars(sa.select(User))} == {Language.EN}


async def test_a_person_without_orders_is_deleted(manager: Context) -> None:
    """They are gone."""
    removal = await users.delete_user(manager, USER_TGID)

    assert (removal.id, removal.is_deleted) == (USER_TGID, True)
    with pytest.raises(NotFound):
        await users.user(manager, USER_TGID)


async def test_a_person_with_orders_is_kept_and_switched_off(user: Context, manager: Context, lunch: Lunch) -> None:
    """Whose orders they are is still known."""
    ordered = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch_with(lunch))

    removal = await users.delete_user(manager, USER_TGID)

    assert (removal.is_deleted, "kept" in removal.message) == (False, True)
    there = (await orders.order(manager, ordered.id)).user
    assert (there.name, there.is_active) == ("Ivan", False)


async def test_who_has_decided_link_requests_can_be_deleted(
    clients: Clients, anybody: Context, manager: Context, other_manager: Context, cafe: Cafe
) -> None:
    """The decision stays, without a name."""
    request = await links.link_request(anybody, cafe.id, -1001)
    await links.reject(other_manager, request.id, "No such kitchen")

    removal = await users.delete_user(manager, OTHER_TGID)

    assert removal.is_deleted
    async with clients.db() as session:
        there = await session.get_one(LinkRequest, request.id)
    assert (there.status, there.processed_by, there.reason) == (LinkRequestStatus.REJECTED, None, "No such kitchen")


async def test_an_unknown_person_is_not_found(manager: Context) -> None:
    """Whatever number one asks for."""
    for tgid in (999, 0, -1, 2**62):
        for operation in (
            users.user(manager, tgid),
            users.set_user_access(manager, tgid),
            users.delete_user(manager, tgid),
        ):
            with pytest.raises(NotFound):
                await operation


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx: users.users(ctx, PageRequest()),
        lambda ctx: users.create_user(ctx, 7, "Anna"),
        lambda ctx: users.create_manager(ctx, 7, "Anna"),
        lambda ctx: users.set_user_access(ctx, MANAGER_TGID, is_active=False),
        lambda ctx: users.delete_user(ctx, MANAGER_TGID),
    ],
)
async def test_only_managers_manage_people(anybody: Context, user: Context, operation: Any) -> None:
    """A colleague neither lists, adds, switches nor deletes anybody."""
    with pytest.raises(Forbidden):
        await operation(user)
    with pytest.raises(Unauthenticated):
        await operation(anybody)
