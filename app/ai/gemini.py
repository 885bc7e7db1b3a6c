"""The client of Gemini: makes requests, and translates Google's errors. Only this module imports Google's library.

https://ai.google.dev/gemini-api/docs/troubleshooting
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiohttp
from google import genai
from google.genai import types
from google.genai.errors import APIError
from pydantic import SecretStr, ValidationError

from app.ai.prompts import Advice, Prompt
from app.log import get_log
from app.settings import Settings

log = get_log(__name__)

GEMINI_TIMEOUT_S = 30.0

API_VERSION = "v1"
"""The library's default. It is set explicitly so that environment variables cannot change it."""

MAX_OUTPUT_TOKENS = 2048
"""Several times the tokens of a summary and three tips. Some models also use output tokens to think."""

DEFAULT_RETRY_DELAY_S = 60.0
"""How long a key cools down after the minute quota is exhausted, if Google's error has no readable delay."""

MIN_SERVER_ERROR_STATUS = 500

DURATION = re.compile(r"-?[0-9]+(\.[0-9]+)?s")

PER_DAY = re.compile(r"per[ _-]?day|/d(ay)?\b|daily", re.IGNORECASE)
PER_MINUTE = re.compile(r"per[ _-]?min|/min", re.IGNORECASE)
"""The period of a quota: in its id (`GenerateRequestsPerDayPerProject`), metric (`generate_requests_per_model_per_day`), unit
(`1/d/{project}`), or description («requests per day»)."""

RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
"""The reason of an error for a project without enough quota.
https://docs.cloud.google.com/service-infrastructure/docs/service-control/reference/rpc/google.api#errorreason
"""

PROBLEM_MAX_CHARACTERS = 300


class KeyFailed(Exception):
    """This key does not work now. Another key may work."""


class DayExhausted(KeyFailed):
    """The daily quota of the key's project is exhausted."""


class MinuteExhausted(KeyFailed):
    """The quota of requests or tokens per minute of the key's project is exhausted."""

    def __init__(self, problem: str, retry_after_s: float) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class KeyRefused(KeyFailed):
    """Google does not accept this key."""


class GeminiError(Exception):
    """There is no valid answer, and the key is not the cause."""


class GeminiUnavailable(GeminiError):
    """Gemini is down, overloaded, or not reachable. A retry may help."""


class Throttled(GeminiUnavailable):
    """Gemini refuses requests now, and names no quota. This key need not be the cause, but another key may be served."""


class RequestRefused(GeminiError):
    """Gemini does not accept the request. The mistake is on our side, so a retry does not help."""


class InvalidAnswer(GeminiError):
    """The answer is incomplete, or does not fit the schema of `Advice`."""


class Gemini:
    """The client of one Gemini model. Each call takes its own API key."""

    def __init__(self, client: genai.Client, model: str) -> None:
        self._client = client
        self._model = model

    async def ask(self, key: SecretStr, prompt: Prompt, timeout_s: float = GEMINI_TIMEOUT_S) -> Advice:
        """Make one request, and wait at most `timeout_s` seconds for the answer.

        The time limit in the request to Google is always 30 s, because Google refuses limits below 10 s.

        Raises KeyFailed, GeminiError.
        """
        with translate_errors(key.get_secret_value()):
            async with asyncio.timeout(timeout_s):
                return await self._ask(key, prompt)

    async def _ask(self, key: SecretStr, prompt: Prompt) -> Advice:
        response = await self._client.aio.models.generate_content(
            model=self._model,
            contents=prompt.contents,
            config=types.GenerateContentConfig(
                system_instruction=prompt.instruction,
                response_mime_type="application/json",
                response_json_schema=Advice.model_json_schema(),
                max_output_tokens=MAX_OUTPUT_TOKENS,
                automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
                http_options=types.HttpOptions(
                    headers={"x-goog-api-key": key.get_secret_value()}, timeout=round(GEMINI_TIMEOUT_S * 1000)
                ),
            ),
        )
        log.info("gemini.answered", model=response.model_version, usage=_count_tokens(response.usage_metadata))
        return _parse_advice(response)


@asynccontextmanager
async def open_gemini(settings: Settings) -> AsyncIterator[Gemini]:
    """Open the client. This takes 0.1 s or more, so each process does it only once."""
    client = genai.Client(
        api_key="each call sets its own key",
        vertexai=False,
        http_options=types.HttpOptions(
            base_url=settings.gemini_api_url,
            api_version=API_VERSION,
            # Without this the library retries on its own, and the key's counter misses these requests.
            retry_options=types.HttpRetryOptions(attempts=1),
        ),
    )
    try:
        yield Gemini(client, settings.gemini_model)
    finally:
        await client.aio.aclose()


