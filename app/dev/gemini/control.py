"""The control API: what people and tests use to see what has come, and to make it fail. Bad input gets a JSON 400."""

from collections.abc import Mapping
from datetime import date
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from app.dev.control import control_route
from app.dev.gemini.errors import Json, JsonResponse
from app.dev.gemini.faults import Fault
from app.dev.gemini.state import Gemini, Usage


async def list_requests(_: Request, gemini: Gemini) -> Response:
    """The latest requests, the oldest first."""
    return JsonResponse({"requests": list(gemini.requests)})


async def show_usage(_: Request, gemini: Gemini) -> Response:
    """How many requests have come, by the day of California."""
    return JsonResponse(
        {
            "keys": _usages("key", gemini.usage_of_keys),
            "projects": _usages("project", gemini.usage_of_projects),
            "turned_away": _counts(gemini.turned_away),
        }
    )


async def order_fault(request: Request, gemini: Gemini) -> Response:
    """Let the next requests fail."""
    fault = Fault.model_validate_json(await request.body())
    gemini.faults.order(fault)
    return JsonResponse(fault.model_dump(mode="json"), status_code=201)


async def list_faults(_: Request, gemini: Gemini) -> Response:
    """The faults that are still to come."""
    return JsonResponse({"faults": [fault.model_dump(mode="json") for fault in gemini.faults.listed()]})


async def clear_faults(_: Request, gemini: Gemini) -> Response:
    """Let everything work again."""
    gemini.faults.clear()
    return JsonResponse({"faults": []})


async def reset(_: Request, gemini: Gemini) -> Response:
    """Begin anew."""
    gemini.reset()
    return JsonResponse({"ok": True})


def _usages(whose: str, usages: Mapping[tuple[date, str], Usage]) -> list[Json]:
    return [
        {
            "day": day,
            whose: name,
            "requests": usage.requests,
            "served": usage.served,
            "unanswered": usage.unanswered,
            "refused": _counts(usage.refused),
        }
        for (day, name), usage in usages.items()
    ]


def _counts(counted: Mapping[int, int]) -> dict[str, int]:
    return {str(status): count for status, count in sorted(counted.items())}


_route = partial(control_route, state="gemini", answer=JsonResponse)

CONTROL_ROUTES = [
    _route("/requests", list_requests, "GET"),
    _route("/usage", show_usage, "GET"),
    _route("/faults", order_fault, "POST"),
    _route("/faults", list_faults, "GET"),
    _route("/faults", clear_faults, "DELETE"),
    _route("/reset", reset, "POST"),
]
