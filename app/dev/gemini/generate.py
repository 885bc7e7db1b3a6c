"""Answers `models.generateContent`: counts the request, applies quotas and injected faults, and writes the answer."""

import asyncio

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from app.dev.gemini.advice import Advice, advise
from app.dev.gemini.errors import ApiError, ErrorResponse, GeminiJsonResponse, deadline_too_short, model_not_found
from app.dev.gemini.faults import Fault, FaultKind
from app.dev.gemini.shapes import (
    GenerateContentRequest,
    blocked_candidate,
    format_answer,
    parse_request,
    text_candidate,
    truncated_candidate,
)
from app.dev.gemini.state import Gemini, RecordedRequest
from app.dev.standins import DroppedConnection, Json, bad_gateway_response, hang, run_until_disconnect

VERSIONS = ("v1", "v1beta")
"""Google's library uses v1 by default since its version 3.0."""

MODELS = {
    name: name
    for name in (
        "gemini-2.5-flash",
        "gemini-2.5-flash-lite",
        "gemini-2.5-pro",
        "gemini-3.1-flash-lite",
        "gemini-3.5-flash",
        "gemini-3.5-flash-lite",
        "gemini-3.6-flash",
        "gemini-3.7-flash",
        "gemini-3.8-flash",
    )
}
BETA_MODELS = {
    "gemini-3-flash-preview": "gemini-3-flash-preview",
    "gemini-3.1-pro-preview": "gemini-3.1-pro-preview",
    "gemini-flash-latest": "gemini-3.8-flash",
    "gemini-flash-lite-latest": "gemini-3.5-flash-lite",
}
"""Only in v1beta. Some names are aliases; the answer then names the real model.
https://github.com/googleapis/python-genai/releases/tag/v3.0.0"""

MIN_DEADLINE_S = 10
"""The service refuses a shorter deadline."""

INVALID_ADVICE = Advice(summary="You eat well. " * 30, tips=[])
"""The summary has more than 300 characters, and there are no tips."""


async def generate_content(request: Request) -> Response:
    """Answer `models.generateContent`. A request with a valid key is counted, whatever its answer."""
    gemini: Gemini = request.app.state.gemini
    if request.path_params["version"] not in VERSIONS:
        raise HTTPException(404)
    try:
        body = await request.body()
    except ClientDisconnect:
        return _drop_connection()
    key = request.headers.get("x-goog-api-key", "")
    try:
        project = gemini.get_project(key)
    except ApiError as error:
        gemini.turned_away[error.code] += 1
        return ErrorResponse(error)
    usages = gemini.count_request(key, project)
    try:
        response = await _answer(request, gemini, key, project, body)
    except ApiError as error:
        response = ErrorResponse(error)
    if not isinstance(response, DroppedConnection):
        for usage in usages:
            usage.count_answer(response.status_code)
    return response


async def _answer(request: Request, gemini: Gemini, key: str, project: str, body: bytes) -> Response:
    """Answer a request with a valid key.

    The check of a quota and its use happen without an await between them: two simultaneous requests cannot both use
    the last request of a quota.

    Raises ApiError.
    """
    version, model_name = request.path_params["version"], request.path_params["model"]
    content_request = _parse_and_record(gemini, key, model_name, body)
    model = MODELS.get(model_name) or (BETA_MODELS.get(model_name) if version == "v1beta" else None)
    if model is None:
        raise model_not_found(model_name, version)
    fault = gemini.faults.find(lambda fault: fault.matches(key))
    deadline = request.headers.get("x-server-timeout", "")
    if fault is None and deadline.isdecimal() and int(deadline) < MIN_DEADLINE_S:
        raise deadline_too_short(int(deadline), MIN_DEADLINE_S)
    error = fault.to_error(key, model) if fault else None
    if error is None or error.code >= 500:  # noqa: PLR2004 - after a server error the request counts too
        gemini.quotas.consume(project, model, gemini.clock())
    if fault:
        gemini.faults.use_up(fault)
    if error:
        raise error
    if gemini.latency_s:
        await run_until_disconnect(request, gemini.closing, asyncio.sleep(gemini.latency_s))
    if fault and fault.kind is FaultKind.HANG:
        await hang(request, gemini.closing)
    return _respond(content_request, model, fault)


def _parse_and_record(gemini: Gemini, key: str, model: str, body: bytes) -> GenerateContentRequest:
    """Parse the body, and record the request even if its body is malformed."""
    try:
        content_request = parse_request(body)
    except ApiError:
        gemini.record_request(RecordedRequest(key, model, "", "", gemini.clock()))
        raise
    gemini.record_request(
        RecordedRequest(key, model, content_request.system_text, content_request.text, gemini.clock())
    )
    return content_request


def _respond(content_request: GenerateContentRequest, model: str, fault: Fault | None) -> Response:
    match fault.kind if fault else None:
        case FaultKind.HANG | FaultKind.DROP:
            return _drop_connection()
        case FaultKind.HTML_BAD_GATEWAY:
            return bad_gateway_response()
        case FaultKind.BAD_JSON:
            truncated = b'{"candidates": [{"content": {"parts": [{"text": '
            return Response(truncated, media_type=GeminiJsonResponse.media_type)
    candidate = _create_candidate(content_request, fault)
    return GeminiJsonResponse(format_answer(content_request, model, candidate))


def _create_candidate(content_request: GenerateContentRequest, fault: Fault | None) -> Json | None:
    text = _format_advice(advise(content_request.text), content_request)
    match fault.kind if fault else None:
        case FaultKind.EMPTY:
            return None
        case FaultKind.SAFETY:
            return blocked_candidate()
        case FaultKind.MAX_TOKENS:
            return truncated_candidate(text, len(text) // 2)
        case FaultKind.INVALID_ANSWER:
            invalid_text = fault.text if fault else None
            if invalid_text is None:
                invalid_text = _format_advice(INVALID_ADVICE, content_request)
            return text_candidate(invalid_text, content_request)
    return text_candidate(text, content_request)


def _format_advice(advice: Advice, content_request: GenerateContentRequest) -> str:
    if content_request.wants_json:
        return orjson.dumps({"summary": advice.summary, "tips": advice.tips}).decode()
    return "\n".join([advice.summary, *advice.tips])


def _drop_connection() -> DroppedConnection:
    """Close the connection without an answer.

    Clients ignore status 100 and wait for the final status. It tells the server that the response has started;
    otherwise the server would add a 500.
    """
    return DroppedConnection(100)
