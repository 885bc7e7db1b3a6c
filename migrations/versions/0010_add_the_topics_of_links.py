"""Add the forum topics of links, and of the notifications that go there."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = ("cafe_link_requests", "cafes", "notifications")
"""A nullable column without a default changes no row, so each lock is short."""


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("tg_thread_id", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for table in reversed(TABLES):
        op.drop_column(table, "tg_thread_id")
