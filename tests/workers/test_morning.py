"""The morning message: who gets it, when, and that nobody gets it twice."""

import asyncio
from collections.abc import AsyncIterator
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
from app.workers.deliveries import Turns
from app.workers.morning import MORNING, TOGETHER, tell_everybody
from tests.servers import DEADLINE_S
from tests.telegram.conftest import TOKEN, World, read_in, served_world

BERLIN = ZoneInfo("Europe/Berlin")
TODAY = date(2026, 3, 4)
MADE_AT = datetime.combine(TODAY, time(3), BERLIN)
MORNING_AT = datetime.combine(TODAY, time(8, 30), BERLIN)
SECOND = timedelta(seconds=1)

NOBODY_LISTENS = "http://127.0.0.1:1"
AT_ONCE_S = 10
"""Much less than a call may take as long as it has something to do."""

ADVICE = Recommendation(
    summary="You like soup.",
    tips=("Try a salad.",),
    stats=OrderStats(orders_count=6, favorite_dishes=(FavoriteDish(name="Borscht", count=4),)),
    generated_at=MADE_AT,
)


@pytest.fixture(scope="module")
async def shared_world() -> AsyncIterator[World]:
    async with served_world() as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> World:
    shared_world.state.reset()
    return shared_world


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a morning message, at half past eight in Berlin."""
    return settings.model_copy(update={"lunch_timezone": BERLIN, "morning_message_at": time(8, 30)})


async def add_recommended(
    clients: Clients, *chats: Chat, on: date = TODAY, status: ItemStatus = ItemStatus.DONE, **fields: object
) -> None:
    """Let last night's run be through with these people."""
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
                recommendation=ADVICE.model_dump(mode="json") if status is ItemStatus.DONE else None,
            )
            for position, chat in enumerate(chats)
        )


async def tell(clients: Clients, world: World, at: datetime = MORNING_AT) -> int:
    """Do what a worker does each minute."""
    return await tell_everybody(clients, world.bot, Turns(Limiter(clients.redis)), at)


async def test_everybody_who_got_one_is_told(clients: Clients, world: World) -> None:
    """In the morning each reads their recommendation, as the bot would tell it."""
    chats = [world.person() for _ in range(3)]
    await add_recommended(clients, *chats)

    assert await tell(clients, world) == 3

    assert [read_in(chat) for chat in chats] == [[texts.recommended(ADVICE, "en")]] * 3


async def test_more_people_than_are_told_at_a_time(clients: Clients, world: World) -> None:
    """One call goes on with the next when those are told."""
    await add_recommended(clients, *(world.person() for _ in range(2 * TOGETHER)))

    assert await tell(clients, world) > TOGETHER


async def test_it_is_in_the_persons_language(clients: Clients, world: World) -> None:
    """As they used Telegram when they asked last."""
    chat = world.person()
    await add_recommended(clients, chat, language=Language.RU)

    await tell(clients, world)

    assert read_in(chat) == [texts.recommended(ADVICE, "ru")]


async def test_nobody_is_told_twice(clients: Clients, world: World) -> None:
    """Whoever looks again, later in the same morning, finds it done."""
    chat = world.person()
    await add_recommended(clients, chat)
    await tell(clients, world)

    assert await tell(clients, world, MORNING_AT + timedelta(minutes=1)) == 0

    assert len(read_in(chat)) == 1


async def test_two_workers_at_once_tell_everybody_once(clients: Clients, world: World) -> None:
    """Each takes others."""
    chats = [world.person() for _ in range(40)]
    await add_recommended(clients, *chats)

    async with asyncio.timeout(DEADLINE_S):
        while not all(read_in(chat) for chat in chats):
            await asyncio.gather(*(tell(clients, world) for _ in range(2)))

    assert {len(read_in(chat)) for chat in chats} == {1}


async def test_by_default_nobody_is_told(settings: Settings, clients: Clients, world: World) -> None:
    """Without MORNING_MESSAGE_AT one has to ask the bot."""
    chat = world.person()
    await add_recommended(clients, chat)
    silent = Settings.model_fields["morning_message_at"].default

    async with open_clients(settings.model_copy(update={"morning_message_at": silent})) as by_default:
        assert await tell(by_default, world) == 0

    assert read_in(chat) == []


@pytest.mark.parametrize(
    ("at", "told"),
    [
        (MORNING_AT - SECOND, 0),
        (MORNING_AT, 1),
        (MORNING_AT + MORNING - SECOND, 1),
        (MORNING_AT + MORNING, 0),
        (MORNING_AT + timedelta(days=1), 0),
    ],
)
async def test_it_comes_in_the_morning(clients: Clients, world: World, at: datetime, told: int) -> None:
    """Not before its time, nor when it is too late for lunch, nor on another day."""
    await add_recommended(clients, world.person())

    assert await tell(clients, world, at) == told


@pytest.mark.parametrize(
    ("on", "at", "told"),
    [
        (date(2026, 3, 4), "2026-03-04T07:30Z", 1),
        (date(2026, 3, 4), "2026-03-04T06:30Z", 0),
        (date(2026, 7, 1), "2026-07-01T06:30Z", 1),
        (date(2026, 3, 29), "2026-03-29T06:30Z", 1),
        (date(2026, 10, 25), "2026-10-25T06:30Z", 0),
    ],
)
async def test_the_time_is_the_programmes(clients: Clients, world: World, on: date, at: str, told: int) -> None:
    """Half past eight in LUNCH_TIMEZONE, in winter and in summer, and on the days when the clocks change."""
    await add_recommended(clients, world.person(), on=on)

    assert await tell(clients, world, datetime.fromisoformat(at)) == told


