"""What the control APIs of the stand-ins share."""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def control_route(
    path: str,
    endpoint: Callable[[Request, Any], Awaitable[Response]],
    *methods: str,
    state: str,
    answer: type[Response],
) -> Route:
    """Make a route whose ValueErrors (Pydantic's are some) become JSON 400s.

    Args:
        state: Where in the app's state the stand-in's is, which the endpoint gets.
        answer: Writes JSON, as the stand-in does.
    """

    async def guarded(request: Request) -> Response:
        try:
            return await endpoint(request, getattr(request.app.state, state))
        except ValidationError as error:
            complaints = [f"{'.'.join(map(str, item['loc'])) or 'body'}: {item['msg']}" for item in error.errors()]
            return answer({"error": "; ".join(complaints)}, status_code=400)
        except ValueError as error:
            return answer({"error": str(error)}, status_code=400)

    return Route(path, guarded, methods=list(methods))
