"""The program `lunch-bot`: its output, and that every error is one line and never a traceback."""

import asyncio
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from pydantic import SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.ai.key_pool import ApiKey, KeyPool, KeyState, quota_day, quota_day_end
from app.auth.context import Context
from app.auth.tokens import read_token
from app.cli.main import main
from app.clients import Clients
from app.dev.gemini.faults import FaultKind
from app.dev.ports import free_port
from app.export import exports
from app.models import Cafe, Role, User
from app.resolvers.recommendations import get_recommendations
from app.services.gemini_keys import key_pool
from app.settings import Settings
from tests.conftest import JWT_SECRET, MANAGER_TGID, USER_TGID, Lunch, Services, downgraded
from tests.gemini_standin import KEYS, GeminiStandIn
from tests.user_factory import FIRST_ORDERING_USER, add_ordering_user, add_ordering_users

REPOSITORY = Path(__file__).parent.parent.parent

TIMEOUT_S = 60


@dataclass(frozen=True)
class ProgramResult:
    """The exit status and the output of a run of the program."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of a run that failed."""
        assert self.status != 0
        assert self.out == ""
        [line] = self.err.splitlines()
        assert line.startswith("lunch-bot: ")
        return line.removeprefix("lunch-bot: ")


type Program = Callable[..., ProgramResult]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that describes a system whose services are all unavailable."""
    monkeypatch.setenv("DATABASE_URL", f"postgresql+asyncpg://postgres@127.0.0.1:{free_port()}/none")
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    monkeypatch.setenv("KAFKA_BROKER_URL", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("JWT_SECRET_KEY", JWT_SECRET)
    return monkeypatch


@pytest.fixture
def database(environment: pytest.MonkeyPatch, database_url: str) -> None:
    """The environment has a migrated database."""
    environment.setenv("DATABASE_URL", database_url)


@pytest.fixture
async def blocked_database(database: None, clients: Clients) -> AsyncIterator[None]:
    """The environment has a database without the newest migrations, and a transaction that has read all its tables."""
    async with downgraded(clients, "0005"), clients.direct_engine.connect() as reader:
        await reader.execute(sa.text("SELECT count(*) FROM recommendation_runs"))
        yield


@pytest.fixture
def restored_logs() -> Iterator[None]:
    """The program's log configuration ends with the test."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    root.handlers, root.level = handlers, level
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(False)
    structlog.configure(**configured)


@pytest.fixture
def lunch_bot(
    environment: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    restored_logs: None,
) -> Program:
    """Run the program in this process, in a thread without an event loop."""

    def run(*arguments: str) -> ProgramResult:
        monkeypatch.setattr(sys, "argv", ["lunch-bot", *arguments])
        capfd.readouterr()
        with ThreadPoolExecutor(1) as thread:
            result = thread.submit(_status)
        out, err = capfd.readouterr()
        return ProgramResult(result.result(), out, err)

    return run


def _status() -> int:
    try:
        main()
    except SystemExit as error:
        return int(error.code or 0)
    return 0


