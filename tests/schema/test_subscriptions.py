"""Live subscriptions over WebSocket: the events of each subscriber, and the end of a subscription."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from app.auth.tokens import issue_token
from app.clients import Clients
from app.events.live import QUEUE_EVENTS
from app.events.types import (
    LinkRequestEvent,
    NotificationAcknowledged,
    NotificationEvent,
    NotificationFailed,
    NotificationSent,
    RecommendationRunEvent,
    RecommendationRunFinished,
    RecommendationRunPaused,
    RecommendationRunProgressed,
)
from app.models import LinkRequestStatus, NotificationStatus, PauseReason, Role, RunStatus, User
from app.settings import Settings
from tests.apis import CHAT, INIT, Served, Socket, code, connected, signed_in
from tests.conftest import MANAGER_TGID

UPDATES = "subscription { linkRequestUpdates { id } }"
MESSAGES = "subscription { notificationUpdates { id } }"
RUNS = "subscription { recommendationRunUpdates { date } }"


def short_lived(settings: Settings) -> str:
    """Issue a manager's token that is valid for one to two seconds: the expiry is in whole seconds."""
    return issue_token(settings, User(tgid=MANAGER_TGID, name="", role=Role.MANAGER), timedelta(seconds=2))


async def test_a_subscriber_gets_link_requests(served: Served, socket: Socket, event: LinkRequestEvent) -> None:
    """A subscriber gets an event with the cafe's chat, which managers may see."""
    await socket.ask("subscription { linkRequestUpdates { id status tgChatId cafe { name tgChatId } } }")
    await served.listened_to()

    linked = event.model_copy(update={"cafe": event.cafe.model_copy(update={"tg_chat_id": CHAT})})
    served.happen(linked)

    assert await socket.hear() == {
        "type": "next",
        "id": "1",
        "payload": {
            "data": {
                "linkRequestUpdates": {
                    "id": str(event.id),
                    "status": "PENDING",
                    "tgChatId": CHAT,
                    "cafe": {"name": event.cafe_name, "tgChatId": CHAT},
                }
            }
        },
    }


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ("(status: APPROVED)", ["2", "4"]),
        ("(cafeId: 7)", ["3", "4"]),
        ("(status: APPROVED, cafeId: 7)", ["4"]),
        ("(status: null, cafeId: null)", ["1", "2", "3", "4"]),
    ],
)
async def test_a_subscriber_gets_the_filtered_link_requests(
    served: Served, socket: Socket, event: LinkRequestEvent, arguments: str, received: list[str]
) -> None:
    """Several filters apply together; events come in order."""
    await socket.ask(f"subscription {{ linkRequestUpdates{arguments} {{ id }} }}")
    await served.listened_to()

    served.happen(
        *(
            event.model_copy(update={"id": number, "cafe_id": cafe_id, "status": status})
            for number, cafe_id, status in [
                (1, 1, LinkRequestStatus.PENDING),
                (2, 1, LinkRequestStatus.APPROVED),
                (3, 7, LinkRequestStatus.REJECTED),
                (4, 7, LinkRequestStatus.APPROVED),
            ]
        ),
    )

    assert [
        (await socket.hear())["payload"]["data"]["linkRequestUpdates"]["id"] for _ in range(len(received))
    ] == received


async def test_a_subscriber_gets_notifications(
    served: Served, socket: Socket, notification_event: NotificationEvent
) -> None:
    """A subscriber gets a notification with the chat, which managers may see."""
    await socket.ask(
        "subscription { notificationUpdates { id kind status version text tgChatId sentAt cafe { name tgChatId } } }"
    )
    await served.listened_to()

    served.happen(notification_event)

    assert await socket.hear() == {
        "type": "next",
        "id": "1",
        "payload": {
            "data": {
                "notificationUpdates": {
                    "id": str(notification_event.id),
                    "kind": "ORDERS",
                    "status": "QUEUED",
                    "version": 1,
                    "text": notification_event.text,
                    "tgChatId": CHAT,
                    "sentAt": None,
                    "cafe": {"name": notification_event.cafe_name, "tgChatId": CHAT},
                }
            }
        },
    }


