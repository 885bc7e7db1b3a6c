"""The deadline passes: real processes tell every kitchen, whatever dies meanwhile."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.models import NotificationStatus
from app.telegram import texts
from app.workers.deadlines import announce_passed
from tests.e2e.system import soon, system
from tests.servers import POLL_S, until

KITCHENS = 20
SENDERS = ("events-1", "events-2")
ALL_TOLD_S = 100.0
"""A row that a process had in hand when it was killed is free again after 40 s."""


@pytest.mark.timeout(200)
async def test_a_process_that_is_killed_keeps_no_kitchen_from_its_orders(tmp_path: Path) -> None:
    """Each kitchen has its message once; only what the dead process may have sent comes again, and says so."""
    async with system(tmp_path) as running:
        for name in SENDERS:
            await running.start(name, "events")
        await running.listening(*SENDERS)
        date, deadline = soon()
        kitchens = await running.add_kitchens(KITCHENS, date, deadline)

        await announce_passed(running.clients, datetime.now(UTC))
        await until(lambda: sum(bool(running.told(kitchen)) for kitchen in kitchens) >= KITCHENS // 4)
        await running.kill("events-1")
        await running.start("events-1", "events")
        async with asyncio.timeout(ALL_TOLD_S):
            while [told.status for told in await running.notifications()].count(NotificationStatus.SENT) < KITCHENS:
                await asyncio.sleep(POLL_S)

        notifications = await running.notifications()
        messages = [running.told(kitchen) for kitchen in kitchens]
        refusals = running.telegram.refusals

    assert len(notifications) == KITCHENS
    assert all(messages)
    mark = texts.repeated("en")
    assert [text for told in messages for text in told[1:] if not text.startswith(mark)] == []
    assert [told[0] for told in messages if told[0].startswith(mark) and len(told) > 1] == []
    assert not refusals
