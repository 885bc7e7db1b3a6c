"""Who asks."""

from dataclasses import dataclass
from datetime import datetime

from app.models import Role


@dataclass(frozen=True)
class Viewer:
    """The person who asks, as known to the database, and until when their token says so."""

    tgid: int
    role: Role
    expires_at: datetime | None = None

    @property
    def is_manager(self) -> bool:
        return self.role is Role.MANAGER
