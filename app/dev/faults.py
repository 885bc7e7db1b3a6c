"""Faults that tests and the control API inject into a stand-in."""

from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field


class InjectedFault(BaseModel):
    """A fault that the next matching requests meet."""

    model_config = ConfigDict(extra="forbid")

    times: int | None = Field(default=1, ge=1)
    """Number of requests that meet it; None means until the faults are cleared."""


class FaultQueue[F: InjectedFault]:
    """Injected faults. Of those that match a request, the oldest applies."""

    def __init__(self) -> None:
        self._faults: list[F] = []

    def add(self, fault: F) -> None:
        """Append a fault."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    def pending(self) -> list[F]:
        """Return the faults that are not used up, oldest first."""
        return list(self._faults)

    def find(self, matches: Callable[[F], bool]) -> F | None:
        """Return the oldest fault that matches; it stays in the queue."""
        return next((fault for fault in self._faults if matches(fault)), None)

    def use_up(self, fault: F) -> None:
        """Count one request that met `fault`, and remove the fault after its last one."""
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                self._faults = [other for other in self._faults if other is not fault]

    def take(self, matches: Callable[[F], bool]) -> F | None:
        """Find the oldest fault that matches, and count one request that met it."""
        fault = self.find(matches)
        if fault is not None:
            self.use_up(fault)
        return fault
