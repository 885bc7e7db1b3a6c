"""Both APIs refuse wrong calls about recommendations, runs and keys, without a change."""

from datetime import UTC, date, datetime

import pytest

from app.clients import Clients
from app.models import RecommendationRun
from app.resolvers.gemini_keys import BY_POSITION
from app.settings import Settings
from tests.apis import GEMINI_KEYS, ApiClient, rows
from tests.schema.refusals import (
    ANOTHER_ID,
    BAD_DATES,
    BAD_PAGE_SIZES,
    BAD_SKIPS,
    Refused,
    bad,
    cursor,
    expected,
    not_found,
    operations,
    outcomes,
)

RUN_DATE = date(2026, 3, 4)

LIST = BY_POSITION.name

BAD_TGIDS: tuple[object, ...] = ("x", 0, 2**52, -(2**52), 2**63, 1.5, "1e3", " 1", "１", "9" * 5000, True, None)

BAD_CURSORS = (
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
    *(bad("recommendations", "tgid", value) for value in BAD_TGIDS),
    *(not_found("recommendations", "user", tgid, tgid=tgid) for tgid in (ANOTHER_ID, -ANOTHER_ID, 2**52 - 1)),
    *(bad("recommendation_run", "date", value) for value in (*BAD_DATES, "2026-03-04T03:00:00Z", None) if value != ""),
    *(
        Refused("recommendation_run", {"date": day}, "NOT_FOUND", details={"resource": "recommendation_run", "id": day})
        for day in ("2026-03-03", "2026-03-05", "2000-01-01", "2099-12-31")
    ),
    *(bad("gemini_keys", "first", value) for value in BAD_PAGE_SIZES),
    *(bad("gemini_keys", "skip", value) for value in BAD_SKIPS),
    *(bad("gemini_keys", "after", value) for value in BAD_CURSORS),
    Refused("gemini_keys", {"first": "x", "skip": "x"}, fields=("first", "skip")),
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"gemini_api_keys": GEMINI_KEYS})


@pytest.fixture
async def world(clients: Clients, people: None) -> None:
    """There is one run."""
    async with clients.db() as session:
        session.add(RecommendationRun(date=RUN_DATE, request_budget=1, started_at=datetime.now(UTC)))


@pytest.mark.parametrize("operation", operations(REFUSALS))
async def test_wrong_calls_are_refused(
    manager_client: ApiClient, clients: Clients, world: None, operation: str
) -> None:
    """Each wrong call gets its code and its wrong fields, and changes nothing."""
    wrong = [refused for refused in REFUSALS if refused.operation == operation]
    before = await rows(clients)

    assert await outcomes(manager_client, wrong) == expected(wrong)
    assert await rows(clients) == before


async def test_users_get_bad_input_for_a_wrong_telegram_id(user_client: ApiClient) -> None:
    """A value that is not a Telegram id belongs to no user, so the error reveals nothing."""
    wrong = [bad("recommendations", "tgid", value) for value in BAD_TGIDS]

    assert await outcomes(user_client, wrong) == expected(wrong)


async def test_a_cursor_after_the_last_key_gives_an_empty_page(manager_client: ApiClient) -> None:
    """The settings may have fewer keys than before."""
    answer = await manager_client("gemini_keys", after=cursor(ANOTHER_ID, of=LIST))

    assert (answer.data["items"], answer.data["total"]) == ([], len(GEMINI_KEYS))


async def test_the_largest_page_has_100_keys(manager_client: ApiClient) -> None:
    """A page size of 100 is accepted."""
    assert (await manager_client("gemini_keys", first=100)).code is None
