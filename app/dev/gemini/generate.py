"""From an HTTP request to what the model says, and the ways in which it can fail on the way."""

import asyncio

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from app.dev.gemini.advice import Advice, advise
from app.dev.gemini.errors import ApiError, ErrorResponse, Json, JsonResponse, deadline_too_short, model_not_found
from app.dev.gemini.faults import Fault, FaultKind
from app.dev.gemini.shapes import (
    GenerateContentRequest,
    answer_json,
    cut_off,
    held_back,
    read_request,
    spoken,
)
from app.dev.gemini.state import Gemini, SeenRequest

VERSIONS = ("v1", "v1beta")
"""Google's library asks for v1 unless told otherwise, since its 3.0."""

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
"""Only in v1beta. Behind some names stands another model, which is told in the answer.
https://github.com/googleapis/python-genai/releases/tag/v3.0.0"""

DEADLINE_MIN_S = 10
"""The service refuses a shorter one."""

UNFIT = Advice(summary="You eat well. " * 30, tips=[])
"""More than 300 characters, and no tips."""


class DroppedConnection(Response):
    """No answer: the server closes the connection.

    The status 100 is none to a client, who waits for the next; it lets the server know that the answer has begun, so
    that it does not make one up when there is no more.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        """Send nothing that counts."""
        await send({"type": "http.response.start", "status": 100, "headers": []})


async def generate_content(request: Request) -> Response:
    """`models.generateContent`. A request with a good key is counted, whatever its answer."""
    gemini: Gemini = request.app.state.gemini
    if request.path_params["version"] not in VERSIONS:
        raise HTTPException(404)
    try:
        body = await request.body()
    except ClientDisconnect:
        return DroppedConnection()
    key = request.headers.get("x-goog-api-key", "")
    try:
        project = gemini.project_of(key)
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
    """Nothing waits between the look at a quota and its use: two requests at once do not share the last one.

    Raises ApiError.
    """
    version, wanted = request.path_params["version"], request.path_params["model"]
    question = _read(gemini, key, wanted, body)
    model = MODELS.get(wanted) or (BETA_MODELS.get(wanted) if version == "v1beta" else None)
    if model is None:
        raise model_not_found(wanted, version)
    fault = gemini.faults.next_for(key)
    deadline = request.headers.get("x-server-timeout", "")
    if fault is None and deadline.isdecimal() and int(deadline) < DEADLINE_MIN_S:
        raise deadline_too_short(int(deadline), DEADLINE_MIN_S)
    refusal = fault.refusal(key, model) if fault else None
    if refusal is None or refusal.code >= 500:  # noqa: PLR2004 - a server's fault: the request was let in
        gemini.quotas.take(project, model, gemini.clock())
    if fault:
        gemini.faults.use_up(fault)
    if refusal:
        raise refusal
    if gemini.latency_s:
        await _wait(request, gemini, gemini.latency_s)
    if fault and fault.kind is FaultKind.HANG:
        await _wait(request, gemini)
    return _respond(question, model, fault)


def _read(gemini: Gemini, key: str, model: str, body: bytes) -> GenerateContentRequest:
    """Read the body, and remember the request whether or not that works."""
    try:
        question = read_request(body)
    except ApiError:
        gemini.remember(SeenRequest(key, model, "", "", gemini.clock()))
        raise
    gemini.remember(SeenRequest(key, model, question.system_text, question.text, gemini.clock()))
    return question


def _respond(question: GenerateContentRequest, model: str, fault: Fault | None) -> Response:
    match fault.kind if fault else None:
        case FaultKind.HANG | FaultKind.DROP:
            return DroppedConnection()
        case FaultKind.HTML_BAD_GATEWAY:
            page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
            return HTMLResponse(page, status_code=502)
        case FaultKind.BAD_JSON:
            return Response(b'{"candidates": [{"content": {"parts": [{"text": ', media_type=JsonResponse.media_type)
    return JsonResponse(answer_json(question, model, _candidate(question, fault)))


def _candidate(question: GenerateContentRequest, fault: Fault | None) -> Json | None:
    text = _written(advise(question.text), question)
    match fault.kind if fault else None:
        case FaultKind.EMPTY:
            return None
        case FaultKind.SAFETY:
            return held_back()
        case FaultKind.MAX_TOKENS:
            return cut_off(text, len(text) // 2)
        case FaultKind.UNFIT:
            ordered = fault.text if fault else None
            return spoken(_written(UNFIT, question) if ordered is None else ordered, question)
    return spoken(text, question)


def _written(advice: Advice, question: GenerateContentRequest) -> str:
    if question.wants_json:
        return orjson.dumps({"summary": advice.summary, "tips": advice.tips}).decode()
    return "\n".join([advice.summary, *advice.tips])


async def _wait(request: Request, gemini: Gemini, seconds: float | None = None) -> None:
    """Let time pass, as long as the client waits and the stand-in is open."""
    ends = {asyncio.ensure_future(_client_left(request)), asyncio.ensure_future(gemini.closing.wait())}
    try:
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()


async def _client_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
