"""What a cafe offers: dishes and extras, and the combos that dishes are ordered in."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import Field, SQLModel

from app.models.tables import NAME_MAX_CHARACTERS, enum_column, enum_type, identity, instant, money

PRICE_MAX = Decimal("99999999.99")
"""What NUMERIC(10, 2) keeps: enough for a lunch in any currency."""


class MenuCategory(StrEnum):
    """What a menu item is. An extra has a price of its own; a dish is paid with the combo that it belongs to."""

    SOUP = "soup"
    SALAD = "salad"
    MAIN = "main"
    EXTRA = "extra"


DISH_CATEGORIES = (MenuCategory.SOUP, MenuCategory.SALAD, MenuCategory.MAIN)
"""The categories that a combo may need, in the order in which they are eaten."""


class MenuItem(SQLModel, table=True):
    """A dish, or an extra. It has a price exactly if it is an extra."""

    __tablename__ = "menu_items"
    __table_args__ = (
        sa.CheckConstraint("(category = 'extra') = (price IS NOT NULL)", name="menu_items_price_check"),
        sa.CheckConstraint("price >= 0", name="menu_items_price_range_check"),
        sa.Index("menu_items_cafe_id_idx", "cafe_id", "id"),
    )

    id: int = identity()
    cafe_id: int = Field(sa_type=sa.BigInteger, foreign_key="cafes.id", ondelete="CASCADE")
    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    description: str = Field(default="", sa_column_kwargs={"server_default": ""})
    category: MenuCategory = Field(sa_column=enum_column(MenuCategory, "menu_items_category_check"))
    price: Decimal | None = money(nullable=True)
    is_available: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    created_at: datetime = instant(default_now=True)

    @property
    def is_extra(self) -> bool:
        return self.category is MenuCategory.EXTRA

    def switch_off(self) -> None:
        """Have this ordered no more."""
        self.is_available = False


class Combo(SQLModel, table=True):
    """One dish of each of its categories, for one price."""

    __tablename__ = "combos"
    __table_args__ = (
        sa.CheckConstraint("price >= 0", name="combos_price_range_check"),
        # As many as there are different dish categories among them: none twice, none of another kind.
        sa.CheckConstraint(
            "cardinality(categories) > 0 AND cardinality(categories) = "
            + " + ".join(f"coalesce(('{category.value}' = ANY (categories))::int, 0)" for category in DISH_CATEGORIES),
            name="combos_categories_check",
        ),
        sa.Index("combos_cafe_id_idx", "cafe_id", "id"),
    )

    id: int = identity()
    cafe_id: int = Field(sa_type=sa.BigInteger, foreign_key="cafes.id", ondelete="CASCADE")
    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    description: str = Field(default="", sa_column_kwargs={"server_default": ""})
    categories: list[MenuCategory] = Field(sa_column=sa.Column(ARRAY(enum_type(MenuCategory)), nullable=False))
    price: Decimal = money()
    is_available: bool = Field(default=True, sa_column_kwargs={"server_default": sa.true()})
    created_at: datetime = instant(default_now=True)

    def is_filled_by(self, dishes: Sequence[MenuItem]) -> bool:
        """Say whether there is exactly one dish for each category, and nothing else."""
        return sorted(dish.category for dish in dishes) == sorted(self.categories)

    def switch_off(self) -> None:
        """Have this ordered no more."""
        self.is_available = False
