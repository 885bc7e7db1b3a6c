"""Errors in Google's format (https://google.aip.dev/193), with the texts of the real service."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from app.dev.standins import Json, JsonResponse

SERVICE = "generativelanguage.googleapis.com"
QUOTA_METRIC = f"{SERVICE}/generate_content_free_tier_requests"
RATE_LIMITS_URL = "https://ai.google.dev/gemini-api/docs/rate-limits"
RPC = "type.googleapis.com/google.rpc"


class GeminiJsonResponse(JsonResponse):
    """JSON with the content type of the real service."""

    media_type = "application/json; charset=UTF-8"


class ApiError(Exception):
    """An error: the HTTP status, Google's name for it, a message and details."""

    def __init__(self, code: int, status: str, message: str, details: Sequence[Json] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.message = message
        self.details = details

    def as_json(self) -> Json:
        """Return the body of the answer."""
        error: Json = {"code": self.code, "message": self.message, "status": self.status}
        return {"error": error | {"details": list(self.details)} if self.details else error}


class ErrorResponse(GeminiJsonResponse):
    """The response for an ApiError."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.as_json(), status_code=error.code)


class Quota(StrEnum):
    """A quota of requests, by its `quotaId`."""

    PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
    PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"


@dataclass(frozen=True)
class Violation:
    """A quota that is used up, with its limit."""

    quota: Quota
    model: str
    limit: int

    def as_json(self) -> Json:
        """Return a violation of a `QuotaFailure`. As in Protocol Buffers, a limit of 0 is omitted."""
        violation: Json = {
            "quotaMetric": QUOTA_METRIC,
            "quotaId": self.quota,
            "quotaDimensions": {"location": "global", "model": self.model},
        }
        return violation | ({"quotaValue": str(self.limit)} if self.limit else {})


def quota_exceeded(violations: Iterable[Violation], retry_delay_s: float) -> ApiError:
    """Return code 429. The real service names a delay below one minute even when the day's quota is used up."""
    violations = list(violations)
    lines = [f"* Quota exceeded for metric: {QUOTA_METRIC}, limit: {v.limit}, model: {v.model}" for v in violations]
    message = (
        "You exceeded your current quota, please check your plan and billing details. For more information on this "
        f"error, head to: {RATE_LIMITS_URL}. To monitor your current usage, head to: https://ai.dev/rate-limit. \n"
    )
    return ApiError(
        429,
        "RESOURCE_EXHAUSTED",
        message + "\n".join([*lines, f"Please retry in {retry_delay_s:g}s."]),
        [
            {"@type": f"{RPC}.QuotaFailure", "violations": [violation.as_json() for violation in violations]},
            {
                "@type": f"{RPC}.Help",
                "links": [{"description": "Learn more about Gemini API quotas", "url": RATE_LIMITS_URL}],
            },
            {"@type": f"{RPC}.RetryInfo", "retryDelay": f"{retry_delay_s:g}s"},
        ],
    )


def too_many_requests(
    message: str = "Resource has been exhausted (e.g. check quota).", details: Sequence[Json] = ()
) -> ApiError:
    """Return code 429, by default without the quota and the delay."""
    return ApiError(429, "RESOURCE_EXHAUSTED", message, details)


def key_invalid() -> ApiError:
    """Return code 400: the key does not exist, or no longer exists."""
    message = "API key not valid. Please pass a valid API key."
    localized = {"@type": f"{RPC}.LocalizedMessage", "locale": "en-US", "message": message}
    return ApiError(
        400, "INVALID_ARGUMENT", message, [_error_info("API_KEY_INVALID", domain="googleapis.com"), localized]
    )


def key_missing() -> ApiError:
    """Return code 403: the request has no key."""
    message = (
        "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other "
        "form of API consumer identity to call this API."
    )
    return ApiError(403, "PERMISSION_DENIED", message)


def unauthenticated() -> ApiError:
    """Return code 401: the credentials are not an API key."""
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    method = "google.ai.generativelanguage.v1beta.GenerativeService.GenerateContent"
    return ApiError(401, "UNAUTHENTICATED", message, [_error_info("ACCESS_TOKEN_TYPE_UNSUPPORTED", method=method)])


def key_suspended(key: str) -> ApiError:
    """Return code 403. As with the real service, the message contains the key: logs of the message contain it too."""
    info = _error_info(
        "CONSUMER_SUSPENDED",
        domain="googleapis.com",
        consumer="projects/578829824020",
        containerInfo=f"api_key:{key}",
    )
    message = f"Permission denied: Consumer 'api_key:{key}' has been suspended."
    return ApiError(403, "PERMISSION_DENIED", message, [info])


def bad_request(message: str, details: Sequence[Json] = ()) -> ApiError:
    """Return code 400: repeating the same request cannot succeed."""
    return ApiError(400, "INVALID_ARGUMENT", message, details)


def invalid_argument() -> ApiError:
    """Return code 400 without the name of the argument."""
    return bad_request("Request contains an invalid argument.")


def deadline_too_short(given_s: int, minimum_s: int) -> ApiError:
    """Return code 400: the client's deadline is shorter than the service allows."""
    return bad_request(f"Manually set deadline {given_s}s is too short. Minimum allowed deadline is {minimum_s}s.")


def bad_fields(violations: Iterable[tuple[str, str]]) -> ApiError:
    """Return code 400 with a description for each invalid field."""
    fields = [{"field": field, "description": description} for field, description in violations]
    message = "\n".join(field["description"] for field in fields)
    return bad_request(message, [{"@type": f"{RPC}.BadRequest", "fieldViolations": fields}])


def model_not_found(model: str, version: str) -> ApiError:
    """Return code 404."""
    message = (
        f"models/{model} is not found for API version {version}, or is not supported for generateContent. "
        "Call ListModels to see the list of available models and their supported methods."
    )
    return ApiError(404, "NOT_FOUND", message)


def internal_error(
    message: str = "An internal error has occurred. Please retry or report in "
    "https://developers.generativeai.google/guide/troubleshooting",
) -> ApiError:
    """Return code 500."""
    return ApiError(500, "INTERNAL", message)


def model_overloaded() -> ApiError:
    """Return code 503."""
    return ApiError(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")


def _error_info(reason: str, domain: str | None = None, **metadata: str) -> Json:
    info: Json = {"@type": f"{RPC}.ErrorInfo", "reason": reason}
    return info | ({"domain": domain} if domain else {}) | {"metadata": {"service": SERVICE} | metadata}
