"""The table of the kinds of notifications, beside the database."""

import re

import sqlalchemy as sa

from app.models import NotificationKind, metadata
from app.services.notification_kinds import ACKNOWLEDGED_KINDS, KINDS


def test_every_kind_has_rules() -> None:
    """The table has each kind that the database accepts."""
    assert set(KINDS) == set(NotificationKind)


def test_the_index_has_the_acknowledged_kinds() -> None:
    """The index for reminders has the kinds that a cafe must acknowledge, and no others."""
    indexes: dict[str, sa.Index] = {str(index.name): index for index in metadata.tables["notifications"].indexes}
    condition = indexes["notifications_unacknowledged_idx"].dialect_options["postgresql"]["where"]

    assert set(re.findall(r"'(\w+)'", str(condition))) == set(ACKNOWLEDGED_KINDS)
