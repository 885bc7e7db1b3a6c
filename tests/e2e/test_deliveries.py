"""The deadline passes: real processes send every cafe its orders, even if one of them is killed."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.models import NotificationStatus
from app.telegram import notification_texts
from app.workers.deadlines import announce_passed
from tests.e2e.system import soon, system
from tests.servers import POLL_S, until

pytestmark = pytest.mark.slow

CAFES = 20
SENDERS = ("events-1", "events-2")
ALL_SENT_S = 100.0
"""The lease of a killed process expires after 40 s."""


@pytest.mark.timeout(300)
async def test_a_killed_process_loses_no_orders(tmp_path: Path) -> None:
    """Each cafe gets its message once; only messages whose delivery is unknown are repeated, and they are marked."""
    async with system(tmp_path) as running:
        for name in SENDERS:
            await running.start(name, "events")
        await running.listening(*SENDERS)
        date, deadline = soon()
        cafes = await running.add_cafes(CAFES, date, deadline)

        await announce_passed(running.clients, datetime.now(UTC))
        await until(lambda: sum(bool(running.messages_to(cafe)) for cafe in cafes) >= CAFES // 4)
        await running.kill("events-1")
        await running.start("events-1", "events")
        async with asyncio.timeout(ALL_SENT_S):
            while [row.status for row in await running.notifications()].count(NotificationStatus.SENT) < CAFES:
                await asyncio.sleep(POLL_S)

        notifications = await running.notifications()
        messages = [running.messages_to(cafe) for cafe in cafes]
        refusals = running.telegram.refusals

    assert len(notifications) == CAFES
    assert all(messages)
    mark = notification_texts.sent_again("en")
    assert [text for texts in messages for text in texts[1:] if not text.startswith(mark)] == []
    assert [texts[0] for texts in messages if texts[0].startswith(mark) and len(texts) > 1] == []
    assert not refusals
