"""What is wrong with recommendations, runs and keys is refused at both doors, and changes nothing."""

from datetime import UTC, date, datetime

import pytest

from app.clients import Clients
from app.models import RecommendationRun
from app.resolvers.gemini_keys import BY_TURN
from app.settings import Settings
from tests.doors import GEMINI_KEYS, Door, rows
from tests.schema.refusals import (
    ANOTHER_ID,
    NO_DATES,
    NO_PAGE_SIZES,
    NO_SKIPS,
    Refused,
    bad,
    cursor,
    expected,
    not_found,
    operations,
    outcomes,
)

RUN_DATE = date(2026, 3, 4)

LIST = BY_TURN.name

NO_PEOPLE: tuple[object, ...] = ("x", 0, 2**52, -(2**52), 2**63, 1.5, "1e3", " 1", "１", "9" * 5000, True, None)

NO_CURSORS = (
    "",
    "x",
    "not base64!",
    cursor(of=LIST),
    cursor("0", of=LIST),
    cursor(None, of=LIST),
    cursor(True, of=LIST),
    cursor(0.5, of=LIST),
    cursor([0], of=LIST),
    cursor(2**63, of=LIST),
    cursor(0, 0, of=LIST),
    cursor(0, of="cafe_menu_items"),
    cursor("2026-01-01T00:00:00Z", 1),
)

REFUSALS = (
    *(bad("recommendations", "tgid", value) for value in NO_PEOPLE),
    *(not_found("recommendations", "user", tgid, tgid=tgid) for tgid in (ANOTHER_ID, -ANOTHER_ID, 2**52 - 1)),
    *(bad("recommendation_run", "date", value) for value in (*NO_DATES, "2026-03-04T03:00:00Z", None) if value != ""),
    *(
        Refused("recommendation_run", {"date": day}, "NOT_FOUND", details={"resource": "recommendation_run", "id": day})
        for day in ("2026-03-03", "2026-03-05", "2000-01-01", "2099-12-31")
    ),
    *(bad("gemini_keys", "first", value) for value in NO_PAGE_SIZES),
    *(bad("gemini_keys", "skip", value) for value in NO_SKIPS),
    *(bad("gemini_keys", "after", value) for value in NO_CURSORS),
    Refused("gemini_keys", {"first": "x", "skip": "x"}, fields=("first", "skip")),
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"gemini_api_keys": GEMINI_KEYS})


@pytest.fixture
async def world(clients: Clients, people: None) -> None:
    """There is one run."""
    async with clients.db() as session:
        session.add(RecommendationRun(date=RUN_DATE, keys_suffice_for=1, started_at=datetime.now(UTC)))


@pytest.mark.parametrize("operation", operations(REFUSALS))
async def test_what_is_wrong_is_refused_and_changes_nothing(
    manager_door: Door, clients: Clients, world: None, operation: str
) -> None:
    """Each wrong call has its code, names what is wrong, and leaves the database as it was."""
    wrong = [refused for refused in REFUSALS if refused.operation == operation]
    before = await rows(clients)

    assert await outcomes(manager_door, wrong) == expected(wrong)
    assert await rows(clients) == before


async def test_what_is_wrong_with_a_persons_id_is_told_to_users_too(user_door: Door) -> None:
    """It is nobody's, so nothing is given away."""
    wrong = [bad("recommendations", "tgid", value) for value in NO_PEOPLE]

    assert await outcomes(user_door, wrong) == expected(wrong)


async def test_a_cursor_behind_all_keys_leaves_none(manager_door: Door) -> None:
    """A key may have been taken out of the settings meanwhile."""
    answer = await manager_door("gemini_keys", after=cursor(ANOTHER_ID, of=LIST))

    assert (answer.data["items"], answer.data["total"]) == ([], len(GEMINI_KEYS))


async def test_the_largest_page_has_100_keys(manager_door: Door) -> None:
    """100 is not too many."""
    assert (await manager_door("gemini_keys", first=100)).code is None
