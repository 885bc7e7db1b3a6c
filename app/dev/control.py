"""Shared parts of the stand-ins' control APIs: JSON errors, and routes for faults and reset."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.dev.faults import InjectedFault
from app.dev.standins import JsonResponse

type Endpoint = Callable[[Request, Any], Awaitable[Response]]


@dataclass(frozen=True)
class ControlApi:
    """Creates the routes of one stand-in's control API.

    Args:
        state_name: The attribute of `app.state` that holds the stand-in's state; endpoints get the state.
        json_response: The response class of the stand-in.
    """

    state_name: str
    json_response: type[JsonResponse]

    def route(self, method: str, path: str, endpoint: Endpoint) -> Route:
        """Create a route. Its ValueErrors, Pydantic's among them, become JSON 400s."""

        async def handle(request: Request) -> Response:
            try:
                return await endpoint(request, getattr(request.app.state, self.state_name))
            except ValidationError as error:
                problems = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors()]
                return self.json_response({"error": "; ".join(problems)}, status_code=400)
            except ValueError as error:
                return self.json_response({"error": str(error)}, status_code=400)

        return Route(path, handle, methods=[method])

    def fault_routes(self, name: str, fault_type: type[InjectedFault]) -> list[Route]:
        """Create the routes that list, add and clear faults.

        Args:
            name: The path, the JSON field, and the attribute of the state that holds the FaultQueue.
            fault_type: The body of POST.
        """

        async def list_faults(_: Request, state: Any) -> Response:
            faults = getattr(state, name).pending()
            return self.json_response({name: [fault.model_dump(mode="json") for fault in faults]})

        async def add_fault(request: Request, state: Any) -> Response:
            fault = fault_type.model_validate_json(await request.body())
            getattr(state, name).add(fault)
            return self.json_response(fault.model_dump(mode="json"), status_code=201)

        async def clear_faults(_: Request, state: Any) -> Response:
            getattr(state, name).clear()
            return self.json_response({name: []})

        path = f"/{name}"
        return [
            self.route("GET", path, list_faults),
            self.route("POST", path, add_fault),
            self.route("DELETE", path, clear_faults),
        ]

    def reset_route(self) -> Route:
        """Create the route that resets the stand-in."""

        async def reset(_: Request, state: Any) -> Response:
            state.reset()
            return self.json_response({"ok": True})

        return self.route("POST", "/reset", reset)
