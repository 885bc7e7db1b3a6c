"""Add notifications about orders: parts, corrections, acknowledgements, chat checks."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KINDS_BEFORE = ("link_approved", "link_rejected", "unlinked")
KINDS = ("link_requested", *KINDS_BEFORE, "orders", "correction", "reminder", "alert")
UNACKNOWLEDGED = "acknowledged_at IS NULL AND kind IN ('orders', 'correction')"


def upgrade() -> None:
    op.add_column("delivery_days", sa.Column("chat_checked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("notifications", sa.Column("parts", postgresql.ARRAY(sa.Text()), nullable=True))
    op.execute("UPDATE notifications SET parts = ARRAY[text]")
    op.alter_column("notifications", "parts", nullable=False)
    op.drop_column("notifications", "text")
    op.add_column(
        "notifications",
        sa.Column("snapshot", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    )
    op.add_column("notifications", sa.Column("link_request_id", sa.BigInteger(), nullable=True))
    op.add_column(
        "notifications",
        sa.Column("queued_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.execute("UPDATE notifications SET queued_at = created_at")
    op.add_column(
        "notifications", sa.Column("is_uncertain", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("notifications", sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("notifications", sa.Column("acknowledged_by", sa.String(), nullable=True))
    op.add_column("notifications", sa.Column("reminded_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("notifications", sa.Column("escalated_at", sa.DateTime(timezone=True), nullable=True))
    _replace_kinds(KINDS)
    op.create_index("notifications_created_at_idx", "notifications", ["created_at", "id"], unique=False)
    op.create_index(
        "notifications_unacknowledged_idx",
        "notifications",
        ["sent_at"],
        unique=False,
        postgresql_where=sa.text(UNACKNOWLEDGED),
    )
    op.create_foreign_key(
        op.f("notifications_link_request_id_fkey"),
        "notifications",
        "cafe_link_requests",
        ["link_request_id"],
        ["id"],
    )


def downgrade() -> None:
    op.execute("DELETE FROM notifications WHERE kind NOT IN ('link_approved', 'link_rejected', 'unlinked')")
    op.drop_constraint(op.f("notifications_link_request_id_fkey"), "notifications", type_="foreignkey")
    op.drop_index(
        "notifications_unacknowledged_idx", table_name="notifications", postgresql_where=sa.text(UNACKNOWLEDGED)
    )
    op.drop_index("notifications_created_at_idx", table_name="notifications")
    _replace_kinds(KINDS_BEFORE)
    for column in (
        "escalated_at",
        "reminded_at",
        "acknowledged_by",
        "acknowledged_at",
        "queued_at",
        "is_uncertain",
        "link_request_id",
        "snapshot",
    ):
        op.drop_column("notifications", column)
    op.add_column("notifications", sa.Column("text", sa.String(), nullable=True))
    op.execute("UPDATE notifications SET text = array_to_string(parts, E'\\n\\n')")
    op.alter_column("notifications", "text", nullable=False)
    op.drop_column("notifications", "parts")
    op.drop_column("delivery_days", "chat_checked_at")


def _replace_kinds(kinds: tuple[str, ...]) -> None:
    op.drop_constraint("notifications_kind_check", "notifications", type_="check")
    listed = ", ".join(f"'{kind}'" for kind in kinds)
    op.create_check_constraint("notifications_kind_check", "notifications", f"kind IN ({listed})")
