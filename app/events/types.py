"""The types of events, their topics, and the keys that keep them in order."""

import datetime as dt
import inspect
from abc import abstractmethod
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Self, override

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_serializer
from pydantic_core import PydanticUndefined
from pydantic_core.core_schema import SerializerFunctionWrapHandler
from sqlmodel import SQLModel

from app.dates import parse_date
from app.models import Cafe, CafeFields, LinkRequestFields, NotificationFields, RunFields
from app.validation import ID_MAX

ThreadId = Annotated[int | None, Field(exclude_if=lambda thread_id: thread_id is None)]
"""A forum topic of a Telegram chat. A message without one does not have the field, like those of older versions."""


class Topic(StrEnum):
    """The topics in Kafka."""

    DEADLINES = "lunch-bot.deadlines"
    DAILY_TASKS = "lunch-bot.daily-tasks"
    LINK_REQUESTS = "lunch-bot.link-requests"
    NOTIFICATIONS = "lunch-bot.notifications"
    RECOMMENDATIONS = "lunch-bot.recommendations"
    DEAD_LETTERS = "lunch-bot.dead-letters"


class Snapshot(SQLModel):
    """A row at the time of an event. It is made from the row, and never changes.

    The fields of the row are required, for their defaults are those of a new row: a message without them is unreadable.
    Older and newer events may have more fields.
    """

    model_config = ConfigDict(  # type: ignore[assignment]
        frozen=True, from_attributes=True, extra="ignore", json_schema_serialization_defaults_required=True
    )

    @classmethod
    @override
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        declared = {
            name for base in cls.__mro__ if issubclass(base, Snapshot) for name in inspect.get_annotations(base)
        }
        for name, field in cls.model_fields.items():
            if name not in declared:
                field.default = PydanticUndefined
                field.default_factory = None
        cls.model_rebuild(force=True)


class CafeSnapshot(Snapshot, CafeFields):
    """A cafe at the time of an event."""

    id: int


class Event(Snapshot):
    """A change, with the object as it was afterwards."""

    topic: ClassVar[Topic]
    type: ClassVar[str]
    is_open: ClassVar[bool] = False
    """Whether other producers may send it as plain JSON, with its type in the value and no CloudEvents headers."""
    is_live: ClassVar[bool] = False
    """Whether live subscriptions get it."""

    @classmethod
    def of(cls, row: object) -> Self:
        """Make the event from a row with its relations."""
        return cls.model_validate(row)

    @property
    @abstractmethod
    def key(self) -> str:
        """Events with the same key stay in order."""

    @property
    def natural_id(self) -> str | None:
        """The identity of an open event without CloudEvents headers: equal for two messages with the same meaning."""
        return None


class LinkRequestEvent(Event, LinkRequestFields):
    """A link request has changed."""

    topic = Topic.LINK_REQUESTS
    is_live = True

    id: int
    cafe_name: str
    cafe: CafeSnapshot
    tg_thread_id: ThreadId = None

    @property
    def key(self) -> str:
        return str(self.cafe_id)


class LinkRequestCreated(LinkRequestEvent):
    """A chat has asked to become a cafe's chat."""

    type = "link_request.created"


class LinkRequestApproved(LinkRequestEvent):
    """A manager has linked the chat to the cafe."""

    type = "link_request.approved"


class LinkRequestRejected(LinkRequestEvent):
    """A manager has rejected the request."""

    type = "link_request.rejected"


class CafeEvent(Event, CafeSnapshot):
    """The link of a cafe has changed."""

    topic = Topic.LINK_REQUESTS

    @property
    def key(self) -> str:
        return str(self.id)


class UnlinkReason(StrEnum):
    """Why a link ended."""

    MANAGER = "manager"
    """A manager unlinked the cafe."""
    CHAT = "chat"
    """The chat unlinked itself."""
    CHAT_GONE = "chat_gone"
    """The chat cannot be reached any more."""


