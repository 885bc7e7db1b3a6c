"""Cafes."""

from collections.abc import Iterable, Sequence
from typing import TypedDict

from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.sql.selectable import ForUpdateArg
from sqlmodel import col, select

from app.auth import allow
from app.context import Context
from app.errors import NotFound
from app.models import Cafe, Combo, Deadline, Language, MenuItem, Role
from app.models.tables import NAME_MAX_CHARACTERS
from app.resolvers.inputs import (
    DESCRIPTION_MAX_CHARACTERS,
    checked_name,
    checked_text,
    checked_timezone,
    without_nulls,
)
from app.resolvers.paging import Page, PageRequest, SortOrder, fetch
from app.resolvers.removal import Removal, remove

BY_NAME: SortOrder[Cafe] = SortOrder(
    "cafes", (col(Cafe.name), col(Cafe.id)), (str, int), lambda cafe: (cafe.name, cafe.id)
)


class CafeFields(TypedDict, total=False):
    """What a manager says of a cafe."""

    name: str
    description: str
    timezone: str
    language: Language


@allow(Role.USER)
async def cafe(ctx: Context, cafe_id: int) -> Cafe:
    """One cafe.

    Raises NotFound.
    """
    async with ctx.clients.db() as session:
        return await found(session, cafe_id)


@allow(Role.USER)
async def cafes(
    ctx: Context, page: PageRequest, search: str | None = None, is_active: bool | None = None
) -> Page[Cafe]:
    """The cafes, by name. `search` is a part of the name, in either case.

    Raises BadInput.
    """
    query = select(Cafe)
    if search := checked_text("search", search, NAME_MAX_CHARACTERS):
        query = query.where(col(Cafe.name).icontains(search, autoescape=True))
    if is_active is not None:
        query = query.where(Cafe.is_active == is_active)
    async with ctx.clients.db() as session:
        return await fetch(session, query, BY_NAME, page)


@allow(Role.MANAGER)
async def create_cafe(ctx: Context, fields: CafeFields) -> Cafe:
    """Add a cafe. One can order there once it has a menu and deadlines.

    Raises BadInput.
    """
    async with ctx.clients.db() as session:
        new = Cafe(**_checked(fields), created_at=ctx.now())
        session.add(new)
        return new


@allow(Role.MANAGER)
async def update_cafe(ctx: Context, cafe_id: int, changes: CafeFields) -> Cafe:
    """Change what is given of a cafe.

    Raises BadInput, NotFound.
    """
    checked = _checked(changes)
    async with ctx.clients.db() as session:
        changed = await found(session, cafe_id, lock=True)
        changed.sqlmodel_update(dict(checked))
        return changed


@allow(Role.MANAGER)
async def set_cafe_status(ctx: Context, cafe_id: int, *, is_active: bool) -> Cafe:
    """Switch a cafe on or off. One that is off takes no orders, and gets none.

    Raises NotFound.
    """
    async with ctx.clients.db() as session:
        switched = await found(session, cafe_id, lock=True)
        switched.is_active = is_active
        return switched


@allow(Role.MANAGER)
async def delete_cafe(ctx: Context, cafe_id: int) -> Removal:
    """Delete a cafe with its menu; one with orders, or with a history with a chat, is kept, and switched off instead.

    Raises NotFound.
    """
    async with ctx.clients.db() as session:
        removed = await found(session, cafe_id, lock=True)
        kept = "This cafe has orders or a history with a chat, so was kept and switched off."
        return await remove(session, removed, cafe_id, kept=kept)


async def found(session: AsyncSession, cafe_id: int, *, lock: bool | ForUpdateArg | None = None) -> Cafe:
    """Return a cafe.

    Args:
        lock: True to change it, `KEEP` to refer to it.

    Raises NotFound.
    """
    cafe = await session.get(Cafe, cafe_id, with_for_update=lock)
    if cafe is None:
        raise NotFound("cafe", cafe_id)
    return cafe


def by_cafe[Row: (MenuItem, Combo, Deadline)](cafe_ids: Sequence[int], rows: Iterable[Row]) -> list[Sequence[Row]]:
    """Give each cafe its rows, in the order in which they come."""
    found: dict[int, list[Row]] = {cafe_id: [] for cafe_id in cafe_ids}
    for row in rows:
        found[row.cafe_id].append(row)
    return [found[cafe_id] for cafe_id in cafe_ids]


def _checked(fields: CafeFields) -> CafeFields:
    without_nulls(fields)
    checked = fields.copy()
    if "name" in fields:
        checked["name"] = checked_name("name", fields["name"])
    if "timezone" in fields:
        checked_timezone("timezone", fields["timezone"])
    checked_text("description", fields.get("description"), DESCRIPTION_MAX_CHARACTERS)
    return checked
