"""The demo names the step that failed."""

import aiohttp
import pytest

from app.clients import Clients
from app.dev.addresses import Addresses
from app.dev.demo import Demo, StepFailed
from app.dev.people import add_managers
from app.dev.progress import Progress
from app.dev.seed import seed
from app.dev.telegram import create_telegram
from app.processes.api import create_app
from app.settings import Settings
from tests.servers import serving

pytestmark = pytest.mark.slow


async def test_a_failed_step_is_named(kafka_settings: Settings, kafka_clients: Clients) -> None:
    """Without a bot process the demo ends at the step that waits for the link request."""
    await seed(kafka_clients)
    telegram = create_telegram()
    add_managers(telegram.state.telegram)
    async with (
        serving(create_app(kafka_settings)) as api,
        serving(telegram) as stand_in,
        aiohttp.ClientSession() as http,
    ):
        with pytest.raises(StepFailed, match=r"^The API lists the request: this did not happen within 1 s$"):
            await Demo(Addresses(api, stand_in), kafka_settings, http, Progress(), step_timeout_s=1).play()
