"""Commands on recommendations and Gemini keys."""

# ruff: noqa: PLC0415 each command imports what it needs

from typing import TYPE_CHECKING, Annotated

import typer

from app.cli.running import CommandFailed, progress_bar, with_clients
from app.settings import Settings

if TYPE_CHECKING:
    from app.ai.key_pool import KeyUsage, Rotation
    from app.ai.recommendation import Recommendation
    from app.clients import Clients
    from app.models import RecommendationRun

MAX_ROTATIONS = 5

TABLE_CHARACTERS = 200
"""The width of a table that goes into a file or a pipe."""

keys = typer.Typer(help="The pool of Gemini keys.", invoke_without_command=True)


def recommend(
    user: Annotated[int | None, typer.Option(help="Only for this user, by Telegram id.", metavar="TGID")] = None,
) -> None:
    """Make today's recommendations now."""
    settings = Settings.load()
    if user is not None:
        _recommend_one(settings, user)
        return
    from app.ai.gemini import open_gemini
    from app.models import RunStatus
    from app.workers.recommendations import recommend_all

    async def work(clients: "Clients") -> "RecommendationRun":
        with progress_bar("Recommending") as progress:

            def on_progress(run: "RecommendationRun", requests_left: int) -> None:
                note = f"{run.failed} failed, {requests_left} requests left"
                if run.paused_until is not None:
                    note = f"paused until {run.paused_until:%H:%M:%S} UTC"
                progress(run.done + run.failed, run.total, note)

            async with open_gemini(clients.settings) as gemini:
                return await recommend_all(clients, gemini, _print_start, on_progress)

    run = with_clients(settings, work)
    result = f"{run.date}: {run.done} of {run.total} users have their recommendation, {run.failed} failed"
    if run.status is RunStatus.PAUSED:
        reason = (run.pause_reason or "").replace("_", " ")
        until = f"until {run.paused_until:%Y-%m-%d %H:%M} UTC" if run.paused_until else "until a key is reset"
        raise CommandFailed(f"{result}; paused {until} ({reason}), then the workers continue with {run.left}")
    print(f"{result}.")


def _print_start(run: "RecommendationRun") -> None:
    print(
        f"{run.date}: {run.left} of {run.total} users are left; the request budget is {run.request_budget}.",
        flush=True,
    )


def _recommend_one(settings: Settings, tgid: int) -> None:
    from app.ai.gemini import GeminiError, KeyFailed, open_gemini
    from app.ai.key_pool import KeysExhausted
    from app.workers.recommendations import recommend_one

    async def work(clients: "Clients") -> "Recommendation":
        async with open_gemini(clients.settings) as gemini:
            return await recommend_one(clients, gemini, tgid)

    try:
        made = with_clients(settings, work)
    except (KeyFailed, GeminiError) as error:
        raise CommandFailed(f"Gemini does not answer: {error}") from error
    except KeysExhausted as error:
        raise CommandFailed(str(error)) from error
    print("\n".join([str(made.summary), *(f"- {tip}" for tip in made.tips)]))


@keys.callback()
def show_keys(ctx: typer.Context) -> None:
    """The current usage of each key."""
    if ctx.invoked_subcommand is not None:
        return
    settings = Settings.load()
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from app.ai.key_pool import requests_left
    from app.services.gemini_keys import key_pool

    async def work(clients: "Clients") -> "tuple[list[KeyUsage], list[Rotation]]":
        pool = key_pool(clients)
        return await pool.usage(), await pool.rotations()

    usage, rotations = with_clients(settings, work)
    if not usage:
        raise CommandFailed("there are no Gemini keys; set GEMINI_API_KEYS")
    table = Table("id", "project", "used", "left", "state", "until (UTC)", "last error", box=box.SIMPLE_HEAD)
    for key in usage:
        state = f"{key.state.value.replace('_', ' ')}{' (in use)' if key.is_current else ''}"
        until = f"{key.until:%m-%d %H:%M:%S}" if key.until else ""
        table.add_row(key.id, key.project, str(key.used), str(key.left), state, until, key.last_error or "")
    width = None if Console().is_terminal else TABLE_CHARACTERS
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    console.print(table)
    console.print(f"{requests_left(usage)} requests are left today.")
    for change in rotations[:MAX_ROTATIONS]:
        console.print(f"{change.at:%m-%d %H:%M:%S}  {change.from_id} → {change.to_id}: {change.reason}")


@keys.command()
def reset(key_id: Annotated[str, typer.Argument(help="As `lunch-bot keys` shows it.", metavar="KEY_ID")]) -> None:
    """Bring back a key that is disabled or cools down. Its requests of today still count."""
    settings = Settings.load()
    from app.ai.key_pool import UnknownKey
    from app.services.gemini_keys import key_pool

    try:
        with_clients(settings, lambda clients: key_pool(clients).reset(key_id))
    except UnknownKey:
        raise CommandFailed(f"there is no key {key_id}; lunch-bot keys lists them") from None
    print(f"{key_id} may be used again.")
