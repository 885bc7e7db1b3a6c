"""Access: each operation says who may call it."""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import wraps
from typing import Any, Concatenate, Protocol, cast

from app.auth.context import Context
from app.errors import Forbidden
from app.models import Role
from app.validation import ArgumentValidator


class Open(Enum):
    """Access without a role."""

    PUBLIC = "public"
    """Everyone, with or without a token."""
    CHAT = "chat"
    """The chat that the operation is about: its id comes from Telegram, through the context."""


PUBLIC, CHAT = Open.PUBLIC, Open.CHAT


@dataclass(frozen=True)
class Self:
    """Managers, and the user whose Telegram id the argument `parameter` has.

    If the operation gives that parameter the default None, it means the viewer.
    """

    parameter: str = "tgid"


type Access = Role | Open | Self


class Operation[**P, R](Protocol):
    """A function of `app.resolvers` that says who may call it."""

    access: Access
    __name__: str
    __doc__: str | None

    async def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R: ...


def allow[**P, R](
    access: Access,
) -> Callable[[Callable[Concatenate[Context, P], Awaitable[R]]], Operation[P, R]]:
    """Authorize the caller, then validate the arguments, then call the operation. A manager may do all that a user may.

    This is the only place that says it: the APIs, the schema's descriptions and the tests read it from here.

    Raises Unauthenticated, Forbidden, BadInput.
    """

    def decorate(function: Callable[Concatenate[Context, P], Awaitable[R]]) -> Operation[P, R]:
        validator = ArgumentValidator(function)
        owner = inspect.signature(function).parameters.get(access.parameter) if isinstance(access, Self) else None
        if isinstance(access, Self) and owner is None:
            raise TypeError(f"{function.__name__} has no parameter {access.parameter}")

        @wraps(function)
        async def guarded(ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
            await authorize(ctx, access)
            arguments = validator.bind(args, kwargs)
            if owner is not None:
                _require_self(ctx, owner, arguments)
            result: R = await cast("Any", function)(ctx, **validator.validate(arguments))
            return result

        operation = cast("Operation[P, R]", guarded)
        operation.access = access
        return operation

    return decorate


async def authorize(ctx: Context, access: Access) -> None:
    """Check what does not depend on the arguments.

    Raises Unauthenticated, Forbidden.
    """
    if access is PUBLIC:
        return
    if access is CHAT:
        if ctx.caller.telegram_chat is None:
            raise Forbidden("Only the chat itself may do this.")
        return
    viewer = await ctx.caller.authenticate(ctx.clients)
    if access is Role.MANAGER and not viewer.is_manager:
        raise Forbidden("Only a manager may do this.")


def _require_self(ctx: Context, owner: inspect.Parameter, arguments: Mapping[str, object]) -> None:
    tgid = arguments.get(owner.name, owner.default)
    is_viewer = tgid == ctx.viewer.tgid or (tgid is None and owner.default is None)
    if not is_viewer and not ctx.viewer.is_manager:
        raise Forbidden("You may do this only for yourself.")
