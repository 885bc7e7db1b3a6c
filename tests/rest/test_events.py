"""Server-Sent Events, of REST and of GraphQL: https://html.spec.whatwg.org/multipage/server-sent-events.html."""

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

from app.auth import issue_token
from app.clients import Clients
from app.context import Context
from app.events.live import QUEUE_EVENTS
from app.events.messages import (
    LinkRequestEvent,
    NotificationEvent,
    RecommendationRunEvent,
    RecommendationRunFinished,
    RecommendationRunPaused,
    RecommendationRunProgressed,
    RecommendationRunStarted,
)
from app.models import (
    LinkRequest,
    Notification,
    NotificationStatus,
    PauseReason,
    RecommendationRun,
    RunStatus,
    User,
)
from app.resolvers import links, notifications, run_items, runs
from app.resolvers.run_items import AT_ONCE
from app.settings import Settings
from tests.conftest import MANAGER_TGID, Lunch
from tests.diners import FIRST_DINER, add_diners
from tests.doors import CHAT, GEMINI_KEYS, Served, serving_api
from tests.events.conftest import relaying
from tests.servers import DEADLINE_S
from tests.told import change

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
    """One for three people, which the clock has started."""
    await add_diners(clients, lunch, 3)
    return await runs.start(clients, datetime.now(UTC))


@dataclass
class Event:
    """One event of a stream."""

    type: str
    data: Any


class Stream:
    """What a response brings, one event at a time."""

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


