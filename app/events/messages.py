"""The events: what is told, on which topic, and under which key they stay in order.

On Kafka each is a CloudEvent in binary mode: its attributes are headers, its data is the value as JSON.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from app.models import Cafe, Language, LinkRequest, LinkRequestStatus

SOURCE = "lunch-bot"
SPEC_VERSION = "1.0"


class Topic(StrEnum):
    """Where events go."""

    LINK_REQUESTS = "lunch-bot.link-requests"
    DEAD_LETTERS = "lunch-bot.dead-letters"


class UnreadableEvent(Exception):
    """A message that is no event of ours: its headers or its value do not fit."""


class _Snapshot(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True, extra="ignore")


class CafeSnapshot(_Snapshot):
    """A cafe as of an event."""

    id: int
    name: str
    description: str
    is_active: bool
    tg_chat_id: int | None
    tg_username: str | None
    notifications_enabled: bool
    linked_at: datetime | None
    timezone: str
    language: Language
    created_at: datetime


class Event(_Snapshot):
    """Something that has happened, as of then."""

    topic: ClassVar[Topic]
    type: ClassVar[str]

    @property
    @abstractmethod
    def key(self) -> str:
        """Events with the same key stay in order."""


class LinkRequestEvent(Event):
    """Something has happened to a link request."""

    topic = Topic.LINK_REQUESTS

    id: int
    cafe_id: int
    cafe_name: str
    cafe: CafeSnapshot
    tg_chat_id: int
    tg_username: str | None
    status: LinkRequestStatus
    reason: str | None
    created_at: datetime
    processed_at: datetime | None
    processed_by: int | None

    @classmethod
    def of(cls, request: LinkRequest) -> Self:
        return cls.model_validate(request)

    @property
    def key(self) -> str:
        return str(self.cafe_id)


class LinkRequestCreated(LinkRequestEvent):
    """A chat has asked to be a cafe's chat."""

    type = "link_request.created"


class LinkRequestApproved(LinkRequestEvent):
    """A manager has linked the chat to the cafe."""

    type = "link_request.approved"


class LinkRequestRejected(LinkRequestEvent):
    """A manager has turned the chat down."""

    type = "link_request.rejected"


class CafeEvent(Event, CafeSnapshot):
    """Something has happened to a cafe's link."""

    topic = Topic.LINK_REQUESTS

    @property
    def key(self) -> str:
        return str(self.id)


class CafeUnlinked(CafeEvent):
    """A cafe has lost its chat; `former_tg_chat_id` is the one that it had."""

    type = "cafe.unlinked"

    former_tg_chat_id: int

    @classmethod
    def of(cls, cafe: Cafe, former_tg_chat_id: int) -> Self:
        return cls(**CafeSnapshot.model_validate(cafe).model_dump(), former_tg_chat_id=former_tg_chat_id)


class CafeNotificationsChanged(CafeEvent):
    """A cafe's notifications were switched on or off."""

    type = "cafe.notifications_changed"

    @classmethod
    def of(cls, cafe: Cafe) -> Self:
        return cls.model_validate(cafe)


EVENTS: tuple[type[Event], ...] = (
    LinkRequestCreated,
    LinkRequestApproved,
    LinkRequestRejected,
    CafeUnlinked,
    CafeNotificationsChanged,
)

_BY_TYPE: Mapping[str, type[Event]] = {event.type: event for event in EVENTS}


@dataclass(frozen=True)
class Received:
    """An event as it came from Kafka."""

    id: str
    event: Event


def headers(event_id: str, event: Event, at: datetime) -> dict[str, str]:
    """Return the CloudEvents attributes of `event`, as Kafka headers."""
    return {
        "ce_id": event_id,
        "ce_type": event.type,
        "ce_source": SOURCE,
        "ce_specversion": SPEC_VERSION,
        "ce_time": at.isoformat(),
        "content-type": "application/json",
    }


def read(headers: Mapping[str, object], value: bytes) -> Received:
    """Read an event of ours.

    Raises UnreadableEvent.
    """
    event_id, event_type = headers.get("ce_id"), headers.get("ce_type")
    if not isinstance(event_id, str) or not event_id:
        raise UnreadableEvent("there is no ce_id header")
    kind = _BY_TYPE.get(event_type) if isinstance(event_type, str) else None
    if kind is None:
        raise UnreadableEvent(f"unknown ce_type {event_type!r}")
    try:
        return Received(event_id, kind.model_validate_json(value))
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise UnreadableEvent(f"{'.'.join(map(str, problem['loc'])) or 'value'}: {problem['msg']}") from None
