"""Index the waiting notifications of each chat."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "notifications_waiting_idx",
        "notifications",
        ["tg_chat_id", "id"],
        postgresql_where=sa.text("status IN ('queued', 'sending')"),
    )


def downgrade() -> None:
    op.drop_index("notifications_waiting_idx", table_name="notifications")
