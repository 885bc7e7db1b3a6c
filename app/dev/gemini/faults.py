"""Faults that can be injected into requests."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from app.dev.faults import InjectedFault
from app.dev.gemini.errors import (
    ApiError,
    Quota,
    Violation,
    internal_error,
    invalid_argument,
    key_invalid,
    key_suspended,
    model_overloaded,
    quota_exceeded,
    too_many_requests,
    unauthenticated,
)

RETRY_DELAY_S = 37
"""The `retryDelay` of an injected quota error. For the day's quota it is far too short, as the real service's is."""

PER_DAY = 200
PER_MINUTE = 15
"""The limits that an injected quota error names."""


class FaultKind(StrEnum):
    """The way in which a request fails."""

    DAY_QUOTA = "day_quota"
    """429: the day's requests are used up; `retryDelay` is far too short, as the real service's is."""
    MINUTE_QUOTA = "minute_quota"
    """429: too many requests within a minute."""
    MODEL_QUOTA = "model_quota"
    """429 with a limit of 0 for the day and for the minute: the project may not use this model."""
    BARE_429 = "bare_429"
    """429 with the `message` and the `details` of the fault; by default Google's shortest message without details."""
    KEY_INVALID = "key_invalid"
    """400 because of the key."""
    UNAUTHENTICATED = "unauthenticated"
    """401."""
    FORBIDDEN = "forbidden"
    """403: the key is suspended. The message contains the key."""
    BAD_REQUEST = "bad_request"
    """400 because of the request."""
    SERVER_ERROR = "server_error"
    """500."""
    UNAVAILABLE = "unavailable"
    """503: the model is overloaded."""
    HTML_BAD_GATEWAY = "html_bad_gateway"
    """502 with an HTML body, as from a load balancer in front of the service."""
    HANG = "hang"
    """No answer as long as the client waits."""
    DROP = "drop"
    """The connection breaks without an answer."""
    BAD_JSON = "bad_json"
    """200 with a body that is not JSON."""
    MAX_TOKENS = "max_tokens"
    """200 with a truncated answer."""
    SAFETY = "safety"
    """200 without text: the safety filter blocked the answer."""
    INVALID_ANSWER = "unfit"
    """200 with JSON that does not fit the schema, or with the `text` of the fault."""
    EMPTY = "empty"
    """200 without candidates."""


QUOTA_KINDS = {FaultKind.DAY_QUOTA, FaultKind.MINUTE_QUOTA, FaultKind.MODEL_QUOTA}

_ERRORS: dict[FaultKind, Callable[[], ApiError]] = {
    FaultKind.KEY_INVALID: key_invalid,
    FaultKind.UNAUTHENTICATED: unauthenticated,
    FaultKind.BAD_REQUEST: invalid_argument,
    FaultKind.SERVER_ERROR: internal_error,
    FaultKind.UNAVAILABLE: model_overloaded,
}


class Fault(InjectedFault):
    """An injected fault of the next requests, of one key or of all keys."""

    kind: FaultKind
    key: str | None = None
    retry_delay_s: float | None = Field(default=None, ge=0, le=86_400, allow_inf_nan=False)
    """Seconds, for the kinds that are quotas."""
    text: str | None = None
    """The text of the answer, for `unfit`."""
    message: str | None = None
    details: tuple[dict[str, Any], ...] = ()
    """The message and the details of the error, for `bare_429`: Google names quotas in many forms."""

    @model_validator(mode="after")
    def _validate_fields_of_kind(self) -> Self:
        if self.retry_delay_s is not None and self.kind not in QUOTA_KINDS:
            raise ValueError(f"retry_delay_s has no meaning for {self.kind}")
        if self.text is not None and self.kind is not FaultKind.INVALID_ANSWER:
            raise ValueError(f"text has no meaning for {self.kind}")
        if (self.message is not None or self.details) and self.kind is not FaultKind.BARE_429:
            raise ValueError(f"message and details have no meaning for {self.kind}")
        return self

    def matches(self, key: str) -> bool:
        """Whether a request with this key meets the fault."""
        return self.key in {None, key}

    def to_error(self, key: str, model: str) -> ApiError | None:
        """Return Google's error; None for the kinds that are not errors."""
        match self.kind:
            case FaultKind.DAY_QUOTA:
                return self._quota_exceeded(Violation(Quota.PER_DAY, model, PER_DAY))
            case FaultKind.MINUTE_QUOTA:
                return self._quota_exceeded(Violation(Quota.PER_MINUTE, model, PER_MINUTE))
            case FaultKind.MODEL_QUOTA:
                return self._quota_exceeded(*(Violation(quota, model, 0) for quota in Quota))
            case FaultKind.FORBIDDEN:
                return key_suspended(key)
            case FaultKind.BARE_429 if self.message is not None:
                return too_many_requests(self.message, self.details)
            case FaultKind.BARE_429:
                return too_many_requests(details=self.details)
        make_error = _ERRORS.get(self.kind)
        return make_error() if make_error else None

    def _quota_exceeded(self, *violations: Violation) -> ApiError:
        return quota_exceeded(violations, RETRY_DELAY_S if self.retry_delay_s is None else self.retry_delay_s)
