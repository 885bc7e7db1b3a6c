"""Injected faults."""

import json

import aiohttp
import pytest
from google.genai.errors import ClientError, ServerError
from google.genai.types import (
    FinishReason,
)

from app.ai.prompts import SUMMARY_MAX_CHARACTERS
from app.dev.gemini.faults import FaultKind
from tests.dev.gemini.conftest import MODEL, PER_DAY, PER_MINUTE, World, find_detail


@pytest.mark.parametrize(
    ("kind", "code", "status", "details"),
    [
        (FaultKind.DAY_QUOTA, 429, "RESOURCE_EXHAUSTED", ["QuotaFailure", "Help", "RetryInfo"]),
        (FaultKind.MINUTE_QUOTA, 429, "RESOURCE_EXHAUSTED", ["QuotaFailure", "Help", "RetryInfo"]),
        (FaultKind.MODEL_QUOTA, 429, "RESOURCE_EXHAUSTED", ["QuotaFailure", "Help", "RetryInfo"]),
        (FaultKind.BARE_429, 429, "RESOURCE_EXHAUSTED", []),
        (FaultKind.KEY_INVALID, 400, "INVALID_ARGUMENT", ["ErrorInfo", "LocalizedMessage"]),
        (FaultKind.UNAUTHENTICATED, 401, "UNAUTHENTICATED", ["ErrorInfo"]),
        (FaultKind.FORBIDDEN, 403, "PERMISSION_DENIED", ["ErrorInfo"]),
        (FaultKind.BAD_REQUEST, 400, "INVALID_ARGUMENT", []),
        (FaultKind.SERVER_ERROR, 500, "INTERNAL", []),
        (FaultKind.UNAVAILABLE, 503, "UNAVAILABLE", []),
    ],
)
async def test_error_has_the_real_format(
    world: World, kind: FaultKind, code: int, status: str, details: list[str]
) -> None:
    """Each injected error raises the SDK's exception with the code, status and details of the real service."""
    world.add_fault(kind)

    error = await world.error()

    assert type(error) is (ClientError if code < 500 else ServerError)
    assert (error.code, error.status) == (code, status)
    assert [item["@type"].rpartition(".")[2] for item in error.details["error"].get("details", [])] == details


@pytest.mark.parametrize(
    ("kind", "quota_ids", "limits"),
    [
        (FaultKind.DAY_QUOTA, [PER_DAY], ["200"]),
        (FaultKind.MINUTE_QUOTA, [PER_MINUTE], ["15"]),
        (FaultKind.MODEL_QUOTA, [PER_DAY, PER_MINUTE], [None, None]),
    ],
)
async def test_exceeded_quota_is_named(
    world: World, kind: FaultKind, quota_ids: list[str], limits: list[str | None]
) -> None:
    """An injected quota error names the quota and its limit; a limit of 0 is only in the message."""
    world.add_fault(kind)

    error = await world.error()

    violations = find_detail(error, "QuotaFailure")["violations"]
    assert [violation["quotaId"] for violation in violations] == quota_ids
    assert [violation.get("quotaValue") for violation in violations] == limits
    assert violations[0]["quotaDimensions"] == {"location": "global", "model": MODEL}
    assert f"limit: {limits[0] or 0}, model: {MODEL}" in str(error.message)


@pytest.mark.parametrize(("retry_delay_s", "expected"), [(None, "37s"), (2.5, "2.5s"), (0, "0s")])
async def test_retry_delay_can_be_chosen(world: World, retry_delay_s: float | None, expected: str) -> None:
    """An injected quota error names the delay of the fault."""
    world.add_fault(FaultKind.MINUTE_QUOTA, retry_delay_s=retry_delay_s)

    assert find_detail(await world.error(), "RetryInfo")["retryDelay"] == expected


