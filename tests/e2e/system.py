"""The whole system: embedded services, real processes, a Telegram stand-in with rate limits, and a Gemini stand-in."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col, select

from app.clients import Clients, open_clients
from app.dev.embedded import Kafka, Postgres, Redis
from app.dev.gemini import create_gemini
from app.dev.gemini.state import Gemini
from app.dev.ports import free_port
from app.dev.telegram import create_telegram
from app.dev.telegram.chats import Chat
from app.dev.telegram.state import Telegram
from app.events.outbox import record
from app.events.types import DeadlinePassed
from app.migrate import migrate
from app.models import Cafe, Combo, Deadline, MenuCategory, MenuItem, Notification, Order, OrderItem, User
from app.settings import Settings
from tests.servers import serving, until

TOKEN = "42:TEST-token"
SECRET = "a secret for tests that is long enough"
GEMINI_KEYS = {"AIza-one": "lunch", "AIza-two": "kitchen", "AQ.three": "kitchen"}
GEMINI_LATENCY_S = 0.3
FIRST_GROUP = -1_001_000_000_000
EMBEDDED_BROKER_SETTINGS = {
    "KAFKA_FETCH_MAX_WAIT_MS": "5",
    "KAFKA_SESSION_TIMEOUT_MS": "3000",
    "KAFKA_IDEMPOTENCE": "false",
}


@dataclass
class System:
    """The running system, and ways to disturb it."""

    env: Mapping[str, str]
    clients: Clients
    telegram: Telegram
    gemini: Gemini
    kafka: Kafka
    logs: Path
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    async def start(self, name: str, process: str) -> None:
        """Run `lunch-bot <process>` under a unique `name`. Its log is `<name>.log`, its standard output `<name>.out`."""
        self.ports[name] = free_port()
        with (self.logs / f"{name}.log").open("ab") as log, (self.logs / f"{name}.out").open("ab") as out:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "app", process),
                env={**os.environ, **self.env, "PORT": str(self.ports[name])},
                stdout=out,
                stderr=log,
            )

    async def kill(self, name: str) -> None:
        """Kill a process with SIGKILL."""
        process = self.processes.pop(name)
        process.kill()
        await process.wait()

    async def listening(self, *names: str, within_s: float = 60.0) -> None:
        """Wait until these processes are connected to Kafka."""
        for name in names:
            log = self.logs / f"{name}.log"
            await until(lambda log=log: "kafka.connected" in log.read_text(), within_s)  # type: ignore[misc]

    async def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        await asyncio.gather(*(process.wait() for process in self.processes.values()))

    def messages_to(self, cafe: "LinkedCafe") -> list[str]:
        """Return the messages of the bot in a cafe's chat, as Telegram's HTML."""
        messages = self.telegram.chats[cafe.chat_id].messages.values()
        return [message.content.original for message in messages if message.is_from_bot]

    async def add_cafes(self, number: int, date_: date, deadline: datetime) -> list["LinkedCafe"]:
        """Add cafes that are linked to groups, each with one order, and with the same deadline for `date_`."""
        async with self.clients.db() as session:
            user = await session.get(User, 1) or User(tgid=1, name="Ivan")
            session.add(user)
            cafes = []
            for index in range(number):
                chat_id = FIRST_GROUP - index
                cafe = Cafe(name=f"Cafe {index}", tg_chat_id=chat_id, linked_at=datetime.now(UTC))
                session.add(cafe)
                await session.flush()
                await self._add_order(session, cafe, user, date_, deadline)
                self.telegram.add_chat(Chat(chat_id, "supergroup", f"Cafe {index}"))
                cafes.append(LinkedCafe(cafe.id, chat_id))
        return cafes

    async def _add_order(self, session: AsyncSession, cafe: Cafe, user: User, date_: date, deadline: datetime) -> None:
        session.add(
            Deadline(
                cafe_id=cafe.id,
                weekday=date_.weekday(),
                deadline_time=deadline.time(),
                advance_days=(date_ - deadline.date()).days,
            )
        )
        soup = MenuItem(cafe_id=cafe.id, name="Borscht", category=MenuCategory.SOUP)
        combo = Combo(cafe_id=cafe.id, name="Lunch", categories=[MenuCategory.SOUP], price=Decimal("10.00"))
        session.add_all([soup, combo])
        await session.flush()
        order = Order(
            user_tgid=user.tgid,
            cafe_id=cafe.id,
            date=date_,
            combo_id=combo.id,
            combo_name=combo.name,
            combo_price=combo.price,
            total_price=combo.price,
        )
        session.add(order)
        await session.flush()
        session.add(OrderItem(order_id=order.id, menu_item_id=soup.id, name=soup.name, category=soup.category))

    async def repeat_deadline_event(self, cafes: list["LinkedCafe"], date_: date) -> None:
        """Record the event of a deadline again, one event with a new id for each cafe."""
        async with self.clients.db() as session:
            for cafe in cafes:
                await record(session, DeadlinePassed(cafe_id=cafe.cafe_id, date=date_, timestamp=datetime.now(UTC)))

    async def notifications(self) -> list[Notification]:
        async with self.clients.db() as session:
            return list(await session.scalars(select(Notification).order_by(col(Notification.id))))


@dataclass(frozen=True)
class LinkedCafe:
    """A cafe and its chat."""

    cafe_id: int
    chat_id: int


def soon(seconds: float = 0) -> tuple[date, datetime]:
    """Return a delivery date, and a deadline for it in `seconds` from now."""
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    return deadline.date() + timedelta(days=1), deadline


def next_minute(at_least_s: float = 5.0) -> tuple[date, datetime]:
    """Return a delivery date, and a deadline for it at a full minute."""
    soonest = datetime.now(UTC) + timedelta(seconds=at_least_s)
    minute = datetime.combine(soonest.date(), time(soonest.hour, soonest.minute), UTC) + timedelta(minutes=1)
    return minute.date() + timedelta(days=1), minute


@asynccontextmanager
async def system(directory: Path, *, limits: bool = True, **env: str) -> AsyncIterator[System]:
    """Start the services and the stand-ins in `directory`. The caller starts the processes."""
    database, cache, kafka = Postgres(directory, durable=False), Redis(directory, durable=False), Kafka(directory)
    telegram = create_telegram(token=TOKEN, limits=limits)
    gemini = create_gemini(keys=GEMINI_KEYS, latency_s=GEMINI_LATENCY_S)
    await asyncio.gather(database.start(), cache.start(), kafka.start())
    try:
        async with serving(telegram) as address, serving(gemini) as gemini_address:
            settings = {
                "DATABASE_URL": database.url,
                "REDIS_URL": cache.url,
                "KAFKA_BROKER_URL": kafka.url,
                "TELEGRAM_BOT_TOKEN": TOKEN,
                "TELEGRAM_API_URL": address,
                "GEMINI_API_KEYS": ",".join(f"{project}:{key}" for key, project in GEMINI_KEYS.items()),
                "GEMINI_API_URL": gemini_address,
                "JWT_SECRET_KEY": SECRET,
                "LOG_FORMAT": "console",
                **EMBEDDED_BROKER_SETTINGS,
                **env,
            }
            async with open_clients(Settings.model_validate({k.lower(): v for k, v in settings.items()})) as clients:
                await migrate(clients.direct_engine)
                running = System(settings, clients, telegram.state.telegram, gemini.state.gemini, kafka, directory)
                try:
                    yield running
                finally:
                    await running.stop()
                    telegram.state.telegram.close()
                    gemini.state.gemini.close()
    finally:
        await asyncio.gather(database.stop(), cache.stop(), kafka.stop())
