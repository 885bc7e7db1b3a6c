"""The addresses of the running system, and bearer tokens for it."""

from dataclasses import dataclass
from datetime import timedelta

from app.auth.tokens import issue_token
from app.dev.seed import MANAGER_TGID
from app.models import Role, User
from app.settings import Settings


@dataclass(frozen=True)
class Addresses:
    """The addresses of the running system; None for a stand-in that does not run."""

    api: str
    telegram: str | None
    gemini: str | None = None
    manager_bearer: str | None = None

    def format(self) -> str:
        """Return a text for the terminal."""
        lines = [
            ("GraphiQL", f"{self.api}/graphql"),
            ("REST docs", f"{self.api}/api/docs"),
            *([("Telegram stand-in", self.telegram)] if self.telegram else []),
            *([("Gemini stand-in", f"{self.gemini}/control/usage")] if self.gemini else []),
            *(
                [("Manager, for one day", f'{{"Authorization": "{self.manager_bearer}"}}')]
                if self.manager_bearer
                else []
            ),
            ("For other commands", "set -a; . .lunch-bot/dev.env; set +a; .venv/bin/lunch-bot --help"),
        ]
        return "\n".join(["", *(f"  {name:<21} {address}" for name, address in lines), "", "Press Ctrl-C to stop."])


def manager_bearer(settings: Settings) -> str:
    """Return an Authorization header of the demo's manager, valid for a day."""
    manager = User(tgid=MANAGER_TGID, name="", role=Role.MANAGER)
    return f"Bearer {issue_token(settings, manager, timedelta(days=1))}"


def user_bearer(settings: Settings, tgid: int) -> str:
    """Return an Authorization header of a user, valid for a day."""
    return f"Bearer {issue_token(settings, User(tgid=tgid, name='', role=Role.USER), timedelta(days=1))}"