async def test_details_can_be_chosen(world: World) -> None:
    """An injected 429 has the message and the details of the fault."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "-1s"}]
    world.add_fault(FaultKind.BARE_429, message="Slow down.", details=details)

    error = await world.error()

    assert (error.message, error.details["error"]["details"]) == ("Slow down.", details)


async def test_error_of_a_suspended_key_contains_the_key(world: World) -> None:
    """The error for a suspended key contains the key, as the real one does."""
    world.add_fault(FaultKind.FORBIDDEN)

    assert "api_key:key-1" in str(await world.error())


async def test_bad_gateway_is_an_html_page(world: World) -> None:
    """A 502 with an HTML page raises a server error with the page as its message."""
    world.add_fault(FaultKind.HTML_BAD_GATEWAY)

    error = await world.error()

    assert type(error) is ServerError
    assert (error.code, error.status) == (502, "Bad Gateway")
    assert "<h1>502 Bad Gateway</h1>" in str(error.message)


async def test_hanging_request_times_out(world: World) -> None:
    """The SDK raises TimeoutError when no answer arrives."""
    world.add_fault(FaultKind.HANG)

    with pytest.raises(TimeoutError):
        await world.ask(timeout_ms=50)

    assert world.state.usage_of_key("key-1").unanswered == 1


async def test_dropped_connection_is_not_retried(world: World) -> None:
    """A broken connection raises a connection error, and the SDK does not retry."""
    world.add_fault(FaultKind.DROP)

    with pytest.raises(aiohttp.ServerDisconnectedError):
        await world.ask()

    assert world.state.usage_of_key("key-1").requests == 1


async def test_bad_json_raises_a_decode_error(world: World) -> None:
    """A body that is not JSON raises the decoder's error."""
    world.add_fault(FaultKind.BAD_JSON)

    with pytest.raises(json.JSONDecodeError):
        await world.ask()


async def test_truncated_answer_has_incomplete_json(world: World) -> None:
    """A truncated answer raises no exception, and its JSON is incomplete."""
    world.add_fault(FaultKind.MAX_TOKENS)

    answer = await world.ask(response_mime_type="application/json")

    [candidate] = answer.candidates or []
    assert candidate.finish_reason == FinishReason.MAX_TOKENS
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.text or "")


async def test_answer_blocked_for_safety_has_no_text(world: World) -> None:
    """A blocked answer raises no exception and has no text."""
    world.add_fault(FaultKind.SAFETY)

    answer = await world.ask()

    [candidate] = answer.candidates or []
    assert (candidate.finish_reason, answer.text) == (FinishReason.SAFETY, None)


async def test_answer_without_candidates_has_no_text(world: World) -> None:
    """An answer without candidates raises no exception and has no text."""
    world.add_fault(FaultKind.EMPTY)

    answer = await world.ask()

    assert (answer.candidates, answer.text) == (None, None)


async def test_invalid_answer_breaks_the_limits(world: World) -> None:
    """An invalid answer has a summary that is too long, and no tips."""
    world.add_fault(FaultKind.INVALID_ANSWER)

    answer = json.loads((await world.ask(response_mime_type="application/json")).text or "")

    assert (len(answer["summary"]) > SUMMARY_MAX_CHARACTERS, answer["tips"]) == (True, [])


async def test_invalid_answer_can_be_chosen(world: World) -> None:
    """The fault can contain the text of the invalid answer."""
    world.add_fault(FaultKind.INVALID_ANSWER, text='{"summary": 7}')

    assert (await world.ask()).text == '{"summary": 7}'


async def test_fault_ends_after_its_number_of_requests(world: World) -> None:
    """A fault for two requests does not affect the third."""
    world.add_fault(FaultKind.UNAVAILABLE, times=2)
    await world.error()
    await world.error()

    assert (await world.ask()).text


async def test_unlimited_fault_ends_when_cleared(world: World) -> None:
    """A fault without a number of requests lasts until the faults are cleared."""
    world.add_fault(FaultKind.UNAVAILABLE, times=None)
    for _ in range(3):
        await world.error()
    world.state.faults.clear()

    assert (await world.ask()).text


async def test_fault_of_one_key_does_not_affect_others(world: World) -> None:
    """A fault for one key does not affect other keys."""
    world.add_fault(FaultKind.FORBIDDEN, key="key-3")

    assert (await world.ask(key="key-1")).text
    assert (await world.error(key="key-3")).code == 403


async def test_faults_apply_in_order(world: World) -> None:
    """Faults apply in the order in which they were added."""
    world.add_fault(FaultKind.UNAVAILABLE)
    world.add_fault(FaultKind.BARE_429)

    assert [(await world.error()).code, (await world.error()).code] == [503, 429]
