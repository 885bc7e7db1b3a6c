"""Cafes: creation, changes, search and deletion."""

from typing import Any

import pytest
import sqlalchemy as sa

from app.auth.context import Context
from app.clients import Clients
from app.errors import Forbidden, NotFound, Unauthenticated
from app.models import Cafe, CafeChanges, CafeInput, Combo, Deadline, Language, MenuItem
from app.resolvers import cafes, links, orders
from app.services.pagination import PageRequest
from app.validation import DESCRIPTION_MAX_CHARACTERS
from tests.conftest import Lunch, add_cafe
from tests.ordering import BEFORE, DATE, at, close, field_of

CHAT = -1001

BAD_NAMES = ["", " \t ", "Basil\n& Thyme", "Basil\x1fThyme", "Basil\u0085Thyme", "a\0b", "\udfff", "x" * 256]
BAD_TIMEZONES = [
    "",
    "Europe",
    "Europe/Atlantis",
    "localtime",
    "europe/berlin",
    "+01:00",
    "../etc/passwd",
    "\0",
    "x" * 300,
]


async def names(ctx: Context, **wanted: Any) -> list[str]:
    return [cafe.name for cafe in (await cafes.list_cafes(ctx, PageRequest(), **wanted)).nodes]


async def find(clients: Clients, cafe_id: int) -> Cafe | None:
    async with clients.db() as session:
        return await session.get(Cafe, cafe_id)


async def test_a_new_cafe_has_defaults(user: Context, manager: Context) -> None:
    """A new cafe is active, in UTC and English by default, and its name has no spaces around it."""
    added = await cafes.create_cafe(manager, CafeInput.collect(name="  Basil & Thyme\n"))

    stored = await cafes.get_cafe(user, added.id)
    assert (stored.name, stored.description, stored.is_active) == ("Basil & Thyme", "", True)
    assert (stored.timezone, stored.language, stored.tg_chat_id) == ("UTC", Language.EN, None)
    assert added.model_dump() == stored.model_dump()


async def test_a_change_leaves_other_fields(clients: Clients, manager: Context, cafe: Cafe) -> None:
    """A change of some fields leaves all other fields as they are."""
    changes: dict[str, Any] = {"timezone": "Europe/Berlin", "language": Language.RU}

    await cafes.update_cafe(manager, cafe.id, CafeChanges(**changes))
    await cafes.update_cafe(manager, cafe.id, CafeChanges.collect(name=" Базилик ", description="За углом"))

    stored = await find(clients, cafe.id)
    assert stored is not None
    assert stored.model_dump() == cafe.model_dump() | changes | {"name": "Базилик", "description": "За углом"}


async def test_a_wrong_cafe_is_bad_input(clients: Clients, manager: Context, cafe: Cafe) -> None:
    """A cafe with a wrong name, time zone, description or null is bad input, new or changed."""
    wrong: list[tuple[Any, str]] = [
        *(({"name": name}, "name") for name in BAD_NAMES),
        *(({"timezone": timezone}, "timezone") for timezone in BAD_TIMEZONES),
        *(({"description": text}, "description") for text in ("x" * (DESCRIPTION_MAX_CHARACTERS + 1), "\0")),
        *(({name: None}, name) for name in ("name", "description", "timezone", "language")),
    ]

    for fields, field in wrong:
        new, changes = CafeInput.collect(**{"name": "Green Fork", **fields}), CafeChanges.collect(**fields)
        assert await field_of(cafes.create_cafe(manager, new)) == field
        assert await field_of(cafes.update_cafe(manager, cafe.id, changes)) == field

    assert await names(manager) == [cafe.name]
    assert await find(clients, cafe.id) == cafe


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Argentina/ComodRivadavia"])
async def test_a_cafe_may_be_in_any_time_zone(manager: Context, timezone: str) -> None:
    """Every name in the IANA database is a valid time zone."""
    assert (await cafes.create_cafe(manager, CafeInput(name="Basil", timezone=timezone))).timezone == timezone


async def test_a_cafe_can_be_deactivated_and_activated(clients: Clients, manager: Context, cafe: Cafe) -> None:
    """A manager can deactivate a cafe and activate it again."""
    for is_active in (False, True):
        assert (await cafes.set_cafe_status(manager, cafe.id, is_active=is_active)).is_active is is_active
        assert await find(clients, cafe.id) == cafe.model_copy(update={"is_active": is_active})


