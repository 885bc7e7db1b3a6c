"""`asyncapi.yaml`, from the events' models.

FastStream could generate one, but our handlers get raw records, so it would not know their contents.
https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from typing import Any

import yaml

from app.events.cloudevents import SPEC_VERSION
from app.events.types import EVENTS, Event, Topic

HEADERS = {
    "type": "object",
    "required": ["ce_id", "ce_type", "ce_source", "ce_specversion", "ce_time"],
    "properties": {
        "ce_id": {
            "type": "string",
            "description": "Together with ce_source, the identity of the event. A second delivery has the same values.",
        },
        "ce_type": {"type": "string"},
        "ce_source": {"type": "string", "format": "uri-reference"},
        "ce_specversion": {"type": "string", "const": SPEC_VERSION},
        "ce_time": {"type": "string", "format": "date-time"},
    },
}

DEAD_LETTER_HEADERS = {
    "type": "object",
    "description": "The headers of the original message, and these.",
    "required": ["x-error", "x-topic", "x-attempts"],
    "properties": {
        "x-error": {"type": "string", "description": "Why it is a dead letter."},
        "x-topic": {"type": "string", "description": "The topic that it came from."},
        "x-attempts": {"type": "string", "description": "How many attempts failed."},
    },
}


def create_asyncapi(version: str) -> str:
    """Describe every topic and every event on it, as YAML."""
    messages = {event.type: _message(event) for event in EVENTS}
    messages["dead_letter"] = {
        "summary": "A message that could not be read or handled, unchanged.",
        "contentType": "application/octet-stream",
        "headers": DEAD_LETTER_HEADERS,
        "payload": {},
    }
    channels = {
        topic.value: {"address": topic.value, "messages": {name: _ref("components/messages", name) for name in names}}
        for topic, names in _topics().items()
    }
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Lunchbot",
            "version": version,
            "description": "CloudEvents 1.0 in Kafka binary mode; structured mode is read as well. Events with the same key "
            "stay in order; an event may be delivered more than once, with the same ce_source and ce_id.",
        },
        "defaultContentType": "application/json",
        "channels": channels,
        "operations": {
            f"{action} {topic.value}": {
                "action": action,
                "channel": _ref("channels", topic.value),
                "messages": [_ref(f"channels/{topic.value}/messages", name) for name in names],
            }
            for topic, names in _topics().items()
            for action in _actions(topic)
        },
        "components": {"messages": messages},
    }
    return yaml.dump(document, Dumper=_WithoutAliases, sort_keys=False, allow_unicode=True, width=120)


class _WithoutAliases(yaml.SafeDumper):
    """Repeats repeated objects, because people read the file."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _topics() -> dict[Topic, list[str]]:
    topics = {topic: [event.type for event in EVENTS if event.topic is topic] for topic in Topic}
    topics[Topic.DEAD_LETTERS] = ["dead_letter"]
    return topics


def _actions(topic: Topic) -> list[str]:
    """Whether we send and receive on a topic. Other producers send open events; daily tasks come only from them."""
    is_open = any(event.is_open for event in EVENTS if event.topic is topic)
    return ["send"] * (topic is not Topic.DAILY_TASKS) + ["receive"] * is_open


def _message(event: type[Event]) -> dict[str, Any]:
    schema = event.model_json_schema(mode="serialization", ref_template="#/{model}")
    definitions = schema.pop("$defs", {})
    return {
        "name": event.type,
        "summary": (event.__doc__ or "").strip(),
        "headers": HEADERS,
        "payload": _inlined(schema, definitions),
    }


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """Replace references by their definitions, so that each message is complete."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].removeprefix("#/")], definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}


def _ref(place: str, name: str) -> dict[str, str]:
    return {"$ref": f"#/{place}/{name}"}
