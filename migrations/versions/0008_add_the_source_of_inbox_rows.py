"""Add the source of events to the inbox. Existing rows have none. The new column does not rewrite the table."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("source", sa.String(), nullable=True))


def downgrade() -> None:
    op.drop_column("inbox", "source")
