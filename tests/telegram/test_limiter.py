"""Telegram's limits, kept by all processes together.

The clock is Redis's own. So that nobody has to wait for minutes, what the limiter has noted is moved into the past.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.commands.core import AsyncScript

from app.clients import Clients
from app.telegram.limiter import (
    BOT_INTERVAL_MS,
    LEAD_MS,
    MESSAGES_PER_MINUTE_IN_GROUP,
    MESSAGES_PER_SECOND,
    PREFIX,
    Busy,
    Limiter,
    Slot,
)

GROUP, OTHER_GROUP, PERSON = -1001, -1002, 77
LONG_S = 3600.0
"""More patience than any slot needs."""

MOVE_INTO_THE_PAST = """
local ms = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', ARGV[2] .. '*')) do
  local left = redis.call('PTTL', key) - ms
  if left <= 0 then
    redis.call('DEL', key)
  else
    if redis.call('TYPE', key).ok == 'list' then
      for index, time in ipairs(redis.call('LRANGE', key, 0, -1)) do
        redis.call('LSET', key, index - 1, time - ms)
      end
    elseif not string.find(key, ':flood', 1, true) then
      redis.call('SET', key, redis.call('GET', key) - ms)
    end
    redis.call('PEXPIRE', key, left)
  end
end
"""


@dataclass(frozen=True)
class Grant:
    """A slot that a chat was given. `at` is in seconds, and counts the time that did not really pass."""

    chat_id: int
    at: float


class Timeline:
    """A limiter whose time passes as a test wants it."""

    def __init__(self, clients: Clients) -> None:
        self.redis = clients.redis
        self.limiter = Limiter(clients.redis)
        self.move: AsyncScript = clients.redis.register_script(MOVE_INTO_THE_PAST)
        self.skipped_s = 0.0
        self.grants: list[Grant] = []

    async def passes(self, seconds: float) -> None:
        """Let time pass."""
        await self.move(args=[round(seconds * 1000), PREFIX])
        self.skipped_s += seconds

    async def ask(self, chat_id: int, patience_s: float = LONG_S) -> Slot | Busy:
        """Ask for a slot, and note it."""
        answer = await self.limiter.acquire(chat_id, patience_s=patience_s)
        if isinstance(answer, Slot):
            self.grants.append(Grant(chat_id, answer.latest + self.skipped_s))
        return answer

    async def wait_for(self, chat_id: int) -> float:
        """Ask, and let as much time pass as it takes; return when the slot is."""
        while isinstance(answer := await self.ask(chat_id), Busy):
            await self.passes(answer.wait_s)
        return self.grants[-1].at


@pytest.fixture
def timeline(clients: Clients) -> Timeline:
    return Timeline(clients)


def most_within(times: Sequence[float], seconds: float) -> int:
    """The most of these times that lie within so many seconds, wherever those begin."""
    return max((sum(begin <= time < begin + seconds for time in times) for begin in times), default=0)


def of_chats(grants: Sequence[Grant]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for grant in grants:
        found[grant.chat_id].append(grant.at)
    return found


async def test_a_first_message_goes_out_at_once(timeline: Timeline) -> None:
    """Who is the first waits only for as long as it takes to write down what is about to happen."""
    began = time.monotonic()

    answer = await timeline.ask(GROUP)

    assert isinstance(answer, Slot)
    assert answer.latest - began < LEAD_MS / 1000 + 0.1


async def test_slots_of_the_bot_lie_apart(timeline: Timeline) -> None:
    """Many chats at once get slots one after the other: no 31 of them are within a second."""
    for chat_id in range(1, 101):
        await timeline.ask(chat_id)

    times = [grant.at for grant in timeline.grants]
    assert times == sorted(times)
    assert most_within(times, 1) <= MESSAGES_PER_SECOND


async def test_the_bots_limit_is_used(timeline: Timeline) -> None:
    """A hundred chats are told within four seconds: the limit is kept, and not much more."""
    for chat_id in range(1, 101):
        await timeline.ask(chat_id)

    assert timeline.grants[-1].at - timeline.grants[0].at < 100 / MESSAGES_PER_SECOND * 1.2


async def test_a_chat_gets_one_message_a_second(timeline: Timeline) -> None:
    """A second message to a chat has to wait for a second."""
    times = [await timeline.wait_for(PERSON) for _ in range(5)]

    assert most_within(times, 1) == 1


async def test_a_chat_is_told_how_long_to_wait(timeline: Timeline) -> None:
    """Who is too early learns when to ask again."""
    await timeline.ask(PERSON)

    answer = await timeline.ask(PERSON)

    assert isinstance(answer, Busy)
    assert 1 < answer.wait_s < 1.3


async def test_a_group_gets_twenty_messages_a_minute(timeline: Timeline) -> None:
    """The 21st message to a group has to wait until the first is a minute old."""
    times = [await timeline.wait_for(GROUP) for _ in range(45)]

    assert most_within(times, 60) == MESSAGES_PER_MINUTE_IN_GROUP


async def test_a_person_gets_more_than_twenty_messages_a_minute(timeline: Timeline) -> None:
    """The limit of a minute is for groups."""
    times = [await timeline.wait_for(PERSON) for _ in range(45)]

    assert most_within(times, 60) == 45


async def test_a_chat_that_is_not_ready_takes_no_slot_of_the_bot(timeline: Timeline) -> None:
    """Whoever asks in vain, and how often, does not hold up the others."""
    await timeline.ask(GROUP)
    for _ in range(50):
        await timeline.ask(GROUP)

    await timeline.ask(OTHER_GROUP)

    first, second = timeline.grants
    assert second.at - first.at < 2 * BOT_INTERVAL_MS / 1000


async def test_who_has_no_patience_takes_no_slot(timeline: Timeline) -> None:
    """A slot that is too far away is not given, and not lost."""
    for chat_id in range(1, 61):
        await timeline.ask(chat_id)

    answer = await timeline.ask(GROUP, patience_s=0.5)
    await timeline.ask(OTHER_GROUP)

    assert isinstance(answer, Busy)
    assert timeline.grants[-1].at - timeline.grants[-2].at < 2 * BOT_INTERVAL_MS / 1000


async def test_two_processes_share_the_limits(clients: Clients, timeline: Timeline) -> None:
    """What one process has sent the other knows."""
    other = Timeline(clients)
    await asyncio.gather(
        *(timeline.ask(chat_id) for chat_id in range(1, 31)), *(other.ask(chat_id) for chat_id in range(31, 61))
    )

    assert most_within([grant.at for grant in (*timeline.grants, *other.grants)], 1) <= MESSAGES_PER_SECOND
    assert isinstance(await other.ask(1), Busy)


async def test_many_at_once_get_slots_of_their_own(timeline: Timeline) -> None:
    """However many ask at once for one chat, one gets the slot."""
    answers = await asyncio.gather(*(timeline.ask(PERSON) for _ in range(20)))

    assert sum(isinstance(answer, Slot) for answer in answers) == 1


async def test_a_pause_holds_for_the_chat(timeline: Timeline) -> None:
    """After a 429 nobody writes to that chat for as long as Telegram said."""
    await timeline.limiter.pause(GROUP, 17)

    answer = await timeline.ask(GROUP)

    assert isinstance(answer, Busy)
    assert answer.wait_s == pytest.approx(17, abs=0.5)


async def test_a_pause_is_for_everybody(clients: Clients, timeline: Timeline) -> None:
    """What Telegram has told one process all obey."""
    await timeline.limiter.pause(GROUP, 17)

    assert isinstance(await Timeline(clients).ask(GROUP), Busy)


async def test_one_chats_pause_is_not_the_others(timeline: Timeline) -> None:
    """A 429 for one chat says nothing of the others."""
    assert not await timeline.limiter.pause(GROUP, 17)

    assert isinstance(await timeline.ask(OTHER_GROUP), Slot)


async def test_a_pause_of_two_chats_is_the_bots(timeline: Timeline) -> None:
    """If Telegram says so of a second chat meanwhile, it means the bot, and nobody writes anywhere."""
    await timeline.limiter.pause(GROUP, 17)
    assert await timeline.limiter.pause(OTHER_GROUP, 12)

    answer = await timeline.ask(PERSON)

    assert isinstance(answer, Busy)
    assert answer.wait_s == pytest.approx(12, abs=0.5)


async def test_the_same_chat_twice_is_one_chat(timeline: Timeline) -> None:
    """A second 429 for the same chat is no sign that the bot is meant."""
    await timeline.limiter.pause(GROUP, 17)
    assert not await timeline.limiter.pause(GROUP, 17)

    assert isinstance(await timeline.ask(OTHER_GROUP), Slot)


async def test_a_second_chat_that_comes_later_is_another_matter(timeline: Timeline) -> None:
    """Once the first pause is over, a 429 for another chat is for that one."""
    await timeline.limiter.pause(GROUP, 17)
    await timeline.passes(18)
    assert not await timeline.limiter.pause(OTHER_GROUP, 17)

    assert isinstance(await timeline.ask(PERSON), Slot)


async def test_a_shorter_pause_does_not_end_a_longer_one(timeline: Timeline) -> None:
    """An answer that was on its way does not take back what Telegram has said."""
    await timeline.limiter.pause(GROUP, 60)
    await timeline.limiter.pause(GROUP, 1)
    await timeline.passes(2)

    assert isinstance(await timeline.ask(GROUP), Busy)


async def test_the_bots_pause_is_not_shortened(timeline: Timeline) -> None:
    """The longest of what Telegram has said to the bot holds."""
    await timeline.limiter.pause(GROUP, 60)
    await timeline.limiter.pause(OTHER_GROUP, 60)
    await timeline.limiter.pause(PERSON, 1)
    await timeline.passes(2)

    assert isinstance(await timeline.ask(1), Busy)


async def test_a_pause_ends(timeline: Timeline) -> None:
    """When the time is over everybody may write again."""
    await timeline.limiter.pause(GROUP, 17)
    await timeline.limiter.pause(OTHER_GROUP, 17)
    await timeline.passes(17.5)

    assert isinstance(await timeline.ask(PERSON), Slot)


@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_pause_may_be_short(timeline: Timeline, seconds: int) -> None:
    """A wait of nothing is a second at most."""
    await timeline.limiter.pause(GROUP, seconds)
    await timeline.passes(1.5)

    assert isinstance(await timeline.ask(GROUP), Slot)


async def test_what_is_noted_is_forgotten(timeline: Timeline) -> None:
    """Nothing of the limiter's stays in Redis for ever."""
    await timeline.limiter.pause(OTHER_GROUP, 5)
    for chat_id in (GROUP, PERSON):
        await timeline.ask(chat_id)

    await timeline.passes(120)

    assert await timeline.redis.keys(f"{PREFIX}*") == []


