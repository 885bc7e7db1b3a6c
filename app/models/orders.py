"""Orders: a combo with its dishes, and extras."""

import datetime as dt
from collections.abc import Container, Iterable
from decimal import Decimal
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field, Relationship, SQLModel

from app.models.cafes import Cafe
from app.models.menus import Combo, MenuCategory, MenuItem
from app.models.tables import NAME_MAX_CHARACTERS, enum_column, identity, instant, money
from app.models.users import User

QUANTITY_MAX = 20


class OrderStatus(StrEnum):
    """Pending until the deadline is announced to the cafe, confirmed from then on; or cancelled."""

    PENDING = "pending"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"


class OrderItem(SQLModel, table=True):
    """A dish or an extra of an order, with the name, category and price that it had then."""

    __tablename__ = "order_items"
    __table_args__ = (
        # Statistics read nothing else of an item.
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
        """What this costs beside the combo: nothing for a dish."""
        return Decimal(0) if self.price is None else self.price * self.quantity


class Order(SQLModel, table=True):
    """What a person eats on one day from one cafe.

    There is at most one that is not cancelled: the partial unique index decides when two are placed at once.
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
        # With what statistics leave out.
        sa.Index("orders_user_tgid_date_idx", "user_tgid", "date", "id", postgresql_include=["status"]),
        sa.Index("orders_cafe_id_date_idx", "cafe_id", "date", "id"),
        sa.Index("orders_combo_id_idx", "combo_id"),
    )

    id: int = identity()
    user_tgid: int = Field(default=None, sa_type=sa.BigInteger, foreign_key="users.tgid")
    cafe_id: int = Field(default=None, sa_type=sa.BigInteger, foreign_key="cafes.id")
    date: dt.date
    status: OrderStatus = Field(
        default=OrderStatus.PENDING, sa_column=enum_column(OrderStatus, "orders_status_check", OrderStatus.PENDING)
    )
    combo_id: int = Field(default=None, sa_type=sa.BigInteger, foreign_key="combos.id")
    combo_name: str = Field(default=None, max_length=NAME_MAX_CHARACTERS)
    combo_price: Decimal = money()
    notes: str = Field(default="", sa_column_kwargs={"server_default": ""})
    total_price: Decimal = money(digits=14)
    created_at: dt.datetime = instant(default_now=True)
    updated_at: dt.datetime = instant(default_now=True)

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
    def dishes(self) -> list[OrderItem]:
        """In the order of their categories."""
        categories = list(MenuCategory)
        return sorted((item for item in self.items if not item.is_extra), key=lambda it: categories.index(it.category))

    @property
    def extras(self) -> list[OrderItem]:
        """In the order of the menu, like the rows that come from the database."""
        return sorted((item for item in self.items if item.is_extra), key=lambda item: item.menu_item_id)

    def take_combo(self, combo: Combo) -> None:
        """Order `combo` at its price of now. A combo that is in the order already keeps the price that it had."""
        if self.combo_id == combo.id:
            return
        self.combo_id = combo.id
        self.combo_name = combo.name
        self.combo_price = combo.price

    def keep_items(self, menu_item_ids: Container[int]) -> None:
        """Drop all other dishes and extras. They must be gone from the database before others take their places: the
        unique index on categories looks at every statement."""
        self.items = [item for item in self.items if item.menu_item_id in menu_item_ids]

    def take_items(self, items: Iterable[tuple[MenuItem, int]]) -> None:
        """Order these dishes and extras, with their quantities. What is in the order already keeps its price."""
        there = {item.menu_item_id: item for item in self.items}
        for item, quantity in items:
            if item.id in there:
                there[item.id].quantity = quantity
            else:
                self.items.append(OrderItem.of(item, quantity))

    def sum_up(self) -> None:
        """Work the total out anew."""
        self.total_price = self.combo_price + sum((item.amount for item in self.items), Decimal(0))
