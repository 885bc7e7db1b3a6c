"""Every failure that a client can meet: one class for each row of the contract's error table.

Both doors speak from here: GraphQL puts `code` and `details` into `errors[].extensions`, REST puts them into a
problem document with `status`. Anything else that is raised is masked as `Internal`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

RETRY_AFTER_S = 5
"""How long a client is asked to wait when a service that we need is away: about one restart of it."""


class LunchbotError(Exception):
    """A failure with a code of its own.

    Args:
        message: One sentence for a person; the class's docstring when it has nothing to add.
        details: What a program may want to know, such as the field or the resource that was meant.
    """

    code: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, message: str | None = None, **details: object) -> None:
        super().__init__(message or (self.__doc__ or "").partition("\n")[0])
        self.details: Mapping[str, object] = details

    @property
    def message(self) -> str:
        return str(self.args[0])

    @property
    def retry_after(self) -> int | None:
        """Whole seconds after which it is worth trying again, where that is known."""
        seconds = self.details.get("retry_after")
        return seconds if isinstance(seconds, int) else None


class Unauthenticated(LunchbotError):
    """Sign in first: the token is missing, malformed, forged or expired."""

    code = "UNAUTHENTICATED"
    status = 401


class Forbidden(LunchbotError):
    """You may not do this."""

    code = "FORBIDDEN"
    status = 403


class NotFound(LunchbotError):
    """There is no such thing."""

    code = "NOT_FOUND"
    status = 404

    def __init__(self, resource: str, id_: object) -> None:
        super().__init__(f"There is no {resource.replace('_', ' ')} {id_}.", resource=resource, id=str(id_))


class BadInput(LunchbotError):
    """A value is of the wrong kind or out of its range."""

    code = "BAD_INPUT"
    status = 400

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}", field=field)
        self.field = field
        self.problem = problem


class GraphQLInvalid(LunchbotError):
    """The document does not parse, does not validate, or costs too much."""

    code = "GRAPHQL_INVALID"
    status = 400


class DeadlinePassed(LunchbotError):
    """Ordering for that date is closed."""

    code = "DEADLINE_PASSED"
    status = 400

    def __init__(self, closed_at: datetime) -> None:
        at = closed_at.isoformat(timespec="seconds")
        super().__init__(f"Ordering for that date closed at {at}.", closed_at=at)


class Conflict(LunchbotError):
    """The state does not allow it."""

    status = 409


class CafeAlreadyLinked(Conflict):
    """This cafe already has a chat; unlink it first."""

    code = "CAFE_ALREADY_LINKED"


class ChatAlreadyLinked(Conflict):
    """This chat already belongs to another cafe."""

    code = "CHAT_ALREADY_LINKED"


class CafeNotLinked(Conflict):
    """This cafe has no chat."""

    code = "CAFE_NOT_LINKED"


class LinkRequestProcessed(Conflict):
    """This request has already been approved or rejected."""

    code = "LINK_REQUEST_PROCESSED"


class AlreadyExists(Conflict):
    """There is one already."""

    code = "ALREADY_EXISTS"


class SlowConsumer(LunchbotError):
    """You fell too far behind the live events; subscribe again."""

    code = "SLOW_CONSUMER"
    status = 409


class RateLimited(LunchbotError):
    """Too many requests."""

    code = "RATE_LIMITED"
    status = 429

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many requests; try again in {retry_after} s.", retry_after=retry_after)


class ServiceUnavailable(LunchbotError):
    """A service that we need is away; try again shortly."""

    code = "SERVICE_UNAVAILABLE"
    status = 503

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, retry_after=RETRY_AFTER_S)


class Internal(LunchbotError):
    """Something went wrong on our side."""

    code = "INTERNAL"
    status = 500


def as_lunchbot_error(error: BaseException) -> LunchbotError:
    """What a client is told of `error`: itself if it is ours, that a service is away, or nothing at all.

    With PostgreSQL down asyncpg raises a bare `OSError`, no SQLAlchemy error.
    """
    match error:
        case LunchbotError():
            return error
        case FileNotFoundError() | PermissionError():
            return Internal()
        case OSError() | TimeoutError() | PoolTimeoutError() | RedisConnectionError() | RedisTimeoutError():
            return ServiceUnavailable()
        case DBAPIError() if error.connection_invalidated or _is_passing(error):
            return ServiceUnavailable()
        case _:
            return Internal()


def _is_passing(error: DBAPIError) -> bool:
    """SQLSTATE classes 08 (connection), 40 (rolled back, a deadlock say), 53 (resources) and 57P (shutdown) pass.

    https://www.postgresql.org/docs/18/errcodes-appendix.html
    """
    return str(getattr(error.orig, "sqlstate", None) or "").startswith(("08", "40", "53", "57P"))