async def test_a_subscriber_gets_each_state_of_a_notification(
    served: Served, socket: Socket, notification_event: NotificationEvent
) -> None:
    """Each change is an event with the notification at that time."""
    await socket.ask("subscription { notificationUpdates { status error acknowledgedBy } }")
    await served.listened_to()

    known = notification_event.model_dump()
    served.happen(
        notification_event,
        NotificationFailed.model_validate(known | {"status": NotificationStatus.FAILED, "error": "no such chat"}),
        NotificationSent.model_validate(known | {"status": NotificationStatus.SENT}),
        NotificationAcknowledged.model_validate(known | {"status": NotificationStatus.SENT, "acknowledged_by": "Anna"}),
    )

    received = [(await socket.hear())["payload"]["data"]["notificationUpdates"] for _ in range(4)]
    assert [tuple(fields.values()) for fields in received] == [
        ("QUEUED", None, None),
        ("FAILED", "no such chat", None),
        ("SENT", None, None),
        ("SENT", None, "Anna"),
    ]


@pytest.mark.parametrize(
    ("arguments", "received"), [("", ["1", "2", "3"]), ("(cafeId: null)", ["1", "2", "3"]), ("(cafeId: 7)", ["2"])]
)
async def test_a_subscriber_gets_the_notifications_of_a_cafe(
    served: Served, socket: Socket, notification_event: NotificationEvent, arguments: str, received: list[str]
) -> None:
    """The subscriber gets the notifications of one cafe, or all, in order."""
    await socket.ask(f"subscription {{ notificationUpdates{arguments} {{ id }} }}")
    await served.listened_to()

    served.happen(
        *(
            notification_event.model_copy(update={"id": id_, "cafe_id": cafe_id})
            for id_, cafe_id in [(1, 1), (2, 7), (3, 1)]
        )
    )

    assert [
        (await socket.hear())["payload"]["data"]["notificationUpdates"]["id"] for _ in range(len(received))
    ] == received


async def test_a_subscriber_gets_a_run(served: Served, socket: Socket, run_event: RecommendationRunEvent) -> None:
    """A started run is an event with all fields of the run."""
    await socket.ask(
        "subscription { recommendationRunUpdates { "
        "date status total done failed requestBudget startedBy startedAt finishedAt pausedUntil pauseReason } }"
    )
    await served.listened_to()

    served.happen(run_event)

    assert await socket.hear() == {
        "type": "next",
        "id": "1",
        "payload": {
            "data": {
                "recommendationRunUpdates": {
                    "date": "2026-03-04",
                    "status": "RUNNING",
                    "total": 5,
                    "done": 0,
                    "failed": 0,
                    "requestBudget": 3,
                    "startedBy": None,
                    "startedAt": "2026-03-04T03:00:00+00:00",
                    "finishedAt": None,
                    "pausedUntil": None,
                    "pauseReason": None,
                }
            }
        },
    }


