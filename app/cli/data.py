"""Commands on data: migration, demo data, users and tokens."""

# ruff: noqa: PLC0415 each command imports what it needs

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from app.cli.running import CommandFailed, progress_bar, show_help, with_clients
from app.settings import Duration, Settings

if TYPE_CHECKING:
    from app.clients import Clients
    from app.dev import seed as demo_data

data = typer.Typer()
users = typer.Typer(help="Users.", callback=show_help, invoke_without_command=True)


@data.command()
def migrate() -> None:
    """Migrate the database to the newest schema."""
    settings = Settings.load()
    from app.migrate import MigrationBlocked, migrate

    try:
        with_clients(settings, lambda clients: migrate(clients.direct_engine))
    except MigrationBlocked as error:
        raise CommandFailed(str(error)) from error


@data.command()
def seed(
    seed: Annotated[int, typer.Option(help="The random seed: the same number makes the same data.")] = 1,
    users: Annotated[int, typer.Option(help="The number of users.", min=1, max=100_000)] = 60,
) -> None:
    """Add demo cafes, users and 40 days of orders, where they are missing."""
    settings = Settings.load()
    from app.dev import seed as demo_data

    async def work(clients: "Clients") -> "demo_data.DemoData":
        with progress_bar("Seeding") as progress:
            await demo_data.seed(clients, users=users, seed=seed, progress=progress)
        return await demo_data.count_demo_data(clients)

    print(with_clients(settings, work))


@data.command()
def token(
    tgid: Annotated[int, typer.Option(help="The user's Telegram id.")],
    ttl: Annotated[str | None, typer.Option(help="How long it is valid, such as 1h; the default is JWT_TTL.")] = None,
) -> None:
    """Print a token for a user who exists."""
    valid_for = None if ttl is None else _parse_duration(ttl)
    settings = Settings.load()
    from app.auth.tokens import issue_token
    from app.services.users import get_user

    user = with_clients(settings, lambda clients: get_user(clients, tgid))
    print(issue_token(settings, user, valid_for))


@users.command()
def add(
    tgid: Annotated[int, typer.Option(help="The user's Telegram id.")],
    name: Annotated[str, typer.Option(help="The user's name.")],
    manager: Annotated[bool, typer.Option("--manager", help="Make this user a manager.")] = False,
) -> None:
    """Add a user, for example the first manager."""
    settings = Settings.load()
    from app.models import Role, UserInput
    from app.services.users import add_user
    from app.validation import validate_input

    fields = validate_input(UserInput.collect(tgid=tgid, name=name))
    role = Role.MANAGER if manager else Role.USER
    user = with_clients(settings, lambda clients: add_user(clients, fields, role))
    print(f"Added {user.role.value} {user.name} ({user.tgid}).")


def _parse_duration(text: str) -> timedelta:
    try:
        duration: timedelta = TypeAdapter(Duration).validate_python(text)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise typer.BadParameter(problem, param_hint="--ttl") from None
    return duration
