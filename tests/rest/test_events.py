"""Server-Sent Events of REST and of GraphQL: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from app.auth.context import Context
from app.auth.tokens import issue_token
from app.clients import Clients
from app.events.live import QUEUE_EVENTS
from app.events.types import (
    LinkRequestEvent,
    NotificationEvent,
    RecommendationRunEvent,
    RecommendationRunFinished,
    RecommendationRunPaused,
    RecommendationRunProgressed,
    RecommendationRunStarted,
)
from app.models import LinkRequest, Notification, NotificationStatus, PauseReason, RecommendationRun, RunStatus, User
from app.resolvers import links, notifications
from app.services import run_items, runs
from app.services.run_items import FAIL_IMMEDIATELY
from app.settings import Settings
from tests.apis import CHAT, GEMINI_KEYS, Served, serving_api
from tests.conftest import MANAGER_TGID, Lunch
from tests.events.conftest import relaying
from tests.notification_fixtures import change
from tests.servers import DEADLINE_S
from tests.user_factory import FIRST_ORDERING_USER, add_ordering_users

EVENTS = "/api/v1/cafe-requests/events"
UPDATES = "subscription { linkRequestUpdates { id } }"
MESSAGES = "/api/v1/notifications/events"
MESSAGE_UPDATES = "subscription { notificationUpdates { id status } }"
RUNS = "/api/v1/recommendation-runs/events"
RUN_UPDATES = "subscription { recommendationRunUpdates { date status done } }"
EVENT_STREAM = "text/event-stream"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"gemini_api_keys": GEMINI_KEYS})


@pytest.fixture
async def run(clients: Clients, people: None, lunch: Lunch) -> RecommendationRun:
    """A scheduled run for three users."""
    await add_ordering_users(clients, lunch, 3)
    return await runs.start_run(clients, datetime.now(UTC))


@dataclass
class Event:
    """One event of a stream."""

    type: str
    data: Any


class Stream:
    """The events of a response, one at a time."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self, within_s: float = DEADLINE_S) -> Event | None:
        """Wait for the next event; None if there are no more. Comments are left out."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(within_s):
            async for line in self._lines:
                if line.startswith(":"):
                    continue
                if not line and fields:
                    return Event(fields.get("event", "message"), json.loads(fields.get("data") or "null"))
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
        return None


@asynccontextmanager
async def streaming(
    served: Served, token: str | None, path: str = EVENTS, query: str | None = None
) -> AsyncIterator[Stream]:
    """Open REST's stream, or GraphQL's if there is a `query`."""
    headers = {"Accept": EVENT_STREAM} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    method, body = ("GET", None) if query is None else ("POST", {"query": query})
    async with (
        httpx.AsyncClient(base_url=served.address) as client,
        client.stream(method, path, json=body, headers=headers) as response,
    ):
        yield Stream(response)


async def test_an_event_has_rests_shape(served: Served, manager_token: str, event: LinkRequestEvent) -> None:
    """An event of a link request has the shape of a link request in a list."""
    async with streaming(served, manager_token) as stream:
        served.happen(event)
        received = await stream.next()

    assert stream.response.headers["content-type"].startswith(EVENT_STREAM)
    assert received == Event(
        "message",
        {
            "id": str(event.id),
            "cafe_id": str(event.cafe_id),
            "cafe_name": event.cafe_name,
            "tg_chat_id": CHAT,
            "tg_username": "kitchen",
            "status": "pending",
            "reason": None,
            "created_at": event.created_at.isoformat(),
            "processed_at": None,
            "processed_by": None,
        },
    )


async def test_a_notification_has_rests_shape(
    served: Served, manager_token: str, notification_event: NotificationEvent
) -> None:
    """An event of a notification has the shape of a notification in a list."""
    async with (
        streaming(served, manager_token, MESSAGES) as stream,
        httpx.AsyncClient(base_url=served.address, headers={"Authorization": f"Bearer {manager_token}"}) as client,
    ):
        served.happen(notification_event)
        received = await stream.next()
        [listed] = (await client.get("/api/v1/notifications")).json()["items"]

    assert received == Event("message", listed)
    assert (listed["id"], listed["kind"], listed["tg_chat_id"]) == (str(notification_event.id), "orders", CHAT)


@pytest.mark.parametrize(("query", "expected"), [("", [1, 2, 3]), ("?cafe_id=7", [2])])
async def test_a_stream_has_the_notifications_of_a_cafe(
    served: Served, manager_token: str, notification_event: NotificationEvent, query: str, expected: list[int]
) -> None:
    """A stream has the notifications of one cafe, or all, in order."""
    async with streaming(served, manager_token, MESSAGES + query) as stream:
        for number, cafe_id in [(1, 1), (2, 7), (3, 1)]:
            served.happen(notification_event.model_copy(update={"id": number, "cafe_id": cafe_id}))
        received = [await stream.next() for _ in expected]

    assert [found and found.data["id"] for found in received] == [str(number) for number in expected]


async def test_a_run_has_rests_shape(
    served: Served, manager_token: str, clients: Clients, run: RecommendationRun
) -> None:
    """An event of a run has the shape of the run in REST."""
    async with (
        streaming(served, manager_token, RUNS) as stream,
        httpx.AsyncClient(base_url=served.address, headers={"Authorization": f"Bearer {manager_token}"}) as client,
    ):
        served.happen(RecommendationRunStarted.of(run))
        received = await stream.next()
        read = (await client.get(f"/api/v1/recommendation-runs/{run.date}")).json()

    assert received == Event("message", read)
    assert (read["status"], read["total"], read["started_by"]) == ("running", 3, None)


async def test_a_stream_has_each_state_of_a_run(
    served: Served, manager_token: str, run_event: RecommendationRunEvent
) -> None:
    """Each change is an event with the run at that time."""
    known, at = run_event.model_dump(), datetime(2026, 3, 4, 4, tzinfo=UTC)
    pause = {"status": RunStatus.PAUSED, "pause_reason": PauseReason.KEYS_DISABLED}
    async with streaming(served, manager_token, RUNS) as stream:
        served.happen(
            run_event,
            RecommendationRunProgressed.model_validate(known | {"done": 2}),
            RecommendationRunPaused.model_validate(known | {"done": 3} | pause),
            RecommendationRunFinished.model_validate(
                known | {"done": 4, "failed": 1, "status": RunStatus.FINISHED, "finished_at": at}
            ),
        )
        received = [event.data for event in [await stream.next() for _ in range(4)] if event]

    assert [
        (run["status"], run["done"], run["failed"], run["pause_reason"], run["finished_at"]) for run in received
    ] == [
        ("running", 0, 0, None, None),
        ("running", 2, 0, None, None),
        ("paused", 3, 0, "keys_disabled", None),
        ("finished", 4, 1, None, at.isoformat()),
    ]


async def test_a_stream_has_only_its_events(
    served: Served,
    manager_token: str,
    event: LinkRequestEvent,
    notification_event: NotificationEvent,
    run_event: RecommendationRunEvent,
) -> None:
    """A stream has only events of its kind."""
    async with (
        streaming(served, manager_token, MESSAGES) as of_messages,
        streaming(served, manager_token, RUNS) as of_runs,
    ):
        served.happen(event, run_event, notification_event, run_event)
        received = [await of_messages.next(), await of_runs.next(), await of_runs.next()]

    assert [found and found.data.get("kind") for found in received] == ["orders", None, None]


async def test_an_open_stream_misses_no_event(served: Served, manager_token: str, event: LinkRequestEvent) -> None:
    """The subscription exists when the client gets the headers."""
    async with streaming(served, manager_token):
        assert len(served.live.subscriptions) == 1


async def test_a_stream_ends_when_its_token_expires(served: Served, settings: Settings) -> None:
    """The stream ends when the token expires, which is one to two seconds after the start: the expiry is in whole seconds."""
    token = issue_token(settings, User(tgid=MANAGER_TGID, name=""), timedelta(seconds=2))
    async with streaming(served, token) as stream:
        received = await stream.next()
        ended = await stream.next()

    assert received is not None
    assert (received.type, received.data["code"], ended) == ("error", "UNAUTHENTICATED", None)


async def test_a_stream_ends_when_its_user_is_deactivated(served: Served, manager_token: str, clients: Clients) -> None:
    """A deactivated user gets no more events."""
    async with streaming(served, manager_token) as stream:
        async with clients.db() as session:
            await session.execute(sa.text("UPDATE users SET is_active = false"))
        received = await stream.next()

    assert received is not None
    assert (received.type, received.data["code"]) == ("error", "FORBIDDEN")


@pytest.mark.parametrize(
    ("query", "expected"), [("status=approved", [2, 4]), ("cafe_id=7", [3, 4]), ("status=approved&cafe_id=7", [4])]
)
async def test_a_stream_is_filtered(
    served: Served, manager_token: str, event: LinkRequestEvent, query: str, expected: list[int]
) -> None:
    """The filters are those of the list; events come in order."""
    async with streaming(served, manager_token, f"{EVENTS}?{query}") as stream:
        for number, cafe_id, status in [(1, 1, "pending"), (2, 1, "approved"), (3, 7, "rejected"), (4, 7, "approved")]:
            served.happen(
                event.model_validate(event.model_dump() | {"id": number, "cafe_id": cafe_id, "status": status})
            )
        received = [await stream.next() for _ in expected]

    assert [found and found.data["id"] for found in received] == [str(number) for number in expected]


@pytest.mark.parametrize(
    ("path", "token", "status", "code"),
    [
        (EVENTS, None, 401, "UNAUTHENTICATED"),
        (EVENTS, "garbage", 401, "UNAUTHENTICATED"),
        (EVENTS, "user", 403, "FORBIDDEN"),
        (f"{EVENTS}?status=nonsense", "manager", 400, "BAD_INPUT"),
        (f"{EVENTS}?cafe_id=x", "manager", 400, "BAD_INPUT"),
        (f"{EVENTS}?limit=1", "manager", 400, "BAD_INPUT"),
        (MESSAGES, None, 401, "UNAUTHENTICATED"),
        (MESSAGES, "user", 403, "FORBIDDEN"),
        (f"{MESSAGES}?cafe_id=x", "manager", 400, "BAD_INPUT"),
        (f"{MESSAGES}?status=sent", "manager", 400, "BAD_INPUT"),
        (RUNS, None, 401, "UNAUTHENTICATED"),
        (RUNS, "user", 403, "FORBIDDEN"),
        (f"{RUNS}?date=2026-03-04", "manager", 400, "BAD_INPUT"),
    ],
)
async def test_a_refused_stream_is_a_problem(
    served: Served, manager_token: str, user_token: str, path: str, token: str | None, status: int, code: str
) -> None:
    """The answer to a refused stream is a problem document, not an event."""
    given = {"manager": manager_token, "user": user_token}.get(token or "", token)
    async with streaming(served, given, path) as stream:
        await stream.response.aread()

    assert (stream.response.status_code, stream.response.json()["code"]) == (status, code)
    assert stream.response.headers["content-type"] == "application/problem+json"


async def test_a_closed_connection_ends_the_subscription(served: Served, manager_token: str) -> None:
    """A subscription ends with its connection."""
    async with streaming(served, manager_token):
        await served.listened_to()

    await served.listened_to(0)


async def test_a_slow_stream_ends_with_a_problem(served: Served, manager_token: str, event: LinkRequestEvent) -> None:
    """A slow client gets the queued events, and then an event with the reason."""
    async with streaming(served, manager_token) as stream:
        served.happen(*([event] * (QUEUE_EVENTS + 1)))
        received = [await stream.next() for _ in range(QUEUE_EVENTS + 1)]
        end = await stream.next()

    assert {found.type for found in received[:-1] if found} == {"message"}
    assert received[-1] is not None
    assert (received[-1].type, received[-1].data["code"]) == ("error", "SLOW_CONSUMER")
    assert end is None


async def test_head_of_a_stream_ends(served: Served, manager_token: str) -> None:
    """HEAD of a stream has no body and leaves no subscription."""
    async with httpx.AsyncClient(base_url=served.address) as client:
        response = await client.head(EVENTS, headers={"Authorization": f"Bearer {manager_token}"})

        assert response.status_code in {200, 405}
        await served.listened_to(0)


async def test_graphql_streams_a_subscription(served: Served, manager_token: str, event: LinkRequestEvent) -> None:
    """A subscription by POST is a stream for a client that accepts one."""
    async with streaming(served, manager_token, "/graphql", UPDATES) as stream:
        await served.listened_to()
        served.happen(event)

        assert await stream.next() == Event("next", {"data": {"linkRequestUpdates": {"id": str(event.id)}}})


async def test_graphql_streams_notifications(
    served: Served, manager_token: str, notification_event: NotificationEvent
) -> None:
    """A notification has GraphQL's spelling."""
    async with streaming(served, manager_token, "/graphql", MESSAGE_UPDATES) as stream:
        await served.listened_to()
        served.happen(notification_event)

        assert await stream.next() == Event(
            "next", {"data": {"notificationUpdates": {"id": str(notification_event.id), "status": "QUEUED"}}}
        )