async def test_a_subscriber_gets_each_state_of_a_run(
    served: Served, socket: Socket, run_event: RecommendationRunEvent
) -> None:
    """Each change is an event with the run at that time."""
    await socket.ask(
        "subscription { recommendationRunUpdates { status done failed pauseReason pausedUntil finishedAt } }"
    )
    await served.listened_to()

    known, at = run_event.model_dump(), datetime(2026, 3, 4, 4, tzinfo=UTC)
    pause = {"status": RunStatus.PAUSED, "pause_reason": PauseReason.QUOTA_EXHAUSTED, "paused_until": at}
    served.happen(
        run_event,
        RecommendationRunProgressed.model_validate(known | {"done": 2}),
        RecommendationRunPaused.model_validate(known | {"done": 3} | pause),
        RecommendationRunProgressed.model_validate(known | {"done": 3}),
        RecommendationRunFinished.model_validate(
            known | {"done": 4, "failed": 1, "status": RunStatus.FINISHED, "finished_at": at}
        ),
    )

    received = [(await socket.hear())["payload"]["data"]["recommendationRunUpdates"] for _ in range(5)]
    assert [tuple(fields.values()) for fields in received] == [
        ("RUNNING", 0, 0, None, None, None),
        ("RUNNING", 2, 0, None, None, None),
        ("PAUSED", 3, 0, "QUOTA_EXHAUSTED", at.isoformat(), None),
        ("RUNNING", 3, 0, None, None, None),
        ("FINISHED", 4, 1, None, None, at.isoformat()),
    ]


async def test_a_subscriber_gets_only_its_events(
    served: Served,
    socket: Socket,
    event: LinkRequestEvent,
    notification_event: NotificationEvent,
    run_event: RecommendationRunEvent,
) -> None:
    """Each subscription gets only events of its kind."""
    await socket.ask(MESSAGES, "messages")
    await socket.ask(UPDATES, "requests")
    await socket.ask(RUNS, "runs")
    await served.listened_to(3)

    served.happen(event, notification_event, run_event, event)

    received = [(await socket.hear())["id"] for _ in range(4)]
    assert sorted(received) == ["messages", "requests", "requests", "runs"]


async def test_a_subscription_to_runs_has_no_filter(served: Served, socket: Socket) -> None:
    """There is one run for each date: a subscriber gets all runs."""
    await socket.ask('subscription { recommendationRunUpdates(date: "2026-03-04") { date } }')

    assert code(await socket.hear()) == ("error", "GRAPHQL_INVALID")


async def test_subscriptions_of_one_socket_have_ids(served: Served, socket: Socket, event: LinkRequestEvent) -> None:
    """Each message has the id of its subscription."""
    await socket.ask(UPDATES, "a")
    await socket.ask(UPDATES, "b")
    await served.listened_to(2)

    served.happen(event)

    assert {(await socket.hear())["id"], (await socket.hear())["id"]} == {"a", "b"}


async def test_every_socket_gets_the_event(
    served: Served, socket: Socket, manager_token: str, event: LinkRequestEvent
) -> None:
    """All subscribers get an event."""
    async with signed_in(served, manager_token) as other:
        await socket.ask(UPDATES)
        await other.ask(UPDATES)
        await served.listened_to(2)

        served.happen(event)

        assert [(await each.hear())["type"] for each in (socket, other)] == ["next", "next"]


async def test_complete_ends_a_subscription(served: Served, socket: Socket) -> None:
    """After `complete` the subscription is closed, and its id is free again."""
    await socket.ask(UPDATES)
    await served.listened_to()

    await socket.say({"type": "complete", "id": "1"})

    await served.listened_to(0)
    await socket.ask("{ __typename }")
    assert (await socket.hear())["type"] == "next"


async def test_a_closed_socket_ends_its_subscriptions(served: Served, manager_token: str) -> None:
    """The subscriptions of a socket end with it."""
    async with signed_in(served, manager_token) as socket:
        await socket.ask(UPDATES)
        await served.listened_to()

    await served.listened_to(0)


async def test_a_token_that_expires_closes_the_socket(served: Served, settings: Settings) -> None:
    """The socket is closed when the token expires."""
    async with signed_in(served, short_lived(settings)) as socket:
        await socket.ask(UPDATES)
        await served.listened_to()

        assert await socket.closed() == 4401
        await served.listened_to(0)


