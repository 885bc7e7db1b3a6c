"""Cafes."""

from sqlmodel import col, select

from app.auth import allow
from app.context import Context
from app.errors import NotFound
from app.models import Cafe, Role
from app.resolvers.paging import Order, Page, PageRequest, fetch

BY_NAME: Order[Cafe] = Order("cafes", (col(Cafe.name), col(Cafe.id)), (str, int), lambda cafe: (cafe.name, cafe.id))


@allow(Role.USER)
async def cafe(ctx: Context, cafe_id: int) -> Cafe:
    """One cafe."""
    async with ctx.clients.db() as session:
        found = await session.get(Cafe, cafe_id)
    if found is None:
        raise NotFound("cafe", cafe_id)
    return found


@allow(Role.USER)
async def cafes(ctx: Context, page: PageRequest) -> Page[Cafe]:
    """The cafes, by name."""
    async with ctx.clients.db() as session:
        return await fetch(session, select(Cafe), BY_NAME, page)
