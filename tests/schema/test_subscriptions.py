"""Live subscriptions over WebSocket: who hears what, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from app.auth import issue_token
from app.clients import Clients
from app.events.live import QUEUE_EVENTS
from app.events.messages import (
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
from tests.conftest import MANAGER_TGID
from tests.doors import CHAT, INIT, Served, Socket, code, connected, signed_in

UPDATES = "subscription { linkRequestUpdates { id } }"
MESSAGES = "subscription { notificationUpdates { id } }"
RUNS = "subscription { recommendationRunUpdates { date } }"


def short_lived(settings: Settings) -> str:
    """A manager's token for one to two seconds: its end is told in whole seconds."""
    return issue_token(settings, User(tgid=MANAGER_TGID, name="", role=Role.MANAGER), timedelta(seconds=2))


async def test_a_subscriber_hears_what_happens(served: Served, socket: Socket, event: LinkRequestEvent) -> None:
    """An event comes to who has subscribed, with the cafe's chat, for managers may see it."""
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
    ("arguments", "heard"),
    [
        ("(status: APPROVED)", ["2", "4"]),
        ("(cafeId: 7)", ["3", "4"]),
        ("(status: APPROVED, cafeId: 7)", ["4"]),
        ("(status: null, cafeId: null)", ["1", "2", "3", "4"]),
    ],
)
async def test_a_subscriber_hears_what_it_wants(
    served: Served, socket: Socket, event: LinkRequestEvent, arguments: str, heard: list[str]
) -> None:
    """Filters go together; events come in order."""
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

    assert [(await socket.hear())["payload"]["data"]["linkRequestUpdates"]["id"] for _ in range(len(heard))] == heard


async def test_a_subscriber_hears_of_messages(served: Served, socket: Socket, news: NotificationEvent) -> None:
    """What is sent to a chat comes to who has subscribed, with the chat, for managers may see it."""
    await socket.ask(
        "subscription { notificationUpdates { id kind status version text tgChatId sentAt cafe { name tgChatId } } }"
    )
    await served.listened_to()

    served.happen(news)

    assert await socket.hear() == {
        "type": "next",
        "id": "1",
        "payload": {
            "data": {
                "notificationUpdates": {
                    "id": str(news.id),
                    "kind": "ORDERS",
                    "status": "QUEUED",
                    "version": 1,
                    "text": news.text,
                    "tgChatId": CHAT,
                    "sentAt": None,
                    "cafe": {"name": news.cafe_name, "tgChatId": CHAT},
                }
            }
        },
    }


async def test_a_subscriber_hears_how_far_a_message_has_come(
    served: Served, socket: Socket, news: NotificationEvent
) -> None:
    """Each step is an event, with the message as it is then."""
    await socket.ask("subscription { notificationUpdates { status error acknowledgedBy } }")
    await served.listened_to()

    known = news.model_dump()
    served.happen(
        news,
        NotificationFailed.model_validate(known | {"status": NotificationStatus.FAILED, "error": "it was no good"}),
        NotificationSent.model_validate(known | {"status": NotificationStatus.SENT}),
        NotificationAcknowledged.model_validate(known | {"status": NotificationStatus.SENT, "acknowledged_by": "Anna"}),
    )

    heard = [(await socket.hear())["payload"]["data"]["notificationUpdates"] for _ in range(4)]
    assert [tuple(told.values()) for told in heard] == [
        ("QUEUED", None, None),
        ("FAILED", "it was no good", None),
        ("SENT", None, None),
        ("SENT", None, "Anna"),
    ]


@pytest.mark.parametrize(
    ("arguments", "heard"), [("", ["1", "2", "3"]), ("(cafeId: null)", ["1", "2", "3"]), ("(cafeId: 7)", ["2"])]
)
async def test_a_subscriber_hears_of_a_cafes_messages(
    served: Served, socket: Socket, news: NotificationEvent, arguments: str, heard: list[str]
) -> None:
    """Or of all, in order."""
    await socket.ask(f"subscription {{ notificationUpdates{arguments} {{ id }} }}")
    await served.listened_to()

    served.happen(
        *(news.model_copy(update={"id": id_, "cafe_id": cafe_id}) for id_, cafe_id in [(1, 1), (2, 7), (3, 1)])
    )

    assert [(await socket.hear())["payload"]["data"]["notificationUpdates"]["id"] for _ in range(len(heard))] == heard


