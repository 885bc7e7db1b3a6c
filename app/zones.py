"""Names of time zones."""

from functools import cache
from zoneinfo import available_timezones


def is_zone(name: str) -> bool:
    """Whether it is a name of the IANA database; `localtime` is whatever this machine has, and no directory is a zone."""
    return name in _names()


@cache
def _names() -> set[str]:
    """Reads a directory tree: once is enough."""
    return available_timezones() - {"localtime"}
