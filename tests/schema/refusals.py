"""Wrong calls, and how both APIs refuse them."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from app.resolvers.links import NEWEST_FIRST
from tests.apis import CHAT, ApiClient

ANOTHER_ID = 999


@dataclass(frozen=True)
class Refused:
    """A call and its expected refusal."""

    operation: str
    arguments: dict[str, Any]
    code: str = "BAD_INPUT"
    fields: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        given = ",".join(f"{name}={str(value)[:16]!r}" for name, value in self.arguments.items())
        return f"{self.operation}({given})"


def cursor(*place: object, of: str = NEWEST_FIRST.name) -> str:
    """Make a cursor as our lists make them."""
    return base64.urlsafe_b64encode(orjson.dumps([of, *place])).decode().rstrip("=")


def bad(operation: str, name: str, value: object, /, **others: object) -> Refused:
    return Refused(operation, others | {name: value}, fields=(name,))


def not_found(operation: str, resource: str, id_: int = ANOTHER_ID, /, **arguments: Any) -> Refused:
    return Refused(operation, arguments, "NOT_FOUND", details={"resource": resource, "id": str(id_)})


def conflict(code: str, operation: str, /, **arguments: object) -> Refused:
    return Refused(operation, arguments, code)


def operations(refusals: Iterable[Refused]) -> list[str]:
    return sorted({refused.operation for refused in refusals})


type Outcome = tuple[str | None, tuple[str, ...], dict[str, Any]]


def expected(refusals: Sequence[Refused]) -> dict[str, Outcome]:
    """Return the expected outcome of each call: the code, the wrong fields, the details."""
    return {
        f"{number} {refused}": (refused.code, refused.fields, refused.details)
        for number, refused in enumerate(refusals)
    }


async def outcomes(api_client: ApiClient, refusals: Sequence[Refused]) -> dict[str, Outcome]:
    """Make the calls, and return the outcome of each."""
    answers = {
        f"{number} {refused}": await api_client(refused.operation, **refused.arguments)
        for number, refused in enumerate(refusals)
    }
    return {name: (answer.code, answer.fields, dict(answer.details)) for name, answer in answers.items()}


BAD_CHAT_IDS: tuple[object, ...] = (
    2**52,
    -(2**52),
    2**63,
    10**30,
    0,
    "-1001",
    "",
    1.5,
    1e300,
    True,
    None,
    [CHAT],
    {"id": CHAT},
)
BAD_BOOLEANS: tuple[object, ...] = (None, "true", 1, {})
BAD_PAGE_SIZES: tuple[object, ...] = (0, -1, 101, 2**31, "x", "", 1.5, "9" * 5000)
BAD_SKIPS: tuple[object, ...] = (-1, 10_001, 2**31, "x")
BAD_IDS = ("x", "0", "-1", "1.0", "1e3", " 1", "１", str(2**63), "9" * 5000, "\0", "1;")
BAD_DATES: tuple[object, ...] = (
    "x",
    "",
    "2026-13-01",
    "2026-02-29",
    "1999-12-31",
    "2100-01-01",
    "1.1.2026",
    5,
    "٢",
    "20260131",
    "2026-031",
    "2026-W05-6",
    "2026W056",
    "2026-1-31",
    "2026-01-31T00:00:00",
    " 2026-01-31",
    "2026-01-31\n",
    "٢٠٢٦-٠١-٣١",
    "-2026-01-31",
)
