"""The program `lunch-bot` and its processes."""

# ruff: noqa: PLC0415 each command imports what it needs

import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.data import data, users
from app.cli.recommendations import keys, recommend
from app.cli.running import (
    INTERRUPTED_STATUS,
    USAGE_STATUS,
    CommandFailed,
    explain_outages,
    run_process,
    show_help,
)
from app.redaction import redact
from app.settings import ApiSettings, BotSettings, SettingsError, TelegramSettings

cli = typer.Typer(
    name="lunch-bot",
    help="The backend of a company lunch programme.",
    callback=show_help,
    invoke_without_command=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the program. Every error ends with one clear line and a status other than 0."""
    try:
        status = cli(standalone_mode=False)
    except typer.TyperException as error:
        _exit(getattr(error, "format_message", error.__str__)(), USAGE_STATUS)
    except SettingsError as error:
        _exit(str(error), USAGE_STATUS)
    except CommandFailed as error:
        _exit(str(error), 1)
    except OSError as error:
        _exit(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(INTERRUPTED_STATUS)
    except Exception as error:
        from app.errors import LunchbotError  # needs libraries that take longer to import than a wrong setting to find

        if not isinstance(error, LunchbotError):
            raise
        _exit(str(error), 1)
    sys.exit(status or 0)


def _exit(message: str, status: int) -> None:
    for line in redact(message).splitlines():
        print(f"lunch-bot: {line}", file=sys.stderr)
    sys.exit(status)


@cli.command()
def api() -> int:
    """Serve HTTP and WebSocket."""
    return run_process("api", ApiSettings)


@cli.command()
def events() -> int:
    """Publish the outbox to Kafka, handle Kafka's events, send Telegram messages."""
    return run_process("events", TelegramSettings)


@cli.command()
def worker() -> int:
    """Run arq's cron and jobs."""
    return run_process("worker", TelegramSettings)


@cli.command()
def bot() -> int:
    """Get Telegram updates by long polling."""
    return run_process("bot", BotSettings)


cli.add_typer(data)
cli.add_typer(users, name="users")
cli.command()(recommend)
cli.add_typer(keys, name="keys")


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
    once: Annotated[bool, typer.Option("--once", help="Exit after the demo.")] = False,
) -> int:
    """Run everything on this machine, with nothing installed."""
    from app.dev.service import EmbeddedError
    from app.dev.start import start

    if once and not demo:
        raise typer.BadParameter("goes with --demo", param_hint="--once")
    try:
        with explain_outages():
            return start(demo=demo, once=once)
    except EmbeddedError as error:
        raise CommandFailed(str(error)) from error