async def test_a_subscriber_hears_of_a_run(served: Served, socket: Socket, run_news: RecommendationRunEvent) -> None:
    """A run that begins comes to who has subscribed, with everything that is known of it."""
    await socket.ask(
        "subscription { recommendationRunUpdates { "
        "date status total done failed keysSufficeFor startedBy startedAt finishedAt pausedUntil pauseReason } }"
    )
    await served.listened_to()

    served.happen(run_news)

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
                    "keysSufficeFor": 3,
                    "startedBy": None,
                    "startedAt": "2026-03-04T03:00:00+00:00",
                    "finishedAt": None,
                    "pausedUntil": None,
                    "pauseReason": None,
                }
            }
        },
    }


async def test_a_subscriber_hears_how_far_a_run_has_come(
    served: Served, socket: Socket, run_news: RecommendationRunEvent
) -> None:
    """Each step is an event, with the run as it is then."""
    await socket.ask(
        "subscription { recommendationRunUpdates { status done failed pauseReason pausedUntil finishedAt } }"
    )
    await served.listened_to()

    known, at = run_news.model_dump(), datetime(2026, 3, 4, 4, tzinfo=UTC)
    pause = {"status": RunStatus.PAUSED, "pause_reason": PauseReason.KEYS_RESTING, "paused_until": at}
    served.happen(
        run_news,
        RecommendationRunProgressed.model_validate(known | {"done": 2}),
        RecommendationRunPaused.model_validate(known | {"done": 3} | pause),
        RecommendationRunProgressed.model_validate(known | {"done": 3}),
        RecommendationRunFinished.model_validate(
            known | {"done": 4, "failed": 1, "status": RunStatus.FINISHED, "finished_at": at}
        ),
    )

    heard = [(await socket.hear())["payload"]["data"]["recommendationRunUpdates"] for _ in range(5)]
    assert [tuple(told.values()) for told in heard] == [
        ("RUNNING", 0, 0, None, None, None),
        ("RUNNING", 2, 0, None, None, None),
        ("PAUSED", 3, 0, "KEYS_RESTING", at.isoformat(), None),
        ("RUNNING", 3, 0, None, None, None),
        ("FINISHED", 4, 1, None, None, at.isoformat()),
    ]


async def test_a_subscriber_hears_of_nothing_else(
    served: Served,
    socket: Socket,
    event: LinkRequestEvent,
    news: NotificationEvent,
    run_news: RecommendationRunEvent,
) -> None:
    """Who listens to messages is not told of link requests, nor of runs, nor the other way round."""
    await socket.ask(MESSAGES, "messages")
    await socket.ask(UPDATES, "requests")
    await socket.ask(RUNS, "runs")
    await served.listened_to(3)

    served.happen(event, news, run_news, event)

    heard = [(await socket.hear())["id"] for _ in range(4)]
    assert sorted(heard) == ["messages", "requests", "requests", "runs"]


async def test_a_subscriber_to_runs_takes_no_filter(served: Served, socket: Socket) -> None:
    """There is one run a day: whoever listens hears of all."""
    await socket.ask('subscription { recommendationRunUpdates(date: "2026-03-04") { date } }')

    assert code(await socket.hear()) == ("error", "GRAPHQL_INVALID")


async def test_subscriptions_of_one_socket_are_told_apart(
    served: Served, socket: Socket, event: LinkRequestEvent
) -> None:
    """Each message says whose it is."""
    await socket.ask(UPDATES, "a")
    await socket.ask(UPDATES, "b")
    await served.listened_to(2)

    served.happen(event)

    assert {(await socket.hear())["id"], (await socket.hear())["id"]} == {"a", "b"}


async def test_every_socket_hears(served: Served, socket: Socket, manager_token: str, event: LinkRequestEvent) -> None:
    """An event comes to everybody who has subscribed."""
    async with signed_in(served, manager_token) as other:
        await socket.ask(UPDATES)
        await other.ask(UPDATES)
        await served.listened_to(2)

        served.happen(event)

        assert [(await each.hear())["type"] for each in (socket, other)] == ["next", "next"]


async def test_a_subscription_ends_when_its_client_says_so(served: Served, socket: Socket) -> None:
    """After `complete` nobody listens, and the id is free again."""
    await socket.ask(UPDATES)
    await served.listened_to()

    await socket.say({"type": "complete", "id": "1"})

    await served.listened_to(0)
    await socket.ask("{ __typename }")
    assert (await socket.hear())["type"] == "next"


