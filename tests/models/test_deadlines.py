"""When ordering closes: a local time as one instant, in every time zone and on every day of the clocks."""

import datetime as dt
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from app.models import Deadline

NOON = dt.time(12)
SECOND = dt.timedelta(seconds=1)
FARTHEST = dt.timedelta(hours=48)
"""No local time is farther from UTC than this, not even where a whole day was skipped."""

timezones = st.sampled_from(sorted(available_timezones() - {"localtime"}))
dates = st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31))
times = st.times()
advances = st.integers(0, 14)

anywhere = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def closes_at(date: dt.date, time: dt.time, advance_days: int, timezone: str) -> dt.datetime:
    return Deadline(cafe_id=1, weekday=0, deadline_time=time, advance_days=advance_days).closes_at(date, timezone)


def local(instant: dt.datetime, timezone: str) -> dt.datetime:
    """What the clock on the wall shows."""
    return instant.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)


def meanings(wall: dt.datetime, timezone: str) -> list[dt.datetime]:
    """Every instant at which the clock shows `wall`, the earliest first: found by looking at the clock for four days."""
    middle = wall.replace(tzinfo=dt.UTC)
    looks = [middle + dt.timedelta(minutes=30 * step) for step in range(-96, 97)]
    offsets = {local(instant, timezone) - instant.replace(tzinfo=None) for instant in looks}
    return sorted(middle - offset for offset in offsets if local(middle - offset, timezone) == wall)


def skipped_at(wall: dt.datetime, timezone: str) -> dt.timedelta:
    """How much the clock jumps over `wall`, which it never shows: found by halving the time around."""
    before, after = (wall.replace(tzinfo=dt.UTC, microsecond=0) + side * FARTHEST for side in (-1, 1))
    while after - before > SECOND:
        middle = before + (after - before) // (2 * SECOND) * SECOND
        before, after = (middle, after) if local(middle, timezone) < wall else (before, middle)
    return local(after, timezone) - local(before, timezone) - SECOND


@pytest.mark.parametrize(
    ("timezone", "day", "time", "instant"),
    [
        ("Europe/Berlin", dt.date(2026, 3, 29), dt.time(2, 30), "2026-03-29T01:30:00+00:00"),
        ("America/New_York", dt.date(2026, 3, 8), dt.time(2, 30), "2026-03-08T07:30:00+00:00"),
    ],
)
def test_a_time_that_the_clocks_skip_has_the_offset_from_before(
    timezone: str, day: dt.date, time: dt.time, instant: str
) -> None:
    """On the night on which the clocks jump forward, 02:30 means 03:30."""
    found = closes_at(day, time, 0, timezone)

    assert found.isoformat() == instant
    assert local(found, timezone) == dt.datetime.combine(day, dt.time(3, 30))


@pytest.mark.parametrize(
    ("timezone", "day", "time", "instant"),
    [
        ("Europe/Berlin", dt.date(2026, 10, 25), dt.time(2, 30), "2026-10-25T00:30:00+00:00"),
        ("America/New_York", dt.date(2026, 11, 1), dt.time(1, 30), "2026-11-01T05:30:00+00:00"),
    ],
)
def test_a_time_that_comes_twice_is_the_first(timezone: str, day: dt.date, time: dt.time, instant: str) -> None:
    """On the night on which the clocks go back, ordering closes the first time that they show the deadline."""
    assert closes_at(day, time, 0, timezone).isoformat() == instant


@pytest.mark.parametrize(
    ("advance_days", "instant"),
    [
        (0, "2026-03-30T08:30:00+00:00"),  # summer time
        (1, "2026-03-29T08:30:00+00:00"),  # summer time, since that night
        (7, "2026-03-23T09:30:00+00:00"),  # winter time
    ],
)
def test_the_deadline_is_days_before_the_delivery(advance_days: int, instant: str) -> None:
    """The days are days of the calendar: the local time is the same, whatever the clocks do in between."""
    assert closes_at(dt.date(2026, 3, 30), dt.time(10, 30), advance_days, "Europe/Berlin").isoformat() == instant


@anywhere
@given(date=dates, time=times, advance_days=advances, timezone=timezones)
@example(date=dt.date(2011, 12, 30), time=NOON, advance_days=0, timezone="Pacific/Apia")
@example(date=dt.date(2026, 10, 4), time=dt.time(2, 15), advance_days=0, timezone="Australia/Lord_Howe")
@example(date=dt.date(2099, 3, 29), time=dt.time(2, 59, 59, 999999), advance_days=0, timezone="Europe/Berlin")
def test_a_deadline_is_the_first_instant_of_its_local_time(
    date: dt.date, time: dt.time, advance_days: int, timezone: str
) -> None:
    """It closes, in UTC, the first time that the cafe's clock shows the deadline, or so much later as that skips."""
    wall = dt.datetime.combine(date - dt.timedelta(days=advance_days), time)

    found = closes_at(date, time, advance_days, timezone)

    assert found.tzinfo is dt.UTC
    if there := meanings(wall, timezone):
        assert found == there[0]
    else:
        assert local(found, timezone) == wall + skipped_at(wall, timezone)


@anywhere
@given(date=dates, time=times, advance_days=advances, timezone=timezones)
def test_a_deadline_has_one_meaning(date: dt.date, time: dt.time, advance_days: int, timezone: str) -> None:
    """The same schedule gives the same instant, on whichever weekday it stands."""
    again = Deadline(cafe_id=2, weekday=6, deadline_time=time, advance_days=advance_days)

    assert again.closes_at(date, timezone) == closes_at(date, time, advance_days, timezone)


@anywhere
@given(date=dates, time=times, advance_days=advances, timezone=timezones)
def test_the_next_day_closes_later(date: dt.date, time: dt.time, advance_days: int, timezone: str) -> None:
    """Of two days of one schedule, the later closes later; unless the calendar skips the day of the deadline."""
    day_of_deadline = date - dt.timedelta(days=advance_days)
    assume(meanings(dt.datetime.combine(day_of_deadline, NOON), timezone))

    next_day = date + dt.timedelta(days=1)
    assert closes_at(date, time, advance_days, timezone) < closes_at(next_day, time, advance_days, timezone)


def test_a_day_that_the_calendar_skips_closes_with_the_next() -> None:
    """Samoa crossed the date line and had no 30 December 2011: the deadline of that day is the next day's."""
    skipped, following = (closes_at(dt.date(2011, 12, day), NOON, 0, "Pacific/Apia") for day in (30, 31))

    assert skipped == following