async def test_an_event_comes_in_rests_shape(served: Served, manager_token: str, event: LinkRequestEvent) -> None:
    """What happens is told as REST tells a link request."""
    async with streaming(served, manager_token) as stream:
        served.happen(event)
        told = await stream.next()

    assert stream.response.headers["content-type"].startswith(EVENT_STREAM)
    assert told == Event(
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


async def test_a_message_comes_in_rests_shape(served: Served, manager_token: str, news: NotificationEvent) -> None:
    """What happens to a message is told as the list tells it."""
    async with (
        streaming(served, manager_token, MESSAGES) as stream,
        httpx.AsyncClient(base_url=served.address, headers={"Authorization": f"Bearer {manager_token}"}) as client,
    ):
        served.happen(news)
        told = await stream.next()
        [listed] = (await client.get("/api/v1/notifications")).json()["items"]

    assert told == Event("message", listed)
    assert (listed["id"], listed["kind"], listed["tg_chat_id"]) == (str(news.id), "orders", CHAT)


@pytest.mark.parametrize(("query", "heard"), [("", [1, 2, 3]), ("?cafe_id=7", [2])])
async def test_a_stream_has_a_cafes_messages(
    served: Served, manager_token: str, news: NotificationEvent, query: str, heard: list[int]
) -> None:
    """Or all, in order."""
    async with streaming(served, manager_token, MESSAGES + query) as stream:
        for number, cafe_id in [(1, 1), (2, 7), (3, 1)]:
            served.happen(news.model_copy(update={"id": number, "cafe_id": cafe_id}))
        told = [await stream.next() for _ in heard]

    assert [found and found.data["id"] for found in told] == [str(number) for number in heard]


async def test_a_run_comes_in_rests_shape(
    served: Served, manager_token: str, clients: Clients, run: RecommendationRun
) -> None:
    """What happens to a run is told as it is read."""
    async with (
        streaming(served, manager_token, RUNS) as stream,
        httpx.AsyncClient(base_url=served.address, headers={"Authorization": f"Bearer {manager_token}"}) as client,
    ):
        served.happen(RecommendationRunStarted.of(run))
        told = await stream.next()
        read = (await client.get(f"/api/v1/recommendation-runs/{run.date}")).json()

    assert told == Event("message", read)
    assert (read["status"], read["total"], read["started_by"]) == ("running", 3, None)


async def test_a_stream_tells_how_far_a_run_has_come(
    served: Served, manager_token: str, run_news: RecommendationRunEvent
) -> None:
    """Each step is an event, with the run as it is then."""
    known, at = run_news.model_dump(), datetime(2026, 3, 4, 4, tzinfo=UTC)
    pause = {"status": RunStatus.PAUSED, "pause_reason": PauseReason.KEYS_SET_ASIDE}
    async with streaming(served, manager_token, RUNS) as stream:
        served.happen(
            run_news,
            RecommendationRunProgressed.model_validate(known | {"done": 2}),
            RecommendationRunPaused.model_validate(known | {"done": 3} | pause),
            RecommendationRunFinished.model_validate(
                known | {"done": 4, "failed": 1, "status": RunStatus.FINISHED, "finished_at": at}
            ),
        )
        told = [event.data for event in [await stream.next() for _ in range(4)] if event]

    assert [(run["status"], run["done"], run["failed"], run["pause_reason"], run["finished_at"]) for run in told] == [
        ("running", 0, 0, None, None),
        ("running", 2, 0, None, None),
        ("paused", 3, 0, "keys_set_aside", None),
        ("finished", 4, 1, None, at.isoformat()),
    ]


async def test_a_stream_has_nothing_else(
    served: Served,
    manager_token: str,
    event: LinkRequestEvent,
    news: NotificationEvent,
    run_news: RecommendationRunEvent,
) -> None:
    """A link request is no message, and neither is a run."""
    async with (
        streaming(served, manager_token, MESSAGES) as of_messages,
        streaming(served, manager_token, RUNS) as of_runs,
    ):
        served.happen(event, run_news, news, run_news)
        told = [await of_messages.next(), await of_runs.next(), await of_runs.next()]

    assert [found and found.data.get("kind") for found in told] == ["orders", None, None]


async def test_a_stream_that_has_begun_misses_nothing(
    served: Served, manager_token: str, event: LinkRequestEvent
) -> None:
    """When the answer's head is there, somebody listens already."""
    async with streaming(served, manager_token):
        assert len(served.live.subscriptions) == 1


async def test_a_stream_ends_when_its_token_expires(served: Served, settings: Settings) -> None:
    """A stream does not outlive the right to it. Its token is good for one to two seconds: its end is told in whole ones."""
    token = issue_token(settings, User(tgid=MANAGER_TGID, name=""), timedelta(seconds=2))
    async with streaming(served, token) as stream:
        told = await stream.next()
        ended = await stream.next()

    assert told is not None
    assert (told.type, told.data["code"], ended) == ("error", "UNAUTHENTICATED", None)


async def test_a_stream_ends_when_its_user_is_switched_off(
    served: Served, manager_token: str, clients: Clients
) -> None:
    """Who may do nothing any more hears nothing any more."""
    async with streaming(served, manager_token) as stream:
        async with clients.db() as session:
            await session.execute(sa.text("UPDATE users SET is_active = false"))
        told = await stream.next()

    assert told is not None
    assert (told.type, told.data["code"]) == ("error", "FORBIDDEN")


@pytest.mark.parametrize(
    ("query", "heard"), [("status=approved", [2, 4]), ("cafe_id=7", [3, 4]), ("status=approved&cafe_id=7", [4])]
)
async def test_a_stream_has_what_it_is_asked_for(
    served: Served, manager_token: str, event: LinkRequestEvent, query: str, heard: list[int]
) -> None:
    """The filters are those of the list; events come in order."""
    async with streaming(served, manager_token, f"{EVENTS}?{query}") as stream:
        for number, cafe_id, status in [(1, 1, "pending"), (2, 1, "approved"), (3, 7, "rejected"), (4, 7, "approved")]:
            served.happen(
                event.model_validate(event.model_dump() | {"id": number, "cafe_id": cafe_id, "status": status})
            )
        told = [await stream.next() for _ in heard]

    assert [found and found.data["id"] for found in told] == [str(number) for number in heard]


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
async def test_a_stream_that_is_refused_is_a_problem(
    served: Served, manager_token: str, user_token: str, path: str, token: str | None, status: int, code: str
) -> None:
    """What is wrong is told as everywhere, and not as an event."""
    given = {"manager": manager_token, "user": user_token}.get(token or "", token)
    async with streaming(served, given, path) as stream:
        await stream.response.aread()

    assert (stream.response.status_code, stream.response.json()["code"]) == (status, code)
    assert stream.response.headers["content-type"] == "application/problem+json"


async def test_nobody_listens_when_the_client_has_gone(served: Served, manager_token: str) -> None:
    """A stream ends with its connection."""
    async with streaming(served, manager_token):
        await served.listened_to()

    await served.listened_to(0)


async def test_a_stream_that_falls_behind_ends_with_a_problem(
    served: Served, manager_token: str, event: LinkRequestEvent
) -> None:
    """Events that did fit come, then one that says why there are no more."""
    async with streaming(served, manager_token) as stream:
        served.happen(*([event] * (QUEUE_EVENTS + 1)))
        told = [await stream.next() for _ in range(QUEUE_EVENTS + 1)]
        end = await stream.next()

    assert {found.type for found in told[:-1] if found} == {"message"}
    assert told[-1] is not None
    assert (told[-1].type, told[-1].data["code"]) == ("error", "SLOW_CONSUMER")
    assert end is None


async def test_asking_for_the_head_ends(served: Served, manager_token: str) -> None:
    """HEAD of a stream has no body to wait for, and nobody listens for it."""
    async with httpx.AsyncClient(base_url=served.address) as client:
        response = await client.head(EVENTS, headers={"Authorization": f"Bearer {manager_token}"})

        assert response.status_code in {200, 405}
        await served.listened_to(0, within_s=2)


async def test_graphql_streams_too(served: Served, manager_token: str, event: LinkRequestEvent) -> None:
    """A subscription by POST, for who accepts an event stream."""
    async with streaming(served, manager_token, "/graphql", UPDATES) as stream:
        await served.listened_to()
        served.happen(event)

        assert await stream.next() == Event("next", {"data": {"linkRequestUpdates": {"id": str(event.id)}}})


async def test_graphql_streams_messages(served: Served, manager_token: str, news: NotificationEvent) -> None:
    """In GraphQL's spelling."""
    async with streaming(served, manager_token, "/graphql", MESSAGE_UPDATES) as stream:
        await served.listened_to()
        served.happen(news)

        assert await stream.next() == Event(
            "next", {"data": {"notificationUpdates": {"id": str(news.id), "status": "QUEUED"}}}
        )


async def test_graphql_streams_runs(served: Served, manager_token: str, run_news: RecommendationRunEvent) -> None:
    """In GraphQL's spelling, too."""
    async with streaming(served, manager_token, "/graphql", RUN_UPDATES) as stream:
        await served.listened_to()
        served.happen(run_news)

        assert await stream.next() == Event(
            "next", {"data": {"recommendationRunUpdates": {"date": "2026-03-04", "status": "RUNNING", "done": 0}}}
        )


@pytest.mark.parametrize("query", [UPDATES, MESSAGE_UPDATES, RUN_UPDATES])
@pytest.mark.parametrize(("token", "code"), [(None, "UNAUTHENTICATED"), ("user", "FORBIDDEN")])
async def test_graphqls_stream_says_why_it_is_refused(
    served: Served, user_token: str, token: str | None, code: str, query: str
) -> None:
    """There the protocol has the error as an event, and then the end."""
    async with streaming(served, user_token if token else None, "/graphql", query) as stream:
        refused, complete = await stream.next(), await stream.next()

    assert refused is not None
    assert [error["extensions"]["code"] for error in refused.data["errors"]] == [code]
    assert complete is not None
    assert complete.type == "complete"


async def test_a_query_may_be_streamed(served: Served, manager_token: str) -> None:
    """A query over a stream has one result, and then the end."""
    async with streaming(served, manager_token, "/graphql", "{ __typename }") as stream:
        events = [await stream.next(), await stream.next()]

    assert [event and event.type for event in events] == ["next", "complete"]


async def test_what_a_manager_does_is_told_through_kafka(
    kafka_settings: Settings, kafka_clients: Clients, manager: Context, manager_token: str, pending: LinkRequest
) -> None:
    """From a decision through outbox and Kafka to whoever listens, at either door."""
    approved = "subscription { linkRequestUpdates(status: APPROVED) { id } }"
    async with (
        serving_api(kafka_settings) as served,
        relaying(kafka_clients),
        streaming(served, manager_token, f"{EVENTS}?status=approved") as rest,
        streaming(served, manager_token, "/graphql", approved) as graphql,
    ):
        await served.listened_to(2)
        await links.approve(manager, pending.id)
        told = [await rest.next(), await graphql.next()]

    assert told[0] is not None
    assert told[0].data["id"] == str(pending.id)
    assert told[1] == Event("next", {"data": {"linkRequestUpdates": {"id": str(pending.id)}}})


async def test_what_is_sent_again_is_told_through_kafka(
    kafka_settings: Settings,
    kafka_clients: Clients,
    manager: Context,
    manager_token: str,
    announced: Notification,
) -> None:
    """So is a message that a manager has sent again."""
    async with (
        serving_api(kafka_settings) as served,
        streaming(served, manager_token, f"{MESSAGES}?cafe_id={announced.cafe_id}") as rest,
        streaming(served, manager_token, "/graphql", MESSAGE_UPDATES) as graphql,
    ):
        await served.listened_to(2)
        await change(kafka_clients, announced, status=NotificationStatus.FAILED, attempts=3)
        async with relaying(kafka_clients):
            told = [await rest.next(), await graphql.next()]
            await notifications.retry_notification(manager, announced.id)
            told += [await rest.next(), await graphql.next()]

    queued = Event("next", {"data": {"notificationUpdates": {"id": str(announced.id), "status": "QUEUED"}}})
    assert [event and event.data["attempts"] for event in told[::2]] == [0, 3]
    assert told[1::2] == [queued, queued]


async def test_what_becomes_of_a_run_is_told_through_kafka(
    kafka_settings: Settings, kafka_clients: Clients, manager_token: str, run: RecommendationRun
) -> None:
    """So is a run that has begun, is paused, goes on, and ends."""
    now = datetime.now(UTC)
    async with (
        serving_api(kafka_settings) as served,
        streaming(served, manager_token, RUNS) as rest,
        streaming(served, manager_token, "/graphql", RUN_UPDATES) as graphql,
    ):
        await served.listened_to(2)
        async with kafka_clients.db() as session:
            await runs.pause(session, run.date, PauseReason.KEYS_RESTING, now, now + timedelta(hours=1))
        await runs.start(kafka_clients, now)
        async with kafka_clients.db() as session:
            for tgid in (FIRST_DINER, FIRST_DINER + 1, FIRST_DINER + 2):
                await run_items.not_done(session, run.date, tgid, "it does not fit", AT_ONCE)
            await runs.take_stock(session, run.date, now)
        async with relaying(kafka_clients):
            told = [(await rest.next(), await graphql.next()) for _ in range(4)]

    steps = ["running", "paused", "running", "finished"]
    assert [heard and heard.data["status"] for heard, _ in told] == steps
    assert [heard and heard.data["data"]["recommendationRunUpdates"]["status"].lower() for _, heard in told] == steps
