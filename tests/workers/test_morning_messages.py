"""Morning messages: their recipients, their time, and that each user gets one at most."""

import asyncio
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr
from sqlmodel import select

from app.ai.recommendation import Recommendation
from app.ai.stats import FavoriteDish, OrderStats
from app.clients import Clients, open_clients
from app.dev.telegram.chats import Chat
from app.dev.telegram.faults import Failure, FailureKind
from app.models import ItemStatus, Language, RecommendationItem, RecommendationRun, RunStatus, User
from app.settings import Settings
from app.telegram import texts
from app.telegram.limiter import Busy, Limiter
from app.telegram.sender import make_bot
from app.workers.morning_messages import BATCH_SIZE, WINDOW, send_morning_messages
from tests.servers import DEADLINE_S
from tests.telegram_standin import TOKEN, World, limited_bot, read_in

BERLIN = ZoneInfo("Europe/Berlin")
TODAY = date(2026, 3, 4)
MADE_AT = datetime.combine(TODAY, time(3), BERLIN)
MORNING_AT = datetime.combine(TODAY, time(8, 30), BERLIN)
SECOND = timedelta(seconds=1)

UNAVAILABLE_TELEGRAM = "http://127.0.0.1:1"
SHORT_CALL_S = 10
"""Much less than the time that a call may work."""

