"""The program `lunch-bot`: what it prints, and that whatever goes wrong is one line and never a traceback."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine

from app.auth import read_token
from app.cli import main
from app.clients import Clients
from app.export import exports
from app.models import Cafe, Role, User
from app.settings import Settings
from tests.conftest import JWT_SECRET, MANAGER_TGID, Services, free_port

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
        (("export", "--directory", "/nowhere"), "--directory"),
        (("export", "--directory", "/proc"), "/proc"),
        (("dev", "--once"), "--once"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_wrong_usage_is_one_line(lunch_bot: Program, arguments: tuple[str, ...], complaint: str) -> None:
    """What cannot be understood is told in one line that names it."""
    assert complaint in lunch_bot(*arguments).complaint


@pytest.mark.parametrize("command", ["api", "events", "worker", "bot", "migrate", "seed"])
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
        r" 50 people, (1,\d{3}|\d{3}) orders, \d,\d{3} order lines\.\n",
        ended.out,
    )


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
    "arguments", [("--help",), ("seed", "--help"), ("token", "--help"), ("users", "--help"), ("users", "add", "--help")]
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
