"""Signing in with what Telegram gives to a Web App.

https://core.telegram.org/bots/webapps#validating-data-received-via-the-mini-app
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from aiogram.utils.web_app import WebAppUser, safe_parse_webapp_init_data

from app.auth import PUBLIC, allow, issue_token, read_token, refuse_switched_off
from app.context import Context
from app.errors import Unauthenticated
from app.log import get_log
from app.models import User
from app.resolvers import users

log = get_log(__name__)

INIT_DATA_MAX_AGE = timedelta(hours=24)
"""Older data may have been stolen meanwhile; a Web App gets new data each time it is opened."""

CLOCK_SKEW = timedelta(minutes=5)
"""How far Telegram's clock may be ahead of ours."""


@dataclass(frozen=True)
class Authentication:
    """A token, until when it is valid, and whose it is."""

    token: str
    expires_at: datetime
    user: User


@allow(PUBLIC)
async def authenticate(ctx: Context, init_data: str) -> Authentication:
    """Sign in with the `initData` of a Telegram Web App, at most 24 hours old.

    Raises Unauthenticated, Forbidden.
    """
    person = _checked(ctx, init_data)
    async with ctx.clients.db() as session:
        user = await session.get(User, person.id)
    if user is None:
        raise Unauthenticated("Nobody has added you to Lunchbot yet; ask a manager.")
    refuse_switched_off(user)
    await users.speaks(ctx.clients, person.id, person.language_code)
    settings = ctx.clients.settings
    token = issue_token(settings, user)
    return Authentication(token, read_token(settings, token).expires_at, user)


def _checked(ctx: Context, init_data: str) -> WebAppUser:
    """Find out for whom Telegram has signed this.

    Raises Unauthenticated.
    """
    token = ctx.clients.settings.telegram_bot_token
    if token is None:
        log.warning("sign_in.no_bot_token")
        raise Unauthenticated("Signing in with Telegram is not set up here.")
    try:
        data = safe_parse_webapp_init_data(token.get_secret_value(), init_data)
    except (ValueError, TypeError):  # TypeError: the hash has characters that no hash has
        raise Unauthenticated("The init data is not Telegram's.") from None
    age = ctx.now() - data.auth_date
    if age > INIT_DATA_MAX_AGE or age < -CLOCK_SKEW:
        raise Unauthenticated("The init data is too old; open the app again.")
    if data.user is None:
        raise Unauthenticated("The init data names nobody.")
    return data.user
