"""The instant of a deadline: a local time in any time zone, also when clocks change."""

import datetime as dt
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from app.models import Deadline

NOON = dt.time(12)
SECOND = dt.timedelta(seconds=1)
MAX_OFFSET = dt.timedelta(hours=48)
"""The maximum distance of a local time from UTC, also where the calendar skipped a whole day."""

timezones = st.sampled_from(sorted(available_timezones() - {"localtime"}))
dates = st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31))
times = st.times()
advances = st.integers(0, 14)

any_timezone = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def closes_at(date: dt.date, time: dt.time, advance_days: int, timezone: str) -> dt.datetime:
    return Deadline(cafe_id=1, weekday=0, deadline_time=time, advance_days=advance_days).closes_at(date, timezone)


def to_local(instant: dt.datetime, timezone: str) -> dt.datetime:
    """The local time at `instant`."""
    return instant.astimezone(ZoneInfo(timezone)).replace(tzinfo=None)


def find_instants(local_time: dt.datetime, timezone: str) -> list[dt.datetime]:
    """Every instant that has this local time, the earliest first: it tries the offsets of the four days around it."""
    middle = local_time.replace(tzinfo=dt.UTC)
    samples = [middle + dt.timedelta(minutes=30 * step) for step in range(-96, 97)]
    offsets = {to_local(instant, timezone) - instant.replace(tzinfo=None) for instant in samples}
    return sorted(middle - offset for offset in offsets if to_local(middle - offset, timezone) == local_time)


def find_gap(local_time: dt.datetime, timezone: str) -> dt.timedelta:
    """The length of the gap in local time around `local_time`, which clocks skip: a binary search."""
    before, after = (local_time.replace(tzinfo=dt.UTC, microsecond=0) + side * MAX_OFFSET for side in (-1, 1))
    while after - before > SECOND:
        middle = before + (after - before) // (2 * SECOND) * SECOND
        before, after = (middle, after) if to_local(middle, timezone) < local_time else (before, middle)
    return to_local(after, timezone) - to_local(before, timezone) - SECOND


@pytest.mark.parametrize(
    ("timezone", "day", "time", "instant"),
    [
        ("Europe/Berlin", dt.date(2026, 3, 29), dt.time(2, 30), "2026-03-29T01:30:00+00:00"),
        ("America/New_York", dt.date(2026, 3, 8), dt.time(2, 30), "2026-03-08T07:30:00+00:00"),
    ],
)
def test_a_skipped_time_has_the_offset_before_the_change(
    timezone: str, day: dt.date, time: dt.time, instant: str
) -> None:
    """When clocks skip a local time, 02:30 means 03:30."""
    found = closes_at(day, time, 0, timezone)

    assert found.isoformat() == instant
    assert to_local(found, timezone) == dt.datetime.combine(day, dt.time(3, 30))


@pytest.mark.parametrize(
    ("timezone", "day", "time", "instant"),
    [
        ("Europe/Berlin", dt.date(2026, 10, 25), dt.time(2, 30), "2026-10-25T00:30:00+00:00"),
        ("America/New_York", dt.date(2026, 11, 1), dt.time(1, 30), "2026-11-01T05:30:00+00:00"),
    ],
)
def test_a_repeated_time_means_its_first_occurrence(timezone: str, day: dt.date, time: dt.time, instant: str) -> None:
    """When clocks repeat a local time, ordering closes at the first occurrence."""
    assert closes_at(day, time, 0, timezone).isoformat() == instant


@pytest.mark.parametrize(
    ("advance_days", "instant"),
    [
        (0, "2026-03-30T08:30:00+00:00"),  # summer time
        (1, "2026-03-29T08:30:00+00:00"),  # summer time began that night
        (7, "2026-03-23T09:30:00+00:00"),  # winter time
    ],
)
def test_advance_days_are_calendar_days(advance_days: int, instant: str) -> None:
    """A deadline keeps its local time if clocks change between it and the delivery."""
    assert closes_at(dt.date(2026, 3, 30), dt.time(10, 30), advance_days, "Europe/Berlin").isoformat() == instant


@any_timezone
@given(date=dates, time=times, advance_days=advances, timezone=timezones)
@example(date=dt.date(2011, 12, 30), time=NOON, advance_days=0, timezone="Pacific/Apia")
@example(date=dt.date(2026, 10, 4), time=dt.time(2, 15), advance_days=0, timezone="Australia/Lord_Howe")
@example(date=dt.date(2099, 3, 29), time=dt.time(2, 59, 59, 999999), advance_days=0, timezone="Europe/Berlin")
def test_a_deadline_is_the_first_instant_of_its_local_time(
    date: dt.date, time: dt.time, advance_days: int, timezone: str
) -> None:
    """Ordering closes at the first instant of the local time, or later by the gap if clocks skip that time."""
    local_time = dt.datetime.combine(date - dt.timedelta(days=advance_days), time)

    found = closes_at(date, time, advance_days, timezone)

    assert found.tzinfo is dt.UTC
    if instants := find_instants(local_time, timezone):
        assert found == instants[0]
    else:
        assert to_local(found, timezone) == local_time + find_gap(local_time, timezone)


@any_timezone
@given(date=dates, time=times, advance_days=advances, timezone=timezones)
def test_the_weekday_does_not_change_the_instant(
    date: dt.date, time: dt.time, advance_days: int, timezone: str
) -> None:
    """The same time, advance days and time zone give the same instant on every weekday."""
    other = Deadline(cafe_id=2, weekday=6, deadline_time=time, advance_days=advance_days)

    assert other.closes_at(date, timezone) == closes_at(date, time, advance_days, timezone)


@any_timezone
@given(date=dates, time=times, advance_days=advances, timezone=timezones)
def test_the_next_day_closes_later(date: dt.date, time: dt.time, advance_days: int, timezone: str) -> None:
    """The next delivery date closes later, unless the calendar skips the day of the deadline."""
    day_of_deadline = date - dt.timedelta(days=advance_days)
    assume(find_instants(dt.datetime.combine(day_of_deadline, NOON), timezone))

    next_day = date + dt.timedelta(days=1)
    assert closes_at(date, time, advance_days, timezone) < closes_at(next_day, time, advance_days, timezone)


def test_a_skipped_day_closes_with_the_next_day() -> None:
    """Samoa skipped 30 December 2011, so a deadline on that day is the deadline on the next day."""
    skipped, following = (closes_at(dt.date(2011, 12, day), NOON, 0, "Pacific/Apia") for day in (30, 31))

    assert skipped == following