async def test_graphql_streams_runs(served: Served, manager_token: str, run_event: RecommendationRunEvent) -> None:
    """A run has GraphQL's spelling."""
    async with streaming(served, manager_token, "/graphql", RUN_UPDATES) as stream:
        await served.listened_to()
        served.happen(run_event)

        assert await stream.next() == Event(
            "next", {"data": {"recommendationRunUpdates": {"date": "2026-03-04", "status": "RUNNING", "done": 0}}}
        )


@pytest.mark.parametrize("query", [UPDATES, MESSAGE_UPDATES, RUN_UPDATES])
@pytest.mark.parametrize(("token", "code"), [(None, "UNAUTHENTICATED"), ("user", "FORBIDDEN")])
async def test_a_refused_graphql_stream_has_an_error_event(
    served: Served, user_token: str, token: str | None, code: str, query: str
) -> None:
    """The protocol sends the error as an event, and then ends the stream."""
    async with streaming(served, user_token if token else None, "/graphql", query) as stream:
        refused, complete = await stream.next(), await stream.next()

    assert refused is not None
    assert [error["extensions"]["code"] for error in refused.data["errors"]] == [code]
    assert complete is not None
    assert complete.type == "complete"


async def test_a_query_may_be_streamed(served: Served, manager_token: str) -> None:
    """A query over a stream has one result, and then the stream ends."""
    async with streaming(served, manager_token, "/graphql", "{ __typename }") as stream:
        events = [await stream.next(), await stream.next()]

    assert [event and event.type for event in events] == ["next", "complete"]


