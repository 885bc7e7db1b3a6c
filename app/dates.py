"""Dates and times of day, as users and other systems write them: in one form, so that none is misread.

Python and Pydantic read more: `10.30` as 10:00:00.3, `10` as ten o'clock, a number as seconds since 1970, week dates and
ordinal dates.
"""

import datetime as dt
import re

DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?")


def parse_date(value: object) -> dt.date:
    """Parse YYYY-MM-DD. A date stays as it is.

    Raises ValueError.
    """
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    if isinstance(value, str) and DATE.fullmatch(value):
        try:
            return dt.date.fromisoformat(value)
        except ValueError:
            pass
    raise ValueError("must be a date such as 2026-01-31")


def parse_time(value: object) -> dt.time:
    """Parse a local time of day, HH:MM or HH:MM:SS. A time in whole seconds without an offset stays as it is.

    Raises ValueError.
    """
    if isinstance(value, dt.time) and value.tzinfo is None and not value.microsecond:
        return value
    if isinstance(value, str) and TIME.fullmatch(value):
        return dt.time.fromisoformat(value)
    raise ValueError("must be a local time such as 10:30 or 10:30:00")