@pytest.mark.parametrize("status", [ItemStatus.PENDING, ItemStatus.FAILED])
async def test_who_got_none_is_told_nothing(clients: Clients, world: World, status: ItemStatus) -> None:
    """There is nothing to tell, or not yet."""
    await add_recommended(clients, world.person(), status=status)

    assert await tell(clients, world) == 0


async def test_who_got_theirs_late_is_told_later(clients: Clients, world: World) -> None:
    """A run that goes on into the morning tells those whom it has done since."""
    chat = world.person()
    await add_recommended(clients, chat, status=ItemStatus.PENDING)
    await tell(clients, world)
    async with clients.db() as session:
        item = await session.get_one(RecommendationItem, (TODAY, chat.id))
        item.status = ItemStatus.DONE
        item.recommendation = ADVICE.model_dump(mode="json")

    assert await tell(clients, world, MORNING_AT + timedelta(hours=1)) == 1


async def test_who_is_switched_off_is_told_nothing(clients: Clients, world: World) -> None:
    """Even if theirs was made in the night."""
    chat = world.person()
    await add_recommended(clients, chat, is_active=False)

    assert await tell(clients, world) == 0

    assert read_in(chat) == []


@pytest.mark.parametrize("kind", [FailureKind.BLOCKED, FailureKind.DROP_AFTER, FailureKind.SERVER_ERROR])
async def test_who_cannot_be_told_does_not_stop_the_others(clients: Clients, world: World, kind: FailureKind) -> None:
    """One who has blocked the bot, or whose call breaks off, is left out; they are not tried again."""
    chats = [world.person() for _ in range(3)]
    world.state.failures.add(Failure(method="sendMessage", chat_id=chats[0].id, kind=kind))
    await add_recommended(clients, *chats)

    told = [await tell(clients, world) for _ in range(2)]

    assert told == [2, 0]
    assert [len(read_in(chat)) for chat in chats[1:]] == [1, 1]


async def test_who_has_to_wait_is_told_later(clients: Clients, world: World) -> None:
    """After a 429 the message comes when Telegram takes it, once."""
    chat = world.person()
    world.fail(FailureKind.RATE_LIMIT, after=1)
    await add_recommended(clients, chat)

    assert await tell(clients, world) == 0

    async with asyncio.timeout(DEADLINE_S):
        while not await tell(clients, world):
            pass
    assert len(read_in(chat)) == 1


async def test_who_has_to_wait_does_not_stop_the_others(clients: Clients, world: World) -> None:
    """Nor does it keep the worker busy until then."""
    chats = [world.person() for _ in range(3)]
    world.state.failures.add(
        Failure(method="sendMessage", chat_id=chats[0].id, kind=FailureKind.RATE_LIMIT, retry_after=60)
    )
    await add_recommended(clients, *chats)

    async with asyncio.timeout(AT_ONCE_S):
        assert await tell(clients, world) == 2


async def test_telegrams_wait_is_kept_by_everybody(clients: Clients, world: World) -> None:
    """After a 429 no process writes to that person."""
    chat = world.person()
    world.fail(FailureKind.RATE_LIMIT, after=60)
    await add_recommended(clients, chat)
    await tell(clients, world)

    answer = await Limiter(clients.redis).acquire(chat.id, patience_s=2)

    assert isinstance(answer, Busy)
    assert 50 < answer.wait_s <= 60


async def test_after_a_second_persons_429_nobody_is_told(clients: Clients, world: World) -> None:
    """Two at once mean the bot: the others wait, too, and the worker does not."""
    chats = [world.person() for _ in range(2 * TOGETHER)]
    world.fail(FailureKind.RATE_LIMIT, after=60, times=TOGETHER)
    await add_recommended(clients, *chats)

    async with asyncio.timeout(AT_ONCE_S):
        assert await tell(clients, world) == 0

    async with clients.db() as session:
        told = await session.scalars(select(RecommendationItem.told_at))
        assert set(told) == {None}


async def test_while_telegram_is_away_nobody_is_forgotten(clients: Clients, world: World) -> None:
    """Whom it has surely not reached is told when it is there again."""
    chats = [world.person() for _ in range(3)]
    await add_recommended(clients, *chats)
    async with make_bot(TOKEN, NOBODY_LISTENS).context() as lost, asyncio.timeout(AT_ONCE_S):
        assert await tell_everybody(clients, lost, Turns(Limiter(clients.redis)), MORNING_AT) == 0

    assert await tell(clients, world, MORNING_AT + timedelta(minutes=1)) == 3


async def test_while_redis_is_away_nobody_is_forgotten(settings: Settings, clients: Clients, world: World) -> None:
    """Without it nobody knows whose turn it is; they are told when it is there again."""
    chats = [world.person() for _ in range(3)]
    await add_recommended(clients, *chats)
    away = settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1")})
    async with open_clients(away) as without_redis:
        assert await tell(without_redis, world) == 0

    assert await tell(clients, world, MORNING_AT + timedelta(minutes=1)) == 3