async def test_a_closed_socket_leaves_nothing_behind(served: Served, manager_token: str) -> None:
    """Subscriptions end with their socket."""
    async with signed_in(served, manager_token) as socket:
        await socket.ask(UPDATES)
        await served.listened_to()

    await served.listened_to(0)


async def test_a_token_that_expires_closes_the_socket(served: Served, settings: Settings) -> None:
    """A subscription does not outlive the right to it."""
    async with signed_in(served, short_lived(settings)) as socket:
        await socket.ask(UPDATES)
        await served.listened_to()

        assert await socket.closed() == 4401
        await served.listened_to(0)


async def test_a_token_in_the_handshake_does_not_outlive_its_expiry(served: Served, settings: Settings) -> None:
    """A client that can set headers has no more rights than others: it is refused, or closed when its token expires."""
    headers = {"Authorization": f"Bearer {short_lived(settings)}"}
    async with connected(served, additional_headers=headers) as socket:
        await (await socket.say(INIT)).ask(UPDATES)
        await socket.hear()  # the acknowledgement

        refused_or_closed = await socket.ended(within_s=4)

        assert refused_or_closed in ("UNAUTHENTICATED", 4401)


@pytest.mark.parametrize("query", [UPDATES, MESSAGES, RUNS])
async def test_without_a_token_nobody_subscribes(served: Served, query: str) -> None:
    """What is for managers is refused to who has not signed in; the socket stays open."""
    async with signed_in(served, None) as socket:
        await socket.ask(query)

        assert code(await socket.hear()) == ("error", "UNAUTHENTICATED")
        await socket.ask("{ __typename }", "2")
        assert (await socket.hear())["type"] == "next"


@pytest.mark.parametrize("query", [UPDATES, MESSAGES, RUNS])
async def test_users_do_not_subscribe(served: Served, user_token: str, query: str) -> None:
    """What is for managers is refused to users."""
    async with signed_in(served, user_token) as socket:
        await socket.ask(query)

        assert code(await socket.hear()) == ("error", "FORBIDDEN")


@pytest.mark.parametrize("field", ["linkRequestUpdates", "notificationUpdates"])
async def test_what_is_no_cafe_is_not_listened_to(served: Served, socket: Socket, field: str) -> None:
    """A filter that is no id is refused."""
    await socket.ask(f'subscription {{ {field}(cafeId: "x") {{ id }} }}')

    assert code(await socket.hear()) == ("error", "BAD_INPUT")


async def test_who_is_switched_off_starts_nothing_more(served: Served, socket: Socket, clients: Clients) -> None:
    """Each operation asks anew who it is."""
    async with clients.db() as session:
        await session.execute(sa.text("UPDATE users SET is_active = false"))

    await socket.ask(UPDATES)

    assert code(await socket.hear()) == ("error", "FORBIDDEN")


@pytest.mark.parametrize("change", ["UPDATE users SET is_active = false", "UPDATE users SET role = 'user'"])
async def test_who_may_listen_no_more_is_told(served: Served, socket: Socket, clients: Clients, change: str) -> None:
    """A subscription ends when its user is switched off, or is no manager any more."""
    await socket.ask(UPDATES)
    await served.listened_to()

    async with clients.db() as session:
        await session.execute(sa.text(change))

    assert code(await socket.hear())[1] == "FORBIDDEN"
    await served.listened_to(0)


async def test_who_keeps_their_rights_goes_on_listening(
    served: Served, socket: Socket, settings: Settings, clients: Clients, event: LinkRequestEvent
) -> None:
    """What ends for one goes on for others."""
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


async def test_a_subscriber_that_falls_behind_is_told(served: Served, socket: Socket, event: LinkRequestEvent) -> None:
    """When more events wait than there is room for, those that did fit come, and then the end with its code."""
    await socket.ask(UPDATES)
    await served.listened_to()

    served.happen(*([event] * (QUEUE_EVENTS + 1)))

    messages = [await socket.hear() for _ in range(QUEUE_EVENTS + 1)]
    assert {message["type"] for message in messages[:-1]} == {"next"}
    assert code(messages[-1])[1] == "SLOW_CONSUMER"
