"""The events: what is told, on which topic, and under which key they stay in order.

On Kafka each is a CloudEvent in binary mode: its attributes are headers, its data is the value as JSON.
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

import datetime as dt
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, model_serializer
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from app.models import (
    Cafe,
    Language,
    LinkRequest,
    LinkRequestStatus,
    Notification,
    NotificationKind,
    NotificationStatus,
    PauseReason,
    RecommendationRun,
    RunStatus,
)

SOURCE = "lunch-bot"
SPEC_VERSION = "1.0"


class Topic(StrEnum):
    """Where events go."""

    DEADLINES = "lunch-bot.deadlines"
    DAILY_TASKS = "lunch-bot.daily-tasks"
    LINK_REQUESTS = "lunch-bot.link-requests"
    NOTIFICATIONS = "lunch-bot.notifications"
    RECOMMENDATIONS = "lunch-bot.recommendations"
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
    is_open: ClassVar[bool] = False
    """Whether other producers may send it as plain JSON, with its type in the value and no CloudEvents headers."""

    @property
    @abstractmethod
    def key(self) -> str:
        """Events with the same key stay in order."""

    @property
    def natural_id(self) -> str:
        """What is the same for two messages that mean the same; for events that are open to others."""
        raise NotImplementedError


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


class UnlinkReason(StrEnum):
    """Who or what has ended a link."""

    MANAGER = "manager"
    CHAT = "chat"
    """Somebody in the chat."""
    CHAT_GONE = "chat_gone"
    """The chat cannot be reached any more."""


class CafeUnlinked(CafeEvent):
    """A cafe has lost its chat; `former_tg_chat_id` is the one that it had."""

    type = "cafe.unlinked"

    former_tg_chat_id: int
    reason: UnlinkReason = UnlinkReason.MANAGER

    @classmethod
    def of(cls, cafe: Cafe, former_tg_chat_id: int, reason: UnlinkReason) -> Self:
        snapshot = CafeSnapshot.model_validate(cafe).model_dump()
        return cls(**snapshot, former_tg_chat_id=former_tg_chat_id, reason=reason)


class CafeNotificationsChanged(CafeEvent):
    """A cafe's notifications were switched on or off."""

    type = "cafe.notifications_changed"

    @classmethod
    def of(cls, cafe: Cafe) -> Self:
        return cls.model_validate(cafe)


def _with_offset(time: datetime) -> datetime:
    """Take a time without an offset, as another producer may send it, for UTC."""
    return time if time.tzinfo is not None else time.replace(tzinfo=dt.UTC)


class PlainEvent(Event):
    """An event that other producers may send, too, with no more than the value: so that has the type in it."""

    is_open = True

    timestamp: Annotated[datetime, AfterValidator(_with_offset)]

    @model_serializer(mode="wrap")
    def _with_type(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.type, **serialize(self)}


class DeadlinePassed(PlainEvent):
    """Ordering from a cafe for a date has closed."""

    topic = Topic.DEADLINES
    type = "deadline.passed"

    cafe_id: int
    date: dt.date

    @classmethod
    def of(cls, cafe_id: int, date: dt.date, at: datetime) -> Self:
        return cls(cafe_id=cafe_id, date=date, timestamp=at)

    @property
    def key(self) -> str:
        return str(self.cafe_id)

    @property
    def natural_id(self) -> str:
        return f"{self.type}:{self.cafe_id}:{self.date}"


class GenerateRecommendations(PlainEvent):
    """Today's recommendations are to be made, if they are not yet."""

    topic = Topic.DAILY_TASKS
    type = "generate_recommendations"

    @property
    def key(self) -> str:
        return self.type

    @property
    def natural_id(self) -> str:
        return f"{self.type}:{self.timestamp.astimezone(dt.UTC).isoformat()}"


class NotificationEvent(Event):
    """Something has happened to a message for a chat."""

    topic = Topic.NOTIFICATIONS

    id: int
    cafe_id: int
    cafe_name: str
    cafe: CafeSnapshot
    kind: NotificationKind
    date: dt.date | None
    version: int
    tg_chat_id: int
    text: str
    status: NotificationStatus
    attempts: int
    error: str | None
    created_at: datetime
    sent_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None

    @classmethod
    def of(cls, notification: Notification) -> Self:
        return cls.model_validate(notification)

    @property
    def key(self) -> str:
        return str(self.cafe_id)


class NotificationQueued(NotificationEvent):
    """A message is to be sent."""

    type = "notification.queued"


class NotificationSent(NotificationEvent):
    """Telegram has taken the message."""

    type = "notification.sent"


class NotificationFailed(NotificationEvent):
    """The message could not be sent, and is given up."""

    type = "notification.failed"


class NotificationAcknowledged(NotificationEvent):
    """The kitchen has read the message."""

    type = "notification.acknowledged"


class RecommendationRunEvent(Event):
    """Something has happened to a run."""

    topic = Topic.RECOMMENDATIONS

    date: dt.date
    status: RunStatus
    total: int
    done: int
    failed: int
    keys_suffice_for: int
    started_by: int | None
    started_at: datetime
    finished_at: datetime | None
    paused_until: datetime | None
    pause_reason: PauseReason | None

    @classmethod
    def of(cls, run: RecommendationRun) -> Self:
        return cls.model_validate(run)

    @property
    def key(self) -> str:
        return str(self.date)


class RecommendationRunStarted(RecommendationRunEvent):
    """A night's recommendations are being made."""

    type = "recommendation_run.started"


class RecommendationRunProgressed(RecommendationRunEvent):
    """Some more of them are made, or the run goes on after a pause."""

    type = "recommendation_run.progressed"


class RecommendationRunPaused(RecommendationRunEvent):
    """The run waits: for keys, or for Gemini."""

    type = "recommendation_run.paused"


class RecommendationRunFinished(RecommendationRunEvent):
    """The run is over: nobody is left, or the next night's has begun."""

    type = "recommendation_run.finished"


EVENTS: tuple[type[Event], ...] = (
    LinkRequestCreated,
    LinkRequestApproved,
    LinkRequestRejected,
    CafeUnlinked,
    CafeNotificationsChanged,
    DeadlinePassed,
    NotificationQueued,
    NotificationSent,
    NotificationFailed,
    NotificationAcknowledged,
    GenerateRecommendations,
    RecommendationRunStarted,
    RecommendationRunProgressed,
    RecommendationRunPaused,
    RecommendationRunFinished,
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
    """Read an event, of ours or of another producer.

    Raises UnreadableEvent.
    """
    if "ce_id" not in headers and "ce_type" not in headers:
        event = _event(_plain_type(value), value)
        if not event.is_open:
            raise UnreadableEvent(f"there is no ce_id header, which {event.type} needs")
        return Received(event.natural_id, event)
    event_id = headers.get("ce_id")
    if not isinstance(event_id, str) or not event_id:
        raise UnreadableEvent("there is no ce_id header")
    return Received(event_id, _event(headers.get("ce_type"), value))


def _event(event_type: object, value: bytes) -> Event:
    kind = _BY_TYPE.get(event_type) if isinstance(event_type, str) else None
    if kind is None:
        raise UnreadableEvent(f"unknown type {event_type!r}")
    try:
        return kind.model_validate_json(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        raise UnreadableEvent(f"{'.'.join(map(str, problem['loc'])) or 'value'}: {problem['msg']}") from None


def _plain_type(value: bytes) -> object:
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise UnreadableEvent(f"there is no ce_id header, and the value is not JSON: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise UnreadableEvent("there is no ce_id header, and the value is no JSON object")
    return parsed.get("type")
