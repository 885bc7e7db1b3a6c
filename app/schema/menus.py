"""Menus: types, the fields of a cafe, and mutations."""

from decimal import Decimal

import strawberry
from strawberry import UNSET

from app import models
from app.models import ComboChanges, ComboInput, MenuCategory, MenuItemChanges, MenuItemInput
from app.resolvers import menus as resolvers
from app.schema.connections import Connection
from app.schema.deletions import Deletion
from app.schema.operations import Info, given, load, mutation, page_request, query
from app.schema.scalars import Id
from app.schema.types import output
from app.services.menus import filter_items
from app.services.pagination import DEFAULT_PAGE_SIZE, Page, paginate_list
from app.services.rows import DeletionResult

# ruff: noqa: A002 `id` is the argument's name in the schema

strawberry.enum(MenuCategory, description="The category of a menu item: a dish of a combo, or an extra with a price.")


@output(models.MenuItemFields, description="A dish or an extra of a cafe.")
class MenuItem:
    id: Id


@output(models.ComboFields, description="One dish of each of its categories, for one price.")
class Combo:
    id: Id


@strawberry.type
class CafeMenu:
    """The fields of a cafe with its menu."""

    @query(resolvers.list_menu_items, Connection[MenuItem] | None)
    async def menu_items(
        root: strawberry.Parent[models.Cafe],
        info: Info,
        category: MenuCategory | None = None,
        is_available: bool | None = None,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Page[models.MenuItem]:
        page = page_request(info, first, after, skip)
        menu = await load(info, resolvers.list_menu_items, root.id)
        return paginate_list(filter_items(menu, category, is_available), resolvers.ITEMS, page)

    @query(resolvers.list_combos, Connection[Combo] | None)
    async def combos(
        root: strawberry.Parent[models.Cafe],
        info: Info,
        first: int = DEFAULT_PAGE_SIZE,
        after: str | None = None,
        skip: int = 0,
    ) -> Page[models.Combo]:
        page = page_request(info, first, after, skip)
        return paginate_list(await load(info, resolvers.list_combos, root.id), resolvers.COMBOS, page)


@strawberry.type
class Mutation:
    @mutation(resolvers.create_menu_item, MenuItem)
    async def create_menu_item(
        self,
        info: Info,
        cafe_id: Id,
        name: str,
        category: MenuCategory,
        price: Decimal | None = None,
        description: str = "",
        is_available: bool = True,
    ) -> models.MenuItem:
        fields = given(
            MenuItemInput,
            name=name,
            category=category,
            price=price,
            description=description,
            is_available=is_available,
        )
        return await resolvers.create_menu_item(info.context, cafe_id, fields)

    @mutation(resolvers.update_menu_item, MenuItem)
    async def update_menu_item(
        self,
        info: Info,
        id: Id,
        cafe_id: Id | None = None,
        name: str | None = UNSET,
        category: MenuCategory | None = UNSET,
        price: Decimal | None = UNSET,
        description: str | None = UNSET,
        is_available: bool | None = UNSET,
    ) -> models.MenuItem:
        changes = given(
            MenuItemChanges,
            name=name,
            category=category,
            price=price,
            description=description,
            is_available=is_available,
        )
        return await resolvers.update_menu_item(info.context, id, cafe_id, changes)

    @mutation(resolvers.delete_menu_item, Deletion)
    async def delete_menu_item(self, info: Info, id: Id, cafe_id: Id | None = None) -> DeletionResult:
        return await resolvers.delete_menu_item(info.context, id, cafe_id)

    @mutation(resolvers.create_combo, Combo)
    async def create_combo(
        self,
        info: Info,
        cafe_id: Id,
        name: str,
        categories: list[MenuCategory],
        price: Decimal,
        description: str = "",
        is_available: bool = True,
    ) -> models.Combo:
        fields = given(
            ComboInput,
            name=name,
            categories=categories,
            price=price,
            description=description,
            is_available=is_available,
        )
        return await resolvers.create_combo(info.context, cafe_id, fields)

    @mutation(resolvers.update_combo, Combo)
    async def update_combo(
        self,
        info: Info,
        id: Id,
        cafe_id: Id | None = None,
        name: str | None = UNSET,
        categories: list[MenuCategory] | None = UNSET,
        price: Decimal | None = UNSET,
        description: str | None = UNSET,
        is_available: bool | None = UNSET,
    ) -> models.Combo:
        changes = given(
            ComboChanges,
            name=name,
            categories=categories,
            price=price,
            description=description,
            is_available=is_available,
        )
        return await resolvers.update_combo(info.context, id, cafe_id, changes)

    @mutation(resolvers.delete_combo, Deletion)
    async def delete_combo(self, info: Info, id: Id, cafe_id: Id | None = None) -> DeletionResult:
        return await resolvers.delete_combo(info.context, id, cafe_id)
