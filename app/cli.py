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
from typing import TYPE_CHECKING, Annotated, Protocol

import typer
from pydantic import TypeAdapter, ValidationError
from sqlalchemy.exc import DBAPIError

from app.errors import LunchbotError
from app.settings import DEFAULT_PORTS, Duration, Settings, SettingsError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from app.ai.key_pool import KeyUsage, Rotation
    from app.clients import Clients
    from app.models import RecommendationRun

USAGE_STATUS = 2
INTERRUPTED_STATUS = 130
"""What shells say for a program that Ctrl-C ended."""

UNDEFINED_TABLE = "42P01"
"""PostgreSQL's code for a table that is not there."""

ROTATIONS_SHOWN = 5

LIVELY_PER_S = 10.0
"""What is slower is told by the minute."""

TABLE_CHARACTERS = 200
"""How wide a table may be that goes into a file or a pipe."""


cli = typer.Typer(
    name="lunch-bot",
    help="The backend of a company lunch programme.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
users = typer.Typer(help="People.")
cli.add_typer(users, name="users")
keys = typer.Typer(help="The pool of Gemini keys: how each stands today.", invoke_without_command=True)
cli.add_typer(keys, name="keys")


class Tell(Protocol):
    """Tells a progress bar how far the work is, and a word on it."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


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
    quiet = {"log_level": "WARNING"} if settings.log_level == "INFO" else {}
    configure(settings.model_copy(update=quiet), "cli")  # a command says itself how it goes

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
        if isinstance(error, LunchbotError) or not isinstance(as_lunchbot_error(error), ServiceUnavailable):
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

    async def work(clients: "Clients") -> demo.DemoData:
        with _progress("Seeding") as progress:
            await demo.seed(clients, users=users, seed=seed, progress=progress)
        return await demo.count_demo_data(clients)

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
def recommend(
    user: Annotated[int | None, typer.Option(help="Only for this person, by Telegram id.", metavar="TGID")] = None,
) -> None:
    """Make today's recommendations now."""
    if user is not None:
        _recommend_one(user)
        return
    from app.ai.gemini import open_gemini
    from app.models import RecommendationRun, RunStatus
    from app.workers.recommend import recommend_all

    async def work(clients: "Clients") -> RecommendationRun:
        with _progress("Recommending") as progress:

            def show(run: RecommendationRun, requests_left: int) -> None:
                note = f"{run.failed} failed, keys good for {requests_left} more"
                if run.paused_until is not None:
                    note = f"waits until {run.paused_until:%H:%M:%S} UTC"
                progress(run.done + run.failed, run.total, note)

            async with open_gemini(clients.settings) as gemini:
                return await recommend_all(clients, gemini, _say_how_many, show)

    run = _with_clients(work)
    told = f"{run.date}: {run.done} of {run.total} people have their recommendation, {run.failed} failed"
    if run.status is RunStatus.PAUSED:
        reason = (run.pause_reason or "").replace("_", " ")
        until = f"until {run.paused_until:%Y-%m-%d %H:%M} UTC" if run.paused_until else "until a key is brought back"
        raise Failed(f"{told}; paused {until} ({reason}), then the workers go on with {run.left}")
    print(f"{told}.")


def _say_how_many(run: "RecommendationRun") -> None:
    print(
        f"{run.date}: {run.left} of {run.total} people are left; the keys suffice for {run.keys_suffice_for}.",
        flush=True,
    )


def _recommend_one(tgid: int) -> None:
    from app.ai.gemini import KeyFailed, NotAnswered, open_gemini
    from app.ai.key_pool import KeysResting
    from app.ai.recommendation import Recommendation
    from app.workers.recommend import recommend_one

    async def work(clients: "Clients") -> Recommendation:
        async with open_gemini(clients.settings) as gemini:
            return await recommend_one(clients, gemini, tgid)

    try:
        made = _with_clients(work)
    except (KeyFailed, NotAnswered) as error:
        raise Failed(f"Gemini does not answer: {error}") from error
    except KeysResting as error:
        raise Failed(str(error)) from error
    print("\n".join([str(made.summary), *(f"- {tip}" for tip in made.tips)]))


@keys.callback()
def show_keys(ctx: typer.Context) -> None:
    """How each key stands today."""
    if ctx.invoked_subcommand is not None:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from app.ai.key_pool import requests_left
    from app.resolvers.gemini_keys import key_pool

    async def work(clients: "Clients") -> "tuple[list[KeyUsage], list[Rotation]]":
        pool = key_pool(clients)
        return await pool.usage(), await pool.rotations()

    usage, rotations = _with_clients(work)
    if not usage:
        raise Failed("there are no Gemini keys; set GEMINI_API_KEYS")
    table = Table("id", "project", "used", "left", "state", "until (UTC)", "last error", box=box.SIMPLE_HEAD)
    for key in usage:
        state = f"{key.state.value.replace('_', ' ')}{' (in use)' if key.is_current else ''}"
        until = f"{key.until:%m-%d %H:%M:%S}" if key.until else ""
        table.add_row(key.id, key.project, str(key.used), str(key.left), state, until, key.last_error or "")
    width = None if Console().is_terminal else TABLE_CHARACTERS
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    console.print(table)
    console.print(f"Good for {requests_left(usage)} more requests today.")
    for change in rotations[:ROTATIONS_SHOWN]:
        console.print(f"{change.at:%m-%d %H:%M:%S}  {change.from_id} → {change.to_id}: {change.reason}")


@keys.command()
def reset(key_id: Annotated[str, typer.Argument(help="As `lunch-bot keys` shows it.", metavar="KEY_ID")]) -> None:
    """Bring a key back that is set aside, or rests. What it has used today stays used."""
    from app.ai.key_pool import UnknownKey
    from app.resolvers.gemini_keys import key_pool

    try:
        _with_clients(lambda clients: key_pool(clients).reset(key_id))
    except UnknownKey:
        raise Failed(f"there is no key {key_id}; lunch-bot keys lists them") from None
    print(f"{key_id} is back.")


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
    demo: Annotated[bool, typer.Option("--demo", help="Play the story of a lunch against the running system.")] = False,
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
def _progress(label: str) -> "Iterator[Tell]":
    """Show a bar while there is work, on standard error if that is a terminal. Tell it how many are done, of how many."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    fields = ("{task.fields[rate]}", TimeRemainingColumn(), "{task.fields[note]}")
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), *fields)
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=None, rate="", note="")

        begin: int | None = None

        def tell(done: int, total: int, note: str = "") -> None:
            nonlocal begin
            begin = done if begin is None else begin
            elapsed_s = bar.tasks[task].elapsed or 0.0
            rate = (done - begin) / elapsed_s if elapsed_s else 0.0
            shown = f"{rate:,.0f}/s" if rate >= LIVELY_PER_S else f"{rate * 60:,.0f}/min"
            bar.update(task, completed=done, total=total, rate=shown, note=note)

        yield tell


def _duration(text: str) -> timedelta:
    try:
        duration: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(problem, param_hint="--ttl") from None
    return duration
