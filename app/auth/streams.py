"""The rights of open subscriptions."""

import asyncio
from datetime import UTC, datetime

from sqlmodel import col, select

from app.auth.viewer import Viewer
from app.clients import Clients
from app.errors import Forbidden, ServiceUnavailable, Unauthenticated, as_lunchbot_error
from app.events.live import Live
from app.log import get_log
from app.models import Role, User

log = get_log(__name__)

RIGHTS_CHECK_S = 1.0
"""How often the rights of open subscriptions are checked again."""


async def close_unauthorized_streams(live: Live, clients: Clients) -> None:
    """End the subscriptions of viewers who have lost their rights. Runs until it is cancelled.

    A viewer loses the rights with the expiry of the token, a deactivation, or another role. One statement checks all
    subscriptions.
    """
    while True:
        await asyncio.sleep(RIGHTS_CHECK_S)
        viewers = {viewer for one in live.subscriptions if isinstance(viewer := one.viewer, Viewer)}
        if not viewers:
            continue
        try:
            roles = await _find_roles(clients, {viewer.tgid for viewer in viewers})
        except Exception as error:
            if not isinstance(as_lunchbot_error(error), ServiceUnavailable):
                raise
            log.warning("auth.rights_unknown", error=repr(error))
            continue
        now = datetime.now(UTC)
        for subscription in tuple(live.subscriptions):
            viewer = subscription.viewer
            if not isinstance(viewer, Viewer) or viewer not in viewers:
                continue
            if viewer.expires_at is not None and viewer.expires_at <= now:
                subscription.revoke(Unauthenticated("The token has expired."))
            elif roles.get(viewer.tgid) is not viewer.role:
                subscription.revoke(Forbidden("You may not see this any more."))


async def _find_roles(clients: Clients, tgids: set[int]) -> dict[int, Role]:
    query = select(User).where(col(User.tgid).in_(tgids), User.is_active)
    async with clients.db() as session:
        return {user.tgid: user.role for user in await session.scalars(query)}
