"""Operations on cafes."""

from sqlmodel import col, select

from app.auth.access import allow
from app.auth.context import Context
from app.models import Cafe, CafeChanges, CafeInput, Role
from app.services.pagination import Page, PageRequest, SortOrder, paginate
from app.services.rows import FOR_UPDATE, DeletionResult, delete_or_deactivate, get_row
from app.validation import SearchText

BY_NAME: SortOrder[Cafe] = SortOrder(
    "cafes", (col(Cafe.name), col(Cafe.id)), (str, int), lambda cafe: (cafe.name, cafe.id)
)


@allow(Role.USER)
async def get_cafe(ctx: Context, cafe_id: int) -> Cafe:
    """One cafe.

    Raises NotFound.
    """
    async with ctx.clients.db() as session:
        return await get_row(session, Cafe, cafe_id)


@allow(Role.USER)
async def list_cafes(
    ctx: Context, page: PageRequest, search: SearchText | None = None, is_active: bool | None = None
) -> Page[Cafe]:
    """The cafes, by name. The search finds a part of the name, in upper or lower case.

    Raises BadInput.
    """
    query = select(Cafe)
    if search:
        query = query.where(col(Cafe.name).icontains(search, autoescape=True))
    if is_active is not None:
        query = query.where(Cafe.is_active == is_active)
    async with ctx.clients.db() as session:
        return await paginate(session, query, BY_NAME, page)


@allow(Role.MANAGER)
async def create_cafe(ctx: Context, fields: CafeInput) -> Cafe:
    """Add a cafe. It takes orders once it has a menu and deadlines.

    Raises BadInput.
    """
    async with ctx.clients.db() as session:
        cafe = Cafe(**fields.values(), created_at=ctx.now())
        session.add(cafe)
        return cafe


@allow(Role.MANAGER)
async def update_cafe(ctx: Context, cafe_id: int, changes: CafeChanges) -> Cafe:
    """Change the given fields of a cafe.

    Raises BadInput, NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        cafe = await get_row(session, Cafe, cafe_id, lock=FOR_UPDATE)
        cafe.sqlmodel_update(changes.values())
        return cafe


@allow(Role.MANAGER)
async def set_cafe_status(ctx: Context, cafe_id: int, *, is_active: bool) -> Cafe:
    """Activate or deactivate a cafe. A deactivated cafe takes no orders, and gets none.

    Raises NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        cafe = await get_row(session, Cafe, cafe_id, lock=FOR_UPDATE)
        cafe.is_active = is_active
        return cafe


@allow(Role.MANAGER)
async def delete_cafe(ctx: Context, cafe_id: int) -> DeletionResult:
    """Delete a cafe with its menu. A cafe with orders, or with a history with a chat, is deactivated instead.

    Raises NotFound.
    """
    async with ctx.clients.db(cafe_id) as session:
        cafe = await get_row(session, Cafe, cafe_id, lock=FOR_UPDATE)
        kept = "This cafe has orders or a history with a chat, so it was deactivated instead."
        return await delete_or_deactivate(session, cafe, cafe_id, kept=kept)
