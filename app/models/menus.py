"""Menus: dishes and extras, and the combos in which dishes are ordered."""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import sqlalchemy as sa
from pydantic import AfterValidator
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from app.errors import BadInput
from app.models.columns import RowId, enum_column, enum_type, identity, instant, money
from app.validation import NAME_MAX_CHARACTERS, Description, Input, Name, Price, optional


class MenuCategory(StrEnum):
    """The category of a menu item. An extra has a price; a dish is paid with its combo."""

    SOUP = "soup"
    SALAD = "salad"
    MAIN = "main"
    EXTRA = "extra"


DISH_CATEGORIES = (MenuCategory.SOUP, MenuCategory.SALAD, MenuCategory.MAIN)
"""The categories of a combo's dishes, in the order of the meal."""


def _validate_categories(categories: Sequence[MenuCategory]) -> list[MenuCategory]:
    """Return the categories in the order of the meal."""
    if not categories:
        raise ValueError("a combo needs at least one")
    if MenuCategory.EXTRA in categories:
        raise ValueError("an extra is not part of a combo")
    if len(set(categories)) < len(categories):
        raise ValueError("each category may be there once")
    return [category for category in DISH_CATEGORIES if category in categories]


ComboCategories = Annotated[list[MenuCategory], AfterValidator(_validate_categories)]


class MenuItemChanges(Input):
    """A manager's changes of a menu item."""

    name: Name = optional()
    description: Description = optional()
    category: MenuCategory = optional()
    price: Price | None = optional()
    is_available: bool = optional()


class MenuItemInput(MenuItemChanges):
    """A new menu item."""

    name: Name
    category: MenuCategory


class ComboChanges(Input):
    """A manager's changes of a combo."""

    name: Name = optional()
    description: Description = optional()
    categories: ComboCategories = optional()
    price: Price = optional()
    is_available: bool = optional()


class ComboInput(ComboChanges):
    """A new combo."""

    name: Name
    categories: ComboCategories
    price: Price


class MenuItemFields(SQLModel):
    """The public fields of a menu item."""

    cafe_id: RowId = Field(sa_type=sa.BigInteger, foreign_key="cafes.id", ondelete="CASCADE")
    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    description: str = Field(default="", sa_column_kwargs={"server_default": ""})
    category: MenuCategory = Field(sa_column=enum_column(MenuCategory, "menu_items_category_check"))
    price: Decimal | None = money(nullable=True, description="The price of an extra. A dish is paid with its combo.")
    is_available: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    created_at: dt.datetime = instant(default_now=True)


class MenuItem(MenuItemFields, table=True):
    """A dish or an extra. It has a price exactly if it is an extra."""

    __tablename__ = "menu_items"
    __table_args__ = (
        sa.CheckConstraint("(category = 'extra') = (price IS NOT NULL)", name="menu_items_price_check"),
        sa.CheckConstraint("price >= 0", name="menu_items_price_range_check"),
        sa.Index("menu_items_cafe_id_idx", "cafe_id", "id"),
    )

    id: int = identity()

    @property
    def is_extra(self) -> bool:
        return self.category is MenuCategory.EXTRA

    def validate_price(self) -> None:
        """Raises BadInput if category and price do not fit together."""
        if self.is_extra and self.price is None:
            raise BadInput("price", "an extra needs a price")
        if not self.is_extra and self.price is not None:
            raise BadInput("price", "a dish has no price; its combo has one")

    def deactivate(self) -> None:
        """Make this unavailable."""
        self.is_available = False


class ComboFields(SQLModel):
    """The public fields of a combo."""

    cafe_id: RowId = Field(sa_type=sa.BigInteger, foreign_key="cafes.id", ondelete="CASCADE")
    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    description: str = Field(default="", sa_column_kwargs={"server_default": ""})
    categories: list[MenuCategory] = Field(sa_column=sa.Column(ARRAY(enum_type(MenuCategory)), nullable=False))
    price: Decimal = money()
    is_available: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    created_at: dt.datetime = instant(default_now=True)


class Combo(ComboFields, table=True):
    """One dish of each of its categories, for one price."""

    __tablename__ = "combos"
    __table_args__ = (
        sa.CheckConstraint("price >= 0", name="combos_price_range_check"),
        # As many as there are different dish categories among them: no duplicates, no other categories.
        sa.CheckConstraint(
            "cardinality(categories) > 0 AND cardinality(categories) = "
            + " + ".join(f"coalesce(('{category.value}' = ANY (categories))::int, 0)" for category in DISH_CATEGORIES),
            name="combos_categories_check",
        ),
        sa.Index("combos_cafe_id_idx", "cafe_id", "id"),
    )

    id: int = identity()

    def is_filled_by(self, dishes: Sequence[MenuItem]) -> bool:
        """Whether there is exactly one dish for each category, and nothing else."""
        return sorted(dish.category for dish in dishes) == sorted(self.categories)

    def deactivate(self) -> None:
        """Make this unavailable."""
        self.is_available = False
