"""What can be made to go wrong, on order."""

from collections.abc import Callable
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.dev.gemini.errors import (
    ApiError,
    Quota,
    Violation,
    internal,
    invalid_argument,
    key_invalid,
    key_suspended,
    overloaded,
    quota_exceeded,
    too_many_requests,
    unauthenticated,
)

RETRY_DELAY_S = 37
"""What a quota that is used up on order asks to wait; for a day's quota it is as wrong as the real one."""

PER_DAY = 200
PER_MINUTE = 15
"""The limits that are told with it."""


class FaultKind(StrEnum):
    """How a request fails."""

    DAY_QUOTA = "day_quota"
    """429: the day's requests are used up; `retryDelay` is far too short, as in reality."""
    MINUTE_QUOTA = "minute_quota"
    """429: too many requests within a minute."""
    MODEL_QUOTA = "model_quota"
    """429 with a limit of 0, for the day and for the minute: the project may not use this model."""
    BARE_429 = "bare_429"
    """429 without details."""
    KEY_INVALID = "key_invalid"
    """400 that means the key."""
    UNAUTHENTICATED = "unauthenticated"
    """401."""
    FORBIDDEN = "forbidden"
    """403: the key is suspended. The message has the key in it."""
    BAD_REQUEST = "bad_request"
    """400 that means the request."""
    SERVER_ERROR = "server_error"
    """500."""
    UNAVAILABLE = "unavailable"
    """503: the model is overloaded."""
    HTML_BAD_GATEWAY = "html_bad_gateway"
    """502 with an HTML body, as from a balancer in front of the service."""
    HANG = "hang"
    """No answer for as long as the client waits."""
    DROP = "drop"
    """The connection breaks without an answer."""
    BAD_JSON = "bad_json"
    """200 with a body that is no JSON."""
    MAX_TOKENS = "max_tokens"
    """200, cut off in the middle."""
    SAFETY = "safety"
    """200 without any text: what the model said was held back."""
    UNFIT = "unfit"
    """200 with JSON that does not fit the schema, or with the `text` of the order."""
    EMPTY = "empty"
    """200 without candidates."""


QUOTA_KINDS = {FaultKind.DAY_QUOTA, FaultKind.MINUTE_QUOTA, FaultKind.MODEL_QUOTA}

_REFUSALS: dict[FaultKind, Callable[[], ApiError]] = {
    FaultKind.BARE_429: too_many_requests,
    FaultKind.KEY_INVALID: key_invalid,
    FaultKind.UNAUTHENTICATED: unauthenticated,
    FaultKind.BAD_REQUEST: invalid_argument,
    FaultKind.SERVER_ERROR: internal,
    FaultKind.UNAVAILABLE: overloaded,
}


class Fault(BaseModel):
    """An order to fail the next requests, of one key or of all."""

    model_config = ConfigDict(extra="forbid")

    kind: FaultKind
    key: str | None = None
    times: int | None = Field(default=1, ge=1)
    """How many requests; None means until the faults are deleted."""
    retry_delay_s: float | None = Field(default=None, ge=0, le=86_400, allow_inf_nan=False)
    """Seconds, for the kinds that are quotas."""
    text: str | None = None
    """What the model says, for `unfit`."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.retry_delay_s is not None and self.kind not in QUOTA_KINDS:
            raise ValueError(f"retry_delay_s has no meaning for {self.kind}")
        if self.text is not None and self.kind is not FaultKind.UNFIT:
            raise ValueError(f"text has no meaning for {self.kind}")
        return self

    def refusal(self, key: str, model: str) -> ApiError | None:
        """The refusal in Google's shape, None for the kinds that are none."""
        match self.kind:
            case FaultKind.DAY_QUOTA:
                return self._quota_exceeded(Violation(Quota.PER_DAY, model, PER_DAY))
            case FaultKind.MINUTE_QUOTA:
                return self._quota_exceeded(Violation(Quota.PER_MINUTE, model, PER_MINUTE))
            case FaultKind.MODEL_QUOTA:
                return self._quota_exceeded(*(Violation(quota, model, 0) for quota in Quota))
            case FaultKind.FORBIDDEN:
                return key_suspended(key)
        refuse = _REFUSALS.get(self.kind)
        return refuse() if refuse else None

    def _quota_exceeded(self, *violations: Violation) -> ApiError:
        return quota_exceeded(violations, RETRY_DELAY_S if self.retry_delay_s is None else self.retry_delay_s)


class Faults:
    """The faults on order; the oldest that fits a request is met first."""

    def __init__(self) -> None:
        self._ordered: list[Fault] = []

    def order(self, fault: Fault) -> None:
        """Put a fault behind those already ordered."""
        self._ordered.append(fault)

    def clear(self) -> None:
        """Forget them all."""
        self._ordered.clear()

    def listed(self) -> list[Fault]:
        """What is still to come."""
        return list(self._ordered)

    def next_for(self, key: str) -> Fault | None:
        """The fault that a request with this key meets."""
        return next((fault for fault in self._ordered if fault.key in {None, key}), None)

    def use_up(self, fault: Fault) -> None:
        """Note that a request has met it."""
        if fault.times is not None:
            fault.times -= 1
            if fault.times == 0:
                self._ordered = [other for other in self._ordered if other is not fault]
