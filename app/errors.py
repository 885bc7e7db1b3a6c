"""The errors that a client can get: one class for each code.

GraphQL puts `code` and `details` into `errors[].extensions`. REST puts them into a problem document with `status`. Any
other exception is masked as `Internal`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import ClassVar, NamedTuple, Self

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

RETRY_AFTER_S = 5
"""How long a client should wait when a service is unavailable: about the time of its restart."""

REDIS_TEMPORARY = re.compile(r"(?:^|caused error: \W*)(?:BUSY|CLUSTERDOWN|MASTERDOWN|MISCONF|NOREPLICAS|TRYAGAIN) ")
"""Redis's errors for which redis-py has no class: a long script, a failover, nothing can be stored. redis-py puts words
before an error in a pipeline."""

DATABASE_TEMPORARY = (
    *("08", "53", "57P"),  # connections, resources, shutdown
    *("40", "55P03", "57014"),  # a deadlock or another conflict, a wait for a lock or a statement that took too long
    *("25006", "25P03"),  # a standby after a failover, a transaction that did nothing for too long
)
"""Codes and classes of PostgreSQL's errors after which a retry may succeed."""


class LunchbotError(Exception):
    """An error with a code.

    Args:
        message: One sentence for a person; the class's title if it is missing.
        details: Facts for a program, such as the field or the resource.
    """

    code: ClassVar[str]
    status: ClassVar[int]

    def __init__(self, message: str | None = None, **details: object) -> None:
        super().__init__(message or self.title())
        self.details: Mapping[str, object] = details

    @classmethod
    def title(cls) -> str:
        """Return the sentence for every error of the class: the first line of its docstring."""
        return (cls.__doc__ or "").partition("\n")[0]

    @property
    def message(self) -> str:
        return str(self.args[0])

    @property
    def retry_after(self) -> int | None:
        """Seconds after which the client may try again, if known."""
        seconds = self.details.get("retry_after")
        return seconds if isinstance(seconds, int) else None


class Unauthenticated(LunchbotError):
    """The token is missing, malformed, forged or expired. Sign in first."""

    code = "UNAUTHENTICATED"
    status = 401


class Forbidden(LunchbotError):
    """You may not do this."""

    code = "FORBIDDEN"
    status = 403


class NotFound(LunchbotError):
    """The resource does not exist."""

    code = "NOT_FOUND"
    status = 404

    def __init__(self, resource: str, id_: object) -> None:
        super().__init__(f"There is no {resource.replace('_', ' ')} {id_}.", resource=resource, id=str(id_))


class FieldProblem(NamedTuple):
    """A wrong field, with the reason."""

    field: str
    detail: str


def join_problems(problems: Iterable[FieldProblem]) -> str:
    """Write all wrong fields as one message."""
    return "; ".join(f"{field}: {detail}" for field, detail in problems)


class BadInput(LunchbotError):
    """A value is of the wrong type or out of its range."""

    code = "BAD_INPUT"
    status = 400

    def __init__(self, field: str, problem: str, *others: FieldProblem) -> None:
        self.problems: Sequence[FieldProblem] = (FieldProblem(field, problem), *others)
        super().__init__(join_problems(self.problems), field=field)

    @classmethod
    def from_problems(cls, problems: Sequence[FieldProblem]) -> Self:
        """Make one error for several wrong fields, at least one."""
        (field, detail), *others = problems
        return cls(field, detail, *others)

    @property
    def field(self) -> str:
        """The first wrong field."""
        return self.problems[0].field


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
    """The current state does not allow this."""

    status = 409


class CafeAlreadyLinked(Conflict):
    """This cafe already has a chat. Unlink it first."""

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
    """It already exists."""

    code = "ALREADY_EXISTS"


class SlowConsumer(LunchbotError):
    """The subscriber is too far behind the live events. Subscribe again."""

    code = "SLOW_CONSUMER"
    status = 409


class RateLimited(LunchbotError):
    """Too many requests."""

    code = "RATE_LIMITED"
    status = 429

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"Too many requests; try again in {retry_after} s.", retry_after=retry_after)


class ServiceUnavailable(LunchbotError):
    """A service is unavailable. Try again shortly."""

    code = "SERVICE_UNAVAILABLE"
    status = 503

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message, retry_after=RETRY_AFTER_S)


class Internal(LunchbotError):
    """An unexpected error on the server."""

    code = "INTERNAL"
    status = 500


def as_lunchbot_error(error: BaseException) -> LunchbotError:
    """Translate `error` for clients: our own errors as they are, outages as ServiceUnavailable, the rest as Internal.

    When PostgreSQL is down, asyncpg raises a bare `OSError` and not an SQLAlchemy error.
    """
    match error:
        case LunchbotError():
            return error
        case FileNotFoundError() | PermissionError():
            return Internal()
        case OSError() | TimeoutError() | PoolTimeoutError() | RedisConnectionError() | RedisTimeoutError():
            return ServiceUnavailable()
        case ReadOnlyError() | OutOfMemoryError():
            return ServiceUnavailable()
        case ResponseError() if REDIS_TEMPORARY.search(str(error)):
            return ServiceUnavailable()
        case DBAPIError() if error.connection_invalidated or _is_temporary(error):
            return ServiceUnavailable()
        case _:
            return Internal()


def _is_temporary(error: DBAPIError) -> bool:
    """Whether a retry may succeed.

    https://www.postgresql.org/docs/18/errcodes-appendix.html
    """
    return str(getattr(error.orig, "sqlstate", None) or "").startswith(DATABASE_TEMPORARY)