async def test_a_slot_can_be_used_when_it_is_reached(timeline: Timeline) -> None:
    """Who waits for a slot is there in time."""
    answer = await timeline.ask(PERSON)

    assert isinstance(answer, Slot)
    assert await answer.reached()


async def test_a_slot_that_is_over_cannot_be_used() -> None:
    """Who comes late asks for another."""
    assert not await Slot(time.monotonic() - 1, time.monotonic() - 1).reached()


mixed = st.lists(
    st.tuples(
        st.sampled_from([GROUP, OTHER_GROUP, PERSON, *range(1, 21)]),
        st.sampled_from([0, 0, 0, 5, 40, 300, 1100, 20_000]),
    ),
    max_size=120,
)
one_chat = st.lists(
    st.tuples(st.sampled_from([GROUP, GROUP, PERSON]), st.sampled_from([900, 1100, 1300])), min_size=40, max_size=80
)
burst = st.permutations([(chat_id, pause_ms) for chat_id in range(1, 41) for pause_ms in (0, 1)])
"""What chats ask, and how many milliseconds pass after each: anything, or much for one chat, or all chats at once."""


@given(asked=mixed | one_chat | burst, patience_s=st.sampled_from([0.3, 1.5, LONG_S]))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_no_limit_is_ever_broken(clients: Clients, asked: list[tuple[int, int]], patience_s: float) -> None:
    """Whoever asks, and whenever: 30 a second over all, one a second to a chat, 20 a minute to a group."""
    await clients.redis.flushdb()
    timeline = Timeline(clients)
    for chat_id, pause_ms in asked:
        await timeline.ask(chat_id, patience_s)
        if pause_ms:
            await timeline.passes(pause_ms / 1000)

    assert most_within([grant.at for grant in timeline.grants], 1) <= MESSAGES_PER_SECOND
    for chat_id, times in of_chats(timeline.grants).items():
        assert most_within(times, 1) <= 1
        if chat_id < 0:
            assert most_within(times, 60) <= MESSAGES_PER_MINUTE_IN_GROUP
