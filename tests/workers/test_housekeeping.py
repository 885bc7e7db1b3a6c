"""What must not grow for ever, and what must not be forgotten too soon."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select

from app.clients import Clients
from app.models import GeminiUsage, Inbox, RecommendationItem, RecommendationRun
from app.workers.housekeeping import INBOX_KEPT, RECOMMENDATIONS_KEPT, RUNS_KEPT, clean_up
from tests.conftest import USER_TGID

NOW = datetime(2026, 3, 4, 4, 0, tzinfo=UTC)
MARGIN = timedelta(minutes=1)
DAY = timedelta(days=1)


async def handled(clients: Clients, **ages: timedelta) -> None:
    """Note events as handled, so long ago."""
    async with clients.db() as session:
        for event_id, age in ages.items():
            session.add(Inbox(consumer="test", event_id=event_id, received_at=NOW - age))


async def noted(clients: Clients) -> list[str]:
    async with clients.db() as session:
        return list(await session.scalars(select(col(Inbox.event_id)).order_by(col(Inbox.event_id))))


async def run(clients: Clients, *ages: timedelta) -> None:
    """Let there have been runs so long ago, each with a person, and requests for it."""
    async with clients.db() as session:
        for age in ages:
            date = (NOW - age).date()
            session.add(RecommendationRun(date=date, started_at=NOW - age))
            await session.flush()
            session.add(RecommendationItem(date=date, user_tgid=USER_TGID, position=1, recommendation={}))
            session.add(GeminiUsage(day=date, scope="project:lunch", requests=7))


async def test_events_of_long_ago_are_forgotten(clients: Clients) -> None:
    """A note is kept as long as its event may come again, and not longer."""
    await handled(clients, new=timedelta(0), kept=INBOX_KEPT - MARGIN, old=INBOX_KEPT + MARGIN)

    await clean_up(clients, NOW)

    assert await noted(clients) == ["kept", "new"]


@pytest.mark.parametrize("days", [7, 29])
async def test_notes_outlive_what_kafka_keeps(clients: Clients, days: int) -> None:
    """Kafka keeps an event for a week by default, and operators may let it keep it for longer: up to a month is safe."""
    await handled(clients, event=timedelta(days=days))

    await clean_up(clients, NOW)

    assert await noted(clients) == ["event"]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    "days", [RecommendationRun.date, RecommendationItem.date, GeminiUsage.day], ids=["runs", "people", "requests"]
)
async def test_runs_of_long_ago_are_forgotten(clients: Clients, days: object) -> None:
    """With who was in them, and what they have cost; those of the last months are kept."""
    await run(clients, timedelta(0), DAY, RUNS_KEPT, RUNS_KEPT + DAY, 2 * RUNS_KEPT)

    await clean_up(clients, NOW)

    async with clients.db() as session:
        left = set(await session.scalars(select(col(days))))
    assert left == {(NOW - age).date() for age in (timedelta(0), DAY, RUNS_KEPT)}


@pytest.mark.usefixtures("people")
async def test_what_was_recommended_is_forgotten_sooner(clients: Clients) -> None:
    """When Redis has it no more, nobody needs it; that somebody had a recommendation is still known."""
    await run(clients, timedelta(0), DAY, RECOMMENDATIONS_KEPT, RECOMMENDATIONS_KEPT + DAY)

    await clean_up(clients, NOW)

    query = select(col(RecommendationItem.date)).where(col(RecommendationItem.recommendation).is_not(None))
    async with clients.db() as session:
        left = set(await session.scalars(query))
    assert left == {(NOW - age).date() for age in (timedelta(0), DAY, RECOMMENDATIONS_KEPT)}


@pytest.mark.usefixtures("people")
async def test_it_says_how_much_it_forgot(clients: Clients) -> None:
    """The number of rows of each table that were deleted is returned."""
    await handled(clients, new=timedelta(0), old=INBOX_KEPT + MARGIN, older=2 * INBOX_KEPT)
    await run(clients, DAY, 2 * RUNS_KEPT)

    assert await clean_up(clients, NOW) == {"inbox": 2, "recommendation_runs": 1, "gemini_usage": 1}


async def test_it_finds_nothing_in_a_clean_house(clients: Clients) -> None:
    """Whoever does it again has nothing to do."""
    await handled(clients, old=2 * INBOX_KEPT)
    await clean_up(clients, NOW)

    assert set((await clean_up(clients, NOW)).values()) == {0}
