"""The consumer groups of the events process, and the handlers of each."""

from aiokafka import ConsumerRecord
from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.inbox import Handler, handle_once
from app.events.kafka import subscribe
from app.events.types import Event, Topic
from app.handlers.deadlines import handle_deadline
from app.handlers.links import handle_link_event
from app.handlers.recommendations import handle_daily_task

NOTIFICATIONS = "notifications"
DAILY_TASKS = "daily-tasks"

HANDLERS: tuple[tuple[str, tuple[Topic, ...], tuple[Handler, ...]], ...] = (
    (NOTIFICATIONS, (Topic.LINK_REQUESTS, Topic.DEADLINES), (handle_link_event, handle_deadline)),
    (DAILY_TASKS, (Topic.DAILY_TASKS,), (handle_daily_task,)),
)
"""Consumer groups, their topics, and their handlers. Each handler gets every event, and ignores those of other types."""


def register(clients: Clients) -> None:
    """Make `clients.kafka` call the handlers."""
    for group, topics, handlers in HANDLERS:
        _register(clients, group, topics, handlers)


def _register(clients: Clients, group: str, topics: tuple[Topic, ...], handlers: tuple[Handler, ...]) -> None:
    async def handle_all(clients: Clients, session: AsyncSession, event: Event) -> None:
        for handler in handlers:
            await handler(clients, session, event)

    async def handle(record: ConsumerRecord) -> None:
        await handle_once(clients, group, record, handle_all)

    subscribe(clients, topics, group, handle)
