"""Add the columns that statistics read to the indexes of orders."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _replace_primary_key("(order_id, menu_item_id) INCLUDE (category, quantity)")
    op.drop_index("orders_user_tgid_date_idx", table_name="orders")
    op.create_index(
        "orders_user_tgid_date_idx",
        "orders",
        ["user_tgid", "date", "id"],
        unique=False,
        postgresql_include=["status"],
    )


def downgrade() -> None:
    op.drop_index("orders_user_tgid_date_idx", table_name="orders", postgresql_include=["status"])
    op.create_index("orders_user_tgid_date_idx", "orders", ["user_tgid", "date", "id"], unique=False)
    _replace_primary_key("(order_id, menu_item_id)")


def _replace_primary_key(columns: str) -> None:
    op.execute(
        "ALTER TABLE order_items DROP CONSTRAINT order_items_pkey, "
        f"ADD CONSTRAINT order_items_pkey PRIMARY KEY {columns}"
    )