class CafeUnlinked(CafeEvent):
    """A cafe has lost its chat. `former_tg_chat_id` is the chat that it had, `former_tg_thread_id` the topic in it."""

    type = "cafe.unlinked"

    former_tg_chat_id: int
    former_tg_thread_id: ThreadId = None
    reason: UnlinkReason = UnlinkReason.MANAGER

    @classmethod
    def of_cafe(
        cls, cafe: Cafe, former_tg_chat_id: int, reason: UnlinkReason, former_tg_thread_id: int | None = None
    ) -> Self:
        return cls(
            **CafeSnapshot.model_validate(cafe).model_dump(),
            former_tg_chat_id=former_tg_chat_id,
            former_tg_thread_id=former_tg_thread_id,
            reason=reason,
        )


class CafeNotificationsChanged(CafeEvent):
    """A cafe's notifications were enabled or disabled."""

    type = "cafe.notifications_changed"


def _to_utc(time: dt.datetime) -> dt.datetime:
    """Convert a time to UTC. A time without an offset, as other producers may send it, is already in UTC.

    Raises ValueError for a time whose year in UTC is not in 1 to 9999.
    """
    try:
        return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except OverflowError:
        raise ValueError("is out of range") from None


class OpenEvent(Event):
    """An event that other producers may send as well, as a plain value: so the value has the type in it."""

    is_open = True

    timestamp: Annotated[dt.datetime, AfterValidator(_to_utc)]

    @model_serializer(mode="wrap")
    def _with_type(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"type": self.type, **serialize(self)}


class DeadlinePassed(OpenEvent):
    """Ordering from a cafe for a date has closed."""

    topic = Topic.DEADLINES
    type = "deadline.passed"

    cafe_id: Annotated[int, Field(ge=1, le=ID_MAX)]
    date: Annotated[dt.date, BeforeValidator(parse_date)]

    @property
    def key(self) -> str:
        return str(self.cafe_id)

    @property
    @override
    def natural_id(self) -> str:
        return f"{self.type}:{self.cafe_id}:{self.date}"


class GenerateRecommendations(OpenEvent):
    """A request to make today's recommendations, if they are not made yet."""

    topic = Topic.DAILY_TASKS
    type = "generate_recommendations"

    @property
    def key(self) -> str:
        return self.type

    @property
    @override
    def natural_id(self) -> str:
        return f"{self.type}:{self.timestamp.isoformat()}"


class NotificationEvent(Event, NotificationFields):
    """A notification has changed."""

    topic = Topic.NOTIFICATIONS
    is_live = True

    id: int
    cafe_name: str
    cafe: CafeSnapshot
    text: str

    @property
    def key(self) -> str:
        return str(self.cafe_id)


class NotificationQueued(NotificationEvent):
    """The message waits for its delivery."""

    type = "notification.queued"


class NotificationSent(NotificationEvent):
    """Telegram has accepted the message."""

    type = "notification.sent"


class NotificationFailed(NotificationEvent):
    """The message could not be delivered."""

    type = "notification.failed"


class NotificationAcknowledged(NotificationEvent):
    """The cafe has confirmed the message."""

    type = "notification.acknowledged"


class RecommendationRunEvent(Event, RunFields):
    """A run has changed."""

    topic = Topic.RECOMMENDATIONS
    is_live = True

    @property
    def key(self) -> str:
        return str(self.date)


class RecommendationRunStarted(RecommendationRunEvent):
    """A run has started."""

    type = "recommendation_run.started"


class RecommendationRunProgressed(RecommendationRunEvent):
    """More recommendations are made, or the run has resumed."""

    type = "recommendation_run.progressed"


class RecommendationRunPaused(RecommendationRunEvent):
    """The run waits for keys or for Gemini."""

    type = "recommendation_run.paused"


class RecommendationRunFinished(RecommendationRunEvent):
    """The run is over: no user is left, or the next run has started."""

    type = "recommendation_run.finished"


def _concrete(event: type[Event]) -> list[type[Event]]:
    below = [concrete for child in event.__subclasses__() for concrete in _concrete(child)]
    return [event, *below] if "type" in vars(event) else below


EVENTS: tuple[type[Event], ...] = tuple(_concrete(Event))  # type: ignore[type-abstract]
"""Every type of event, in the order of this module."""

LIVE_TOPICS = tuple({event.topic: None for event in EVENTS if event.is_live})
