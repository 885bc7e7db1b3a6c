"""Failures of one cafe or user: rows that the database refuses, and the metric that counts them."""

from collections.abc import Awaitable, Callable

from prometheus_client import REGISTRY

type RefuseRows = Callable[..., Awaitable[None]]


def failures(event: str) -> float:
    """Return how many failures this process has counted."""
    return REGISTRY.get_sample_value("lunch_bot_job_failures_total", {"event": event}) or 0
