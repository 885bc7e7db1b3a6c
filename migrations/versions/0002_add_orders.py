"""Add menus, deadlines and orders."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "combos",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("cafe_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column(
            "categories",
            postgresql.ARRAY(sa.Enum("soup", "salad", "main", "extra", native_enum=False, length=32)),
            nullable=False,
        ),
        sa.Column("price", sa.Numeric(precision=10, scale=2), nullable=False),
        sa.Column("is_available", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "cardinality(categories) > 0 AND cardinality(categories) = coalesce(('soup' = ANY (categories))::int, 0) + coalesce(('salad' = ANY (categories))::int, 0) + coalesce(('main' = ANY (categories))::int, 0)",
            name="combos_categories_check",
        ),
        sa.CheckConstraint("price >= 0", name="combos_price_range_check"),
        sa.ForeignKeyConstraint(["cafe_id"], ["cafes.id"], name=op.f("combos_cafe_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("combos_pkey")),
    )
    op.create_index("combos_cafe_id_idx", "combos", ["cafe_id", "id"], unique=False)
    op.create_table(
        "deadlines",
        sa.Column("cafe_id", sa.BigInteger(), nullable=False),
        sa.Column("weekday", sa.SmallInteger(), nullable=False),
        sa.Column("deadline_time", sa.Time(), nullable=False),
        sa.Column("is_enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("advance_days", sa.SmallInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("advance_days BETWEEN 0 AND 14", name="deadlines_advance_days_check"),
        sa.CheckConstraint("weekday BETWEEN 0 AND 6", name="deadlines_weekday_check"),
        sa.ForeignKeyConstraint(["cafe_id"], ["cafes.id"], name=op.f("deadlines_cafe_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cafe_id", "weekday", name=op.f("deadlines_pkey")),
    )
    op.create_table(
        "delivery_days",
        sa.Column("cafe_id", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("announced_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["cafe_id"], ["cafes.id"], name=op.f("delivery_days_cafe_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("cafe_id", "date", name=op.f("delivery_days_pkey")),
    )
    op.create_table(
        "menu_items",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("cafe_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column(
            "category",
            sa.Enum(
                "soup",
                "salad",
                "main",
                "extra",
                name="menu_items_category_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("price", sa.Numeric(precision=10, scale=2), nullable=True),
        sa.Column("is_available", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(category = 'extra') = (price IS NOT NULL)", name="menu_items_price_check"),
        sa.CheckConstraint("price >= 0", name="menu_items_price_range_check"),
        sa.ForeignKeyConstraint(["cafe_id"], ["cafes.id"], name=op.f("menu_items_cafe_id_fkey"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("menu_items_pkey")),
    )
    op.create_index("menu_items_cafe_id_idx", "menu_items", ["cafe_id", "id"], unique=False)
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("user_tgid", sa.BigInteger(), nullable=False),
        sa.Column("cafe_id", sa.BigInteger(), nullable=False),
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "pending",
                "confirmed",
                "cancelled",
                name="orders_status_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="pending",
            nullable=False,
        ),
        sa.Column("combo_id", sa.BigInteger(), nullable=False),
        sa.Column("combo_name", sa.String(length=255), nullable=False),
        sa.Column("combo_price", sa.Numeric(precision=10, scale=2), nullable=False),
        sa.Column("notes", sa.String(), server_default="", nullable=False),
        sa.Column("total_price", sa.Numeric(precision=14, scale=2), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["cafe_id"], ["cafes.id"], name=op.f("orders_cafe_id_fkey")),
        sa.ForeignKeyConstraint(["combo_id"], ["combos.id"], name=op.f("orders_combo_id_fkey")),
        sa.ForeignKeyConstraint(["user_tgid"], ["users.tgid"], name=op.f("orders_user_tgid_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("orders_pkey")),
    )
    op.create_index(
        "orders_active_key",
        "orders",
        ["user_tgid", "cafe_id", "date"],
        unique=True,
        postgresql_where=sa.text("status <> 'cancelled'"),
    )
    op.create_index("orders_cafe_id_date_idx", "orders", ["cafe_id", "date", "id"], unique=False)
    op.create_index("orders_combo_id_idx", "orders", ["combo_id"], unique=False)
    op.create_index("orders_date_idx", "orders", ["date", "id"], unique=False)
    op.create_index("orders_user_tgid_date_idx", "orders", ["user_tgid", "date", "id"], unique=False)
    op.create_table(
        "order_items",
        sa.Column("order_id", sa.BigInteger(), nullable=False),
        sa.Column("menu_item_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column(
            "category",
            sa.Enum(
                "soup",
                "salad",
                "main",
                "extra",
                name="order_items_category_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("price", sa.Numeric(precision=10, scale=2), nullable=True),
        sa.Column("quantity", sa.SmallInteger(), server_default="1", nullable=False),
        sa.CheckConstraint("(category = 'extra') = (price IS NOT NULL)", name="order_items_price_check"),
        sa.CheckConstraint(
            "quantity BETWEEN 1 AND CASE category WHEN 'extra' THEN 20 ELSE 1 END", name="order_items_quantity_check"
        ),
        sa.ForeignKeyConstraint(["menu_item_id"], ["menu_items.id"], name=op.f("order_items_menu_item_id_fkey")),
        sa.ForeignKeyConstraint(
            ["order_id"], ["orders.id"], name=op.f("order_items_order_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("order_id", "menu_item_id", name=op.f("order_items_pkey")),
    )
    op.create_index(
        "order_items_dish_key",
        "order_items",
        ["order_id", "category"],
        unique=True,
        postgresql_where=sa.text("category <> 'extra'"),
    )
    op.create_index("order_items_menu_item_id_idx", "order_items", ["menu_item_id"], unique=False)


def downgrade() -> None:
    op.drop_index("order_items_menu_item_id_idx", table_name="order_items")
    op.drop_index("order_items_dish_key", table_name="order_items", postgresql_where=sa.text("category <> 'extra'"))
    op.drop_table("order_items")
    op.drop_index("orders_user_tgid_date_idx", table_name="orders")
    op.drop_index("orders_date_idx", table_name="orders")
    op.drop_index("orders_combo_id_idx", table_name="orders")
    op.drop_index("orders_cafe_id_date_idx", table_name="orders")
    op.drop_index("orders_active_key", table_name="orders", postgresql_where=sa.text("status <> 'cancelled'"))
    op.drop_table("orders")
    op.drop_index("menu_items_cafe_id_idx", table_name="menu_items")
    op.drop_table("menu_items")
    op.drop_table("delivery_days")
    op.drop_table("deadlines")
    op.drop_index("combos_cafe_id_idx", table_name="combos")
    op.drop_table("combos")
