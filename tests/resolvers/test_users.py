"""Users: creation, search, access and deletion."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from app.auth.context import Context
from app.auth.viewer import Caller, Viewer
from app.clients import Clients
from app.errors import AlreadyExists, BadInput, Forbidden, NotFound, Unauthenticated
from app.models import Cafe, Language, LinkRequest, LinkRequestStatus, Role, User, UserInput
from app.models.users import TELEGRAM_ID_MAX
from app.resolvers import links, orders, users
from app.services import users as users_service
from app.services.pagination import PageRequest
from tests.conftest import MANAGER_TGID, USER_TGID, Lunch
from tests.ordering import BEFORE, DATE, at, field_of, until_waiting

OTHER_TGID = 500


@pytest.fixture
async def other_manager(manager: Context) -> Context:
    """Another manager, with a lower id than Maria."""
    await users.create_manager(manager, new_user(OTHER_TGID, "Olga"))
    return replace(manager, caller=Caller(viewer=Viewer(OTHER_TGID, Role.MANAGER)))


def new_user(tgid: int, name: str) -> UserInput:
    """A new user, which need not be valid."""
    return UserInput.collect(tgid=tgid, name=name)


async def tgids(ctx: Context, **wanted: Any) -> list[int]:
    return [user.tgid for user in (await users.list_users(ctx, PageRequest(), **wanted)).nodes]


async def count_active_managers(clients: Clients) -> int:
    query = sa.select(sa.func.count()).select_from(User).where(User.role == Role.MANAGER, User.is_active)  # type: ignore[arg-type]
    async with clients.db() as session:
        return await session.scalar(query) or 0


async def test_a_new_user_is_active(user: Context, manager: Context) -> None:
    """A new user or manager is active, and the name has no spaces around it."""
    added = await users.create_user(manager, new_user(7, "  Пётр "))
    added_manager = await users.create_manager(manager, new_user(TELEGRAM_ID_MAX, "Olga"))

    assert (added.tgid, added.name, added.role, added.is_active) == (7, "Пётр", Role.USER, True)
    assert (added_manager.tgid, added_manager.role) == (TELEGRAM_ID_MAX, Role.MANAGER)
    assert await users.get_user(manager, 7) == added


async def test_a_wrong_user_is_bad_input(manager: Context) -> None:
    """A user with a wrong name or a wrong Telegram id is bad input."""
    for name in ("", " ", "Anna\nMaria", "\0", "\ud800", "x" * 256):
        assert await field_of(users.create_user(manager, new_user(7, name))) == "name"
    for tgid in (0, -7, TELEGRAM_ID_MAX + 1, 2**63):
        assert await field_of(users.create_manager(manager, new_user(tgid, "Anna"))) == "tgid"


async def test_a_user_is_added_once(manager: Context) -> None:
    """Of several calls that add a user, simultaneous or later, one succeeds and the others change nothing."""
    outcomes = await asyncio.gather(
        *(users.create_user(manager, new_user(7, "Anna")) for _ in range(4)), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyExists"] * 3 + ["User"]
    with pytest.raises(AlreadyExists):
        await users.create_manager(manager, new_user(7, "Olga"))
    assert (await users.get_user(manager, 7)).role is Role.USER


async def test_users_can_be_searched_by_name(clients: Clients, manager: Context) -> None:
    """Users are found by a part of the name, in any case and script, and wildcards are plain text."""
    names = {11: "Анна Ёлкина", 12: "100% Bob_", 13: "back\\slash", 14: "bobby"}
    for tgid, name in names.items():
        await users.create_user(manager, new_user(tgid, name))

    assert await tgids(manager, search="ёлк") == await tgids(manager, search="АННА ё") == [11]
    assert set(await tgids(manager, search="BOB")) == {12, 14}
    assert await tgids(manager, search="%") == await tgids(manager, search="b_") == [12]
    assert await tgids(manager, search="\\") == [13]
    assert await tgids(manager, search="b%b") == await tgids(manager, search="unknown") == []
    assert len(await tgids(manager, search="")) == len(await tgids(manager)) == 6
    for search in ("\0", "x" * 256):
        assert await field_of(tgids(manager, search=search)) == "search"


async def test_users_can_be_searched_by_telegram_id(manager: Context) -> None:
    """Users are found by the whole id or by digits in the name, not by a part of the id or by other digits."""
    await users.create_user(manager, new_user(77, "Anna"))
    await users.create_user(manager, new_user(7788, "Agent 77"))

    assert set(await tgids(manager, search="77")) == {77, 7788}
    assert await tgids(manager, search=str(USER_TGID)) == [USER_TGID]
    assert await tgids(manager, search="7") == [7788]
    assert await tgids(manager, search="778") == await tgids(manager, search="9" * 16) == []
    assert await tgids(manager, search="9" * 255) == await tgids(manager, search="٧٧") == []


async def test_users_can_be_filtered_and_are_sorted(manager: Context, other_manager: Context) -> None:
    """Users can be filtered by role, by activity and by both, and are sorted by name."""
    await users.set_user_access(manager, USER_TGID, is_active=False)

    assert await tgids(manager) == [USER_TGID, MANAGER_TGID, OTHER_TGID]  # Ivan, Maria, Olga
    assert await tgids(manager, role=Role.MANAGER) == [MANAGER_TGID, OTHER_TGID]
    assert await tgids(manager, is_active=False) == [USER_TGID]
    assert await tgids(manager, role=Role.USER, is_active=True) == []
    assert await tgids(manager, search="ma", role=Role.MANAGER, is_active=True) == [MANAGER_TGID]


async def test_users_can_read_only_themselves(user: Context, manager: Context) -> None:
    """A user can read only their own data, and a manager can read all users."""
    assert (await users.get_me(user)).tgid == (await users.get_user(user, USER_TGID)).tgid == USER_TGID
    assert (await users.get_user(manager, USER_TGID)).name == "Ivan"
    with pytest.raises(Forbidden):
        await users.get_user(user, MANAGER_TGID)


async def test_a_manager_changes_access(manager: Context) -> None:
    """Activity and role change together or alone."""
    await users.set_user_access(manager, USER_TGID, is_active=False)
    promoted = await users.set_user_access(manager, USER_TGID, role=Role.MANAGER)
    assert (promoted.is_active, promoted.role) == (False, Role.MANAGER)

    await users.set_user_access(manager, USER_TGID, is_active=True, role=Role.USER)

    stored = await users.get_user(manager, USER_TGID)
    assert (stored.is_active, stored.role) == (True, Role.USER)


async def test_managers_cannot_change_their_own_access(clients: Clients, manager: Context) -> None:
    """A manager cannot deactivate, demote or delete themselves, so one manager always stays."""
    for operation in (
        users.set_user_access(manager, MANAGER_TGID, is_active=False),
        users.set_user_access(manager, MANAGER_TGID, role=Role.USER),
        users.delete_user(manager, MANAGER_TGID),
    ):
        assert await field_of(operation) == "tgid"

    assert await count_active_managers(clients) == 1


REMOVALS: dict[str, Callable[[Context, int], Awaitable[object]]] = {
    "deactivated": lambda ctx, tgid: users.set_user_access(ctx, tgid, is_active=False),
    "demoted": lambda ctx, tgid: users.set_user_access(ctx, tgid, role=Role.USER),
    "deleted": users.delete_user,
}


@pytest.mark.parametrize("removal", REMOVALS)
async def test_of_two_managers_who_remove_each_other_one_stays(
    clients: Clients, manager: Context, other_manager: Context, removal: str
) -> None:
    """If two managers remove each other at the same time, one succeeds and the other is refused."""
    remove = REMOVALS[removal]
    pairs = [(manager, OTHER_TGID), (other_manager, MANAGER_TGID)]
    for attempt in range(6):
        outcomes = await asyncio.gather(
            *(remove(ctx, tgid) for ctx, tgid in (pairs if attempt % 2 else pairs[::-1])), return_exceptions=True
        )

        assert sum(isinstance(outcome, Forbidden) for outcome in outcomes) == 1
        assert not any(isinstance(outcome, BadInput | NotFound | sa.exc.SQLAlchemyError) for outcome in outcomes)
        assert await count_active_managers(clients) == 1
        async with clients.db() as session:
            for tgid in (MANAGER_TGID, OTHER_TGID):
                await session.merge(User(tgid=tgid, name="Again", role=Role.MANAGER, is_active=True, created_at=BEFORE))


async def test_a_manager_who_is_deactivated_meanwhile_is_refused(
    clients: Clients, manager: Context, other_manager: Context
) -> None:
    """A manager whose deactivation commits first loses the right to deactivate others."""
    async with clients.db() as session:
        (await session.get_one(User, MANAGER_TGID, with_for_update=True)).deactivate()
        await session.flush()
        deactivating = asyncio.ensure_future(users.set_user_access(manager, OTHER_TGID, is_active=False))
        await until_waiting(clients, deactivating)

    with pytest.raises(Forbidden):
        await deactivating
    assert await count_active_managers(clients) == 1


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
async def test_a_known_language_is_recorded(
    clients: Clients, user: Context, tag: str | None, language: Language
) -> None:
    """The language is recorded if the first part of the tag is a language of our texts."""
    await users_service.update_language(clients, USER_TGID, tag)

    assert (await users.get_me(user)).language is language


async def test_an_unknown_language_changes_nothing(clients: Clients, user: Context) -> None:
    """After a German or a missing tag, a user with Russian keeps Russian."""
    for tag in ("ru", "de", None):
        await users_service.update_language(clients, USER_TGID, tag)

    assert (await users.get_me(user)).language is Language.RU


async def test_the_language_of_an_unknown_user_is_not_recorded(clients: Clients, manager: Context) -> None:
    """The language of an unknown user adds no user and changes no other user."""
    await users_service.update_language(clients, 999, "ru")

    async with clients.db() as session:
        assert {user.language for user in await session.scalars(sa.select(User))} == {Language.EN}


async def test_a_user_without_orders_is_deleted(manager: Context) -> None:
    """A deleted user is not found any more."""
    result = await users.delete_user(manager, USER_TGID)

    assert (result.id, result.deleted) == (USER_TGID, True)
    with pytest.raises(NotFound):
        await users.get_user(manager, USER_TGID)


async def test_a_user_with_orders_is_deactivated(user: Context, manager: Context, lunch: Lunch) -> None:
    """The deletion of a user with orders deactivates the user, and the orders keep their user."""
    ordered = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch.meal)

    result = await users.delete_user(manager, USER_TGID)

    assert (result.deleted, "deactivated" in result.message) == (False, True)
    kept = (await orders.get_order(manager, ordered.id)).user
    assert (kept.name, kept.is_active) == ("Ivan", False)


async def test_a_manager_who_has_processed_link_requests_can_be_deleted(
    clients: Clients, anonymous: Context, manager: Context, other_manager: Context, cafe: Cafe
) -> None:
    """The link request keeps its status and its reason, without the manager."""
    request = await links.link_request(anonymous, cafe.id, -1001)
    await links.reject(other_manager, request.id, "No such cafe")

    result = await users.delete_user(manager, OTHER_TGID)

    assert result.deleted
    async with clients.db() as session:
        stored = await session.get_one(LinkRequest, request.id)
    assert (stored.status, stored.processed_by, stored.reason) == (LinkRequestStatus.REJECTED, None, "No such cafe")


async def test_an_unknown_user_is_not_found(manager: Context) -> None:
    """Every id without a user raises NotFound, also one that Telegram never uses."""
    for tgid in (999, 0, -1, 2**62):
        for operation in (
            users.get_user(manager, tgid),
            users.set_user_access(manager, tgid),
            users.delete_user(manager, tgid),
        ):
            with pytest.raises(NotFound):
                await operation


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx: users.list_users(ctx, PageRequest()),
        lambda ctx: users.create_user(ctx, new_user(7, "Anna")),
        lambda ctx: users.create_manager(ctx, new_user(7, "Anna")),
        lambda ctx: users.set_user_access(ctx, MANAGER_TGID, is_active=False),
        lambda ctx: users.delete_user(ctx, MANAGER_TGID),
    ],
)
async def test_only_managers_manage_users(anonymous: Context, user: Context, operation: Any) -> None:
    """A user without the manager role cannot list, add, change or delete users."""
    with pytest.raises(Forbidden):
        await operation(user)
    with pytest.raises(Unauthenticated):
        await operation(anonymous)
