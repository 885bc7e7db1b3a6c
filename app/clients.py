"""The clients of a process: opened once, passed on, closed together."""

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, override

import orjson
import sqlalchemy as sa
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaError, KafkaTimeoutError
from arq import ArqRedis
from faststream.kafka import KafkaBroker
from faststream.kafka.publisher.producer import AioKafkaFastProducerImpl
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker
from sqlmodel import col, select

from app.batches import Batches
from app.database import CafeTurns, open_direct_engine, open_engine
from app.models import User
from app.settings import Settings

KAFKA_REQUEST_TIMEOUT_MS = 15_000
"""A send fails after this, and not after the library's 40 s. It must exceed the time of a group join (a few seconds)."""
REDIS_TIMEOUT_S = 2

USERS_BY_ID = select(User).where(col(User.tgid) == sa.any_(sa.bindparam("tgids", type_=sa.ARRAY(sa.BigInteger))))
"""An array is one parameter, so the statement is prepared once for any number of users."""


class IdempotenceRefused(Exception):
    """The Kafka broker does not accept idempotent producers."""


class Producer(AioKafkaFastProducerImpl):
    """FastStream's producer. If its start fails, it also closes aiokafka's producer, which FastStream leaves running."""

    __slots__ = ()

    @override
    async def connect(self, producer: AIOKafkaProducer, *args: Any, **kwargs: Any) -> None:
        """Start `producer`: it connects, and if it is idempotent, it asks the broker for an id.

        Raises KafkaConnectionError, IdempotenceRefused.
        """
        try:
            await super().connect(producer, *args, **kwargs)
        except BaseException as error:
            await producer.stop()
            is_refusal = isinstance(error, KafkaError) and not isinstance(
                error, KafkaConnectionError | KafkaTimeoutError
            )
            if is_refusal and producer._txn_manager is not None:  # noqa: SLF001 the producer is idempotent
                raise IdempotenceRefused(
                    f"The broker refuses InitProducerId: {error!r}. Set KAFKA_IDEMPOTENCE=false; or, if the broker is "
                    "Apache Kafka, allow IdempotentWrite on the cluster."
                ) from error
            raise


@dataclass(frozen=True)
class Clients:
    """The clients of a process.

    Args:
        engine: For transactions.
        direct_engine: For what needs a session of its own: locks of sessions, LISTEN, migrations. Behind PgBouncer it
            differs from `engine`.
        users: Finds users by their Telegram id, many together: each operation has to know its viewer.
    """

    settings: Settings
    engine: AsyncEngine
    direct_engine: AsyncEngine
    sessions: async_sessionmaker[AsyncSession]
    turns: CafeTurns
    redis: Redis
    jobs: ArqRedis
    limiter: MovingWindowRateLimiter
    kafka: KafkaBroker
    users: Batches[int, User]

    def db(self, cafe_id: int | None = None) -> AbstractAsyncContextManager[AsyncSession]:
        """Open a transaction, which is committed when its block ends without an error.

        Args:
            cafe_id: The cafe whose rows the transaction locks. See `CafeTurns`.
        """
        return self.sessions.begin() if cafe_id is None else self._take_turn(cafe_id)

    @asynccontextmanager
    async def _take_turn(self, cafe_id: int) -> AsyncIterator[AsyncSession]:
        async with self.turns.take(cafe_id), self.sessions.begin() as session:
            yield session


def open_redis_pool(settings: Settings) -> ConnectionPool:
    """Make connections to Redis. They connect when they are used.

    A command that a replica refuses is sent once more, on a new connection: after a failover the address leads to another
    node. Nothing else is repeated, because its outcome may be unknown.
    """
    return ConnectionPool.from_url(
        settings.redis_url.get_secret_value(),
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), retries=1, supported_errors=(ReadOnlyError,)),
        retry_on_error=[ReadOnlyError],
    )


@asynccontextmanager
async def open_clients(settings: Settings) -> AsyncIterator[Clients]:
    """Make the clients of one process. A client connects when it is used, so the process starts without its services.

    A process that needs Kafka connects it (see `app.events.kafka.connect`).
    """
    async with AsyncExitStack() as stack:
        engine = open_engine(settings)
        direct_engine = engine if settings.database_direct_url is None else open_direct_engine(settings)
        stack.push_async_callback(engine.dispose)
        stack.push_async_callback(direct_engine.dispose)
        redis = Redis.from_pool(open_redis_pool(settings))
        stack.push_async_callback(redis.aclose)
        kafka = KafkaBroker(
            settings.kafka_broker_url.split(","),
            client_id="lunch-bot",
            request_timeout_ms=KAFKA_REQUEST_TIMEOUT_MS,
            acks="all",
            enable_idempotence=settings.kafka_idempotence,
            apply_types=False,
            logger=logging.getLogger("faststream.kafka"),
        )
        kafka.config.broker_config.producer = Producer(parser=None, decoder=None)
        stack.push_async_callback(kafka.stop)
        sessions = async_sessionmaker(engine, expire_on_commit=False)
        yield Clients(
            settings=settings,
            engine=engine,
            direct_engine=direct_engine,
            sessions=sessions,
            turns=CafeTurns(settings),
            redis=redis,
            jobs=ArqRedis(redis.connection_pool, job_serializer=orjson.dumps, job_deserializer=orjson.loads),
            limiter=MovingWindowRateLimiter(
                RedisStorage(
                    "async+redis://",  # the pool has the address
                    implementation="redispy",
                    connection_pool=redis.connection_pool,  # type: ignore[arg-type]  # it accepts every option
                    key_prefix="rate-limit",
                )
            ),
            kafka=kafka,
            users=Batches(partial(_read_users, sessions)),
        )


async def _read_users(sessions: async_sessionmaker[AsyncSession], tgids: set[int]) -> dict[int, User]:
    async with sessions.begin() as session:
        users = await session.scalars(USERS_BY_ID, {"tgids": list(tgids)})
        return {user.tgid: user for user in users}
