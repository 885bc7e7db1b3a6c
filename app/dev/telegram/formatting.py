"""Telegram's HTML: from a marked-up text to the plain text and the entities that clients show.

The rules and the wording of the errors are those of the real service, seen from outside; what it accepts is listed in
https://core.telegram.org/bots/api#html-style. Markdown is not spoken here.
"""

import re
import sys
from dataclasses import dataclass, field
from typing import Any

from app.dev.telegram.calls import bad_request

type Entity = dict[str, Any]

_SIMPLE_TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "code": "code",
}
_TAGS = {*_SIMPLE_TAGS, "a", "pre", "blockquote", "tg-emoji"}
_NAMED_CHARACTERS = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}

_SURROGATES = range(0xD800, 0xE000)
"""Halves of UTF-16 pairs: numbers that are no characters."""

_PLAIN = re.compile(r"[^<&]+")
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|([a-zA-Z]+));?")
_NAME = re.compile(r"[^\s>]*")
_ATTRIBUTE_NAME = re.compile(r"[^\s=>]*")
_BARE_VALUE = re.compile(r"[A-Za-z0-9.-]*")
_SPACES = re.compile(r"\s*")
_COMMAND = re.compile(r"(?<![\w/@<>])/[A-Za-z0-9_]{1,64}(?:@[A-Za-z0-9_]{3,32})?(?![\w/])")
_LINK = re.compile(r"(?:https?://|tg://|ton://|mailto:|tel:)\S+", re.IGNORECASE)


def utf16_length(text: str) -> int:
    """Length in UTF-16 code units: the unit of Telegram's limits and of entities' offsets."""
    return len(text.encode("utf-16-le")) // 2


def mark_commands(text: str, entities: list[Entity]) -> list[Entity]:
    """The entities and those of the bot commands in the text, which Telegram finds by itself outside code and links."""
    closed = [entity for entity in entities if entity["type"] in {"code", "pre", "text_link"}]
    marked = list(entities)
    for found in _COMMAND.finditer(text):
        offset = utf16_length(text[: found.start()])
        if not any(entity["offset"] <= offset < entity["offset"] + entity["length"] for entity in closed):
            marked.append({"type": "bot_command", "offset": offset, "length": utf16_length(found.group())})
    return sorted(marked, key=_order)


def trim(text: str, entities: list[Entity]) -> tuple[str, list[Entity]]:
    """Take the white space off both ends, and off the entities that reached into it."""
    cut = utf16_length(text) - utf16_length(text.lstrip())
    trimmed = text.strip()
    end = utf16_length(trimmed)
    kept = []
    for entity in entities:
        first = max(entity["offset"] - cut, 0)
        last = min(entity["offset"] - cut + entity["length"], end)
        if first < last:
            kept.append(entity | {"offset": first, "length": last - first})
    return trimmed, sorted(kept, key=_order)


def _order(entity: Entity) -> tuple[int, int]:
    """By where they begin, the outer before the inner."""
    return entity["offset"], -entity["length"]


def parse_html(source: str) -> tuple[str, list[Entity]]:
    """The text without its tags, and the entities in the order of their offsets.

    Raises BotApiError ("can't parse entities: …") with the byte offset of what is wrong.
    """
    return _HtmlReader(source).read()


@dataclass
class _OpenTag:
    name: str
    at: int
    offset: int
    attributes: dict[str, str] = field(default_factory=dict)