RECOMMENDATION = Recommendation(
    summary="You like soup.",
    tips=("Try a salad.",),
    stats=OrderStats(orders_count=6, favorite_dishes=(FavoriteDish(name="Borscht", count=4),)),
    generated_at=MADE_AT,
)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with a morning message at 08:30 in Berlin."""
    return settings.model_copy(update={"lunch_timezone": BERLIN, "morning_message_at": time(8, 30)})


async def add_recommended(
    clients: Clients, *chats: Chat, on: date = TODAY, status: ItemStatus = ItemStatus.DONE, **fields: object
) -> None:
    """Add a finished run with an item for each of these chats."""
    async with clients.db() as session:
        session.add(RecommendationRun(date=on, status=RunStatus.FINISHED, started_at=MADE_AT))
        session.add_all(User(tgid=chat.id, name="Anna", **fields) for chat in chats)  # type: ignore[arg-type]
        await session.flush()
        session.add_all(
            RecommendationItem(
                date=on,
                user_tgid=chat.id,
                position=position,
                status=status,
                recommendation=RECOMMENDATION.model_dump(mode="json") if status is ItemStatus.DONE else None,
            )
            for position, chat in enumerate(chats)
        )


async def send_all(clients: Clients, world: World, at: datetime = MORNING_AT) -> int:
    """Run the job of the worker."""
    async with limited_bot(world, clients) as bot:
        return await send_morning_messages(clients, bot, Limiter(clients.redis), at)


async def test_each_user_gets_the_recommendation(clients: Clients, world: World) -> None:
    """Each user gets the recommendation in the morning, with the same text as from the bot."""
    chats = [world.person() for _ in range(3)]
    await add_recommended(clients, *chats)

    assert await send_all(clients, world) == 3

    assert [read_in(chat) for chat in chats] == [[texts.recommended(RECOMMENDATION, "en")]] * 3


async def test_one_call_sends_several_batches(clients: Clients, world: World) -> None:
    """One call sends more messages than one batch has."""
    await add_recommended(clients, *(world.person() for _ in range(2 * BATCH_SIZE)))

    assert await send_all(clients, world) > BATCH_SIZE


async def test_a_message_is_in_the_language_of_the_user(clients: Clients, world: World) -> None:
    """A message is in the language of the user."""
    chat = world.person()
    await add_recommended(clients, chat, language=Language.RU)

    await send_all(clients, world)

    assert read_in(chat) == [texts.recommended(RECOMMENDATION, "ru")]


async def test_each_user_gets_one_message(clients: Clients, world: World) -> None:
    """A second call on the same morning sends no message again."""
    chat = world.person()
    await add_recommended(clients, chat)
    await send_all(clients, world)

    assert await send_all(clients, world, MORNING_AT + timedelta(minutes=1)) == 0

    assert len(read_in(chat)) == 1


async def test_simultaneous_workers_send_each_message_once(clients: Clients, world: World) -> None:
    """Simultaneous workers send each message once."""
    chats = [world.person() for _ in range(40)]
    await add_recommended(clients, *chats)

    async with asyncio.timeout(DEADLINE_S):
        while not all(read_in(chat) for chat in chats):
            await asyncio.gather(*(send_all(clients, world) for _ in range(2)))

    assert {len(read_in(chat)) for chat in chats} == {1}


async def test_by_default_there_are_no_messages(settings: Settings, clients: Clients, world: World) -> None:
    """Without MORNING_MESSAGE_AT there are no messages."""
    chat = world.person()
    await add_recommended(clients, chat)
    default = Settings.model_fields["morning_message_at"].default

    async with open_clients(settings.model_copy(update={"morning_message_at": default})) as without_messages:
        assert await send_all(without_messages, world) == 0

    assert read_in(chat) == []


@pytest.mark.parametrize(
    ("at", "sent"),
    [
        (MORNING_AT - SECOND, 0),
        (MORNING_AT, 1),
        (MORNING_AT + WINDOW - SECOND, 1),
        (MORNING_AT + WINDOW, 0),
        (MORNING_AT + timedelta(days=1), 0),
    ],
)
async def test_messages_are_sent_within_the_window(clients: Clients, world: World, at: datetime, sent: int) -> None:
    """A message is sent neither before its time, nor after the window, nor on another day."""
    await add_recommended(clients, world.person())

    assert await send_all(clients, world, at) == sent


@pytest.mark.parametrize(
    ("on", "at", "sent"),
    [
        (date(2026, 3, 4), "2026-03-04T07:30Z", 1),
        (date(2026, 3, 4), "2026-03-04T06:30Z", 0),
        (date(2026, 7, 1), "2026-07-01T06:30Z", 1),
        (date(2026, 3, 29), "2026-03-29T06:30Z", 1),
        (date(2026, 10, 25), "2026-10-25T06:30Z", 0),
    ],
)
async def test_the_time_is_in_the_programmes_time_zone(
    clients: Clients, world: World, on: date, at: str, sent: int
) -> None:
    """The time is local to LUNCH_TIMEZONE, also on the days when clocks change."""
    await add_recommended(clients, world.person(), on=on)

    assert await send_all(clients, world, datetime.fromisoformat(at)) == sent


@pytest.mark.parametrize("status", [ItemStatus.PENDING, ItemStatus.FAILED])
async def test_a_user_without_a_recommendation_gets_no_message(
    clients: Clients, world: World, status: ItemStatus
) -> None:
    """A user without a recommendation gets no message."""
    await add_recommended(clients, world.person(), status=status)

    assert await send_all(clients, world) == 0


async def test_a_late_recommendation_is_sent_later(clients: Clients, world: World) -> None:
    """A recommendation that is made during the morning is sent by a later call."""
    chat = world.person()
    await add_recommended(clients, chat, status=ItemStatus.PENDING)
    await send_all(clients, world)
    async with clients.db() as session:
        item = await session.get_one(RecommendationItem, (TODAY, chat.id))
        item.status = ItemStatus.DONE
        item.recommendation = RECOMMENDATION.model_dump(mode="json")

    assert await send_all(clients, world, MORNING_AT + timedelta(hours=1)) == 1


async def test_a_deactivated_user_gets_no_message(clients: Clients, world: World) -> None:
    """A deactivated user gets no message, even with a recommendation."""
    chat = world.person()
    await add_recommended(clients, chat, is_active=False)

    assert await send_all(clients, world) == 0

    assert read_in(chat) == []


@pytest.mark.parametrize("kind", [FailureKind.BLOCKED, FailureKind.DROP_AFTER, FailureKind.SERVER_ERROR])
async def test_a_dropped_message_does_not_affect_the_others(clients: Clients, world: World, kind: FailureKind) -> None:
    """A refused message, or one with an unknown delivery, is not repeated, and the others are sent."""
    chats = [world.person() for _ in range(3)]
    world.state.failures.add(Failure(method="sendMessage", chat_id=chats[0].id, kind=kind))
    await add_recommended(clients, *chats)

    sent = [await send_all(clients, world) for _ in range(2)]

    assert sent == [2, 0]
    assert [len(read_in(chat)) for chat in chats[1:]] == [1, 1]


async def test_a_deferred_message_is_sent_later(clients: Clients, world: World) -> None:
    """A message with a 429 is sent once by a later call."""
    chat = world.person()
    world.fail(FailureKind.RATE_LIMIT, after=1)
    await add_recommended(clients, chat)

    assert await send_all(clients, world) == 0

    async with asyncio.timeout(DEADLINE_S):
        while not await send_all(clients, world):
            pass
    assert len(read_in(chat)) == 1


async def test_a_deferred_message_does_not_delay_the_others(clients: Clients, world: World) -> None:
    """A message with a 429 delays neither the others nor the worker."""
    chats = [world.person() for _ in range(3)]
    world.state.failures.add(
        Failure(method="sendMessage", chat_id=chats[0].id, kind=FailureKind.RATE_LIMIT, retry_after=60)
    )
    await add_recommended(clients, *chats)

    async with asyncio.timeout(SHORT_CALL_S):
        assert await send_all(clients, world) == 2


async def test_retry_after_is_respected_by_all_processes(clients: Clients, world: World) -> None:
    """After a 429 the chat has no slot for any process."""
    chat = world.person()
    world.fail(FailureKind.RATE_LIMIT, after=60)
    await add_recommended(clients, chat)
    await send_all(clients, world)

    answer = await Limiter(clients.redis).acquire(chat.id, patience_s=2)

    assert isinstance(answer, Busy)
    assert 50 < answer.wait_s <= 60


async def test_two_simultaneous_429s_defer_all_messages(clients: Clients, world: World) -> None:
    """Several simultaneous 429s are the bot's limit: all messages are deferred, and the call ends."""
    chats = [world.person() for _ in range(2 * BATCH_SIZE)]
    world.fail(FailureKind.RATE_LIMIT, after=60, times=BATCH_SIZE)
    await add_recommended(clients, *chats)

    async with asyncio.timeout(SHORT_CALL_S):
        assert await send_all(clients, world) == 0

    async with clients.db() as session:
        notified_at = await session.scalars(select(RecommendationItem.notified_at))
        assert set(notified_at) == {None}


