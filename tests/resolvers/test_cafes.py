"""Cafes: what a manager says of them, how they are found, and what becomes of one that is deleted."""

from typing import Any

import pytest
import sqlalchemy as sa

from app.clients import Clients
from app.context import Context
from app.errors import Forbidden, NotFound, Unauthenticated
from app.models import Cafe, Combo, Deadline, Language, MenuItem
from app.resolvers import cafes, links, orders
from app.resolvers.inputs import DESCRIPTION_MAX_CHARACTERS
from app.resolvers.paging import PageRequest
from tests.conftest import Lunch, add_cafe
from tests.resolvers.ordering import BEFORE, DATE, at, close, field_of, lunch_with

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
    return [cafe.name for cafe in (await cafes.cafes(ctx, PageRequest(), **wanted)).items]


async def read(clients: Clients, cafe_id: int) -> Cafe | None:
    async with clients.db() as session:
        return await session.get(Cafe, cafe_id)


async def test_a_cafe_is_added(user: Context, manager: Context) -> None:
    """It is switched on, in UTC and English if nothing else is said, and its name has no spaces around it."""
    added = await cafes.create_cafe(manager, {"name": "  Basil & Thyme\n"})

    there = await cafes.cafe(user, added.id)
    assert (there.name, there.description, there.is_active) == ("Basil & Thyme", "", True)
    assert (there.timezone, there.language, there.tg_chat_id) == ("UTC", Language.EN, None)
    assert added.model_dump() == there.model_dump()


async def test_a_change_leaves_what_is_not_given(clients: Clients, manager: Context, cafe: Cafe) -> None:
    """What is given changes, and nothing else."""
    changes: cafes.CafeFields = {"timezone": "Europe/Berlin", "language": Language.RU}

    await cafes.update_cafe(manager, cafe.id, changes)
    await cafes.update_cafe(manager, cafe.id, {"name": " Базилик ", "description": "За углом"})

    there = await read(clients, cafe.id)
    assert there is not None
    assert there.model_dump() == cafe.model_dump() | changes | {"name": "Базилик", "description": "За углом"}


async def test_a_wrong_cafe_is_refused(clients: Clients, manager: Context, cafe: Cafe) -> None:
    """Names are one line, time zones are in the IANA database, and nothing is null; new or changed."""
    wrong: list[tuple[Any, str]] = [
        *(({"name": name}, "name") for name in BAD_NAMES),
        *(({"timezone": timezone}, "timezone") for timezone in BAD_TIMEZONES),
        *(({"description": text}, "description") for text in ("x" * (DESCRIPTION_MAX_CHARACTERS + 1), "\0")),
        *(({name: None}, name) for name in ("name", "description", "timezone", "language")),
    ]

    for fields, field in wrong:
        new: Any = {"name": "Green Fork", **fields}
        assert await field_of(cafes.create_cafe(manager, new)) == field
        assert await field_of(cafes.update_cafe(manager, cafe.id, fields)) == field

    assert await names(manager) == [cafe.name]
    assert await read(clients, cafe.id) == cafe


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/Argentina/ComodRivadavia"])
async def test_a_cafe_is_in_any_time_zone(manager: Context, timezone: str) -> None:
    """All names of the IANA database are good."""
    assert (await cafes.create_cafe(manager, {"name": "Basil", "timezone": timezone})).timezone == timezone


async def test_a_cafe_is_switched(clients: Clients, manager: Context, cafe: Cafe) -> None:
    """Off and on again."""
    for is_active in (False, True):
        assert (await cafes.set_cafe_status(manager, cafe.id, is_active=is_active)).is_active is is_active
        assert await read(clients, cafe.id) == cafe.model_copy(update={"is_active": is_active})


async def test_cafes_are_found(clients: Clients, user: Context) -> None:
    """By a part of the name, in either case and in any script, and by being switched on; sorted by name."""
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


async def test_cafes_of_one_name_are_listed_once(clients: Clients, user: Context) -> None:
    """From page to page each cafe comes once, though names need not be different."""
    ids = {(await add_cafe(clients, "Basil")).id for _ in range(3)}

    first = await cafes.cafes(user, PageRequest(2))
    second = await cafes.cafes(user, PageRequest(2, first.cursors[-1]))

    assert [len(first.items), len(second.items), first.total] == [2, 1, 3]
    assert {cafe.id for cafe in [*first.items, *second.items]} == ids


async def test_an_unused_cafe_is_deleted(clients: Clients, manager: Context, lunch: Lunch) -> None:
    """With its menu, its deadlines and its days."""
    await close(clients, lunch.cafe)

    removal = await cafes.delete_cafe(manager, lunch.cafe.id)

    assert (removal.id, removal.is_deleted) == (lunch.cafe.id, True)
    async with clients.db() as session:
        for table in (Cafe, MenuItem, Combo, Deadline):
            assert await session.scalar(sa.select(sa.func.count()).select_from(table)) == 0


async def test_a_cafe_with_orders_is_kept_and_switched_off(
    clients: Clients, user: Context, manager: Context, lunch: Lunch
) -> None:
    """Its orders, and all that they refer to, stay; so does its menu."""
    ordered = await orders.place_order(at(user, BEFORE), lunch.cafe.id, DATE, lunch_with(lunch))

    removal = await cafes.delete_cafe(manager, lunch.cafe.id)

    assert (removal.id, removal.is_deleted, "kept" in removal.message) == (lunch.cafe.id, False, True)
    assert await read(clients, lunch.cafe.id) == lunch.cafe.model_copy(update={"is_active": False})
    assert (await orders.order(user, ordered.id)).cafe.is_active is False
    async with clients.db() as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(MenuItem)) == 6


async def test_a_cafe_with_a_history_is_kept_and_switched_off(
    clients: Clients, anybody: Context, manager: Context, cafe: Cafe
) -> None:
    """A chat has asked to be its chat: whatever became of that, it stays to be seen."""
    request = await links.link_request(anybody, cafe.id, CHAT)
    await links.reject(manager, request.id)

    removal = await cafes.delete_cafe(manager, cafe.id)

    assert removal.is_deleted is False
    assert await read(clients, cafe.id) == cafe.model_copy(update={"is_active": False})


async def test_an_unknown_cafe_is_not_found(manager: Context) -> None:
    """It can neither be read, changed, switched nor deleted; nor can one that was deleted."""
    deleted = await cafes.create_cafe(manager, {"name": "Basil"})
    await cafes.delete_cafe(manager, deleted.id)

    for operation in (
        cafes.cafe(manager, 999),
        cafes.update_cafe(manager, 999, {"name": "Basil"}),
        cafes.set_cafe_status(manager, 999, is_active=True),
        cafes.delete_cafe(manager, deleted.id),
    ):
        with pytest.raises(NotFound):
            await operation


@pytest.mark.parametrize(
    "operation",
    [
        lambda ctx: cafes.create_cafe(ctx, {"name": "Basil"}),
        lambda ctx: cafes.update_cafe(ctx, 1, {}),
        lambda ctx: cafes.set_cafe_status(ctx, 1, is_active=False),
        lambda ctx: cafes.delete_cafe(ctx, 1),
    ],
)
async def test_only_managers_change_cafes(anybody: Context, user: Context, operation: Any) -> None:
    """Colleagues read them."""
    with pytest.raises(Forbidden):
        await operation(user)
    with pytest.raises(Unauthenticated):
        await operation(anybody)
