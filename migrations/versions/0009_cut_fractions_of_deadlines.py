"""Cut the fractions of a second in deadlines: `10.30` was read as 10:00:00.3, and the API does not take it back."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "UPDATE deadlines SET deadline_time = CAST(date_trunc('second', CAST(deadline_time AS interval)) AS time) "
        "WHERE extract(microseconds FROM deadline_time)::int % 1000000 <> 0"
    )


def downgrade() -> None:
    """The fractions were never meant: they stay away."""
