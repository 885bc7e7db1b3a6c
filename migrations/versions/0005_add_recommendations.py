"""Add recommendation runs and items, the ledger of Gemini requests, and users' languages."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gemini_usage",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("requests", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", "scope", name=op.f("gemini_usage_pkey")),
    )
    op.create_table(
        "recommendation_runs",
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "running",
                "paused",
                "finished",
                name="recommendation_runs_status_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="running",
            nullable=False,
        ),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("keys_suffice_for", sa.Integer(), nullable=False),
        sa.Column("started_by", sa.BigInteger(), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("paused_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "pause_reason",
            sa.Enum(
                "keys_resting",
                "keys_set_aside",
                "gemini_away",
                name="recommendation_runs_pause_reason_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=True,
        ),
        sa.Column("pauses", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("date", name=op.f("recommendation_runs_pkey")),
    )
    op.create_index(
        "recommendation_runs_unfinished_idx",
        "recommendation_runs",
        ["date"],
        unique=False,
        postgresql_where=sa.text("status <> 'finished'"),
    )
    op.create_table(
        "recommendation_items",
        sa.Column("date", sa.Date(), nullable=False),
        sa.Column("user_tgid", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "pending",
                "done",
                "failed",
                name="recommendation_items_status_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="pending",
            nullable=False,
        ),
        sa.Column("attempts", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("recommendation", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("told_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["date"], ["recommendation_runs.date"], name=op.f("recommendation_items_date_fkey"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_tgid"], ["users.tgid"], name=op.f("recommendation_items_user_tgid_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("date", "user_tgid", name=op.f("recommendation_items_pkey")),
    )
    op.create_index(
        "recommendation_items_pending_idx",
        "recommendation_items",
        ["date", "attempts", "position"],
        unique=False,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "recommendation_items_untold_idx",
        "recommendation_items",
        ["date", "position"],
        unique=False,
        postgresql_where=sa.text("status = 'done' AND told_at IS NULL"),
    )
    op.create_index("recommendation_items_date_status_idx", "recommendation_items", ["date", "status"], unique=False)
    op.create_index(
        "recommendation_items_user_tgid_idx", "recommendation_items", ["user_tgid", "done_at"], unique=False
    )
    op.add_column(
        "users",
        sa.Column(
            "language",
            sa.Enum("en", "ru", name="users_language_check", native_enum=False, create_constraint=True, length=32),
            server_default="en",
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_column("users", "language")
    op.drop_index("recommendation_items_user_tgid_idx", table_name="recommendation_items")
    op.drop_index(
        "recommendation_items_pending_idx",
        table_name="recommendation_items",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_index(
        "recommendation_items_untold_idx",
        table_name="recommendation_items",
        postgresql_where=sa.text("status = 'done' AND told_at IS NULL"),
    )
    op.drop_index("recommendation_items_date_status_idx", table_name="recommendation_items")
    op.drop_table("recommendation_items")
    op.drop_index(
        "recommendation_runs_unfinished_idx",
        table_name="recommendation_runs",
        postgresql_where=sa.text("status <> 'finished'"),
    )
    op.drop_table("recommendation_runs")
    op.drop_table("gemini_usage")
