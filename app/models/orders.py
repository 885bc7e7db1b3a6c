"""Orders: a combo with its dishes, extras and notes."""

import datetime as dt
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated

import sqlalchemy as sa
from pydantic import AfterValidator
from sqlmodel import Field, Relationship, SQLModel

from app.models.cafes import Cafe
from app.models.columns import RowId, enum_column, identity, instant, money
from app.models.menus import DISH_CATEGORIES, Combo, MenuCategory, MenuItem
from app.models.users import User
from app.validation import NAME_MAX_CHARACTERS, Id, Input, optional, range_rule, text_rule

QUANTITY_MAX = 20
EXTRAS_MAX = 50

NOTES_MAX_CHARACTERS = 500
"""All notes of a day share a Telegram message of 4,096 characters."""


class OrderStatus(StrEnum):
    """Pending until the day is announced to the cafe, then confirmed; or cancelled."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"


class ExtraInput(Input):
    """A quantity of an extra."""

    menu_item_id: Id
    quantity: Annotated[int, range_rule(1, QUANTITY_MAX)] = 1


def _validate_dishes(dish_ids: Sequence[int]) -> Sequence[int]:
    if len(dish_ids) > len(DISH_CATEGORIES):
        raise ValueError(f"at most {len(DISH_CATEGORIES)} are allowed, one of each category")
    return dish_ids


def _validate_extras(extras: Sequence[ExtraInput]) -> Sequence[ExtraInput]:
    if len(extras) > EXTRAS_MAX:
        raise ValueError(f"at most {EXTRAS_MAX} different ones are allowed")
    if len({extra.menu_item_id for extra in extras}) < len(extras):
        raise ValueError("each extra may be there once, with its quantity")
    return extras


class OrderChanges(Input):
    """A user's changes of an order."""

    combo_id: int = optional()
    dish_ids: Annotated[Sequence[int], AfterValidator(_validate_dishes)] = optional()
    extras: Annotated[Sequence[ExtraInput], AfterValidator(_validate_extras)] = optional()
    notes: Annotated[str, text_rule(NOTES_MAX_CHARACTERS), AfterValidator(str.strip)] = optional()


class OrderInput(OrderChanges):
    """A new order."""

    combo_id: int
    dish_ids: Annotated[Sequence[int], AfterValidator(_validate_dishes)]


class OrderItem(SQLModel, table=True):
    """A dish or an extra of an order, with its name, category and price at that time."""

    __tablename__ = "order_items"
    __table_args__ = (
        # No query needs the included columns. They stay, because a new primary key would lock the table.
        sa.PrimaryKeyConstraint("order_id", "menu_item_id", postgresql_include=["category", "quantity"]),
        sa.CheckConstraint("(category = 'extra') = (price IS NOT NULL)", name="order_items_price_check"),
        sa.CheckConstraint(
            f"quantity BETWEEN 1 AND CASE category WHEN 'extra' THEN {QUANTITY_MAX} ELSE 1 END",
            name="order_items_quantity_check",
        ),
        sa.Index(
            "order_items_dish_key",
            "order_id",
            "category",
            unique=True,
            postgresql_where=sa.text("category <> 'extra'"),
        ),
        sa.Index("order_items_menu_item_id_idx", "menu_item_id"),
    )

    order_id: int = Field(
        default=None, sa_type=sa.BigInteger, foreign_key="orders.id", ondelete="CASCADE", primary_key=True
    )
    menu_item_id: int = Field(sa_type=sa.BigInteger, foreign_key="menu_items.id", primary_key=True)
    name: str = Field(max_length=NAME_MAX_CHARACTERS)
    category: MenuCategory = Field(sa_column=enum_column(MenuCategory, "order_items_category_check"))
    price: Decimal | None = money(nullable=True)
    quantity: int = Field(default=1, sa_type=sa.SmallInteger, sa_column_kwargs={"server_default": "1"})

    @classmethod
    def of(cls, item: MenuItem, quantity: int = 1) -> "OrderItem":
        return cls(menu_item_id=item.id, name=item.name, category=item.category, price=item.price, quantity=quantity)

    @property
    def is_extra(self) -> bool:
        return self.category is MenuCategory.EXTRA

    @property
    def amount(self) -> Decimal:
        """The cost beside the combo: zero for a dish."""
        return Decimal(0) if self.price is None else self.price * self.quantity