async def test_a_decision_reaches_subscribers_through_kafka(
    kafka_settings: Settings, kafka_clients: Clients, manager: Context, manager_token: str, pending: LinkRequest
) -> None:
    """A decision goes through outbox and Kafka to the subscribers of both APIs."""
    approved = "subscription { linkRequestUpdates(status: APPROVED) { id } }"
    async with (
        serving_api(kafka_settings) as served,
        relaying(kafka_clients),
        streaming(served, manager_token, f"{EVENTS}?status=approved") as rest,
        streaming(served, manager_token, "/graphql", approved) as graphql,
    ):
        await served.listened_to(2)
        await links.approve(manager, pending.id)
        received = [await rest.next(), await graphql.next()]

    assert received[0] is not None
    assert received[0].data["id"] == str(pending.id)
    assert received[1] == Event("next", {"data": {"linkRequestUpdates": {"id": str(pending.id)}}})


async def test_a_retry_reaches_subscribers_through_kafka(
    kafka_settings: Settings,
    kafka_clients: Clients,
    manager: Context,
    manager_token: str,
    announced: Notification,
) -> None:
    """A retry of a notification goes through outbox and Kafka to the subscribers of both APIs."""
    async with (
        serving_api(kafka_settings) as served,
        streaming(served, manager_token, f"{MESSAGES}?cafe_id={announced.cafe_id}") as rest,
        streaming(served, manager_token, "/graphql", MESSAGE_UPDATES) as graphql,
    ):
        await served.listened_to(2)
        await change(kafka_clients, announced, status=NotificationStatus.FAILED, attempts=3)
        async with relaying(kafka_clients):
            received = [await rest.next(), await graphql.next()]
            await notifications.retry_notification(manager, announced.id)
            received += [await rest.next(), await graphql.next()]

    queued = Event("next", {"data": {"notificationUpdates": {"id": str(announced.id), "status": "QUEUED"}}})
    assert [event and event.data["attempts"] for event in received[::2]] == [0, 3]
    assert received[1::2] == [queued, queued]


