"""Names of time zones."""

from functools import cache
from zoneinfo import available_timezones


def is_timezone(name: str) -> bool:
    """Whether `name` is in the IANA database. `localtime` depends on the machine, so it does not count."""
    return name in _names()


@cache
def _names() -> set[str]:
    """Read the names once: it walks a directory tree."""
    return available_timezones() - {"localtime"}