async def test_cafes_can_be_searched(clients: Clients, user: Context) -> None:
    """Cafes are found by a part of the name, in any case and script, and by activity, and are sorted by name."""
    for name, is_active in (("Zest", True), ("Столовая «Ёлка»", True), ("basil & Thyme", False), ("100% Basil_", True)):
        await add_cafe(clients, name, is_active=is_active)

    assert set(await names(user)) == {"100% Basil_", "Zest", "basil & Thyme", "Столовая «Ёлка»"}
    assert await names(user) == await names(user, search="") == await names(user, is_active=None)
    assert set(await names(user, search="BASIL")) == {"100% Basil_", "basil & Thyme"}
    assert await names(user, search="ёлк") == await names(user, search="СТОЛ") == ["Столовая «Ёлка»"]
    assert await names(user, search="%") == await names(user, search="l_") == ["100% Basil_"]
    assert await names(user, search="\\") == await names(user, search="z_st") == []
    assert await names(user, is_active=False) == ["basil & Thyme"]
    assert await names(user, search="basil", is_active=True) == ["100% Basil_"]
    assert await field_of(names(user, search="\0")) == "search"
    assert await field_of(names(user, search="x" * 256)) == "search"


async def test_cafes_with_the_same_name_are_listed_once(clients: Clients, user: Context) -> None:
    """Over all pages each cafe is listed once, even if names are equal."""
    ids = {(await add_cafe(clients, "Basil")).id for _ in range(3)}

    first = await cafes.list_cafes(user, PageRequest(first=2))
    second = await cafes.list_cafes(user, PageRequest(first=2, after=first.cursors[-1]))

    assert [len(first.nodes), len(second.nodes), first.total_count] == [2, 1, 3]
    assert {cafe.id for cafe in [*first.nodes, *second.nodes]} == ids


async def test_a_cafe_without_orders_is_deleted(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """A cafe is deleted together with its menu, its deadlines and its delivery days."""
    await close(clients, lunch.cafe)

    result = await cafes.delete_cafe(manager, lunch.cafe.id)

    assert (result.id, result.deleted) == (lunch.cafe.id, True)
    async with clients.db() as session:
        for table in (Cafe, MenuItem, Combo, Deadline):
            assert await session.scalar(sa.select(sa.func.count()).select_from(table)) == 0


async def test_a_cafe_with_orders_is_deactivated(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """The deletion of a cafe with orders deactivates it and keeps its orders and its menu."""
    ordered = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch.meal)

    result = await cafes.delete_cafe(manager, lunch.cafe.id)

    assert (result.id, result.deleted, "deactivated" in result.message) == (lunch.cafe.id, False, True)
    assert await find(clients, lunch.cafe.id) == lunch.cafe.model_copy(update={"is_active": False})
    assert (await orders.get_order(user, ordered.id)).cafe.is_active is False
    async with clients.db() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(MenuItem)) == 6


async def test_a_cafe_with_a_link_request_is_deactivated(
    clients: Clients, anonymous: Context, manager: Context, cafe: Cafe
) -> None:
    """The deletion of a cafe with a link request deactivates it, so that the history stays visible."""
    request = await links.link_request(anonymous, cafe.id, CHAT)
    await links.reject(manager, request.id)

    result = await cafes.delete_cafe(manager, cafe.id)

    assert result.deleted is False
    assert await find(clients, cafe.id) == cafe.model_copy(update={"is_active": False})


async def test_an_unknown_cafe_is_not_found(manager: Context) -> None:
    """An unknown or deleted cafe cannot be read, changed, activated or deleted."""
    deleted = await cafes.create_cafe(manager, CafeInput(name="Basil"))
    await cafes.delete_cafe(manager, deleted.id)

    for operation in (
        cafes.get_cafe(manager, 999),
        cafes.update_cafe(manager, 999, CafeChanges(name="Basil")),
        cafes.set_cafe_status(manager, 999, is_active=True),
        cafes.delete_cafe(manager, deleted.id),
    ):
        with pytest.raises(NotFound):
            await operation


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx: cafes.create_cafe(ctx, CafeInput(name="Basil")),
        lambda ctx: cafes.update_cafe(ctx, 1, CafeChanges()),
        lambda ctx: cafes.set_cafe_status(ctx, 1, is_active=False),
        lambda ctx: cafes.delete_cafe(ctx, 1),
    ],
)
async def test_only_managers_change_cafes(anonymous: Context, user: Context, operation: Any) -> None:
    """A user without the manager role gets Forbidden, and a caller without a token gets Unauthenticated."""
    with pytest.raises(Forbidden):
        await operation(user)
    with pytest.raises(Unauthenticated):
        await operation(anonymous)