async def test_a_run_reaches_subscribers_through_kafka(
    kafka_settings: Settings, kafka_clients: Clients, manager_token: str, run: RecommendationRun
) -> None:
    """Each change of a run goes through outbox and Kafka to the subscribers of both APIs."""
    now = datetime.now(UTC)
    async with (
        serving_api(kafka_settings) as served,
        streaming(served, manager_token, RUNS) as rest,
        streaming(served, manager_token, "/graphql", RUN_UPDATES) as graphql,
    ):
        await served.listened_to(2)
        async with kafka_clients.db() as session:
            await runs.pause_run(session, run.date, PauseReason.QUOTA_EXHAUSTED, now, now + timedelta(hours=1))
        await runs.start_run(kafka_clients, now)
        async with kafka_clients.db() as session:
            for tgid in (FIRST_ORDERING_USER, FIRST_ORDERING_USER + 1, FIRST_ORDERING_USER + 2):
                await run_items.record_failure(session, run.date, tgid, "invalid answer", FAIL_IMMEDIATELY)
            await runs.update_progress(session, run.date, now)
        async with relaying(kafka_clients):
            received = [(await rest.next(), await graphql.next()) for _ in range(4)]

    steps = ["running", "paused", "running", "finished"]
    assert [expected and expected.data["status"] for expected, _ in received] == steps
    assert [
        expected and expected.data["data"]["recommendationRunUpdates"]["status"].lower() for _, expected in received
    ] == steps
