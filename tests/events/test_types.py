"""The types of events: which fields a message must have."""

import pytest
from pydantic import ValidationError

from app.events.types import (
    EVENTS,
    CafeSnapshot,
    CafeUnlinked,
    Event,
    LinkRequestApproved,
    LinkRequestCreated,
    LinkRequestRejected,
)

MAY_BE_MISSING: dict[type[Event], set[str]] = {
    LinkRequestCreated: {"tg_thread_id"},
    LinkRequestApproved: {"tg_thread_id"},
    LinkRequestRejected: {"tg_thread_id"},
    CafeUnlinked: {"reason", "former_tg_thread_id"},
}
"""Older events do not have these fields."""


@pytest.mark.parametrize("event", [*EVENTS, CafeSnapshot], ids=lambda event: event.__name__)
def test_a_message_has_every_field(event: type[Event]) -> None:
    """The default of a new row is not read into an event that lacks the field: such a message is unreadable."""
    with pytest.raises(ValidationError) as raised:
        event.model_validate({})

    missing = {error["loc"][0] for error in raised.value.errors() if error["type"] == "missing"}
    assert missing == set(event.model_fields) - MAY_BE_MISSING.get(event, set())