async def test_a_token_in_the_handshake_does_not_outlive_its_expiry(served: Served, settings: Settings) -> None:
    """A token in the headers of the handshake is refused, or the socket is closed when the token expires."""
    headers = {"Authorization": f"Bearer {short_lived(settings)}"}
    async with connected(served, additional_headers=headers) as socket:
        await (await socket.say(INIT)).ask(UPDATES)
        await socket.hear()  # the acknowledgement

        refused_or_closed = await socket.ended()

        assert refused_or_closed in ("UNAUTHENTICATED", 4401)


@pytest.mark.parametrize("query", [UPDATES, MESSAGES, RUNS])
async def test_a_subscription_requires_a_token(served: Served, query: str) -> None:
    """A subscription for managers is refused without a token; the socket stays open."""
    async with signed_in(served, None) as socket:
        await socket.ask(query)

        assert code(await socket.hear()) == ("error", "UNAUTHENTICATED")
        await socket.ask("{ __typename }", "2")
        assert (await socket.hear())["type"] == "next"


@pytest.mark.parametrize("query", [UPDATES, MESSAGES, RUNS])
async def test_users_may_not_subscribe(served: Served, user_token: str, query: str) -> None:
    """A subscription for managers is refused to users."""
    async with signed_in(served, user_token) as socket:
        await socket.ask(query)

        assert code(await socket.hear()) == ("error", "FORBIDDEN")


@pytest.mark.parametrize("field", ["linkRequestUpdates", "notificationUpdates"])
async def test_a_wrong_cafe_id_is_refused(served: Served, socket: Socket, field: str) -> None:
    """A filter that is not an id is refused."""
    await socket.ask(f'subscription {{ {field}(cafeId: "x") {{ id }} }}')

    assert code(await socket.hear()) == ("error", "BAD_INPUT")


async def test_a_deactivated_user_starts_no_operation(served: Served, socket: Socket, clients: Clients) -> None:
    """Each operation authenticates the caller again."""
    async with clients.db() as session:
        await session.execute(sa.text("UPDATE users SET is_active = false"))

    await socket.ask(UPDATES)

    assert code(await socket.hear()) == ("error", "FORBIDDEN")


@pytest.mark.parametrize("change", ["UPDATE users SET is_active = false", "UPDATE users SET role = 'user'"])
async def test_a_subscription_ends_when_the_viewer_loses_the_right(
    served: Served, socket: Socket, clients: Clients, change: str
) -> None:
    """A subscription ends with an error when its user is deactivated or no manager any more."""
    await socket.ask(UPDATES)
    await served.listened_to()

    async with clients.db() as session:
        await session.execute(sa.text(change))

    assert code(await socket.hear())[1] == "FORBIDDEN"
    await served.listened_to(0)


async def test_other_subscriptions_continue(
    served: Served, socket: Socket, settings: Settings, clients: Clients, event: LinkRequestEvent
) -> None:
    """The end of one user's subscription does not end those of other users."""
    other = User(tgid=3003, name="Pavel", role=Role.MANAGER)
    async with clients.db() as session:
        session.add(other)
    async with signed_in(served, issue_token(settings, other)) as others:
        await others.ask(UPDATES)
        await socket.ask(UPDATES)
        await served.listened_to(2)

        async with clients.db() as session:
            await session.execute(sa.text("DELETE FROM users WHERE tgid = 3003"))
        assert code(await others.hear())[1] == "FORBIDDEN"

        served.happen(event)
        assert (await socket.hear())["type"] == "next"


async def test_a_slow_subscriber_gets_an_error(served: Served, socket: Socket, event: LinkRequestEvent) -> None:
    """When the queue is full, the subscriber gets the queued events, and then SLOW_CONSUMER."""
    await socket.ask(UPDATES)
    await served.listened_to()

    served.happen(*([event] * (QUEUE_EVENTS + 1)))

    messages = [await socket.hear() for _ in range(QUEUE_EVENTS + 1)]
    assert {message["type"] for message in messages[:-1]} == {"next"}
    assert code(messages[-1])[1] == "SLOW_CONSUMER"
