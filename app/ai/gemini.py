"""Asking Gemini, and what its answers mean. The only place that knows Google's library.

https://ai.google.dev/gemini-api/docs/troubleshooting
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
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
"""The library's default, said here so that the environment cannot change it."""

MAX_OUTPUT_TOKENS = 2048
"""Several times what a summary and three tips take, with what some models think before they answer."""

RETRY_DELAY_UNKNOWN_S = 60.0
"""How long a key rests that has had too many requests within a minute, if Google does not say it."""

SERVER_ERRORS = 500

DURATION = re.compile(r"[0-9]+(\.[0-9]+)?s")

PROBLEM_MAX_CHARACTERS = 300


class KeyFailed(Exception):
    """This key does not work now; another one may."""


class DayExhausted(KeyFailed):
    """The day's requests of the key's project are used up."""


class MinuteExhausted(KeyFailed):
    """The minute's requests, or tokens, of the key's project are used up."""

    def __init__(self, problem: str, retry_after_s: float) -> None:
        super().__init__(problem)
        self.retry_after_s = retry_after_s


class KeyRefused(KeyFailed):
    """Google does not take this key."""


class NotAnswered(Exception):
    """There is no answer, and no key is to blame."""


class Away(NotAnswered):
    """Gemini is down, overloaded, or cannot be reached: it may answer soon."""


class Refused(NotAnswered):
    """Gemini does not take the request: that is our fault, and asking again does not help."""


class Unfit(NotAnswered):
    """What Gemini has answered is no recommendation."""


class Gemini:
    """Gemini's model. The key comes with each call."""

    def __init__(self, client: genai.Client, model: str) -> None:
        self._client = client
        self._model = model

    async def ask(self, key: SecretStr, prompt: Prompt, timeout_s: float = GEMINI_TIMEOUT_S) -> Advice:
        """Make one request, and wait for its answer at most `timeout_s` seconds.

        Google is told 30 s in any case: it refuses to be given less than 10.

        Raises KeyFailed, NotAnswered.
        """
        with _understood(key.get_secret_value()):
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
        log.info("gemini.answered", model=response.model_version, usage=_tokens(response.usage_metadata))
        return _advice(response)


@asynccontextmanager
async def open_gemini(settings: Settings) -> AsyncIterator[Gemini]:
    """Make the client of one process: that takes a tenth of a second or more."""
    client = genai.Client(
        api_key="comes with each call",
        vertexai=False,
        http_options=types.HttpOptions(
            base_url=settings.gemini_api_url,
            api_version=API_VERSION,
            # With none the library sends a request again by itself, which the key's counter would not see.
            retry_options=types.HttpRetryOptions(attempts=1),
        ),
    )
    try:
        yield Gemini(client, settings.gemini_model)
    finally:
        await client.aio.aclose()


def _advice(response: types.GenerateContentResponse) -> Advice:
    """Raises Unfit."""
    reason = response.candidates[0].finish_reason if response.candidates else None
    if not response.text or reason is not types.FinishReason.STOP:
        raise Unfit(f"the answer is not complete: {reason.value if reason else 'no candidates'}")
    try:
        return Advice.model_validate_json(response.text)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise Unfit(f"{'.'.join(map(str, problem['loc'])) or 'answer'}: {problem['msg']}") from None


@contextmanager
def _understood(key: str) -> Iterator[None]:
    """Turn what the library raises into what it means. Google names the key in some errors: that does not go on.

    Raises KeyFailed, NotAnswered.
    """
    try:
        yield
    except APIError as error:
        raise _meaning(error, key) from None
    except TimeoutError as error:
        raise Away("no answer in time") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Away(str(error) or type(error).__name__) from error
    except (KeyFailed, NotAnswered):
        raise
    except Exception as error:  # noqa: BLE001 the library stumbles over no JSON, no UTF-8, and shapes that it does not know
        log.warning("gemini.not_understood", error=type(error).__name__)
        raise Away(f"the answer cannot be understood: {type(error).__name__}") from None


def _meaning(error: APIError, key: str) -> KeyFailed | NotAnswered:
    problem = f"{error.code} {error.status}: {error.message}".replace(key, "(the key)")
    problem = problem.partition("\n")[0][:PROBLEM_MAX_CHARACTERS]
    details = list(_details(error.details))
    match error.code:
        case 429:
            return _too_many(problem, details, is_for_others="limit: 0," in f"{error.message},".replace("\n", ","))
        case 401 | 403:
            return KeyRefused(problem)
        case 400 if any(detail.get("reason") == "API_KEY_INVALID" for detail in details):
            return KeyRefused(problem)
        case 408 | 499:  # time-outs
            return Away(problem)
        case int(code) if code >= SERVER_ERRORS:
            return Away(problem)
        case _:
            return Refused(problem)


def _too_many(problem: str, details: list[Mapping[str, Any]], *, is_for_others: bool) -> KeyFailed | NotAnswered:
    """Read which quota is used up: the day's wins, for its `retryDelay` is not to be trusted."""
    listed = [violations for detail in details if isinstance(violations := detail.get("violations"), list)]
    quotas = [str(it.get("quotaId")) for violations in listed for it in violations if isinstance(it, dict)]
    delays = [delay for detail in details if (delay := _seconds(detail.get("retryDelay"))) is not None]
    if is_for_others:
        return KeyRefused(f"the model is not for this key: {problem}")
    if any("PerDay" in quota for quota in quotas):
        return DayExhausted(problem)
    if delays or any("PerMinute" in quota for quota in quotas):
        return MinuteExhausted(problem, max(delays, default=RETRY_DELAY_UNKNOWN_S))
    return Away(problem)


def _details(body: Any) -> Iterator[Mapping[str, Any]]:
    """Find the error's details in a body that may be anything: an object, or a list of one."""
    if isinstance(body, list):
        body = body[0] if body else None
    error = body.get("error") if isinstance(body, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    yield from (detail for detail in details if isinstance(detail, dict)) if isinstance(details, list) else ()


def _seconds(duration: Any) -> float | None:
    """Read a duration of Protocol Buffers' JSON, such as `37s` or `0.5s`."""
    return float(str(duration)[:-1]) if DURATION.fullmatch(str(duration)) else None


def _tokens(usage: types.GenerateContentResponseUsageMetadata | None) -> Mapping[str, int | None]:
    return {} if usage is None else {"prompt": usage.prompt_token_count, "cached": usage.cached_content_token_count}
