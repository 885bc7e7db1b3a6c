"""Telegram's rate limits, kept by all processes together.

The clock is that of Redis. The tests do not wait for minutes: they move the limiter's keys into the past.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.commands.core import AsyncScript

from app.clients import Clients
from app.telegram.limiter import (
    BOT_INTERVAL_MS,
    LATE_MEMORY_MS,
    LATE_MS,
    LEAD_MS,
    MESSAGES_PER_MINUTE_IN_GROUP,
    MESSAGES_PER_SECOND,
    PREFIX,
    Busy,
    Limiter,
    Slot,
    seconds_until_turn,
)

GROUP, OTHER_GROUP, PRIVATE_CHAT = -1001, -1002, 77
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
    """A slot that a chat has got. `at` is in seconds, and includes the skipped time."""

    chat_id: int
    at: float


class Timeline:
    """A limiter whose time a test can advance."""

    def __init__(self, clients: Clients) -> None:
        self.redis = clients.redis
        self.limiter = Limiter(clients.redis)
        self.move: AsyncScript = clients.redis.register_script(MOVE_INTO_THE_PAST)
        self.skipped_s = 0.0
        self.grants: list[Grant] = []

    async def advance(self, seconds: float) -> None:
        """Skip this time: move all keys of the limiter into the past."""
        await self.move(args=[round(seconds * 1000), PREFIX])
        self.skipped_s += seconds

    async def acquire(self, chat_id: int, patience_s: float = LONG_S) -> Slot | Busy:
        """Try to acquire a slot, and record it."""
        answer = await self.limiter.acquire(chat_id, patience_s=patience_s)
        if isinstance(answer, Slot):
            self.grants.append(Grant(chat_id, answer.latest + self.skipped_s))
        return answer

    async def acquire_next(self, chat_id: int) -> float:
        """Acquire the next slot, skip the time until it is free, and return its instant."""
        while isinstance(answer := await self.acquire(chat_id), Busy):
            await self.advance(answer.wait_s)
        return self.grants[-1].at


@pytest.fixture
def timeline(clients: Clients) -> Timeline:
    return Timeline(clients)


def max_within(times: Sequence[float], seconds: float) -> int:
    """Return the maximum number of these times within any period of `seconds`."""
    return max((sum(begin <= time < begin + seconds for time in times) for begin in times), default=0)


def times_by_chat(grants: Sequence[Grant]) -> dict[int, list[float]]:
    times: dict[int, list[float]] = defaultdict(list)
    for grant in grants:
        times[grant.chat_id].append(grant.at)
    return times


async def test_the_first_slot_is_immediate(timeline: Timeline) -> None:
    """The first message waits only until the sender has recorded the attempt."""
    began = time.monotonic()

    answer = await timeline.acquire(GROUP)

    assert isinstance(answer, Slot)
    assert answer.latest - began < LEAD_MS / 1000 + 0.1


async def test_slots_of_the_bot_keep_their_distance(timeline: Timeline) -> None:
    """Many chats get slots one after the other: at most 30 are within a second."""
    for chat_id in range(1, 101):
        await timeline.acquire(chat_id)

    times = [grant.at for grant in timeline.grants]
    assert times == sorted(times)
    assert max_within(times, 1) <= MESSAGES_PER_SECOND


async def test_the_bots_limit_is_used(timeline: Timeline) -> None:
    """A hundred chats get slots within four seconds: the limiter waits little longer than the limit requires."""
    for chat_id in range(1, 101):
        await timeline.acquire(chat_id)

    assert timeline.grants[-1].at - timeline.grants[0].at < 100 / MESSAGES_PER_SECOND * 1.25


async def test_a_chat_gets_one_message_a_second(timeline: Timeline) -> None:
    """A second message to a chat waits for a second."""
    times = [await timeline.acquire_next(PRIVATE_CHAT) for _ in range(5)]

    assert max_within(times, 1) == 1


async def test_busy_says_how_long_to_wait(timeline: Timeline) -> None:
    """A request that comes too early gets the time of the next try."""
    await timeline.acquire(PRIVATE_CHAT)

    answer = await timeline.acquire(PRIVATE_CHAT)

    assert isinstance(answer, Busy)
    assert 1 < answer.wait_s < 1.4


async def test_a_group_gets_twenty_messages_a_minute(timeline: Timeline) -> None:
    """The 21st message to a group waits until the first is a minute old."""
    times = [await timeline.acquire_next(GROUP) for _ in range(45)]

    assert max_within(times, 60) == MESSAGES_PER_MINUTE_IN_GROUP


async def test_a_private_chat_gets_more_than_twenty_messages_a_minute(timeline: Timeline) -> None:
    """The limit per minute is for groups only."""
    times = [await timeline.acquire_next(PRIVATE_CHAT) for _ in range(45)]

    assert max_within(times, 60) == 45


async def test_a_busy_chat_takes_no_slot_of_the_bot(timeline: Timeline) -> None:
    """Requests without success, however many, do not delay other chats."""
    await timeline.acquire(GROUP)
    for _ in range(50):
        await timeline.acquire(GROUP)

    await timeline.acquire(OTHER_GROUP)

    first, second = timeline.grants
    assert second.at - first.at < 10 * BOT_INTERVAL_MS / 1000


async def test_a_slot_beyond_the_patience_is_not_lost(timeline: Timeline) -> None:
    """A slot that is too late for a request is not given to it, and stays free."""
    for chat_id in range(1, 61):
        await timeline.acquire(chat_id)

    answer = await timeline.acquire(GROUP, patience_s=0.5)
    await timeline.acquire(OTHER_GROUP)

    assert isinstance(answer, Busy)
    assert timeline.grants[-1].at - timeline.grants[-2].at < 10 * BOT_INTERVAL_MS / 1000


async def test_two_processes_share_the_limits(clients: Clients, timeline: Timeline) -> None:
    """Each process knows which slots the other has got."""
    other = Timeline(clients)
    await asyncio.gather(
        *(timeline.acquire(chat_id) for chat_id in range(1, 31)), *(other.acquire(chat_id) for chat_id in range(31, 61))
    )

    assert max_within([grant.at for grant in (*timeline.grants, *other.grants)], 1) <= MESSAGES_PER_SECOND
    assert isinstance(await other.acquire(1), Busy)


async def test_simultaneous_requests_get_one_slot(timeline: Timeline) -> None:
    """Of many simultaneous requests for one chat, one gets the slot."""
    answers = await asyncio.gather(*(timeline.acquire(PRIVATE_CHAT) for _ in range(20)))

    assert sum(isinstance(answer, Slot) for answer in answers) == 1


async def test_a_pause_stops_the_chat(timeline: Timeline) -> None:
    """After a 429 no message goes to that chat for as long as Telegram said."""
    await timeline.limiter.pause(GROUP, 17)

    answer = await timeline.acquire(GROUP)

    assert isinstance(answer, Busy)
    assert answer.wait_s == pytest.approx(17, abs=0.5)


async def test_a_pause_is_for_every_process(clients: Clients, timeline: Timeline) -> None:
    """All processes respect a pause that Telegram asked one of them for."""
    await timeline.limiter.pause(GROUP, 17)

    assert isinstance(await Timeline(clients).acquire(GROUP), Busy)


async def test_a_pause_of_one_chat_does_not_stop_another(timeline: Timeline) -> None:
    """A 429 for one chat means only that chat."""
    assert not await timeline.limiter.pause(GROUP, 17)

    assert isinstance(await timeline.acquire(OTHER_GROUP), Slot)


async def test_a_pause_of_two_chats_stops_the_bot(timeline: Timeline) -> None:
    """A 429 for a second chat during the pause means the bot, and stops all chats."""
    await timeline.limiter.pause(GROUP, 17)
    assert await timeline.limiter.pause(OTHER_GROUP, 12)

    answer = await timeline.acquire(PRIVATE_CHAT)

    assert isinstance(answer, Busy)
    assert answer.wait_s == pytest.approx(12, abs=0.5)


async def test_the_same_chat_twice_is_one_chat(timeline: Timeline) -> None:
    """A second 429 for the same chat does not mean the bot."""
    await timeline.limiter.pause(GROUP, 17)
    assert not await timeline.limiter.pause(GROUP, 17)

    assert isinstance(await timeline.acquire(OTHER_GROUP), Slot)


async def test_a_second_chat_after_the_pause_is_independent(timeline: Timeline) -> None:
    """After the first pause, a 429 for another chat means only that chat."""
    await timeline.limiter.pause(GROUP, 17)
    await timeline.advance(18)
    assert not await timeline.limiter.pause(OTHER_GROUP, 17)

    assert isinstance(await timeline.acquire(PRIVATE_CHAT), Slot)


async def test_a_shorter_pause_does_not_end_a_longer_one(timeline: Timeline) -> None:
    """A later answer with a shorter time does not shorten the pause."""
    await timeline.limiter.pause(GROUP, 60)
    await timeline.limiter.pause(GROUP, 1)
    await timeline.advance(2)

    assert isinstance(await timeline.acquire(GROUP), Busy)


async def test_the_bots_pause_is_not_shortened(timeline: Timeline) -> None:
    """The longest time that Telegram gave for the bot counts."""
    await timeline.limiter.pause(GROUP, 60)
    await timeline.limiter.pause(OTHER_GROUP, 60)
    await timeline.limiter.pause(PRIVATE_CHAT, 1)
    await timeline.advance(2)

    assert isinstance(await timeline.acquire(1), Busy)


async def test_a_pause_ends(timeline: Timeline) -> None:
    """After the pause every chat gets messages again."""
    await timeline.limiter.pause(GROUP, 17)
    await timeline.limiter.pause(OTHER_GROUP, 17)
    await timeline.advance(17.5)

    assert isinstance(await timeline.acquire(PRIVATE_CHAT), Slot)


@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_pause_may_be_short(timeline: Timeline, seconds: int) -> None:
    """A pause of 0 seconds lasts a second at most."""
    await timeline.limiter.pause(GROUP, seconds)
    await timeline.advance(1.5)

    assert isinstance(await timeline.acquire(GROUP), Slot)


async def test_keys_expire(timeline: Timeline) -> None:
    """All keys of the limiter in Redis expire."""
    await timeline.limiter.pause(OTHER_GROUP, 5)
    for chat_id in (GROUP, PRIVATE_CHAT):
        await timeline.acquire(chat_id)

    await timeline.advance(120)

    assert await timeline.redis.keys(f"{PREFIX}*") == []


async def test_waiting_for_a_slot_meets_it(timeline: Timeline) -> None:
    """A sender that waits for its slot meets it."""
    answer = await timeline.acquire(PRIVATE_CHAT)

    assert isinstance(answer, Slot)
    assert await timeline.limiter.meet(answer)


async def test_a_late_sender_keeps_its_slot(timeline: Timeline) -> None:
    """A process that wakes a few seconds late sends all the same."""
    assert await timeline.limiter.meet(Slot(time.monotonic() - 5, time.monotonic() - 5))


async def test_a_suspended_sender_loses_its_slot(timeline: Timeline) -> None:
    """A process that was suspended for a minute needs another slot."""
    assert not await timeline.limiter.meet(Slot(time.monotonic() - 60, time.monotonic() - 60))


async def pace(timeline: Timeline) -> float:
    """Return the seconds between two slots of the bot."""
    begin = len(timeline.grants)
    for chat_id in range(1000 + begin, 1010 + begin):
        await timeline.acquire(chat_id)
    times = [grant.at for grant in timeline.grants[begin:]]
    return (times[-1] - times[0]) / (len(times) - 1)


async def be_late(limiter: Limiter, seconds: float) -> None:
    """Meet a slot too late."""
    await limiter.meet(Slot(time.monotonic() - seconds, time.monotonic() - seconds))


async def test_lateness_makes_the_slots_of_all_processes_longer(clients: Clients, timeline: Timeline) -> None:
    """While a process is late by 0.8 s, 30 slots of any process take 1.8 s."""
    other = Limiter(clients.redis)
    await be_late(other, 0.8)
    await other.acquire(PRIVATE_CHAT, patience_s=LONG_S)

    assert await pace(timeline) == pytest.approx(1.8 / MESSAGES_PER_SECOND, rel=0.1)


async def test_lateness_is_forgotten(timeline: Timeline) -> None:
    """Some time after a process was late, the slots have their usual length."""
    await be_late(timeline.limiter, 0.8)
    await timeline.acquire(PRIVATE_CHAT)
    await timeline.advance(LATE_MEMORY_MS / 1000 + 1)

    assert await pace(timeline) == pytest.approx(BOT_INTERVAL_MS / 1000, rel=0.1)


async def test_lateness_has_a_limit(timeline: Timeline) -> None:
    """However late a process was, the bot sends 15 messages a second."""
    await be_late(timeline.limiter, 3600)

    assert await pace(timeline) == pytest.approx(2 / MESSAGES_PER_SECOND, rel=0.1)


async def test_a_pause_of_the_bot_stops_every_chat(timeline: Timeline) -> None:
    """A 429 for a call without a chat means the bot."""
    assert await timeline.limiter.pause(None, 17)

    assert isinstance(await timeline.acquire(PRIVATE_CHAT), Busy)


async def test_a_pause_says_how_much_is_left(timeline: Timeline) -> None:
    """A call of a paused chat finds out how long the pause still is."""
    await timeline.limiter.pause(GROUP, 17)

    assert await timeline.limiter.pause_left(GROUP) == pytest.approx(17, abs=1)
    assert await timeline.limiter.pause_left(OTHER_GROUP) == 0


@pytest.mark.parametrize(
    ("chat_id", "ahead", "seconds"),
    [(PRIVATE_CHAT, 1, 1.2), (PRIVATE_CHAT, 100, 120), (GROUP, 10, 12), (GROUP, 50, 150), (GROUP, 5000, 300)],
)
def test_a_message_waits_for_those_ahead(chat_id: int, ahead: int, seconds: float) -> None:
    """A message waits as long as its chat needs for the messages ahead of it, but not for hours."""
    assert seconds_until_turn(chat_id, ahead) == pytest.approx(seconds)


mixed_requests = st.lists(
    st.tuples(
        st.sampled_from([GROUP, OTHER_GROUP, PRIVATE_CHAT, *range(1, 21)]),
        st.sampled_from([0, 0, 0, 5, 40, 300, 1100, 20_000]),
    ),
    max_size=120,
)
requests_of_one_chat = st.lists(
    st.tuples(st.sampled_from([GROUP, GROUP, PRIVATE_CHAT]), st.sampled_from([900, 1100, 1300])),
    min_size=40,
    max_size=80,
)
bursts = st.permutations([(chat_id, pause_ms) for chat_id in range(1, 41) for pause_ms in (0, 1)])
"""The chats of the requests, and the milliseconds after each: mixed, or many for one chat, or all chats together."""


@given(
    requests=mixed_requests | requests_of_one_chat | bursts,
    patience_s=st.sampled_from([0.3, 1.5, LONG_S]),
    delays_ms=st.lists(st.sampled_from([0, 0, 50, LATE_MS - 10]), min_size=1, max_size=7),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_no_limit_is_exceeded(
    clients: Clients, requests: list[tuple[int, int]], patience_s: float, delays_ms: list[int]
) -> None:
    """For any requests and any usual lateness: 30 a second in total, one a second to a chat, 20 a minute to a group."""
    await clients.redis.flushdb()
    timeline = Timeline(clients)
    for chat_id, pause_ms in requests:
        await timeline.acquire(chat_id, patience_s)
        if pause_ms:
            await timeline.advance(pause_ms / 1000)
    arrivals = [
        Grant(grant.chat_id, grant.at + delay_ms / 1000)
        for grant, delay_ms in zip(timeline.grants, cycle(delays_ms), strict=False)
    ]

    assert max_within([arrival.at for arrival in arrivals], 1) <= MESSAGES_PER_SECOND
    for chat_id, times in times_by_chat(arrivals).items():
        assert max_within(times, 1) <= 1
        if chat_id < 0:
            assert max_within(times, 60) <= MESSAGES_PER_MINUTE_IN_GROUP
