"""JSON Web Tokens (RFC 7519)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import jwt

from app.errors import Unauthenticated
from app.models import User
from app.settings import Settings

ALGORITHM = "HS256"
"""The only algorithm accepted: a token may not choose how it is verified (RFC 8725, section 3.1)."""

CLOCK_SKEW = timedelta(seconds=60)
"""How far the clock of another issuer or host may be ahead of ours: "no more than a few minutes" (RFC 7519, section 4.1.5)."""


@dataclass(frozen=True)
class Claims:
    """The claims of a valid token."""

    tgid: int
    expires_at: datetime


def issue_token(settings: Settings, user: User, ttl: timedelta | None = None) -> str:
    """Make a token for `user`, valid for `ttl` (the default is the setting's).

    The role in it is for clients to read. We read it from the database.
    """
    now = datetime.now(UTC)
    claims = {"sub": str(user.tgid), "role": user.role.value, "iat": now, "exp": now + (ttl or settings.jwt_ttl)}
    return jwt.encode(claims, settings.jwt_secret_key.get_secret_value(), ALGORITHM)


def read_token(settings: Settings, token: str) -> Claims:
    """Verify signature, beginning and expiry. `iat` and `nbf` may be up to `CLOCK_SKEW` ahead; `exp` is strict.

    Raises Unauthenticated.
    """
    try:
        claims = jwt.decode(
            token,
            settings.jwt_secret_key.get_secret_value(),
            [ALGORITHM],
            leeway=CLOCK_SKEW,
            options={"require": ["sub", "exp"], "verify_sub": False, "verify_exp": False},
        )
        valid = Claims(int(claims["sub"]), datetime.fromtimestamp(claims["exp"], UTC))
    except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, OSError):
        raise Unauthenticated("The token is not valid.") from None
    if valid.expires_at <= datetime.now(UTC):
        raise Unauthenticated("The token has expired.")
    return valid


def parse_bearer(authorization: object) -> str:
    """Return the token of an `Authorization` header (RFC 6750, section 2.1).

    Raises Unauthenticated.
    """
    if not authorization:
        raise Unauthenticated
    scheme, _, token = authorization.partition(" ") if isinstance(authorization, str) else ("", "", "")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("Authorization must be: Bearer <token>.")
    return token.strip()
