"""Shared parts of the tests of handlers: the fixtures of events."""

from tests.events.conftest import linked, ordered, unlinked

__all__ = ["linked", "ordered", "unlinked"]
