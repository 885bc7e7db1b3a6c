"""Who asks, and who may: JSON Web Tokens (RFC 7519) and the rule that each operation carries."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Any, Concatenate, Literal, Protocol, cast

import jwt
from sqlmodel import col, select

from app.clients import Clients
from app.context import Context
from app.errors import Forbidden, ServiceUnavailable, Unauthenticated, as_lunchbot_error
from app.events.live import Live
from app.log import get_log
from app.models import Role, User
from app.settings import Settings
from app.viewer import Viewer

log = get_log(__name__)

ALGORITHM = "HS256"
"""The only one accepted: a token may not choose how it is checked (RFC 8725, section 3.1)."""

RIGHTS_CHECK_S = 1.0
"""How often it is looked whether those who listen may still do so."""

PUBLIC = None
"""Anybody, signed in or not."""

SELF: Literal["self"] = "self"
"""Managers, and the user whose `tgid` is the operation's first argument."""

type Allowed = Role | Literal["self"] | None


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
    if ctx.telegram_user is not None:
        tgid, expires_at = ctx.telegram_user, None
    else:
        claims = read_token(ctx.clients.settings, bearer(ctx.authorization))
        tgid, expires_at = claims.tgid, claims.expires_at
    async with ctx.clients.db() as session:
        user = await session.get(User, tgid)
    if user is None:
        raise Unauthenticated("The token belongs to nobody we know.")
    refuse_switched_off(user)
    return Viewer(user.tgid, user.role, expires_at)


def refuse_switched_off(user: User) -> None:
    """Raises Forbidden."""
    if not user.is_active:
        raise Forbidden("This user is switched off.")


async def end_refused(live: Live, clients: Clients) -> None:
    """End the live subscriptions of those who may have them no more, for ever.

    A token that has expired, a user who was switched off or has another role: who asks anew is refused at once, and who
    listens is within `RIGHTS_CHECK_S`. It is one statement, however many listen.
    """
    while True:
        await asyncio.sleep(RIGHTS_CHECK_S)
        viewers = {listener.viewer for listener in live.subscriptions if listener.viewer is not None}
        if not viewers:
            continue
        try:
            rights = await _rights(clients, {viewer.tgid for viewer in viewers})
        except Exception as error:
            if not isinstance(as_lunchbot_error(error), ServiceUnavailable):
                raise
            log.warning("auth.rights_unknown", error=repr(error))
            continue
        now = datetime.now(UTC)
        for listener in tuple(live.subscriptions):
            viewer = listener.viewer
            if viewer is None or viewer not in viewers:
                continue
            if viewer.expires_at is not None and viewer.expires_at <= now:
                listener.refuse(Unauthenticated("The token has expired."))
            elif rights.get(viewer.tgid) is not viewer.role:
                listener.refuse(Forbidden("You may not see this any more."))


async def _rights(clients: Clients, tgids: set[int]) -> dict[int, Role]:
    query = select(User).where(col(User.tgid).in_(tgids), User.is_active)
    async with clients.db() as session:
        return {user.tgid: user.role for user in await session.scalars(query)}


class Operation[**P, R](Protocol):
    """A function of `app.resolvers` that says who may call it."""

    allowed: Allowed
    __name__: str
    __doc__: str | None

    async def __call__(self, ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R: ...


def allow[**P, R](
    who: Allowed,
) -> Callable[[Callable[Concatenate[Context, P], Awaitable[R]]], Operation[P, R]]:
    """Let only those call this operation: users with a role (managers may everything), or `SELF`.

    The one place that says it: doors, the schema's descriptions and the tests read it from here.
    """

    def decorate(function: Callable[Concatenate[Context, P], Awaitable[R]]) -> Operation[P, R]:
        @wraps(function)
        async def guarded(ctx: Context, *args: P.args, **kwargs: P.kwargs) -> R:
            if who is not PUBLIC:
                _refuse_others(await identify(ctx), who, args)
            return await function(ctx, *args, **kwargs)

        operation = cast("Operation[P, R]", guarded)
        operation.allowed = who
        return operation

    return decorate


def _refuse_others(viewer: Viewer, who: Allowed, args: tuple[Any, ...]) -> None:
    if viewer.is_manager:
        return
    if who is Role.MANAGER:
        raise Forbidden("Only a manager may do this.")
    if who is SELF and args[0] != viewer.tgid:
        raise Forbidden("This is somebody else's.")