async def test_messages_are_deferred_while_telegram_is_unavailable(clients: Clients, world: World) -> None:
    """All messages are deferred while Telegram is unavailable, and sent later."""
    chats = [world.person() for _ in range(3)]
    await add_recommended(clients, *chats)
    async with make_bot(TOKEN, UNAVAILABLE_TELEGRAM).context() as disconnected, asyncio.timeout(SHORT_CALL_S):
        assert await send_morning_messages(clients, disconnected, Limiter(clients.redis), MORNING_AT) == 0

    assert await send_all(clients, world, MORNING_AT + timedelta(minutes=1)) == 3


async def test_messages_are_deferred_while_redis_is_unavailable(
    settings: Settings, clients: Clients, world: World
) -> None:
    """All messages are deferred while Redis is unavailable, and sent later."""
    chats = [world.person() for _ in range(3)]
    await add_recommended(clients, *chats)
    unavailable = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})
    async with open_clients(unavailable) as without_redis:
        assert await send_all(without_redis, world) == 0

    assert await send_all(clients, world, MORNING_AT + timedelta(minutes=1)) == 3


async def test_a_failure_of_one_user_does_not_stop_the_messages_of_others(clients: Clients, world: World) -> None:
    """If the recommendation of one user is unreadable, the others get theirs."""
    chats = [world.person() for _ in range(3)]
    await add_recommended(clients, *chats)
    async with clients.db() as session:
        item = await session.get_one(RecommendationItem, (TODAY, chats[0].id))
        item.recommendation = {"tips": "none"}

    await send_all(clients, world)

    assert [len(read_in(chat)) for chat in chats] == [0, 1, 1]
