"""Failures of jobs that work for many cafes or users: one must not stop the others."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter

from app.log import get_log

log = get_log(__name__)

FAILURES = Counter(
    "lunch_bot_job_failures_total",
    "Failures of jobs for one cafe or user. The job continued with the others.",
    ["event"],
)


@contextmanager
def contain_failure(event: str, **facts: object) -> Iterator[None]:
    """Log and count a failure inside, and continue behind the block. The next tick of the job retries."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 whatever it is, the others must not wait for its repair
        count_failure(event, error, **facts)


def count_failure(event: str, error: Exception, **facts: object) -> None:
    """Log and count the failure of one cafe or user.

    Args:
        event: What did not happen, such as `deadline.not_announced`: the event in the log, and the label of the metric.
        facts: The cafe or user, for the log.
    """
    FAILURES.labels(event).inc()
    log.error(event, exc_info=error, **facts)
