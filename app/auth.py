"""Who asks, and who may: JSON Web Tokens (RFC 7519) and the rule that each operation carries."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Concatenate, Protocol, cast

import jwt

from app.context import Context, Viewer
from app.errors import Forbidden, Unauthenticated
from app.models import Role, User
from app.settings import Settings

ALGORITHM = "HS256"
"""The only one accepted: a token may not choose how it is checked (RFC 8725, section 3.1)."""

PUBLIC = None
"""Anybody, signed in or not."""


@dataclass(frozen=True)
class Claims:
    """What a valid token says."""

    tgid: int
    expires_at: datetime


def issue_token(settings: Settings, user: User, ttl: timedelta | None = None) -> str:
    """Make a token for `user`, valid for `ttl` (the setting's if not given).

    The role in it is for clients to read; we ask the database.
    """
    now = datetime.now(UTC)
    claims = {"sub": str(user.tgid), "role": user.role.value, "iat": now, "exp": now + (ttl or settings.jwt_ttl)}
    return jwt.encode(claims, settings.jwt_secret_key.get_secret_value(), ALGORITHM)


def read_token(settings: Settings, token: str) -> Claims:
    """Check signature and expiry.

    Raises Unauthenticated.
    """
    try:
        claims = jwt.decode(
            token,
            settings.jwt_secret_key.get_secret_value(),
            [ALGORITHM],
            options={"require": ["sub", "exp"], "verify_sub": False},
        )
        return Claims(int(claims["sub"]), datetime.fromtimestamp(claims["exp"], UTC))
    except jwt.ExpiredSignatureError:
        raise Unauthenticated("The token has expired.") from None
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError):
        raise Unauthenticated("The token is not valid.") from None


def bearer(authorization: object) -> str:
    """Return the token of an `Authorization` header (RFC 6750, section 2.1).

    Raises Unauthenticated.
    """
    if not authorization:
        raise Unauthenticated
    scheme, _, token = authorization.partition(" ") if isinstance(authorization, str) else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Authorization must be: Bearer <token>.")
    return token.strip()


async def identify(ctx: Context) -> Viewer:
    """Find out who asks; once for each operation, however many of its fields want to know at the same time.

    The database decides, not the token: a user who was switched off or is gone is refused at once.

    Raises Unauthenticated, Forbidden.
    """
    async with ctx.identifying:
        if ctx.identified is None:
            ctx.identified = await _identified(ctx)
        return ctx.identified


async def _identified(ctx: Context) -> Viewer:
    claims = read_token(ctx.clients.settings, bearer(ctx.authorization))
    async with ctx.clients.db() as session:
        user = await session.get(User, claims.tgid)
    if user is None:
        raise Unauthenticated("The token belongs to nobody we know.")
    if not user.is_active:
        raise Forbidden("This user is switched off.")
    return Viewer(user.tgid, user.role)


class Operation[**P, R](Protocol):
    """A function of `app.resolvers` that says who may call it."""

    allowed: Role | None
    __name__: str
    __doc__: str | None

    async def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R: ...


def allow[**P, R](
    role: Role | None,
) -> Callable[[Callable[Concatenate[Context, P], Awaitable[R]]], Operation[P, R]]:
    """Let only `role` (and managers, who may everything) call this operation.

    The one place that says it: doors, the schema's descriptions and the tests read it from here.
    """

    def decorate(function: Callable[Concatenate[Context, P], Awaitable[R]]) -> Operation[P, R]:
        @wraps(function)
        async def guarded(ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
            if role is not PUBLIC:
                viewer = await identify(ctx)
                if role is Role.MANAGER and not viewer.is_manager:
                    raise Forbidden("Only a manager may do this.")
            return await function(ctx, *args, **kwargs)

        operation = cast("Operation[P, R]", guarded)
        operation.allowed = role
        return operation

    return decorate