@pytest.fixture
async def empty_database(
    server: AsyncEngine, database_url: str, environment: pytest.MonkeyPatch
) -> AsyncIterator[None]:
    """The environment has a database without tables."""
    url = make_url(database_url)
    empty = url.set(database=f"{url.database}_empty")
    async with server.connect() as connection:
        await connection.execute(sa.text(f"CREATE DATABASE {empty.database}"))
    environment.setenv("DATABASE_URL", empty.render_as_string(hide_password=False))
    yield
    async with server.connect() as connection:
        await connection.execute(sa.text(f"DROP DATABASE {empty.database} WITH (FORCE)"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nonsense",), "nonsense"),
        (("api", "--nonsense"), "--nonsense"),
        (("api", "surplus"), "surplus"),
        (("token",), "--tgid"),
        (("token", "--tgid", "maria"), "--tgid"),
        (("token", "--tgid", "1", "--ttl", "soon"), "--ttl"),
        (("token", "--tgid", "1", "--ttl", "-1h"), "--ttl"),
        (("token", "--tgid", "1", "--ttl", "9999999d"), "--ttl"),
        (("users", "add", "--tgid", "1"), "--name"),
        (("users", "add", "--name", "Maria"), "--tgid"),
        (("users", "remove"), "remove"),
        (("seed", "--users", "0"), "--users"),
        (("seed", "--users", "100001"), "--users"),
        (("seed", "--seed", "many"), "--seed"),
        (("recommend", "--user"), "--user"),
        (("recommend", "--user", "maria"), "--user"),
        (("recommend", "maria"), "maria"),
        (("keys", "nonsense"), "nonsense"),
        (("keys", "--nonsense"), "--nonsense"),
        (("keys", "reset"), "KEY_ID"),
        (("keys", "reset", "one", "two"), "two"),
        (("export", "--directory", "/nowhere"), "--directory"),
        (("export", "--directory", "/proc"), "/proc"),
        (("dev", "--once"), "--once"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_wrong_usage_is_one_line(lunch_bot: Program, arguments: tuple[str, ...], problem: str) -> None:
    """An invalid command line is explained in one line that names the mistake."""
    assert problem in lunch_bot(*arguments).error


@pytest.mark.parametrize(("arguments", "command"), [((), "dev"), (("users",), "add")])
def test_without_a_command_the_help_is_shown(lunch_bot: Program, arguments: tuple[str, ...], command: str) -> None:
    """A program or group that is called without a command lists its commands, and fails."""
    result = lunch_bot(*arguments)

    assert (result.status, result.out) == (2, "")
    assert re.search(rf"^Commands:$.*^  {command} ", result.err, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", ["api", "events", "worker", "bot", "migrate", "seed", "recommend", "keys"])
def test_each_wrong_setting_is_one_line(lunch_bot: Program, environment: pytest.MonkeyPatch, command: str) -> None:
    """Every wrong setting is named before the command starts."""
    environment.setenv("TELEGRAM_BOT_TOKEN", "1:token")
    environment.setenv("LOG_LEVEL", "LOUD")
    environment.delenv("JWT_SECRET_KEY")

    result = lunch_bot(command)

    assert (result.status, result.out) == (2, "")
    assert [line.split(": ")[:2] for line in result.err.splitlines()] == [
        ["lunch-bot", "JWT_SECRET_KEY"],
        ["lunch-bot", "LOG_LEVEL"],
    ]


@pytest.mark.parametrize("command", ["events", "worker", "bot"])
def test_a_process_names_a_missing_token(lunch_bot: Program, environment: pytest.MonkeyPatch, command: str) -> None:
    """A process that calls Telegram names the missing token together with every other wrong setting."""
    environment.setenv("LOG_LEVEL", "LOUD")

    result = lunch_bot(command)

    assert result.status == 2
    assert [line.split(": ")[1] for line in result.err.splitlines()] == ["TELEGRAM_BOT_TOKEN", "LOG_LEVEL"]


def test_a_webhook_needs_a_token_and_a_secret(lunch_bot: Program, environment: pytest.MonkeyPatch) -> None:
    """The api process names both settings that a webhook lacks."""
    environment.setenv("TELEGRAM_WEBHOOK_URL", "https://lunch.example/updates")

    assert lunch_bot("api").err.splitlines() == [
        "lunch-bot: TELEGRAM_BOT_TOKEN: is not set",
        "lunch-bot: TELEGRAM_WEBHOOK_SECRET: is not set",
    ]


def test_the_bot_process_names_every_problem(lunch_bot: Program, environment: pytest.MonkeyPatch) -> None:
    """With a webhook no bot process is needed; this is told together with the missing token."""
    environment.setenv("TELEGRAM_WEBHOOK_URL", "https://lunch.example/updates")

    assert [line.split(": ")[1] for line in lunch_bot("bot").err.splitlines()] == [
        "TELEGRAM_WEBHOOK_URL",
        "TELEGRAM_BOT_TOKEN",
    ]


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [("CORS_ORIGINS", "dashboard.example", "CORS_ORIGINS"), ("HOST", "no such host", "PORT")],
)
def test_an_unusable_setting_is_named(
    lunch_bot: Program, environment: pytest.MonkeyPatch, name: str, value: str, named: str
) -> None:
    """A process that cannot start because of a setting names it."""
    environment.setenv(name, value)
    environment.setenv("PORT", str(free_port()))

    assert lunch_bot("api").error.startswith(f"{named}: ")


@pytest.mark.parametrize("command", [("migrate",), ("seed",), ("token", "--tgid", "1")], ids=" ".join)
def test_an_unavailable_database_is_explained(lunch_bot: Program, command: tuple[str, ...]) -> None:
    """An unavailable database is explained in one line."""
    assert "service unavailable: " in lunch_bot(*command).error


@pytest.mark.parametrize("command", [("migrate",), ("token", "--tgid", "1")], ids=" ".join)
def test_a_missing_database_is_explained(
    lunch_bot: Program, services: Services, environment: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """The error names the database of DATABASE_URL that PostgreSQL does not have."""
    missing = make_url(services.database_url).set(database="nowhere").render_as_string(hide_password=False)
    environment.setenv("DATABASE_URL", missing)

    assert "nowhere" in lunch_bot(*command).error


@pytest.mark.parametrize(
    "command", [("seed",), ("token", "--tgid", "1"), ("users", "add", "--tgid", "1", "--name", "Maria")], ids=" ".join
)
def test_a_database_without_tables_is_explained(
    lunch_bot: Program, empty_database: None, command: tuple[str, ...]
) -> None:
    """Before the migration a command fails with one line that names `lunch-bot migrate`."""
    assert lunch_bot(*command).error.endswith("; run lunch-bot migrate first")


def test_a_blocked_migration_is_explained(lunch_bot: Program, blocked_database: None) -> None:
    """A migration that cannot lock a table ends with one line that says what to do."""
    assert "end it, and run lunch-bot migrate again" in lunch_bot("migrate").error


def test_migrate_creates_the_tables(lunch_bot: Program, empty_database: None) -> None:
    """After `migrate` the other commands work; a second call changes nothing."""
    assert (lunch_bot("migrate").status, lunch_bot("migrate").status) == (0, 0)

    assert lunch_bot("seed").status == 0


async def test_users_add_adds_a_manager(lunch_bot: Program, database: None, clients: Clients) -> None:
    """`users add --manager` adds a manager."""
    result = lunch_bot("users", "add", "--tgid", "77", "--name", "Мария", "--manager")

    assert (result.status, result.out) == (0, "Added manager Мария (77).\n")
    async with clients.db() as session:
        assert (await session.get_one(User, 77)).role is Role.MANAGER


async def test_users_add_adds_a_user(lunch_bot: Program, database: None, clients: Clients) -> None:
    """Without `--manager` the command adds a user."""
    lunch_bot("users", "add", "--tgid", "78", "--name", "Ivan")

    async with clients.db() as session:
        assert (await session.get_one(User, 78)).role is Role.USER


def test_a_user_is_not_added_twice(lunch_bot: Program, database: None, people: None) -> None:
    """A Telegram id belongs to one user."""
    error = lunch_bot("users", "add", "--tgid", str(MANAGER_TGID), "--name", "Maria").error

    assert str(MANAGER_TGID) in error


@pytest.mark.parametrize("name", ["x" * 256, "\ud800"])
def test_an_invalid_name_is_explained(lunch_bot: Program, database: None, name: str) -> None:
    """A name has at most 255 characters of valid text."""
    assert "name" in lunch_bot("users", "add", "--tgid", "79", "--name", name).error


def test_users_add_names_every_wrong_value(lunch_bot: Program, database: None) -> None:
    """One error names both the wrong id and the wrong name."""
    error = lunch_bot("users", "add", "--tgid", "0", "--name", "").error

    assert [problem.partition(": ")[0] for problem in error.split("; ")] == ["tgid", "name"]


@pytest.mark.parametrize("tgid", ["0", "9" * 17, "9" * 30])
@pytest.mark.parametrize("command", [("users", "add", "--name", "Maria"), ("token",)], ids=" ".join)
def test_an_impossible_telegram_id_is_explained(
    lunch_bot: Program, database: None, command: tuple[str, ...], tgid: str
) -> None:
    """Telegram's ids have at most 52 bits and are not 0."""
    error = lunch_bot(*command, "--tgid", tgid).error

    assert tgid in error or "tgid" in error


def test_a_token_is_printed(lunch_bot: Program, database: None, settings: Settings, people: None) -> None:
    """The printed token belongs to the user, and is valid for the time of the setting."""
    result = lunch_bot("token", "--tgid", str(MANAGER_TGID))

    claims = read_token(settings, result.out.strip())
    assert (result.status, claims.tgid) == (0, MANAGER_TGID)
    assert claims.expires_at - datetime.now(UTC) <= settings.jwt_ttl


def test_ttl_sets_the_validity_of_a_token(lunch_bot: Program, database: None, settings: Settings, people: None) -> None:
    """`--ttl` sets the time for which a token is valid."""
    claims = read_token(settings, lunch_bot("token", "--tgid", str(MANAGER_TGID), "--ttl", "2d").out.strip())

    assert timedelta(days=2) - (claims.expires_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_an_unknown_user_gets_no_token(lunch_bot: Program, database: None) -> None:
    """The command prints a token only for an existing user."""
    assert lunch_bot("token", "--tgid", "999").error == "There is no user 999."


async def test_demo_data_is_added_once(lunch_bot: Program, database: None, clients: Clients) -> None:
    """A second `seed` adds nothing, and prints the same summary."""
    first, second = lunch_bot("seed"), lunch_bot("seed")

    async with clients.db() as session:
        count = await session.scalar(sa.select(sa.func.count()).select_from(Cafe))
    assert (first.status, second.out, count) == (0, first.out, 3)


def test_seed_prints_one_line(lunch_bot: Program, database: None) -> None:
    """The line has the cafes with their ids, and counts. Without a terminal there is no progress bar."""
    result = lunch_bot("seed", "--users", "50", "--seed", "7")

    assert (result.status, result.err) == (0, "")
    assert re.fullmatch(
        r"Manager 4500000000000001; cafes 1 Basil & Thyme, 2 Пельменная №1, 3 Green Fork;"
        r" 50 users, (1,\d{3}|\d{3}) orders, \d,\d{3} order lines\.\n",
        result.out,
    )


type AsyncProgram = Callable[..., Awaitable[ProgramResult]]


@pytest.fixture
def redis(environment: pytest.MonkeyPatch, clients: Clients, services: Services) -> None:
    """The environment has an empty Redis."""
    environment.setenv("REDIS_URL", services.redis_url)


@pytest.fixture
def clients_with_keys(environment: pytest.MonkeyPatch, clients: Clients, gemini_standin: GeminiStandIn) -> Clients:
    """The environment has keys for Gemini's stand-in, and the clients have the same keys."""
    settings = [f"{project}:{key}" for key, project in KEYS.items()]
    environment.setenv("GEMINI_API_URL", gemini_standin.url)
    environment.setenv("GEMINI_API_KEYS", ",".join(settings))
    update = {"gemini_api_keys": tuple(map(SecretStr, settings))}
    return replace(clients, settings=clients.settings.model_copy(update=update))


@pytest.fixture
def run_program(lunch_bot: Program, database: None, redis: None, clients_with_keys: Clients) -> AsyncProgram:
    """Run the program in another thread, while the stand-in answers in this one."""

    async def run(*arguments: str) -> ProgramResult:
        return await asyncio.to_thread(lunch_bot, *arguments)

    return run


ONE, TWO, THREE = (ApiKey.parse(SecretStr(key)).id for key in KEYS)
"""The ids of the keys, in the order of the pool."""


async def test_recommendations_are_made(run_program: AsyncProgram, clients: Clients, lunch: Lunch) -> None:
    """The command prints the request budget at its start, and the result at its end."""
    await add_ordering_users(clients, lunch, 3)

    result = await run_program("recommend")

    today = datetime.now(UTC).date()
    assert result.status == 0
    assert result.out.splitlines() == [
        f"{today}: 3 of 3 users are left; the request budget is 3.",
        f"{today}: 3 of 3 users have their recommendation, 0 failed.",
    ]


async def test_recommendations_are_made_once(
    run_program: AsyncProgram, clients: Clients, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """A second call makes no request."""
    await add_ordering_users(clients, lunch, 3)
    await run_program("recommend")

    again = await run_program("recommend")

    assert (again.status, gemini_standin.requests) == (0, 3)
    assert again.out.splitlines()[-1].endswith(": 3 of 3 users have their recommendation, 0 failed.")


async def test_a_failed_recommendation_is_counted(
    run_program: AsyncProgram, clients: Clients, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """A user whose recommendation fails is counted in the result."""
    await add_ordering_users(clients, lunch, 1)
    gemini_standin.fails(FaultKind.INVALID_ANSWER, times=2)

    result = await run_program("recommend")

    assert result.status == 0
    assert result.out.splitlines()[-1].endswith(": 0 of 1 users have their recommendation, 1 failed.")


async def test_a_pause_is_explained(
    run_program: AsyncProgram, environment: pytest.MonkeyPatch, clients: Clients, lunch: Lunch
) -> None:
    """When all keys are exhausted, the error says until when, and how many users are left."""
    environment.setenv("GEMINI_MAX_REQUESTS_PER_KEY", "1")
    await add_ordering_users(clients, lunch, 3)

    result = await run_program("recommend")

    now = datetime.now(UTC)
    assert result.status == 1
    assert result.err.splitlines()[-1] == (
        f"lunch-bot: {now.date()}: 2 of 3 users have their recommendation, 0 failed;"
        f" paused until {quota_day_end(quota_day(now)):%Y-%m-%d %H:%M} UTC (quota exhausted), then the workers continue with 1"
    )
    assert "Traceback" not in result.err


async def test_a_pause_without_an_end_is_explained(
    run_program: AsyncProgram, clients: Clients, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """When Google refuses all keys, the error says what an operator must do."""
    await add_ordering_users(clients, lunch, 3)
    gemini_standin.fails(FaultKind.FORBIDDEN, times=None)

    result = await run_program("recommend")

    assert result.status == 1
    assert "paused until a key is reset (keys disabled)" in result.err.splitlines()[-1]


def test_recommend_needs_keys(lunch_bot: Program, database: None, redis: None) -> None:
    """The error names the missing setting."""
    assert lunch_bot("recommend").error == "There are no Gemini keys. Set GEMINI_API_KEYS."


@pytest.mark.usefixtures("database", "clients_with_keys")
@pytest.mark.parametrize("command", [("recommend",), ("keys",), ("keys", "reset", ONE)], ids=" ".join)
async def test_an_unavailable_redis_is_explained(lunch_bot: Program, command: tuple[str, ...]) -> None:
    """Without Redis the state of the keys is unknown, so the command fails with one line."""
    assert "service unavailable: " in lunch_bot(*command).error


async def test_one_user_gets_a_recommendation(
    run_program: AsyncProgram, clients: Clients, manager: Context, lunch: Lunch
) -> None:
    """`--user` makes and prints the recommendation of one user, who needs only one order."""
    await add_ordering_user(clients, lunch, FIRST_ORDERING_USER, orders=1)

    result = await run_program("recommend", "--user", str(FIRST_ORDERING_USER))

    stored = await get_recommendations(manager, FIRST_ORDERING_USER)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [stored.summary, *(f"- {tip}" for tip in stored.tips)]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("tgid", "error"),
    [
        (999, "There is no user 999."),
        (-1, "There is no user -1."),
        (2**62, f"There is no user {2**62}."),
        (USER_TGID, "tgid: Ivan has no orders within the last 30 days"),
        (FIRST_ORDERING_USER, "tgid: Anna is deactivated"),
    ],
    ids=["unknown", "negative", "too large", "without orders", "deactivated"],
)
async def test_a_user_without_a_recommendation_is_explained(
    run_program: AsyncProgram, clients: Clients, lunch: Lunch, tgid: int, error: str
) -> None:
    """The error says why a user cannot get a recommendation."""
    await add_ordering_user(clients, lunch, FIRST_ORDERING_USER, is_active=False)
    async with clients.db() as session:
        (await session.get_one(User, FIRST_ORDERING_USER)).name = "Anna"

    assert (await run_program("recommend", "--user", str(tgid))).error == error


async def test_exhausted_keys_are_explained(
    run_program: AsyncProgram,
    environment: pytest.MonkeyPatch,
    clients: Clients,
    clients_with_keys: Clients,
    lunch: Lunch,
) -> None:
    """Exhausted keys also stop the recommendation of one user."""
    environment.setenv("GEMINI_MAX_REQUESTS_PER_KEY", "1")
    await add_ordering_user(clients, lunch, FIRST_ORDERING_USER)
    for _ in range(2):
        await run_program("recommend", "--user", str(FIRST_ORDERING_USER))

    error = (await run_program("recommend", "--user", str(FIRST_ORDERING_USER))).error

    assert error == f"all keys are exhausted until {quota_day_end(quota_day(datetime.now(UTC))):%Y-%m-%d %H:%M} UTC"


async def test_an_error_of_gemini_is_explained(
    run_program: AsyncProgram, clients: Clients, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """A refused request is explained in one line."""
    await add_ordering_user(clients, lunch, FIRST_ORDERING_USER)
    gemini_standin.fails(FaultKind.BAD_REQUEST)

    error = (await run_program("recommend", "--user", str(FIRST_ORDERING_USER))).error

    assert error == "Gemini does not answer: 400 INVALID_ARGUMENT: Request contains an invalid argument."


def parse_key_table(result: ProgramResult) -> list[list[str]]:
    """Return the cells of the table of keys, without its head and without empty cells at the end of a row."""
    assert (result.status, result.err) == (0, "")
    rows = [re.split(r" {2,}", line.strip()) for line in result.out.splitlines()]
    return [row for row in rows if row[0] in {ONE, TWO, THREE}]


async def test_keys_are_listed(run_program: AsyncProgram) -> None:
    """`keys` lists the ids and projects of the keys, in the order of the pool."""
    result = await run_program("keys")

    head = next(line for line in result.out.splitlines() if "id" in line)
    assert re.split(r" {2,}", head.strip()) == ["id", "project", "used", "left", "state", "until (UTC)", "last error"]
    assert parse_key_table(result) == [
        [ONE, "lunch", "0", "195", "ready"],
        [TWO, "kitchen", "0", "195", "ready"],
        [THREE, "kitchen", "0", "195", "ready"],
    ]
    assert "390 requests are left today." in result.out


async def test_the_usage_of_keys_is_listed(run_program: AsyncProgram, clients_with_keys: Clients) -> None:
    """Each key has its requests, its state, and its last error."""
    pool = key_pool(clients_with_keys)
    await pool.cool_down(await pool.acquire(), 60, "429: too many within a minute")
    await pool.disable(await pool.acquire(), "403: suspended")

    rows = parse_key_table(await run_program("keys"))

    now = datetime.now(UTC)
    [[_, _, _, _, _, until, _], *_] = rows
    assert rows == [
        [ONE, "lunch", "1", "194", "cooling down", until, "429: too many within a minute"],
        [TWO, "kitchen", "1", "0", "disabled (in use)", "403: suspended"],
        [THREE, "kitchen", "0", "194", "ready"],
    ]
    assert until in {f"{now + timedelta(seconds=seconds):%m-%d %H:%M:%S}" for seconds in range(30, 62)}


async def test_the_last_rotations_are_listed(run_program: AsyncProgram, clients_with_keys: Clients) -> None:
    """A rotation has its two keys and its reason."""
    pool = key_pool(clients_with_keys)
    await pool.disable(await pool.acquire(), "403: suspended")
    await pool.acquire()

    result = await run_program("keys")

    assert result.out.splitlines()[-1].endswith(f"  {ONE} → {TWO}: disabled")


async def test_no_key_is_printed(
    run_program: AsyncProgram, clients: Clients, gemini_standin: GeminiStandIn, lunch: Lunch
) -> None:
    """No output contains a key, even if Google's error contains it."""
    await add_ordering_users(clients, lunch, 1)
    gemini_standin.fails(FaultKind.FORBIDDEN)
    results = [await run_program(*command) for command in (("recommend",), ("keys",), ("keys", "reset", ONE))]

    text = "".join(one.out + one.err for one in results)
    assert "(the key)" in text
    assert [key for key in KEYS if key in text] == []


async def test_markup_is_printed_unchanged(run_program: AsyncProgram, environment: pytest.MonkeyPatch) -> None:
    """A project's name is printed unchanged, even if it looks like markup."""
    environment.setenv("GEMINI_API_KEYS", "[/lunch]:soup:AIza-one")

    assert parse_key_table(await run_program("keys")) == [[ONE, "[/lunch]:soup", "0", "195", "ready"]]


def test_missing_keys_are_explained(lunch_bot: Program, database: None, redis: None) -> None:
    """The error names the missing setting."""
    assert lunch_bot("keys").error == "there are no Gemini keys; set GEMINI_API_KEYS"


async def test_a_disabled_key_is_reset(run_program: AsyncProgram, clients_with_keys: Clients) -> None:
    """A disabled key is ready after `keys reset`; its requests still count."""
    pool = key_pool(clients_with_keys)
    await pool.disable(await pool.acquire(), "403: suspended")

    result = await run_program("keys", "reset", ONE)

    assert (result.status, result.out, result.err) == (0, f"{ONE} may be used again.\n", "")
    assert await first_key(pool) == (KeyState.READY, 1)


async def first_key(pool: KeyPool) -> tuple[KeyState, int]:
    """Return the state of the first key, and the number of its requests."""
    first = (await pool.usage())[0]
    return first.state, first.used


@pytest.mark.parametrize(
    ("key_id", "shown"), [("nonsense", "nonsense"), ("AIza-one", "<redacted>"), (ONE.upper(), ONE.upper()), ("", "")]
)
async def test_an_unknown_key_is_explained(run_program: AsyncProgram, key_id: str, shown: str) -> None:
    """The command accepts the id of a key, and not the key itself, which it does not print."""
    error = (await run_program("keys", "reset", key_id)).error

    assert error == f"there is no key {shown}; lunch-bot keys lists them"


def test_contracts_are_written(lunch_bot: Program, tmp_path: Path) -> None:
    """`export` writes each contract, and prints its path."""
    result = lunch_bot("export", "--directory", str(tmp_path))

    assert {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()} == exports()
    assert result.out.split() == [str(tmp_path / name) for name in exports()]


def test_contracts_need_no_settings(lunch_bot: Program, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The contracts do not depend on the settings."""
    for name in ("DATABASE_URL", "REDIS_URL", "KAFKA_BROKER_URL", "JWT_SECRET_KEY"):
        environment.delenv(name)

    assert lunch_bot("export", "--directory", str(tmp_path)).status == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("seed", "--help"),
        ("token", "--help"),
        ("users", "--help"),
        ("users", "add", "--help"),
        ("recommend", "--help"),
        ("keys", "--help"),
        ("keys", "reset", "--help"),
    ],
    ids=" ".join,
)
def test_help_needs_no_settings(
    lunch_bot: Program, environment: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Help works without settings."""
    environment.delenv("DATABASE_URL")

    result = lunch_bot(*arguments)

    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("Usage: ")


def run_process(*arguments: str, directory: Path, options: tuple[str, ...] = (), **environment: str) -> ProgramResult:
    """Run the program in a separate process, with only this environment, and with options of Python."""
    result = subprocess.run(  # noqa: S603 our own run_process
        [sys.executable, *options, "-m", "app", *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return ProgramResult(result.returncode, result.stdout, result.stderr)


@pytest.mark.slow
def test_a_process_explains_an_error_in_one_line(tmp_path: Path) -> None:
    """An error in a separate process is one line, too."""
    result = run_process("nonsense", directory=tmp_path)

    assert (result.status, "nonsense" in result.error) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("api",),
        ("events",),
        ("worker",),
        ("bot",),
        ("migrate",),
        ("seed",),
        ("token", "--tgid", "1"),
        ("users", "add", "--tgid", "1", "--name", "Maria"),
        ("recommend",),
        ("keys",),
        ("keys", "reset", "1"),
        ("dev",),
    ],
    ids=" ".join,
)
def test_settings_are_read_before_libraries_are_imported(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """A wrong setting is told without the seconds that the imports take: only what reads settings is imported."""
    result = run_process(*arguments, directory=tmp_path, options=("-X", "importtime"), LOG_LEVEL="LOUD")

    lines = result.err.splitlines()
    imported = {line.split("|")[-1].strip() for line in lines if line.startswith("import time:")}
    assert result.status == 2
    assert any(line.startswith("lunch-bot: LOG_LEVEL: ") for line in lines)
    assert "pydantic_settings" in imported
    assert imported & {"aiogram", "aiohttp", "alembic", "sqlalchemy", "starlette", "uvicorn"} == set()


@pytest.mark.slow
def test_a_process_reads_the_env_file(tmp_path: Path) -> None:
    """The program reads `.env` in its working directory."""
    (tmp_path / ".env").write_text("LOG_LEVEL=LOUD\n", encoding="utf-8")

    result = run_process("seed", directory=tmp_path)

    assert "lunch-bot: LOG_LEVEL: " in result.err
    assert "Traceback" not in result.err


@pytest.mark.slow
def test_a_process_prints_only_the_token(settings: Settings, people: None, tmp_path: Path) -> None:
    """Standard output has only the token, so that a script can use it."""
    result = run_process(
        "token",
        "--tgid",
        str(MANAGER_TGID),
        directory=tmp_path,
        DATABASE_URL=settings.database_url.get_secret_value(),
        REDIS_URL=settings.redis_url.get_secret_value(),
        KAFKA_BROKER_URL=settings.kafka_broker_url,
        JWT_SECRET_KEY=JWT_SECRET,
    )

    assert read_token(settings, result.out.strip()).tgid == MANAGER_TGID
