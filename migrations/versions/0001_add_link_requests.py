"""Add cafes, users, link requests, notifications and the event log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cafes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("description", sa.String(), server_default="", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("tg_chat_id", sa.BigInteger(), nullable=True),
        sa.Column("tg_username", sa.String(length=255), nullable=True),
        sa.Column("notifications_enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("linked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("timezone", sa.String(length=64), server_default="UTC", nullable=False),
        sa.Column(
            "language",
            sa.Enum("en", "ru", name="cafes_language_check", native_enum=False, create_constraint=True, length=32),
            server_default="en",
            nullable=False,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("(tg_chat_id IS NULL) = (linked_at IS NULL)", name="cafes_linked_check"),
        sa.PrimaryKeyConstraint("id", name=op.f("cafes_pkey")),
        sa.UniqueConstraint("tg_chat_id", name=op.f("cafes_tg_chat_id_key")),
    )
    op.create_index("cafes_name_idx", "cafes", ["name", "id"], unique=False)
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("original_id", sa.BigInteger(), nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("deliveries_count", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("failure_reason", sa.String(length=64), nullable=False),
        sa.Column("last_exception", sa.String(), nullable=True),
        sa.Column("timer_id", sa.String(length=255), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("dead_letters_pkey")),
    )
    op.create_index("dead_letters_queue_failed_idx", "dead_letters", ["queue", "failed_at"], unique=False)
    op.create_table(
        "inbox",
        sa.Column("consumer", sa.String(length=64), nullable=False),
        sa.Column("event_id", sa.String(length=255), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "event_id", name=op.f("inbox_pkey")),
    )
    op.create_index("inbox_received_at_idx", "inbox", ["received_at"], unique=False)
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), autoincrement=True, nullable=False),
        sa.Column("queue", sa.String(length=255), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("attempts_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("deliveries_count", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "next_attempt_at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False
        ),
        sa.Column("first_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acquired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acquired_token", sa.Uuid(), nullable=True),
        sa.Column("timer_id", sa.String(length=255), nullable=True),
        sa.CheckConstraint("(acquired_token IS NULL) = (acquired_at IS NULL)", name="outbox_lease_ck"),
        sa.PrimaryKeyConstraint("id", name=op.f("outbox_pkey")),
    )
    op.create_index(
        "outbox_leased_idx",
        "outbox",
        ["queue", "next_attempt_at", "id"],
        unique=False,
        postgresql_where=sa.text("acquired_token IS NOT NULL"),
    )
    op.create_index(
        "outbox_pending_idx",
        "outbox",
        ["queue", "next_attempt_at", "id"],
        unique=False,
        postgresql_where=sa.text("acquired_token IS NULL"),
    )
    op.create_index(
        "outbox_timer_id_uq",
        "outbox",
        ["queue", "timer_id"],
        unique=True,
        postgresql_where=sa.text("timer_id IS NOT NULL"),
    )
    op.create_table(
        "users",
        sa.Column("tgid", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column(
            "role",
            sa.Enum("user", "manager", name="users_role_check", native_enum=False, create_constraint=True, length=32),
            server_default="user",
            nullable=False,
        ),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("tgid", name=op.f("users_pkey")),
    )
    op.create_table(
        "cafe_link_requests",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("cafe_id", sa.BigInteger(), nullable=False),
        sa.Column("tg_chat_id", sa.BigInteger(), nullable=False),
        sa.Column("tg_username", sa.String(length=255), nullable=True),
        sa.Column(
            "status",
            sa.Enum(
                "pending",
                "approved",
                "rejected",
                name="cafe_link_requests_status_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="pending",
            nullable=False,
        ),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("processed_by", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(status = 'pending') = (processed_at IS NULL)", name="cafe_link_requests_processed_check"),
        sa.ForeignKeyConstraint(["cafe_id"], ["cafes.id"], name=op.f("cafe_link_requests_cafe_id_fkey")),
        sa.ForeignKeyConstraint(
            ["processed_by"], ["users.tgid"], name=op.f("cafe_link_requests_processed_by_fkey"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("cafe_link_requests_pkey")),
    )
    op.create_index(
        "cafe_link_requests_cafe_id_created_at_idx", "cafe_link_requests", ["cafe_id", "created_at", "id"], unique=False
    )
    op.create_index("cafe_link_requests_created_at_idx", "cafe_link_requests", ["created_at", "id"], unique=False)
    op.create_index(
        "cafe_link_requests_pending_key",
        "cafe_link_requests",
        ["cafe_id", "tg_chat_id"],
        unique=True,
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.create_index(
        "cafe_link_requests_status_created_at_idx", "cafe_link_requests", ["status", "created_at", "id"], unique=False
    )
    op.create_table(
        "notifications",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("cafe_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "link_approved",
                "link_rejected",
                "unlinked",
                name="notifications_kind_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            nullable=False,
        ),
        sa.Column("date", sa.Date(), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("tg_chat_id", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "queued",
                "sending",
                "sent",
                "failed",
                name="notifications_status_check",
                native_enum=False,
                create_constraint=True,
                length=32,
            ),
            server_default="queued",
            nullable=False,
        ),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tg_message_ids", postgresql.ARRAY(sa.BigInteger()), server_default="{}", nullable=False),
        sa.Column("error", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["cafe_id"], ["cafes.id"], name=op.f("notifications_cafe_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("notifications_pkey")),
        sa.UniqueConstraint(
            "cafe_id", "date", "kind", "version", name=op.f("notifications_cafe_id_date_kind_version_key")
        ),
    )
    op.create_index(
        "notifications_cafe_id_created_at_idx", "notifications", ["cafe_id", "created_at", "id"], unique=False
    )
    op.create_index(
        "notifications_status_created_at_idx", "notifications", ["status", "created_at", "id"], unique=False
    )


def downgrade() -> None:
    op.drop_index("notifications_status_created_at_idx", table_name="notifications")
    op.drop_index("notifications_cafe_id_created_at_idx", table_name="notifications")
    op.drop_table("notifications")
    op.drop_index("cafe_link_requests_status_created_at_idx", table_name="cafe_link_requests")
    op.drop_index(
        "cafe_link_requests_pending_key",
        table_name="cafe_link_requests",
        postgresql_where=sa.text("status = 'pending'"),
    )
    op.drop_index("cafe_link_requests_created_at_idx", table_name="cafe_link_requests")
    op.drop_index("cafe_link_requests_cafe_id_created_at_idx", table_name="cafe_link_requests")
    op.drop_table("cafe_link_requests")
    op.drop_table("users")
    op.drop_index("outbox_timer_id_uq", table_name="outbox", postgresql_where=sa.text("timer_id IS NOT NULL"))
    op.drop_index("outbox_pending_idx", table_name="outbox", postgresql_where=sa.text("acquired_token IS NULL"))
    op.drop_index("outbox_leased_idx", table_name="outbox", postgresql_where=sa.text("acquired_token IS NOT NULL"))
    op.drop_table("outbox")
    op.drop_index("inbox_received_at_idx", table_name="inbox")
    op.drop_table("inbox")
    op.drop_index("dead_letters_queue_failed_idx", table_name="dead_letters")
    op.drop_table("dead_letters")
    op.drop_index("cafes_name_idx", table_name="cafes")
    op.drop_table("cafes")
