"""The control API: it shows requests and usage, and injects faults. Invalid input gets a JSON 400."""

from collections.abc import Mapping
from datetime import date

from starlette.requests import Request
from starlette.responses import Response

from app.dev.control import ControlApi
from app.dev.gemini.errors import GeminiJsonResponse
from app.dev.gemini.faults import Fault
from app.dev.gemini.state import Gemini, Usage
from app.dev.standins import Json


async def list_requests(_: Request, gemini: Gemini) -> Response:
    """List the latest requests, oldest first."""
    return GeminiJsonResponse({"requests": list(gemini.requests)})


async def show_usage(_: Request, gemini: Gemini) -> Response:
    """Show the number of requests by key and by project, for each day in California."""
    return GeminiJsonResponse(
        {
            "keys": _format_usage("key", gemini.usage_of_keys),
            "projects": _format_usage("project", gemini.usage_of_projects),
            "turned_away": _format_counts(gemini.turned_away),
        }
    )


def _format_usage(name_field: str, usages: Mapping[tuple[date, str], Usage]) -> list[Json]:
    return [
        {
            "day": day,
            name_field: name,
            "requests": usage.requests,
            "served": usage.served,
            "unanswered": usage.unanswered,
            "refused": _format_counts(usage.refused),
        }
        for (day, name), usage in usages.items()
    ]


def _format_counts(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(status): count for status, count in sorted(counts.items())}


_api = ControlApi("gemini", GeminiJsonResponse)

CONTROL_ROUTES = [
    _api.route("GET", "/requests", list_requests),
    _api.route("GET", "/usage", show_usage),
    *_api.fault_routes("faults", Fault),
    _api.reset_route(),
]
