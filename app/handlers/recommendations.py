"""The handler of daily tasks: it starts today's run."""

from datetime import UTC, datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.clients import Clients
from app.events.types import Event, GenerateRecommendations
from app.log import get_log
from app.services.runs import start_run

log = get_log(__name__)


async def handle_daily_task(clients: Clients, _session: AsyncSession, event: Event) -> None:
    """Start today's run, in a separate transaction. A second call finds the run, and changes nothing."""
    if not isinstance(event, GenerateRecommendations):
        return
    if clients.settings.gemini_api_keys:
        await start_run(clients, datetime.now(UTC))
    else:
        log.warning("recommendations.no_keys")
