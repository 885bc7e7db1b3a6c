"""The program `lunch-bot`. Each command takes its arguments, calls one function, and says how it went.

Imports are in the commands: each process needs only its own part, and starts twice as fast for it.
"""

# ruff: noqa: PLC0415

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import DBAPIError

from app.errors import LunchbotError
from app.settings import Duration, Settings, SettingsError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from app.clients import Clients

USAGE_STATUS = 2
INTERRUPTED_STATUS = 130
"""What shells say for a program that Ctrl-C ended."""

UNDEFINED_TABLE = "42P01"
"""PostgreSQL's code for a table that is not there."""

DEFAULT_PORTS = {"api": 8000, "events": 8001, "worker": 8002, "bot": 8003}

cli = typer.Typer(
    name="lunch-bot",
    help="The backend of a company lunch programme.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
users = typer.Typer(help="People.")
cli.add_typer(users, name="users")


class Failed(Exception):
    """A command could not do what it was asked; the message is one line for the person at the terminal."""


def main() -> None:
    """Run the program. Whatever goes wrong ends with one clear line and a status that is not 0."""
    try:
        status = cli(standalone_mode=False)
    except typer.TyperException as error:
        _end(getattr(error, "format_message", error.__str__)(), USAGE_STATUS)
    except (SettingsError, LunchbotError, Failed) as error:
        _end(str(error), USAGE_STATUS if isinstance(error, SettingsError) else 1)
    except OSError as error:
        _end(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED_STATUS)
    sys.exit(status or 0)


def _end(message: str, status: int) -> None:
    for line in message.splitlines():
        print(f"lunch-bot: {line}", file=sys.stderr)
    sys.exit(status)


def _run(process: str, create_app: "Callable[[Settings], Starlette]") -> int:
    from app.log import configure
    from app.process import serve

    settings = Settings.load()
    configure(settings, process)
    return serve(create_app(settings), settings, DEFAULT_PORTS[process])


def _with_clients[R](work: "Callable[[Clients], Awaitable[R]]") -> R:
    """Do `work` with the clients of the settings. A service that is away ends it with one line."""
    from app.clients import open_clients
    from app.log import configure

    settings = Settings.load()
    configure(settings, "cli")

    async def run() -> R:
        async with open_clients(settings) as clients:
            return await work(clients)

    with _services_away_are_one_line():
        return asyncio.run(run())


@contextmanager
def _services_away_are_one_line() -> Iterator[None]:
    from app.errors import ServiceUnavailable, as_lunchbot_error

    try:
        yield
    except DBAPIError as error:
        hint = "; run lunch-bot migrate first" if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE else ""
        raise Failed(f"the database says: {_reason(error)}{hint}") from error
    except Exception as error:
        if not isinstance(as_lunchbot_error(error), ServiceUnavailable):
            raise
        raise Failed(f"a service is away: {error}") from error


def _reason(error: DBAPIError) -> str:
    """What PostgreSQL itself has said, in one line."""
    return str(error.orig.__cause__ or error.orig).partition("\n")[0] if error.orig else str(error)


@cli.command()
def api() -> int:
    """Serve HTTP and WebSocket."""
    from app.main import create_app

    return _run("api", create_app)


@cli.command()
def events() -> int:
    """Relay the outbox to Kafka, handle Kafka's events, send Telegram messages."""
    from app.events.main import create_app

    return _run("events", create_app)


@cli.command()
def worker() -> int:
    """Run arq's cron and jobs."""
    from app.workers.main import create_app

    return _run("worker", create_app)


@cli.command()
def bot() -> int:
    """Take Telegram updates by long polling."""
    from app.telegram.main import create_app

    return _run("bot", create_app)


@cli.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    from app.migrate import migrate

    _with_clients(lambda clients: migrate(clients.engine))


@cli.command()
def seed(
    seed: Annotated[int, typer.Option(help="What the data follow from: the same for the same number.")] = 1,
    users: Annotated[int, typer.Option(help="How many people there shall be.", min=1, max=100_000)] = 60,
) -> None:
    """Add demo cafes, people and 40 days of orders, where they are missing."""
    from app.dev import seed as demo

    async def work(clients: "Clients") -> demo.Seeded:
        with _progress("Seeding") as progress:
            await demo.seed(clients, users=users, seed=seed, progress=progress)
        return await demo.seeded(clients)

    print(_with_clients(work))


@cli.command()
def token(
    tgid: Annotated[int, typer.Option(help="The person's Telegram id.")],
    ttl: Annotated[str | None, typer.Option(help="How long it is valid, such as 1h; JWT_TTL if not given.")] = None,
) -> None:
    """Print a token for a user who exists."""
    from app.auth import issue_token
    from app.resolvers.users import find

    valid_for = None if ttl is None else _duration(ttl)
    user = _with_clients(lambda clients: find(clients, tgid))
    print(issue_token(Settings.load(), user, valid_for))


@users.command()
def add(
    tgid: Annotated[int, typer.Option(help="The person's Telegram id.")],
    name: Annotated[str, typer.Option(help="The person's name.")],
    manager: Annotated[bool, typer.Option("--manager", help="Make this person a manager.")] = False,
) -> None:
    """Add a person: the first manager, say."""
    from app.models import Role
    from app.resolvers.users import add

    role = Role.MANAGER if manager else Role.USER
    user = _with_clients(lambda clients: add(clients, tgid, name, role))
    print(f"Added {user.role.value} {user.name} ({user.tgid}).")


@cli.command()
def export(
    directory: Annotated[Path, typer.Option(help="Where to write.", exists=True, file_okay=False)] = Path(),
) -> None:
    """Write schema.graphql, openapi.json and asyncapi.yaml."""
    from app.export import exports

    for name, text in exports().items():
        (directory / name).write_text(text, encoding="utf-8")
        print(directory / name)


@cli.command()
def dev(
    demo: Annotated[bool, typer.Option("--demo", help="Play the link story against the running system.")] = False,
    once: Annotated[bool, typer.Option("--once", help="End when the demo has been played.")] = False,
) -> int:
    """Run everything on this machine, with nothing installed."""
    from app.dev.main import run
    from app.dev.service import EmbeddedError

    if once and not demo:
        raise typer.BadParameter("goes with --demo", param_hint="--once")
    try:
        with _services_away_are_one_line():
            return run(demo=demo, once=once)
    except EmbeddedError as error:
        raise Failed(str(error)) from error


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while there is work, on standard error if that is a terminal. Tell it how many are done, of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[rate]}", TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=None, rate="")

        def tell(done: int, total: int) -> None:
            elapsed_s = bar.tasks[task].elapsed or 0.0
            rate = f"{done / elapsed_s:,.0f}/s" if elapsed_s else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield tell


def _duration(text: str) -> timedelta:
    try:
        duration: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(problem, param_hint="--ttl") from None
    return duration
