"""The program `lunch-bot`: what it prints, and that whatever goes wrong is one line and never a traceback."""

import asyncio
import logging
import os
import re
import subprocess
import sys
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

from app.ai.key_pool import ApiKey, KeyPool, KeyState, day_of, end_of
from app.auth import read_token
from app.cli import main
from app.clients import Clients
from app.context import Context
from app.dev.gemini.faults import FaultKind
from app.export import exports
from app.models import Cafe, Role, User
from app.resolvers.gemini_keys import key_pool
from app.resolvers.recommendations import recommendations
from app.settings import Settings
from tests.conftest import JWT_SECRET, MANAGER_TGID, USER_TGID, Lunch, Services, free_port
from tests.diners import FIRST_DINER, add_diner, add_diners
from tests.google import KEYS, Google

REPOSITORY = Path(__file__).parent.parent

NEVER_S = 60


@dataclass(frozen=True)
class Ended:
    """How a run of the program ended."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line of a run that failed."""
        assert self.status != 0
        assert self.out == ""
        [line] = self.err.splitlines()
        assert line.startswith("lunch-bot: ")
        return line.removeprefix("lunch-bot: ")


type Program = Callable[..., Ended]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that describes a system whose services are all away."""
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
def own_logs() -> Iterator[None]:
    """What the program sets up for its logs ends with the test."""
    root, configured = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(False)
    structlog.configure(**configured)


@pytest.fixture
def lunch_bot(
    environment: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    own_logs: None,
) -> Program:
    """Run the program in this process, in a thread that has no event loop."""

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["lunch-bot", *arguments])
        capfd.readouterr()
        with ThreadPoolExecutor(1) as thread:
            ended = thread.submit(_status)
        out, err = capfd.readouterr()
        return Ended(ended.result(), out, err)

    return run


def _status() -> int:
    try:
        main()
    except SystemExit as ended:
        return int(ended.code or 0)
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
    ("arguments", "complaint"),
    [
        ((), "Missing command."),
        (("nonsense",), "nonsense"),
        (("api", "--nonsense"), "--nonsense"),
        (("api", "surplus"), "surplus"),
        (("token",), "--tgid"),
        (("token", "--tgid", "maria"), "--tgid"),
        (("token", "--tgid", "1", "--ttl", "soon"), "--ttl"),
        (("token", "--tgid", "1", "--ttl", "-1h"), "--ttl"),
        (("token", "--tgid", "1", "--ttl", "9999999d"), "--ttl"),
        (("users",), "Missing command."),
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
def test_wrong_usage_is_one_line(lunch_bot: Program, arguments: tuple[str, ...], complaint: str) -> None:
    """What cannot be understood is told in one line that names it."""
    assert complaint in lunch_bot(*arguments).complaint


@pytest.mark.parametrize("command", ["api", "events", "worker", "bot", "migrate", "seed", "recommend", "keys"])
def test_bad_settings_are_a_line_each(lunch_bot: Program, environment: pytest.MonkeyPatch, command: str) -> None:
    """What is wrong in the environment is told before anything begins."""
    environment.setenv("LOG_LEVEL", "LOUD")
    environment.delenv("JWT_SECRET_KEY")

    ended = lunch_bot(command)

    assert (ended.status, ended.out) == (2, "")
    assert [line.split(": ")[:2] for line in ended.err.splitlines()] == [
        ["lunch-bot", "JWT_SECRET_KEY"],
        ["lunch-bot", "LOG_LEVEL"],
    ]


@pytest.mark.parametrize("command", ["events", "bot"])
def test_what_a_process_needs_is_told(lunch_bot: Program, command: str) -> None:
    """A process that talks to Telegram does not start without a token."""
    assert lunch_bot(command).complaint == "TELEGRAM_BOT_TOKEN: is not set"


@pytest.mark.parametrize(
    ("name", "value", "told"), [("CORS_ORIGINS", "dashboard.example", "CORS_ORIGINS"), ("HOST", "no such host", "PORT")]
)
def test_what_only_shows_when_it_is_used_is_told(
    lunch_bot: Program, environment: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    """A process that cannot start for its settings says which it is."""
    environment.setenv(name, value)
    environment.setenv("PORT", str(free_port()))

    assert lunch_bot("api").complaint.startswith(f"{told}: ")


@pytest.mark.parametrize("command", [("migrate",), ("seed",), ("token", "--tgid", "1")], ids=" ".join)
def test_a_database_that_is_away_is_told(lunch_bot: Program, command: tuple[str, ...]) -> None:
    """Nobody listens there."""
    assert "away" in lunch_bot(*command).complaint


@pytest.mark.parametrize("command", [("migrate",), ("token", "--tgid", "1")], ids=" ".join)
def test_a_database_that_does_not_exist_is_told(
    lunch_bot: Program, services: Services, environment: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """PostgreSQL is there, but not the database of DATABASE_URL."""
    missing = make_url(services.database_url).set(database="nowhere").render_as_string(hide_password=False)
    environment.setenv("DATABASE_URL", missing)

    assert "nowhere" in lunch_bot(*command).complaint


@pytest.mark.parametrize(
    "command", [("seed",), ("token", "--tgid", "1"), ("users", "add", "--tgid", "1", "--name", "Maria")], ids=" ".join
)
def test_a_database_without_tables_is_told(lunch_bot: Program, empty_database: None, command: tuple[str, ...]) -> None:
    """Who forgot `lunch-bot migrate` is not shown a traceback."""
    assert lunch_bot(*command).complaint


def test_migrate_makes_the_tables(lunch_bot: Program, empty_database: None) -> None:
    """After it the other commands work; a second time there is nothing to do."""
    assert (lunch_bot("migrate").status, lunch_bot("migrate").status) == (0, 0)

    assert lunch_bot("seed").status == 0


async def test_the_first_manager_is_added(lunch_bot: Program, database: None, clients: Clients) -> None:
    """`users add --manager` makes a manager."""
    ended = lunch_bot("users", "add", "--tgid", "77", "--name", "Мария", "--manager")

    assert (ended.status, ended.out) == (0, "Added manager Мария (77).\n")
    async with clients.db() as session:
        assert (await session.get_one(User, 77)).role is Role.MANAGER


async def test_others_are_users(lunch_bot: Program, database: None, clients: Clients) -> None:
    """Without `--manager` it is a user."""
    lunch_bot("users", "add", "--tgid", "78", "--name", "Ivan")

    async with clients.db() as session:
        assert (await session.get_one(User, 78)).role is Role.USER


def test_nobody_is_added_twice(lunch_bot: Program, database: None, people: None) -> None:
    """A Telegram id belongs to one person."""
    complaint = lunch_bot("users", "add", "--tgid", str(MANAGER_TGID), "--name", "Maria").complaint

    assert str(MANAGER_TGID) in complaint


@pytest.mark.parametrize("name", ["x" * 256, "\ud800"])
def test_a_name_that_cannot_be_kept_is_told(lunch_bot: Program, database: None, name: str) -> None:
    """A name is at most 255 characters of text."""
    assert "name" in lunch_bot("users", "add", "--tgid", "79", "--name", name).complaint


@pytest.mark.parametrize("tgid", ["0", "9" * 17, "9" * 30])
@pytest.mark.parametrize("command", [("users", "add", "--name", "Maria"), ("token",)], ids=" ".join)
def test_an_id_that_telegram_does_not_have_is_told(
    lunch_bot: Program, database: None, command: tuple[str, ...], tgid: str
) -> None:
    """Telegram's ids have at most 52 bits and are not 0."""
    complaint = lunch_bot(*command, "--tgid", tgid).complaint

    assert tgid in complaint or "tgid" in complaint