def _parse_advice(response: types.GenerateContentResponse) -> Advice:
    """Parse a complete answer.

    Raises InvalidAnswer.
    """
    reason = response.candidates[0].finish_reason if response.candidates else None
    if not response.text or reason is not types.FinishReason.STOP:
        raise InvalidAnswer(f"the answer is incomplete: {reason.value if reason else 'no candidates'}")
    try:
        return Advice.model_validate_json(response.text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise InvalidAnswer(f"{'.'.join(map(str, problem['loc'])) or 'answer'}: {problem['msg']}") from None


@contextmanager
def translate_errors(key: str) -> Iterator[None]:
    """Raise the errors of Google's library as errors of this module, without the API key that some messages contain.

    Raises KeyFailed, GeminiError.
    """
    try:
        yield
    except APIError as error:
        raise _to_domain_error(error, key) from None
    except TimeoutError as error:
        raise GeminiUnavailable("no answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise GeminiUnavailable(str(error) or type(error).__name__) from error
    except (KeyFailed, GeminiError):
        raise
    except Exception as error:  # noqa: BLE001 the library fails in many ways on bad JSON, bad UTF-8 and unknown shapes
        log.warning("gemini.unreadable_answer", error=type(error).__name__)
        raise GeminiUnavailable(f"the answer is unreadable: {type(error).__name__}") from None


def _to_domain_error(error: APIError, key: str) -> KeyFailed | GeminiError:
    problem = f"{error.code} {error.status}: {error.message}".replace(key, "(the key)")
    problem = problem.partition("\n")[0][:PROBLEM_MAX_CHARACTERS]
    details = list(_find_details(error.details))
    match error.code:
        case 429:
            return _to_quota_error(problem, f"{error.message}", details)
        case 401 | 403:
            return KeyRefused(problem)
        case 400 if any(detail.get("reason") == "API_KEY_INVALID" for detail in details):
            return KeyRefused(problem)
        case 408 | 499:  # time-outs
            return GeminiUnavailable(problem)
        case int(code) if code >= MIN_SERVER_ERROR_STATUS:
            return GeminiUnavailable(problem)
        case _:
            return RequestRefused(problem)


def _to_quota_error(problem: str, message: str, details: Sequence[Mapping[str, Any]]) -> KeyFailed | GeminiError:
    """Find the exhausted quota. The daily quota takes precedence, because its `retryDelay` is not reliable."""
    if "limit: 0," in f"{message},".replace("\n", ","):
        return KeyRefused(f"the model is not available for this key: {problem}")
    quotas = " ".join(_find_quotas(details))
    has_period = PER_DAY.search(quotas) or PER_MINUTE.search(quotas)
    text = quotas if has_period else message
    delays = list(_find_retry_delays(details))
    if PER_DAY.search(text):
        return DayExhausted(problem)
    if PER_MINUTE.search(text) or quotas or delays:
        return MinuteExhausted(problem, max(delays, default=DEFAULT_RETRY_DELAY_S))
    return Throttled(problem)


def _find_quotas(details: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Find the texts that name quotas: in the violations of a `QuotaFailure`, and in an `ErrorInfo`.

    https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
    """
    for detail in details:
        if detail.get("reason") == RATE_LIMIT_EXCEEDED:
            yield RATE_LIMIT_EXCEEDED
        violations = detail.get("violations")
        for fields in (detail.get("metadata"), *(violations if isinstance(violations, list) else ())):
            for name, value in fields.items() if isinstance(fields, dict) else ():
                if isinstance(value, str) and name.startswith(("quota", "description")):
                    yield value


def _find_retry_delays(details: Sequence[Mapping[str, Any]]) -> Iterator[float]:
    """Find the delays of `RetryInfo`, in seconds. A delay may be zero or negative; `DEFAULT_RETRY_DELAY_S` if it is unreadable."""
    for detail in details:
        if "retryDelay" in detail or str(detail.get("@type")).endswith("RetryInfo"):
            yield _parse_seconds(detail.get("retryDelay"))


def _find_details(body: Any) -> Iterator[Mapping[str, Any]]:
    """Find the error's details in a body of any shape: Google sends an object, or a list with one object."""
    if isinstance(body, list):
        body = body[0] if body else None
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    yield from (detail for detail in details if isinstance(detail, dict)) if isinstance(details, list) else ()


def _parse_seconds(duration: Any) -> float:
    """Parse a duration in the JSON format of Protocol Buffers, such as `37s` or `0.5s`."""
    return float(str(duration)[:-1]) if DURATION.fullmatch(str(duration)) else DEFAULT_RETRY_DELAY_S


def _count_tokens(usage: types.GenerateContentResponseUsageMetadata | None) -> Mapping[str, int | None]:
    return {} if usage is None else {"prompt": usage.prompt_token_count, "cached": usage.cached_content_token_count}