@dataclass(frozen=True)
class OrderedCombo:
    """The combo of an order, with its name and price at that time."""

    id: int
    name: str
    price: Decimal


class OrderFields(SQLModel):
    """The public fields of an order."""

    cafe_id: RowId = Field(default=None, sa_type=sa.BigInteger, foreign_key="cafes.id")
    date: dt.date = Field(description="The delivery date.")
    status: OrderStatus = Field(
        default=OrderStatus.PENDING, sa_column=enum_column(OrderStatus, "orders_status_check", OrderStatus.PENDING)
    )
    notes: str = Field(default="", sa_column_kwargs={"server_default": ""})
    total_price: Decimal = money(digits=14)
    created_at: dt.datetime = instant(default_now=True)
    updated_at: dt.datetime = instant(default_now=True)


class Order(OrderFields, table=True):
    """A user's order for one day from one cafe.

    At most one order for a user, cafe and date is not cancelled: the partial unique index decides between two that are
    placed at the same time.
    """

    __tablename__ = "orders"
    __table_args__ = (
        sa.Index(
            "orders_active_key",
            "user_tgid",
            "cafe_id",
            "date",
            unique=True,
            postgresql_where=sa.text("status <> 'cancelled'"),
        ),
        sa.Index("orders_date_idx", "date", "id"),
        # Statistics leave cancelled orders out.
        sa.Index("orders_user_tgid_date_idx", "user_tgid", "date", "id", postgresql_include=["status"]),
        sa.Index("orders_cafe_id_date_idx", "cafe_id", "date", "id"),
        sa.Index("orders_combo_id_idx", "combo_id"),
    )

    id: int = identity()
    user_tgid: int = Field(default=None, sa_type=sa.BigInteger, foreign_key="users.tgid")
    combo_id: int = Field(default=None, sa_type=sa.BigInteger, foreign_key="combos.id")
    combo_name: str = Field(default=None, max_length=NAME_MAX_CHARACTERS)
    combo_price: Decimal = money()

    user: User = Relationship(sa_relationship_kwargs={"lazy": "raise"})
    cafe: Cafe = Relationship(sa_relationship_kwargs={"lazy": "raise"})
    items: list[OrderItem] = Relationship(
        sa_relationship_kwargs={
            "lazy": "raise",
            "cascade": "all, delete-orphan",
            "passive_deletes": True,
            "order_by": "OrderItem.menu_item_id",
        }
    )

    @property
    def tgid(self) -> int:
        return self.user_tgid

    @property
    def user_name(self) -> str:
        return self.user.name

    @property
    def cafe_name(self) -> str:
        return self.cafe.name

    @property
    def combo(self) -> OrderedCombo:
        return OrderedCombo(self.combo_id, self.combo_name, self.combo_price)

    @property
    def dishes(self) -> list[OrderItem]:
        """In the order of their categories."""
        categories = list(MenuCategory)
        dishes = [item for item in self.items if not item.is_extra]
        return sorted(dishes, key=lambda dish: categories.index(dish.category))

    @property
    def extras(self) -> list[OrderItem]:
        """In the order of the menu."""
        return sorted((item for item in self.items if item.is_extra), key=lambda item: item.menu_item_id)

    def take_combo(self, combo: Combo) -> None:
        """Order `combo` at its current price. The combo that the order already has keeps its price."""
        if self.combo_id == combo.id:
            return
        self.combo_id = combo.id
        self.combo_name = combo.name
        self.combo_price = combo.price

    def keep_items(self, menu_item_ids: Container[int]) -> None:
        """Drop all other dishes and extras.

        Flush the deletions before new items are added: the unique index on categories is checked per statement.
        """
        self.items = [item for item in self.items if item.menu_item_id in menu_item_ids]

    def take_items(self, items: Iterable[tuple[MenuItem, int]]) -> None:
        """Order these dishes and extras, with their quantities. Items that the order already has keep their price."""
        present = {item.menu_item_id: item for item in self.items}
        for item, quantity in items:
            if item.id in present:
                present[item.id].quantity = quantity
            else:
                self.items.append(OrderItem.of(item, quantity))

    def update_total(self) -> None:
        """Compute the total price from the combo and the items."""
        self.total_price = self.combo_price + sum((item.amount for item in self.items), Decimal(0))
