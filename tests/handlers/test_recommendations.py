"""From a daily task, of any producer, to a run of recommendations."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from aiokafka import ConsumerRecord
from sqlmodel import select

from app.clients import Clients
from app.events.inbox import handle_once
from app.events.types import GenerateRecommendations, Topic
from app.handlers.recommendations import handle_daily_task
from app.models import PauseReason, RecommendationRun, RunStatus
from app.services import runs
from app.services.runs import JOB
from tests.conftest import Lunch
from tests.events.records import CONSUMER, NOW, dead_letters, find_run, plain_record, record_of, task_value, with_keys
from tests.user_factory import add_ordering_users


async def handle_task(clients: Clients, record: ConsumerRecord) -> None:
    """Handle a record of the daily tasks."""
    await handle_once(clients, CONSUMER, record, handle_daily_task)


TASKS = {
    "plain JSON": plain_record(task_value(), Topic.DAILY_TASKS),
    "plain JSON with an unknown field": plain_record(task_value(why="because"), Topic.DAILY_TASKS),
    "an event": record_of(GenerateRecommendations(timestamp=NOW)),
}


@pytest.mark.parametrize("record", TASKS.values(), ids=TASKS)
async def test_a_task_starts_a_run(clients: Clients, lunch: Lunch, record: ConsumerRecord) -> None:
    """In each form, a task starts today's run, with jobs for the workers."""
    await add_ordering_users(clients, lunch, 2)

    await handle_task(with_keys(clients), record)

    run = await find_run(clients)
    assert run is not None
    assert (run.status, run.total, run.started_by) == (RunStatus.RUNNING, 2, None)
    queued = [(job.function, list(job.args)) for job in await clients.jobs.queued_jobs()]
    assert queued == [(JOB, [str(run.date)])] * 2


@pytest.mark.parametrize(
    ("again", "status"),
    [
        (plain_record(task_value(), Topic.DAILY_TASKS), RunStatus.PAUSED),
        (plain_record(task_value(timestamp="2026-03-04T10:31:00Z"), Topic.DAILY_TASKS), RunStatus.RUNNING),
        (record_of(GenerateRecommendations(timestamp=NOW)), RunStatus.RUNNING),
    ],
    ids=["the same", "a minute later", "an event"],
)
async def test_a_repeated_task(clients: Clients, lunch: Lunch, again: ConsumerRecord, status: RunStatus) -> None:
    """The same message has no second effect; another message resumes a paused run."""
    await add_ordering_users(clients, lunch, 2)
    await handle_task(with_keys(clients), plain_record(task_value(), Topic.DAILY_TASKS))
    async with clients.db() as session:
        [paused] = await session.scalars(select(RecommendationRun))
        await runs.pause_run(session, paused.date, PauseReason.KEYS_DISABLED, datetime.now(UTC))

    await handle_task(with_keys(clients), again)

    run = await find_run(clients)
    assert run is not None
    assert run.status is status


async def test_a_repeated_task_event_starts_no_run(clients: Clients, lunch: Lunch) -> None:
    """The id of an event counts, and not its time."""
    await add_ordering_users(clients, lunch, 2)
    await handle_task(with_keys(clients), record_of(GenerateRecommendations(timestamp=NOW)))
    async with clients.db() as session:
        await session.execute(sa.delete(RecommendationRun))

    await handle_task(with_keys(clients), record_of(GenerateRecommendations(timestamp=NOW + timedelta(hours=1))))

    assert await find_run(clients) is None


UNREADABLE_TASKS = {
    "no time": b'{"type": "generate_recommendations"}',
    "not a time": b'{"type": "generate_recommendations", "timestamp": "tonight"}',
    "an unknown type": b'{"type": "generate_menus", "timestamp": "2026-03-04T10:30:00Z"}',
    "not JSON": b"generate_recommendations",
    "empty": b"",
}


@pytest.mark.parametrize("value", UNREADABLE_TASKS.values(), ids=UNREADABLE_TASKS)
async def test_an_unreadable_task_becomes_a_dead_letter(clients: Clients, value: bytes) -> None:
    """An unreadable task starts no run, and its dead letter has the topic."""
    await handle_task(with_keys(clients), replace(plain_record(None, Topic.DAILY_TASKS), value=value))

    [letter] = await dead_letters(clients)
    assert letter["x-error"].startswith("UnreadableEvent")
    assert letter["x-topic"] == Topic.DAILY_TASKS
    assert await find_run(clients) is None


async def test_without_keys_a_task_starts_no_run(clients: Clients) -> None:
    """Without Gemini keys a task is handled without an effect, and is not a dead letter."""
    await handle_task(clients, plain_record(task_value(), Topic.DAILY_TASKS))

    assert await find_run(clients) is None
    assert await dead_letters(clients) == []
