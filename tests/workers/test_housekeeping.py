"""Housekeeping: which rows are deleted, and which are kept."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select

from app.clients import Clients
from app.models import GeminiUsage, Inbox, RecommendationItem, RecommendationRun
from app.workers.housekeeping import INBOX_RETENTION, RECOMMENDATION_RETENTION, RUN_RETENTION, clean_up
from tests.conftest import USER_TGID

NOW = datetime(2026, 3, 4, 4, 0, tzinfo=UTC)
MARGIN = timedelta(minutes=1)
DAY = timedelta(days=1)


async def add_handled_events(clients: Clients, **ages: timedelta) -> None:
    """Record events as handled at these ages."""
    async with clients.db() as session:
        for event_id, age in ages.items():
            session.add(Inbox(consumer="test", event_id=event_id, received_at=NOW - age))


async def recorded_events(clients: Clients) -> list[str]:
    """Return the ids of the events that are recorded as handled."""
    async with clients.db() as session:
        return list(await session.scalars(select(col(Inbox.event_id)).order_by(col(Inbox.event_id))))


async def add_runs(clients: Clients, *ages: timedelta) -> None:
    """Add runs of these ages, each with a user and with requests."""
    async with clients.db() as session:
        for age in ages:
            date = (NOW - age).date()
            session.add(RecommendationRun(date=date, started_at=NOW - age))
            await session.flush()
            session.add(RecommendationItem(date=date, user_tgid=USER_TGID, position=1, recommendation={}))
            session.add(GeminiUsage(day=date, scope="project:lunch", requests=7))


async def test_old_inbox_rows_are_deleted(clients: Clients) -> None:
    """The inbox keeps an event id for the retention time."""
    await add_handled_events(clients, new=timedelta(0), kept=INBOX_RETENTION - MARGIN, old=INBOX_RETENTION + MARGIN)

    await clean_up(clients, NOW)

    assert await recorded_events(clients) == ["kept", "new"]


@pytest.mark.parametrize("days", [7, 29])
async def test_the_inbox_keeps_ids_longer_than_kafka_keeps_events(clients: Clients, days: int) -> None:
    """The inbox keeps an id for a month, longer than Kafka keeps an event by default."""
    await add_handled_events(clients, event=timedelta(days=days))

    await clean_up(clients, NOW)

    assert await recorded_events(clients) == ["event"]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    "column", [RecommendationRun.date, RecommendationItem.date, GeminiUsage.day], ids=["runs", "users", "requests"]
)
async def test_old_runs_are_deleted(clients: Clients, column: object) -> None:
    """Old runs are deleted, with their users and their requests."""
    await add_runs(clients, timedelta(0), DAY, RUN_RETENTION, RUN_RETENTION + DAY, 2 * RUN_RETENTION)

    await clean_up(clients, NOW)

    async with clients.db() as session:
        left = set(await session.scalars(select(col(column))))
    assert left == {(NOW - age).date() for age in (timedelta(0), DAY, RUN_RETENTION)}


@pytest.mark.usefixtures("people")
async def test_old_recommendations_are_deleted_from_their_items(clients: Clients) -> None:
    """The recommendation of an old item is deleted, and the item is kept."""
    await add_runs(clients, timedelta(0), DAY, RECOMMENDATION_RETENTION, RECOMMENDATION_RETENTION + DAY)

    await clean_up(clients, NOW)

    query = select(col(RecommendationItem.date)).where(col(RecommendationItem.recommendation).is_not(None))
    async with clients.db() as session:
        left = set(await session.scalars(query))
    assert left == {(NOW - age).date() for age in (timedelta(0), DAY, RECOMMENDATION_RETENTION)}


@pytest.mark.usefixtures("people")
async def test_the_numbers_of_deleted_rows_are_returned(clients: Clients) -> None:
    """The job returns the number of deleted rows of each table."""
    await add_handled_events(clients, new=timedelta(0), old=INBOX_RETENTION + MARGIN, older=2 * INBOX_RETENTION)
    await add_runs(clients, DAY, 2 * RUN_RETENTION)

    assert await clean_up(clients, NOW) == {"inbox": 2, "recommendation_runs": 1, "gemini_usage": 1}


async def test_a_second_clean_up_deletes_nothing(clients: Clients) -> None:
    """A second run of the job deletes nothing."""
    await add_handled_events(clients, old=2 * INBOX_RETENTION)
    await clean_up(clients, NOW)

    assert set((await clean_up(clients, NOW)).values()) == {0}
