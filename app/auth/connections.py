"""Limits of what one address or one viewer has open in this process."""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from app.errors import RETRY_AFTER_S, RateLimited


class TooManyConnections(RateLimited):
    """Too many connections are open."""

    def __init__(self, limit: int) -> None:
        super().__init__(RETRY_AFTER_S)
        self.args = (f"At most {limit:,} connections may be open at the same time.",)


class OpenConnections:
    """Counts open connections by their owner. At most `limit` may be open at the same time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: Counter[Hashable] = Counter()

    @contextmanager
    def hold(self, owner: Hashable) -> Iterator[None]:
        """Count a connection during the block.

        Raises TooManyConnections.
        """
        if self._open[owner] >= self.limit:
            raise TooManyConnections(self.limit)
        self._open[owner] += 1
        try:
            yield
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
