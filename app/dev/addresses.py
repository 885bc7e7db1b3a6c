"""Where people look at what runs here, and as whom."""

from dataclasses import dataclass
from datetime import timedelta

from app.auth import issue_token
from app.dev.seed import MANAGER_TGID
from app.models import Role, User
from app.settings import Settings


@dataclass(frozen=True)
class Addresses:
    """Where people look."""

    api: str
    telegram: str | None
    gemini: str | None = None
    managers_bearer: str | None = None

    def shown(self) -> str:
        lines = [
            ("GraphiQL", f"{self.api}/graphql"),
            ("REST docs", f"{self.api}/api/docs"),
            *([("Telegram stand-in", self.telegram)] if self.telegram else []),
            *([("Gemini stand-in", f"{self.gemini}/control/usage")] if self.gemini else []),
            *(
                [("A manager, for a day", f'{{"Authorization": "{self.managers_bearer}"}}')]
                if self.managers_bearer
                else []
            ),
            ("For other commands", "set -a; . .lunch-bot/dev.env; set +a; .venv/bin/lunch-bot --help"),
        ]
        return "\n".join(["", *(f"  {name:<21} {address}" for name, address in lines), "", "Ctrl-C ends it all."])


def managers_bearer(settings: Settings) -> str:
    manager = User(tgid=MANAGER_TGID, name="", role=Role.MANAGER)
    return f"Bearer {issue_token(settings, manager, timedelta(days=1))}"


def colleagues_bearer(settings: Settings, tgid: int) -> str:
    return f"Bearer {issue_token(settings, User(tgid=tgid, name='', role=Role.USER), timedelta(days=1))}"
