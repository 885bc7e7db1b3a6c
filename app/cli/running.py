"""The environment of commands: clients, a progress bar, and one clear line for each error."""

# ruff: noqa: PLC0415 each command imports what it needs

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import typer

from app.settings import DEFAULT_PORTS, Settings, SettingsError

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError
    from starlette.applications import Starlette

    from app.clients import Clients

USAGE_STATUS = 2
INTERRUPTED_STATUS = 130
"""The status that shells give to a program that Ctrl-C ended."""

UNDEFINED_TABLE = "42P01"
"""PostgreSQL's code for a missing table."""

MIN_RATE_PER_S = 10.0
"""A lower rate is shown per minute."""


class CommandFailed(Exception):
    """A command could not do its work. The message is one line for the user."""


class Progress(Protocol):
    """Updates a progress bar."""

    def __call__(self, done: int, total: int, note: str = "") -> None: ...


def show_help(ctx: typer.Context) -> None:
    """Show the help of a program or group that is called without a command."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)
        raise typer.Exit(USAGE_STATUS)


def run_process(process: str, settings_type: type[Settings]) -> int:
    """Run `app.processes.<process>` until it is stopped, and return the exit status.

    The settings are read first: importing the libraries of a process takes seconds.
    """
    from app.log import configure

    configure(process)  # before the libraries are imported, so that their warnings are lines of the log, too
    settings = settings_type.load()
    configure(process, settings)
    from app.processes.server import serve

    create_app: Callable[[Settings], Starlette] = import_module(f"app.processes.{process}").create_app
    return serve(create_app(settings), settings, DEFAULT_PORTS[process])


def with_clients[R](settings: Settings, work: "Callable[[Clients], Awaitable[R]]") -> R:
    """Do `work` with the clients of the settings."""
    from app.clients import open_clients
    from app.log import configure

    quiet = {"log_level": "WARNING"} if settings.log_level == "INFO" else {}
    configure("cli", settings.model_copy(update=quiet))  # a command prints its own progress

    async def run() -> R:
        async with open_clients(settings) as clients:
            return await work(clients)

    with explain_outages():
        return asyncio.run(run())


@contextmanager
def explain_outages() -> Iterator[None]:
    """Turn an outage into one line.

    Raises CommandFailed.
    """
    try:
        yield
    except SettingsError:
        raise
    except Exception as error:
        from sqlalchemy.exc import DBAPIError

        from app.errors import LunchbotError, ServiceUnavailable, as_lunchbot_error

        if isinstance(error, DBAPIError):
            hint = "; run lunch-bot migrate first" if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE else ""
            raise CommandFailed(f"database error: {_reason(error)}{hint}") from error
        if isinstance(error, LunchbotError) or not isinstance(as_lunchbot_error(error), ServiceUnavailable):
            raise
        raise CommandFailed(f"service unavailable: {error}") from error


def _reason(error: "DBAPIError") -> str:
    """PostgreSQL's own message, in one line."""
    return str(error.orig.__cause__ or error.orig).partition("\n")[0] if error.orig else str(error)


@contextmanager
def progress_bar(label: str) -> Iterator[Progress]:
    """Show a progress bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    fields = ("{task.fields[rate]}", TimeRemainingColumn(), "{task.fields[note]}")
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), *fields)
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task(label, total=None, rate="", note="")

        begin: int | None = None

        def update(done: int, total: int, note: str = "") -> None:
            nonlocal begin
            begin = done if begin is None else begin
            elapsed_s = bar.tasks[task].elapsed or 0.0
            per_s = (done - begin) / elapsed_s if elapsed_s else 0.0
            rate = f"{per_s:,.0f}/s" if per_s >= MIN_RATE_PER_S else f"{per_s * 60:,.0f}/min"
            bar.update(task, completed=done, total=total, rate=rate, note=note)

        yield update