class _HtmlReader:
    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._text: list[str] = []
        self._length = 0
        self._open: list[_OpenTag] = []
        self._entities: list[Entity] = []

    def read(self) -> tuple[str, list[Entity]]:
        while self._at < len(self._source):
            if self._source.startswith("</", self._at):
                self._end_tag()
            elif self._next() == "<":
                self._start_tag()
            else:
                self._append(self._reference() if self._next() == "&" else self._take(_PLAIN))
        if self._open:
            raise bad_request(
                f"can't parse entities: Can't find end tag corresponding to start tag \"{self._open[-1].name}\""
            )
        return "".join(self._text), sorted(self._entities, key=_order)

    def _next(self) -> str:
        return self._source[self._at : self._at + 1]

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._source, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found.group()

    def _append(self, piece: str) -> None:
        self._text.append(piece)
        self._length += utf16_length(piece)

    def _require(self, condition: object, at: int, complaint: str, rest: str = "") -> None:
        if not condition:
            offset = len(self._source[:at].encode())
            raise bad_request(f"can't parse entities: {complaint} at byte offset {offset}{rest}")

    def _reference(self) -> str:
        """A character reference; one that Telegram does not know stays as it is written."""
        found = _REFERENCE.match(self._source, self._at)
        character = _referred(*found.groups()) if found else None
        if found is None or character is None:
            self._at += 1
            return "&"
        self._at = found.end()
        return character

    def _start_tag(self) -> None:
        begin = self._at
        self._at += 1
        name = self._take(_NAME).lower()
        self._require(self._next(), begin, "Unclosed start tag")
        self._require(name in _TAGS, begin, f'Unsupported start tag "{name}"')
        tag = _OpenTag(name, begin, self._length)
        while True:
            self._take(_SPACES)
            self._require(self._next(), begin, "Unclosed start tag")
            if self._next() == ">":
                break
            self._attribute(tag)
        self._at += 1
        is_spoiler = tag.attributes.get("class") == "tg-spoiler"
        self._require(name != "span" or is_spoiler, begin, 'Tag "span" must have class "tg-spoiler"')
        self._open.append(tag)

    def _attribute(self, tag: _OpenTag) -> None:
        name = self._take(_ATTRIBUTE_NAME).lower()
        self._require(name, tag.at, f'Empty attribute name in the tag "{tag.name}"')
        self._take(_SPACES)
        if self._next() != "=" and (tag.name, name) == ("blockquote", "expandable"):
            tag.attributes[name] = ""
            return
        complaint = f'Expected equal sign in declaration of an attribute of the tag "{tag.name}"'
        self._require(self._next() == "=", tag.at, complaint)
        self._at += 1
        self._take(_SPACES)
        tag.attributes[name] = self._attribute_value(tag)

    def _attribute_value(self, tag: _OpenTag) -> str:
        quote = self._next()
        if quote not in {'"', "'"}:
            begin = self._at
            value = self._take(_BARE_VALUE).lower()
            ends = self._next() == ">" or self._next().isspace()
            self._require(ends, begin, "Unexpected end of name token")
            return value
        self._at += 1
        pieces = []
        while self._next() != quote:
            self._require(self._next(), tag.at, "Unclosed start tag")
            if self._next() == "&":
                pieces.append(self._reference())
            else:
                pieces.append(self._next())
                self._at += 1
        self._at += 1
        return "".join(pieces)

    def _end_tag(self) -> None:
        begin = self._at
        self._require(self._open, begin, "Unexpected end tag")
        self._at += len("</")
        name = self._take(_NAME).lower()
        self._take(_SPACES)
        self._require(self._next() == ">", begin, "Unclosed end tag")
        tag = self._open[-1]
        found = f', expected "</{tag.name}>", found "</{name}>"'
        self._require(name in {"", tag.name}, begin, "Unmatched end tag", found)
        self._at += 1
        self._open.pop()
        entity = self._entity_of(tag)
        if entity is not None and self._length > tag.offset:
            self._entities.append(entity | {"offset": tag.offset, "length": self._length - tag.offset})

    def _text_since(self, tag: _OpenTag) -> str:
        return "".join(self._text).encode("utf-16-le")[2 * tag.offset :].decode("utf-16-le")

    def _entity_of(self, tag: _OpenTag) -> Entity | None:
        attributes = tag.attributes
        match tag.name:
            case "a":
                url = attributes.get("href") or self._text_since(tag)
                return {"type": "text_link", "url": url} if _LINK.fullmatch(url) else None
            case "code" if self._open and self._open[-1].name == "pre":
                self._open[-1].attributes |= attributes
                return None
            case "pre":
                language = attributes.get("class", "").removeprefix("language-")
                return {"type": "pre", "language": language} if language else {"type": "pre"}
            case "blockquote":
                return {"type": "expandable_blockquote" if "expandable" in attributes else "blockquote"}
            case "tg-emoji":
                return {"type": "custom_emoji", "custom_emoji_id": attributes.get("emoji-id", "")}
        return {"type": _SIMPLE_TAGS[tag.name]}


def _referred(hexadecimal: str | None, decimal: str | None, name: str | None) -> str | None:
    if name is not None:
        return _NAMED_CHARACTERS.get(name)
    code = int(hexadecimal, 16) if hexadecimal else int(decimal or "0")
    return chr(code) if 0 < code <= sys.maxunicode and code not in _SURROGATES else None
