"""Rename columns and values of recommendations, the items of order snapshots, and the fields of waiting tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = (
    ("recommendation_runs", "keys_suffice_for", "request_budget"),
    ("recommendation_runs", "pauses", "consecutive_pauses"),
    ("recommendation_items", "told_at", "notified_at"),
)
REASONS = {
    "keys_resting": "quota_exhausted",
    "keys_set_aside": "keys_disabled",
    "gemini_away": "gemini_unavailable",
}

TASKS = {"telegram": ("notification_id", "part"), "corrections": ("cafe_id", "date")}
"""Queues of the outbox, whose tasks had these fields as words, and have them as JSON now."""


def upgrade() -> None:
    for table, old, new in COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    op.execute("ALTER INDEX recommendation_items_untold_idx RENAME TO recommendation_items_unnotified_idx")
    _replace_reasons(REASONS)
    _rename_snapshot_items("things", "items")
    for queue, (first, second) in TASKS.items():
        op.execute(
            f"UPDATE outbox SET payload = convert_to(CAST(jsonb_build_object('{first}', words[1], '{second}', words[2]) "
            "AS text), 'UTF8') FROM (SELECT id AS row_id, string_to_array(convert_from(payload, 'UTF8'), ' ') AS words "
            f"FROM outbox WHERE queue = '{queue}') AS tasks WHERE id = row_id"
        )


def downgrade() -> None:
    for queue, (first, second) in TASKS.items():
        op.execute(
            f"UPDATE outbox SET payload = convert_to(concat(task ->> '{first}', ' ', task ->> '{second}'), 'UTF8') "
            "FROM (SELECT id AS row_id, CAST(convert_from(payload, 'UTF8') AS jsonb) AS task "
            f"FROM outbox WHERE queue = '{queue}') AS tasks WHERE id = row_id"
        )
    _rename_snapshot_items("items", "things")
    _replace_reasons({new: old for old, new in REASONS.items()})
    op.execute("ALTER INDEX recommendation_items_unnotified_idx RENAME TO recommendation_items_untold_idx")
    for table, old, new in COLUMNS:
        op.alter_column(table, new, new_column_name=old)


def _replace_reasons(new_reasons: dict[str, str]) -> None:
    op.drop_constraint("recommendation_runs_pause_reason_check", "recommendation_runs", type_="check")
    for old, new in new_reasons.items():
        op.execute(
            sa.text("UPDATE recommendation_runs SET pause_reason = :new WHERE pause_reason = :old").bindparams(
                old=old, new=new
            )
        )
    reasons = ", ".join(f"'{reason}'" for reason in new_reasons.values())
    op.create_check_constraint(
        "recommendation_runs_pause_reason_check", "recommendation_runs", f"pause_reason IN ({reasons})"
    )


def _rename_snapshot_items(old: str, new: str) -> None:
    """A snapshot has an object for each user, whose ordered items had another name."""
    op.execute(
        sa.text(
            "UPDATE notifications SET snapshot = (SELECT jsonb_object_agg(tgid, user_order - CAST(:old AS text) "
            "|| jsonb_build_object(CAST(:new AS text), user_order -> CAST(:old AS text))) "
            "FROM jsonb_each(snapshot) AS entries (tgid, user_order)) WHERE snapshot <> '{}'"
        ).bindparams(old=old, new=new)
    )
