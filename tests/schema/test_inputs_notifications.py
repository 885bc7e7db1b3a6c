"""Both APIs refuse wrong calls about notifications and announcements, without a change."""

from datetime import UTC, date, datetime, timedelta

import pytest

from app.clients import Clients
from app.models import Notification, NotificationKind, NotificationStatus
from app.resolvers.notifications import NEWEST_FIRST
from tests.apis import CHAT, ApiClient, rows
from tests.conftest import add_cafe
from tests.schema.refusals import (
    ANOTHER_ID,
    BAD_DATES,
    BAD_IDS,
    BAD_PAGE_SIZES,
    BAD_SKIPS,
    Refused,
    bad,
    conflict,
    cursor,
    expected,
    not_found,
    operations,
    outcomes,
)

OPEN: date = datetime.now(UTC).date() + timedelta(days=4)

LIST = NEWEST_FIRST.name

BAD_CURSORS = (
    "",
    "x",
    cursor("2026-01-01T00:00:00Z", 1),
    cursor("2026-01-01", 1, of="orders"),
    cursor("2026-01-01T00:00:00", 1, of=LIST),
    cursor("2026-01-01T00:00:00Z", "1", of=LIST),
    cursor("2026-01-01T00:00:00Z", 2**63, of=LIST),
    cursor("2026-01-01T00:00:00Z", of=LIST),
    cursor("2026-01-01T00:00:00Z", 1, 1, of=LIST),
    cursor("0001-01-01T00:00:00+14:00", 1, of=LIST),
    cursor("x", 1, of=LIST),
    cursor(None, 1, of=LIST),
)
"""The third cursor belongs to link requests, which have the same sort order."""

OF_A_DAY = ("announce_deadline", "notification_preview")

REFUSALS = (
    *(bad(operation, "cafe_id", value, date=OPEN) for operation in OF_A_DAY for value in BAD_IDS),
    *(bad(operation, "date", value, cafe_id=1) for operation in OF_A_DAY for value in BAD_DATES if value != ""),
    *(not_found(operation, "cafe", cafe_id=ANOTHER_ID, date=OPEN) for operation in OF_A_DAY),
    *(bad("notifications", "cafe_id", value) for value in ("x", 0, "", "9" * 5000)),
    *(bad("notifications", "date", value) for value in BAD_DATES),
    *(bad("notifications", "status", value) for value in ("nonsense", "", "sent ", "sent,failed", 5)),
    *(bad("notifications", "first", value) for value in BAD_PAGE_SIZES),
    *(bad("notifications", "skip", value) for value in BAD_SKIPS),
    *(bad("notifications", "after", value) for value in BAD_CURSORS),
    *(bad("retry_notification", "id", value) for value in (*BAD_IDS, 1)),
    not_found("retry_notification", "notification", id=ANOTHER_ID),
    conflict("CAFE_NOT_LINKED", "retry_notification", id=2),
    Refused("notifications", {"date": "x", "status": "nonsense"}, fields=("date", "status")),
)


@pytest.fixture
async def world(clients: Clients, announced: Notification) -> None:
    """Message 1 is queued; message 2 has failed, and its cafe, 2, is unlinked."""
    other = await add_cafe(clients, "Green Fork")
    async with clients.db() as session:
        session.add(
            Notification(
                cafe_id=other.id,
                kind=NotificationKind.ORDERS,
                date=OPEN,
                tg_chat_id=CHAT,
                parts=["Soup"],
                status=NotificationStatus.FAILED,
            )
        )


@pytest.mark.parametrize("operation", operations(REFUSALS))
async def test_wrong_calls_are_refused(
    manager_client: ApiClient, clients: Clients, world: None, operation: str
) -> None:
    """Each wrong call gets its code and its wrong fields, and changes nothing."""
    wrong = [refused for refused in REFUSALS if refused.operation == operation]
    before = await rows(clients)

    assert await outcomes(manager_client, wrong) == expected(wrong)
    assert await rows(clients) == before


async def test_a_cursor_of_link_requests_does_not_fit_messages(
    manager_client: ApiClient, announced: Notification
) -> None:
    """A cursor belongs to one list, even if another list has the same order."""
    place = (await manager_client("notifications")).data["page_info"]["end_cursor"]

    answers = [
        await manager_client("link_requests", after=place),
        await manager_client("notifications", after=cursor("2100-01-01T00:00:00Z", 1)),
    ]

    assert [(answer.code, answer.fields) for answer in answers] == [("BAD_INPUT", ("after",))] * 2


async def test_the_largest_page_has_100_messages(manager_client: ApiClient) -> None:
    """A page size of 100 is accepted."""
    assert (await manager_client("notifications", first=100)).code is None