def test_a_token_is_printed(lunch_bot: Program, database: None, settings: Settings, people: None) -> None:
    """The line is a token of that person, for as long as the setting says."""
    ended = lunch_bot("token", "--tgid", str(MANAGER_TGID))

    claims = read_token(settings, ended.out.strip())
    assert (ended.status, claims.tgid) == (0, MANAGER_TGID)
    assert claims.expires_at - datetime.now(UTC) <= settings.jwt_ttl


def test_a_token_is_valid_as_long_as_asked(
    lunch_bot: Program, database: None, settings: Settings, people: None
) -> None:
    """`--ttl` says for how long."""
    claims = read_token(settings, lunch_bot("token", "--tgid", str(MANAGER_TGID), "--ttl", "2d").out.strip())

    assert timedelta(days=2) - (claims.expires_at - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_stranger_gets_no_token(lunch_bot: Program, database: None) -> None:
    """A token is for a person who exists."""
    assert lunch_bot("token", "--tgid", "999").complaint == "There is no user 999."


async def test_demo_data_is_added_once(lunch_bot: Program, database: None, clients: Clients) -> None:
    """`seed` adds what is missing, and says what there is."""
    first, second = lunch_bot("seed"), lunch_bot("seed")

    async with clients.db() as session:
        count = await session.scalar(sa.select(sa.func.count()).select_from(Cafe))
    assert (first.status, second.out, count) == (0, first.out, 3)


def test_what_was_seeded_is_told_in_one_line(lunch_bot: Program, database: None) -> None:
    """The line has the cafes with their ids, and counts. There is no progress bar where nobody looks."""
    ended = lunch_bot("seed", "--users", "50", "--seed", "7")

    assert (ended.status, ended.err) == (0, "")
    assert re.fullmatch(
        r"Manager 4500000000000001; cafes 1 Basil & Thyme, 2 Пельменная №1, 3 Green Fork;"
        r" 50 users, (1,\d{3}|\d{3}) orders, \d,\d{3} order lines\.\n",
        ended.out,
    )


type RunningProgram = Callable[..., Awaitable[Ended]]


@pytest.fixture
def redis(environment: pytest.MonkeyPatch, clients: Clients, services: Services) -> None:
    """The environment has an empty Redis."""
    environment.setenv("REDIS_URL", services.redis_url)


@pytest.fixture
def keyed(environment: pytest.MonkeyPatch, clients: Clients, google: Google) -> Clients:
    """The environment has keys for Gemini's stand-in; clients with the same."""
    keys = [f"{project}:{key}" for key, project in KEYS.items()]
    environment.setenv("GEMINI_API_URL", google.url)
    environment.setenv("GEMINI_API_KEYS", ",".join(keys))
    update = {"gemini_api_keys": tuple(map(SecretStr, keys))}
    return replace(clients, settings=clients.settings.model_copy(update=update))


@pytest.fixture
def running(lunch_bot: Program, database: None, redis: None, keyed: Clients) -> RunningProgram:
    """Run the program while Google answers in this thread."""

    async def run(*arguments: str) -> Ended:
        return await asyncio.to_thread(lunch_bot, *arguments)

    return run


ONE, TWO, THREE = (ApiKey.of(SecretStr(key)).id for key in KEYS)
"""The ids of the keys, in their order."""


async def test_recommendations_are_made(running: RunningProgram, clients: Clients, lunch: Lunch) -> None:
    """Before it begins it says for how many the keys suffice, and in the end how many have theirs."""
    await add_diners(clients, lunch, 3)

    ended = await running("recommend")

    today = datetime.now(UTC).date()
    assert ended.status == 0
    assert ended.out.splitlines() == [
        f"{today}: 3 of 3 people are left; the keys suffice for 3.",
        f"{today}: 3 of 3 people have their recommendation, 0 failed.",
    ]


async def test_recommendations_are_made_once(
    running: RunningProgram, clients: Clients, google: Google, lunch: Lunch
) -> None:
    """A second time there is nothing to do."""
    await add_diners(clients, lunch, 3)
    await running("recommend")

    again = await running("recommend")

    assert (again.status, google.requests) == (0, 3)
    assert again.out.splitlines()[-1].endswith(": 3 of 3 people have their recommendation, 0 failed.")


async def test_what_has_failed_is_told(running: RunningProgram, clients: Clients, google: Google, lunch: Lunch) -> None:
    """Of one whose answer does not fit the old recommendation stays."""
    await add_diners(clients, lunch, 1)
    google.fails(FaultKind.INVALID_ANSWER, times=2)

    ended = await running("recommend")

    assert ended.status == 0
    assert ended.out.splitlines()[-1].endswith(": 0 of 1 people have their recommendation, 1 failed.")


async def test_a_pause_is_told(
    running: RunningProgram, environment: pytest.MonkeyPatch, clients: Clients, lunch: Lunch
) -> None:
    """When all keys rest it says until when, and who goes on then."""
    environment.setenv("GEMINI_MAX_REQUESTS_PER_KEY", "1")
    await add_diners(clients, lunch, 3)

    ended = await running("recommend")

    now = datetime.now(UTC)
    assert ended.status == 1
    assert ended.err.splitlines()[-1] == (
        f"lunch-bot: {now.date()}: 2 of 3 people have their recommendation, 0 failed;"
        f" paused until {end_of(day_of(now)):%Y-%m-%d %H:%M} UTC (keys resting), then the workers go on with 1"
    )
    assert "Traceback" not in ended.err


async def test_a_pause_that_waits_for_somebody_is_told(
    running: RunningProgram, clients: Clients, google: Google, lunch: Lunch
) -> None:
    """When Google takes no key it says what is to be done."""
    await add_diners(clients, lunch, 3)
    google.fails(FaultKind.FORBIDDEN, times=None)

    ended = await running("recommend")

    assert ended.status == 1
    assert "paused until a key is brought back (keys set aside)" in ended.err.splitlines()[-1]


def test_without_keys_nothing_is_recommended(lunch_bot: Program, database: None, redis: None) -> None:
    """It says which setting is missing."""
    assert lunch_bot("recommend").complaint == "There are no Gemini keys; set GEMINI_API_KEYS."


@pytest.mark.usefixtures("database", "keyed")
@pytest.mark.parametrize("command", [("recommend",), ("keys",), ("keys", "reset", ONE)], ids=" ".join)
async def test_a_redis_that_is_away_is_told(lunch_bot: Program, command: tuple[str, ...]) -> None:
    """Nobody knows how the keys stand."""
    assert "away" in lunch_bot(*command).complaint


async def test_one_person_is_recommended_something(
    running: RunningProgram, clients: Clients, manager: Context, lunch: Lunch
) -> None:
    """`--user` makes and shows one recommendation, of one who has ordered at all."""
    await add_diner(clients, lunch, FIRST_DINER, orders=1)

    ended = await running("recommend", "--user", str(FIRST_DINER))

    kept = await recommendations(manager, FIRST_DINER)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.splitlines() == [kept.summary, *(f"- {tip}" for tip in kept.tips)]


@pytest.mark.usefixtures("people")
@pytest.mark.parametrize(
    ("tgid", "complaint"),
    [
        (999, "There is no user 999."),
        (-1, "There is no user -1."),
        (2**62, f"There is no user {2**62}."),
        (USER_TGID, "tgid: Ivan has ordered nothing within the last 30 days"),
        (FIRST_DINER, f"tgid: Diner {FIRST_DINER} is switched off"),
    ],
    ids=["unknown", "negative", "too large", "without orders", "switched off"],
)
async def test_who_cannot_be_recommended_anything_is_told(
    running: RunningProgram, clients: Clients, lunch: Lunch, tgid: int, complaint: str
) -> None:
    """Nobody is asked for one who is not there, or has ordered nothing."""
    await add_diner(clients, lunch, FIRST_DINER, is_active=False)

    assert (await running("recommend", "--user", str(tgid))).complaint == complaint


async def test_keys_that_rest_are_told(
    running: RunningProgram, environment: pytest.MonkeyPatch, clients: Clients, keyed: Clients, lunch: Lunch
) -> None:
    """One person has to wait as everybody."""
    environment.setenv("GEMINI_MAX_REQUESTS_PER_KEY", "1")
    await add_diner(clients, lunch, FIRST_DINER)
    for _ in range(2):
        await running("recommend", "--user", str(FIRST_DINER))

    complaint = (await running("recommend", "--user", str(FIRST_DINER))).complaint

    assert complaint == f"all keys rest until {end_of(day_of(datetime.now(UTC))):%Y-%m-%d %H:%M} UTC"


async def test_what_google_says_is_told(
    running: RunningProgram, clients: Clients, google: Google, lunch: Lunch
) -> None:
    """A request that it does not take is one line."""
    await add_diner(clients, lunch, FIRST_DINER)
    google.fails(FaultKind.BAD_REQUEST)

    complaint = (await running("recommend", "--user", str(FIRST_DINER))).complaint

    assert complaint == "Gemini does not answer: 400 INVALID_ARGUMENT: Request contains an invalid argument."


def table_of(ended: Ended) -> list[list[str]]:
    """The cells of the table of keys, without its head; empty ones at the end of a row are left out."""
    assert (ended.status, ended.err) == (0, "")
    rows = [re.split(r" {2,}", line.strip()) for line in ended.out.splitlines()]
    return [row for row in rows if row[0] in {ONE, TWO, THREE}]


async def test_keys_are_listed(running: RunningProgram) -> None:
    """By their ids, with their projects, in the order in which they are used."""
    ended = await running("keys")

    head = next(line for line in ended.out.splitlines() if "id" in line)
    assert re.split(r" {2,}", head.strip()) == ["id", "project", "used", "left", "state", "until (UTC)", "last error"]
    assert table_of(ended) == [
        [ONE, "lunch", "0", "195", "ready"],
        [TWO, "kitchen", "0", "195", "ready"],
        [THREE, "kitchen", "0", "195", "ready"],
    ]
    assert "Good for 390 more requests today." in ended.out


async def test_what_keys_have_done_is_listed(running: RunningProgram, keyed: Clients) -> None:
    """What each has used, what it waits for, and what Google said last."""
    pool = key_pool(keyed)
    await pool.rest(await pool.acquire(), 60, "429: too many within a minute")
    await pool.set_aside(await pool.acquire(), "403: suspended")

    rows = table_of(await running("keys"))

    now = datetime.now(UTC)
    [[_, _, _, _, _, until, _], *_] = rows
    assert rows == [
        [ONE, "lunch", "1", "194", "cooling down", until, "429: too many within a minute"],
        [TWO, "kitchen", "1", "0", "set aside (in use)", "403: suspended"],
        [THREE, "kitchen", "0", "194", "ready"],
    ]
    assert until in {f"{now + timedelta(seconds=seconds):%m-%d %H:%M:%S}" for seconds in range(30, 61)}


async def test_the_last_changes_of_keys_are_listed(running: RunningProgram, keyed: Clients) -> None:
    """From which to which, and why."""
    pool = key_pool(keyed)
    await pool.set_aside(await pool.acquire(), "403: suspended")
    await pool.acquire()

    ended = await running("keys")

    assert ended.out.splitlines()[-1].endswith(f"  {ONE} → {TWO}: set aside")


async def test_no_key_is_shown(running: RunningProgram, clients: Clients, google: Google, lunch: Lunch) -> None:
    """Not even one that Google has named in its error."""
    await add_diners(clients, lunch, 1)
    google.fails(FaultKind.FORBIDDEN)
    ended = [await running(*command) for command in (("recommend",), ("keys",), ("keys", "reset", ONE))]

    text = "".join(it.out + it.err for it in ended)
    assert "(the key)" in text
    assert [key for key in KEYS if key in text] == []


async def test_what_looks_like_markup_is_shown_as_it_is(
    running: RunningProgram, environment: pytest.MonkeyPatch
) -> None:
    """A project's name, say, or an error of Google's."""
    environment.setenv("GEMINI_API_KEYS", "[/lunch]:soup:AIza-one")

    assert table_of(await running("keys")) == [[ONE, "[/lunch]:soup", "0", "195", "ready"]]


def test_that_there_are_no_keys_is_told(lunch_bot: Program, database: None, redis: None) -> None:
    """It says which setting is missing."""
    assert lunch_bot("keys").complaint == "there are no Gemini keys; set GEMINI_API_KEYS"


async def test_a_key_is_brought_back(running: RunningProgram, keyed: Clients) -> None:
    """One that was set aside is ready again; what it has used stays used."""
    pool = key_pool(keyed)
    await pool.set_aside(await pool.acquire(), "403: suspended")

    ended = await running("keys", "reset", ONE)

    assert (ended.status, ended.out, ended.err) == (0, f"{ONE} is back.\n", "")
    assert await standing(pool) == (KeyState.READY, 1)


async def standing(pool: KeyPool) -> tuple[KeyState, int]:
    """How the first key stands, and how often it was used."""
    first = (await pool.usage())[0]
    return first.state, first.used


@pytest.mark.parametrize("key_id", ["nonsense", "AIza-one", ONE.upper(), ""])
async def test_an_unknown_key_is_told(running: RunningProgram, key_id: str) -> None:
    """A key goes by its id, and not by its text."""
    complaint = (await running("keys", "reset", key_id)).complaint

    assert complaint == f"there is no key {key_id}; lunch-bot keys lists them"


def test_contracts_are_written(lunch_bot: Program, tmp_path: Path) -> None:
    """`export` writes each file, and names it."""
    ended = lunch_bot("export", "--directory", str(tmp_path))

    assert {file.name: file.read_text(encoding="utf-8") for file in tmp_path.iterdir()} == exports()
    assert ended.out.split() == [str(tmp_path / name) for name in exports()]


def test_contracts_need_no_settings(lunch_bot: Program, environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the code says of itself does not depend on where it runs."""
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
def test_help_needs_nothing(lunch_bot: Program, environment: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    """Help is there before there are settings."""
    environment.delenv("DATABASE_URL")

    ended = lunch_bot(*arguments)

    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("Usage: ")


def program(*arguments: str, directory: Path, **environment: str) -> Ended:
    """Run the program as a process of its own, with nothing in its environment but this."""
    ended = subprocess.run(  # noqa: S603 our own program
        [sys.executable, "-m", "app", *arguments],
        cwd=directory,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **environment},
        capture_output=True,
        text=True,
        timeout=NEVER_S,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_as_a_process_it_complains_in_one_line(tmp_path: Path) -> None:
    """So it is from the shell."""
    ended = program("nonsense", directory=tmp_path)

    assert (ended.status, "nonsense" in ended.complaint) == (2, True)


def test_as_a_process_it_reads_the_file(tmp_path: Path) -> None:
    """`.env` is looked for where it is started."""
    (tmp_path / ".env").write_text("LOG_LEVEL=LOUD\n", encoding="utf-8")

    ended = program("seed", directory=tmp_path)

    assert "lunch-bot: LOG_LEVEL: " in ended.err
    assert "Traceback" not in ended.err


def test_as_a_process_it_prints_a_token(settings: Settings, people: None, tmp_path: Path) -> None:
    """Only the token is on standard output, so that a script can take it."""
    ended = program(
        "token",
        "--tgid",
        str(MANAGER_TGID),
        directory=tmp_path,
        DATABASE_URL=settings.database_url.get_secret_value(),
        REDIS_URL=settings.redis_url.get_secret_value(),
        KAFKA_BROKER_URL=settings.kafka_broker_url,
        JWT_SECRET_KEY=JWT_SECRET,
    )

    assert read_token(settings, ended.out.strip()).tgid == MANAGER_TGID
