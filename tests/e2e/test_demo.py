"""The demo says which step did not happen."""

import aiohttp
import pytest

from app.clients import Clients
from app.dev.addresses import Addresses
from app.dev.demo import Demo, StepFailed
from app.dev.seed import seed
from app.dev.telegram import create_telegram
from app.main import create_app
from app.settings import Settings
from tests.servers import serving


async def test_a_step_that_does_not_happen_is_named(kafka_settings: Settings, kafka_clients: Clients) -> None:
    """Without a bot process nobody takes `/link`: the demo ends at the step that waits for the request."""
    await seed(kafka_clients)
    telegram = create_telegram()
    async with (
        serving(create_app(kafka_settings)) as api,
        serving(telegram) as stand_in,
        aiohttp.ClientSession() as http,
    ):
        with pytest.raises(StepFailed, match=r"^The request is there: this did not happen within 1 s$"):
            await Demo(Addresses(api, stand_in), kafka_settings, http, step_timeout_s=1).play()
